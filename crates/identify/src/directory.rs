//! Who can be identified: principals, keys, issuers, devices and epochs at one revision. It never changes under a reader;
//! one of the next revision shares with it what is the same.

mod changes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bartizan_base::shared::Map;
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_jose::{Jkt, Jwk, JwkError, Jwks};
use bartizan_model::directory::{IssuerSpec, Status};
use bartizan_model::{
    Action, Binding, Device, Document, FederationSpec, KeyId, Principal, PrincipalId, PrincipalKind,
    ReasonCode, Risk, SessionId, Tenant,
};

use crate::epochs::{EpochEntry, Epochs};
use crate::spiffe::{BundleError, TrustBundle, TrustBundles, TrustDomain};

pub use changes::Changed;

/// An API key as the directory knows it.
#[derive(Clone, Debug, PartialEq)]
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

/// Whoever claims one `iss`.
type Issuers = Arc<BTreeMap<(Tenant, Name), Issuer>>;
type Named = Arc<(Tenant, PrincipalKind, Name)>;
type Rules = Arc<BTreeMap<(Tenant, Name), Federation>>;

/// The directory at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directory {
    revision: u64,
    keys: Map<Digest, Arc<KeyEntry>>,
    names: Map<Named, PrincipalId>,
    principals: Map<PrincipalId, Arc<Entry>>,
    /// Agents and workloads by the person who answers for them.
    owned: Map<Arc<(Tenant, Name)>, Arc<BTreeSet<PrincipalId>>>,
    /// The marks of principals, also of those that are not there.
    marks: Map<Named, Timestamp>,
    /// By the exact `iss`; where several claim the same, the last one counts.
    issuers: Map<String, Issuers>,
    epochs: Epochs,
    own: Option<Arc<Own>>,
    /// By the key or certificate that a request proves: whoever claims it.
    devices: Map<Arc<(Tenant, Binding)>, Arc<Vec<Enrolled>>>,
    device_names: Map<Arc<(Tenant, Name)>, Status>,
    risks: Map<Assessed, Arc<(Tenant, Risk)>>,
    /// By trust domain: the rules about its workloads.
    federations: Map<TrustDomain, Rules>,
    /// Our own trust domain: nobody else vouches for it, whatever is declared.
    domain: Option<TrustDomain>,
    /// Certificates of ours that were taken back before their end.
    withdrawn: Map<Digest, ()>,
}

#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Issuer {
    pub(crate) tenant: Tenant,
    pub(crate) name: Name,
    pub(crate) spec: IssuerSpec,
    /// Changes with anything that is declared of it.
    pub(crate) fingerprint: Digest,
}

/// A rule about the workloads of another trust domain.
#[derive(Clone, Debug)]
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

impl PartialEq for Federation {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// Our own authority.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) issuer: Arc<str>,
    pub(crate) jwks: Jwks,
    keys: HashMap<Jkt, (Tenant, Timestamp)>,
}

/// Keys have their thumbprints.
impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.keys == other.keys
    }
}

impl Own {
    /// Whose house a key signs for, unless nothing of it is taken any more.
    pub(crate) fn tenant_of(&self, key: Jkt, now: Timestamp) -> Option<&Tenant> {
        self.keys.get(&key).filter(|(_, until)| now < *until).map(|(tenant, _)| tenant)
    }
}

