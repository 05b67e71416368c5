//! Records to other systems: at least once, in order, and never in the way of the writer.
//!
//! A [`Courier`] serves one destination. It asks a [`Source`] for the batch behind a durable position, gives it to a [`Sink`],
//! and moves the position only afterwards. A batch's id follows from the range it covers, and the range is kept from the first
//! try on, so that a receiver can drop what it has already. What a receiver will not take becomes a dead letter.

mod backoff;
mod batch;
mod courier;
mod durable;
mod letters;
mod position;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use batch::{Batch, BatchId, Cause, DeliverError, Position, RangeError, Sink, Source, SourceError, Want};
pub use courier::{Config, Courier, Health, Parts, Pulse};
pub use letters::{DeadLetters, Letter, LetterError};
pub use position::{FilePositions, Positions, Progress};
