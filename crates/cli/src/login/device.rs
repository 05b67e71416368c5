//! Logging in by a code that is typed into a browser on another device (RFC 8628).

use std::time::Duration;

use bartizan_jose::{Algorithm, SigningKey};
use bartizan_model::{COMMAND_LINE, GrantType};
use bartizan_secret::Secret;
use serde::Deserialize;

use super::token::Told;
use super::{DEVICE_SCOPES, Discovered, LoginError, Machine, PATIENCE, Tokens, Wish, token};
use crate::server::Server;

/// How long is waited between two questions where the authority does not say (RFC 8628, 3.2), and by how much longer when it
/// finds that too often (3.5).
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest wait between two questions.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// What the person is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The code to type or compare.
    pub code: String,
    /// Where to type it.
    pub address: String,
    /// The same with the code in it.
    pub complete: Option<String>,
}

/// What the authority answers first (RFC 8628, 3.2).
#[derive(Deserialize)]
struct Begun {
    device_code: Secret<String>,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

pub(super) fn log_in(
    machine: &Machine,
    server: &Server,
    found: &Discovered,
    wish: &Wish,
    show: impl FnOnce(&Shown),
    wait: impl Fn(Duration),
) -> Result<Tokens, LoginError> {
    let key = SigningKey::generate(Algorithm::Ed25519, &*machine.random)
        .map_err(|_| LoginError::Key("it could not be made"))?;
    let mut nonce = None;
    let scope = wish.scope(DEVICE_SCOPES);
    let pairs = [("client_id", COMMAND_LINE), ("scope", scope.as_str()), ("resource", &found.resource)];
    let body = token::post(machine, &found.device, &pairs, &key, &mut nonce)?.good()?;
    let broken = |what| LoginError::Metadata { server: server.clone(), what };
    let begun: Begun =
        serde_json::from_str(body.expose()).map_err(|_| broken("its answer to a device holds no code"))?;
    show(&shown(server, &begun).ok_or_else(|| broken("it sends people elsewhere to type a code"))?);
    let pairs = [
        ("grant_type", GrantType::DeviceCode.name()),
        ("client_id", COMMAND_LINE),
        ("device_code", begun.device_code.expose()),
        ("resource", &found.resource),
    ];
    let life = Duration::from_secs(begun.expires_in).min(PATIENCE);
    let mut interval =
        begun.interval.map_or(INTERVAL, Duration::from_secs).clamp(Duration::from_secs(1), INTERVAL_MAX);
    let mut waited = Duration::ZERO;
    while waited < life {
        wait(interval);
        waited += interval;
        let began = machine.clock.now();
        match token::post(machine, &found.token, &pairs, &key, &mut nonce).and_then(Told::tokens) {
            Ok(given) => return Ok(Tokens::new(server, found, given, began, key.private(), nonce)),
            Err(error) => interval = next(interval, error)?,
        }
    }
    Err(LoginError::Late)
}

/// How long is waited before the next question; the error, where there is none.
fn next(interval: Duration, error: LoginError) -> Result<Duration, LoginError> {
    match &error {
        LoginError::Refused { error: code, .. } if code.as_str() == "authorization_pending" => Ok(interval),
        LoginError::Refused { error: code, .. } if code.as_str() == "slow_down" => {
            Ok((interval + INTERVAL).min(INTERVAL_MAX))
        }
        // A network that is away for a moment is no answer (RFC 8628, 3.5).
        LoginError::Unreachable { .. } => Ok((interval * 2).min(INTERVAL_MAX)),
        _ => Err(error),
    }
}

/// What is shown: only what leads to the server itself, and nothing that would do something to a terminal.
fn shown(server: &Server, begun: &Begun) -> Option<Shown> {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    let own = |address: &String| {
        plain(address) && address.strip_prefix(server.as_str()).is_some_and(|rest| rest.starts_with('/'))
    };
    if !own(&begun.verification_uri) || !plain(&begun.user_code) {
        return None;
    }
    Some(Shown {
        code: begun.user_code.clone(),
        address: begun.verification_uri.clone(),
        complete: begun.verification_uri_complete.clone().filter(own),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_often_asks_five_seconds_later_from_then_on_and_only_an_answer_ends_it() {
        let said = |code: &str| LoginError::refused(code, "");
        let five = Duration::from_secs(5);
        assert_eq!(next(five, said("authorization_pending")).unwrap(), five);
        assert_eq!(next(five, said("slow_down")).unwrap(), Duration::from_secs(10));
        let gone = LoginError::Unreachable { server: String::new(), message: String::new() };
        assert_eq!(next(Duration::from_secs(40), gone).unwrap(), INTERVAL_MAX);
        assert!(matches!(next(five, said("access_denied")), Err(LoginError::Denied)));
        assert!(matches!(next(five, said("expired_token")), Err(LoginError::Late)));
        assert!(matches!(next(five, said("invalid_grant")), Err(LoginError::Refused { .. })));
    }

    #[test]
    fn people_are_sent_to_the_server_itself_and_shown_nothing_that_moves_a_terminal() {
        let server: Server = "https://ai.example".parse().unwrap();
        let begun = |code: &str, address: &str, complete: &str| Begun {
            device_code: Secret::default(),
            user_code: code.to_owned(),
            verification_uri: address.to_owned(),
            verification_uri_complete: Some(complete.to_owned()),
            expires_in: 1,
            interval: None,
        };
        let (address, code) = ("https://ai.example/device", "BCDF-GHJK");
        let good = shown(&server, &begun(code, address, "https://ai.example/device?user_code=BCDF-GHJK"));
        assert!(good.is_some_and(|shown| shown.complete.is_some() && shown.code == code));
        for elsewhere in [
            "https://evil.example/device",
            "https://ai.example.evil.example/",
            "https://ai.example@evil.example/",
        ] {
            assert!(shown(&server, &begun(code, elsewhere, address)).is_none(), "{elsewhere}");
            assert!(shown(&server, &begun(code, address, elsewhere)).is_some_and(|s| s.complete.is_none()));
        }
        assert!(shown(&server, &begun("\u{1b}[2J", address, address)).is_none());
    }
}
