//! What our tokens say.

use bartizan_base::Timestamp;
use bartizan_jose::{AccessClaims, Actor, IdClaims, Times};
use bartizan_model::{AssuranceLevel, PrincipalKind, TokenId};
use serde_json::{Map, Value, json};

use super::{BoundTo, OpenId, Root};
use crate::oauth::write_scope;

/// The private claim of our access tokens: an object of `rev` (the revision of the state that the token was issued on),
/// `kind` (of the subject), `grant` (the grant it came from), `under` (what else it depends on and can be withdrawn: further
/// grants, its family of refresh tokens; each a mark of kind `grant`), `device`.
pub(crate) const OWN: &str = "bartizan";

/// How surely, as `acr` says it; nothing for somebody who was not proven, such as a workload.
pub(crate) const fn acr(level: AssuranceLevel) -> Option<&'static str> {
    match level {
        AssuranceLevel::None => None,
        AssuranceLevel::Aal1 => Some("aal1"),
        AssuranceLevel::Aal2 => Some("aal2"),
        AssuranceLevel::Aal2PhishingResistant => Some("phr"),
        AssuranceLevel::Aal3 => Some("phrh"),
    }
}

/// The level of one of our own `acr`.
pub(crate) fn level(acr: Option<&str>) -> AssuranceLevel {
    [AssuranceLevel::Aal1, AssuranceLevel::Aal2, AssuranceLevel::Aal2PhishingResistant, AssuranceLevel::Aal3]
        .into_iter()
        .find(|level| acr.is_some() && self::acr(*level) == acr)
        .unwrap_or_default()
}

const fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Anonymous => "anonymous",
        PrincipalKind::User => "user",
        PrincipalKind::Agent => "agent",
        PrincipalKind::Workload => "workload",
    }
}

/// The claims of an access token for `rights` at `audience`.
pub(crate) fn access(
    issuer: &str,
    rights: &Root,
    (client, audience): (&str, &str),
    token: TokenId,
    revision: u64,
    (issued, expires): (Timestamp, Timestamp),
) -> AccessClaims {
    let times = Times { issued, not_before: None, expires };
    let subject = rights.subject.id.to_string();
    let mut claims = AccessClaims::new(issuer, &subject, audience, client, &token.to_string(), times);
    let mut own = Map::new();
    own.insert("rev".to_owned(), revision.into());
    own.insert("kind".to_owned(), kind(rights.subject.kind).into());
    let mut grants = rights.grants.iter().map(ToString::to_string);
    if let Some(grant) = grants.next() {
        own.insert("grant".to_owned(), grant.into());
    }
    let under: Vec<_> = grants.chain(rights.family.map(|family| family.to_string())).collect();
    if !under.is_empty() {
        own.insert("under".to_owned(), json!(under));
    }
    if let Some(device) = &rights.device {
        own.insert("device".to_owned(), device.as_str().into());
    }
    claims.scope = Some(write_scope(&rights.scopes));
    claims.acr = acr(rights.assurance.level).map(str::to_owned);
    claims.amr = rights.assurance.methods.iter().map(ToString::to_string).collect();
    claims.auth_time = (rights.assurance.at > Timestamp::default()).then_some(rights.assurance.at);
    claims.sid = rights.session.map(|session| session.to_string());
    claims.act = rights.actors.iter().map(|actor| Actor::named(actor.id.to_string())).collect();
    claims.cnf = rights.binding.map(|BoundTo(to)| to);
    claims.authorization_details.clone_from(&rights.details);
    claims.others.insert(OWN.to_owned(), Value::Object(own));
    claims
}

/// The claims of an ID token about the subject of `rights`.
pub(crate) fn id(
    issuer: &str,
    rights: &Root,
    client: &str,
    openid: &OpenId,
    access_hash: String,
    (issued, expires): (Timestamp, Timestamp),
) -> IdClaims {
    let times = Times { issued, not_before: None, expires };
    let mut claims = IdClaims::new(issuer, &rights.subject.id.to_string(), client, times);
    claims.nonce.clone_from(&openid.nonce);
    claims.auth_time = (rights.assurance.at > Timestamp::default()).then_some(rights.assurance.at);
    claims.acr = acr(rights.assurance.level).map(str::to_owned);
    claims.amr = rights.assurance.methods.iter().map(ToString::to_string).collect();
    claims.sid = rights.session.map(|session| session.to_string());
    claims.at_hash = Some(access_hash);
    claims.others.clone_from(&openid.about);
    claims
}
