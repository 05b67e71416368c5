//! Records to other systems: at least once, in order, and never in the way of the writer.
//!
//! A [`Courier`] serves one destination. It asks a [`Source`] for the batch behind a durable position, gives it to a [`Sink`],
//! and moves the position only afterwards. A batch's id follows from the range it covers, and the range is kept from the first
//! try on, so that a receiver can drop what it has already. What a receiver will not take becomes a dead letter.

mod backoff;
mod batch;
mod courier;
mod durable;
mod file;
mod http;
mod letters;
#[cfg(feature = "nats")]
mod nats;
mod position;
#[cfg(feature = "s3")]
mod s3;
mod syslog;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use batch::{Batch, BatchId, Cause, DeliverError, Position, RangeError, Sink, Source, SourceError, Want};
pub use courier::{Config, Courier, Health, Parts, Pulse};
pub use file::{FileConfig, FileSink, FileSinkError};
pub use http::{DELIVERY_ID, HttpConfig, HttpConfigError, HttpSink, SIGNATURE, TIMESTAMP};
pub use letters::{DeadLetters, Letter, LetterError};
#[cfg(feature = "nats")]
pub use nats::{NatsConfig, NatsLogin, NatsSink, SubjectError};
pub use position::{FilePositions, Positions, Progress};
#[cfg(feature = "s3")]
pub use s3::{Bucket, Mirror, MirrorError, Put, S3Config, S3Error, S3Sink, Version};
pub use syslog::{Header, HeaderError, SyslogConfig, SyslogSink, Transport};
