//! What senders, writer and sealer share.

use std::fmt;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bartizan_base::{Clock, Timestamp};
use bartizan_model::record::{Body, Outcome};
use bartizan_model::{NodeId, Tenant};

use crate::encode::Encoded;
use crate::intent::RecordError;
use crate::queue::{About, Ack, Draft, Queue};
use crate::recover::about;
use crate::spare::Freed;
use crate::tail::{Batch, Tail};
use crate::told::{self, Head};

/// What the recorder counts. Every number only grows, but for the two that say so.
#[derive(Debug, Default)]
pub struct Stats {
    /// Records made durable.
    pub records: AtomicU64,
    /// Batches, each written and synced once.
    pub syncs: AtomicU64,
    /// Bytes written to the write-ahead log.
    pub bytes: AtomicU64,
    /// How long the last batch took to write and sync, in microseconds; goes up and down.
    pub sync_us: AtomicU64,
    /// Records refused because too many were waiting, running or unsealed.
    pub refused: AtomicU64,
    /// Refusals counted instead of written.
    pub coalesced: AtomicU64,
    /// Intents whose effect has not ended; goes up and down.
    pub running: AtomicU64,
    /// Records sealed since the start.
    pub sealed: AtomicU64,
}

/// The longest pause between two batches while sealing is behind.
const PAUSE_MAX: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) node: NodeId,
    /// What the names of the logs begin with.
    pub(crate) origin: String,
    /// Whether a quorum of witnesses must have cosigned the end of a log before it is removed.
    pub(crate) witnessed: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) queue: Queue,
    pub(crate) stats: Stats,
    /// Segments of the write-ahead log that can be used again.
    pub(crate) freed: Freed,
    tail: Mutex<Tail>,
    /// What the tail says of itself, for those who do not wait for it.
    unsealed_bytes: AtomicU64,
    running: AtomicUsize,
    running_max: usize,
    unsealed_bytes_max: u64,
}

/// Room in the queue for the outcome of one intent.
pub(crate) struct OutcomeSlot(Arc<Core>);

impl fmt::Debug for OutcomeSlot {
    /// Without what everybody shares: an intent that is printed must not print other people's records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutcomeSlot")
    }
}

impl Drop for OutcomeSlot {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, AcqRel);
        self.0.stats.running.fetch_sub(1, Relaxed);
    }
}

impl Core {
    pub(crate) fn new(config: &crate::recorder::Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            node: config.node,
            origin: config.origin.clone(),
            witnessed: config.witnessed,
            clock,
            queue: Queue::new(config.queue_max),
            stats: Stats::default(),
            freed: Freed::default(),
            tail: Mutex::default(),
            unsealed_bytes: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            running_max: config.running_max,
            unsealed_bytes_max: config.unsealed_bytes_max,
        }
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch to those in memory.
    pub(crate) fn add(&self, batch: Batch) {
        let mut tail = self.tail();
        tail.push(batch);
        self.unsealed_bytes.store(tail.unsealed_bytes(), Relaxed);
    }

    /// Every batch up to the one that ends with the number `seq` is sealed.
    pub(crate) fn sealed_up_to(&self, seq: u64) {
        let mut tail = self.tail();
        tail.sealed_up_to(seq);
        self.unsealed_bytes.store(tail.unsealed_bytes(), Relaxed);
    }

    /// Reserves the room for an outcome.
    pub(crate) fn reserve(self: &Arc<Self>) -> Result<OutcomeSlot, RecordError> {
        if self.running.fetch_add(1, AcqRel) >= self.running_max {
            self.running.fetch_sub(1, AcqRel);
            return Err(self.full(RecordError::QueueFull));
        }
        self.stats.running.fetch_add(1, Relaxed);
        Ok(OutcomeSlot(self.clone()))
    }

    /// Room for the outcome of an intent of an earlier process: it is owed whatever else is running.
    pub(crate) fn reserve_always(self: &Arc<Self>) -> OutcomeSlot {
        self.running.fetch_add(1, AcqRel);
        self.stats.running.fetch_add(1, Relaxed);
        OutcomeSlot(self.clone())
    }

