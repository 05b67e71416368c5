//! What PostgreSQL's errors mean to the house.

use bartizan_store::StoreError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// Sorts an error: a server that cannot do it now, one that holds something unreadable, or a conflict.
pub(crate) fn sort(error: Error) -> StoreError {
    let Some(state) = error.code() else {
        // No word of the server: the connection broke, or a column is not of the type that it should be of.
        let is_type = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<tokio_postgres::types::WrongType>);
        return if is_type { StoreError::Corrupt(error.to_string()) } else { unavailable(error) };
    };
    match (state.code().get(..2), state) {
        // Constraints and values that do not fit a column.
        (Some("22" | "23"), _) => StoreError::Conflict(message(&error)),
        (_, &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED) => StoreError::Corrupt(message(&error)),
        (_, &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::DATATYPE_MISMATCH) => {
            StoreError::Corrupt(message(&error))
        }
        (_, &SqlState::DUPLICATE_TABLE) => StoreError::Corrupt(format!(
            "its tables are another program's or half of ours: {}",
            message(&error)
        )),
        // Connections, resources, time limits, deadlocks, a server that ends or only reads, missing rights.
        _ => unavailable(error),
    }
}

fn message(error: &Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned())
}

pub(crate) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}
