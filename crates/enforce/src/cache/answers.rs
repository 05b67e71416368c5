//! Answers that are kept, within bounds, and who is fetching one at the moment.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bartizan_base::{Clock, Digest, Name};
use bartizan_model::{DecisionId, Label};
use bartizan_rt::Tasks;
use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;

use crate::metrics::{Cached, Metrics};

/// How often it is looked for answers that have become too old, while there are any.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// What an answer takes beside its bytes.
const BESIDE: usize = 512;

/// Bounds on what is kept.
#[derive(Clone, Copy, Debug)]
pub struct CacheBounds {
    /// Answers at once.
    pub answers_max: usize,
    /// Bytes of all of them together.
    pub bytes_max: usize,
    /// Bytes of one.
    pub answer_bytes_max: usize,
}

/// An answer that is kept: as it was released, obligations applied.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The decision by which it was fetched.
    pub(crate) of: DecisionId,
    /// Where it was fetched.
    pub(crate) upstream: Name,
    pub(crate) label: Label,
    pub(crate) content_type: HeaderValue,
    pub(crate) body: Bytes,
    /// SHA-256 of the body.
    pub(crate) digest: Digest,
    /// Matches that were redacted when it was fetched.
    pub(crate) redacted: u64,
    /// When it was whole, by the monotonic clock.
    pub(crate) at_us: u64,
    /// Until when it may be given.
    pub(crate) until_us: u64,
}

impl Kept {
    fn size(&self) -> usize {
        self.body.len().saturating_add(BESIDE)
    }
}

/// The answers that a node keeps. In memory alone: nothing of them outlives the process or reaches another node.
#[derive(Debug)]
pub(crate) struct Answers {
    bounds: CacheBounds,
    inner: Mutex<Inner>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    pub(crate) metrics: Metrics,
}

#[derive(Debug, Default)]
struct Inner {
    /// The state that they all were fetched under.
    revision: u64,
    by_key: HashMap<Digest, Arc<Kept>>,
    /// The same by when they become too old: those go first when there is no room.
    by_end: BTreeSet<(u64, Digest)>,
    bytes: usize,
    /// What is being fetched.
    flights: HashMap<Digest, watch::Receiver<()>>,
    sweeping: bool,
}

/// What is wanted of the answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: Digest,
    pub(crate) revision: u64,
    /// How old it may be, where whoever asks said that; 0 for one that is fetched now.
    pub(crate) within_us: Option<u64>,
    /// Whether to wait where somebody else is fetching it.
    pub(crate) may_wait: bool,
}

/// What there is.
#[derive(Debug)]
pub(crate) enum Found {
    /// An answer.
    Kept(Arc<Kept>),
    /// Somebody else is fetching it.
    Behind(Flight),
    /// None; what is fetched may be kept.
    Lead(Lead),
    /// None, and what is fetched is not kept: somebody else does that, or it is by a state that is over.
    Alone,
}

/// Somebody else's fetching.
#[derive(Debug)]
pub(crate) struct Flight(watch::Receiver<()>);

impl Flight {
    /// Resolves when it is over, however it ended, or `patience` is.
    pub(crate) async fn over(mut self, patience: Duration) {
        drop(tokio::time::timeout(patience, self.0.changed()).await);
    }
}

/// Leave to keep what is being fetched. When it goes, whoever waits goes on.
#[derive(Debug)]
pub(crate) struct Lead {
    answers: Arc<Answers>,
    key: Digest,
    revision: u64,
    _flight: watch::Sender<()>,
}

