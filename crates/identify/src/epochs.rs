//! "Not before" marks, found without a copy of anything.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::Duration;

use bartizan_base::shared::Map;
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

/// How epochs, records and [`crate::Caller::client`] name a client program: by its id where that is a name and no address, else by
/// the digest of it.
#[must_use]
pub fn client_mark(client_id: &str) -> Option<Name> {
    let name = client_id.parse().ok().filter(|_| !client_id.starts_with("https:"));
    name.or_else(|| format!("sha256:{}", Digest::of(client_id.as_bytes())).parse().ok())
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

/// By what a mark is found: a digest of tenant, kind and name. Those of a token are worked out once, and then lie side by side,
/// so that looking them up follows no pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarkKey([u8; 8], [u8; 8]);

impl MarkKey {
    pub(crate) fn of(tenant: &Tenant, kind: EpochKind, name: &Name) -> Self {
        // No name holds a zero byte.
        let parts: [&[u8]; 4] =
            [&[kind as u8], tenant.0.as_str().as_bytes(), b"\0", name.as_str().as_bytes()];
        let digest = Digest::of_parts(&parts);
        let mut halves = digest.as_bytes().chunks_exact(8).map(|half| half.try_into().unwrap_or_default());
        Self(halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
    }
}

impl Hash for MarkKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_ne_bytes(self.0));
    }
}

/// Takes a part of a digest for the hash that it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only keys that write whole numbers are hashed so; anything else is hashed badly, never wrongly.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// All marks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Epochs {
    all: Map<MarkKey, Mark, BuildHasherDefault<Prehashed>>,
    tenants: Map<Tenant, Mark>,
}

impl Epochs {
    pub(crate) fn add(&mut self, entry: &EpochEntry) {
        let move_on = |mark: Option<&Mark>| {
            let mark = mark.copied().unwrap_or_default();
            Mark {
                not_before: mark.not_before.max(entry.not_before),
                revision: mark.revision.max(entry.revision),
            }
        };
        let key = MarkKey::of(&entry.tenant, entry.kind, &entry.name);
        self.all.insert(key, move_on(self.all.get(&key)));
        if entry.kind == EpochKind::Tenant && entry.name == entry.tenant.0 {
            self.tenants.insert(entry.tenant.clone(), move_on(self.tenants.get(&entry.tenant)));
        }
    }

    /// The mark of a whole tenant; the beginning of time where there is none.
    pub(crate) fn tenant(&self, tenant: &Tenant) -> Mark {
        self.tenants.get(tenant).copied().unwrap_or_default()
    }

    /// Whether any of `marks` kills what was issued so.
    pub(crate) fn kill(&self, marks: &[MarkKey], issued: Issued) -> bool {
        marks.iter().any(|key| self.all.get(key).is_some_and(|mark| mark.kills(issued)))
    }
}
