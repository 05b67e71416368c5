//! The state database on PostgreSQL, and on what speaks its wire protocol.
//!
//! Every change locks the one row of the installation first, so that change sets apply one after the other, whoever
//! sends them. Every question is answered or refused as unavailable within three seconds; the pool makes new
//! connections by itself when the server is back.

mod address;
mod error;
mod migrate;
mod pool;
mod read;
mod store;
mod tls;

pub use address::AddressError;
pub use store::{OpenError, PostgresStore};
