//! The ports on SQLite.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{KeyId, NodeId, Tenant};
use bartizan_store::{
    BundleRow, Change, Checkpoints, Enforced, Founding, NodeRow, Nodes, Row, RowKind, Rows, Since, State,
    Store, StoreError, Warrant, Write, checkpoint_may_follow, relational,
};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending, ready};
use rusqlite::{Connection, OptionalExtension as _, Params, Transaction, TransactionBehavior, params};

use crate::batch::Waiting;
use crate::error::{sort, unavailable};
use crate::known::Known;
use crate::{migrate, read};

/// How long to wait for another process that holds the database.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The state in one SQLite file. Clones share the connection.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
    waiting: Waiting,
    known: Known,
}

impl SqliteStore {
    /// Opens the database at `path`, creating the file (mode 0600) and bringing its schema up to date. An existing file
    /// is narrowed to 0600; SQLite gives its companions (`-wal`, `-shm`) the same mode. Blocks: for the start of a
    /// process.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened or is locked; `Corrupt` when it is damaged, not ours, or written by
    /// a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        protect(path).map_err(unavailable)?;
        let mut connection = Connection::open(path).map_err(sort)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sort)?;
        connection.set_prepared_statement_cache_capacity(64);
        // `FULL` syncs the write-ahead log at every commit: what is acknowledged survives a power cut.
        for (pragma, value) in [
            ("journal_mode", "wal"),
            ("synchronous", "full"),
            ("foreign_keys", "on"),
            ("trusted_schema", "off"),
            ("secure_delete", "on"),
        ] {
            connection.pragma_update(None, pragma, value).map_err(sort)?;
        }
        migrate::check(&connection)?;
        migrate::migrate(&mut connection)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            waiting: Waiting::default(),
            known: Known::default(),
        })
    }

    /// Runs `work` on the blocking pool. Once begun it goes on to its end, also when nobody waits for it any more.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let shared = Arc::clone(&self.connection);
        async move {
            tokio::task::spawn_blocking(move || {
                // A panic elsewhere rolled its transaction back; the connection is as good as before.
                work(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
            })
            .await
            .map_err(unavailable)?
        }
        .boxed()
    }
}

impl SqliteStore {
    /// The file's version, as others have moved it; none while the connection is in use. Never waits for the disk.
    fn version(&self) -> Option<i64> {
        let connection = self.connection.try_lock().ok()?;
        let mut statement = connection.prepare_cached("pragma data_version").ok()?;
        statement.query_row([], |row| row.get(0)).ok()
    }
}

/// Makes the file ours alone before a byte is written to it, and its name durable.
pub(crate) fn protect(path: &Path) -> io::Result<()> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Runs `work` in one transaction that holds the write lock from its beginning.
fn write<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sort)?;
    let done = work(&transaction)?;
    transaction.commit().map_err(sort)?;
    Ok(done)
}

pub(crate) fn execute(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<usize, StoreError> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute(parameters)).map_err(sort)
}

fn found(transaction: &Transaction<'_>, founding: Founding) -> Result<(), StoreError> {
    let mut state = read::installation(transaction)?;
    let (claim_digest, claim_expires) = read::claim_columns(&founding.claim);
    let (needed, keys) = (founding.recovery.0, relational::to_json(&founding.recovery.1)?);
    let writes = state.found(founding)?;
    let mark = state.mark.map(|mark| mark.to_string());
    execute(
        transaction,
        "update installation set revision = ?1, recovery_needed = ?2, recovery_keys = ?3, \
         claim_digest = ?4, claim_expires_us = ?5, mark = ?6",
        params![relational::signed(state.revision)?, needed, keys, claim_digest, claim_expires, mark],
    )?;
    for row in writes {
        store(transaction, row)?;
    }
    Ok(())
}

