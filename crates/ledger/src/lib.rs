//! The transparency log without I/O: RFC 6962 hashing, tlog-tiles, signed notes, checkpoints and proofs (C2SP).
//!
//! Reads and writes no files: [`Appender`] says which files a growing log needs, [`TileSource`] asks for those that must
//! be seen.

mod append;
mod checkpoint;
mod note;
mod promise;
mod proof;
mod prove;
mod source;
mod tile;
mod tree;

pub use append::{Appender, EntryTooLong, File, ResumeError};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use note::{NOTE_MAX, Note, NoteError, NoteSigner, VerifierKey};
pub use promise::{Promise, PromiseError, SignedBatch};
pub use proof::{ProofError, Receipt, inclusion_proof, verify_consistency, verify_inclusion};
pub use prove::{ProveError, prove_consistency, prove_inclusion};
pub use source::{ReadError, TileSource};
pub use tile::{
    ENTRIES_PER_BUNDLE, ENTRY_MAX, PathError, Tile, bundle_entries, encode_bundle, tiles_added, tiles_for,
};
pub use tree::{RightEdge, empty_root, leaf_hash, node_hash, root_of};
