//! Ports of the state by noun, and the conformance suite every backend passes. No driver here.
//!
//! The state is loaded whole, once: documents, keys, epochs, sealed credentials and the bundle in force, at one `revision`.
//! Gateways decide on an immutable copy, watch the revision, and follow it by its [`Step`]s.
//!
//! What a set of changes means is said once, in [`State::apply`]. A backend locks the revision, loads the rows that
//! the set [`Touched`], applies the set to them and stores the [`Write`]s that come out. So backends differ only in
//! how they keep rows, never in what they allow.

mod apply;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod counters;
mod feed;
mod index;
mod labels;
mod memory;
mod nodes;
mod port;
pub mod relational;
mod rows;
mod state;

pub use apply::{Applied, Touched, Write, checkpoint_may_follow};
pub use counters::{CounterRow, CounterWork, Counters, MemoryCounters, detail_key};
pub use feed::{
    Following, STEP_BYTES_AT_ONCE, STEP_BYTES_KEPT, STEP_BYTES_MAX, STEPS_CLEARED, STEPS_KEPT, Since, Step,
    StepColumns, following,
};
pub use index::Index;
pub use labels::{Entering, Entrance, MARK_LIFE, Mark, Marked, Marks};
pub use memory::MemoryStore;
pub use nodes::{Acknowledged, Enforced, LEASE, NodeRow, Nodes};
pub use port::{Checkpoints, Store, StoreError, Warrant};
pub use rows::{ROW_BODY_MAX, ROW_NAME_MAX, Row, RowKind, Rows};
pub use state::{
    BundleRow, CandidateRow, Change, ClaimRow, EpochKind, EpochRow, Founding, KeyRow, SealedRow, State,
};
