//! Finds entries of the ledger fast: one SQLite file a tenant, a projection of sealed entries.
//!
//! The log is the truth, the index a convenience: it holds places and facts, never entries, and whatever it finds is read
//! from the log and held against the query again. So a stale or damaged index can miss, but never invent. It can be
//! deleted at any time and filled again from the log; pages and cursors stay the same.

mod compile;
mod cursor;
mod error;
mod file;
mod index;
mod ingest;
mod search;

pub use cursor::{Cursor, CursorError};
pub use error::{IndexError, LogFailure};
pub use index::Index;
pub use ingest::Progress;
pub use search::{Entries, LIMIT_MAX, Order, Page, Place, Row, Search};
