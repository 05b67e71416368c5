//! Ports of the state by noun, and the conformance suite every backend passes. No driver here.
//!
//! The state is small and loaded whole: documents, keys, epochs, sealed credentials and the bundle in force, at one
//! `revision`. Gateways decide on an immutable copy and watch the revision. What a change means is one pure function
//! ([`State::apply`]) that all backends share; a backend only keeps rows, in transactions.

mod apply;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
mod port;
mod rows;
mod state;

pub use memory::MemoryStore;
pub use port::{Checkpoints, Store, StoreError, Warrant};
pub use rows::{RowKey, row_changes};
pub use state::{BundleRow, Change, ClaimRow, EpochKind, EpochRow, Founding, KeyRow, SealedRow, State};
