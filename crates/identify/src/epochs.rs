//! "Not before" marks, found without a copy of anything.

use std::collections::HashMap;
use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::Tenant;

/// How far clocks may be off when moments are held against a mark.
pub(crate) const SKEW: Duration = Duration::from_secs(60);

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
    /// A client program, as [`client_mark`] names it.
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

/// How epochs name a client program: by its name in the directory, or by the digest of its address.
#[must_use]
pub fn client_mark(client_id: &str) -> Option<Name> {
    if client_id.contains("://") {
        Digest::of(client_id.as_bytes()).to_string().parse().ok()
    } else {
        client_id.parse().ok()
    }
}

/// Where a mark stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) not_before: Timestamp,
    pub(crate) revision: u64,
}

/// When something was issued, by the measure of whoever issued it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Issued {
    /// By us: on which revision of the state, and when.
    Here { revision: u64, at: Timestamp },
    /// By others, whose clocks differ.
    Elsewhere { at: Timestamp },
}

impl Mark {
    /// Whether what was issued so is dead by this mark.
    pub(crate) fn kills(self, issued: Issued) -> bool {
        match issued {
            // Revisions decide, and no clocks are compared. Only where a state was set back, so that revisions say nothing, a
            // moment that is surely before the mark does.
            Issued::Here { revision, at } => {
                self.revision > revision || at.saturating_add(SKEW) < self.not_before
            }
            // What was issued about the time of the mark counts as dead.
            Issued::Elsewhere { at } => {
                self.not_before > Timestamp::default() && at <= self.not_before.saturating_add(SKEW)
            }
        }
    }
}

/// All marks.
#[derive(Debug, Default)]
pub(crate) struct Epochs(HashMap<Tenant, Kinds>);

#[derive(Debug, Default)]
struct Kinds {
    whole: Mark,
    principals: HashMap<Name, Mark>,
    issuers: HashMap<Name, Mark>,
    sessions: HashMap<Name, Mark>,
    grants: HashMap<Name, Mark>,
    clients: HashMap<Name, Mark>,
    devices: HashMap<Name, Mark>,
}

impl FromIterator<EpochEntry> for Epochs {
    fn from_iter<T: IntoIterator<Item = EpochEntry>>(entries: T) -> Self {
        let mut out = HashMap::<Tenant, Kinds>::new();
        for entry in entries {
            let kinds = out.entry(entry.tenant).or_default();
            let mark = match entry.kind {
                EpochKind::Tenant => &mut kinds.whole,
                EpochKind::Principal => kinds.principals.entry(entry.name).or_default(),
                EpochKind::Issuer => kinds.issuers.entry(entry.name).or_default(),
                EpochKind::Session => kinds.sessions.entry(entry.name).or_default(),
                EpochKind::Grant => kinds.grants.entry(entry.name).or_default(),
                EpochKind::Client => kinds.clients.entry(entry.name).or_default(),
                EpochKind::Device => kinds.devices.entry(entry.name).or_default(),
            };
            mark.not_before = mark.not_before.max(entry.not_before);
            mark.revision = mark.revision.max(entry.revision);
        }
        Self(out)
    }
}

impl Epochs {
    /// The mark of something; the beginning of time where there is none.
    pub(crate) fn mark(&self, tenant: &Tenant, kind: EpochKind, name: &Name) -> Mark {
        self.0.get(tenant).and_then(|kinds| kinds.of(kind, name)).copied().unwrap_or_default()
    }

    /// Whether any of `marks`, or the tenant's own, kills what was issued so.
    pub(crate) fn kill(&self, tenant: &Tenant, marks: &[(EpochKind, Name)], issued: Issued) -> bool {
        let Some(kinds) = self.0.get(tenant) else { return false };
        kinds.whole.kills(issued)
            || marks.iter().any(|(kind, name)| kinds.of(*kind, name).is_some_and(|mark| mark.kills(issued)))
    }
}

impl Kinds {
    fn of(&self, kind: EpochKind, name: &Name) -> Option<&Mark> {
        match kind {
            EpochKind::Tenant => Some(&self.whole),
            EpochKind::Principal => self.principals.get(name),
            EpochKind::Issuer => self.issuers.get(name),
            EpochKind::Session => self.sessions.get(name),
            EpochKind::Grant => self.grants.get(name),
            EpochKind::Client => self.clients.get(name),
            EpochKind::Device => self.devices.get(name),
        }
    }
}
