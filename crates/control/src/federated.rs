//! What other providers of identity may say about who belongs to which groups here.
//!
//! A membership by a provider's word lives only as long as the mapping that gave it, and makes nobody an administrator unless the
//! mapping says so. The second is held wherever it could come to be: when a mapping, a group or a role is declared, when a
//! bundle is put in force, and when somebody logs in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bartizan_base::{Name, Timestamp};
use bartizan_decide::{CompiledBundle, Door, Level, Named, Question, Reader, Snapshot, Supposed};
use bartizan_model::directory::{PrincipalSpec, Spec};
use bartizan_model::record::VerdictKind;
use bartizan_model::{
    Action, AskFacts, AssuranceLevel, Document, EntityRef, MappedGroup, PrincipalKind, Problem, ReasonCode,
    Situation, Tenant,
};

use crate::View;

/// Takes from people what no provider may say any more, once `put` and `gone` are in force.
pub(crate) fn trim(view: &View, tenant: &Tenant, put: &mut Vec<Document>, gone: &[(String, Name)]) {
    let mut touched: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for document in put.iter() {
        if let Spec::IdentityProvider(spec) = &document.spec {
            let given = spec.given().map(|mapped| mapped.group.clone()).collect();
            touched.insert(document.name.clone(), given);
        }
    }
    let left = gone.iter().filter(|(kind, _)| kind == "identity_provider");
    touched.extend(left.map(|(_, name)| (name.clone(), BTreeSet::new())));
    if touched.is_empty() {
        return;
    }
    let trimmed = |document: &Document| {
        let Spec::User(spec) = &document.spec else { return None };
        let mut after = spec.clone();
        for (provider, given) in &touched {
            if let Some(groups) = after.federated.get_mut(provider) {
                groups.retain(|group| given.contains(group));
            }
        }
        after.federated.retain(|_, groups| !groups.is_empty());
        (after.federated != spec.federated).then(|| Document { spec: Spec::User(after), ..document.clone() })
    };
    for document in put.iter_mut() {
        if let Some(after) = trimmed(document) {
            *document = after;
        }
    }
    let named: BTreeSet<Name> =
        put.iter().filter(|d| matches!(d.spec, Spec::User(_))).map(|d| d.name.clone()).collect();
    let leaves = |name: &Name| gone.iter().any(|(kind, n)| kind == "user" && n == name);
    let others = view.state.documents.iter().filter(|(t, d, _)| {
        t == tenant && matches!(d.spec, Spec::User(_)) && !named.contains(&d.name) && !leaves(&d.name)
    });
    put.extend(others.filter_map(|(_, document, _)| trimmed(document)));
}

/// That no mapping makes administrators without saying so, once `put` and `gone` are in force. Looks only where that could change.
pub(crate) fn check(
    view: &View,
    tenant: &Tenant,
    put: &[Document],
    gone: &[(String, Name)],
    now: Timestamp,
) -> Result<(), Problem> {
    let weighs = |kind: &str| matches!(kind, "identity_provider" | "group" | "role");
    if !put.iter().any(|d| weighs(d.spec.kind())) && !gone.iter().any(|(kind, _)| weighs(kind)) {
        return Ok(());
    }
    let replaced = |d: &Document| {
        put.iter().any(|p| p.spec.kind() == d.spec.kind() && p.name == d.name)
            || gone.iter().any(|(kind, name)| kind == d.spec.kind() && *name == d.name)
    };
    let providers = view.state.documents.iter().filter(|(t, d, _)| t == tenant && is_provider(d));
    let kept = providers.map(|(_, d, _)| d).filter(|d| !replaced(d));
    let mapped = mapped(kept.chain(put));
    if mapped.is_empty() {
        return Ok(());
    }
    let left: Vec<EntityRef> = view
        .state
        .documents
        .iter()
        .filter(|(t, d, _)| t == tenant && gone.iter().any(|(k, n)| k == d.spec.kind() && *n == d.name))
        .map(|(_, d, _)| d.entity())
        .collect();
    // Things of a bundle's own types stand in no group of people.
    let changed: Vec<Document> = put.iter().filter(|d| !matches!(d.spec, Spec::Entity(_))).cloned().collect();
    for policy in in_force(view) {
        check_mapped(&policy, policy.bundle(), (&changed, &left), tenant, &mapped, now)?;
    }
    Ok(())
}

/// The same for a bundle that is to be put in force.
pub(crate) fn check_bundle(
    view: &View,
    tenant: &Tenant,
    compiled: &Arc<CompiledBundle>,
    now: Timestamp,
) -> Result<(), Problem> {
    let documents = view.state.documents.iter().filter(|(t, ..)| t == tenant).map(|(_, d, _)| d);
    check_mapped(&view.policy, Some(compiled), (&[], &[]), tenant, &mapped(documents), now)
}

