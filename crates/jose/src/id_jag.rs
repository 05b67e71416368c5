//! Identity assertion grants (draft-ietf-oauth-identity-assertion-authz-grant): an identity provider lets a client have a
//! token at another authorization server.

use bartizan_base::Timestamp;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::binding::Confirmation;
use crate::claims::{Actor, Audience, TimeRules, Times, put, put_list, put_times, start};
use crate::jws::Jws;
use crate::reader::Reader;
use crate::token::{Profile, Replay, TokenError, form::Form};

/// The claims of an identity assertion grant.
#[derive(Clone, Debug, PartialEq)]
pub struct IdJagClaims {
    /// The identity provider.
    pub iss: String,
    /// The person, by the provider's name.
    pub sub: String,
    /// The authorization server that is to issue a token.
    pub aud: Audience,
    /// The client, by that server's name.
    pub client_id: String,
    /// When it holds.
    pub times: Times,
    /// Its id, taken once.
    pub jti: String,
    /// For which resources (RFC 8707).
    pub resource: Vec<String>,
    /// What for.
    pub scope: Option<String>,
    /// What exactly (RFC 9396).
    pub authorization_details: Vec<Value>,
    /// When the person was authenticated.
    pub auth_time: Option<Timestamp>,
    /// How surely.
    pub acr: Option<String>,
    /// By which methods.
    pub amr: Vec<String>,
    /// Who acts for the person, outermost first.
    pub act: Vec<Actor>,
    /// The client's key that the token must be bound to.
    pub cnf: Option<Confirmation>,
    /// Everything else.
    pub others: Map<String, Value>,
}

/// Against what an identity assertion grant is held.
#[derive(Clone, Copy, Debug)]
pub struct IdJagRules<'a> {
    /// The identity provider that is trusted for this.
    pub issuer: &'a str,
    /// Our own issuer identifier; nothing else is taken as audience, and no list.
    pub audience: &'a str,
    /// The client that authenticated.
    pub client_id: &'a str,
    /// Times.
    pub time: TimeRules,
}

impl IdJagClaims {
    /// What to remember, so that it is taken once.
    #[must_use]
    pub fn replay(&self, time: &TimeRules) -> Replay {
        Replay::new("id-jag", &self.iss, &self.jti, &self.times, time)
    }
}

impl Profile for IdJagClaims {
    const TYP: &'static str = "oauth-id-jag+jwt";
}

impl Form for IdJagClaims {
    type Rules<'a> = IdJagRules<'a>;

    fn is_typ(jws: &Jws<'_>, _: &IdJagRules<'_>) -> bool {
        jws.is_typ(Self::TYP)
    }

    fn read(mut claims: Reader) -> Result<Self, TokenError> {
        Ok(Self {
            iss: claims.text("iss")?,
            sub: claims.text("sub")?,
            aud: claims.audience()?,
            client_id: claims.text("client_id")?,
            times: claims.times()?,
            jti: claims.text("jti")?,
            resource: claims.one_or_many("resource")?,
            scope: claims.scope()?,
            authorization_details: claims.details()?,
            auth_time: claims.date_opt("auth_time")?,
            acr: claims.text_opt("acr")?,
            amr: claims.list("amr")?,
            act: Actor::read_chain(&mut claims)?,
            cnf: claims.object_opt("cnf")?.map(Confirmation::read).transpose()?,
            others: claims.others(),
        })
    }

    fn write(&self) -> Result<Map<String, Value>, TokenError> {
        let mut out = start(&self.others, &self.iss);
        put(&mut out, "sub", Some(self.sub.as_str()));
        put(&mut out, "aud", Some(self.aud.to_json()));
        put(&mut out, "client_id", Some(self.client_id.as_str()));
        put_times(&mut out, &self.times);
        put(&mut out, "jti", Some(self.jti.as_str()));
        put_list(&mut out, "resource", &self.resource);
        put(&mut out, "scope", self.scope.as_deref());
        let details = &self.authorization_details;
        put(&mut out, "authorization_details", (!details.is_empty()).then_some(details.as_slice()));
        put(&mut out, "auth_time", self.auth_time.map(Timestamp::as_secs));
        put(&mut out, "acr", self.acr.as_deref());
        put_list(&mut out, "amr", &self.amr);
        Actor::write_chain(&self.act, &mut out);
        put(&mut out, "cnf", self.cnf.map(Confirmation::to_json));
        Ok(out)
    }

    fn others(&self) -> Option<&Map<String, Value>> {
        Some(&self.others)
    }

    fn check(&self, _: Algorithm, rules: &IdJagRules<'_>) -> Result<(), TokenError> {
        if self.iss != rules.issuer {
            return Err(TokenError::Issuer);
        }
        if !self.aud.is_exactly(rules.audience) {
            return Err(TokenError::Audience);
        }
        if self.client_id != rules.client_id {
            return Err(TokenError::Client);
        }
        rules.time.check(&self.times)
    }
}
