//! The ports on PostgreSQL.

use std::collections::BTreeMap;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{KeyId, NodeId, Tenant};
use bartizan_secret::Secret;
use bartizan_store::{
    Applied, BundleRow, Change, Checkpoints, Enforced, Founding, NodeRow, Nodes, Row, RowKind, Rows,
    STEP_BYTES_KEPT, STEPS_CLEARED, STEPS_KEPT, Since, State, StepColumns, Store, StoreError, Touched,
    Warrant, Write, checkpoint_may_follow, relational,
};
use deadpool_postgres::{GenericClient, Object, Transaction};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_postgres::IsolationLevel;
use tokio_postgres::types::ToSql;

use crate::address::{Address, AddressError};
use crate::error::sort;
use crate::pool::Connections;
use crate::{migrate, nodes, read};

/// The state in a PostgreSQL database. Clones share the connections.
#[derive(Clone, Debug)]
pub struct PostgresStore(Connections);

/// Why the database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one to connect by.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PostgresStore {
    /// Connects to the database at `url` and brings its schema up to date.
    ///
    /// The URL is libpq's (`postgres://user:password@host:port/database?parameters`) with stricter TLS: `sslmode` is
    /// `require` or `verify-full`, which mean the same, namely a certificate that holds for the host's name under
    /// `sslrootcert` or the well-known authorities; or `disable`. Only a database on this machine may go without saying.
    ///
    /// # Errors
    /// `Address` for a URL that is not used; `Unavailable` when the server does not answer within three seconds;
    /// `Corrupt` when the schema was written by a newer version.
    pub async fn open(url: &Secret<String>) -> Result<Self, OpenError> {
        let connections = Connections::new(&Address::parse(url)?)?;
        connections.run(|connection| migrate::migrate(connection).boxed()).await?;
        Ok(Self(connections))
    }

    pub(crate) const fn connections(&self) -> &Connections {
        &self.0
    }
}

