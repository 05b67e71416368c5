//! Durable before effect: write-ahead log, group commit, sealing. The only maker of an [`IntentRecorded`].
//!
//! A permit becomes an [`IntentRecorded`] once its record is on the disk; an effect demands that value. What is durable
//! is then sealed: appended to its tenant's tree, whose signed checkpoint is the public promise.

mod flood;
mod intent;
mod log;
mod recorder;
mod segment;
mod writer;

pub use intent::{Ended, IntentRecorded, Receipt, RecordError, Running};
pub use log::{LogError, SealedLog};
pub use recorder::{Config, Found, OpenError, Recorder, Stats};
pub use segment::{Disk, RealDisk, SegmentFile};
