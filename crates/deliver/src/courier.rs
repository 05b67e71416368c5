//! Takes batches from a source to one destination, each at least once and in order.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Clock, Random, Timestamp};
use bartizan_rt::Shutdown;

use crate::backoff::Backoff;
use crate::batch::{Batch, Cause, DeliverError, Position, Sink, Source, Want};
use crate::letters::DeadLetters;
use crate::position::{Positions, Progress};

/// How a courier works.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many entries a batch covers at the most.
    pub records_max: u32,
    /// How long a batch's body is at the most, in bytes. One batch is held at a time.
    pub bytes_max: usize,
    /// How long to wait after nothing was new.
    pub idle: Duration,
    /// How long one try may take.
    pub patience: Duration,
    /// How long a try that is under way may go on once the end was asked for.
    pub grace: Duration,
    /// How long to wait after a failure.
    pub backoff: Backoff,
    /// After how many failed tries a batch becomes a dead letter; none means that it is tried for ever and keeps those behind
    /// it waiting, which loses nothing: they lie in the ledger.
    pub tries_max: Option<NonZeroU32>,
}

impl Default for Config {
    /// Batches of 500 entries or 512 KiB, tried for ever.
    fn default() -> Self {
        Self {
            records_max: 500,
            bytes_max: 512 << 10,
            idle: Duration::from_secs(1),
            patience: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            backoff: Backoff::default(),
            tries_max: None,
        }
    }
}

/// How a destination is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// How far it has come.
    pub done: Option<Position>,
    /// How many entries lie behind that.
    pub behind: u64,
    /// Batches delivered since the start.
    pub batches: u64,
    /// Records delivered since the start.
    pub records: u64,
    /// When a batch was last delivered.
    pub last_success: Option<Timestamp>,
    /// What failed since the start: deliveries, and reading or storing on the way there.
    pub failures: u64,
    /// How much of that in a row.
    pub failures_in_a_row: u32,
    /// Why it last failed; none if nothing has since it last went well.
    pub failing: Option<Cause>,
    /// How many dead letters there are.
    pub dead_letters: u64,
}

/// Reads the health of a running courier.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Mutex<Health>>);

/// What a courier works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where batches come from.
    pub source: Arc<dyn Source>,
    /// Where they go.
    pub sink: Arc<dyn Sink>,
    /// Keeps how far it has come.
    pub positions: Arc<dyn Positions>,
    /// Keeps what is refused.
    pub letters: DeadLetters,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Spreads the waits.
    pub random: Arc<dyn Random>,
}

/// Serves one destination.
///
/// A position is stored only once its batch is delivered or parked, so that nothing is lost; a process that dies in between
/// delivers that one batch again, under the same id.
#[derive(Debug)]
pub struct Courier {
    parts: Parts,
    config: Config,
    pulse: Pulse,
    shutdown: Shutdown,
}

/// The end was asked for.
struct Ended;

// === impl Pulse ===

impl Pulse {
    /// How the destination is doing now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

// === impl Courier ===

impl Courier {
    /// A courier that ends when `shutdown` is requested.
    #[must_use]
    pub fn new(parts: Parts, config: Config, shutdown: Shutdown) -> Self {
        Self { parts, config, pulse: Pulse::default(), shutdown }
    }

    /// Reads how the destination is doing, also while [`Courier::run`] runs.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Delivers until the end is asked for. Whatever fails is tried again; nothing is passed over.
    pub async fn run(self) {
        // Nothing to tell: the end is the only way out.
        let (Ok(()) | Err(Ended)) = self.work().await;
    }

    async fn work(&self) -> Result<(), Ended> {
        let mut progress = self.again("the position is read", || self.parts.positions.load()).await?;
        self.pulse.set(|health| health.done = progress.done.clone());
        self.count_letters().await;
        loop {
            let batch = self.next(&progress).await?;
            let last = Some(batch.last().clone());
            if batch.records > 0 {
                if progress.trying != last {
                    // Before the first try: after a crash the same range is asked for, and its id stays.
                    progress.trying.clone_from(&last);
                    self.store(&progress).await?;
                }
                self.deliver(&batch).await?;
            }
            progress = Progress { done: last, trying: None };
            self.store(&progress).await?;
            self.pulse.set(|health| health.done = progress.done.clone());
        }
    }