pub(crate) async fn execute(
    client: &impl GenericClient,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<u64, StoreError> {
    let statement = client.prepare_cached(sql).await.map_err(sort)?;
    client.execute(&statement, parameters).await.map_err(sort)
}

async fn found(connection: &mut Object, founding: Founding) -> Result<(), StoreError> {
    let transaction = connection.transaction().await.map_err(sort)?;
    let mut state = read::locked_installation(&transaction).await?;
    let writes = state.found(founding)?;
    let mark = state.mark.map(|mark| mark.to_string());
    let (needed, keys) = state.recovery.unzip();
    let (digest, expires) =
        state.claim.map(|claim| (claim.digest.to_string(), relational::micros(claim.expires))).unzip();
    execute(
        &transaction,
        "update installation set revision = $1, recovery_needed = $2, recovery_keys = $3, claim_digest = $4, \
         claim_expires_us = $5, mark = $6",
        &[
            &relational::signed(state.revision)?,
            &needed.map(i64::from),
            &keys.map(|keys| relational::to_json(&keys)).transpose()?,
            &digest,
            &expires,
            &mark,
        ],
    )
    .await?;
    for row in writes {
        store(&transaction, row).await?;
    }
    transaction.commit().await.map_err(sort)
}

async fn one_bundle(
    connection: &mut Object,
    tenant: String,
    version: u64,
) -> Result<Option<BundleRow>, StoreError> {
    let transaction = connection.transaction().await.map_err(sort)?;
    read::one_bundle(&transaction, &tenant, relational::signed(version)?).await
}

async fn bundle_files(
    connection: &mut Object,
    tenant: String,
    digest: Digest,
) -> Result<Option<BTreeMap<String, String>>, StoreError> {
    let transaction = connection.transaction().await.map_err(sort)?;
    read::bundle_files(&transaction, &tenant, &digest.to_string()).await
}

async fn apply(connection: &mut Object, tenant: &Tenant, changes: &[Change]) -> Result<u64, StoreError> {
    let transaction = connection.transaction().await.map_err(sort)?;
    let touched = Touched::by(changes);
    // Logins, codes and refresh tokens of many people at once: their rows' own locks decide between rivals.
    let mut state = if !changes.is_empty() && !changes.iter().any(Change::moves_revision) {
        read::slice_of_rows(&transaction, &touched).await?
    } else {
        read::slice(&transaction, tenant, &touched).await?
    };
    let Applied { writes, step } = state.apply(tenant, changes)?;
    for write in writes {
        store(&transaction, write).await?;
    }
    if let Some(step) = step {
        keep(&transaction, step).await?;
        // Goes round with the commit, not before.
        let told = state.revision.to_string();
        execute(&transaction, "select pg_notify($1, $2)", &[&nodes::CHANNEL, &told]).await?;
    }
    transaction.commit().await.map_err(sort)?;
    Ok(state.revision)
}

/// Moves the revision, and keeps what led to it for others to follow: one statement, so one way to the server and back.
async fn keep(transaction: &Transaction<'_>, step: StepColumns) -> Result<(), StoreError> {
    let (revision, mark) = (relational::signed(step.revision)?, step.mark.to_string());
    if step.is_kept() {
        let sql = "with moved as (update installation set revision = $1, mark = $2) \
                   insert into steps (revision, mark, follows, upto, body) values ($1, $2, $3, \
                   coalesce((select upto from steps order by revision desc limit 1), 0) + $4, $5)";
        let follows = step.follows.map(|mark| mark.to_string());
        let size = relational::signed(step.body.len() as u64)?;
        execute(transaction, sql, &[&revision, &mark, &follows, &size, &step.body]).await?;
    } else {
        let sql = "update installation set revision = $1, mark = $2";
        execute(transaction, sql, &[&revision, &mark]).await?;
    }
    if step.revision.is_multiple_of(STEPS_CLEARED) {
        let sql = "delete from steps where revision <= $1 \
                   or upto <= (select upto from steps order by revision desc limit 1) - $2";
        let before = revision.saturating_sub(relational::signed(STEPS_KEPT)?);
        execute(transaction, sql, &[&before, &relational::signed(STEP_BYTES_KEPT)?]).await?;
    }
    Ok(())
}

async fn store(transaction: &Transaction<'_>, change: Write) -> Result<u64, StoreError> {
    match change {
        Write::Document(tenant, document, changed) => {
            let sql = "insert into documents (tenant, kind, name, body, changed) values ($1, $2, $3, $4, $5) \
                       on conflict (tenant, kind, name) do update set body = excluded.body, changed = excluded.changed";
            let (body, changed) = (relational::to_json(&document)?, relational::signed(changed)?);
            let kind = document.spec.kind();
            execute(transaction, sql, &[&tenant.0.as_str(), &kind, &document.name.as_str(), &body, &changed])
                .await
        }
        Write::DeleteDocument(tenant, kind, name) => {
            let sql = "delete from documents where tenant = $1 and kind = $2 and name = $3";
            execute(transaction, sql, &[&tenant.0.as_str(), &kind, &name.as_str()]).await
        }
        Write::Key(key) => {
            let row = relational::KeyColumns::of(&key)?;
            let sql = "insert into api_keys (id, tenant, handle, digest, about, created_us, expires_us, revoked_us, \
                       last_used_us) values ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                       on conflict (id) do update set expires_us = excluded.expires_us, \
                       revoked_us = excluded.revoked_us";
            let parameters: [&(dyn ToSql + Sync); 9] = [
                &row.id,
                &row.tenant,
                &row.handle,
                &row.digest,
                &row.about,
                &row.created_us,
                &row.expires_us,
                &row.revoked_us,
                &row.last_used_us,
            ];
            execute(transaction, sql, &parameters).await
        }
        Write::Epoch(epoch) => {
            let sql = "insert into epochs (tenant, kind, name, not_before_us, revision) values ($1, $2, $3, $4, $5) \
                       on conflict (tenant, kind, name) do update set not_before_us = excluded.not_before_us, \
                       revision = excluded.revision";
            let (kind, mark) = (relational::epoch_kind(epoch.kind), relational::micros(epoch.not_before));
            let revision = relational::signed(epoch.revision)?;
            execute(
                transaction,
                sql,
                &[&epoch.tenant.0.as_str(), &kind, &epoch.name.as_str(), &mark, &revision],
            )
            .await
        }
        Write::Sealed(sealed) => {
            let sql = "insert into sealed (tenant, name, sealed) values ($1, $2, $3) \
                       on conflict (tenant, name) do update set sealed = excluded.sealed";
            execute(transaction, sql, &[&sealed.tenant.0.as_str(), &sealed.name.as_str(), &sealed.sealed])
                .await
        }
        Write::Bundle(bundle) => {
            let sql = "insert into bundles (tenant, version, base, digest, files, candidate_digest, \
                       candidate_files, signed) values ($1, $2, $3, $4, $5, $6, $7, $8)";
            let row = relational::BundleColumns::of(&bundle)?;
            execute(
                transaction,
                sql,
                &[
                    &row.tenant,
                    &row.version,
                    &row.base,
                    &row.digest,
                    &row.files,
                    &row.candidate_digest,
                    &row.candidate_files,
                    &row.signed,
                ],
            )
            .await
        }
        Write::Row(row) => {
            let row = relational::RowColumns::of(row)?;
            // A new one is not there yet for anybody to lock: of rivals, the one who is first inserts it.
            let sql = if row.version == 1 {
                "insert into side_rows (kind, id, tenant, owner, expires_us, version, body) \
                 values ($1, $2, $3, $4, $5, $6, $7) on conflict (kind, id) do nothing"
            } else {
                "update side_rows set owner = $4, expires_us = $5, version = $6, body = $7 \
                 where kind = $1 and id = $2 and tenant = $3 and version + 1 = $6"
            };
            let parameters: [&(dyn ToSql + Sync); 7] =
                [&row.kind, &row.id, &row.tenant, &row.owner, &row.expires_us, &row.version, &row.body];
            match execute(transaction, sql, &parameters).await? {
                0 => Err(StoreError::Conflict(format!("somebody else was quicker with the {}", row.kind))),
                stored => Ok(stored),
            }
        }
        Write::DeleteRow(kind, id) => {
            let sql = "delete from side_rows where kind = $1 and id = $2";
            execute(transaction, sql, &[&kind.name(), &id]).await
        }
        Write::ClaimUsed => {
            let sql = "update installation set claim_digest = null, claim_expires_us = null";
            execute(transaction, sql, &[]).await
        }
    }
}

/// A transaction that sees one revision.
async fn snapshot(connection: &mut Object) -> Result<Transaction<'_>, StoreError> {
    let level = IsolationLevel::RepeatableRead;
    connection.build_transaction().isolation_level(level).read_only(true).start().await.map_err(sort)
}

