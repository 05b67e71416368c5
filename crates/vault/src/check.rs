//! Whether everything that is kept can still be read.

use std::io;

use bartizan_base::Digest;
use rusqlite::{Connection, params};

use crate::address::{SubjectKey, TenantKey};
use crate::error::sort;
use crate::items::Row;
use crate::payload::Stored;
use crate::{Vault, VaultError};

/// What was found in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many subjects have a key.
    pub subjects: u64,
    /// How many values of fields opened.
    pub items: u64,
    /// How many payloads opened.
    pub payloads: u64,
}

// === impl Vault ===

impl Vault {
    /// Reads the database whole and opens every key, value and payload. Others can work meanwhile, subject by subject.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<Checked, VaultError> {
        let inner = &*self.0;
        let mut checked = Checked::default();
        let tenants = {
            let connection = inner.lock();
            whole(&connection)?;
            TenantKey::all(&connection, &inner.tools)?
        };
        for tenant in tenants {
            let subjects = subjects(&inner.lock(), &tenant)?;
            for subject in subjects {
                let (key, payloads) = {
                    let connection = inner.lock();
                    // Erased since the list was made.
                    let Some(key) = SubjectKey::find(&connection, &inner.tools, &tenant, subject)? else {
                        continue;
                    };
                    checked.items += items(&connection, &tenant, &key, subject)?;
                    (key, Stored::all(&connection, &tenant, subject)?)
                };
                for payload in payloads {
                    match payload.open(inner, &tenant, &key, &mut io::sink()) {
                        Ok(_) => checked.payloads += 1,
                        Err(VaultError::Erased) => {}
                        Err(error) => return Err(error),
                    }
                }
                checked.subjects += 1;
            }
        }
        Ok(checked)
    }
}

fn whole(connection: &Connection) -> Result<(), VaultError> {
    let found: String =
        connection.query_row("pragma integrity_check(1)", [], |row| row.get(0)).map_err(sort)?;
    if found != "ok" {
        return Err(VaultError::Database(found));
    }
    let is_orphaned =
        connection.prepare("pragma foreign_key_check").and_then(|mut s| s.exists([])).map_err(sort)?;
    if is_orphaned {
        return Err(VaultError::Database("a row belongs to nobody".to_owned()));
    }
    Ok(())
}

fn subjects(connection: &Connection, tenant: &TenantKey) -> Result<Vec<Digest>, VaultError> {
    let mut statement =
        connection.prepare_cached("select subject from keys where tenant = ?1").map_err(sort)?;
    let rows =
        statement.query_map([tenant.number], |row| row.get(0).map(Digest::from_bytes)).map_err(sort)?;
    rows.map(|row| row.map_err(sort)).collect()
}

fn items(
    connection: &Connection,
    tenant: &TenantKey,
    key: &SubjectKey,
    subject: Digest,
) -> Result<u64, VaultError> {
    let mut statement = connection
        .prepare_cached(
            "select subject, decision, field, kind, made_us, sealed from items \
             where tenant = ?1 and subject = ?2",
        )
        .map_err(sort)?;
    let mut rows = statement.query(params![tenant.number, subject.as_bytes()]).map_err(sort)?;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(sort)? {
        let sealed: Vec<u8> = row.get(5).map_err(sort)?;
        Row::read(row)?.open(tenant, key, &sealed)?;
        count += 1;
    }
    Ok(count)
}
