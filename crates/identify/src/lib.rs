//! Verified keys and tokens become a [`Caller`]. This crate is the only maker of one.

mod caller;
mod directory;
mod identifier;
mod presented;
mod proven;
mod recovery;
pub mod spiffe;

pub use caller::{Caller, Scopes};
pub use directory::{Directory, EpochEntry, EpochKind, KeyEntry};
pub use identifier::{Identified, Identifier, LearnError};
pub use presented::Presented;
pub use proven::{Actor, Proof};
pub use recovery::{QuorumError, RecoverySignature, SignatureError, verify_quorum};
