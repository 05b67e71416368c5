//! The token endpoint, with proofs of possession (RFC 9449).

use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_jose::{DpopProof, SigningKey};
use bartizan_secret::Secret;
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::{LoginError, Machine};

/// The longest answer, in bytes.
const ANSWER_MAX: u64 = 64 << 10;

/// What an endpoint of the authority answers.
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) body: Secret<String>,
}

/// What OAuth says where it says no (RFC 6749, 5.2).
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Tokens as they are given (RFC 6749, 5.1).
#[derive(Deserialize)]
pub(crate) struct Given {
    pub(crate) access_token: Secret<String>,
    token_type: String,
    #[serde(default)]
    expires_in: u64,
    pub(crate) refresh_token: Option<Secret<String>>,
    pub(crate) scope: Option<String>,
}

impl Given {
    /// How long the access token lives.
    pub(crate) const fn life(&self) -> Duration {
        Duration::from_secs(self.expires_in)
    }
}

/// A proof that we hold the key, for one request.
pub(crate) fn proof(
    machine: &Machine,
    key: &SigningKey,
    (method, url): (&str, &str),
    token: Option<&Secret<String>>,
    nonce: Option<&str>,
) -> Result<Secret<String>, LoginError> {
    let proof = DpopProof {
        jti: machine.text(),
        htm: method.to_owned(),
        htu: url.split(['?', '#']).next().unwrap_or(url).to_owned(),
        issued: Timestamp::from_secs(machine.clock.now().as_secs()),
        ath: token.map(|token| Digest::of(token.expose().as_bytes())),
        nonce: nonce.map(str::to_owned),
    };
    key.prove(&proof).map_err(|_| LoginError::Key("it does not sign"))
}

/// Posts a form, with a proof; once more where the authority asks for one with its nonce. `nonce` is the last one it gave.
pub(crate) fn post(
    machine: &Machine,
    url: &Url,
    pairs: &[(&str, &str)],
    key: &SigningKey,
    nonce: &mut Option<String>,
) -> Result<Told, LoginError> {
    let mut told = once(machine, url, pairs, key, nonce)?;
    if told.status >= 300 && refusal(&told).error == "use_dpop_nonce" {
        told = once(machine, url, pairs, key, nonce)?;
    }
    Ok(told)
}

fn once(
    machine: &Machine,
    url: &Url,
    pairs: &[(&str, &str)],
    key: &SigningKey,
    nonce: &mut Option<String>,
) -> Result<Told, LoginError> {
    let unreachable = |error: ureq::Error| LoginError::Unreachable {
        server: url.origin().ascii_serialization(),
        message: error.to_string(),
    };
    let form = Secret::new(Serializer::new(String::new()).extend_pairs(pairs).finish());
    let proof = proof(machine, key, ("POST", url.as_str()), None, nonce.as_deref())?;
    let request = machine.agent.post(url.as_str()).content_type("application/x-www-form-urlencoded");
    let request = request.header("accept", "application/json").header("dpop", proof.expose().as_str());
    let mut answer = request.send(form.expose().as_str()).map_err(unreachable)?;
    if let Some(next) = answer.headers().get("dpop-nonce").and_then(|value| value.to_str().ok()) {
        *nonce = Some(next.to_owned());
    }
    let body = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().map_err(unreachable)?;
    Ok(Told { status: answer.status().as_u16(), body: Secret::new(body) })
}

fn refusal(told: &Told) -> Refusal {
    let unread = || Refusal { error: format!("status {}", told.status), error_description: String::new() };
    serde_json::from_str(told.body.expose()).unwrap_or_else(|_| unread())
}

impl Told {
    /// The body, where it says yes.
    pub(crate) fn good(self) -> Result<Secret<String>, LoginError> {
        if self.status < 300 {
            return Ok(self.body);
        }
        let Refusal { error, error_description } = refusal(&self);
        Err(LoginError::refused(&error, &error_description))
    }

    /// The tokens, where it says yes: bound to our key, or nothing.
    pub(crate) fn tokens(self) -> Result<Given, LoginError> {
        let body = self.good()?;
        let given: Given = serde_json::from_str(body.expose())
            .map_err(|_| LoginError::refused("malformed", "the answer holds no tokens"))?;
        if given.token_type.eq_ignore_ascii_case("dpop") { Ok(given) } else { Err(LoginError::Unbound) }
    }
}
