//! Security event tokens (RFC 8417, in the form of OpenID SSF 1.0).

use bartizan_base::Timestamp;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::claims::{Audience, TimeRules, put, start};
use crate::jws::Jws;
use crate::reader::Reader;
use crate::token::{Profile, Replay, TokenError, form::Form};

/// The claims of a security event token. It has no end: it says what happened.
#[derive(Clone, Debug, PartialEq)]
pub struct EventClaims {
    /// Who says so.
    pub iss: String,
    /// To whom.
    pub aud: Audience,
    /// When it was said.
    pub issued: Timestamp,
    /// Its id, taken once.
    pub jti: String,
    /// About whom (RFC 9493).
    pub sub_id: Option<Map<String, Value>>,
    /// What it belongs to.
    pub txn: Option<String>,
    /// What happened: by the event's URI, an object. Never empty.
    pub events: Map<String, Value>,
}

/// Against what a security event token is held.
#[derive(Clone, Copy, Debug)]
pub struct EventRules<'a> {
    /// Whose stream it is.
    pub issuer: &'a str,
    /// The stream's audience.
    pub audience: &'a str,
    /// Times; `life_max` is how old an event may be.
    pub time: TimeRules,
}

impl EventClaims {
    /// What to remember, so that it is taken once.
    #[must_use]
    pub fn replay(&self, time: &TimeRules) -> Replay {
        let until = self.issued.saturating_add(time.life_max).saturating_add(time.skew());
        Replay { id: Replay::id("event", &self.iss, &self.jti), until }
    }
}

impl Profile for EventClaims {
    const TYP: &'static str = "secevent+jwt";
}

impl Form for EventClaims {
    type Rules<'a> = EventRules<'a>;

    fn is_typ(jws: &Jws<'_>, _: &EventRules<'_>) -> bool {
        jws.is_typ(Self::TYP)
    }

    fn read(mut claims: Reader) -> Result<Self, TokenError> {
        // SSF 1.0 forbids both, so that no event passes for another token.
        claims.absent("exp")?;
        claims.absent("sub")?;
        let events = claims.object_opt("events")?.ok_or(TokenError::Claim("events"))?;
        if events.is_empty() || !events.values().all(Value::is_object) {
            return Err(TokenError::Claim("events"));
        }
        Ok(Self {
            iss: claims.text("iss")?,
            aud: claims.audience()?,
            issued: claims.date("iat")?,
            jti: claims.text("jti")?,
            sub_id: claims.object_opt("sub_id")?,
            txn: claims.text_opt("txn")?,
            events,
        })
    }

    fn write(&self) -> Result<Map<String, Value>, TokenError> {
        let mut out = start(&Map::new(), &self.iss);
        put(&mut out, "aud", Some(self.aud.to_json()));
        put(&mut out, "iat", Some(self.issued.as_secs()));
        put(&mut out, "jti", Some(self.jti.as_str()));
        put(&mut out, "sub_id", self.sub_id.clone());
        put(&mut out, "txn", self.txn.as_deref());
        put(&mut out, "events", Some(self.events.clone()));
        Ok(out)
    }

    fn check(&self, _: Algorithm, rules: &EventRules<'_>) -> Result<(), TokenError> {
        if self.iss != rules.issuer {
            return Err(TokenError::Issuer);
        }
        if !self.aud.contains(rules.audience) {
            return Err(TokenError::Audience);
        }
        rules.time.check_past(self.issued)?;
        if rules.time.now.saturating_since(self.issued)
            > rules.time.life_max.saturating_add(rules.time.skew())
        {
            return Err(TokenError::Expired);
        }
        Ok(())
    }
}
