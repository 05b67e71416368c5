//! Erasing a subject: its key is destroyed in one transaction, and what it sealed is swept up after.

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{ErasureId, PrincipalId, Tenant};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use crate::address::TenantKey;
use crate::error::sort;
use crate::schema::write;
use crate::vault::{Doomed, Inner, Step};
use crate::{Vault, VaultError, hold};

/// That a subject was erased; kept apart from the vault too, so that it can be done again after a restore. Who it was is
/// told only to whoever has the tenant's key and the pseudonym.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Which erasure.
    pub id: ErasureId,
    /// Whose house it is.
    pub tenant: Tenant,
    /// When it was asked for.
    pub time_us: Timestamp,
    /// The HMAC-SHA256 of the subject's pseudonym under the tenant's key.
    pub subject: Digest,
}

/// What an erasure destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// The erasure itself.
    pub erasure: Erasure,
    /// How many values of fields.
    pub items: u64,
    /// How many payloads.
    pub payloads: u64,
    /// When the oldest of them was put.
    pub first_us: Option<Timestamp>,
    /// When the newest of them was put.
    pub last_us: Option<Timestamp>,
}

// === impl Vault ===

impl Vault {
    /// Destroys the key of a subject, its values and its payloads. When this answers, nothing of them is left in the files
    /// of the vault; a crash leaves either everything or, after the next [`Vault::open`], nothing. Asked again when nothing
    /// was put since, it answers what the last erasure did, and completes it if it failed after the key was destroyed.
    ///
    /// A subject of which nothing is kept is noted as well: a backup may still hold it.
    ///
    /// # Errors
    /// `Held` under a legal hold, and nothing is erased.
    pub fn erase_subject(
        &self,
        tenant: &Tenant,
        subject: PrincipalId,
        now: Timestamp,
    ) -> Result<Erased, VaultError> {
        let inner = &*self.0;
        let mut connection = inner.lock();
        inner.step(Step::Begun)?;
        let interrupted = Inner::is_unswept(&connection)?;
        let (erased, doomed) = write(&mut connection, |transaction| {
            let tenant = TenantKey::find_or_make(transaction, &inner.tools, tenant)?;
            let subject = tenant.subject(subject);
            if !has_key(transaction, &tenant, subject)?
                && let Some(before) = last(transaction, &tenant, subject)?
            {
                return Ok((before, Vec::new()));
            }
            hold::refuse(transaction, &tenant, subject)?;
            let id = ErasureId::new(now, &*inner.tools.random);
            let erasure = Erasure { id, tenant: tenant.tenant.clone(), time_us: now, subject };
            let destroyed = destroy(transaction, &tenant, erasure)?;
            inner.step(Step::Deleted)?;
            Ok(destroyed)
        })?;
        inner.step(Step::Committed)?;
        let doomed = if interrupted { Doomed::Orphans } else { Doomed::Named(doomed) };
        inner.sweep(&connection, &doomed)?;
        Ok(erased)
    }

    /// The last erasure of a subject, if there was one: what tells "erased" from "never there".
    ///
    /// # Errors
    /// As the database is.
    pub fn erased(&self, tenant: &Tenant, subject: PrincipalId) -> Result<Option<Erased>, VaultError> {
        let connection = self.0.lock();
        let Some(tenant) = TenantKey::find(&connection, &self.0.tools, tenant)? else { return Ok(None) };
        last(&connection, &tenant, tenant.subject(subject))
    }

    /// Every erasure of a tenant, oldest first: the list that backups must not be restored without.
    ///
    /// # Errors
    /// As the database is.
    pub fn erasures(&self, tenant: &Tenant) -> Result<Vec<Erasure>, VaultError> {
        let connection = self.0.lock();
        let Some(tenant) = TenantKey::find(&connection, &self.0.tools, tenant)? else {
            return Ok(Vec::new());
        };
        let mut statement = connection
            .prepare_cached(
                "select id, subject, time_us, items, payloads, first_us, last_us from erasures \
                 where tenant = ?1 order by number",
            )
            .map_err(sort)?;
        let rows = statement.query_map([tenant.number], |row| Ok(read(row, &tenant))).map_err(sort)?;
        rows.map(|row| row.map_err(sort)?.map(|erased| erased.erasure)).collect()
    }

