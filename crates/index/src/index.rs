//! The index of one tenant.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_base::{Clock, Digest};
use bartizan_model::Tenant;
use rusqlite::{Connection, OptionalExtension as _};

use crate::error::IndexError;
use crate::file;

/// How many connections wait for the next search.
const READERS_MAX: usize = 4;

/// An index of one tenant's logs. Searches run beside each other and beside one writer. Everything blocks: call it on
/// a pool that may.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    pub(crate) tenant: Tenant,
    pub(crate) clock: Arc<dyn Clock>,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Index {
    /// Opens the index of `tenant` at `path`, or makes an empty one (mode 0600). The clock bounds how long searches take.
    ///
    /// # Errors
    /// `Unusable` when the file is damaged, of another version, tenant or program; `Unavailable` when it cannot be
    /// opened or another process holds it.
    pub fn open(path: &Path, tenant: Tenant, clock: Arc<dyn Clock>) -> Result<Self, IndexError> {
        let writer = Mutex::new(file::writer(path, &tenant)?);
        Ok(Self { path: path.to_owned(), tenant, clock, writer, readers: Mutex::default() })
    }

    /// Removes what is at `path`, whatever it is, and makes an empty index there. No other [`Index`] may have it open.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be removed or made.
    pub fn rebuild(path: &Path, tenant: Tenant, clock: Arc<dyn Clock>) -> Result<Self, IndexError> {
        file::remove(path)?;
        Self::open(path, tenant, clock)
    }

    /// How many entries of the log `origin` are indexed: the next to ingest.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn position(&self, origin: &str) -> Result<u64, IndexError> {
        let writer = self.writer();
        let mut statement = writer.prepare_cached("select size from logs where origin = ?1")?;
        Ok(statement.query_row([origin], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    /// Forgets everything; what follows is to ingest all logs again.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn clear(&self) -> Result<(), IndexError> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        transaction.execute_batch(
            "delete from entries; delete from lists; delete from logs; \
             insert into words (words) values ('delete-all');",
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// The one connection that writes. A panic elsewhere rolled its transaction back.
    pub(crate) fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to read with.
    pub(crate) fn reader(&self) -> Result<Connection, IndexError> {
        let waiting = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        waiting.map_or_else(|| file::reader(&self.path), Ok)
    }

    /// Keeps a connection for the next search.
    pub(crate) fn keep_reader(&self, connection: Connection) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_MAX {
            readers.push(connection);
        }
    }
}

/// The number of a log: the same in every index, so that entries of one moment keep their order over a rebuild. It has
/// 52 bits, which every JSON reader keeps exactly; two logs with one number are refused when they are taken in.
pub(crate) fn log_id(origin: &str) -> i64 {
    let digest = Digest::of(origin.as_bytes());
    let start = u64::from_be_bytes(digest.as_bytes().first_chunk().copied().unwrap_or_default());
    i64::try_from(start >> 12).unwrap_or(0)
}
