//! Who can be identified: principals, keys, issuers, devices and epochs at one revision. Immutable.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_jose::{Jkt, Jwk, JwkError, Jwks};
use bartizan_model::directory::{AgentSpec, IssuerSpec, Spec, Status};
use bartizan_model::{
    Action, Binding, Device, Document, FederatedToken, FederationSpec, KeyId, Principal, PrincipalId,
    PrincipalKind, ReasonCode, Risk, SessionId, Tenant,
};

use crate::epochs::{EpochEntry, EpochKind, Epochs};
use crate::spiffe::{BundleError, TrustBundle, TrustBundles, TrustDomain};

/// An API key as the directory knows it.
#[derive(Clone, Debug)]
pub struct KeyEntry {
    /// Its id.
    pub id: KeyId,
    /// Whose house.
    pub tenant: Tenant,
    /// SHA-256 of its text: the only thing it is ever looked up by.
    pub digest: Digest,
    /// Whom it stands for.
    pub principal: Principal,
    /// The actions it may be used for; none for no limit of its own.
    pub scopes: Option<BTreeSet<Action>>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// A key that our own authority signs access tokens with, or has signed living ones with.
#[derive(Clone, Debug)]
pub struct OwnKey {
    /// Whose house its tokens are for.
    pub tenant: Tenant,
    /// Its public half, with its id.
    pub public: Jwk,
    /// From when on nothing that it signed is taken.
    pub until: Timestamp,
}

/// Of whom or what a risk was assessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Assessed {
    /// A session.
    Session(SessionId),
    /// A principal.
    Principal(PrincipalId),
}

/// The directory at one revision.
#[derive(Debug, Default)]
pub struct Directory {
    revision: u64,
    keys: HashMap<Digest, KeyEntry>,
    names: HashMap<(Tenant, PrincipalKind, Name), PrincipalId>,
    principals: HashMap<PrincipalId, Entry>,
    /// By the exact `iss`.
    issuers: HashMap<String, Issuer>,
    epochs: Epochs,
    own: Option<Own>,
    /// By the key or certificate that a request proves; none where two devices claim the same.
    devices: HashMap<(Tenant, Binding), Option<Enrolled>>,
    device_names: HashMap<(Tenant, Name), Status>,
    risks: HashMap<Assessed, (Tenant, Risk)>,
    federations: HashMap<TrustDomain, Vec<Federation>>,
    /// Our own trust domain: nobody else vouches for it, whatever is declared.
    domain: Option<TrustDomain>,
    /// Certificates of ours that were taken back before their end.
    withdrawn: HashSet<Digest>,
}

#[derive(Debug)]
struct Entry {
    tenant: Tenant,
    principal: Principal,
    expires: Option<Timestamp>,
    owner: Option<Name>,
    status: Status,
    /// From when on it may not come in: of itself, and of its owner.
    alive_until: Timestamp,
    /// Its mark.
    not_before: Timestamp,
}

/// A foreign issuer.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) tenant: Tenant,
    pub(crate) name: Name,
    pub(crate) spec: IssuerSpec,
    /// Changes with anything that is declared of it.
    pub(crate) fingerprint: Digest,
}

/// A rule about the workloads of another trust domain.
#[derive(Debug)]
pub(crate) struct Federation {
    pub(crate) tenant: Tenant,
    pub(crate) name: Name,
    pub(crate) domain: TrustDomain,
    pub(crate) spec: FederationSpec,
    /// The domain's keys, where the rule itself gives them.
    pub(crate) given: Option<Arc<TrustBundles>>,
    /// Changes with anything that is declared of it.
    pub(crate) fingerprint: Digest,
}

/// Our own authority.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) issuer: Arc<str>,
    pub(crate) jwks: Jwks,
    keys: HashMap<Jkt, (Tenant, Timestamp)>,
}

impl Own {
    /// Whose house a key signs for, unless nothing of it is taken any more.
    pub(crate) fn tenant_of(&self, key: Jkt, now: Timestamp) -> Option<&Tenant> {
        self.keys.get(&key).filter(|(_, until)| now < *until).map(|(tenant, _)| tenant)
    }
}

