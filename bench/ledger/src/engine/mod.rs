//! What appends records durably.

mod bare;
mod bartizan;
mod group;
mod postgres;
mod sqlite;

use bartizan_bench::Error;
use bartizan_bench::process::Processes;

pub use bare::BareFile;
pub use bartizan::{Ledger, ORIGIN, Way, new_node};
pub use postgres::{Postgres, postgres_version};
pub use sqlite::{Sqlite, sqlite_version};

/// Bytes of a record, in every engine.
pub const RECORD_BYTES: usize = 1_024;

/// Records that are made durable at once at the most, in every engine with a group commit.
pub const BATCH_MAX: usize = 1_024;

/// Appends records.
pub trait Engine: Send + Sync + 'static {
    /// Appends the record `number`, which is durable on return. No two calls have the same number.
    fn append(&self, number: u64) -> impl Future<Output = Result<(), Error>> + Send;

    /// How often the engine has flushed its log so far, where it tells.
    fn syncs(&self) -> impl Future<Output = Result<Option<u64>, Error>> + Send;

    /// The server behind the engine, where there is one.
    fn server(&self) -> Option<Processes> {
        None
    }

    /// Ends, and reads back whether the `acknowledged` records are there: a fast engine that loses some has measured
    /// nothing.
    fn check(&self, acknowledged: u64) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Refuses a count that is too small.
fn at_least(stored: u64, acknowledged: u64) -> Result<(), Error> {
    if stored >= acknowledged && acknowledged > 0 {
        return Ok(());
    }
    Err(format!("{acknowledged} records were acknowledged, but {stored} are there").into())
}

/// A record that tells its number, filled up with bytes that do not compress to nothing.
fn record(number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(RECORD_BYTES);
    out.extend_from_slice(&number.to_be_bytes());
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while out.len() < RECORD_BYTES {
        // Xorshift: eight bytes a step cost next to nothing.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_be_bytes());
    }
    out.truncate(RECORD_BYTES);
    out
}