async fn changes_since(
    connection: &mut Object,
    revision: u64,
    mark: Option<Digest>,
    limit: usize,
) -> Result<Since, StoreError> {
    let transaction = snapshot(connection).await?;
    let since = read::changes_since(&transaction, revision, mark, limit).await?;
    transaction.commit().await.map_err(sort)?;
    Ok(since)
}

async fn last_used(
    connection: &mut Object,
    tenant: String,
) -> Result<BTreeMap<KeyId, Timestamp>, StoreError> {
    let transaction = connection.transaction().await.map_err(sort)?;
    let sql = "select id, last_used_us from api_keys where tenant = $1 and last_used_us is not null";
    let used = read::rows(&transaction, sql, &[&tenant], read::last_used).await?;
    Ok(used.into_iter().collect())
}

async fn load(connection: &mut Object) -> Result<State, StoreError> {
    let transaction = snapshot(connection).await?;
    let state = read::everything(&transaction).await?;
    transaction.commit().await.map_err(sort)?;
    Ok(state)
}

async fn touch(connection: &Object, uses: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError> {
    // In order of the keys, and once each: two nodes that touch the same keys must not wait for one another in a ring.
    let latest = uses.into_iter().fold(std::collections::BTreeMap::new(), |mut latest, (id, at)| {
        let known = latest.entry(id).or_insert(at);
        *known = at.max(*known);
        latest
    });
    let (ids, moments): (Vec<String>, Vec<i64>) =
        latest.into_iter().map(|(id, at)| (id.to_string(), relational::micros(at))).unzip();
    let sql = "with used as (select id, at from unnest($1::text[], $2::bigint[]) as u (id, at)), \
               locked as (select k.id, used.at from api_keys as k join used on used.id = k.id \
                          order by k.id for update of k) \
               update api_keys as k set last_used_us = greatest(k.last_used_us, locked.at) from locked \
               where k.id = locked.id";
    execute(connection, sql, &[&ids, &moments]).await.map(drop)
}

async fn latest(connection: &Object, log: &str) -> Result<Option<(u64, Digest)>, StoreError> {
    let statement =
        connection.prepare_cached("select size, root from checkpoints where log = $1").await.map_err(sort)?;
    let row = connection.query_opt(&statement, &[&log]).await.map_err(sort)?;
    row.map(|row| relational::checkpoint(log, read::column(&row, 0)?, read::column(&row, 1)?)).transpose()
}

/// One statement either way, so that the row's own lock decides between rivals.
async fn swap(
    connection: &Object,
    log: &str,
    old: Option<(u64, Digest)>,
    new: (u64, Digest),
) -> Result<bool, StoreError> {
    let (size, root) = (relational::signed(new.0)?, new.1.to_string());
    let changed = match old {
        None => {
            let sql = "insert into checkpoints (log, size, root) values ($1, $2, $3) on conflict do nothing";
            execute(connection, sql, &[&log, &size, &root]).await?
        }
        Some((old_size, old_root)) => {
            let sql =
                "update checkpoints set size = $2, root = $3 where log = $1 and size = $4 and root = $5";
            let (old_size, old_root) = (relational::signed(old_size)?, old_root.to_string());
            execute(connection, sql, &[&log, &size, &root, &old_size, &old_root]).await?
        }
    };
    Ok(changed == 1)
}

async fn side_rows(
    connection: &mut Object,
    which: &str,
    parameters: Vec<Box<dyn ToSql + Sync + Send>>,
) -> Result<Vec<Row>, StoreError> {
    let transaction = connection.transaction().await.map_err(sort)?;
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| &**p as _).collect();
    read::rows(&transaction, &read::side_rows(which), &parameters, read::side_row).await
}

