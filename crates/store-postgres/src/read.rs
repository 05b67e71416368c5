//! Rows into state: all of it, or the slice that a set of changes has to see.

use std::collections::BTreeMap;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{Document, KeyId, Tenant};
use bartizan_store::relational::{BundleColumns, RowColumns};
use bartizan_store::{
    BundleRow, EpochRow, KeyRow, Row as SideRow, STEP_BYTES_AT_ONCE, SealedRow, Since, State, StepColumns,
    StoreError, Touched, following, relational,
};
use deadpool_postgres::Transaction;
use futures_util::future::try_join;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use crate::error::sort;

const DOCUMENT: &str = "select tenant, kind, name, body, changed from documents";
const KEY: &str = "select id, tenant, handle, digest, about, created_us, expires_us, revoked_us, last_used_us \
                   from api_keys";
const EPOCH: &str = "select tenant, kind, name, not_before_us, revision from epochs";
const SEALED: &str = "select tenant, name, sealed from sealed";
const BUNDLE_IN_FORCE: &str = "version = (select max(version) from bundles where tenant = b.tenant)";
const INSTALLATION: &str = "select revision, mark, recovery_needed, recovery_keys, claim_digest, claim_expires_us \
                            from installation";

/// Revision, recovery and claim, locked: whoever else wants to change the state waits.
pub(crate) async fn locked_installation(transaction: &Transaction<'_>) -> Result<State, StoreError> {
    let sql = format!("{INSTALLATION} for update");
    one(transaction, &sql).await
}

/// Everything. The caller's transaction is repeatable, so that it is of one revision.
pub(crate) async fn everything(transaction: &Transaction<'_>) -> Result<State, StoreError> {
    let mut state = one(transaction, INSTALLATION).await?;
    state.documents = rows(transaction, DOCUMENT, &[], document).await?.into();
    state.keys = rows(transaction, KEY, &[], key).await?.into();
    state.epochs = rows(transaction, EPOCH, &[], epoch).await?.into();
    state.sealed = rows(transaction, SEALED, &[], sealed).await?.into();
    state.bundles = rows(transaction, &bundles(BUNDLE_IN_FORCE), &[], bundle).await?.into();
    let loaded = format!("kind in ({})", relational::loaded_kinds());
    state.rows = rows(transaction, &side_rows(&loaded), &[], side_row).await?.into();
    state.sort();
    Ok(state)
}

/// The query of rows beside the state that are so.
pub(crate) fn side_rows(which: &str) -> String {
    format!("select {} from side_rows where {which}", RowColumns::NAMES)
}

/// A row beside the state.
pub(crate) fn side_row(row: &Row) -> Result<SideRow, StoreError> {
    RowColumns {
        kind: column(row, 0)?,
        id: column(row, 1)?,
        tenant: column(row, 2)?,
        owner: column(row, 3)?,
        expires_us: column(row, 4)?,
        version: column(row, 5)?,
        body: column(row, 6)?,
    }
    .read()
}

/// A bundle that was in force.
pub(crate) async fn one_bundle(
    transaction: &Transaction<'_>,
    tenant: &str,
    version: i64,
) -> Result<Option<BundleRow>, StoreError> {
    let sql = bundles("tenant = $1 and version = $2");
    Ok(rows(transaction, &sql, &[&tenant, &version], bundle).await?.pop())
}

/// The files of a bundle that was ever in force or tried.
pub(crate) async fn bundle_files(
    transaction: &Transaction<'_>,
    tenant: &str,
    digest: &str,
) -> Result<Option<BTreeMap<String, String>>, StoreError> {
    let sql = "select files from bundles where tenant = $1 and digest = $2 \
               union all select candidate_files from bundles where tenant = $1 and candidate_digest = $2 limit 1";
    let found = rows(transaction, sql, &[&tenant, &digest], |row| column::<String>(row, 0)).await?.pop();
    found.map(|files| relational::from_json("a bundle", &files)).transpose()
}