/// Whether the memberships of `after` make somebody an administrator who is none by those of `before`.
///
/// # Errors
/// When the entities cannot be built.
pub fn raises(
    view: &View,
    tenant: &Tenant,
    before: Option<&Document>,
    after: &Document,
    now: Timestamp,
) -> Result<bool, Problem> {
    for policy in in_force(view) {
        let could = |document: &Document| {
            let snapshot = with(&policy, policy.bundle(), std::slice::from_ref(document), &[])?;
            Ok(administers(&snapshot, tenant, &document.name, now))
        };
        let was = before.map_or(Ok(false), could)?;
        if !was && could(after)? {
            return Ok(true);
        }
    }
    Ok(false)
}

const fn is_provider(document: &Document) -> bool {
    matches!(document.spec, Spec::IdentityProvider(_))
}

/// What decides now, for some or for all.
fn in_force(view: &View) -> Vec<Arc<Snapshot>> {
    let mut out = vec![view.policy.clone()];
    if !Arc::ptr_eq(&view.policy, &view.deciding) {
        out.push(view.deciding.clone());
    }
    out
}

/// The groups that a provider's word can give without saying that they administer, each with its provider.
fn mapped<'a>(documents: impl Iterator<Item = &'a Document>) -> BTreeMap<Name, Name> {
    let mut out = BTreeMap::new();
    for document in documents {
        if let Spec::IdentityProvider(spec) = &document.spec {
            let silent = spec.given().filter(|mapped: &&MappedGroup| !mapped.administration);
            out.extend(silent.map(|mapped| (mapped.group.clone(), document.name.clone())));
        }
    }
    out
}

fn check_mapped(
    policy: &Snapshot,
    bundle: Option<&Arc<CompiledBundle>>,
    (changed, gone): (&[Document], &[EntityRef]),
    tenant: &Tenant,
    mapped: &BTreeMap<Name, Name>,
    now: Timestamp,
) -> Result<(), Problem> {
    if mapped.is_empty() {
        return Ok(());
    }
    // Somebody who is nothing but a member, for each group.
    let members: Vec<(Document, &Name, &Name)> = mapped
        .iter()
        .enumerate()
        .filter_map(|(at, (group, by))| Some((member(at, group)?, group, by)))
        .collect();
    let all: Vec<Document> =
        changed.iter().chain(members.iter().map(|(document, ..)| document)).cloned().collect();
    let snapshot = with(policy, bundle, &all, gone)?;
    for (document, group, provider) in &members {
        if administers(&snapshot, tenant, &document.name, now) {
            let detail = format!(
                "identity_provider `{provider}` maps to group `{group}`, whose members could change the house, and does not say `administration = true` there"
            );
            return Err(Problem::with_detail(ReasonCode::Conflict, detail));
        }
    }
    Ok(())
}

fn member(at: usize, group: &Name) -> Option<Document> {
    let spec = PrincipalSpec { groups: [group.clone()].into(), ..PrincipalSpec::default() };
    Some(Document { name: format!("+member+/{at}").parse().ok()?, principal: None, spec: Spec::User(spec) })
}

fn with(
    policy: &Snapshot,
    bundle: Option<&Arc<CompiledBundle>>,
    documents: &[Document],
    gone: &[EntityRef],
) -> Result<Snapshot, Problem> {
    let entities = policy.entities().with_documents(documents, gone);
    let entities = entities.map_err(|e| Problem::with_detail(ReasonCode::Invalid, e.to_string()))?;
    Ok(Snapshot::new(bundle.cloned(), Arc::new(entities)))
}

/// Whether a person could change the house, as surely logged in as can be; also where others would have to agree.
fn administers(policy: &Snapshot, tenant: &Tenant, name: &Name, now: Timestamp) -> bool {
    let situation = Situation::at(now);
    let facts = AskFacts { dialect: "control".to_owned(), ..AskFacts::default() };
    Action::ALL.iter().filter(|action| action.group() == Some("house:change")).any(|action| {
        let named = Named { kind: PrincipalKind::User, name: name.clone() };
        let supposed = Supposed::new(named, *action, name.clone());
        let caller =
            Supposed { assurance: Level(AssuranceLevel::Aal3), ..supposed }.caller(tenant.clone(), now);
        let resource = EntityRef::of_the_house(*action).unwrap_or_else(EntityRef::system);
        let question = Question {
            caller: &caller,
            action: *action,
            resource: &resource,
            facts: &facts,
            situation: &situation,
        };
        policy.explain(&question, &Door::none(), Reader::CALLER).verdict != VerdictKind::Deny
    })
}
