//! The newest records in memory: what is not sealed yet, and a bounded number of sealed ones for those who ask right
//! after the fact.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{DecisionId, Tenant};

use crate::queue::About;

/// Sealed records that are kept for quick answers.
const SEALED_KEPT: usize = 4_096;

/// A durable record.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) seq: u64,
    pub(crate) tenant: Tenant,
    pub(crate) time: Timestamp,
    pub(crate) about: About,
    pub(crate) entry: Arc<[u8]>,
    pub(crate) leaf: Digest,
    /// Its place in its log, once it is sealed.
    pub(crate) index: Option<u64>,
}

impl Written {
    /// The decision it belongs to, also as its outcome.
    pub(crate) const fn decision(&self) -> Option<DecisionId> {
        match self.about {
            About::Intent(id) | About::Refusal(id) | About::Outcome(id) => Some(id),
            About::System => None,
        }
    }
}

/// The newest records, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    records: VecDeque<Written>,
    /// How many of them, from the front, are sealed.
    sealed: usize,
    unsealed_bytes: u64,
}

impl Tail {
    pub(crate) fn extend(&mut self, written: impl IntoIterator<Item = Written>) {
        for record in written {
            self.unsealed_bytes += record.entry.len() as u64;
            self.records.push_back(record);
        }
    }

    /// At most `count` records that are not sealed yet, the oldest first.
    pub(crate) fn unsealed(&self, count: usize) -> Vec<Written> {
        self.records.iter().skip(self.sealed).take(count).cloned().collect()
    }

    /// Bytes of entries that are not sealed yet.
    pub(crate) const fn unsealed_bytes(&self) -> u64 {
        self.unsealed_bytes
    }

    /// Everything up to the number `seq` is sealed, at `places` (by number) as far as they are known.
    pub(crate) fn sealed_up_to(&mut self, seq: u64, places: &BTreeMap<u64, u64>) {
        while let Some(record) = self.records.get_mut(self.sealed).filter(|r| r.seq <= seq) {
            record.index = places.get(&record.seq).copied();
            self.unsealed_bytes = self.unsealed_bytes.saturating_sub(record.entry.len() as u64);
            self.sealed += 1;
        }
        while self.sealed > SEALED_KEPT {
            self.records.pop_front();
            self.sealed -= 1;
        }
    }

    /// Records of `tenant` that `wanted` accepts, the newest first.
    pub(crate) fn newest<'a>(
        &'a self,
        tenant: &'a Tenant,
        wanted: impl Fn(&Written) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Written> {
        self.records.iter().rev().filter(move |r| r.tenant == *tenant && wanted(r))
    }
}