pub(crate) fn store(transaction: &Connection, change: Write) -> Result<usize, StoreError> {
    match change {
        Write::Document(tenant, document, changed) => execute(
            transaction,
            "insert or replace into documents (tenant, kind, name, body, changed) values (?1, ?2, ?3, ?4, ?5)",
            params![
                tenant.0.as_str(),
                document.spec.kind(),
                document.name.as_str(),
                relational::to_json(&document)?,
                relational::signed(changed)?
            ],
        ),
        Write::DeleteDocument(tenant, kind, name) => execute(
            transaction,
            "delete from documents where tenant = ?1 and kind = ?2 and name = ?3",
            params![tenant.0.as_str(), kind, name.as_str()],
        ),
        Write::Key(key) => {
            let row = relational::KeyColumns::of(&key)?;
            execute(
                transaction,
                "insert into api_keys (id, tenant, handle, digest, about, created_us, expires_us, revoked_us, \
                 last_used_us) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
                 on conflict (id) do update set expires_us = excluded.expires_us, revoked_us = excluded.revoked_us",
                params![
                    row.id,
                    row.tenant,
                    row.handle,
                    row.digest,
                    row.about,
                    row.created_us,
                    row.expires_us,
                    row.revoked_us,
                    row.last_used_us
                ],
            )
        }
        Write::Epoch(epoch) => execute(
            transaction,
            "insert or replace into epochs (tenant, kind, name, not_before_us, revision) values (?1, ?2, ?3, ?4, ?5)",
            params![
                epoch.tenant.0.as_str(),
                relational::epoch_kind(epoch.kind),
                epoch.name.as_str(),
                relational::micros(epoch.not_before),
                relational::signed(epoch.revision)?
            ],
        ),
        Write::Sealed(sealed) => execute(
            transaction,
            "insert or replace into sealed (tenant, name, sealed) values (?1, ?2, ?3)",
            params![sealed.tenant.0.as_str(), sealed.name.as_str(), sealed.sealed],
        ),
        Write::Bundle(bundle) => {
            let row = relational::BundleColumns::of(&bundle)?;
            execute(
                transaction,
                "insert into bundles (tenant, version, base, digest, files, candidate_digest, candidate_files, \
                 signed) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    row.tenant,
                    row.version,
                    row.base,
                    row.digest,
                    row.files,
                    row.candidate_digest,
                    row.candidate_files,
                    row.signed
                ],
            )
        }
        Write::Row(row) => {
            let row = relational::RowColumns::of(row)?;
            execute(
                transaction,
                "insert or replace into side_rows (kind, id, tenant, owner, expires_us, version, body) \
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![row.kind, row.id, row.tenant, row.owner, row.expires_us, row.version, row.body],
            )
        }
        Write::DeleteRow(kind, id) => execute(
            transaction,
            "delete from side_rows where kind = ?1 and id = ?2",
            params![kind.name(), id],
        ),
        Write::ClaimUsed => {
            execute(transaction, "update installation set claim_digest = null, claim_expires_us = null", [])
        }
    }
}

fn latest(connection: &Connection, log: &str) -> Result<Option<(u64, Digest)>, StoreError> {
    let row: Option<(i64, String)> = connection
        .prepare_cached("select size, root from checkpoints where log = ?1")
        .and_then(|mut statement| statement.query_row([log], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(sort)?;
    row.map(|(size, root)| relational::checkpoint(log, size, &root)).transpose()
}

impl<W: Warrant> Store<W> for SqliteStore {
    fn found(&self, founding: Founding) -> BoxFuture<'_, Result<(), StoreError>> {
        let known = self.known.clone();
        self.run(move |connection| {
            let done = write(connection, |transaction| found(transaction, founding));
            known.clear();
            done
        })
    }

    fn load(&self) -> BoxFuture<'_, Result<State, StoreError>> {
        self.run(|connection| {
            let transaction = connection.transaction().map_err(sort)?;
            read::everything(&transaction)
        })
    }

    fn changes_since(
        &self,
        revision: u64,
        mark: Option<Digest>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Since, StoreError>> {
        self.run(move |connection| {
            let transaction = connection.transaction().map_err(sort)?;
            read::changes_since(&transaction, revision, mark, limit)
        })
    }

    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.run(|connection| read::installation(connection).map(|state| state.revision))
    }

    fn apply<'a>(&'a self, warrant: &'a W, changes: Vec<Change>) -> BoxFuture<'a, Result<u64, StoreError>> {
        let tenant = warrant.tenant().clone();
        let decision = warrant.decision();
        let (waiting, known) = (self.waiting.clone(), self.known.clone());
        async move {
            let answer = waiting.put(tenant.clone(), changes);
            self.run(move |connection| waiting.work_off(connection, &known)).await?;
            let revision = answer.await.map_err(unavailable)??;
            tracing::info!(%tenant, %decision, revision, "state changed");
            Ok(revision)
        }
        .boxed()
    }

    fn bundle<'a>(
        &'a self,
        tenant: &'a Tenant,
        version: u64,
    ) -> BoxFuture<'a, Result<Option<BundleRow>, StoreError>> {
        let tenant = tenant.0.clone();
        self.run(move |connection| read::one_bundle(connection, &tenant, relational::signed(version)?))
    }

    fn bundle_files<'a>(
        &'a self,
        tenant: &'a Tenant,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, String>>, StoreError>> {
        let tenant = tenant.0.clone();
        self.run(move |connection| read::bundle_files(connection, &tenant, &digest.to_string()))
    }

    fn touch_keys(&self, uses: Vec<(KeyId, Timestamp)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |connection| {
            write(connection, |transaction| {
                for (id, at) in uses {
                    execute(
                        transaction,
                        "update api_keys set last_used_us = max(coalesce(last_used_us, 0), ?2) where id = ?1",
                        params![id.to_string(), relational::micros(at)],
                    )?;
                }
                Ok(())
            })
        })
    }

    fn last_used<'a>(
        &'a self,
        tenant: &'a Tenant,
    ) -> BoxFuture<'a, Result<BTreeMap<KeyId, Timestamp>, StoreError>> {
        let tenant = tenant.0.clone();
        self.run(move |connection| {
            let sql = "select id, last_used_us from api_keys where tenant = ?1 and last_used_us is not null";
            Ok(read::rows(connection, sql, [tenant.as_str()], read::last_used)?.into_iter().collect())
        })
    }
}

