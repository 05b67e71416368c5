//! Counts that limits reserve from: kept beside the state, changed many times a second, and never part of a revision.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{DetailId, Tenant};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use crate::StoreError;

/// The longest key of a count, in bytes.
pub const COUNTER_KEY_MAX: usize = 128;

/// A count, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterRow {
    /// The JSON of whoever counts.
    pub body: String,
    /// From when on it may be swept.
    pub expires: Timestamp,
}

/// What is done with counts while nobody else may touch them; says whether what became of them is to be kept.
pub type CounterWork = Box<dyn FnOnce(&mut BTreeMap<String, CounterRow>) -> bool + Send>;

/// Counts by key.
///
/// Contract: of two who work on a count at the same time, wherever they are, one sees what the other left. What an `Ok`
/// acknowledges survives a crash of the process; the last moments before a power cut may be forgotten.
pub trait Counters: Debug + Send + Sync {
    /// Hands the counts of `keys`, those that there are, to `work`, and keeps what that makes of them.
    fn work(&self, keys: BTreeSet<String>, work: CounterWork) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Removes at most `limit` counts that expired before `now`, and says how many it removed.
    fn sweep_counters(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>>;
}

/// The key of the count of an exact thing that was allowed a number of times: its body is the number of uses.
#[must_use]
pub fn detail_key(tenant: &Tenant, id: DetailId) -> String {
    format!("detail:{}", Digest::of_parts(&[tenant.0.as_bytes(), b"\0", id.to_string().as_bytes()]))
}

/// Counts in memory: for tests, and for what need not outlive the process.
#[derive(Debug, Default)]
pub struct MemoryCounters(Mutex<BTreeMap<String, CounterRow>>);

impl Counters for MemoryCounters {
    fn work(&self, keys: BTreeSet<String>, work: CounterWork) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut given: BTreeMap<String, CounterRow> =
            keys.iter().filter_map(|key| Some((key.clone(), all.get(key)?.clone()))).collect();
        if work(&mut given) {
            all.extend(given);
        }
        ready(Ok(())).boxed()
    }

    fn sweep_counters(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over: Vec<String> =
            all.iter().filter(|(_, row)| row.expires < now).take(limit).map(|(key, _)| key.clone()).collect();
        over.iter().for_each(|key| drop(all.remove(key)));
        ready(Ok(over.len())).boxed()
    }
}
