//! Token exchange (RFC 8693): what a token for an actor may hold at most. Tokens only shrink.

use std::collections::BTreeSet;

use bartizan_base::Timestamp;

use crate::access::AccessClaims;
use crate::binding::Confirmation;
use crate::claims::{ACTORS_MAX, Actor, Times};
use crate::token::Verified;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// Who issues the new token, and issued the subject's.
    pub issuer: &'a str,
    /// Its id.
    pub jti: &'a str,
    /// The client that exchanges.
    pub client_id: &'a str,
    /// Who is to act; none where the subject's token is only made smaller.
    pub actor: Option<Actor>,
    /// For whom. Whether the exchanger may ask for it is the caller's to decide, before.
    pub audience: &'a str,
    /// Which scopes; none for all of the subject's.
    pub scope: Option<&'a str>,
    /// From when.
    pub issued: Timestamp,
    /// Until when, if the subject's token does not end before.
    pub expires: Timestamp,
    /// The exchanger's own key or certificate, as proven by this request.
    pub cnf: Option<Confirmation>,
}

/// Why nothing is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NarrowError {
    /// A scope that the subject's token does not have.
    #[error("a scope that the subject's token does not have")]
    Scope,
    /// The subject's token is not from the issuer of the new one, whose names mean other parties.
    #[error("the subject's token is from another issuer")]
    Issuer,
    /// The subject's token has ended.
    #[error("the subject's token has ended")]
    Expired,
    /// The subject's token names another party that may act. It goes no further than that one.
    #[error("the subject's token lets another party act")]
    MayAct,
    /// The actor is the subject, or acts already.
    #[error("the actor is in the chain already")]
    Loop,
    /// The chain would be too long.
    #[error("the chain of actors would be too long")]
    ChainTooLong,
    /// A bound token would become a bearer token.
    #[error("a bound token would become a bearer token")]
    Unbound,
}

impl Exchange<'_> {
    /// The claims of the new token. Subject, session, assurance and details are those of the subject's token; nothing is
    /// renewed, nothing raised, and claims beyond the profile do not travel.
    ///
    /// # Errors
    /// [`NarrowError`].
    pub fn of(self, subject: &Verified<AccessClaims>) -> Result<AccessClaims, NarrowError> {
        if subject.iss != self.issuer {
            return Err(NarrowError::Issuer);
        }
        let expires = self.expires.min(subject.times.expires);
        if expires <= self.issued {
            return Err(NarrowError::Expired);
        }
        if subject.cnf.is_some() && self.cnf.is_none() {
            return Err(NarrowError::Unbound);
        }
        let act = chain(subject, self.actor)?;
        let times = Times { issued: self.issued, not_before: None, expires };
        let mut claims =
            AccessClaims::new(self.issuer, &subject.sub, self.audience, self.client_id, self.jti, times);
        claims.scope = scope(subject.scope.as_deref(), self.scope)?;
        claims.act = act;
        claims.cnf = self.cnf;
        claims.acr.clone_from(&subject.acr);
        claims.amr.clone_from(&subject.amr);
        claims.auth_time = subject.auth_time;
        claims.sid.clone_from(&subject.sid);
        claims.may_act.clone_from(&subject.may_act);
        claims.authorization_details.clone_from(&subject.authorization_details);
        Ok(claims)
    }
}

fn chain(subject: &AccessClaims, actor: Option<Actor>) -> Result<Vec<Actor>, NarrowError> {
    let Some(actor) = actor else { return Ok(subject.act.clone()) };
    let issuer = subject.iss.as_str();
    let is_actor = |other: &Actor| other.is_same(&actor, issuer);
    if subject.may_act.as_ref().is_some_and(|may| !is_actor(may)) {
        return Err(NarrowError::MayAct);
    }
    if is_actor(&Actor::named(subject.sub.as_str())) || subject.act.iter().any(is_actor) {
        return Err(NarrowError::Loop);
    }
    if subject.act.len() >= ACTORS_MAX {
        return Err(NarrowError::ChainTooLong);
    }
    Ok(std::iter::once(actor).chain(subject.act.iter().cloned()).collect())
}

/// A token without scope stands for whatever its subject may do, so that any scope is less.
fn scope(has: Option<&str>, asked: Option<&str>) -> Result<Option<String>, NarrowError> {
    let words =
        |text: &str| text.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>();
    match (has, asked) {
        (has, None) => Ok(has.map(str::to_owned)),
        (Some(has), Some(asked)) if !words(asked).is_subset(&words(has)) => Err(NarrowError::Scope),
        (_, Some(asked)) => Ok(Some(asked.to_owned())),
    }
}
