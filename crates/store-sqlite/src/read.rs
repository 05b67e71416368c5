//! Rows into state: all of it, or the slice that a set of changes has to see.

use std::collections::BTreeMap;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{KeyId, Tenant};
use bartizan_store::relational::{BundleColumns, RowColumns};
use bartizan_store::{
    BundleRow, ClaimRow, KeyRow, Row as SideRow, STEP_BYTES_AT_ONCE, SealedRow, Since, State, StepColumns,
    StoreError, Touched, following, relational,
};
use rusqlite::{Connection, Params, Row};

use crate::error::sort;

const DOCUMENT: &str = "select tenant, kind, name, body, changed from documents";
const KEY: &str = "select id, tenant, handle, digest, about, created_us, expires_us, revoked_us, last_used_us \
                   from api_keys";
const EPOCH: &str = "select tenant, kind, name, not_before_us, revision from epochs";
const BUNDLE_IN_FORCE: &str = "version = (select max(version) from bundles where tenant = b.tenant)";

/// Revision, recovery and claim; no rows yet.
pub(crate) fn installation(connection: &Connection) -> Result<State, StoreError> {
    type Columns = (i64, Option<String>, Option<i64>, Option<String>, Option<String>, Option<i64>);
    let sql = "select revision, mark, recovery_needed, recovery_keys, claim_digest, claim_expires_us \
               from installation";
    let (revision, mark, needed, keys, digest, expires): Columns = connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement
                .query_row([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?)))
        })
        .map_err(sort)?;
    relational::installation(revision, mark, needed.zip(keys), digest.zip(expires))
}

/// Everything. The caller holds a transaction, so that it is of one revision.
pub(crate) fn everything(connection: &Connection) -> Result<State, StoreError> {
    let mut state = installation(connection)?;
    state.documents = rows(connection, DOCUMENT, [], document)?.into();
    state.keys = rows(connection, KEY, [], key)?.into();
    state.epochs = rows(connection, EPOCH, [], epoch)?.into();
    state.sealed = rows(connection, "select tenant, name, sealed from sealed", [], sealed)?.into();
    state.bundles = rows(connection, &bundles(BUNDLE_IN_FORCE), [], bundle)?.into();
    let loaded = format!("kind in ({})", relational::loaded_kinds());
    state.rows = rows(connection, &side_rows(&loaded), [], side_row)?.into();
    state.sort();
    Ok(state)
}

/// The query of rows beside the state that are so.
pub(crate) fn side_rows(which: &str) -> String {
    format!("select {} from side_rows where {which}", RowColumns::NAMES)
}

