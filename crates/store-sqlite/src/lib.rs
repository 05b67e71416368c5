//! The embedded state database: one SQLite file, written through, one writer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::KeyId;
use bartizan_store::{Change, Checkpoints, Founding, RowKey, State, Store, StoreError, Warrant, row_changes};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params};

/// Numbered once, never changed: what each version of the schema adds to the one before.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE revision (only INTEGER PRIMARY KEY CHECK (only = 1), value INTEGER NOT NULL) STRICT;
    INSERT INTO revision VALUES (1, 0);
    CREATE TABLE state (
        noun TEXT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (noun, tenant, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE checkpoint (log TEXT PRIMARY KEY, size INTEGER NOT NULL, root TEXT NOT NULL) STRICT, WITHOUT ROWID;
"];

/// How long another holder of the file is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A state database in one file.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
}

fn unavailable(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Unavailable(Box::new(error)),
    }
}

impl SqliteStore {
    /// Opens the file, creating it where it is absent, and brings its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path).map_err(unavailable)?;
        connection.busy_timeout(PATIENCE).map_err(unavailable)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(unavailable)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(unavailable)?;
        migrate(&mut connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let connection = self.connection.clone();
        let job = move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner));
        async move {
            tokio::task::spawn_blocking(job)
                .await
                .unwrap_or_else(|e| Err(StoreError::Unavailable(Box::new(e))))
        }
        .boxed()
    }

    /// Changes the state in one transaction.
    fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.run(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
            let (revision, before) = rows(&transaction)?;
            let mut state = State::from_rows(revision, before.clone())?;
            let value = work(&mut state)?;
            write(&transaction, &before, &state).map_err(unavailable)?;
            transaction.commit().map_err(unavailable)?;
            Ok(value)
        })
    }
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
    let version: usize =
        transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(unavailable)?;
    let Some(missing) = MIGRATIONS.get(version..) else {
        return Err(StoreError::Corrupt(format!(
            "its schema has version {version}, which is newer than this program"
        )));
    };
    for migration in missing {
        transaction.execute_batch(migration).map_err(unavailable)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(unavailable)?;
    transaction.commit().map_err(unavailable)
}

fn rows(connection: &Connection) -> Result<(u64, BTreeMap<RowKey, String>), StoreError> {
    let revision =
        connection.query_row("SELECT value FROM revision", [], |row| row.get(0)).map_err(unavailable)?;
    let mut statement =
        connection.prepare_cached("SELECT noun, tenant, key, value FROM state").map_err(unavailable)?;
    let found = statement
        .query_map([], |row| Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get(3)?)))
        .map_err(unavailable)?;
    let rows = found.collect::<Result<_, _>>().map_err(unavailable)?;
    Ok((revision, rows))
}

fn write(
    transaction: &Transaction<'_>,
    before: &BTreeMap<RowKey, String>,
    state: &State,
) -> rusqlite::Result<()> {
    let (written, removed) = row_changes(before, &state.rows());
    for ((noun, tenant, key), value) in written {
        transaction.execute(
            "INSERT OR REPLACE INTO state VALUES (?1, ?2, ?3, ?4)",
            params![noun, tenant, key, value],
        )?;
    }
    for (noun, tenant, key) in removed {
        transaction.execute(
            "DELETE FROM state WHERE noun = ?1 AND tenant = ?2 AND key = ?3",
            params![noun, tenant, key],
        )?;
    }
    transaction.execute("UPDATE revision SET value = ?1", params![state.revision])?;
    Ok(())
}

impl<W: Warrant> Store<W> for SqliteStore {
    fn found(&self, founding: Founding) -> BoxFuture<'_, Result<(), StoreError>> {
        self.change(move |state| state.found(founding))
    }

    fn load(&self) -> BoxFuture<'_, Result<State, StoreError>> {
        self.run(|connection| {
            let transaction = connection.transaction().map_err(unavailable)?;
            let (revision, rows) = rows(&transaction)?;
            State::from_rows(revision, rows)
        })
    }

    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.run(|connection| {
            connection.query_row("SELECT value FROM revision", [], |row| row.get(0)).map_err(unavailable)
        })
    }

    fn apply<'a>(&'a self, warrant: &'a W, changes: Vec<Change>) -> BoxFuture<'a, Result<u64, StoreError>> {
        let tenant = warrant.tenant().clone();
        self.change(move |state| state.apply(&tenant, &changes).map(|()| state.revision))
    }

    fn touch_keys(&self, uses: Vec<(KeyId, Timestamp)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.change(move |state| {
            state.touch(&uses);
            Ok(())
        })
    }
}

impl Checkpoints for SqliteStore {
    fn latest(&self, log: &str) -> BoxFuture<'_, Result<Option<(u64, Digest)>, StoreError>> {
        let log = log.to_owned();
        self.run(move |connection| latest(connection, &log))
    }

    fn swap(
        &self,
        log: &str,
        old: Option<(u64, Digest)>,
        new: (u64, Digest),
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let log = log.to_owned();
        self.run(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
            if latest(&transaction, &log)? != old {
                return Ok(false);
            }
            let row = params![log, new.0, new.1.to_string()];
            transaction
                .execute("INSERT OR REPLACE INTO checkpoint VALUES (?1, ?2, ?3)", row)
                .map_err(unavailable)?;
            transaction.commit().map_err(unavailable)?;
            Ok(true)
        })
    }
}

fn latest(connection: &Connection, log: &str) -> Result<Option<(u64, Digest)>, StoreError> {
    let query = "SELECT size, root FROM checkpoint WHERE log = ?1";
    let row: Option<(u64, String)> = connection
        .query_row(query, params![log], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(unavailable)?;
    row.map(|(size, root)| {
        root.parse().map(|root| (size, root)).map_err(|_| StoreError::Corrupt(format!("checkpoint of {log}")))
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_store::conformance::{self, TestWarrant};

    #[tokio::test]
    async fn sqlite_conforms_and_survives_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let store = SqliteStore::open(&path).unwrap();
        conformance::store(&store).await;
        conformance::checkpoints(&store).await;
        let before = Store::<TestWarrant>::load(&store).await.unwrap();
        drop(store);
        let again = SqliteStore::open(&path).unwrap();
        assert_eq!(Store::<TestWarrant>::load(&again).await.unwrap(), before);
    }

    #[tokio::test]
    async fn a_database_of_a_newer_version_or_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let newer = folder.path().join("newer.db");
        drop(SqliteStore::open(&newer).unwrap());
        Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(SqliteStore::open(&newer), Err(StoreError::Corrupt(_))));
        let garbage = folder.path().join("garbage.db");
        std::fs::write(&garbage, vec![7; 8_192]).unwrap();
        assert!(matches!(SqliteStore::open(&garbage), Err(StoreError::Corrupt(_))));
    }

    #[tokio::test]
    async fn a_locked_database_is_unavailable_and_works_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let store = SqliteStore::open(&path).unwrap();
        conformance::checkpoints(&store).await;
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let swap = || store.swap("new", None, (1, Digest::of(b"")));
        assert!(matches!(swap().await, Err(StoreError::Unavailable(_))));
        other.execute_batch("ROLLBACK").unwrap();
        assert!(swap().await.unwrap());
    }
}
