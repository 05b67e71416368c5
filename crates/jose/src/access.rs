//! Access tokens: RFC 9068, with actors (RFC 8693), confirmation (RFC 7800) and details (RFC 9396).

use bartizan_base::Timestamp;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::binding::Confirmation;
use crate::claims::{Actor, Audience, TimeRules, Times, put, put_list, put_times, start};
use crate::jws::Jws;
use crate::reader::Reader;
use crate::token::{Profile, TokenError, form::Form};

/// The claims of an access token.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessClaims {
    /// Who issued it.
    pub iss: String,
    /// For whom it stands.
    pub sub: String,
    /// Where it may be used.
    pub aud: Audience,
    /// When it holds.
    pub times: Times,
    /// The client program. Always there in our own.
    pub client_id: Option<String>,
    /// Its id. Always there in our own.
    pub jti: Option<String>,
    /// What it may be used for, separated by spaces.
    pub scope: Option<String>,
    /// How surely the subject was authenticated.
    pub acr: Option<String>,
    /// By which methods (RFC 8176).
    pub amr: Vec<String>,
    /// When the subject was authenticated.
    pub auth_time: Option<Timestamp>,
    /// The session it comes from.
    pub sid: Option<String>,
    /// Who acts for the subject, outermost first.
    pub act: Vec<Actor>,
    /// Who may act for the subject.
    pub may_act: Option<Actor>,
    /// What it is bound to.
    pub cnf: Option<Confirmation>,
    /// What exactly was granted (RFC 9396).
    pub authorization_details: Vec<Value>,
    /// Everything else.
    pub others: Map<String, Value>,
}

/// Against what an access token is held.
#[derive(Clone, Copy, Debug)]
pub struct AccessRules<'a> {
    /// Who must have issued it.
    pub issuer: &'a str,
    /// For whom it must be.
    pub audience: &'a str,
    /// Times.
    pub time: TimeRules,
    /// Whether `client_id` and `jti` must be there, as RFC 9068 demands. Off only for foreign issuers known to leave them
    /// out.
    pub complete: bool,
}

impl AccessClaims {
    /// Claims of an own token, with what RFC 9068 demands and nothing else.
    #[must_use]
    pub fn new(iss: &str, sub: &str, audience: &str, client_id: &str, jti: &str, times: Times) -> Self {
        Self {
            iss: iss.to_owned(),
            sub: sub.to_owned(),
            aud: Audience::One(audience.to_owned()),
            times,
            client_id: Some(client_id.to_owned()),
            jti: Some(jti.to_owned()),
            scope: None,
            acr: None,
            amr: Vec::new(),
            auth_time: None,
            sid: None,
            act: Vec::new(),
            may_act: None,
            cnf: None,
            authorization_details: Vec::new(),
            others: Map::new(),
        }
    }

    /// Reads a payload whose signature the caller looks after. [`crate::verify`] does all of it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn parse(payload: &[u8]) -> Result<Self, TokenError> {
        Self::read(Reader::parse(payload)?)
    }

    /// Whether it is for `audience`.
    #[must_use]
    pub fn is_for(&self, audience: &str) -> bool {
        self.aud.contains(audience)
    }

    /// When it ends.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.times.expires
    }

    /// When it was issued.
    #[must_use]
    pub const fn issued(&self) -> Timestamp {
        self.times.issued
    }

    /// When the subject was authenticated; the beginning of time if the issuer does not say.
    #[must_use]
    pub fn authenticated(&self) -> Timestamp {
        self.auth_time.unwrap_or_default()
    }

    /// The names of the actors, outermost first.
    pub fn actors(&self) -> impl Iterator<Item = &str> {
        self.act.iter().map(|actor| actor.sub.as_str())
    }
}

impl Profile for AccessClaims {
    const TYP: &'static str = "at+jwt";
}

impl Form for AccessClaims {
    type Rules<'a> = AccessRules<'a>;

    fn is_typ(jws: &Jws<'_>, _: &AccessRules<'_>) -> bool {
        jws.is_typ(Self::TYP)
    }

    fn read(mut claims: Reader) -> Result<Self, TokenError> {
        Ok(Self {
            iss: claims.text("iss")?,
            sub: claims.text("sub")?,
            aud: claims.audience()?,
            times: claims.times()?,
            client_id: claims.text_opt("client_id")?,
            jti: claims.text_opt("jti")?,
            scope: claims.scope()?,
            acr: claims.text_opt("acr")?,
            amr: claims.list("amr")?,
            auth_time: claims.date_opt("auth_time")?,
            sid: claims.text_opt("sid")?,
            act: Actor::read_chain(&mut claims)?,
            may_act: claims.object_opt("may_act")?.map(|m| Actor::read(&mut Reader::new(m))).transpose()?,
            cnf: claims.object_opt("cnf")?.map(Confirmation::read).transpose()?,
            authorization_details: claims.details()?,
            others: claims.others(),
        })
    }

    fn write(&self) -> Result<Map<String, Value>, TokenError> {
        for (claim, name) in [(&self.client_id, "client_id"), (&self.jti, "jti")] {
            claim.as_ref().ok_or(TokenError::Claim(name))?;
        }
        let mut out = start(&self.others, &self.iss);
        put(&mut out, "sub", Some(self.sub.as_str()));
        put(&mut out, "aud", Some(self.aud.to_json()));
        put_times(&mut out, &self.times);
        put(&mut out, "client_id", self.client_id.as_deref());
        put(&mut out, "jti", self.jti.as_deref());
        put(&mut out, "scope", self.scope.as_deref());
        put(&mut out, "acr", self.acr.as_deref());
        put_list(&mut out, "amr", &self.amr);
        put(&mut out, "auth_time", self.auth_time.map(Timestamp::as_secs));
        put(&mut out, "sid", self.sid.as_deref());
        Actor::write_chain(&self.act, &mut out);
        put(&mut out, "may_act", self.may_act.as_ref().map(Actor::to_json));
        put(&mut out, "cnf", self.cnf.map(Confirmation::to_json));
        let details = &self.authorization_details;
        put(&mut out, "authorization_details", (!details.is_empty()).then_some(details.as_slice()));
        Ok(out)
    }

    fn others(&self) -> Option<&Map<String, Value>> {
        Some(&self.others)
    }

    fn check(&self, _: Algorithm, rules: &AccessRules<'_>) -> Result<(), TokenError> {
        if self.iss != rules.issuer {
            return Err(TokenError::Issuer);
        }
        if !self.is_for(rules.audience) {
            return Err(TokenError::Audience);
        }
        if rules.complete && self.client_id.is_none() {
            return Err(TokenError::Claim("client_id"));
        }
        if rules.complete && self.jti.is_none() {
            return Err(TokenError::Claim("jti"));
        }
        rules.time.check(&self.times)
    }
}