async fn sweep(connection: &Object, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
    let sql = format!(
        "delete from side_rows where (kind, id) in (select kind, id from side_rows \
         where expires_us < $1 and kind not in ({}) limit $2 for update skip locked)",
        relational::loaded_kinds()
    );
    let swept = execute(connection, &sql, &[&relational::micros(now), &count(limit)]).await?;
    Ok(usize::try_from(swept).unwrap_or(usize::MAX))
}

/// A limit as SQL takes it.
fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl PostgresStore {
    fn side_rows(
        &self,
        which: &'static str,
        parameters: Vec<Box<dyn ToSql + Sync + Send>>,
    ) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        self.0.run(move |connection| side_rows(connection, which, parameters).boxed()).boxed()
    }
}

impl Rows for PostgresStore {
    fn row<'a>(&'a self, kind: RowKind, id: &'a str) -> BoxFuture<'a, Result<Option<Row>, StoreError>> {
        let found = self.side_rows(
            "kind = $1 and id = $2",
            vec![Box::new(kind.name().to_owned()), Box::new(id.to_owned())],
        );
        found.map(|rows| Ok(rows?.pop())).boxed()
    }

    fn rows_of<'a>(
        &'a self,
        tenant: &'a Tenant,
        kind: RowKind,
        owner: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.side_rows(
            "tenant = $1 and kind = $2 and owner = $3 and id > $4 order by id limit $5",
            vec![
                Box::new(tenant.to_string()),
                Box::new(kind.name().to_owned()),
                Box::new(owner.to_owned()),
                Box::new(after.to_owned()),
                Box::new(count(limit)),
            ],
        )
    }

    fn rows<'a>(
        &'a self,
        tenant: &'a Tenant,
        kind: RowKind,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.side_rows(
            "tenant = $1 and kind = $2 and id > $3 order by id limit $4",
            vec![
                Box::new(tenant.to_string()),
                Box::new(kind.name().to_owned()),
                Box::new(after.to_owned()),
                Box::new(count(limit)),
            ],
        )
    }

    fn sweep(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.0.run(move |connection| async move { sweep(connection, now, limit).await }.boxed()).boxed()
    }
}

