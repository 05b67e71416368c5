//! Ports of the state by noun, and the conformance suite every backend passes. No driver here.
//!
//! The state is small and loaded whole: documents, keys, epochs, sealed credentials and the bundle in force, at one
//! `revision`. Gateways decide on an immutable copy and watch the revision.

mod port;
mod state;

pub use port::{Checkpoints, Store, StoreError, Warrant};
pub use state::{BundleRow, Change, ClaimRow, EpochKind, EpochRow, Founding, KeyRow, SealedRow, State};
