//! The handle: what is kept goes in here, what is found comes out.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Clock, Digest, Name, Random, Timestamp};
use bartizan_decide::{KeptAsk, NotReplayable, Snapshot};
use bartizan_model::{DecisionId, PrincipalId, Tenant};
use bartizan_store::State;
use bartizan_vault::Vault;

use crate::file::{self, File, SlicesError};
use crate::seal::{Keys, Opened};
use crate::writer::{Job, Writer};

/// How slices are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where: `slices/` in the data folder.
    pub folder: PathBuf,
    /// How long.
    pub keep_for: Duration,
    /// In how many bytes; beyond that the oldest go.
    pub bytes_max: u64,
    /// How many decisions may wait to be kept.
    pub queue_max: usize,
}

/// A decision of which is kept what replay needs.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Whose house.
    pub tenant: Tenant,
    /// Which.
    pub decision: DecisionId,
    /// The ask.
    pub ask: Arc<KeptAsk>,
    /// What it was decided on.
    pub snapshot: Arc<Snapshot>,
    /// The directory of that moment: who stands behind the names in it.
    pub state: Arc<State>,
    /// The digest of the entities in reach, as the record has it.
    pub slice: Digest,
}

/// What was found of a decision.
#[derive(Clone, Debug)]
pub struct Found {
    /// The ask.
    pub ask: KeptAsk,
    /// The digest of the entities that were in reach.
    pub slice: Digest,
    /// The entities that were in reach.
    pub documents: Vec<Vec<u8>>,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Stats {
    /// Decisions kept.
    pub kept: AtomicU64,
    /// Decisions that were not, since the queue was full or the disk failed.
    pub lost: AtomicU64,
    /// Bytes in use at the last look.
    pub bytes: AtomicU64,
    /// Microseconds the writing thread worked.
    pub worked_us: AtomicU64,
}

/// What replay needs, kept. Clones share it.
#[derive(Clone)]
pub struct Slices(Arc<Inner>);

pub(crate) struct Inner {
    jobs: SyncSender<Job>,
    reader: Mutex<File>,
    keys: Arc<Keys>,
    stats: Arc<Stats>,
}

impl fmt::Debug for Slices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slices").field("stats", &self.0.stats).finish_non_exhaustive()
    }
}

/// The name that a kept ask or entity is sealed for.
pub(crate) fn sealed_for(what: &str, id: &dyn fmt::Display) -> Name {
    format!("{what}-{id}").parse().unwrap_or_else(|_| Name::literal("unnamed"))
}

impl Slices {
    /// Opens the folder and begins to write.
    ///
    /// # Errors
    /// When the database cannot be used or no thread be had.
    pub fn open(
        settings: &Settings,
        vault: Vault,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, SlicesError> {
        let folder: &Path = &settings.folder;
        let (writer, reader) = (File::open(folder)?, File::open(folder)?);
        let keys = Arc::new(Keys::new(vault, random));
        let stats = Arc::new(Stats::default());
        let (jobs, waiting) = sync_channel(settings.queue_max.max(1));
        let writer = Writer {
            file: writer,
            keys: keys.clone(),
            clock,
            stats: stats.clone(),
            keep_for: settings.keep_for,
            bytes_max: settings.bytes_max,
            known: HashSet::new(),
        };
        let thread = std::thread::Builder::new().name("bartizan-slices".to_owned());
        thread.spawn(move || writer.run(&waiting)).map_err(SlicesError::Io)?;
        Ok(Self(Arc::new(Inner { jobs, reader: Mutex::new(reader), keys, stats })))
    }

    /// Keeps what replay needs of a decision: soon, not now. Never waits.
    pub fn keep(&self, keep: Keep) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.0.jobs.try_send(Job::Keep(keep))
        {
            self.0.stats.lost.fetch_add(1, Relaxed);
        }
    }

    /// Waits until everything that was to be kept is on the disk. Blocks.
    ///
    /// # Errors
    /// `Closed` when the writing thread is gone.
    pub fn flush(&self) -> Result<(), SlicesError> {
        let (done, wait) = sync_channel(1);
        self.0.jobs.send(Job::Flush(done)).map_err(|_| SlicesError::Closed)?;
        wait.recv().map_err(|_| SlicesError::Closed)
    }

    /// Lets go what is too old or too much as of `now`. Blocks.
    ///
    /// # Errors
    /// `Closed` when the writing thread is gone.
    pub fn tidy(&self, now: Timestamp) -> Result<(), SlicesError> {
        let (done, wait) = sync_channel(1);
        self.0.jobs.send(Job::Tidy(now, done)).map_err(|_| SlicesError::Closed)?;
        wait.recv().map_err(|_| SlicesError::Closed)
    }

    /// Somebody was erased: what is kept of them from now on is under a new key. Blocks while the queue is full.
    pub fn forget(&self, tenant: &Tenant, subject: PrincipalId) {
        self.0.keys.forget(tenant, subject);
        // Without its thread nothing is kept any more, under whatever key.
        drop(self.0.jobs.send(Job::Forget(tenant.clone(), subject)));
    }

    /// What was kept of a decision, or why nothing of it can be had. Blocks.
    ///
    /// # Errors
    /// When database or vault fail.
    pub fn find(
        &self,
        tenant: &Tenant,
        decision: DecisionId,
    ) -> Result<Result<Found, NotReplayable>, SlicesError> {
        match self.try_find(tenant, decision) {
            Err(SlicesError::Damaged(what)) => {
                tracing::error!(what, %decision, "what was kept for replay is damaged");
                Ok(Err(NotReplayable::Damaged))
            }
            found => found,
        }
    }

    fn try_find(
        &self,
        tenant: &Tenant,
        decision: DecisionId,
    ) -> Result<Result<Found, NotReplayable>, SlicesError> {
        let reader = self.0.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = reader.connection();
        let Some((slice, sealed)) = file::ask(connection, tenant, decision)? else {
            let expired = decision.timestamp() < file::expired_before(connection)?;
            return Ok(Err(if expired { NotReplayable::Expired } else { NotReplayable::SliceMissing }));
        };
        let nodes = file::nodes(connection, tenant, slice)?;
        drop(reader);
        let ask = match self.0.keys.open(tenant, &sealed_for("ask", &decision), &sealed)? {
            Opened::Bytes(bytes) => serde_json::from_slice(&bytes),
            Opened::Gone => return Ok(Err(NotReplayable::Erased)),
        };
        let ask = ask.map_err(|_| SlicesError::Damaged("an ask"))?;
        let Some(nodes) = nodes else { return Ok(Err(NotReplayable::SliceMissing)) };
        let mut documents = Vec::with_capacity(nodes.len());
        for (node, sealed) in nodes {
            match self.0.keys.open(tenant, &sealed_for("node", &node), &sealed)? {
                Opened::Bytes(bytes) if Digest::of(&bytes) == node => documents.push(bytes),
                Opened::Bytes(_) => return Err(SlicesError::Damaged("an entity")),
                Opened::Gone => return Ok(Err(NotReplayable::Erased)),
            }
        }
        Ok(Ok(Found { ask, slice, documents }))
    }

    /// What is counted.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }
}
