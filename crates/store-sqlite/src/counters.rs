//! Counts in a file of their own: they change with every ask and are not worth a synced commit each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::Timestamp;
use bartizan_store::{CounterRow, CounterWork, Counters, StoreError, relational};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::error::{sort, unavailable};
use crate::store::{BUSY_TIMEOUT, execute, protect};

/// Counts in one SQLite file. Clones share the connection.
#[derive(Clone, Debug)]
pub struct SqliteCounters(Arc<Mutex<Connection>>);

impl SqliteCounters {
    /// Opens the file at `path`, creating it (mode 0600). Blocks: for the start of a process.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened or is locked; `Corrupt` when it is damaged or not ours.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        protect(path).map_err(unavailable)?;
        let connection = Connection::open(path).map_err(sort)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sort)?;
        // Written to the system with every commit, which outlives the process; synced now and then.
        for (pragma, value) in [("journal_mode", "wal"), ("synchronous", "normal"), ("trusted_schema", "off")]
        {
            connection.pragma_update(None, pragma, value).map_err(sort)?;
        }
        connection
            .execute_batch(
                "create table if not exists counters (key text primary key, body text not null, \
                 expires_us integer not null) strict, without rowid",
            )
            .map_err(sort)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let shared = self.0.clone();
        let work = move || {
            // A panic elsewhere rolled its transaction back; the connection is as good as before.
            let mut connection = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sort)?;
            let done = work(&transaction)?;
            transaction.commit().map_err(sort)?;
            Ok(done)
        };
        async move { tokio::task::spawn_blocking(work).await.map_err(unavailable)? }.boxed()
    }
}

impl Counters for SqliteCounters {
    fn work(&self, keys: BTreeSet<String>, work: CounterWork) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |transaction| {
            let mut rows = BTreeMap::new();
            for key in keys {
                let sql = "select body, expires_us from counters where key = ?1";
                let mut statement = transaction.prepare_cached(sql).map_err(sort)?;
                let found: Option<(String, i64)> =
                    statement.query_row([&key], |row| Ok((row.get(0)?, row.get(1)?))).optional().map_err(sort)?;
                if let Some((body, expires)) = found {
                    rows.insert(key, CounterRow { body, expires: relational::moment("a count", expires)? });
                }
            }
            if work(&mut rows) {
                for (key, row) in rows {
                    let sql = "insert into counters (key, body, expires_us) values (?1, ?2, ?3) on conflict (key) \
                               do update set body = excluded.body, expires_us = excluded.expires_us";
                    execute(transaction, sql, params![key, row.body, relational::micros(row.expires)])?;
                }
            }
            Ok(())
        })
    }

    fn sweep_counters(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.run(move |transaction| {
            let sql = "delete from counters where key in \
                       (select key from counters where expires_us < ?1 limit ?2)";
            let limit = relational::signed(limit as u64)?;
            execute(transaction, sql, params![relational::micros(now), limit])
        })
    }
}
