//! The transparency log as pure functions: Merkle tree, tiles, entry bundles, signed notes, checkpoints, proofs.
//!
//! Follows the C2SP specifications signed-note, tlog-checkpoint, tlog-tiles and tlog-proof, over the tree of
//! RFC 6962. Reads and writes no files: [`Appender`] says which files a growing log needs, [`Source`] asks for
//! those it must see.

mod append;
mod bundle;
mod checkpoint;
mod key;
mod note;
mod proof;
mod source;
mod tile;
mod tlog_proof;
mod tree;

pub use append::{Appender, File, ResumeError};
pub use bundle::{BundleError, ENTRY_MAX, EntryTooLong, encode_entry, entries};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use key::{KeyError, KeyName, Signer, VerifierKey};
pub use note::{NOTE_MAX, NoteError, OpenedNote, open_note, sign_note};
pub use proof::{
    InvalidProof, ProveError, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion,
};
pub use source::{ReadError, Source};
pub use tile::{Bundle, PathError, Resource, TILE_WIDTH, Tile};
pub use tlog_proof::{TLOG_PROOF_MAX, TlogProof, TlogProofError};
pub use tree::{RightEdge, empty_root, leaf_hash, node_hash};
