//! From one revision of the directory to the next: what has changed is looked at, and what hangs on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::asset::DeviceSpec;
use bartizan_model::directory::{AgentSpec, IssuerSpec, Spec, Status};
use bartizan_model::{
    Binding, Device, Document, FederatedToken, FederationSpec, Principal, PrincipalId, PrincipalKind, Risk,
    Tenant,
};

use super::{Assessed, Directory, Enrolled, Entry, Federation, Issuer, KeyEntry, fingerprint, given};
use crate::epochs::{EpochEntry, EpochKind};
use crate::spiffe::TrustDomain;

/// What has changed of what can be identified.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// Documents that are gone, or are otherwise now, as they were.
    pub gone: Vec<(Tenant, Document)>,
    /// Documents that are new, or are otherwise now, as they are.
    pub come: Vec<(Tenant, Document)>,
    /// Keys that are new or otherwise.
    pub keys: Vec<KeyEntry>,
    /// Marks that have moved.
    pub epochs: Vec<EpochEntry>,
    /// What was found of sessions and principals; none where they look harmless again.
    pub risks: Vec<(Assessed, Option<(Tenant, Risk)>)>,
    /// Certificates of ours, and whether each is one that was taken back.
    pub withdrawn: Vec<(Digest, bool)>,
}

impl Directory {
    /// The directory after a change. What it does not touch is shared with this one.
    #[must_use]
    pub fn with(&self, revision: u64, changed: Changed) -> Self {
        let mut out = self.clone();
        out.revision = revision;
        for key in changed.keys {
            out.keys.insert(key.digest, Arc::new(key));
        }
        for epoch in &changed.epochs {
            out.epochs.add(epoch);
            out.mark(epoch);
        }
        for (whom, risk) in changed.risks {
            match risk {
                Some(risk) => drop(out.risks.insert(whom, Arc::new(risk))),
                None => drop(out.risks.remove(&whom)),
            }
        }
        for (certificate, withdrawn) in changed.withdrawn {
            match withdrawn {
                true => drop(out.withdrawn.insert(certificate, ())),
                false => drop(out.withdrawn.remove(&certificate)),
            }
        }
        // Whose life may be another now: whoever is new, and what people who changed answer for.
        let mut touched = BTreeSet::new();
        let person = |(tenant, document): &(Tenant, Document)| {
            matches!(document.spec, Spec::User(_)).then(|| (tenant.clone(), document.name.clone()))
        };
        let people: BTreeSet<_> = changed.gone.iter().chain(&changed.come).filter_map(person).collect();
        for (tenant, document) in changed.gone {
            out.forget(&tenant, &document);
        }
        for (tenant, document) in changed.come {
            touched.extend(out.learn(tenant, document));
        }
        for person in &people {
            touched.extend(out.owned.get(person).into_iter().flat_map(|owned| owned.iter().copied()));
        }
        for id in touched {
            let end = out.principals.get(&id).map(|entry| out.alive_until(entry));
            if let Some((end, entry)) = end.zip(out.principals.get_mut(&id)) {
                Arc::make_mut(entry).alive_until = end;
            }
        }
        out
    }

    fn forget(&mut self, tenant: &Tenant, document: &Document) {
        match &document.spec {
            Spec::Issuer(spec) => {
                let there = self.issuers.get_mut(spec.issuer.as_str());
                let left = there.map(|there| {
                    let there = Arc::make_mut(there);
                    there.remove(&(tenant.clone(), document.name.clone()));
                    !there.is_empty()
                });
                if left == Some(false) {
                    self.issuers.remove(spec.issuer.as_str());
                }
            }
            Spec::Federation(spec) => {
                let Some(domain) = TrustDomain::of_issuer(&spec.issuer) else { return };
                let left = self.federations.get_mut(&domain).map(|there| {
                    let there = Arc::make_mut(there);
                    there.remove(&(tenant.clone(), document.name.clone()));
                    !there.is_empty()
                });
                if left == Some(false) {
                    self.federations.remove(&domain);
                }
            }
            Spec::Device(spec) => {
                self.device_names.remove(&(tenant.clone(), document.name.clone()));
                for proof in proofs(spec) {
                    let key = (tenant.clone(), proof);
                    let left = self.devices.get_mut(&key).map(|there| {
                        let there = Arc::make_mut(there);
                        there.retain(|enrolled| enrolled.device.name != document.name);
                        !there.is_empty()
                    });
                    if left == Some(false) {
                        self.devices.remove(&key);
                    }
                }
            }
            _ => {}
        }
        let (Some(kind), Some(id)) = (document.spec.principal_kind(), document.principal) else { return };
        let named = (tenant.clone(), kind, document.name.clone());
        if self.names.get(&named) == Some(&id) {
            self.names.remove(&named);
        }
        let is = |entry: &Entry| {
            entry.tenant == *tenant && entry.principal.kind == kind && entry.principal.name == document.name
        };
        if self.principals.get(&id).is_some_and(|entry| is(entry)) {
            self.principals.remove(&id);
        }
        if let Some(owner) = owner(&document.spec) {
            let key = (tenant.clone(), owner.clone());
            let left = self.owned.get_mut(&key).map(|owned| {
                let owned = Arc::make_mut(owned);
                owned.remove(&id);
                !owned.is_empty()
            });
            if left == Some(false) {
                self.owned.remove(&key);
            }
        }
    }

