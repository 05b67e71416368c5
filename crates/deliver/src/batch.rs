//! What is delivered, where it comes from and where it goes.

use std::borrow::Cow;
use std::fmt::{self, Debug};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bartizan_base::digest::DigestError;
use bartizan_base::{Digest, Text};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A place in a log: its origin and the index of an entry in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The log's name.
    pub origin: Arc<str>,
    /// The entry's index, from 0.
    pub index: u64,
}

/// Names a batch by what it covers, so that a receiver can drop what it has already: the same range of the same log has the
/// same id, today and after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(Digest);

/// Records on their way, as one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    id: BatchId,
    first: Position,
    last: Position,
    /// What the body is, such as [`Batch::JSON_LINES`].
    pub media_type: Cow<'static, str>,
    /// The records, encoded.
    pub body: Bytes,
    /// How many records the body holds. Fewer than the range is long where some are not for this destination; with none, the
    /// range is passed over without a delivery.
    pub records: u32,
}

/// The range is none: its ends lie in different logs, or the wrong way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch covers a range of one log")]
pub struct RangeError;

/// What the next batch is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// It begins right behind this place; none means at the beginning of everything.
    pub after: Option<Position>,
    /// Where it must end: it was tried before, and has to keep its id. The bounds below held then.
    pub until: Option<Position>,
    /// How many entries it covers at the most.
    pub records_max: u32,
    /// How long its body is at the most, in bytes.
    pub bytes_max: usize,
}

/// Why there is no batch.
#[derive(Debug, thiserror::Error)]
#[error("the records cannot be read: {0}")]
pub struct SourceError(pub Text<512>);

/// Where batches come from.
///
/// Contract: batches are made of what is sealed, so that a range never changes its content. A batch begins at the entry right
/// behind [`Want::after`], or at index 0 of the log that follows. Reading never holds the writer up.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// The next batch; none if there is nothing new.
    ///
    /// # Errors
    /// When the records cannot be read now. It is asked again later.
    async fn next(&self, want: &Want) -> Result<Option<Batch>, SourceError>;

    /// How many entries lie behind `after`.
    ///
    /// # Errors
    /// As for [`Source::next`].
    async fn behind(&self, after: Option<&Position>) -> Result<u64, SourceError>;
}

/// Why a batch was not delivered. The cause is shown and kept; it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliverError {
    /// Not now: it is tried again.
    #[error("not delivered: {cause}")]
    Retry {
        /// How long the receiver asks to wait.
        after: Option<Duration>,
        /// Why.
        cause: Cause,
    },
    /// Not this batch, however often it is tried: it becomes a dead letter.
    #[error("refused: {cause}")]
    Refused {
        /// Why.
        cause: Cause,
    },
}

/// Why something went wrong, in at most 512 bytes without control characters.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cause(Text<512>);

/// Where batches go.
///
/// Contract: `Ok` means that the receiver has the whole batch, as surely as its protocol can tell. A batch may come again,
/// also after `Ok`; a delivery may be dropped in the middle.
#[async_trait]
pub trait Sink: Debug + Send + Sync {
    /// Delivers one batch.
    ///
    /// # Errors
    /// [`DeliverError`] says whether to try again.
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliverError>;
}

// === impl Batch ===

impl Batch {
    /// One JSON object a line, each line ended (RFC 8259 with line feeds).
    pub const JSON_LINES: &'static str = "application/x-ndjson";
    /// Lines of text, such as CEF.
    pub const TEXT_LINES: &'static str = "text/plain; charset=utf-8";

