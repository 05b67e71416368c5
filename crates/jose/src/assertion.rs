//! Client assertions: `private_key_jwt` (RFC 7523 and draft-ietf-oauth-rfc7523bis).

use std::time::Duration;

use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::claims::{Audience, TimeRules, Times, put, put_times, start};
use crate::id::untyped;
use crate::jws::Jws;
use crate::reader::Reader;
use crate::token::{Profile, Replay, TokenError, form::Form};

/// The longest that an assertion may still hold when it is presented.
const LEFT_MAX: Duration = Duration::from_secs(300);

/// The claims by which a client authenticates. Issuer and subject are both the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertionClaims {
    /// Which client.
    pub client_id: String,
    /// To whom: the issuer identifier of the authorization server.
    pub aud: Audience,
    /// When it holds. Where the client does not say when it was issued, it counts as issued five minutes before its end.
    pub times: Times,
    /// Its id, taken once.
    pub jti: String,
}

/// Against what a client assertion is held.
#[derive(Clone, Copy, Debug)]
pub struct AssertionRules<'a> {
    /// The client whose keys were used.
    pub client_id: &'a str,
    /// The authorization server's own issuer identifier; nothing else is taken as audience, and no list.
    pub issuer: &'a str,
    /// Times; whatever they allow, an assertion ends at most five minutes from now.
    pub time: TimeRules,
}

impl AssertionClaims {
    /// What to remember, so that it is taken once.
    #[must_use]
    pub fn replay(&self, time: &TimeRules) -> Replay {
        Replay::new("assertion", &self.client_id, &self.jti, &self.times, time)
    }
}

impl Profile for AssertionClaims {
    const TYP: &'static str = "client-authentication+jwt";
}

impl Form for AssertionClaims {
    type Rules<'a> = AssertionRules<'a>;

    /// Most clients do not type theirs yet.
    fn is_typ(jws: &Jws<'_>, _: &AssertionRules<'_>) -> bool {
        jws.is_typ(Self::TYP) || untyped(jws)
    }

    fn read(mut claims: Reader) -> Result<Self, TokenError> {
        for name in ["events", "nonce", "htm", "at_hash"] {
            claims.absent(name)?;
        }
        let client_id = claims.text("iss")?;
        if claims.text("sub")? != client_id {
            return Err(TokenError::Client);
        }
        let expires = claims.date("exp")?;
        let assumed = expires.saturating_since(bartizan_base::Timestamp::default()).saturating_sub(LEFT_MAX);
        let issued = claims
            .date_opt("iat")?
            .unwrap_or_else(|| bartizan_base::Timestamp::default().saturating_add(assumed));
        let times = Times { issued, not_before: claims.date_opt("nbf")?, expires };
        Ok(Self { client_id, aud: claims.audience()?, times, jti: claims.text("jti")? })
    }

    fn write(&self) -> Result<Map<String, Value>, TokenError> {
        let mut out = start(&Map::new(), &self.client_id);
        put(&mut out, "sub", Some(self.client_id.as_str()));
        put(&mut out, "aud", Some(self.aud.to_json()));
        put_times(&mut out, &self.times);
        put(&mut out, "jti", Some(self.jti.as_str()));
        Ok(out)
    }

    fn check(&self, _: Algorithm, rules: &AssertionRules<'_>) -> Result<(), TokenError> {
        if self.client_id != rules.client_id {
            return Err(TokenError::Client);
        }
        if !self.aud.is_exactly(rules.issuer) {
            return Err(TokenError::Audience);
        }
        rules.time.check(&self.times)?;
        if self.times.expires > rules.time.now.saturating_add(LEFT_MAX + rules.time.skew()) {
            return Err(TokenError::TooLongLived);
        }
        Ok(())
    }
}
