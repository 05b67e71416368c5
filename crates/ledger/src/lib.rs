//! The transparency log without I/O: RFC 6962 hashing, tlog-tiles, signed notes and checkpoints (C2SP).

mod checkpoint;
mod note;
mod proof;
mod tile;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use note::{Note, NoteError, NoteSigner, VerifierKey};
pub use proof::{ProofError, Receipt, inclusion_proof, verify_consistency, verify_inclusion};
pub use tile::{ENTRIES_PER_BUNDLE, Tile, bundle_entries, encode_bundle, tiles_for};
pub use tree::{RightEdge, empty_root, leaf_hash, node_hash, root_of};