#[derive(Debug)]
struct Enrolled {
    status: Status,
    owner: Option<Name>,
    device: Device,
}

impl Directory {
    /// A directory of nobody.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The directory of a state's documents, keys and epochs.
    #[must_use]
    pub fn build(
        revision: u64,
        documents: impl Iterator<Item = (Tenant, Document)>,
        keys: impl Iterator<Item = KeyEntry>,
        epochs: impl Iterator<Item = EpochEntry>,
    ) -> Self {
        let mut out = Self { revision, keys: keys.map(|k| (k.digest, k)).collect(), ..Self::default() };
        for (tenant, document) in documents {
            out.add(tenant, document);
        }
        for epoch in epochs {
            out.epochs.add(&epoch);
            out.mark(&epoch);
        }
        let ends: Vec<_> = out.principals.iter().map(|(id, entry)| (*id, out.alive_until(entry))).collect();
        for (id, end) in ends {
            if let Some(entry) = out.principals.get_mut(&id) {
                entry.alive_until = end;
            }
        }
        out
    }

    /// The same, with an authority of our own: who it is as its tokens say, and the keys that hold.
    ///
    /// # Errors
    /// When two keys have one id, or there are more than a set may hold: with the directory as it was.
    pub fn with_own(
        mut self,
        issuer: Arc<str>,
        keys: impl IntoIterator<Item = OwnKey>,
    ) -> Result<Self, (Box<Self>, JwkError)> {
        self.domain = TrustDomain::of_address(&issuer);
        let (mut all, mut known) = (Vec::new(), HashMap::new());
        for key in keys {
            known.insert(key.public.thumbprint(), (key.tenant, key.until));
            all.push(key.public);
        }
        match Jwks::of(all) {
            Ok(jwks) => {
                self.own = Some(Own { issuer, jwks, keys: known });
                Ok(self)
            }
            Err(error) => Err((Box::new(self), error)),
        }
    }

    /// The same, with what was last found of sessions and principals that do not look harmless.
    #[must_use]
    pub fn with_risks(mut self, risks: impl IntoIterator<Item = (Tenant, Assessed, Risk)>) -> Self {
        self.risks = risks.into_iter().map(|(tenant, whom, risk)| (whom, (tenant, risk))).collect();
        self
    }

    /// The same, without the certificates of ours that were taken back.
    #[must_use]
    pub fn without_certificates(mut self, withdrawn: impl IntoIterator<Item = Digest>) -> Self {
        self.withdrawn = withdrawn.into_iter().collect();
        self
    }

    fn add(&mut self, tenant: Tenant, document: Document) {
        match &document.spec {
            Spec::Issuer(spec) => {
                let fingerprint = fingerprint(&tenant, spec);
                let issuer = Issuer { tenant, name: document.name, spec: spec.clone(), fingerprint };
                self.issuers.insert(spec.issuer.clone(), issuer);
                return;
            }
            Spec::Federation(spec) => return self.federate(tenant, document.name, spec),
            Spec::Device(spec) => {
                let device = Device {
                    name: document.name.clone(),
                    key_matches_binding: true,
                    attested: spec.attested,
                    managed: spec.managed,
                    compliant: spec.compliant,
                    seen: spec.seen_us.unwrap_or_default(),
                };
                self.device_names.insert((tenant.clone(), document.name.clone()), spec.status);
                let proofs = [spec.key.map(Binding::Dpop), spec.certificate.map(Binding::Mtls)];
                for proof in proofs.into_iter().flatten() {
                    let enrolled =
                        Enrolled { status: spec.status, owner: spec.owner.clone(), device: device.clone() };
                    // A key of two devices tells of neither.
                    self.devices
                        .entry((tenant.clone(), proof))
                        .and_modify(|known| *known = None)
                        .or_insert(Some(enrolled));
                }
                return;
            }
            _ => {}
        }
        let (Some(kind), Some(id)) = (document.spec.principal_kind(), document.principal) else { return };
        let (status, expires, owner) = match document.spec {
            Spec::User(spec) => (spec.standing(), None, None),
            Spec::Agent(AgentSpec { status, owner, expires_us, .. })
            | Spec::Workload(AgentSpec { status, owner, expires_us, .. }) => {
                (status, expires_us, Some(owner))
            }
            _ => return,
        };
        let principal = Principal { kind, name: document.name.clone(), id };
        let (alive_until, not_before) = Default::default();
        let entry =
            Entry { tenant: tenant.clone(), principal, expires, owner, status, alive_until, not_before };
        self.principals.insert(id, entry);
        self.names.insert((tenant, kind, document.name), id);
    }

