//! Logout tokens (OpenID Connect Back-Channel Logout 1.0).

use serde_json::{Map, Value, json};

use crate::algorithm::Algorithm;
use crate::claims::{Audience, TimeRules, Times, put, put_times, start};
use crate::id::untyped;
use crate::jws::Jws;
use crate::reader::Reader;
use crate::token::{Profile, Replay, TokenError, form::Form};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The claims of a logout token: this subject, or this session, has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutClaims {
    /// Who issued it.
    pub iss: String,
    /// To which client.
    pub aud: Audience,
    /// When it holds.
    pub times: Times,
    /// Its id.
    pub jti: String,
    /// Whose sessions have ended; this or `sid` is there.
    pub sub: Option<String>,
    /// Which session has ended.
    pub sid: Option<String>,
}

/// Against what a logout token is held.
#[derive(Clone, Copy, Debug)]
pub struct LogoutRules<'a> {
    /// Who must have issued it.
    pub issuer: &'a str,
    /// The client it must be for.
    pub client_id: &'a str,
    /// Whether a token without explicit type is taken, from a provider that does not type its own.
    pub untyped: bool,
    /// Times.
    pub time: TimeRules,
}

impl LogoutClaims {
    /// What to remember, so that it is taken once.
    #[must_use]
    pub fn replay(&self, time: &TimeRules) -> Replay {
        Replay::new("logout", &self.iss, &self.jti, &self.times, time)
    }
}

impl Profile for LogoutClaims {
    const TYP: &'static str = "logout+jwt";
}

impl Form for LogoutClaims {
    type Rules<'a> = LogoutRules<'a>;

    fn is_typ(jws: &Jws<'_>, rules: &LogoutRules<'_>) -> bool {
        jws.is_typ(Self::TYP) || rules.untyped && untyped(jws)
    }

    fn read(mut claims: Reader) -> Result<Self, TokenError> {
        // The specification forbids it, so that none passes for an ID token.
        claims.absent("nonce")?;
        let events = claims.object_opt("events")?.ok_or(TokenError::Claim("events"))?;
        if !events.get(EVENT).is_some_and(Value::is_object) {
            return Err(TokenError::Claim("events"));
        }
        let read = Self {
            iss: claims.text("iss")?,
            aud: claims.audience()?,
            times: claims.times()?,
            jti: claims.text("jti")?,
            sub: claims.text_opt("sub")?,
            sid: claims.text_opt("sid")?,
        };
        if read.sub.is_none() && read.sid.is_none() {
            return Err(TokenError::Claim("sub"));
        }
        Ok(read)
    }

    fn write(&self) -> Result<Map<String, Value>, TokenError> {
        let mut out = start(&Map::new(), &self.iss);
        put(&mut out, "aud", Some(self.aud.to_json()));
        put_times(&mut out, &self.times);
        put(&mut out, "jti", Some(self.jti.as_str()));
        put(&mut out, "sub", self.sub.as_deref());
        put(&mut out, "sid", self.sid.as_deref());
        put(&mut out, "events", Some(json!({EVENT: {}})));
        Ok(out)
    }

    fn check(&self, _: Algorithm, rules: &LogoutRules<'_>) -> Result<(), TokenError> {
        if self.iss != rules.issuer {
            return Err(TokenError::Issuer);
        }
        if !self.aud.contains(rules.client_id) {
            return Err(TokenError::Audience);
        }
        rules.time.check(&self.times)
    }
}