impl<W: Warrant> Store<W> for PostgresStore {
    fn found(&self, founding: Founding) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.run(|connection| found(connection, founding).boxed()).boxed()
    }

    fn load(&self) -> BoxFuture<'_, Result<State, StoreError>> {
        self.0.run(|connection| load(connection).boxed()).boxed()
    }

    fn changes_since(
        &self,
        revision: u64,
        mark: Option<Digest>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Since, StoreError>> {
        self.0
            .run(move |connection| {
                async move { changes_since(connection, revision, mark, limit).await }.boxed()
            })
            .boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.0.run(|connection| nodes::revision_of(connection).boxed()).boxed()
    }

    fn apply<'a>(&'a self, warrant: &'a W, changes: Vec<Change>) -> BoxFuture<'a, Result<u64, StoreError>> {
        let (tenant, decision) = (warrant.tenant().clone(), warrant.decision());
        async move {
            let shown = tenant.clone();
            let revision = self
                .0
                .run(|connection| async move { apply(connection, &tenant, &changes).await }.boxed())
                .await?;
            tracing::info!(tenant = %shown, %decision, revision, "state changed");
            Ok(revision)
        }
        .boxed()
    }

    fn bundle<'a>(
        &'a self,
        tenant: &'a Tenant,
        version: u64,
    ) -> BoxFuture<'a, Result<Option<BundleRow>, StoreError>> {
        let tenant = tenant.to_string();
        async move { self.0.run(|connection| one_bundle(connection, tenant, version).boxed()).await }.boxed()
    }

    fn bundle_files<'a>(
        &'a self,
        tenant: &'a Tenant,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, String>>, StoreError>> {
        let tenant = tenant.to_string();
        async move { self.0.run(|connection| bundle_files(connection, tenant, digest).boxed()).await }.boxed()
    }

    fn touch_keys(&self, uses: Vec<(KeyId, Timestamp)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.run(|connection| touch(connection, uses).boxed()).boxed()
    }

    fn last_used<'a>(
        &'a self,
        tenant: &'a Tenant,
    ) -> BoxFuture<'a, Result<BTreeMap<KeyId, Timestamp>, StoreError>> {
        let tenant = tenant.to_string();
        async move { self.0.run(|connection| last_used(connection, tenant).boxed()).await }.boxed()
    }
}

impl Nodes for PostgresStore {
    fn confirm(&self, node: NodeId, enforced: Enforced) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.0
            .run_for_lease(move |connection| {
                async move { nodes::confirm(connection, node, enforced).await }.boxed()
            })
            .boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, StoreError>> {
        self.0.run_for_lease(|connection| nodes::nodes(connection).boxed()).boxed()
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0
            .run_for_lease(move |connection| async move { nodes::leave(connection, node).await }.boxed())
            .boxed()
    }

    fn moved(&self) -> BoxFuture<'_, ()> {
        self.0.listener.next().boxed()
    }
}

impl Checkpoints for PostgresStore {
    fn latest(&self, log: &str) -> BoxFuture<'_, Result<Option<(u64, Digest)>, StoreError>> {
        let log = log.to_owned();
        self.0.run(|connection| async move { latest(connection, &log).await }.boxed()).boxed()
    }

    fn swap(
        &self,
        log: &str,
        old: Option<(u64, Digest)>,
        new: (u64, Digest),
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let log = log.to_owned();
        async move {
            if !checkpoint_may_follow(old, new) {
                return Err(StoreError::shrinking_checkpoint());
            }
            self.0.run(|connection| async move { swap(connection, &log, old, new).await }.boxed()).await
        }
        .boxed()
    }
}