#[derive(Clone, Debug, PartialEq)]
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
        let changed = Changed {
            come: documents.collect(),
            keys: keys.collect(),
            epochs: epochs.collect(),
            ..Changed::default()
        };
        Self::default().with(revision, changed)
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
                self.own = Some(Arc::new(Own { issuer, jwks, keys: known }));
                Ok(self)
            }
            Err(error) => Err((Box::new(self), error)),
        }
    }

    /// The same, without an authority of our own.
    #[must_use]
    pub fn without_own(mut self) -> Self {
        self.own = None;
        self
    }

    /// The same, without the certificates of ours that were taken back.
    #[must_use]
    pub fn without_certificates(mut self, withdrawn: impl IntoIterator<Item = Digest>) -> Self {
        self.withdrawn = withdrawn.into_iter().map(|certificate| (certificate, ())).collect();
        self
    }

    /// The same, with what was last found of sessions and principals that do not look harmless.
    #[must_use]
    pub fn with_risks(mut self, risks: impl IntoIterator<Item = (Tenant, Assessed, Risk)>) -> Self {
        self.risks = risks.into_iter().map(|(tenant, whom, risk)| (whom, Arc::new((tenant, risk)))).collect();
        self
    }

    /// Which state it was built from.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn key(&self, digest: &Digest) -> Option<&KeyEntry> {
        self.keys.get(digest).map(|key| &**key)
    }

    pub(crate) fn issuer(&self, iss: &str) -> Option<&Issuer> {
        self.issuers.get(iss)?.last_key_value().map(|(_, issuer)| issuer)
    }

    /// The rules about a trust domain.
    pub(crate) fn federations_of(&self, domain: &TrustDomain) -> impl Iterator<Item = &Federation> {
        self.federations.get(domain).into_iter().flat_map(|rules| rules.values())
    }

    /// Whether a rule is there as it was declared then.
    pub(crate) fn is_declared(&self, rule: &Digest, domain: &TrustDomain) -> bool {
        self.federations_of(domain).any(|known| known.fingerprint == *rule)
    }

    pub(crate) fn is_withdrawn(&self, certificate: &Digest) -> bool {
        self.withdrawn.get(certificate).is_some()
    }

    pub(crate) const fn domain(&self) -> Option<&TrustDomain> {
        self.domain.as_ref()
    }

    pub(crate) fn own(&self) -> Option<&Own> {
        self.own.as_deref()
    }

    pub(crate) const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    fn named(&self, tenant: &Tenant, kind: PrincipalKind, name: &Name) -> Option<&Entry> {
        let is = |key: &Named| key.0 == *tenant && key.1 == kind && key.2 == *name;
        let id = self.names.find(&(tenant, kind, name), is)?;
        self.principals.get(id).map(|entry| &**entry).filter(|entry| entry.tenant == *tenant)
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
            match self.enrolled(tenant, *proof) {
                Some(enrolled) if enrolled.status != Status::Active => {
                    return Err(ReasonCode::DeviceDisabled);
                }
                Some(enrolled) => found = found.or(Some(enrolled)),
                None => {}
            }
        }
        Ok(found.map(|enrolled| &enrolled.device))
    }

    /// The device of a key or certificate. One of two devices tells of neither.
    fn enrolled(&self, tenant: &Tenant, proof: Binding) -> Option<&Enrolled> {
        let is = |key: &Arc<(Tenant, Binding)>| key.0 == *tenant && key.1 == proof;
        match self.devices.find(&(tenant, proof), is)?.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Whether there is a device of that name, and it is in use.
    pub(crate) fn is_device_in_use(&self, tenant: &Tenant, name: &Name) -> bool {
        let is = |key: &Arc<(Tenant, Name)>| key.0 == *tenant && key.1 == *name;
        self.device_names.find(&(tenant, name), is) == Some(&Status::Active)
    }

    /// Whether a device is `member`'s: nobody's in particular, their own, or that of the person who answers for them.
    pub(crate) fn is_device_of(
        &self,
        tenant: &Tenant,
        device: &Device,
        proof: Binding,
        member: &Principal,
    ) -> bool {
        let Some(enrolled) =
            self.enrolled(tenant, proof).filter(|enrolled| enrolled.device.name == device.name)
        else {
            return false;
        };
        let Some(owner) = &enrolled.owner else { return true };
        match member.kind {
            PrincipalKind::User => member.name == *owner,
            _ => self.principals.get(&member.id).is_some_and(|entry| entry.owner.as_ref() == Some(owner)),
        }
    }

    pub(crate) fn risk(&self, tenant: &Tenant, whom: Assessed) -> Option<&Risk> {
        self.risks.get(&whom).filter(|found| found.0 == *tenant).map(|found| &found.1)
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
