//! The only place that touches the machine's clock, randomness and task spawning.

mod background;
mod tasks;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SecureRandom as _;
use bartizan_base::{Clock, Random, Timestamp};
use rustix::time::{ClockId, clock_gettime};

pub use background::background;
pub use tasks::{Shutdown, Tasks};

/// The monotonic clock that runs on while the machine sleeps: leases run out meanwhile.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MONOTONIC: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MONOTONIC: ClockId = ClockId::Monotonic;

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Duration,
}

fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(MONOTONIC)).unwrap_or_default()
}

impl SystemClock {
    /// A clock whose monotonic side starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: since_boot() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this crate is where the machine's clock is read")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(since_boot().saturating_sub(self.start).as_micros()).unwrap_or(u64::MAX)
    }
}

/// The operating system's cryptographic randomness, through aws-lc.
#[derive(Debug, Default)]
pub struct SystemRandom(aws_lc_rs::rand::SystemRandom);

impl SystemRandom {
    /// The generator.
    #[must_use]
    pub fn new() -> Self {
        Self(aws_lc_rs::rand::SystemRandom::new())
    }
}

impl Random for SystemRandom {
    #[expect(
        clippy::panic,
        reason = "without randomness there are no keys and no ids; going on would be worse"
    )]
    fn fill(&self, out: &mut [u8]) {
        if self.0.fill(out).is_err() {
            panic!("the operating system gives no randomness");
        }
    }
}
