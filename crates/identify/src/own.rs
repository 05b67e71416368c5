//! Access tokens of our own authority: what their claims say of whom.
//!
//! `sub` and `act` name principals by pseudonym. The private claim `bartizan` is an object with `rev`, the revision of the
//! state it was issued on, `kind`, what the subject is, and where there are such, `grant`, what it was issued `under` besides
//! (a list of further grants and families, each with a mark as grants have them), and `device`. How risky somebody looks is
//! never in a token.

use std::sync::Arc;

use bartizan_base::{Name, Timestamp};
use bartizan_jose::{AccessClaims, Verified};
use bartizan_model::{
    Action, Assurance, AssuranceLevel, Binding, CredentialKind, Detail, GrantId, Member, Principal,
    PrincipalId, PrincipalKind, ReasonCode, Risk, SessionId, Tenant,
};
use serde_json::{Map, Value};

use crate::caller::{Caller, Scopes};
use crate::directory::{Directory, principal_mark};
use crate::epochs::{EpochKind, Issued, MarkKey, client_mark};
use crate::genuine::{Genuine, Source};

/// The name of the private claim.
const PRIVATE: &str = "bartizan";

/// Why a genuine token does not let anybody in, with the caller as far as known.
pub(crate) type Refusal = (Box<Caller>, ReasonCode);

/// What the private claim says.
struct Private {
    revision: u64,
    kind: PrincipalKind,
    grant: Option<GrantId>,
    under: Vec<Name>,
    device: Option<Name>,
}

impl Private {
    fn read(others: &Map<String, Value>) -> Option<Self> {
        let members = others.get(PRIVATE)?.as_object()?;
        let kind = match members.get("kind")?.as_str()? {
            "user" => PrincipalKind::User,
            "agent" => PrincipalKind::Agent,
            "workload" => PrincipalKind::Workload,
            _ => return None,
        };
        Some(Self {
            revision: members.get("rev")?.as_u64()?,
            kind,
            grant: optional(members.get("grant"))?,
            under: match members.get("under") {
                None => Vec::new(),
                Some(under) => {
                    let names = under.as_array()?.iter().map(|id| id.as_str()?.parse().ok());
                    names.collect::<Option<_>>()?
                }
            },
            device: optional(members.get("device"))?,
        })
    }
}

/// What may be absent, but not wrong.
fn optional<T: std::str::FromStr>(value: Option<&Value>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(value) => value.as_str()?.parse().ok().map(Some),
    }
}

/// Who comes with a token of ours that holds.
pub(crate) fn genuine(
    directory: &Directory,
    tenant: &Tenant,
    token: &Verified<AccessClaims>,
    audience: &str,
    now: Timestamp,
) -> Result<Genuine, Refusal> {
    let nobody = |reason| (Box::new(Caller::anonymous(tenant.clone())), reason);
    let malformed = || nobody(ReasonCode::CredentialMalformed);
    let private = Private::read(&token.others).ok_or_else(malformed)?;
    let session = token.sid.as_deref().map(str::parse::<SessionId>).transpose().map_err(|_| malformed())?;
    let named = |text: &str| {
        let id: PrincipalId = text.parse().map_err(|_| malformed())?;
        directory.active_id(tenant, id, now).map_err(nobody)
    };
    let principal = named(&token.sub)?;
    if principal.kind != private.kind {
        return Err(malformed());
    }
    let actors = token.actors().map(named).collect::<Result<Vec<_>, _>>()?;
    check_chain(&principal, &actors).map_err(nobody)?;
    let assurance = Assurance {
        level: level(token.acr.as_deref()),
        methods: token.amr.iter().filter_map(|m| m.parse().ok()).collect(),
        at: token.authenticated(),
        via: None,
    };
    let client = token.client_id.as_deref().unwrap_or_default();
    let mut marks: Vec<_> = std::iter::once(&principal)
        .chain(&actors)
        .filter_map(|p| Some((EpochKind::Principal, principal_mark(p)?)))
        .collect();
    marks.push((EpochKind::Tenant, tenant.0.clone()));
    marks.extend(client_mark(client).map(|name| (EpochKind::Client, name)));
    marks.extend(session.and_then(|id| id.to_string().parse().ok()).map(|name| (EpochKind::Session, name)));
    marks.extend(private.grant.and_then(|id| id.to_string().parse().ok()).map(|n| (EpochKind::Grant, n)));
    marks.extend(private.under.into_iter().map(|name| (EpochKind::Grant, name)));
    marks.extend(private.device.clone().map(|name| (EpochKind::Device, name)));
    let caller = Caller {
        subject: member(principal, assurance),
        // An actor presents no login of its own here; the person's is not credited to it.
        actors: actors.into_iter().map(|actor| member(actor, Assurance::default())).collect(),
        client: client_mark(client),
        credential: CredentialKind::AccessToken,
        scopes: scopes(token.scope.as_deref().unwrap_or_default()),
        details: details(&token.authorization_details),
        issued: token.issued(),
        expires: token.expires(),
        session,
        grant: private.grant,
        ..Caller::anonymous(tenant.clone())
    };
    let issued = Issued::Here { revision: private.revision, at: token.issued() };
    Ok(Genuine {
        caller,
        source: Source::Own,
        token: token.digest(),
        signer: token.signer(),
        times: token.times,
        bound_to: token.cnf,
        audience: audience.to_owned(),
        issued,
        marks: marks.iter().map(|(kind, name)| MarkKey::of(tenant, *kind, name)).collect(),
        device: private.device,
    })
}

/// What `acr` of ours says. What we never write, and nothing, is worth nothing: so it is with programs that nobody logged in.
fn level(acr: Option<&str>) -> AssuranceLevel {
    match acr {
        Some("aal1") => AssuranceLevel::Aal1,
        Some("aal2") => AssuranceLevel::Aal2,
        Some("phr") => AssuranceLevel::Aal2PhishingResistant,
        Some("phrh") => AssuranceLevel::Aal3,
        _ => AssuranceLevel::None,
    }
}

/// Nobody acts twice, for themselves or in a circle, and people do not act for others.
pub(crate) fn check_chain(subject: &Principal, actors: &[Principal]) -> Result<(), ReasonCode> {
    let all = std::iter::once(subject).chain(actors);
    for (at, actor) in actors.iter().enumerate() {
        let again = all.clone().take(at + 1).any(|earlier| earlier.id == actor.id);
        if again || !matches!(actor.kind, PrincipalKind::Agent | PrincipalKind::Workload) {
            return Err(ReasonCode::ChainRefused);
        }
    }
    Ok(())
}

pub(crate) fn member(principal: Principal, assurance: Assurance) -> Member {
    Member { principal, assurance, binding: Binding::None, device: None, risk: Risk::default() }
}

/// The exact things that a token is for. What is no detail of ours covers nothing, but it limits the token all the same.
pub(crate) fn details(told: &[Value]) -> Option<Arc<[Detail]>> {
    (!told.is_empty()).then(|| told.iter().filter_map(Detail::read).collect())
}

/// Words that are no actions or groups of ours mean nothing here.
pub(crate) fn scopes(words: &str) -> Scopes {
    Scopes::Only(words.split(' ').flat_map(Action::in_scope).collect())
}