/// A row beside the state.
pub(crate) fn side_row(row: &Row<'_>) -> Result<SideRow, StoreError> {
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
pub(crate) fn one_bundle(
    connection: &Connection,
    tenant: &str,
    version: i64,
) -> Result<Option<BundleRow>, StoreError> {
    let sql = bundles("tenant = ?1 and version = ?2");
    Ok(rows(connection, &sql, (tenant, version), bundle)?.pop())
}

/// The files of a bundle that was ever in force or tried.
pub(crate) fn bundle_files(
    connection: &Connection,
    tenant: &str,
    digest: &str,
) -> Result<Option<BTreeMap<String, String>>, StoreError> {
    let sql = "select files from bundles where tenant = ?1 and digest = ?2 \
               union all select candidate_files from bundles where tenant = ?1 and candidate_digest = ?2 limit 1";
    let text = |row: &Row<'_>| column::<String>(row, 0);
    let found = rows(connection, sql, (tenant, digest), text)?.pop();
    found.map(|files| relational::from_json("a bundle", &files)).transpose()
}

fn bundles(which: &str) -> String {
    format!("select {} from bundles as b where {which}", BundleColumns::NAMES)
}

/// What a set of changes to `tenant` has to see.
pub(crate) fn slice(
    connection: &Connection,
    tenant: &Tenant,
    touched: &Touched,
) -> Result<State, StoreError> {
    let tenant = tenant.0.as_str();
    let state = installation(connection)?;
    let (mut documents, mut epochs, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, name) in &touched.documents {
        let sql = format!("{DOCUMENT} where tenant = ?1 and kind = ?2 and name = ?3");
        documents.extend(rows(connection, &sql, (tenant, kind, name.as_str()), document)?);
    }
    let mut keys = BTreeMap::<KeyId, KeyRow>::new();
    let by_id = touched.key_ids.iter().map(|id| ("id", id.to_string()));
    let by_handle = touched.key_handles.iter().map(|handle| ("handle", handle.clone()));
    let by_digest = touched.key_digests.iter().map(|digest| ("digest", digest.to_string()));
    for (column, value) in by_id.chain(by_handle).chain(by_digest) {
        let sql = format!("{KEY} where {column} = ?1");
        keys.extend(rows(connection, &sql, [value], key)?.into_iter().map(|key| (key.id, key)));
    }
    for (kind, name) in &touched.epochs {
        let sql = format!("{EPOCH} where tenant = ?1 and kind = ?2 and name = ?3");
        let parameters = (tenant, relational::epoch_kind(*kind), name.as_str());
        epochs.extend(rows(connection, &sql, parameters, epoch)?);
    }
    let mut in_force = Vec::new();
    if touched.bundle {
        let sql = bundles(&format!("{BUNDLE_IN_FORCE} and tenant = ?1"));
        in_force = rows(connection, &sql, [tenant], bundle)?;
    }
    for (kind, id) in &touched.rows {
        let sql = side_rows("kind = ?1 and id = ?2");
        beside.extend(rows(connection, &sql, (kind.name(), id), side_row)?);
    }
    let mut state = State {
        documents: documents.into(),
        keys: keys.into_values().collect(),
        epochs: epochs.into(),
        bundles: in_force.into(),
        rows: beside.into(),
        ..state
    };
    state.sort();
    Ok(state)
}

/// What became of the state since it was at `revision` with `mark`. The caller holds a transaction.
pub(crate) fn changes_since(
    connection: &Connection,
    revision: u64,
    mark: Option<Digest>,
    limit: usize,
) -> Result<Since, StoreError> {
    let present = installation(connection)?.revision;
    let first = relational::signed(revision)?;
    let last = first.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX));
    let sql = "select revision, mark, follows, body from steps where revision between ?1 and ?2 \
               and (revision <= ?1 + 1 or upto <= ?3 + (select upto from steps where revision = ?1 + 1)) \
               order by revision";
    let at_once = relational::signed(STEP_BYTES_AT_ONCE)?;
    let found = rows(connection, sql, (first, last, at_once), step)?;
    let Some(following) = following(revision, mark, found)? else { return Ok(Since::TooOld) };
    let mut wanted = BTreeMap::new();
    for (tenant, version) in following.bundles() {
        let bundle = one_bundle(connection, tenant.0.as_str(), relational::signed(version)?)?;
        wanted.extend(bundle.map(|bundle| ((tenant.clone(), version), bundle)));
    }
    let steps = following.steps(&wanted)?;
    Ok(if steps.is_empty() && revision < present { Since::TooOld } else { Since::Steps(steps) })
}

fn step(row: &Row<'_>) -> Result<StepColumns, StoreError> {
    relational::step(column(row, 0)?, &column::<String>(row, 1)?, column(row, 2)?, column(row, 3)?)
}

/// Every row of a query. The texts of queries are constants of this module; values are bound.
pub(crate) fn rows<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(sort)?;
    let mut rows = statement.query(parameters).map_err(sort)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next().map_err(sort)? {
        out.push(read(row)?);
    }
    Ok(out)
}

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    row.get(index).map_err(sort)
}

fn document(row: &Row<'_>) -> Result<(Tenant, bartizan_model::Document, u64), StoreError> {
    let [tenant, kind, name, body] =
        [column::<String>(row, 0)?, column(row, 1)?, column(row, 2)?, column(row, 3)?];
    relational::document(&tenant, &kind, &name, &body, column(row, 4)?)
}

fn key(row: &Row<'_>) -> Result<KeyRow, StoreError> {
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

/// When a key was last used.
pub(crate) fn last_used(row: &Row<'_>) -> Result<(KeyId, Timestamp), StoreError> {
    relational::last_used(&column::<String>(row, 0)?, column(row, 1)?)
}

fn epoch(row: &Row<'_>) -> Result<bartizan_store::EpochRow, StoreError> {
    let [tenant, kind, name] = [column::<String>(row, 0)?, column(row, 1)?, column(row, 2)?];
    relational::epoch(&tenant, &kind, &name, column(row, 3)?, column(row, 4)?)
}

fn sealed(row: &Row<'_>) -> Result<SealedRow, StoreError> {
    Ok(SealedRow {
        tenant: relational::tenant(&column::<String>(row, 0)?)?,
        name: relational::name(&column::<String>(row, 1)?)?,
        sealed: column(row, 2)?,
    })
}

fn bundle(row: &Row<'_>) -> Result<BundleRow, StoreError> {
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

/// The claim's columns, as stored.
pub(crate) fn claim_columns(claim: &ClaimRow) -> (String, i64) {
    (claim.digest.to_string(), relational::micros(claim.expires))
}
