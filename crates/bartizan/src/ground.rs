//! What a node stands on: its data folder, its state database; and why it cannot run.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bartizan_model::action::ChangeState;
use bartizan_record::IntentRecorded;
use bartizan_store::{Checkpoints, Counters, Marks, Nodes, Rows, Store};
use bartizan_store_postgres::PostgresStore;
use bartizan_store_sqlite::{SqliteCounters, SqliteStore};

use crate::config::Config;

/// Why a node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file or folder.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process runs on the folder.
    #[error("{0}: another process runs on this data folder; one folder, one process")]
    Locked(PathBuf),
    /// The folder holds no installation.
    #[error("{0}: no installation here; run `bartizan init` first")]
    NotFounded(PathBuf),
    /// The state database was put back.
    #[error(
        "the state database is at revision {revision}, and this node has decided on {known}: it was put back, and has forgotten \
         what was revoked since; to go on all the same remove {}, start, and raise the tenant's epoch at once",
        path.display()
    )]
    PutBack {
        /// Where it is now.
        revision: u64,
        /// Where it was.
        known: u64,
        /// What remembers.
        path: PathBuf,
    },
    /// The folder holds no keys, though there is an installation: a further node's.
    #[error(
        "{0}: no keys here; a further node of an installation needs a copy of the first one's `keys` folder"
    )]
    NoKeys(PathBuf),
    /// A part that cannot start.
    #[error("{what}")]
    Part {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(crate) fn part<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl FnOnce(E) -> NodeError {
    move |source| NodeError::Part { what, source: source.into() }
}

/// How often the lock of the data folder is tried, and how long between. Whoever had it may be about to end; and a child of
/// theirs that was just made has it, too, for the moment until it becomes another program.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// The data folder, held by this process alone.
#[derive(Debug)]
pub(crate) struct DataFolder {
    pub(crate) path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Opens the folder, creating it where it is absent, and locks it.
    ///
    /// # Errors
    /// When another process holds it, and goes on holding it for half a second.
    pub(crate) fn open(path: &Path) -> Result<Self, NodeError> {
        let io = |source| NodeError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(io)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(io)?;
        for tried in 0..=LOCK_TRIES {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path: path.to_owned(), _lock: lock }),
                Err(fs::TryLockError::WouldBlock) if tried < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
                Err(fs::TryLockError::WouldBlock) => break,
                Err(fs::TryLockError::Error(source)) => return Err(io(source)),
            }
        }
        Err(NodeError::Locked(path.to_owned()))
    }
}

type StateStore = Arc<dyn Store<IntentRecorded<ChangeState>>>;

/// The state database, as its ports.
#[derive(Clone, Debug)]
pub(crate) struct StateDb {
    pub(crate) state: StateStore,
    pub(crate) checkpoints: Arc<dyn Checkpoints>,
    pub(crate) nodes: Arc<dyn Nodes>,
    pub(crate) rows: Arc<dyn Rows>,
    pub(crate) marks: Arc<dyn Marks>,
    pub(crate) counters: Arc<dyn Counters>,
}

impl StateDb {
    /// Opens the state database that `config` names.
    pub(crate) async fn open(config: &Config) -> Result<Self, NodeError> {
        if let Some(url) = &config.postgres {
            let store = Arc::new(PostgresStore::open(url).await.map_err(part("the state database"))?);
            return Ok(Self {
                state: store.clone(),
                checkpoints: store.clone(),
                rows: store.clone(),
                marks: store.clone(),
                counters: store.clone(),
                nodes: store,
            });
        }
        let (path, counts) = (config.folder.join("state.db"), config.folder.join("limits.db"));
        let opened = tokio::task::spawn_blocking(move || {
            let store = SqliteStore::open(&path).map_err(part("the state database"))?;
            Ok((store, SqliteCounters::open(&counts).map_err(part("limits.db"))?))
        });
        let (store, counters) = opened.await.map_err(part("the state database"))??;
        let store = Arc::new(store);
        Ok(Self {
            state: store.clone(),
            checkpoints: store.clone(),
            rows: store.clone(),
            marks: store.clone(),
            counters: Arc::new(counters),
            nodes: store,
        })
    }

    pub(crate) fn state(&self) -> &StateStore {
        &self.state
    }

    /// The lock store.
    pub(crate) fn checkpoints(&self) -> Arc<dyn Checkpoints> {
        self.checkpoints.clone()
    }
}
