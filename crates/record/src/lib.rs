//! Durable before effect: write-ahead log, group commit, sealing. The only maker of an [`IntentRecorded`].

mod intent;

pub use intent::{Ended, IntentRecorded, Receipt, RecordError, Running};
