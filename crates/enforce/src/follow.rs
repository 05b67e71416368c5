//! From one world to the next: what a change has touched is worked out anew, everything else is shared with the one before.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bartizan_base::Name;
use bartizan_base::shared::Sorted;
use bartizan_decide::{CompiledBundle, Entities, EntitiesError, KeyNode, Misfit, Shadow};
use bartizan_model::{Document, KeyId, Tenant};
use bartizan_store::{EpochKind, KeyRow, RowKind, State, Step, StoreError, Write};

use crate::known::directory;
use crate::policies::{Alarm, Policies, WORDS};
use crate::world::{TenantWorld, World};

/// The kind that declares things of a bundle's own types.
const OWN: &str = "entity";

/// What may be otherwise in one state than in another, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    pub(crate) documents: BTreeSet<(Tenant, String, Name)>,
    pub(crate) keys: BTreeSet<KeyId>,
    pub(crate) epochs: BTreeSet<(Tenant, EpochKind, Name)>,
    pub(crate) rows: BTreeSet<(RowKind, String)>,
    /// Tenants whose policy is to be looked at.
    pub(crate) policies: BTreeSet<Tenant>,
}

impl Touched {
    /// What some steps touch.
    pub(crate) fn by(steps: &[Step]) -> Self {
        let mut out = Self::default();
        for write in steps.iter().flat_map(|step| &step.writes) {
            match write {
                Write::Document(tenant, document, _) => {
                    let kind = document.spec.kind().to_owned();
                    if kind == WORDS {
                        // A bundle is compiled with them.
                        out.policies.insert(tenant.clone());
                    }
                    out.documents.insert((tenant.clone(), kind, document.name.clone()));
                }
                Write::DeleteDocument(tenant, kind, name) => {
                    if kind == WORDS {
                        out.policies.insert(tenant.clone());
                    }
                    out.documents.insert((tenant.clone(), kind.clone(), name.clone()));
                }
                Write::Key(key) => out.keys.extend([key.id]),
                Write::Epoch(epoch) => {
                    out.epochs.insert((epoch.tenant.clone(), epoch.kind, epoch.name.clone()));
                }
                Write::Bundle(bundle) => out.policies.extend([bundle.tenant.clone()]),
                Write::Row(row) => out.rows.extend([(row.kind, row.id.clone())]),
                Write::DeleteRow(kind, id) => out.rows.extend([(*kind, id.clone())]),
                // Looked up in the state when they are needed.
                Write::Sealed(_) | Write::ClaimUsed => {}
            }
        }
        out
    }

    /// What differs between two states, and the policy of every tenant.
    pub(crate) fn between(old: &State, new: &State) -> Self {
        let mut out = Self::policy_of(new);
        let named = |(tenant, document, _): &(Tenant, Document, u64)| {
            (tenant.clone(), document.spec.kind().to_owned(), document.name.clone())
        };
        let order = |a: &(Tenant, Document, u64), b: &(Tenant, Document, u64)| {
            (&a.0, a.1.spec.kind(), &a.1.name).cmp(&(&b.0, b.1.spec.kind(), &b.1.name))
        };
        differing(&old.documents, &new.documents, order, |row| out.documents.extend([named(row)]));
        differing(&old.keys, &new.keys, |a, b| a.id.cmp(&b.id), |key| out.keys.extend([key.id]));
        differing(
            &old.epochs,
            &new.epochs,
            |a, b| (&a.tenant, a.kind, &a.name).cmp(&(&b.tenant, b.kind, &b.name)),
            |epoch| out.epochs.extend([(epoch.tenant.clone(), epoch.kind, epoch.name.clone())]),
        );
        differing(
            &old.rows,
            &new.rows,
            |a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)),
            |row| out.rows.extend([(row.kind, row.id.clone())]),
        );
        out.policies.extend(old.bundles.iter().map(|bundle| bundle.tenant.clone()));
        out
    }

    /// The policy of every tenant.
    pub(crate) fn policy_of(state: &State) -> Self {
        let policies = state.bundles.iter().map(|bundle| bundle.tenant.clone()).collect();
        Self { policies, ..Self::default() }
    }
}

/// Tells what stands in one of two ordered lists, or otherwise in the other.
fn differing<T: PartialEq>(
    old: &Sorted<T>,
    new: &Sorted<T>,
    order: impl Fn(&T, &T) -> Ordering,
    mut tell: impl FnMut(&T),
) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let next = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(a, b),
        };
        let (was, is) =
            (next.is_le().then(|| old.next()).flatten(), next.is_ge().then(|| new.next()).flatten());
        if was != is {
            was.or(is).into_iter().for_each(&mut tell);
        }
    }
}

/// What worlds are made with.
#[derive(Debug)]
pub(crate) struct After {
    pub(crate) policies: Arc<Policies>,
    pub(crate) shadow: Arc<Shadow>,
    /// Our own authority, as its tokens name it.
    pub(crate) issuer: Option<Arc<str>>,
}