    /// Takes in a document; whom it is about, if it is about a principal.
    fn learn(&mut self, tenant: Tenant, document: Document) -> Option<PrincipalId> {
        match &document.spec {
            Spec::Issuer(spec) => {
                self.learn_issuer(tenant, document.name, spec.clone());
                return None;
            }
            Spec::Federation(spec) => {
                self.learn_federation(tenant, document.name, spec);
                return None;
            }
            Spec::Device(spec) => {
                self.learn_device(&tenant, &document.name, spec);
                return None;
            }
            _ => {}
        }
        let (kind, id) = (document.spec.principal_kind()?, document.principal?);
        let (status, expires, owner) = match document.spec {
            Spec::User(spec) => (spec.standing(), None, None),
            Spec::Agent(AgentSpec { status, owner, expires_us, .. })
            | Spec::Workload(AgentSpec { status, owner, expires_us, .. }) => {
                (status, expires_us, Some(owner))
            }
            _ => return None,
        };
        if let Some(owner) = &owner {
            let key = (tenant.clone(), owner.clone());
            if self.owned.get(&key).is_none() {
                self.owned.insert(Arc::new(key.clone()), Arc::default());
            }
            if let Some(owned) = self.owned.get_mut(&key) {
                Arc::make_mut(owned).insert(id);
            }
        }
        let principal = Principal { kind, name: document.name.clone(), id };
        let named = Arc::new((tenant.clone(), kind, document.name));
        let not_before = self.marks.get(&*named).copied().unwrap_or_default();
        let alive_until = Timestamp::default();
        let entry = Entry { tenant, principal, expires, owner, status, alive_until, not_before };
        self.principals.insert(id, Arc::new(entry));
        self.names.insert(named, id);
        Some(id)
    }

    fn learn_issuer(&mut self, tenant: Tenant, name: Name, spec: IssuerSpec) {
        let fingerprint = fingerprint(&tenant, &spec);
        let (iss, key) = (spec.issuer.clone(), (tenant.clone(), name.clone()));
        if self.issuers.get(iss.as_str()).is_none() {
            self.issuers.insert(iss.clone(), Arc::default());
        }
        if let Some(there) = self.issuers.get_mut(iss.as_str()) {
            Arc::make_mut(there).insert(key, Issuer { tenant, name, spec, fingerprint });
        }
    }

    /// Takes a rule about the workloads of a trust domain. One whose own keys are not acceptable lets nobody in.
    fn learn_federation(&mut self, tenant: Tenant, name: Name, spec: &FederationSpec) {
        let Some(domain) = TrustDomain::of_issuer(&spec.issuer) else { return };
        if spec.status != Status::Active || spec.takes != FederatedToken::Workload {
            return;
        }
        let Ok(given) = given(&domain, spec) else { return };
        let fingerprint = fingerprint(&tenant, &(&name, spec));
        if self.federations.get(&domain).is_none() {
            self.federations.insert(domain.clone(), Arc::default());
        }
        if let Some(there) = self.federations.get_mut(&domain) {
            let key = (tenant.clone(), name.clone());
            let rule = Federation { tenant, name, domain, spec: spec.clone(), given, fingerprint };
            Arc::make_mut(there).insert(key, rule);
        }
    }

    fn learn_device(&mut self, tenant: &Tenant, name: &Name, spec: &DeviceSpec) {
        let device = Device {
            name: name.clone(),
            key_matches_binding: true,
            attested: spec.attested,
            managed: spec.managed,
            compliant: spec.compliant,
            seen: spec.seen_us.unwrap_or_default(),
        };
        self.device_names.insert(Arc::new((tenant.clone(), name.clone())), spec.status);
        for proof in proofs(spec) {
            let enrolled =
                Enrolled { status: spec.status, owner: spec.owner.clone(), device: device.clone() };
            let key = (tenant.clone(), proof);
            let mut all = self.devices.get(&key).map(|there| (**there).clone()).unwrap_or_default();
            // In the order of their names, whichever came first.
            let at = all.partition_point(|known| known.device.name < *name);
            all.insert(at, enrolled);
            self.devices.insert(Arc::new(key), Arc::new(all));
        }
    }

    /// Keeps the mark of a principal, for credentials that know them by name.
    fn mark(&mut self, epoch: &EpochEntry) {
        let kinds = [PrincipalKind::User, PrincipalKind::Agent, PrincipalKind::Workload];
        let Some((kind, name)) = epoch.name.as_str().split_once('/') else { return };
        let kind = kinds.into_iter().find(|k| k.entity_type().eq_ignore_ascii_case(kind));
        let (EpochKind::Principal, Some(kind), Ok(name)) = (epoch.kind, kind, name.parse()) else { return };
        let named = (epoch.tenant.clone(), kind, name);
        let mark = self.marks.get(&named).map_or(epoch.not_before, |known| epoch.not_before.max(*known));
        if let Some(entry) = self.names.get(&named).and_then(|id| self.principals.get_mut(id)) {
            Arc::make_mut(entry).not_before = mark;
        }
        self.marks.insert(Arc::new(named), mark);
    }

    /// In use, not past its end, and with an owner in use where it needs one: until when.
    fn alive_until(&self, entry: &Entry) -> Timestamp {
        if entry.status != Status::Active {
            return Timestamp::default();
        }
        let own = entry.expires.unwrap_or(Timestamp::MAX);
        let Some(owner) = &entry.owner else { return own };
        let owner = self.named(&entry.tenant, PrincipalKind::User, owner);
        let owned = owner.is_some_and(|owner| owner.status == Status::Active);
        if owned { own } else { Timestamp::default() }
    }
}

/// What a device is known by in requests.
fn proofs(spec: &DeviceSpec) -> impl Iterator<Item = Binding> {
    [spec.key.map(Binding::Dpop), spec.certificate.map(Binding::Mtls)].into_iter().flatten()
}

const fn owner(spec: &Spec) -> Option<&Name> {
    match spec {
        Spec::Agent(spec) | Spec::Workload(spec) => Some(&spec.owner),
        _ => None,
    }
}
