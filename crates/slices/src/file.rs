//! The database: one file below `slices/`, its tables and what is asked of them.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{DecisionId, PrincipalId, Tenant};
use bartizan_vault::VaultError;
use rusqlite::{Connection, OptionalExtension as _, params};

/// Marks the file as ours (`application_id`): "btzl".
const APPLICATION: i32 = 0x6274_7a6c;
const SCHEMA: &str = include_str!("schema.sql");
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why something was not kept or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SlicesError {
    /// A file or folder.
    #[error("the folder of slices cannot be used")]
    Io(#[from] io::Error),
    /// The database.
    #[error("the database of slices cannot be used")]
    Database(#[from] rusqlite::Error),
    /// It is another program's, or a newer version's.
    #[error("`slices.db` is not a database of this version")]
    Foreign,
    /// The vault, where the keys lie.
    #[error("the keys of slices cannot be had")]
    Vault(#[from] VaultError),
    /// What is there is not what was put.
    #[error("{0} is damaged")]
    Damaged(&'static str),
    /// The thread that writes is gone.
    #[error("slices are not written any more")]
    Closed,
}

/// Something sealed under the keys of these, the innermost first; plain without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) under: Vec<PrincipalId>,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct File(Connection);

impl File {
    pub(crate) fn open(folder: &Path) -> Result<Self, SlicesError> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let path = folder.join("slices.db");
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(32);
        let number =
            |connection: &Connection, name| connection.pragma_query_value(None, name, |r| r.get::<_, i32>(0));
        let is_new = number(&connection, "schema_version")? == 0;
        if is_new {
            connection.pragma_update(None, "auto_vacuum", "incremental")?;
        }
        for (pragma, value) in [("journal_mode", "wal"), ("synchronous", "full"), ("trusted_schema", "off")] {
            connection.pragma_update(None, pragma, value)?;
        }
        if is_new {
            let transaction = connection.transaction()?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", 1)?;
            transaction.commit()?;
        } else if (number(&connection, "application_id")?, number(&connection, "user_version")?)
            != (APPLICATION, 1)
        {
            return Err(SlicesError::Foreign);
        }
        Ok(Self(connection))
    }

    /// Does all of `work`, durably, or nothing of it.
    pub(crate) fn write<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, SlicesError>,
    ) -> Result<T, SlicesError> {
        let transaction = self.0.transaction()?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    pub(crate) const fn connection(&self) -> &Connection {
        &self.0
    }

    /// Bytes that the file has in use.
    pub(crate) fn bytes(&self) -> Result<u64, SlicesError> {
        let number = |name| self.0.pragma_query_value(None, name, |r| r.get::<_, u64>(0));
        let used = number("page_count")?.saturating_sub(number("freelist_count")?);
        Ok(used.saturating_mul(number("page_size")?))
    }

    /// Gives pages that nothing uses back to the file system.
    pub(crate) fn shrink(&self) -> Result<(), SlicesError> {
        self.0.execute_batch("pragma incremental_vacuum; pragma wal_checkpoint(truncate)").map_err(Into::into)
    }
}

/// The ids as they stand in a row.
fn ids(under: &[PrincipalId]) -> String {
    under.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn kept(ids: &str, bytes: Vec<u8>) -> Result<Kept, SlicesError> {
    let under = ids.split_whitespace().map(str::parse).collect::<Result<_, _>>();
    Ok(Kept { under: under.map_err(|_| SlicesError::Damaged("a list of keys"))?, bytes })
}

pub(crate) fn put_ask(
    connection: &Connection,
    tenant: &Tenant,
    decision: DecisionId,
    slice: Digest,
    ask: &Kept,
) -> Result<(), SlicesError> {
    let sql = "insert or ignore into asks (tenant, decision, at_us, slice, under, bytes) \
               values (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute(params![
        tenant.0.as_str(),
        decision.as_bytes(),
        decision.timestamp().as_micros(),
        slice.as_bytes(),
        ids(&ask.under),
        ask.bytes
    ])?;
    Ok(())
}

pub(crate) fn ask(
    connection: &Connection,
    tenant: &Tenant,
    decision: DecisionId,
) -> Result<Option<(Digest, Kept)>, SlicesError> {
    let sql = "select slice, under, bytes from asks where tenant = ?1 and decision = ?2";
    let row: Option<([u8; 32], String, Vec<u8>)> = connection
        .prepare_cached(sql)?
        .query_row(params![tenant.0.as_str(), decision.as_bytes()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    row.map(|(slice, under, bytes)| Ok((Digest::from_bytes(slice), kept(&under, bytes)?))).transpose()
}

pub(crate) fn has_slice(
    connection: &Connection,
    tenant: &Tenant,
    slice: Digest,
) -> Result<bool, SlicesError> {
    let sql = "select 1 from slices where tenant = ?1 and slice = ?2";
    Ok(connection.prepare_cached(sql)?.exists(params![tenant.0.as_str(), slice.as_bytes()])?)
}

pub(crate) fn has_node(connection: &Connection, tenant: &Tenant, node: Digest) -> Result<bool, SlicesError> {
    let sql = "select 1 from nodes where tenant = ?1 and node = ?2 and stale = 0";
    Ok(connection.prepare_cached(sql)?.exists(params![tenant.0.as_str(), node.as_bytes()])?)
}

pub(crate) fn put_node(
    connection: &Connection,
    tenant: &Tenant,
    node: Digest,
    kept: &Kept,
) -> Result<(), SlicesError> {
    let sql = "insert or replace into nodes (tenant, node, under, bytes) values (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![
        tenant.0.as_str(),
        node.as_bytes(),
        ids(&kept.under),
        kept.bytes
    ])?;
    Ok(())
}

pub(crate) fn put_slice(
    connection: &Connection,
    tenant: &Tenant,
    slice: Digest,
    nodes: &[Digest],
) -> Result<(), SlicesError> {
    let tenant = tenant.0.as_str();
    let sql = "insert or ignore into slices (tenant, slice) values (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![tenant, slice.as_bytes()])?;
    let sql = "insert or ignore into members (tenant, slice, node) values (?1, ?2, ?3)";
    let mut statement = connection.prepare_cached(sql)?;
    for node in nodes {
        statement.execute(params![tenant, slice.as_bytes(), node.as_bytes()])?;
    }
    Ok(())
}

/// The nodes of a slice; none where the slice is not there whole.
pub(crate) fn nodes(
    connection: &Connection,
    tenant: &Tenant,
    slice: Digest,
) -> Result<Option<Vec<(Digest, Kept)>>, SlicesError> {
    let sql = "select m.node, n.under, n.bytes from members m left join nodes n \
               on n.tenant = m.tenant and n.node = m.node where m.tenant = ?1 and m.slice = ?2 order by m.node";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![tenant.0.as_str(), slice.as_bytes()])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let (node, under, bytes): ([u8; 32], Option<String>, Option<Vec<u8>>) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let Some((under, bytes)) = under.zip(bytes) else { return Ok(None) };
        out.push((Digest::from_bytes(node), kept(&under, bytes)?));
    }
    // Where nothing was in reach the slice is there and empty.
    let there = !out.is_empty() || has_slice(connection, tenant, slice)?;
    Ok(there.then_some(out))
}