    /// A batch that covers everything from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`RangeError`].
    pub fn new(
        first: Position,
        last: Position,
        media_type: impl Into<Cow<'static, str>>,
        body: Bytes,
        records: u32,
    ) -> Result<Self, RangeError> {
        if first.origin != last.origin || first.index > last.index {
            return Err(RangeError);
        }
        let id = BatchId::of(&first, &last);
        Ok(Self { id, first, last, media_type: media_type.into(), body, records })
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> BatchId {
        self.id
    }

    /// The first entry it covers.
    #[must_use]
    pub const fn first(&self) -> &Position {
        &self.first
    }

    /// The last entry it covers.
    #[must_use]
    pub const fn last(&self) -> &Position {
        &self.last
    }

    /// Whether it begins where it has to, and ends there too if it was tried before.
    pub(crate) fn fits(&self, want: &Want) -> bool {
        let begins = match &want.after {
            None => true,
            Some(after) if after.origin == self.first.origin => {
                after.index.checked_add(1) == Some(self.first.index)
            }
            Some(_) => self.first.index == 0,
        };
        begins
            && self.body.len() <= want.bytes_max
            && want.until.as_ref().is_none_or(|until| *until == self.last)
    }
}

// === impl BatchId ===

impl BatchId {
    fn of(first: &Position, last: &Position) -> Self {
        let lengths = [first.origin.len() as u64, first.index, last.index];
        let [length, from, to] = lengths.map(u64::to_be_bytes);
        Self(Digest::of_parts(&[b"bartizan-delivery-v1\0", &length, first.origin.as_bytes(), &from, &to]))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for BatchId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

// === impl DeliverError ===

impl DeliverError {
    /// Try again, when the courier thinks fit.
    pub fn retry(cause: impl fmt::Display) -> Self {
        Self::Retry { after: None, cause: Cause::new(cause) }
    }

    /// Do not try again.
    pub fn refused(cause: impl fmt::Display) -> Self {
        Self::Refused { cause: Cause::new(cause) }
    }

    /// Why.
    #[must_use]
    pub const fn cause(&self) -> &Cause {
        match self {
            Self::Retry { cause, .. } | Self::Refused { cause } => cause,
        }
    }
}

// === impl Cause ===

impl Cause {
    /// As much of `cause` as fits.
    pub fn new(cause: impl fmt::Display) -> Self {
        Self(Text::lossy(&cause.to_string().replace(['\n', '\t'], " ")))
    }

    /// An error with what caused it.
    pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        Self::new(text)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(self.0.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(origin: &str, index: u64) -> Position {
        Position { origin: origin.into(), index }
    }

    fn batch(first: Position, last: Position) -> Result<Batch, RangeError> {
        Batch::new(first, last, Batch::JSON_LINES, Bytes::from_static(b"{}\n"), 1)
    }

    #[test]
    fn the_id_follows_from_the_range_alone() {
        let id = |origin, first, last| batch(at(origin, first), at(origin, last)).unwrap().id();
        let known = id("log.example/a", 0, 9);
        let again = Batch::new(at("log.example/a", 0), at("log.example/a", 9), "text/plain", Bytes::new(), 0);
        assert_eq!(known, again.unwrap().id());
        for other in [id("log.example/b", 0, 9), id("log.example/a", 0, 8), id("log.example/a", 1, 9)] {
            assert_ne!(known, other);
        }
        assert_eq!(known.to_string().parse(), Ok(known));
    }

    #[test]
    fn a_range_over_two_logs_or_backwards_is_none() {
        assert_eq!(batch(at("a", 1), at("b", 2)), Err(RangeError));
        assert_eq!(batch(at("a", 2), at("a", 1)), Err(RangeError));
    }

    #[test]
    fn a_batch_with_a_gap_an_overlap_or_another_end_does_not_fit() {
        let want = |after, until| Want { after, until, records_max: 10, bytes_max: 100 };
        let ten = batch(at("a", 10), at("a", 19)).unwrap();
        assert!(ten.fits(&want(Some(at("a", 9)), None)));
        assert!(ten.fits(&want(Some(at("a", 9)), Some(at("a", 19)))));
        for (after, until) in [
            (Some(at("a", 8)), None),
            (Some(at("a", 10)), None),
            (Some(at("b", 9)), None),
            (Some(at("a", u64::MAX)), None),
            (Some(at("a", 9)), Some(at("a", 18))),
        ] {
            assert!(!ten.fits(&want(after, until)));
        }
        assert!(batch(at("b", 0), at("b", 3)).unwrap().fits(&want(Some(at("a", 9)), None)), "the next log");
        assert!(!ten.fits(&Want { bytes_max: 2, ..want(None, None) }), "too long");
    }

    #[test]
    fn a_cause_is_bounded_and_one_line() {
        let cause = Cause::new(format!("a\nb\u{1b}{}", "x".repeat(1_000))).to_string();
        assert!(cause.len() <= 512 && cause.starts_with("a b\u{fffd}x"));
    }
}
