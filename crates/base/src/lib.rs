//! Vocabulary that every other crate stands on: typed ids, time and randomness as parameters, digests, strict
//! and canonical JSON, bounded text.
//!
//! Nothing here touches the machine: the real clock and the real randomness live in `bartizan-rt`.

pub mod digest;
pub mod id;
pub mod json;
pub mod random;
pub mod shared;
pub mod text;
pub mod time;

pub use digest::Digest;
pub use id::{Id, IdKind};
pub use random::Random;
pub use text::{Name, Text};
pub use time::{Clock, Timestamp, TimestampError};