    /// Takes a rule about the workloads of a trust domain. One whose own keys are not acceptable lets nobody in.
    fn federate(&mut self, tenant: Tenant, name: Name, spec: &FederationSpec) {
        let Some(domain) = TrustDomain::of_issuer(&spec.issuer) else { return };
        if spec.status != Status::Active || spec.takes != FederatedToken::Workload {
            return;
        }
        let Ok(given) = given(&domain, spec) else { return };
        let fingerprint = fingerprint(&tenant, &(&name, spec));
        let rule =
            Federation { tenant, name, domain: domain.clone(), spec: spec.clone(), given, fingerprint };
        self.federations.entry(domain).or_default().push(rule);
    }

    /// Keeps the mark of a principal beside them, for credentials that know them by name.
    fn mark(&mut self, epoch: &EpochEntry) {
        let kinds = [PrincipalKind::User, PrincipalKind::Agent, PrincipalKind::Workload];
        let Some((kind, name)) = epoch.name.as_str().split_once('/') else { return };
        let kind = kinds.into_iter().find(|k| k.entity_type().eq_ignore_ascii_case(kind));
        let (EpochKind::Principal, Some(kind), Ok(name)) = (epoch.kind, kind, name.parse()) else { return };
        let id = self.names.get(&(epoch.tenant.clone(), kind, name));
        if let Some(entry) = id.and_then(|id| self.principals.get_mut(id)) {
            entry.not_before = entry.not_before.max(epoch.not_before);
        }
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

    /// Which state it was built from.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn key(&self, digest: &Digest) -> Option<&KeyEntry> {
        self.keys.get(digest)
    }

    pub(crate) fn issuer(&self, iss: &str) -> Option<&Issuer> {
        self.issuers.get(iss)
    }

