//! The claims of an access token (RFC 9068), typed strictly.

use std::time::Duration;

use bartizan_base::{Timestamp, json};
use serde::Deserialize;
use serde_json::Value;

use crate::jws::PAYLOAD_LIMITS;

/// How far clocks may differ.
pub(crate) const SKEW: Duration = Duration::from_secs(60);
/// How deep a chain of actors may be.
const ACTORS_MAX: usize = 4;

/// The claims of an access token.
#[derive(Clone, Debug, Deserialize)]
pub struct AccessClaims {
    /// Who issued it.
    pub iss: String,
    /// For whom it stands.
    pub sub: String,
    aud: Audience,
    exp: u64,
    iat: u64,
    #[serde(default)]
    nbf: Option<u64>,
    /// The client program.
    #[serde(default)]
    pub client_id: Option<String>,
    /// What it may be used for, separated by spaces.
    #[serde(default)]
    pub scope: Option<String>,
    /// How surely the subject was authenticated.
    #[serde(default)]
    pub acr: Option<String>,
    /// By which methods (RFC 8176).
    #[serde(default)]
    pub amr: Vec<String>,
    #[serde(default)]
    auth_time: Option<u64>,
    /// Who acts for the subject (RFC 8693).
    #[serde(default)]
    pub act: Option<Box<Act>>,
    /// What it is bound to (RFC 7800).
    #[serde(default)]
    pub cnf: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub others: serde_json::Map<String, Value>,
}

/// An actor, and who acted before it.
#[derive(Clone, Debug, Deserialize)]
pub struct Act {
    /// Who.
    pub sub: String,
    /// Who acted before.
    #[serde(default)]
    pub act: Option<Box<Act>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Why claims are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// Not the claims of an access token.
    #[error("not the claims of an access token: {0}")]
    Shape(String),
    /// The token is past its end.
    #[error("expired")]
    Expired,
    /// The token is not valid yet, or was issued in the future.
    #[error("not valid yet")]
    NotYetValid,
}

impl AccessClaims {
    /// Reads a verified payload.
    ///
    /// # Errors
    /// `Shape`.
    pub fn parse(payload: &[u8]) -> Result<Self, ClaimsError> {
        let claims: Self =
            json::parse_as(payload, PAYLOAD_LIMITS).map_err(|e| ClaimsError::Shape(e.to_string()))?;
        if claims.actors().len() > ACTORS_MAX {
            return Err(ClaimsError::Shape("the chain of actors is too long".to_owned()));
        }
        Ok(claims)
    }

    /// Checks the times.
    ///
    /// # Errors
    /// `Expired` or `NotYetValid`.
    pub fn check_times(&self, now: Timestamp) -> Result<(), ClaimsError> {
        if now >= self.expires().saturating_add(SKEW) {
            return Err(ClaimsError::Expired);
        }
        let latest = now.saturating_add(SKEW);
        if self.issued() > latest || self.nbf.is_some_and(|t| Timestamp::from_secs(t) > latest) {
            return Err(ClaimsError::NotYetValid);
        }
        Ok(())
    }

