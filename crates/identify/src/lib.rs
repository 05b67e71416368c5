//! Verified keys and tokens become a [`Caller`]. This crate is the only maker of one.
//!
//! A token goes through three gates. What its text says is verified once and then remembered by the digest of the whole
//! text; that it still holds (times, keys, everybody in its chain, epochs) is looked up each time it comes; what only this
//! request tells (a proof, a certificate, the device behind it, how risky it looks) is never remembered.

mod api_key;
mod cache;
mod caller;
mod certificate;
mod directory;
mod epochs;
mod foreign;
mod genuine;
mod ground;
mod identifier;
mod once;
mod own;
mod presented;
mod proven;
mod recovery;
mod replays;
pub mod spiffe;
mod step_up;
mod trust;

pub use caller::{Caller, Scopes};
pub use certificate::{IssuedCertificate, WorkloadCertificate};
pub use directory::{Assessed, Changed, Directory, KeyEntry, OwnKey};
pub use epochs::{EpochEntry, EpochKind, client_mark};
pub use foreign::LearnError;
pub use identifier::{Identified, Identifier};
pub use presented::{PeerCertificate, Place, Presented, Shown};
pub use proven::{Actor, Proof};
pub use recovery::{QuorumError, RecoverySignature, SignatureError, verify_quorum};
pub use step_up::{Answered, LIFE as STEP_UP_LIFE, Link, Question, StepUps, Wanted};
pub use trust::NeedBundle;
