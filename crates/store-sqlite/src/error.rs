//! What SQLite's errors mean to the house.

use bartizan_store::StoreError;
use rusqlite::{Error, ErrorCode};

/// Sorts an error: a database that cannot do it now, one that holds something unreadable, or a conflict.
pub(crate) fn sort(error: Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => StoreError::Conflict(error.to_string()),
        // `Unknown` is SQLite's generic error: a table or column that should be there is not.
        Some(
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::TypeMismatch
            | ErrorCode::Unknown,
        ) => StoreError::Corrupt(error.to_string()),
        Some(_) => unavailable(error),
        None => StoreError::Corrupt(error.to_string()),
    }
}

pub(crate) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(code: i32) -> StoreError {
        sort(Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
    }

    #[test]
    fn a_full_locked_or_failing_disk_is_unavailable_and_damage_is_corrupt() {
        use rusqlite::ffi::{
            SQLITE_BUSY, SQLITE_CANTOPEN, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR, SQLITE_IOERR_FSYNC,
            SQLITE_LOCKED, SQLITE_NOTADB, SQLITE_READONLY,
        };
        for code in [
            SQLITE_BUSY,
            SQLITE_CANTOPEN,
            SQLITE_FULL,
            SQLITE_IOERR,
            SQLITE_IOERR_FSYNC,
            SQLITE_LOCKED,
            SQLITE_READONLY,
        ] {
            assert!(matches!(sqlite(code), StoreError::Unavailable(_)), "{code}");
        }
        for code in [SQLITE_CORRUPT, SQLITE_NOTADB] {
            assert!(matches!(sqlite(code), StoreError::Corrupt(_)), "{code}");
        }
    }
}
