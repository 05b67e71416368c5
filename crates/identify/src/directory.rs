//! Who can be identified: principals, keys, issuers and epochs at one revision. Immutable.

use std::collections::{BTreeSet, HashMap};

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::directory::{AgentSpec, IssuerSpec, Spec, Status};
use bartizan_model::{Action, Document, KeyId, Principal, PrincipalKind, ReasonCode, Tenant};

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

/// What an epoch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EpochKind {
    /// A principal: `user/alice`.
    Principal,
    /// An issuer.
    Issuer,
    /// The whole tenant.
    Tenant,
    /// A session.
    Session,
    /// A grant.
    Grant,
    /// A client program.
    Client,
    /// A device.
    Device,
}

/// A "not before" mark.
#[derive(Clone, Debug)]
pub struct EpochEntry {
    /// Whose house.
    pub tenant: Tenant,
    /// About what kind of thing.
    pub kind: EpochKind,
    /// Which.
    pub name: Name,
    /// The mark.
    pub not_before: Timestamp,
    /// The revision at which it was moved there: our own tokens are held against it.
    pub revision: u64,
}

/// The directory at one revision.
#[derive(Debug, Default)]
pub struct Directory {
    revision: u64,
    keys: HashMap<Digest, KeyEntry>,
    principals: HashMap<(Tenant, PrincipalKind, Name), Entry>,
    /// By the exact `iss`.
    issuers: HashMap<String, (Tenant, Name, IssuerSpec)>,
    epochs: HashMap<(Tenant, EpochKind, Name), Timestamp>,
}

#[derive(Debug)]
struct Entry {
    principal: Principal,
    status: Status,
    expires: Option<Timestamp>,
    owner: Option<Name>,
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
        for epoch in epochs {
            let mark = out.epochs.entry((epoch.tenant, epoch.kind, epoch.name)).or_default();
            *mark = epoch.not_before.max(*mark);
        }
        for (tenant, document) in documents {
            out.add(tenant, document);
        }
        out
    }

    fn add(&mut self, tenant: Tenant, document: Document) {
        if let Spec::Issuer(spec) = document.spec {
            self.issuers.insert(spec.issuer.clone(), (tenant, document.name, spec));
            return;
        }
        let (Some(kind), Some(id)) = (document.spec.principal_kind(), document.principal) else { return };
        let principal = Principal { kind, name: document.name.clone(), id };
        let entry = match document.spec {
            Spec::User(spec) => Entry { principal, status: spec.standing(), expires: None, owner: None },
            Spec::Agent(AgentSpec { status, owner, expires_us, .. })
            | Spec::Workload(AgentSpec { status, owner, expires_us, .. }) => {
                Entry { principal, status, expires: expires_us, owner: Some(owner) }
            }
            _ => return,
        };
        self.principals.insert((tenant, kind, document.name), entry);
    }

    /// Which state it was built from.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn key(&self, digest: &Digest) -> Option<&KeyEntry> {
        self.keys.get(digest)
    }

    pub(crate) fn issuer(&self, iss: &str) -> Option<&(Tenant, Name, IssuerSpec)> {
        self.issuers.get(iss)
    }

    /// A principal that may come in now: in use, not past its end, and with an owner in use where it needs one.
    pub(crate) fn active(
        &self,
        tenant: &Tenant,
        kind: PrincipalKind,
        name: &Name,
        now: Timestamp,
    ) -> Result<Principal, ReasonCode> {
        let entry = self
            .principals
            .get(&(tenant.clone(), kind, name.clone()))
            .ok_or(ReasonCode::CredentialUnknown)?;
        let owned = match &entry.owner {
            None => true,
            Some(owner) => self.active(tenant, PrincipalKind::User, owner, now).is_ok(),
        };
        if entry.status != Status::Active || entry.expires.is_some_and(|end| end <= now) || !owned {
            return Err(ReasonCode::PrincipalDisabled);
        }
        Ok(entry.principal.clone())
    }

    /// The latest mark that concerns a principal: its own, its tenant's.
    pub(crate) fn not_before(&self, tenant: &Tenant, principal: &Principal) -> Timestamp {
        let kind = principal.kind.entity_type().to_lowercase();
        let own = format!("{kind}/{}", principal.name)
            .parse()
            .ok()
            .map_or_else(Timestamp::default, |name| self.epoch(tenant, EpochKind::Principal, &name));
        own.max(self.epoch(tenant, EpochKind::Tenant, &tenant.0))
    }

    pub(crate) fn epoch(&self, tenant: &Tenant, kind: EpochKind, name: &Name) -> Timestamp {
        if self.epochs.is_empty() {
            return Timestamp::default();
        }
        self.epochs.get(&(tenant.clone(), kind, name.clone())).copied().unwrap_or_default()
    }
}