    /// Does erasures again after a restore from an older backup; to be called before anything else is put. Those that this
    /// vault knows are behind it and touch nothing. Legal holds do not stop it: none stood in its way when it was made.
    /// Answers how many were new.
    ///
    /// # Errors
    /// As the database is; what was done stays done.
    pub fn reapply(&self, erasures: &[Erasure]) -> Result<u64, VaultError> {
        let inner = &*self.0;
        let mut connection = inner.lock();
        let mut applied = 0;
        for erasure in erasures {
            applied += write(&mut connection, |transaction| {
                // A tenant that the backup does not know, or knows with another key, has nothing in it.
                let Some(tenant) = TenantKey::find(transaction, &inner.tools, &erasure.tenant)? else {
                    return Ok(0);
                };
                let known = transaction
                    .prepare_cached("select 1 from erasures where id = ?1")
                    .and_then(|mut statement| statement.exists([erasure.id.to_string()]))
                    .map_err(sort)?;
                if known {
                    return Ok(0);
                }
                destroy(transaction, &tenant, erasure.clone())?;
                Ok(1)
            })?;
        }
        inner.step(Step::Committed)?;
        inner.sweep(&connection, &Doomed::Orphans)?;
        Ok(applied)
    }
}

/// Deletes the subject's key and all that lies under it, and notes the erasure. Answers which files are to go.
fn destroy(
    transaction: &Connection,
    tenant: &TenantKey,
    erasure: Erasure,
) -> Result<(Erased, Vec<Digest>), VaultError> {
    let whose = params![tenant.number, erasure.subject.as_bytes()];
    let sum = |table: &str| -> Result<(u64, Option<u64>, Option<u64>), VaultError> {
        let sql = format!(
            "select count(*), min(made_us), max(made_us) from {table} where tenant = ?1 and subject = ?2"
        );
        transaction.query_row(&sql, whose, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(sort)
    };
    let ((items, first_item, last_item), (payloads, first_payload, last_payload)) =
        (sum("items")?, sum("payloads")?);
    let doomed = doomed(
        transaction,
        "delete from payloads where tenant = ?1 and subject = ?2 returning sha256",
        whose,
    )?;
    let delete = |table: &str| {
        let sql = format!("delete from {table} where tenant = ?1 and subject = ?2");
        transaction.execute(&sql, whose).map_err(sort)
    };
    delete("items")?;
    if delete("keys")? > 0 {
        Inner::note_unswept(transaction)?;
    }
    let first = first_item.into_iter().chain(first_payload).min();
    let last = last_item.into_iter().chain(last_payload).max();
    transaction
        .execute(
            "insert into erasures (id, tenant, subject, time_us, items, payloads, first_us, last_us) \
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                erasure.id.to_string(),
                tenant.number,
                erasure.subject.as_bytes(),
                erasure.time_us.as_micros(),
                items,
                payloads,
                first,
                last
            ],
        )
        .map_err(sort)?;
    let moment = |micros: Option<u64>| micros.map(Timestamp::from_micros);
    Ok((Erased { erasure, items, payloads, first_us: moment(first), last_us: moment(last) }, doomed))
}

/// Runs a statement that deletes payloads and returns their digests.
pub(crate) fn doomed(
    transaction: &Connection,
    sql: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Digest>, VaultError> {
    let mut statement = transaction.prepare_cached(sql).map_err(sort)?;
    let rows = statement.query_map(parameters, |row| row.get::<_, String>(0)).map_err(sort)?;
    rows.map(|name| name.map_err(sort)?.parse().map_err(|_| VaultError::Broken("a payload"))).collect()
}

fn has_key(connection: &Connection, tenant: &TenantKey, subject: Digest) -> Result<bool, VaultError> {
    connection
        .prepare_cached("select 1 from keys where tenant = ?1 and subject = ?2")
        .and_then(|mut statement| statement.exists(params![tenant.number, subject.as_bytes()]))
        .map_err(sort)
}

fn last(connection: &Connection, tenant: &TenantKey, subject: Digest) -> Result<Option<Erased>, VaultError> {
    connection
        .prepare_cached(
            "select id, subject, time_us, items, payloads, first_us, last_us from erasures \
             where tenant = ?1 and subject = ?2 order by number desc limit 1",
        )
        .and_then(|mut statement| {
            let parameters = params![tenant.number, subject.as_bytes()];
            statement.query_row(parameters, |row| Ok(read(row, tenant))).optional()
        })
        .map_err(sort)?
        .transpose()
}

fn read(row: &rusqlite::Row<'_>, tenant: &TenantKey) -> Result<Erased, VaultError> {
    let id: String = row.get(0).map_err(sort)?;
    let moment = |index| -> Result<Option<Timestamp>, VaultError> {
        Ok(row.get::<_, Option<u64>>(index).map_err(sort)?.map(Timestamp::from_micros))
    };
    Ok(Erased {
        erasure: Erasure {
            id: id.parse().map_err(|_| VaultError::Broken("an erasure"))?,
            tenant: tenant.tenant.clone(),
            time_us: Timestamp::from_micros(row.get(2).map_err(sort)?),
            subject: Digest::from_bytes(row.get(1).map_err(sort)?),
        },
        items: row.get(3).map_err(sort)?,
        payloads: row.get(4).map_err(sort)?,
        first_us: moment(5)?,
        last_us: moment(6)?,
    })
}
