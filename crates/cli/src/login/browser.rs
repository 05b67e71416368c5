//! Logging in by the browser on this machine: a code with PKCE, answered at a port of our own (OAuth 2.1, 4.1; RFC 8252).

use bartizan_base::{Digest, Text};
use bartizan_jose::{Algorithm, SigningKey};
use bartizan_model::COMMAND_LINE;
use bartizan_secret::{Secret, constant_time_eq};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;
use url::form_urlencoded::parse;

use super::{Discovered, LoginError, Loopback, Machine, PATIENCE, SCOPES, Tokens, Wish, token};
use crate::server::Server;

pub(super) fn log_in(
    machine: &Machine,
    server: &Server,
    found: &Discovered,
    wish: &Wish,
    open: impl FnOnce(&str),
) -> Result<Tokens, LoginError> {
    let key = SigningKey::generate(Algorithm::Ed25519, &*machine.random)
        .map_err(|_| LoginError::Key("it could not be made"))?;
    let (state, verifier) = (machine.text(), Secret::new(machine.text()));
    let loopback = Loopback::new()?;
    let address = asked(found, wish, &loopback.address, &state, &verifier, &key);
    open(address.as_str());
    let expected = state.clone();
    let query = loopback.answer(PATIENCE, move |query| is_answer(query, &expected))?;
    let code = code(server, &query.ok_or(LoginError::Late)?)?;
    let pairs = [
        ("grant_type", "authorization_code"),
        ("client_id", COMMAND_LINE),
        ("code", code.expose().as_str()),
        ("redirect_uri", &loopback.address),
        ("code_verifier", verifier.expose()),
        ("resource", &found.resource),
    ];
    let mut nonce = None;
    let began = machine.clock.now();
    let given = token::post(machine, &found.token, &pairs, &key, &mut nonce)?.tokens()?;
    Ok(Tokens::new(server, found, given, began, key.private(), nonce))
}

/// The address that the person opens.
fn asked(
    found: &Discovered,
    wish: &Wish,
    redirect: &str,
    state: &str,
    verifier: &Secret<String>,
    key: &SigningKey,
) -> Url {
    let challenge = URL_SAFE_NO_PAD.encode(Digest::of(verifier.expose().as_bytes()).as_bytes());
    let mut address = found.authorization.clone();
    let mut query = address.query_pairs_mut();
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", COMMAND_LINE)
        .append_pair("redirect_uri", redirect)
        .append_pair("scope", &wish.scope(SCOPES))
        .append_pair("resource", &found.resource)
        .append_pair("state", state)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256")
        // A code that somebody copies on its way is worth nothing without the key.
        .append_pair("dpop_jkt", key.kid());
    if wish.again {
        query.append_pair("prompt", "login");
    }
    drop(query);
    address
}

/// Whether a query answers what was asked here: whoever sends the browser here cannot know the state.
fn is_answer(query: &str, state: &str) -> bool {
    single(query, "state").is_some_and(|found| constant_time_eq(found.as_bytes(), state.as_bytes()))
}

/// The value of a parameter that stands there exactly once.
fn single(query: &str, name: &str) -> Option<String> {
    let mut all = parse(query.as_bytes()).filter(|(found, _)| found == name);
    let (first, second) = (all.next(), all.next());
    first.filter(|_| second.is_none()).map(|(_, value)| value.into_owned())
}

/// The code of an answer. Whose it is comes first (RFC 9207, 2.4): nothing of another authority's answer is believed, and its code
/// is sent to nobody.
fn code(server: &Server, query: &str) -> Result<Secret<String>, LoginError> {
    let issuer = single(query, "iss").unwrap_or_default();
    if issuer != server.as_str() {
        return Err(LoginError::Issuer { expected: server.clone(), found: Text::lossy(&issuer) });
    }
    match (single(query, "code"), single(query, "error")) {
        (Some(code), None) => Ok(Secret::new(code)),
        (None, Some(error)) => {
            let description = single(query, "error_description").unwrap_or_default();
            Err(LoginError::refused(&error, &description))
        }
        _ => Err(LoginError::refused("malformed", "the answer holds neither a code nor an error")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        "https://ai.example".parse().unwrap()
    }

    #[test]
    fn an_answer_is_one_that_holds_the_state_once() {
        assert!(is_answer("code=c&state=s1&iss=x", "s1"));
        for query in
            ["", "code=c", "state=", "state=s2", "state=s1&state=s1", "state=s1&state=s2", "State=s1"]
        {
            assert!(!is_answer(query, "s1"), "{query}");
        }
    }

    #[test]
    fn attack_06_the_answer_of_another_authority_is_thrown_away_whatever_it_holds() {
        let ours = "iss=https%3A%2F%2Fai.example";
        assert_eq!(code(&server(), &format!("code=c&{ours}")).unwrap().expose(), "c");
        for query in [
            "code=c",
            "code=c&iss=",
            "code=c&iss=https%3A%2F%2Fevil.example",
            "code=c&iss=https%3A%2F%2Fai.example%2F",
            &format!("code=c&{ours}&iss=https%3A%2F%2Fevil.example"),
            "error=access_denied&iss=https%3A%2F%2Fevil.example",
        ] {
            assert!(matches!(code(&server(), query), Err(LoginError::Issuer { .. })), "{query}");
        }
        assert!(matches!(code(&server(), &format!("error=access_denied&{ours}")), Err(LoginError::Denied)));
        for query in [ours.to_owned(), format!("code=c&error=x&{ours}"), format!("code=a&code=b&{ours}")] {
            assert!(matches!(code(&server(), &query), Err(LoginError::Refused { .. })), "{query}");
        }
    }
}
