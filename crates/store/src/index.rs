//! What of a state is found otherwise than by its name: by a pseudonym, by a name that could be taken for another, by what it
//! refers to. Kept with every change, so that nobody who changes one thing has to look at all of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_base::Name;
use bartizan_base::shared::Map;
use bartizan_model::{Document, PrincipalId, Tenant};

use crate::{EpochKind, EpochRow};

/// A declared thing by tenant, kind and name.
type Thing = Arc<(Tenant, &'static str, Name)>;
type Things = Arc<BTreeSet<(Tenant, &'static str, Name)>>;
/// A kind and a name in small letters.
type Folded = Arc<(Tenant, &'static str, String)>;

/// What is found in a state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// Things by their names without regard to case.
    alike: Map<Folded, Arc<BTreeSet<Name>>>,
    /// Principals that were ever marked, by what the marks call them without regard to case.
    marked: Map<Arc<(Tenant, String)>, ()>,
    /// Things by their pseudonyms: one, as long as nobody has changed the database by hand.
    pseudonyms: Map<PrincipalId, Things>,
    /// What refers to each thing.
    referrers: Map<Thing, Map<Thing, ()>>,
}

impl Index {
    /// Takes note of a document that is declared anew, or not any more.
    pub(crate) fn note(&mut self, tenant: &Tenant, was: Option<&Document>, is: Option<&Document>) {
        if let Some(was) = was {
            self.forget(tenant, was, is);
        }
        if let Some(is) = is {
            self.learn(tenant, is);
        }
    }

    /// Takes note of a mark.
    pub(crate) fn mark(&mut self, epoch: &EpochRow) {
        if epoch.kind == EpochKind::Principal {
            self.marked.insert(Arc::new((epoch.tenant.clone(), epoch.name.to_ascii_lowercase())), ());
        }
    }

    fn learn(&mut self, tenant: &Tenant, document: &Document) {
        let (kind, name) = (document.spec.kind(), &document.name);
        let folded = (tenant.clone(), kind, name.to_ascii_lowercase());
        let mut alike = self.alike.get(&folded).cloned().unwrap_or_default();
        if Arc::make_mut(&mut alike).insert(name.clone()) {
            self.alike.insert(Arc::new(folded), alike);
        }
        if let Some(id) = document.principal {
            let mut named = self.pseudonyms.get(&id).cloned().unwrap_or_default();
            Arc::make_mut(&mut named).insert((tenant.clone(), kind, name.clone()));
            self.pseudonyms.insert(id, named);
        }
        let this = Arc::new((tenant.clone(), kind, name.clone()));
        for (kind, name) in document.spec.references() {
            let target = (tenant.clone(), kind, name.clone());
            if let Some(referrers) = self.referrers.get_mut(&target) {
                referrers.insert(this.clone(), ());
                continue;
            }
            let referrers = [(this.clone(), ())].into_iter().collect();
            self.referrers.insert(Arc::new(target), referrers);
        }
    }

    /// `is` is what is declared in its place; what both have in common stays.
    fn forget(&mut self, tenant: &Tenant, document: &Document, is: Option<&Document>) {
        let (kind, name) = (document.spec.kind(), &document.name);
        let this = (tenant.clone(), kind, name.clone());
        if is.is_none() {
            let folded = (tenant.clone(), kind, name.to_ascii_lowercase());
            let mut alike = self.alike.remove(&folded).unwrap_or_default();
            Arc::make_mut(&mut alike).remove(name);
            if !alike.is_empty() {
                self.alike.insert(Arc::new(folded), alike);
            }
        }
        if let Some(id) = document.principal.filter(|id| is.is_none_or(|is| is.principal != Some(*id))) {
            let mut named = self.pseudonyms.remove(&id).unwrap_or_default();
            Arc::make_mut(&mut named).remove(&this);
            if !named.is_empty() {
                self.pseudonyms.insert(id, named);
            }
        }
        let kept: BTreeSet<(&str, &Name)> =
            is.map(|is| is.spec.references().into_iter().collect()).unwrap_or_default();
        for (kind, name) in document.spec.references() {
            if kept.contains(&(kind, name)) {
                continue;
            }
            let target = (tenant.clone(), kind, name.clone());
            let left = self.referrers.get_mut(&target).map(|referrers| {
                referrers.remove(&this);
                !referrers.is_empty()
            });
            if left == Some(false) {
                self.referrers.remove(&target);
            }
        }
    }

    /// The names of things of a kind that differ from `name` in case at most, itself among them if it is there; in order.
    pub fn alike(&self, tenant: &Tenant, kind: &str, name: &str) -> impl Iterator<Item = &Name> {
        let folded = name.to_ascii_lowercase();
        let is = |key: &Folded| key.0 == *tenant && key.1 == kind && key.2 == folded;
        self.alike.find(&(tenant, kind, &folded), is).into_iter().flat_map(|names| names.iter())
    }

    /// Whether a principal was ever marked that is called so, whatever the case: `user/alice`.
    #[must_use]
    pub fn was_marked(&self, tenant: &Tenant, mark: &str) -> bool {
        let folded = mark.to_ascii_lowercase();
        let is = |key: &Arc<(Tenant, String)>| key.0 == *tenant && key.1 == folded;
        self.marked.find(&(tenant, &folded), is).is_some()
    }

    /// Kind and name of the thing of a pseudonym.
    #[must_use]
    pub fn by_pseudonym(&self, tenant: &Tenant, id: PrincipalId) -> Option<(&'static str, &Name)> {
        let mut named = self.pseudonyms.get(&id)?.iter().filter(|(of, ..)| of == tenant);
        named.next().map(|(_, kind, name)| (*kind, name))
    }

    /// Kinds and names of what refers to a thing, in no order.
    pub fn referrers(
        &self,
        tenant: &Tenant,
        kind: &str,
        name: &Name,
    ) -> impl Iterator<Item = (&'static str, &Name)> {
        let is = |key: &Thing| key.0 == *tenant && key.1 == kind && key.2 == *name;
        let found = self.referrers.find(&(tenant, kind, name), is);
        found.into_iter().flat_map(Map::iter).map(|(key, ())| (key.1, &key.2))
    }
}
