//! The embedded state database: one SQLite file, write-ahead log, every commit synced.
//!
//! One connection serves all; SQLite has one writer at a time anyway, and the state is small. Work runs on the
//! blocking pool, so a slow disk never holds up the tasks that answer callers. Rows that were read or
//! written lately are known without asking.

mod batch;
mod counters;
mod error;
mod known;
mod migrate;
mod read;
mod store;

pub use counters::SqliteCounters;
pub use store::SqliteStore;
