//! The newest records in memory: what is not sealed yet, and a bounded number of sealed ones for those who ask right
//! after the fact. They are kept in the batches in which they were written, so that whoever reads many of them holds the
//! lock for a moment only.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{DecisionId, Tenant};

use crate::queue::About;

/// Sealed records that are kept for quick answers.
const SEALED_KEPT: usize = 4_096;

/// The bytes of an entry, within those of the batch in which it was written.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    batch: Arc<Vec<u8>>,
    at: Range<usize>,
}

impl Entry {
    /// The entry that stands at `at` of `batch`.
    pub(crate) const fn new(batch: Arc<Vec<u8>>, at: Range<usize>) -> Self {
        Self { batch, at }
    }
}

impl Deref for Entry {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.batch.get(self.at.clone()).unwrap_or_default()
    }
}

/// A durable record.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) seq: u64,
    pub(crate) tenant: Tenant,
    pub(crate) time: Timestamp,
    pub(crate) about: About,
    pub(crate) entry: Entry,
    pub(crate) leaf: Digest,
    /// Its place in its log, once it is sealed.
    pub(crate) index: OnceLock<u64>,
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

/// Records that became durable together, in the order of their numbers; never empty.
pub(crate) type Batch = Arc<[Written]>;

/// The newest records, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    batches: VecDeque<Batch>,
    /// How many batches, from the front, are sealed, and how many records they hold.
    sealed: (usize, usize),
    unsealed_bytes: u64,
}

fn bytes_of(batch: &Batch) -> u64 {
    batch.iter().map(|record| record.entry.len() as u64).sum()
}

impl Tail {
    pub(crate) fn push(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.unsealed_bytes += bytes_of(&batch);
            self.batches.push_back(batch);
        }
    }

    /// The oldest batches that are not sealed yet and begin with a number up to `last`: as many as have `count` records,
    /// and at least one.
    pub(crate) fn unsealed(&self, count: usize, last: u64) -> Vec<Batch> {
        let mut records = 0;
        let batches = self.batches.iter().skip(self.sealed.0).take_while(|batch| {
            let room = records < count && batch.first().is_some_and(|record| record.seq <= last);
            records += batch.len();
            room
        });
        batches.cloned().collect()
    }

    /// The number of the newest record; 0 for none.
    pub(crate) fn last_seq(&self) -> u64 {
        self.batches.back().and_then(|batch| batch.last()).map_or(0, |record| record.seq)
    }

    /// Bytes of entries that are not sealed yet.
    pub(crate) const fn unsealed_bytes(&self) -> u64 {
        self.unsealed_bytes
    }

    /// Every batch up to the one that ends with the number `seq` is sealed.
    pub(crate) fn sealed_up_to(&mut self, seq: u64) {
        let is_sealed = |batch: &&Batch| batch.last().is_some_and(|record| record.seq <= seq);
        while let Some(batch) = self.batches.get(self.sealed.0).filter(is_sealed) {
            self.unsealed_bytes = self.unsealed_bytes.saturating_sub(bytes_of(batch));
            self.sealed = (self.sealed.0 + 1, self.sealed.1 + batch.len());
        }
        while self.sealed.1 > SEALED_KEPT
            && let Some(batch) = self.batches.pop_front()
        {
            self.sealed = (self.sealed.0.saturating_sub(1), self.sealed.1.saturating_sub(batch.len()));
        }
    }

    /// Everything, the newest batch first.
    pub(crate) fn newest(&self) -> Vec<Batch> {
        self.batches.iter().rev().cloned().collect()
    }
}
