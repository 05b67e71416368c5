//! Verifies a log offline. Links nothing of the writer: only hashing, notes and proofs.
//!
//! Everything in the folder may be hostile, except what the log's key has signed.

mod directory;
mod file;
mod folder;
mod receipt;
mod report;

pub use directory::{verify_directory, verify_growing_directory};
pub use receipt::verify_receipt;
pub use report::{Check, Fault, Reason, Report};
