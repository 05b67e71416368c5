//! Who is asking, told to a service behind a proxy: one hop, one service, one request.

use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::claims::{ACTORS_MAX, Actor, Audience, TimeRules, Times, put, put_times, start};
use crate::jws::Jws;
use crate::reader::Reader;
use crate::token::{Profile, TokenError, form::Form};

/// The claims of a token by which a service behind a proxy knows who was let through to it. It is no access token: its type is
/// another, and it gives no right by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct VouchedClaims {
    /// Who vouches.
    pub iss: String,
    /// Who asks.
    pub sub: String,
    /// The service: its origin.
    pub aud: Audience,
    /// When it holds.
    pub times: Times,
    /// The decision that let them through.
    pub jti: String,
    /// In which tenant.
    pub tenant: String,
    /// Who acts for the subject, outermost first.
    pub act: Vec<Actor>,
    /// Everything else.
    pub others: Map<String, Value>,
}

/// Against what such a token is held.
#[derive(Clone, Copy, Debug)]
pub struct VouchedRules<'a> {
    /// Who must have issued it.
    pub issuer: &'a str,
    /// For whom it must be.
    pub audience: &'a str,
    /// Times.
    pub time: TimeRules,
}

impl Profile for VouchedClaims {
    const TYP: &'static str = "bartizan-identity+jwt";
}

impl Form for VouchedClaims {
    type Rules<'a> = VouchedRules<'a>;

    fn is_typ(jws: &Jws<'_>, _: &VouchedRules<'_>) -> bool {
        jws.is_typ(Self::TYP)
    }

    fn read(mut claims: Reader) -> Result<Self, TokenError> {
        Ok(Self {
            iss: claims.text("iss")?,
            sub: claims.text("sub")?,
            aud: claims.audience()?,
            times: claims.times()?,
            jti: claims.text("jti")?,
            tenant: claims.text("tenant")?,
            act: Actor::read_chain(&mut claims)?,
            others: claims.others(),
        })
    }

    fn write(&self) -> Result<Map<String, Value>, TokenError> {
        if self.act.len() > ACTORS_MAX {
            return Err(TokenError::ChainTooLong);
        }
        let mut out = start(&self.others, &self.iss);
        put(&mut out, "sub", Some(self.sub.as_str()));
        put(&mut out, "aud", Some(self.aud.to_json()));
        put_times(&mut out, &self.times);
        put(&mut out, "jti", Some(self.jti.as_str()));
        put(&mut out, "tenant", Some(self.tenant.as_str()));
        Actor::write_chain(&self.act, &mut out);
        Ok(out)
    }

    fn others(&self) -> Option<&Map<String, Value>> {
        Some(&self.others)
    }

    fn check(&self, _: Algorithm, rules: &VouchedRules<'_>) -> Result<(), TokenError> {
        if self.iss != rules.issuer {
            return Err(TokenError::Issuer);
        }
        // For one service and no other: a service must not be able to show it on.
        if !self.aud.is_exactly(rules.audience) {
            return Err(TokenError::Audience);
        }
        rules.time.check(&self.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use bartizan_base::Timestamp;
    use bartizan_base::random::SeededRandom;

    use crate::{AccessClaims, AccessRules, Jwks, SigningKey, verify};

    #[test]
    fn what_is_vouched_for_holds_for_its_service_and_is_no_access_token() {
        let now = Timestamp::from_secs(1_000);
        let key = SigningKey::generate(Algorithm::Ed25519, &SeededRandom::new(1)).unwrap();
        let keys = Jwks::of([key.public().clone()]).unwrap();
        let claims = VouchedClaims {
            iss: "https://id.example".to_owned(),
            sub: "user/alice".to_owned(),
            aud: Audience::One("https://shop.example".to_owned()),
            times: Times { issued: now, not_before: None, expires: Timestamp::from_secs(1_060) },
            jti: "dec_1".to_owned(),
            tenant: "default".to_owned(),
            act: vec![Actor::named("agent/helper")],
            others: Map::new(),
        };
        let token = key.issue(&claims).unwrap();
        let time = TimeRules { now, skew: Duration::ZERO, life_max: Duration::from_secs(60) };
        let rules = |audience| VouchedRules { issuer: "https://id.example", audience, time };
        let jws = Jws::parse(token.expose()).unwrap();
        let read = verify::<VouchedClaims>(&jws, &keys, &rules("https://shop.example")).unwrap();
        assert_eq!(read.into_claims(), claims);
        assert!(verify::<VouchedClaims>(&jws, &keys, &rules("https://other.example")).is_err());
        let late = TimeRules { now: Timestamp::from_secs(1_060), ..time };
        let late = VouchedRules { time: late, ..rules("https://shop.example") };
        assert!(verify::<VouchedClaims>(&jws, &keys, &late).is_err());
        let access = AccessRules {
            issuer: "https://id.example",
            audience: "https://shop.example",
            time,
            complete: false,
        };
        assert_eq!(verify::<AccessClaims>(&jws, &keys, &access).unwrap_err(), TokenError::Type);
    }
}
