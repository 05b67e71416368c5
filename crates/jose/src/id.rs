//! ID tokens (OpenID Connect Core 2 and 3.1.3.7): ours for applications, and those of providers we federate with.

use std::time::Duration;

use bartizan_base::Timestamp;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::claims::{Audience, TimeRules, Times, put, put_list, put_times, start};
use crate::jws::Jws;
use crate::reader::Reader;
use crate::token::{Profile, TokenError, form::Form};

/// The claims of an ID token.
#[derive(Clone, Debug, PartialEq)]
pub struct IdClaims {
    /// Who issued it.
    pub iss: String,
    /// Who was authenticated.
    pub sub: String,
    /// For which clients.
    pub aud: Audience,
    /// The client it was issued to, where there are several.
    pub azp: Option<String>,
    /// When it holds.
    pub times: Times,
    /// What the client asked to have sent back.
    pub nonce: Option<String>,
    /// When the person was authenticated.
    pub auth_time: Option<Timestamp>,
    /// How surely.
    pub acr: Option<String>,
    /// By which methods.
    pub amr: Vec<String>,
    /// The session.
    pub sid: Option<String>,
    /// The half hash of the access token that came with it.
    pub at_hash: Option<String>,
    /// The half hash of the code that came with it.
    pub c_hash: Option<String>,
    /// Everything else, such as names and addresses.
    pub others: Map<String, Value>,
}

/// Against what an ID token is held.
#[derive(Clone, Copy, Debug)]
pub struct IdRules<'a> {
    /// Who must have issued it.
    pub issuer: &'a str,
    /// The client that asked for it.
    pub client_id: &'a str,
    /// Other audiences that may stand beside the client.
    pub trusted_audiences: &'a [&'a str],
    /// The nonce of the request. None only for a token of a refresh, which has none or the old one.
    pub nonce: Option<&'a str>,
    /// How old the authentication may be, where the request asked (`max_age`).
    pub age_max: Option<Duration>,
    /// The access token that came with it; then its hash must hold where there is one.
    pub access_token: Option<&'a str>,
    /// The code that came with it through the browser; then its hash must be there and hold.
    pub code: Option<&'a str>,
    /// Times.
    pub time: TimeRules,
}

impl IdClaims {
    /// Claims with what the specification demands and nothing else.
    #[must_use]
    pub fn new(iss: &str, sub: &str, client_id: &str, times: Times) -> Self {
        Self {
            iss: iss.to_owned(),
            sub: sub.to_owned(),
            aud: Audience::One(client_id.to_owned()),
            azp: None,
            times,
            nonce: None,
            auth_time: None,
            acr: None,
            amr: Vec::new(),
            sid: None,
            at_hash: None,
            c_hash: None,
            others: Map::new(),
        }
    }
}

impl Profile for IdClaims {
    const TYP: &'static str = "JWT";
}

/// Whether a token that is not explicitly typed could be meant.
pub(crate) fn untyped(jws: &Jws<'_>) -> bool {
    jws.typ().is_none() || jws.is_typ("JWT")
}

impl Form for IdClaims {
    type Rules<'a> = IdRules<'a>;

    fn is_typ(jws: &Jws<'_>, _: &IdRules<'_>) -> bool {
        untyped(jws)
    }

    fn read(mut claims: Reader) -> Result<Self, TokenError> {
        // Logout tokens and events may come untyped as well; they hold this, and an ID token never does.
        claims.absent("events")?;
        Ok(Self {
            iss: claims.text("iss")?,
            sub: claims.text("sub")?,
            aud: claims.audience()?,
            azp: claims.text_opt("azp")?,
            times: claims.times()?,
            nonce: claims.text_opt("nonce")?,
            auth_time: claims.date_opt("auth_time")?,
            acr: claims.text_opt("acr")?,
            amr: claims.list("amr")?,
            sid: claims.text_opt("sid")?,
            at_hash: claims.text_opt("at_hash")?,
            c_hash: claims.text_opt("c_hash")?,
            others: claims.others(),
        })
    }

    fn write(&self) -> Result<Map<String, Value>, TokenError> {
        let mut out = start(&self.others, &self.iss);
        put(&mut out, "sub", Some(self.sub.as_str()));
        put(&mut out, "aud", Some(self.aud.to_json()));
        put(&mut out, "azp", self.azp.as_deref());
        put_times(&mut out, &self.times);
        put(&mut out, "nonce", self.nonce.as_deref());
        put(&mut out, "auth_time", self.auth_time.map(Timestamp::as_secs));
        put(&mut out, "acr", self.acr.as_deref());
        put_list(&mut out, "amr", &self.amr);
        put(&mut out, "sid", self.sid.as_deref());
        put(&mut out, "at_hash", self.at_hash.as_deref());
        put(&mut out, "c_hash", self.c_hash.as_deref());
        Ok(out)
    }

    fn others(&self) -> Option<&Map<String, Value>> {
        Some(&self.others)
    }

    fn check(&self, algorithm: Algorithm, rules: &IdRules<'_>) -> Result<(), TokenError> {
        if self.iss != rules.issuer {
            return Err(TokenError::Issuer);
        }
        if !self.aud.contains(rules.client_id)
            || self.aud.iter().any(|a| a != rules.client_id && !rules.trusted_audiences.contains(&a))
        {
            return Err(TokenError::Audience);
        }
        let several = self.aud.iter().count() > 1;
        if self.azp.as_deref().map_or(several, |azp| azp != rules.client_id) {
            return Err(TokenError::Client);
        }
        rules.time.check(&self.times)?;
        if rules.nonce.is_some_and(|nonce| self.nonce.as_deref() != Some(nonce)) {
            return Err(TokenError::Nonce);
        }
        if let Some(age_max) = rules.age_max {
            let at = self.auth_time.ok_or(TokenError::Stale)?;
            rules.time.check_past(at)?;
            if rules.time.now.saturating_since(at) > age_max.saturating_add(rules.time.skew()) {
                return Err(TokenError::Stale);
            }
        }
        let differs = |hash: &str, text: &str| hash != algorithm.half_hash(text);
        if let (Some(token), Some(hash)) = (rules.access_token, &self.at_hash)
            && differs(hash, token)
        {
            return Err(TokenError::Hash);
        }
        match (rules.code, &self.c_hash) {
            (Some(_), None) => Err(TokenError::Claim("c_hash")),
            (Some(code), Some(hash)) if differs(hash, code) => Err(TokenError::Hash),
            _ => Ok(()),
        }
    }
}
