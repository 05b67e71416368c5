//! Verifies a log offline. Links nothing of the writer: only hashing, notes and proofs.

mod directory;

pub use directory::{Check, Fault, Report, verify_directory};
