//! Time as a value and the clock as a parameter.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A moment: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted. Serialised as that integer in
/// fields whose names end in `_us`; printed as RFC 3339 in UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 9999-12-31T23:59:59Z, the last moment RFC 3339 can write; also below 2^53 microseconds times 32.
    pub const MAX: Self = Self(253_402_300_799_000_000);

    /// The moment `micros` microseconds after the epoch; later than [`Timestamp::MAX`] becomes that.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::MAX.0 { Self::MAX } else { Self(micros) }
    }

    /// The moment `seconds` after the epoch (a JWT's `NumericDate`).
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This moment plus `duration`, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Reads an RFC 3339 date-time with offset.
    ///
    /// # Errors
    /// When the text is not RFC 3339 or lies before 1970.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimestampError> {
        let parsed = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| TimestampError)?;
        u64::try_from(parsed.timestamp_micros()).map(Self::from_micros).map_err(|_| TimestampError)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = i64::try_from(self.0).map_err(|_| fmt::Error)?;
        let utc = chrono::DateTime::from_timestamp_micros(micros).ok_or(fmt::Error)?;
        f.pad(&utc.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
    }
}

/// The text is not an RFC 3339 date-time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a moment is written as RFC 3339, such as `2026-11-20T08:00:00Z`")]
pub struct TimestampError;

/// Where the time comes from. The real one is `rt::SystemClock`.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall-clock time. It can jump, also backwards.
    fn now(&self) -> Timestamp;

    /// Microseconds since an arbitrary start. It never goes back.
    fn monotonic_us(&self) -> u64;
}

/// A clock that stands until it is told to move, for tests and simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { wall: AtomicU64::new(now.as_micros()), monotonic: AtomicU64::new(0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.wall.fetch_add(micros, Ordering::SeqCst);
        self.monotonic.fetch_add(micros, Ordering::SeqCst);
    }

    /// Sets the wall clock, also backwards; the monotonic clock stays.
    pub fn set_wall(&self, now: Timestamp) {
        self.wall.store(now.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic_us(&self) -> u64 {
        self.monotonic.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_print_and_parse_rfc3339() {
        let t = Timestamp::from_micros(1_795_161_600_123_000);
        assert_eq!(t.to_string(), "2026-11-20T08:00:00.123Z");
        assert_eq!(Timestamp::parse_rfc3339("2026-11-20T09:00:00.123+01:00"), Ok(t));
        assert!(Timestamp::parse_rfc3339("2026-11-20").is_err());
        assert!(Timestamp::parse_rfc3339("1969-01-01T00:00:00Z").is_err());
        assert_eq!(Timestamp::from_micros(u64::MAX).to_string(), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn a_wall_clock_set_back_does_not_move_the_monotonic_one() {
        let clock = ManualClock::at(Timestamp::from_secs(100));
        clock.advance(Duration::from_secs(1));
        clock.set_wall(Timestamp::from_secs(50));
        assert_eq!(clock.now(), Timestamp::from_secs(50));
        assert_eq!(clock.monotonic_us(), 1_000_000);
    }
}
