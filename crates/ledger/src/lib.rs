//! The transparency log without I/O: RFC 6962 hashing, tlog-tiles, signed notes, checkpoints, cosignatures,
//! witnesses, policies and proofs (C2SP).
//!
//! Reads and writes no files: [`Appender`] says which files a growing log needs, [`TileSource`] asks for those that must
//! be seen.

mod append;
mod checkpoint;
mod cosignature;
mod key;
mod note;
mod policy;
#[cfg(feature = "pq")]
mod pq;
mod promise;
mod proof;
mod prove;
mod receipt;
mod source;
mod tile;
mod tree;
mod witness;
mod witnessed;

pub use append::{Appender, EntryTooLong, File, ResumeError};
pub use checkpoint::{Checkpoint, CheckpointError, Cosigned};
pub use cosignature::{CosignError, Cosignature, Cosigner, CosignerKey, add_cosignatures};
pub use note::{NOTE_MAX, Note, NoteError, NoteSigner, SIGNATURES_MAX, UnverifiedNote, VerifierKey};
pub use policy::{Missing, POLICY_MAX, Policy, PolicyError, PolicyFault, PolicyLog, PolicyWitness, Refused};
pub use promise::{Promise, PromiseError, SignedBatch};
pub use proof::{ProofError, inclusion_proof, verify_consistency, verify_inclusion};
pub use prove::{ProveError, prove_consistency, prove_inclusion, root_at};
pub use receipt::{Receipt, ReceiptError};
pub use source::{ReadError, TileSource};
pub use tile::{
    ENTRIES_PER_BUNDLE, ENTRY_MAX, PathError, Tile, bundle_entries, encode_bundle, tiles_added, tiles_for,
};
pub use tree::{RightEdge, empty_root, leaf_hash, leaf_hash_behind_zero, node_hash, root_of};
pub use witness::{
    ADD_CHECKPOINT_MAX, Accepted, AddCheckpoint, Answer, Judgement, RequestError, SIZE_TYPE, Witness,
    monitor_path, read_conflict, read_cosignatures,
};
pub use witnessed::{Witnessed, WitnessedError, WitnessedReceipt};
