//! Numbers for entities and their types. They are given out once and never again, so that everything computed from them (the
//! index of a bundle, closed ancestors) holds for every state of the entities that came from one another.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};

use cedar_policy::{EntityTypeName, EntityUid};

/// Parts of the table, so that growing one stops few readers for a short time.
const SHARDS: usize = 256;
/// Numbers from here on stand for what exists only within one ask.
pub(super) const PASSING: u32 = 1 << 31;
/// No entity.
pub(crate) const NOBODY: u32 = u32::MAX;

/// The numbers.
#[derive(Debug)]
pub(crate) struct Names {
    shards: Box<[RwLock<Table>]>,
    kinds: RwLock<HashMap<EntityTypeName, u32>>,
    hasher: RandomState,
    next: AtomicU32,
}

type Table = HashMap<Hashed, u32, BuildHasherDefault<Ready>>;

/// A name with its hash, which was computed to choose the shard.
#[derive(Debug, PartialEq, Eq)]
struct Hashed {
    hash: u64,
    uid: EntityUid,
}

impl Hash for Hashed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A name to look for, without a copy of it.
trait Sought {
    fn hashed(&self) -> (u64, &EntityUid);
}

impl Sought for Hashed {
    fn hashed(&self) -> (u64, &EntityUid) {
        (self.hash, &self.uid)
    }
}

impl Sought for (u64, &EntityUid) {
    fn hashed(&self) -> (u64, &EntityUid) {
        *self
    }
}

impl<'a> Borrow<dyn Sought + 'a> for Hashed {
    fn borrow(&self) -> &(dyn Sought + 'a) {
        self
    }
}

impl PartialEq for dyn Sought + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.hashed() == other.hashed()
    }
}

impl Eq for dyn Sought + '_ {}

impl Hash for dyn Sought + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hashed().0);
    }
}

/// Passes on a hash that was computed before; spreads a number of ours, which nobody outside chooses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(29);
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            kinds: RwLock::default(),
            hasher: RandomState::new(),
            next: AtomicU32::new(0),
        }
    }
}

impl Names {
    fn shard(&self, uid: &EntityUid) -> (u64, Option<&RwLock<Table>>) {
        let hash = self.hasher.hash_one(uid);
        // The table takes the upper and lower bits; these are between them.
        (hash, self.shards.get((hash >> 40) as usize % SHARDS))
    }

    /// The number of `uid`, if it was ever heard of.
    pub(super) fn find(&self, uid: &EntityUid) -> Option<u32> {
        let (hash, shard) = self.shard(uid);
        let sought = (hash, uid);
        shard?.read().unwrap_or_else(PoisonError::into_inner).get(&sought as &dyn Sought).copied()
    }

    /// The number of `uid`, a new one if need be. None when there are no more.
    pub(crate) fn of(&self, uid: &EntityUid) -> Option<u32> {
        let (hash, shard) = self.shard(uid);
        let sought = (hash, uid);
        let shard = shard?;
        // Nearly every name that is written was written before, and whoever reads is not held up then.
        if let Some(known) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&sought as &dyn Sought)
        {
            return Some(*known);
        }
        let mut table = shard.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get(&sought as &dyn Sought) {
            return Some(*known);
        }
        let id = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < PASSING).then_some(n + 1))
            .ok()?;
        table.insert(Hashed { hash, uid: uid.clone() }, id);
        Some(id)
    }

    /// How many were given out.
    pub(super) fn len(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// The number of a type.
    pub(crate) fn kind(&self, name: &EntityTypeName) -> u32 {
        if let Some(known) = self.kinds.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return *known;
        }
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(kinds.len()).unwrap_or(NOBODY);
        *kinds.entry(name.clone()).or_insert(next)
    }
}