impl Answers {
    pub(crate) fn new(bounds: CacheBounds, clock: Arc<dyn Clock>, tasks: Tasks, metrics: Metrics) -> Self {
        Self { bounds, inner: Mutex::default(), clock, tasks, metrics }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest body that is kept, in bytes.
    pub(crate) fn body_max(&self) -> usize {
        self.bounds.answer_bytes_max.min(self.bounds.bytes_max.saturating_sub(BESIDE))
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.clock.monotonic_us()
    }

    /// Looks for an answer. Those of an earlier state go, whatever it was that changed.
    pub(crate) fn look(self: &Arc<Self>, wanted: Wanted) -> Found {
        let now = self.now_us();
        let mut inner = self.inner();
        if wanted.revision < inner.revision {
            return Found::Alone;
        }
        if wanted.revision > inner.revision {
            self.dropped(inner.clear());
            inner.revision = wanted.revision;
        }
        self.dropped(inner.sweep(now));
        let young =
            |kept: &&Arc<Kept>| wanted.within_us.is_none_or(|within| now.saturating_sub(kept.at_us) < within);
        if let Some(kept) = inner.by_key.get(&wanted.key).filter(young) {
            return Found::Kept(kept.clone());
        }
        match inner.flights.get(&wanted.key) {
            Some(flight) if wanted.may_wait && wanted.within_us.is_none() => {
                Found::Behind(Flight(flight.clone()))
            }
            Some(_) => Found::Alone,
            None => {
                let (flight, over) = watch::channel(());
                inner.flights.insert(wanted.key, over);
                let Wanted { key, revision, .. } = wanted;
                Found::Lead(Lead { answers: self.clone(), key, revision, _flight: flight })
            }
        }
    }

    fn dropped(&self, count: usize) {
        self.metrics.cached(Cached::Dropped, count as u64);
    }

    fn count(&self, inner: &Inner) {
        self.metrics.cache_holds(inner.by_key.len(), inner.bytes);
    }

    /// How many answers there are, and their bytes.
    #[cfg(test)]
    pub(crate) fn holds(&self) -> (usize, usize) {
        let inner = self.inner();
        assert_eq!(inner.by_key.len(), inner.by_end.len());
        (inner.by_key.len(), inner.bytes)
    }

    fn keep(self: &Arc<Self>, lead: &Lead, kept: Kept) {
        if kept.body.len() > self.body_max() || kept.until_us <= kept.at_us {
            return;
        }
        let mut inner = self.inner();
        if inner.revision != lead.revision {
            return;
        }
        let mut gone = inner.sweep(self.now_us());
        inner.remove(&lead.key);
        while inner.by_key.len() >= self.bounds.answers_max.max(1)
            || inner.bytes.saturating_add(kept.size()) > self.bounds.bytes_max
        {
            let Some((_, first)) = inner.by_end.first().copied() else { return };
            inner.remove(&first);
            gone += 1;
        }
        self.dropped(gone);
        inner.bytes += kept.size();
        inner.by_end.insert((kept.until_us, lead.key));
        inner.by_key.insert(lead.key, Arc::new(kept));
        self.metrics.cached(Cached::Stored, 1);
        self.count(&inner);
        if !inner.sweeping {
            inner.sweeping = true;
            self.tasks.spawn("cache", sweep(Arc::downgrade(self), self.tasks.clone()));
        }
    }
}

/// Takes out what has become too old also while nobody asks, until nothing is left.
async fn sweep(answers: Weak<Answers>, tasks: Tasks) {
    loop {
        tokio::select! {
            () = tasks.shutdown().requested() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        let Some(answers) = answers.upgrade() else { return };
        let now = answers.now_us();
        let mut inner = answers.inner();
        answers.dropped(inner.sweep(now));
        answers.count(&inner);
        if inner.by_key.is_empty() {
            inner.sweeping = false;
            return;
        }
    }
}

impl Inner {
    fn remove(&mut self, key: &Digest) {
        if let Some(kept) = self.by_key.remove(key) {
            self.by_end.remove(&(kept.until_us, *key));
            self.bytes = self.bytes.saturating_sub(kept.size());
        }
    }

    fn clear(&mut self) -> usize {
        let count = self.by_key.len();
        self.by_key.clear();
        self.by_end.clear();
        self.bytes = 0;
        // Whoever fetches by an earlier state keeps nothing, so nobody waits for them.
        self.flights.clear();
        count
    }

    fn sweep(&mut self, now_us: u64) -> usize {
        let mut count = 0;
        while let Some((until, key)) = self.by_end.first().copied()
            && until <= now_us
        {
            self.remove(&key);
            count += 1;
        }
        count
    }
}

impl Lead {
    /// Keeps what was fetched, if that may still be.
    pub(crate) fn keep(self, kept: Kept) {
        self.answers.keep(&self, kept);
    }

    pub(crate) fn answers(&self) -> &Answers {
        &self.answers
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut inner = self.answers.inner();
        // After a change of state the place may be somebody else's.
        if inner.revision == self.revision {
            inner.flights.remove(&self.key);
        }
    }
}