    /// The rules about a trust domain.
    pub(crate) fn federations_of(&self, domain: &TrustDomain) -> &[Federation] {
        self.federations.get(domain).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn federations(&self) -> impl Iterator<Item = &Federation> {
        self.federations.values().flatten()
    }

    pub(crate) fn is_withdrawn(&self, certificate: &Digest) -> bool {
        self.withdrawn.contains(certificate)
    }

    pub(crate) const fn domain(&self) -> Option<&TrustDomain> {
        self.domain.as_ref()
    }

    pub(crate) const fn own(&self) -> Option<&Own> {
        self.own.as_ref()
    }

    pub(crate) const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    fn named(&self, tenant: &Tenant, kind: PrincipalKind, name: &Name) -> Option<&Entry> {
        let id = self.names.get(&(tenant.clone(), kind, name.clone()))?;
        self.principals.get(id).filter(|entry| entry.tenant == *tenant)
    }

    /// Whether there is somebody of that kind and name, whatever they may.
    pub(crate) fn is_known(&self, tenant: &Tenant, kind: PrincipalKind, name: &Name) -> bool {
        self.named(tenant, kind, name).is_some()
    }

    /// A principal that may come in now, by name.
    pub(crate) fn active(
        &self,
        tenant: &Tenant,
        kind: PrincipalKind,
        name: &Name,
        now: Timestamp,
    ) -> Result<Principal, ReasonCode> {
        let entry = self.named(tenant, kind, name).ok_or(ReasonCode::CredentialUnknown)?;
        if now < entry.alive_until { Ok(entry.principal.clone()) } else { Err(ReasonCode::PrincipalDisabled) }
    }

    /// The same by pseudonym, as our own tokens name them.
    pub(crate) fn active_id(
        &self,
        tenant: &Tenant,
        id: PrincipalId,
        now: Timestamp,
    ) -> Result<Principal, ReasonCode> {
        let entry = self.principals.get(&id).filter(|entry| entry.tenant == *tenant);
        let entry = entry.ok_or(ReasonCode::CredentialUnknown)?;
        if now < entry.alive_until { Ok(entry.principal.clone()) } else { Err(ReasonCode::PrincipalDisabled) }
    }

    /// Whether somebody who was looked up before may still come in, as who they were.
    pub(crate) fn is_alive(&self, tenant: &Tenant, principal: &Principal, now: Timestamp) -> bool {
        self.principals.get(&principal.id).is_some_and(|entry| {
            now < entry.alive_until && entry.principal == *principal && entry.tenant == *tenant
        })
    }

    /// The latest mark that concerns a principal: its own, its tenant's.
    pub(crate) fn not_before(&self, tenant: &Tenant, principal: &Principal) -> Timestamp {
        let own = self.principals.get(&principal.id).filter(|entry| entry.tenant == *tenant);
        let own = own.map_or_else(Timestamp::default, |entry| entry.not_before);
        own.max(self.epochs.tenant(tenant).not_before)
    }

    /// The device that a request was bound by, for one of those it is made by.
    ///
    /// # Errors
    /// `DeviceDisabled`.
    pub(crate) fn device(&self, tenant: &Tenant, proofs: &[Binding]) -> Result<Option<&Device>, ReasonCode> {
        if self.devices.is_empty() {
            return Ok(None);
        }
        let mut found = None;
        for proof in proofs {
            match self.devices.get(&(tenant.clone(), *proof)) {
                Some(Some(enrolled)) if enrolled.status != Status::Active => {
                    return Err(ReasonCode::DeviceDisabled);
                }
                Some(Some(enrolled)) => found = found.or(Some(enrolled)),
                Some(None) | None => {}
            }
        }
        Ok(found.map(|enrolled| &enrolled.device))
    }

    /// Whether there is a device of that name, and it is in use.
    pub(crate) fn is_device_in_use(&self, tenant: &Tenant, name: &Name) -> bool {
        self.device_names.get(&(tenant.clone(), name.clone())) == Some(&Status::Active)
    }

    /// Whether a device is `member`'s: nobody's in particular, their own, or that of the person who answers for them.
    pub(crate) fn is_device_of(
        &self,
        tenant: &Tenant,
        device: &Device,
        proof: Binding,
        member: &Principal,
    ) -> bool {
        let enrolled = self.devices.get(&(tenant.clone(), proof)).and_then(Option::as_ref);
        let Some(enrolled) = enrolled.filter(|enrolled| enrolled.device.name == device.name) else {
            return false;
        };
        let Some(owner) = &enrolled.owner else { return true };
        match member.kind {
            PrincipalKind::User => member.name == *owner,
            _ => self.principals.get(&member.id).is_some_and(|entry| entry.owner.as_ref() == Some(owner)),
        }
    }

    pub(crate) fn risk(&self, tenant: &Tenant, whom: Assessed) -> Option<&Risk> {
        self.risks.get(&whom).filter(|(of, _)| of == tenant).map(|(_, risk)| risk)
    }
}

/// What changes with anything that is declared.
fn fingerprint(tenant: &Tenant, declared: &impl serde::Serialize) -> Digest {
    let text = serde_json::to_vec(declared).unwrap_or_default();
    Digest::of_parts(&[tenant.0.as_str().as_bytes(), b"\0", &text])
}

/// The keys that a rule itself gives.
fn given(domain: &TrustDomain, spec: &FederationSpec) -> Result<Option<Arc<TrustBundles>>, BundleError> {
    let Some(bundle) = &spec.trust_bundle else { return Ok(None) };
    let bundle = TrustBundle::parse(domain.clone(), bundle.to_string().as_bytes())?;
    Ok(Some(Arc::new([bundle].into_iter().collect())))
}

/// How epochs name a principal: `user/alice`.
pub(crate) fn principal_mark(principal: &Principal) -> Option<Name> {
    format!("{}/{}", principal.kind.entity_type().to_lowercase(), principal.name).parse().ok()
}
