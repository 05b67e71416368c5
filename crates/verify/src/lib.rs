//! Verifies a log offline. Links nothing of the writer: only hashing, notes and proofs.
//!
//! Everything in the folder may be hostile, except what the log's key has signed.

mod compare;
mod directory;
mod file;
mod folder;
mod monitor;
mod promise;
mod receipt;
mod report;
mod source;
mod state;

pub use compare::{Comparison, Difference, Leaf, Then, Verdict, View, compare};
pub use directory::{Demand, verify_directory, verify_growing_directory, verify_log};
pub use monitor::{Watch, monitor};
pub use promise::verify_promise;
pub use receipt::{verify_receipt, verify_receipt_under};
pub use report::{Check, Fault, Reason, Report};
