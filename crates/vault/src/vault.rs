//! The vault as a whole: its parts, how it opens, and the sweeping up after an erasure.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_base::{Digest, Random};
use bartizan_keys::Sealer;
use rusqlite::Connection;

use crate::address::TenantKey;
use crate::error::sort;
use crate::files::Files;
use crate::{VaultError, schema};

/// Personal data on one disk. Clones share it; one process has it at a time.
#[derive(Clone, Debug)]
pub struct Vault(pub(crate) Arc<Inner>);

/// What makes keys and wraps them.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) random: Arc<dyn Random>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) path: PathBuf,
    pub(crate) connection: Mutex<Connection>,
    pub(crate) files: Files,
    pub(crate) tools: Tools,
    #[cfg(test)]
    pub(crate) fault: crate::tests::Fault,
}

/// The places of an erasure where a crash is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing was done.
    Begun,
    /// Rows and key are deleted, not committed.
    Deleted,
    /// The key is gone for good.
    Committed,
    /// A payload is overwritten, its name is still there.
    Wiped,
    /// A payload is gone.
    Removed,
    /// The database and its journal hold nothing of it any more.
    Rewritten,
    /// Nothing is left to do.
    Swept,
}

/// Which files an erasure leaves to be removed.
pub(crate) enum Doomed {
    /// These.
    Named(Vec<Digest>),
    /// Whatever no row names: after a crash nobody remembers the list.
    Orphans,
}

// === impl Vault ===

impl Vault {
    /// Opens the vault of the data folder `path`, that is `vault.db` and the folder `vault`; both are made if they are
    /// not there. Completes what a crash interrupted: an erasure that had destroyed its key, payloads that were being
    /// written.
    ///
    /// # Errors
    /// `OtherKey` when it was made with another key-encryption key; `Database` when it is damaged, not ours, or newer;
    /// `Unavailable` when another process has it; `File` when the disk refuses.
    pub fn open(path: &Path, sealer: Arc<Sealer>, random: Arc<dyn Random>) -> Result<Self, VaultError> {
        Self::open_with(path, sealer, random, |_| {})
    }

    pub(crate) fn open_with(
        path: &Path,
        sealer: Arc<Sealer>,
        random: Arc<dyn Random>,
        adjust: impl FnOnce(&mut Inner),
    ) -> Result<Self, VaultError> {
        let database = path.join("vault.db");
        let connection = schema::open(&database)?;
        let tools = Tools { sealer, random };
        // A wrong key-encryption key shows here, not at the first read.
        TenantKey::all(&connection, &tools)?;
        let mut inner = Inner {
            path: database,
            connection: Mutex::new(connection),
            files: Files::open(&path.join("vault"))?,
            tools,
            #[cfg(test)]
            fault: crate::tests::Fault::default(),
        };
        adjust(&mut inner);
        let vault = Self(Arc::new(inner));
        {
            let connection = vault.0.lock();
            let orphans = vault.0.orphans(&connection)?;
            vault.0.remove(&orphans)?;
            vault.0.sweep(&connection, &Doomed::Named(Vec::new()))?;
        }
        Ok(vault)
    }
}

// === impl Inner ===

impl Inner {
    /// A panic elsewhere rolled its transaction back; the connection is as good as before.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an erasure was committed and not swept up.
    pub(crate) fn is_unswept(connection: &Connection) -> Result<bool, VaultError> {
        connection.query_row("select unswept <> 0 from housekeeping", [], |row| row.get(0)).map_err(sort)
    }

    /// Notes, in the transaction of an erasure, that there will be something to sweep.
    pub(crate) fn note_unswept(transaction: &Connection) -> Result<(), VaultError> {
        transaction.execute("update housekeeping set unswept = 1", []).map(|_| ()).map_err(sort)
    }

    /// Sweeps up after a committed erasure, if there was one. The note goes last, so that a crash at any point leads here
    /// again.
    pub(crate) fn sweep(&self, connection: &Connection, doomed: &Doomed) -> Result<(), VaultError> {
        if !Self::is_unswept(connection)? {
            return Ok(());
        }
        match doomed {
            Doomed::Named(names) => self.remove(names)?,
            Doomed::Orphans => self.remove(&self.orphans(connection)?)?,
        }
        schema::rewrite(connection, &self.path)?;
        self.step(Step::Rewritten)?;
        connection.execute("update housekeeping set unswept = 0", []).map_err(sort)?;
        self.step(Step::Swept)
    }

    /// Payload files that no row names. Files get their names and rows under the connection's lock, so one that is just
    /// being written is not among them.
    fn orphans(&self, connection: &Connection) -> Result<Vec<Digest>, VaultError> {
        let mut statement = connection.prepare("select 1 from payloads where sha256 = ?1").map_err(sort)?;
        let mut orphans = Vec::new();
        self.files.each(|name| {
            if !statement.exists([name.to_string()]).map_err(sort)? {
                orphans.push(name);
            }
            Ok(())
        })?;
        Ok(orphans)
    }

    fn remove(&self, names: &[Digest]) -> Result<(), VaultError> {
        for name in names {
            self.files.wipe(*name)?;
            self.step(Step::Wiped)?;
            self.files.remove(*name)?;
            self.step(Step::Removed)?;
        }
        Ok(())
    }

    /// Where tests crash.
    #[cfg(test)]
    pub(crate) fn step(&self, step: Step) -> Result<(), VaultError> {
        self.fault.at(step)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the tests' twin uses both")]
    pub(crate) const fn step(&self, _step: Step) -> Result<(), VaultError> {
        Ok(())
    }
}
