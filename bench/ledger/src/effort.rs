//! How long a run takes.

use std::time::Duration;

/// Rounds, times and sizes.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds of each case of appends.
    pub rounds: u32,
    pub warm_up: Duration,
    pub window: Duration,
    /// How long each part of the integration runs.
    pub integrate: Duration,
    /// Sizes of the log, growing, with what their cases are called.
    pub sizes: &'static [(u64, &'static str)],
    /// Rounds at each size.
    pub size_rounds: u32,
    /// Records of a round at a size.
    pub size_records: u64,
    /// Records that a crash leaves unsealed.
    pub tail: u64,
}

impl Effort {
    pub const FULL: Self = Self {
        rounds: 5,
        warm_up: Duration::from_secs(1),
        window: Duration::from_secs(3),
        integrate: Duration::from_secs(2),
        sizes: &[(10_000, "log_10k"), (100_000, "log_100k"), (1_000_000, "log_1m"), (10_000_000, "log_10m")],
        size_rounds: 3,
        size_records: 10_000,
        tail: 100_000,
    };
    pub const QUICK: Self = Self {
        rounds: 1,
        warm_up: Duration::from_millis(300),
        window: Duration::from_millis(700),
        integrate: Duration::from_millis(300),
        sizes: &[(10_000, "log_10k"), (100_000, "log_100k")],
        size_rounds: 1,
        size_records: 5_000,
        tail: 10_000,
    };
}