    /// Whether it is for `audience`.
    #[must_use]
    pub fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            Audience::One(one) => one == audience,
            Audience::Many(many) => many.iter().any(|a| a == audience),
        }
    }

    /// When it ends.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        Timestamp::from_secs(self.exp)
    }

    /// When it was issued.
    #[must_use]
    pub const fn issued(&self) -> Timestamp {
        Timestamp::from_secs(self.iat)
    }

    /// When the subject was authenticated; the beginning of time if the issuer does not say.
    #[must_use]
    pub fn authenticated(&self) -> Timestamp {
        Timestamp::from_secs(self.auth_time.unwrap_or(0))
    }

    /// The actors, outermost first.
    #[must_use]
    pub fn actors(&self) -> Vec<&str> {
        let mut out = Vec::new();
        let mut next = self.act.as_deref();
        while let Some(act) = next {
            out.push(act.sub.as_str());
            next = act.act.as_deref();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Jwks, Jws, JwsError, SigningKey};
    use bartizan_base::random::SeededRandom;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    fn claims() -> Value {
        json!({"iss": "i", "sub": "s", "aud": "a", "exp": 2_000, "iat": 1_000})
    }

    fn keys(all: &[&SigningKey]) -> Jwks {
        let set = json!({"keys": all.iter().map(|k| k.public_jwk()).collect::<Vec<_>>()});
        Jwks::parse(set.to_string().as_bytes()).unwrap()
    }

    fn token(header: &Value, payload: &Value, signature: &[u8]) -> String {
        let b64 = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
        format!("{}.{}.{}", b64(header), b64(payload), URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn tokens_of_both_own_algorithms_verify_and_changed_ones_do_not() {
        let (ed, ec) =
            (SigningKey::ed25519("ed", &SeededRandom::new(1)).unwrap(), SigningKey::p256("ec").unwrap());
        let keys = keys(&[&ed, &ec]);
        for key in [&ed, &ec] {
            let token = key.sign("at+jwt", &claims()).unwrap();
            let jws = Jws::parse(&token).unwrap();
            AccessClaims::parse(jws.verify(&keys).unwrap()).unwrap();
            let start = token.find('.').unwrap() + 1;
            for at in (start..token.len()).step_by(7) {
                let mut bad = token.clone().into_bytes();
                bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
                let bad = String::from_utf8(bad).unwrap();
                assert!(Jws::parse(&bad).map_or(true, |jws| jws.verify(&keys).is_err()), "byte {at}");
            }
        }
    }

    #[test]
    fn rfc_8725_negatives_are_refused() {
        let ed = SigningKey::ed25519("ed", &SeededRandom::new(1)).unwrap();
        let keys = keys(&[&ed]);
        let verify = |header: Value| {
            let token = token(&header, &claims(), &[1; 64]);
            Jws::parse(&token).and_then(|jws| jws.verify(&keys).map(<[u8]>::to_vec))
        };
        for alg in ["none", "None", "HS256", "RS256", "ES256", "ES384", "eddsa", "PS256"] {
            assert_eq!(verify(json!({"alg": alg, "kid": "ed"})), Err(JwsError::Algorithm), "{alg}");
        }
        assert_eq!(verify(json!({"kid": "ed"})), Err(JwsError::Algorithm));
        assert_eq!(verify(json!({"alg": "EdDSA", "kid": "ed"})), Err(JwsError::Signature));
        assert_eq!(verify(json!({"alg": "EdDSA", "kid": "../ed"})), Err(JwsError::UnknownKey));
        for name in ["crit", "b64", "zip", "jwk", "jku", "x5u", "x5c"] {
            assert_eq!(
                verify(json!({"alg": "EdDSA", "kid": "ed", name: "x"})),
                Err(JwsError::Header),
                "{name}"
            );
        }
        assert_eq!(verify(json!({"alg": "EdDSA", "kid": "x".repeat(129)})), Err(JwsError::Header));
        assert_eq!(Jws::parse(&"a".repeat(9_000)).unwrap_err(), JwsError::Shape);
        assert_eq!(Jws::parse("e30.e30").unwrap_err(), JwsError::Shape);
        assert_eq!(Jws::parse("e30=.e30.").unwrap_err(), JwsError::Shape);
    }

    #[test]
    fn claims_of_wrong_types_twice_or_too_deep_are_refused() {
        for (name, value) in [
            ("exp", json!(-1)),
            ("exp", json!("2000")),
            ("aud", json!(7)),
            ("aud", json!([7])),
            ("sub", json!(null)),
        ] {
            let mut bad = claims();
            bad[name] = value;
            assert!(AccessClaims::parse(bad.to_string().as_bytes()).is_err(), "{name}");
        }
        assert!(
            AccessClaims::parse(br#"{"iss":"i","sub":"s","sub":"t","aud":"a","exp":2,"iat":1}"#).is_err()
        );
        let mut act = json!({"sub": "x"});
        for _ in 0..4 {
            act = json!({"sub": "x", "act": act});
        }
        let mut deep = claims();
        deep["act"] = act;
        assert!(AccessClaims::parse(deep.to_string().as_bytes()).is_err());
    }

    #[test]
    fn times_hold_within_a_minute_of_skew() {
        let claims = AccessClaims::parse(claims().to_string().as_bytes()).unwrap();
        let at = |s| claims.check_times(Timestamp::from_secs(s));
        assert_eq!(
            (at(939), at(940), at(2_059), at(2_060)),
            (Err(ClaimsError::NotYetValid), Ok(()), Ok(()), Err(ClaimsError::Expired))
        );
    }
}
