//! The file: making, opening and removing it.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bartizan_model::Tenant;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};

use crate::error::IndexError;

/// Marks the file as ours (`application_id`): "btzi".
const APPLICATION: i32 = 0x6274_7a69;
/// The version of the schema and of the facts. There are no migrations: another version is rebuilt.
const VERSION: i32 = 1;
/// How much of the file the writer keeps in memory: the places where ten indexes grow lie far apart.
const CACHE_KIB: i32 = 32 * 1_024;
/// How long to wait for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens the file for writing, making it if there is none (mode 0600).
pub(crate) fn writer(path: &Path, tenant: &Tenant) -> Result<Connection, IndexError> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    // What a power cut takes is read from the log again; it leaves the file whole.
    for (pragma, value) in [("journal_mode", "wal"), ("synchronous", "normal"), ("trusted_schema", "off")] {
        connection.pragma_update(None, pragma, value)?;
    }
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    prepare(&mut connection, tenant)?;
    Ok(connection)
}

/// Opens the file for reading beside the writer.
pub(crate) fn reader(path: &Path) -> Result<Connection, IndexError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "trusted_schema", "off")?;
    Ok(connection)
}

/// Removes the file and its companions.
pub(crate) fn remove(path: &Path) -> Result<(), IndexError> {
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn prepare(connection: &mut Connection, tenant: &Tenant) -> Result<(), IndexError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = |pragma: &str| -> Result<i32, IndexError> {
        Ok(transaction.pragma_query_value(None, pragma, |row| row.get(0))?)
    };
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = transaction.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
    if (application, version, tables) == (0, 0, 0) {
        transaction.execute_batch(include_str!("schema.sql"))?;
        transaction.execute("insert into about (tenant) values (?1)", [tenant.0.as_str()])?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    } else if application != APPLICATION {
        return Err(IndexError::Unusable("the file belongs to another program".to_owned()));
    } else if version != VERSION {
        return Err(IndexError::Unusable(format!("it has version {version}, this program makes {VERSION}")));
    } else {
        let whose: Option<String> =
            transaction.query_row("select tenant from about", [], |row| row.get(0)).optional()?;
        if whose.as_deref() != Some(tenant.0.as_str()) {
            return Err(IndexError::Unusable("it belongs to another tenant".to_owned()));
        }
    }
    transaction.commit()?;
    Ok(())
}