fn bundles(which: &str) -> String {
    format!("select {} from bundles as b where {which}", BundleColumns::NAMES)
}

/// What a set of changes that only touches rows beside the state has to see: locks those that are there, in one order for
/// everybody. Others go on meanwhile.
pub(crate) async fn slice_of_rows(
    transaction: &Transaction<'_>,
    touched: &Touched,
) -> Result<State, StoreError> {
    let (state, rows) = try_join(one(transaction, INSTALLATION), locked_rows(transaction, touched)).await?;
    let mut state = State { rows: rows.into(), ..state };
    state.sort();
    Ok(state)
}

/// The rows beside the state that a set of changes has to see, locked: others may change them without the installation.
async fn locked_rows(transaction: &Transaction<'_>, touched: &Touched) -> Result<Vec<SideRow>, StoreError> {
    if touched.rows.is_empty() {
        return Ok(Vec::new());
    }
    let (kinds, ids): (Vec<&str>, Vec<&str>) =
        touched.rows.iter().map(|(kind, id)| (kind.name(), id.as_str())).unzip();
    let which = "(kind, id) in (select * from unnest($1::text[], $2::text[])) order by kind, id for update";
    rows(transaction, &side_rows(which), &[&kinds, &ids], side_row).await
}

/// What a set of changes to `tenant` has to see. Locks the installation first, so that nothing of the state changes.
pub(crate) async fn slice(
    transaction: &Transaction<'_>,
    tenant: &Tenant,
    touched: &Touched,
) -> Result<State, StoreError> {
    let tenant = tenant.0.as_str();
    let mut state = locked_installation(transaction).await?;
    state.rows = locked_rows(transaction, touched).await?.into();
    if !touched.documents.is_empty() {
        let (kinds, names): (Vec<&str>, Vec<&str>) =
            touched.documents.iter().map(|(kind, name)| (kind.as_str(), name.as_str())).unzip();
        let sql = format!(
            "{DOCUMENT} where tenant = $1 and (kind, name) in (select * from unnest($2::text[], $3::text[]))"
        );
        state.documents = rows(transaction, &sql, &[&tenant, &kinds, &names], document).await?.into();
    }
    if !touched.key_ids.is_empty() {
        let ids: Vec<String> = touched.key_ids.iter().map(ToString::to_string).collect();
        let handles: Vec<&str> = touched.key_handles.iter().map(String::as_str).collect();
        let digests: Vec<String> = touched.key_digests.iter().map(ToString::to_string).collect();
        let sql = format!("{KEY} where id = any($1) or handle = any($2) or digest = any($3)");
        state.keys = rows(transaction, &sql, &[&ids, &handles, &digests], key).await?.into();
    }
    if !touched.epochs.is_empty() {
        let (kinds, names): (Vec<&str>, Vec<&str>) =
            touched.epochs.iter().map(|(kind, name)| (relational::epoch_kind(*kind), name.as_str())).unzip();
        let sql = format!(
            "{EPOCH} where tenant = $1 and (kind, name) in (select * from unnest($2::text[], $3::text[]))"
        );
        state.epochs = rows(transaction, &sql, &[&tenant, &kinds, &names], epoch).await?.into();
    }
    if touched.bundle {
        let sql = bundles(&format!("{BUNDLE_IN_FORCE} and tenant = $1"));
        state.bundles = rows(transaction, &sql, &[&tenant], bundle).await?.into();
    }
    state.sort();
    Ok(state)
}

