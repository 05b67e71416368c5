//! The only place that touches the machine's clock, randomness and task spawning.

mod tasks;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SecureRandom as _;
use bartizan_base::{Clock, Random, Timestamp};

pub use tasks::{Shutdown, Tasks};

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic side starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this crate is where the machine's clock is read")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
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
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
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