impl Rows for SqliteStore {
    fn row<'a>(&'a self, kind: RowKind, id: &'a str) -> BoxFuture<'a, Result<Option<Row>, StoreError>> {
        let name = (kind, id.to_owned());
        if let Some(row) = self.version().and_then(|version| self.known.get(&name, version)) {
            return ready(Ok(row)).boxed();
        }
        let known = self.known.clone();
        self.run(move |connection| {
            let sql = read::side_rows("kind = ?1 and id = ?2");
            let row = read::rows(connection, &sql, params![kind.name(), name.1], read::side_row)?.pop();
            known.put(name, row.clone());
            Ok(row)
        })
    }

    fn rows_of<'a>(
        &'a self,
        tenant: &'a Tenant,
        kind: RowKind,
        owner: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let (tenant, owner, after) = (tenant.0.clone(), owner.to_owned(), after.to_owned());
        self.run(move |connection| {
            let sql =
                read::side_rows("tenant = ?1 and kind = ?2 and owner = ?3 and id > ?4 order by id limit ?5");
            let parameters = params![tenant.as_str(), kind.name(), owner, after, count(limit)];
            read::rows(connection, &sql, parameters, read::side_row)
        })
    }

    fn rows<'a>(
        &'a self,
        tenant: &'a Tenant,
        kind: RowKind,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let (tenant, after) = (tenant.0.clone(), after.to_owned());
        self.run(move |connection| {
            let sql = read::side_rows("tenant = ?1 and kind = ?2 and id > ?3 order by id limit ?4");
            let parameters = params![tenant.as_str(), kind.name(), after, count(limit)];
            read::rows(connection, &sql, parameters, read::side_row)
        })
    }

    fn sweep(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        let known = self.known.clone();
        self.run(move |connection| {
            let sql = format!(
                "delete from side_rows where (kind, id) in (select kind, id from side_rows \
                 where expires_us < ?1 and kind not in ({}) limit ?2)",
                relational::loaded_kinds()
            );
            let swept = write(connection, |transaction| {
                execute(transaction, &sql, params![relational::micros(now), count(limit)])
            });
            known.clear();
            swept
        })
    }
}

/// A limit as SQL takes it.
fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// One process uses the file: there is no other node, and whoever changes the state takes it in.
impl Nodes for SqliteStore {
    fn confirm(&self, _: NodeId, _: Enforced) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.run(|connection| read::installation(connection).map(|state| state.revision))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, StoreError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn leave(&self, _: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn moved(&self) -> BoxFuture<'_, ()> {
        pending().boxed()
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
            if !checkpoint_may_follow(old, new) {
                return Err(StoreError::shrinking_checkpoint());
            }
            let (size, root) = (relational::signed(new.0)?, new.1.to_string());
            write(connection, |transaction| {
                if latest(transaction, &log)? != old {
                    return Ok(false);
                }
                let sql = "insert or replace into checkpoints (log, size, root) values (?1, ?2, ?3)";
                execute(transaction, sql, params![log, size, root]).map(|_| true)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_database_is_unavailable_and_keeps_what_was_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
        let root = |n: u8| Digest::of(&[n]);
        assert!(store.swap("log", None, (1, root(1))).await.unwrap());
        // SQLite's own limit stands for the disk: the error is the same.
        store.connection.lock().unwrap().pragma_update(None, "max_page_count", 1).unwrap();
        let swapped = store.swap(&"x".repeat(1 << 20), None, (1, root(1))).await;
        assert!(matches!(swapped, Err(StoreError::Unavailable(_))), "{swapped:?}");
        assert_eq!(store.latest("log").await.unwrap(), Some((1, root(1))));
        assert!(store.swap("log", Some((1, root(1))), (2, root(2))).await.unwrap());
    }

    #[test]
    fn every_commit_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
        let connection = store.connection.lock().unwrap();
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(pragma("synchronous"), 2, "2 is FULL");
        assert!(pragma("busy_timeout") <= 2_000);
    }
}