    /// The next batch, waited for.
    async fn next(&self, progress: &Progress) -> Result<Batch, Ended> {
        let want = Want {
            after: progress.done.clone(),
            until: progress.trying.clone(),
            records_max: self.config.records_max,
            bytes_max: self.config.bytes_max,
        };
        loop {
            let found = self
                .again("records are read", || async {
                    let behind = self.parts.source.behind(want.after.as_ref()).await?;
                    self.pulse.set(|health| health.behind = behind);
                    match self.parts.source.next(&want).await? {
                        Some(batch) if !batch.fits(&want) => Err(ReadFailure::Misfit),
                        found => Ok(found),
                    }
                })
                .await?;
            match found {
                Some(batch) => return Ok(batch),
                None => self.wait(self.config.idle).await?,
            }
        }
    }

    /// Delivers the batch or parks it.
    async fn deliver(&self, batch: &Batch) -> Result<(), Ended> {
        let mut tries = 0_u32;
        loop {
            let (after, cause) = match self.attempt(batch).await? {
                Ok(()) => {
                    self.delivered(batch);
                    return Ok(());
                }
                Err(DeliverError::Refused { cause }) => return self.park(batch, &cause).await,
                Err(DeliverError::Retry { after, cause }) => (after, cause),
            };
            let failures = self.failed("a batch is delivered", &cause);
            tries = tries.saturating_add(1);
            if self.config.tries_max.is_some_and(|max| tries >= max.get()) {
                return self.park(batch, &cause).await;
            }
            self.wait(self.config.backoff.wait(failures, after, self.parts.random.as_ref())).await?;
        }
    }

    /// One try. Once the end was asked for it may go on for the time of grace.
    async fn attempt(&self, batch: &Batch) -> Result<Result<(), DeliverError>, Ended> {
        let end = async {
            self.shutdown.requested().await;
            tokio::time::sleep(self.config.grace).await;
        };
        tokio::select! {
            biased;
            tried = tokio::time::timeout(self.config.patience, self.parts.sink.deliver(batch)) => {
                Ok(tried.unwrap_or_else(|_| Err(DeliverError::retry("no answer in time"))))
            }
            () = end => Err(Ended),
        }
    }

    async fn park(&self, batch: &Batch, cause: &Cause) -> Result<(), Ended> {
        tracing::warn!(batch = %batch.id(), %cause, "a batch is not taken and becomes a dead letter");
        self.pulse.set(|health| health.failures = health.failures.saturating_add(1));
        let now = self.parts.clock.now();
        self.again("a dead letter is kept", || self.parts.letters.park(batch, cause, now)).await?;
        self.count_letters().await;
        Ok(())
    }

    /// Also when the end was asked for it is tried once: what is delivered should not come again.
    async fn store(&self, progress: &Progress) -> Result<(), Ended> {
        self.again("the position is stored", || self.parts.positions.store(progress)).await
    }

    /// Tries until it succeeds, at least once.
    async fn again<T, E, F>(&self, what: &'static str, mut work: impl FnMut() -> F) -> Result<T, Ended>
    where
        E: std::error::Error + 'static,
        F: Future<Output = Result<T, E>>,
    {
        loop {
            match work().await {
                Ok(value) => {
                    self.well();
                    return Ok(value);
                }
                Err(error) => {
                    let failures = self.failed(what, &Cause::chain(&error));
                    self.wait(self.config.backoff.wait(failures, None, self.parts.random.as_ref())).await?;
                }
            }
        }
    }

    async fn wait(&self, time: Duration) -> Result<(), Ended> {
        tokio::select! {
            biased;
            () = self.shutdown.requested() => Err(Ended),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    async fn count_letters(&self) {
        match self.parts.letters.count().await {
            Ok(count) => self.pulse.set(|h| h.dead_letters = u64::try_from(count).unwrap_or(u64::MAX)),
            Err(error) => {
                self.failed("dead letters are counted", &Cause::chain(&error));
            }
        }
    }

    fn delivered(&self, batch: &Batch) {
        let now = self.parts.clock.now();
        self.pulse.set(|health| {
            health.batches = health.batches.saturating_add(1);
            health.records = health.records.saturating_add(u64::from(batch.records));
            health.last_success = Some(now);
        });
        self.well();
    }

    fn well(&self) {
        self.pulse.set(|health| {
            health.failures_in_a_row = 0;
            health.failing = None;
        });
    }

    /// Counts a failure and gives how many there were in a row.
    fn failed(&self, what: &'static str, cause: &Cause) -> u32 {
        tracing::warn!(%cause, "failed while {what}");
        let mut in_a_row = 0;
        self.pulse.set(|health| {
            health.failures = health.failures.saturating_add(1);
            health.failures_in_a_row = health.failures_in_a_row.saturating_add(1);
            health.failing = Some(cause.clone());
            in_a_row = health.failures_in_a_row;
        });
        in_a_row
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadFailure {
    #[error(transparent)]
    Source(#[from] crate::batch::SourceError),
    #[error("the batch that was read is not the one that comes next")]
    Misfit,
}