/// What became of the state since it was at `revision` with `mark`. The caller's transaction is repeatable.
pub(crate) async fn changes_since(
    transaction: &Transaction<'_>,
    revision: u64,
    mark: Option<Digest>,
    limit: usize,
) -> Result<Since, StoreError> {
    let first = relational::signed(revision)?;
    let last = first.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX));
    let at_once = relational::signed(STEP_BYTES_AT_ONCE)?;
    let sql = "select revision, mark, follows, body from steps where revision between $1 and $2 \
               and (revision <= $1 + 1 or upto <= $3 + (select upto from steps where revision = $1 + 1)) \
               order by revision";
    let (present, found) =
        try_join(one(transaction, INSTALLATION), rows(transaction, sql, &[&first, &last, &at_once], step))
            .await?;
    let Some(following) = following(revision, mark, found)? else { return Ok(Since::TooOld) };
    let mut wanted = BTreeMap::new();
    let names: Vec<(Tenant, u64)> =
        following.bundles().map(|(tenant, version)| (tenant.clone(), version)).collect();
    for (tenant, version) in names {
        let bundle = one_bundle(transaction, tenant.0.as_str(), relational::signed(version)?).await?;
        wanted.extend(bundle.map(|bundle| ((tenant, version), bundle)));
    }
    let steps = following.steps(&wanted)?;
    Ok(if steps.is_empty() && revision < present.revision { Since::TooOld } else { Since::Steps(steps) })
}

fn step(row: &Row) -> Result<StepColumns, StoreError> {
    relational::step(column(row, 0)?, column(row, 1)?, column(row, 2)?, column(row, 3)?)
}

/// When a key was last used.
pub(crate) fn last_used(row: &Row) -> Result<(KeyId, Timestamp), StoreError> {
    relational::last_used(column(row, 0)?, column(row, 1)?)
}

async fn one(transaction: &Transaction<'_>, sql: &str) -> Result<State, StoreError> {
    let mut found = rows(transaction, sql, &[], installation).await?;
    match (found.pop(), found.is_empty()) {
        (Some(state), true) => Ok(state),
        _ => Err(StoreError::Corrupt("it has not one installation".to_owned())),
    }
}

/// Every row of a query. The texts of queries are constants of this module; values are bound.
pub(crate) async fn rows<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    read: fn(&Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let statement = transaction.prepare_cached(sql).await.map_err(sort)?;
    transaction.query(&statement, parameters).await.map_err(sort)?.iter().map(read).collect()
}

pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn installation(row: &Row) -> Result<State, StoreError> {
    let needed: Option<i64> = column(row, 2)?;
    let digest: Option<String> = column(row, 4)?;
    let (recovery, claim) = (needed.zip(column(row, 3)?), digest.zip(column(row, 5)?));
    relational::installation(column(row, 0)?, column(row, 1)?, recovery, claim)
}

fn document(row: &Row) -> Result<(Tenant, Document, u64), StoreError> {
    relational::document(column(row, 0)?, column(row, 1)?, column(row, 2)?, column(row, 3)?, column(row, 4)?)
}

fn key(row: &Row) -> Result<KeyRow, StoreError> {
    relational::KeyColumns {
        id: column(row, 0)?,
        tenant: column(row, 1)?,
        handle: column(row, 2)?,
        digest: column(row, 3)?,
        about: column(row, 4)?,
        created_us: column(row, 5)?,
        expires_us: column(row, 6)?,
        revoked_us: column(row, 7)?,
        last_used_us: column(row, 8)?,
    }
    .read()
}

fn epoch(row: &Row) -> Result<EpochRow, StoreError> {
    relational::epoch(column(row, 0)?, column(row, 1)?, column(row, 2)?, column(row, 3)?, column(row, 4)?)
}

fn sealed(row: &Row) -> Result<SealedRow, StoreError> {
    Ok(SealedRow {
        tenant: relational::tenant(column(row, 0)?)?,
        name: relational::name(column(row, 1)?)?,
        sealed: column(row, 2)?,
    })
}

fn bundle(row: &Row) -> Result<BundleRow, StoreError> {
    BundleColumns {
        tenant: column(row, 0)?,
        version: column(row, 1)?,
        base: column(row, 2)?,
        digest: column(row, 3)?,
        files: column(row, 4)?,
        candidate_digest: column(row, 5)?,
        candidate_files: column(row, 6)?,
        signed: column(row, 7)?,
    }
    .read()
}