    /// Whether more waits to be sealed than may.
    pub(crate) fn is_behind(&self) -> bool {
        self.unsealed_bytes.load(Relaxed) > self.unsealed_bytes_max
    }

    /// Whether so much waits to be sealed that the next sealing should begin at once.
    pub(crate) fn is_pressed(&self) -> bool {
        self.unsealed_bytes.load(Relaxed) > self.unsealed_bytes_max / 4
    }

    /// How long the writer waits before its next batch, so that sealing keeps up and nobody has to be refused.
    pub(crate) fn pause(&self) -> Duration {
        pause(self.unsealed_bytes.load(Relaxed), self.unsealed_bytes_max)
    }

    fn full(&self, error: RecordError) -> RecordError {
        self.stats.refused.fetch_add(1, Relaxed);
        error
    }

    /// Encodes a record and puts it in the queue.
    pub(crate) fn submit(
        &self,
        tenant: &Tenant,
        time: Timestamp,
        body: &Body,
        ack: Ack,
    ) -> Result<(), RecordError> {
        self.submit_told(tenant, time, about(body), ack, |head| told::encode(head, body))
    }

    /// The same for a record that `encode` encodes.
    pub(crate) fn submit_told(
        &self,
        tenant: &Tenant,
        time: Timestamp,
        about: About,
        ack: Ack,
        encode: impl FnOnce(Head<'_>) -> Result<Encoded, RecordError>,
    ) -> Result<(), RecordError> {
        if self.is_behind() {
            return Err(self.full(RecordError::SealingBehind));
        }
        let encoded = encode(Head { tenant, node: self.node, time })?;
        self.queue.push(Draft { tenant: tenant.clone(), time, encoded, about, ack }).map_err(|error| {
            match error {
                RecordError::QueueFull => self.full(error),
                other => other,
            }
        })
    }

    /// Puts an outcome in the queue, which has room for it.
    pub(crate) fn submit_outcome(&self, tenant: &Tenant, outcome: Outcome, slot: OutcomeSlot) {
        let pushed = self
            .draft(tenant, self.clock.now(), &Body::Outcome(outcome), Ack::Outcome(slot))
            .and_then(|draft| self.queue.push(draft));
        if let Err(error) = pushed {
            tracing::error!(%error, "an outcome could not be recorded; the next start tells it as unknown");
        }
    }

    pub(crate) fn draft(
        &self,
        tenant: &Tenant,
        time: Timestamp,
        body: &Body,
        ack: Ack,
    ) -> Result<Draft, RecordError> {
        let encoded = told::encode(Head { tenant, node: self.node, time }, body)?;
        Ok(Draft { tenant: tenant.clone(), time, encoded, about: about(body), ack })
    }
}

/// Nothing up to half of what may wait to be sealed, from there on more with every byte, up to [`PAUSE_MAX`]. What it is
/// depends on the backlog alone: a sealer that stands still ends in a refusal, never in an endless wait.
fn pause(unsealed: u64, unsealed_max: u64) -> Duration {
    let half = unsealed_max / 2;
    let over = unsealed.saturating_sub(half).min(half);
    let us = u128::from(over).saturating_mul(PAUSE_MAX.as_micros()) / u128::from(half.max(1));
    Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
}

impl OutcomeSlot {
    pub(crate) const fn core(&self) -> &Arc<Core> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{PAUSE_MAX, pause};

    #[test]
    fn the_writer_slows_down_before_anybody_is_refused() {
        assert_eq!(pause(0, 1_000), Duration::ZERO);
        assert_eq!(pause(500, 1_000), Duration::ZERO);
        assert_eq!(pause(750, 1_000), PAUSE_MAX / 2);
        assert_eq!(pause(1_000, 1_000), PAUSE_MAX);
        assert_eq!(pause(u64::MAX, 1_000), PAUSE_MAX, "what is owed is written all the same");
        assert_eq!(pause(5, 0), Duration::ZERO, "without a bound there is nothing to keep to");
    }
}
