//! Durable before effect: write-ahead log, group commit, sealing. The only maker of an [`IntentRecorded`].
//!
//! A permit becomes an [`IntentRecorded`] once its record is on the disk; an effect demands that value. What is durable is
//! then sealed: appended to its tenant's tree, whose signed checkpoint is the public promise.

mod core;
mod disk;
mod encode;
mod feed;
mod flood;
mod folder;
mod intent;
mod log;
mod operator;
mod period;
mod queue;
mod read;
mod recorder;
mod recover;
mod remove;
mod seal;
mod sealed;
mod sector;
mod segment;
#[cfg(test)]
mod sim;
mod spare;
mod tail;
#[cfg(test)]
mod tests;
mod told;
mod twin;
mod wal;
mod witness;
mod witnessed;

pub use core::Stats;
pub use disk::{Disk, DiskFile, RealDisk, Several};
pub use feed::{Feed, FeedLog};
pub use folder::{DataFolder, LockError};
pub use intent::{Ended, IntentRecorded, Receipt, RecordError, Running};
pub use log::LogError;
pub use period::period_is_over;
pub use read::{Found, LogFile, LogHead, Place, Proof};
pub use recorder::{Config, Recorder};
pub use recover::OpenError;
pub use remove::{ClosedLog, RemoveError};
pub use sealed::ReadError;
pub use twin::Copy;
pub use witness::{Round, Witness, WitnessError};
pub use witnessed::WitnessedProof;
