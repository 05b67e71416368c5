//! Taking entries in.

use bartizan_query::{Facts, Field, Value};
use rusqlite::types::Value as SqlValue;
use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params, params_from_iter};

use crate::compile::{COLUMNS, LISTS};
use crate::error::IndexError;
use crate::index::{Index, log_id};

/// How far a log is indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many of its entries were taken in: the next to ingest.
    pub size: u64,
    /// How many of them this version does not understand; no query finds those.
    pub unreadable: u64,
}

impl Index {
    /// Takes in `entries` of the log `origin`, of which the first stands at `first`. Those that were taken in before are
    /// passed over, so a call can be repeated. All of it is one transaction: after a crash the log is read on from
    /// [`Index::position`]. Larger batches cost less an entry.
    ///
    /// # Errors
    /// `Gap` when entries before `first` are missing; `OtherTenant` when one speaks of another tenant. Then nothing was
    /// taken in.
    pub fn ingest(&self, origin: &str, first: u64, entries: &[&[u8]]) -> Result<Progress, IndexError> {
        let mut writer = self.writer();
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let log = log_id(origin);
        let mut progress = progress(&transaction, origin, log)?;
        if first > progress.size {
            return Err(IndexError::Gap { origin: origin.to_owned(), size: progress.size, first });
        }
        let known = usize::try_from(progress.size - first).unwrap_or(usize::MAX);
        let insert = insert_statement();
        for entry in entries.iter().skip(known) {
            let index = progress.size;
            progress.size += 1;
            match Facts::read(entry, Some((origin, index))) {
                Ok((record, facts)) if record.tenant == self.tenant => {
                    add(&transaction, &insert, log, &facts)?;
                }
                Ok(_) => return Err(IndexError::OtherTenant { origin: origin.to_owned(), index }),
                Err(_) => progress.unreadable += 1,
            }
        }
        transaction
            .prepare_cached("update logs set size = ?2, unreadable = ?3 where id = ?1")?
            .execute(params![log, progress.size, progress.unreadable])?;
        transaction.commit()?;
        Ok(progress)
    }
}

/// How far the log is; it has a row afterwards.
fn progress(transaction: &Transaction<'_>, origin: &str, log: i64) -> Result<Progress, IndexError> {
    let found: Option<(String, Progress)> = transaction
        .prepare_cached("select origin, size, unreadable from logs where id = ?1")?
        .query_row([log], |row| Ok((row.get(0)?, Progress { size: row.get(1)?, unreadable: row.get(2)? })))
        .optional()?;
    match found {
        Some((name, progress)) if name == origin => Ok(progress),
        Some((name, _)) => {
            Err(IndexError::Unusable(format!("the logs {name} and {origin} have the same number")))
        }
        None => {
            transaction.execute("insert into logs (id, origin) values (?1, ?2)", params![log, origin])?;
            Ok(Progress { size: 0, unreadable: 0 })
        }
    }
}

fn insert_statement() -> String {
    let names: Vec<_> = COLUMNS.iter().map(|(_, column)| *column).collect();
    let places = vec!["?"; names.len() + 1].join(", ");
    format!("insert into entries (log, {}) values ({places})", names.join(", "))
}

fn add(transaction: &Transaction<'_>, insert: &str, log: i64, facts: &Facts) -> Result<(), IndexError> {
    let values = COLUMNS.iter().map(|(field, _)| sql_value(facts, *field));
    transaction
        .prepare_cached(insert)?
        .execute(params_from_iter(std::iter::once(SqlValue::Integer(log)).chain(values)))?;
    let entry = transaction.last_insert_rowid();
    for (field, code) in LISTS {
        for value in facts.values(*field) {
            if let Value::Text(value) = value {
                transaction
                    .prepare_cached("insert or ignore into lists (field, value, entry) values (?1, ?2, ?3)")?
                    .execute(params![code, value, entry])?;
            }
        }
    }
    transaction
        .prepare_cached("insert into words (rowid, text) values (?1, ?2)")?
        .execute(params![entry, facts.words()])?;
    Ok(())
}

fn sql_value(facts: &Facts, field: Field) -> SqlValue {
    match facts.values(field).next() {
        Some(Value::Text(text)) => SqlValue::Text(text.clone()),
        Some(Value::Number(number)) => SqlValue::Integer(i64::try_from(*number).unwrap_or(i64::MAX)),
        None => SqlValue::Null,
    }
}