impl After {
    /// The world of `state`, which differs from that of `before` in what is `touched`, and what has to be told of it.
    ///
    /// # Errors
    /// `Corrupt` when the things of a tenant do not make entities.
    pub(crate) fn world(
        &self,
        before: &World,
        state: Arc<State>,
        touched: &Touched,
    ) -> Result<(World, Vec<Alarm>), StoreError> {
        let (mut tenants, mut alarms) = (before.tenants.clone(), Vec::new());
        let mut parts: BTreeMap<&Tenant, Part<'_>> = BTreeMap::new();
        for named in &touched.documents {
            parts.entry(&named.0).or_default().documents.push(named);
        }
        for key in touched.keys.iter().filter_map(|id| state.key_by_id(*id)) {
            // A house without anything in it has no entities that a key could be among.
            if before.tenants.contains_key(&key.tenant) {
                parts.entry(&key.tenant).or_default().keys.push(key);
            }
        }
        for tenant in &touched.policies {
            parts.entry(tenant).or_default().policy = true;
        }
        let waiting = before.tenants.iter().filter(|(_, part)| part.waits).map(|(tenant, _)| tenant);
        for tenant in waiting {
            parts.entry(tenant).or_default().policy = true;
        }
        for (tenant, part) in parts {
            let next = self.tenant(before, &state, tenant, &part, &mut alarms);
            let next = next.map_err(|error| StoreError::Corrupt(error.to_string()))?;
            tell_misfits(tenant, next.policy.misfits(), before.tenants.get(tenant));
            tenants.insert(tenant.clone(), next);
        }
        let directory = directory(before, &state, touched, self.issuer.as_ref());
        Ok((World { state, directory, tenants }, alarms))
    }

    fn tenant(
        &self,
        before: &World,
        state: &State,
        tenant: &Tenant,
        part: &Part<'_>,
        alarms: &mut Vec<Alarm>,
    ) -> Result<TenantWorld, EntitiesError> {
        let known = before.tenants.get(tenant);
        let mut next = known.cloned().unwrap_or_else(TenantWorld::empty);
        let kinds: BTreeSet<&str> = part.documents.iter().map(|(_, kind, _)| kind.as_str()).collect();
        for kind in kinds {
            next.routed(state, tenant, kind);
        }
        let policy = if part.policy || known.is_none() {
            self.policies.in_force(state, tenant, next.in_force.as_ref(), alarms)
        } else {
            (next.in_force.clone(), next.waits)
        };
        let bundle = policy.0.as_ref().map(|in_force| &*in_force.bundle);
        let followed = match known {
            Some(known) => followed(before, state, (tenant, known), part, bundle)?,
            None => None,
        };
        let entities = match followed {
            Some(entities) => entities,
            None => anew(state, tenant, bundle)?,
        };
        Ok(next.deciding(policy, entities, &self.shadow))
    }
}

/// What is touched of one tenant.
#[derive(Debug, Default)]
struct Part<'a> {
    documents: Vec<&'a (Tenant, String, Name)>,
    keys: Vec<&'a KeyRow>,
    policy: bool,
}

/// All entities of a tenant.
fn anew(
    state: &State,
    tenant: &Tenant,
    bundle: Option<&CompiledBundle>,
) -> Result<Arc<Entities>, EntitiesError> {
    let documents: Vec<Document> = declared(state, tenant).cloned().collect();
    let entities = Entities::build_for(&documents, bundle)?;
    let keys = state.keys.iter().filter(|key| key.tenant == *tenant);
    let keys: Vec<KeyNode> = keys.map(|key| KeyNode::new(key.id, key.principal.entity())).collect();
    if keys.is_empty() { Ok(Arc::new(entities)) } else { entities.with_keys(&keys, &[]).map(Arc::new) }
}

fn declared<'a>(state: &'a State, tenant: &'a Tenant) -> impl Iterator<Item = &'a Document> {
    let of = state.documents.tail(move |(of, ..)| of < tenant).take_while(move |(of, ..)| of == tenant);
    of.map(|(_, document, _)| document)
}

/// The entities before with what has changed; none where building them anew is as good, or must be.
fn followed(
    before: &World,
    state: &State,
    (tenant, known): (&Tenant, &TenantWorld),
    part: &Part<'_>,
    bundle: Option<&CompiledBundle>,
) -> Result<Option<Arc<Entities>>, EntitiesError> {
    let entities = known.policy.entities();
    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    for (_, kind, name) in part.documents.iter().copied() {
        let was = before.state.document(tenant, kind, name).map(|(_, document, _)| document);
        let is = state.document(tenant, kind, name).map(|(_, document, _)| document);
        match (was, is) {
            (was, Some(is)) if was != Some(is) => changed.push(is.clone()),
            (Some(was), None) => gone.push(was.entity()),
            _ => {}
        }
    }
    // What fits depends on the schema, and things of a bundle's own types depend on each other and on what there is.
    let own = [&*before.state, state].into_iter().any(|state| state.of_kind(tenant, OWN).next().is_some());
    let same_schema = known.policy.bundle().map(|b| b.digest()) == bundle.map(CompiledBundle::digest);
    let unchanged = changed.is_empty() && gone.is_empty();
    if own && !(unchanged && same_schema) {
        return Ok(None);
    }
    let many = (changed.len() + gone.len()) * 4 > state.documents.len() + 4;
    if !unchanged && (many || entities.is_worn()) {
        return Ok(None);
    }
    let declared =
        if unchanged { entities.clone() } else { Arc::new(entities.with_documents(&changed, &gone)?) };
    let come: Vec<KeyNode> = part
        .keys
        .iter()
        .filter(|key| before.state.key_by_id(key.id).map(|k| &k.principal) != Some(&key.principal))
        .map(|key| KeyNode::new(key.id, key.principal.entity()))
        .collect();
    if come.is_empty() { Ok(Some(declared)) } else { declared.with_keys(&come, &[]).map(Arc::new).map(Some) }
}

/// Warns of what policies do not see because it does not fit the schema, when that changes.
fn tell_misfits(tenant: &Tenant, misfits: &[Misfit], previous: Option<&TenantWorld>) {
    if previous.map_or(&[][..], |p| p.policy.misfits()) == misfits {
        return;
    }
    let first = misfits.first().map(ToString::to_string).unwrap_or_default();
    tracing::warn!(%tenant, count = misfits.len(), first, "declared things do not fit the schema and are left out");
}

#[cfg(test)]
mod tests;
