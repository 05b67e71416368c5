//! Whether what was allowed or issued is still alive: held against the marks of everybody and everything concerned, by
//! revisions of the state, so that no two clocks are compared.

use std::time::Duration;

use bartizan_base::{Name, Timestamp};
use bartizan_model::{Principal, PrincipalId, Problem, ReasonCode, Tenant};
use bartizan_store::{Change, EpochKind, EpochRow, State};

use crate::issue::Rights;

/// The revision at which a mark was moved last; zero for one that never was.
fn moved(state: &State, tenant: &Tenant, kind: EpochKind, name: &str) -> u64 {
    let order =
        |epoch: &EpochRow| (&epoch.tenant, epoch.kind, epoch.name.as_str()).cmp(&(tenant, kind, name));
    state.epochs.find(order).map_or(0, |epoch| epoch.revision)
}

/// How marks name a principal.
pub(crate) fn name_of(principal: &Principal) -> String {
    format!("{}/{}", principal.kind.entity_type().to_lowercase(), principal.name)
}

/// Whether nothing that concerns `rights`, used by `client`, was declared dead after they began.
///
/// # Errors
/// `CredentialRevoked`.
pub(crate) fn alive(state: &State, rights: &Rights, client: &Name) -> Result<(), Problem> {
    let rights = rights.get();
    let since = rights.since;
    let moved = |kind, name: &str| moved(state, &rights.tenant, kind, name) > since;
    let people = || rights.actors.iter().chain([&rights.subject]);
    let dead = moved(EpochKind::Tenant, rights.tenant.0.as_str())
        || moved(EpochKind::Client, client.as_str())
        || people().any(|member| moved(EpochKind::Principal, &name_of(member)))
        || rights.session.is_some_and(|session| moved(EpochKind::Session, &session.to_string()))
        || rights.grants.iter().any(|grant| moved(EpochKind::Grant, &grant.to_string()))
        || rights.family.is_some_and(|family| moved(EpochKind::Grant, &family.to_string()))
        || rights.device.as_ref().is_some_and(|device| moved(EpochKind::Device, device.as_str()));
    if dead { Err(Problem::new(ReasonCode::CredentialRevoked)) } else { Ok(()) }
}

/// The change that ends everything that was issued up to now to what `name` names. The mark goes on even where this node's
/// clock is behind the one that moved it last.
///
/// # Errors
/// When it has no name that a mark can carry.
pub(crate) fn advance(
    state: &State,
    tenant: &Tenant,
    (kind, name): (EpochKind, &str),
    now: Timestamp,
) -> Result<Change, Problem> {
    let present =
        state.epochs.iter().find(|e| e.tenant == *tenant && e.kind == kind && e.name.as_str() == name);
    let after = present.map_or(now, |e| now.max(e.not_before.saturating_add(Duration::from_micros(1))));
    let name: Name = name.parse().map_err(|_| Problem::new(ReasonCode::Internal))?;
    Ok(Change::AdvanceEpoch(EpochRow { tenant: tenant.clone(), kind, name, not_before: after, revision: 0 }))
}

/// Who has a pseudonym.
pub(crate) fn person(state: &State, tenant: &Tenant, id: PrincipalId) -> Option<Principal> {
    let (kind, name) = state.index.by_pseudonym(tenant, id)?;
    let (_, document, _) = state.document(tenant, kind, name)?;
    Some(Principal { kind: document.spec.principal_kind()?, name: name.clone(), id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::tests::rights;
    #[test]
    fn attack_53_any_mark_that_concerns_rights_ends_them_when_it_is_moved_after_they_began() {
        let rights = rights();
        let get = rights.get();
        let client = Name::literal("cli");
        let concerned = [
            (EpochKind::Tenant, get.tenant.to_string()),
            (EpochKind::Client, client.to_string()),
            (EpochKind::Principal, name_of(&get.subject)),
            (EpochKind::Principal, name_of(&get.actors[0])),
            (EpochKind::Session, get.session.unwrap().to_string()),
            (EpochKind::Grant, get.grants[0].to_string()),
            (EpochKind::Grant, get.family.unwrap().to_string()),
            (EpochKind::Device, get.device.clone().unwrap().to_string()),
        ];
        for (kind, name) in concerned {
            for (tenant, name, revision, expected) in [
                (&get.tenant, name.as_str(), get.since + 1, false),
                (&get.tenant, name.as_str(), get.since, true),
                (&get.tenant, "somebody-else", get.since + 1, true),
                (&Tenant(Name::literal("other")), name.as_str(), get.since + 1, true),
            ] {
                let epoch = EpochRow {
                    tenant: tenant.clone(),
                    kind,
                    name: name.parse().unwrap(),
                    not_before: Timestamp::from_secs(1),
                    revision,
                };
                let state = State { epochs: vec![epoch].into(), ..State::default() };
                assert_eq!(alive(&state, &rights, &client).is_ok(), expected, "{kind:?} {name} {revision}");
            }
        }
    }
}