/// Somebody was erased: entities that are or name them are put anew when they are seen again.
pub(crate) fn forget(
    connection: &Connection,
    tenant: &Tenant,
    subject: PrincipalId,
) -> Result<(), SlicesError> {
    let (tenant, pattern) = (tenant.0.as_str(), format!("%{subject}%"));
    let sql = "update nodes set stale = 1 where tenant = ?1 and under like ?2";
    if connection.execute(sql, [tenant, &pattern])? > 0 {
        let sql = "delete from slices where tenant = ?1 and slice in (select m.slice from members m join nodes n \
                   on n.tenant = m.tenant and n.node = m.node where m.tenant = ?1 and n.stale = 1)";
        connection.execute(sql, [tenant])?;
    }
    Ok(())
}

/// Before which moment asks were let go.
pub(crate) fn expired_before(connection: &Connection) -> Result<Timestamp, SlicesError> {
    let us = connection.query_row("select expired_before_us from housekeeping", [], |r| r.get(0))?;
    Ok(Timestamp::from_micros(us))
}

/// Lets asks of before `moment` go, at most `limit`. Says how many went.
pub(crate) fn expire(connection: &Connection, moment: Timestamp, limit: u64) -> Result<usize, SlicesError> {
    let sql = "delete from asks where (tenant, decision) in \
               (select tenant, decision from asks where at_us < ?1 order by at_us limit ?2)";
    let gone = connection.execute(sql, params![moment.as_micros(), limit])?;
    if gone > 0 {
        let sql = "update housekeeping set expired_before_us = max(expired_before_us, \
                   min(?1, coalesce((select min(at_us) from asks), ?1)))";
        connection.execute(sql, [moment.as_micros()])?;
    }
    Ok(gone)
}

/// Lets slices and nodes go that no ask needs any more.
pub(crate) fn collect(connection: &Connection) -> Result<(), SlicesError> {
    connection.execute_batch(
        "delete from slices where not exists \
           (select 1 from asks a where a.tenant = slices.tenant and a.slice = slices.slice); \
         delete from members where not exists \
           (select 1 from asks a where a.tenant = members.tenant and a.slice = members.slice); \
         delete from nodes where not exists \
           (select 1 from members m where m.tenant = nodes.tenant and m.node = nodes.node);",
    )?;
    Ok(())
}

/// The moment before which the oldest tenth of all asks lies.
pub(crate) fn oldest_tenth(connection: &Connection) -> Result<Option<Timestamp>, SlicesError> {
    let sql = "select at_us from asks order by at_us limit 1 offset (select count(*) / 10 + 1 from asks)";
    let us: Option<u64> = connection.query_row(sql, [], |r| r.get(0)).optional()?;
    Ok(us.map(Timestamp::from_micros))
}
