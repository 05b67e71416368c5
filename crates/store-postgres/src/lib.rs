//! The state database on PostgreSQL, and on what speaks its wire protocol.
//!
//! Every change of the state locks the one row of the installation first, so that such change sets apply one after the other,
//! whoever sends them. Sets that only change rows beside the state lock those rows alone, and do not wait for each other. Every question is answered or refused as unavailable within three seconds; the pool makes new
//! connections by itself when the server is back.

mod address;
mod counters;
mod error;
mod migrate;
mod nodes;
mod pool;
mod read;
mod store;
mod tls;

pub use address::AddressError;
pub use store::{OpenError, PostgresStore};
