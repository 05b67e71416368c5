//! The schema, as numbered steps. A step once released is never edited; each runs in one transaction with the number
//! it leads to, so that it happens once, whatever interrupts it.

use bartizan_store::StoreError;
use rusqlite::{Connection, TransactionBehavior};

use crate::error::sort;

/// Marks the file as ours (`application_id`): "btzs".
const APPLICATION: i32 = 0x6274_7a73;

/// Step `n` leads from version `n` to `n + 1`.
const STEPS: &[&str] = &[
    include_str!("../migrations/0001_state.sql"),
    include_str!("../migrations/0002_rows.sql"),
    include_str!("../migrations/0003_feed.sql"),
];

/// Brings the schema up to date.
///
/// # Errors
/// `Corrupt` for a file of another program, of a newer version, or damaged.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sort)?;
    let number = |pragma: &str| -> Result<i32, StoreError> {
        transaction.pragma_query_value(None, pragma, |row| row.get(0)).map_err(sort)
    };
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 =
        transaction.query_row("select count(*) from sqlite_schema", [], |row| row.get(0)).map_err(sort)?;
    let is_new = application == 0 && version == 0 && tables == 0;
    if !is_new && application != APPLICATION {
        return Err(StoreError::Corrupt("the file is a database of another program".to_owned()));
    }
    let known = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
    if version > known {
        return Err(StoreError::Corrupt(format!(
            "its schema has version {version}, this program knows up to {known}: it was written by a newer version"
        )));
    }
    let done = usize::try_from(version)
        .map_err(|_| StoreError::Corrupt(format!("its schema has version {version}")))?;
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step).map_err(sort)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(sort)?;
    transaction.pragma_update(None, "user_version", known).map_err(sort)?;
    transaction.commit().map_err(sort)
}

/// Reads every page once. The state is small; damage should show at the start and not at a decision.
///
/// # Errors
/// `Corrupt` with what SQLite found.
pub(crate) fn check(connection: &Connection) -> Result<(), StoreError> {
    let found: String = connection.query_row("pragma quick_check(1)", [], |row| row.get(0)).map_err(sort)?;
    if found == "ok" { Ok(()) } else { Err(StoreError::Corrupt(found)) }
}
