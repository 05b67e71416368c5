//! What can go wrong, by what the caller does about it.

use rusqlite::{Error, ErrorCode};

use crate::cursor::CursorError;

/// Why the log could not be read, in the words of whoever reads it.
pub type LogFailure = Box<dyn std::error::Error + Send + Sync>;

/// Why the index did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file is damaged, of another version or not ours: [`Index::rebuild`](crate::Index::rebuild), then fill again.
    #[error("the index has to be rebuilt: {0}")]
    Unusable(String),
    /// The disk or the database cannot do it now.
    #[error("the index is not available")]
    Unavailable(#[source] LogFailure),
    /// Entries were left out before the ones that were given.
    #[error("the log {origin} is indexed up to {size}, and {first} is further on")]
    Gap {
        /// Which log.
        origin: String,
        /// The entry that comes next.
        size: u64,
        /// The entry that was given.
        first: u64,
    },
    /// An entry speaks of another tenant than the one whose index this is.
    #[error("the entry {index} of the log {origin} belongs to another tenant")]
    OtherTenant {
        /// Which log.
        origin: String,
        /// Which entry.
        index: u64,
    },
    /// The cursor is not one of ours, or of another question.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The index has not yet reached what the cursor's first page was made of: it is being rebuilt.
    #[error("the index of the log {origin} has reached {size} of {needed} entries: try again shortly")]
    Behind {
        /// Which log.
        origin: String,
        /// How far it is.
        size: u64,
        /// How far it has to be.
        needed: u64,
    },
    /// The answer took longer than the bound: ask for less time or for a more telling field.
    #[error("the query takes too long: narrow it, for example by `since:`")]
    QueryTooSlow,
    /// The log could not be read.
    #[error("the log cannot be read")]
    Log(#[source] LogFailure),
}

impl From<Error> for IndexError {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::QueryTooSlow,
            // `Unknown` is SQLite's generic error: a table or column that should be there is not.
            None
            | Some(
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::TypeMismatch
                | ErrorCode::ConstraintViolation
                | ErrorCode::Unknown,
            ) => Self::Unusable(error.to_string()),
            Some(_) => Self::Unavailable(Box::new(error)),
        }
    }
}

impl From<std::io::Error> for IndexError {
    fn from(error: std::io::Error) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
