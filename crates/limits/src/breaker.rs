//! Whether something that failed is tried again: a circuit breaker.

use std::time::Duration;

/// After so many failures in a row nothing is sent for a while.
pub const FAILURES_MAX: u32 = 3;
/// For how long at first; twice as long with every failed attempt after that.
pub const REST: Duration = Duration::from_secs(5);
/// For how long at the most.
pub const REST_MAX: Duration = Duration::from_secs(120);

/// What is known of the health of one upstream. Times are those of a monotonic clock in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    /// While it is open: until when nothing is sent.
    rests_until_us: Option<u64>,
    /// While it is open and its rest is over: when somebody was sent ahead.
    trying_since_us: Option<u64>,
}

impl Breaker {
    /// Whether something may be sent now. Of those who ask when the rest is over one is sent ahead, and the others wait for what
    /// becomes of it; one of whom nothing is heard for a whole rest is not waited for.
    pub fn may_send(&mut self, now_us: u64) -> bool {
        let Some(until) = self.rests_until_us else { return true };
        if now_us < until {
            return false;
        }
        let waits = self.trying_since_us.is_some_and(|since| now_us < since.saturating_add(micros(REST_MAX)));
        if !waits {
            self.trying_since_us = Some(now_us);
        }
        !waits
    }

    /// It answered.
    pub const fn succeeded(&mut self) {
        *self = Self { failures: 0, rests_until_us: None, trying_since_us: None };
    }

    /// It did not answer, or said that it cannot.
    pub fn failed(&mut self, now_us: u64) {
        self.failures = self.failures.saturating_add(1);
        self.trying_since_us = None;
        if self.failures >= FAILURES_MAX {
            let doubled = micros(REST).checked_shl(self.failures - FAILURES_MAX).unwrap_or(u64::MAX);
            let rest = if self.failures - FAILURES_MAX > 20 { u64::MAX } else { doubled };
            self.rests_until_us = Some(now_us.saturating_add(rest.min(micros(REST_MAX))));
        }
    }

    /// Whether it rests.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.rests_until_us.is_some()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn after_three_failures_it_rests_and_one_is_sent_ahead() {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            assert!(breaker.may_send(0));
            breaker.failed(0);
        }
        assert!(breaker.is_open() && !breaker.may_send(5 * SECOND - 1));
        assert!(breaker.may_send(5 * SECOND) && !breaker.may_send(5 * SECOND), "only one is sent ahead");
        breaker.failed(6 * SECOND);
        assert!(
            !breaker.may_send(15 * SECOND) && breaker.may_send(16 * SECOND),
            "it rests for twice as long"
        );
        breaker.succeeded();
        assert!(breaker.may_send(16 * SECOND) && !breaker.is_open());
    }

    proptest! {
        #[test]
        fn whatever_happens_it_is_tried_again_and_a_success_closes_it(
            steps in proptest::collection::vec((0_u64..400 * SECOND, 0_u8..3), 0..200),
        ) {
            let (mut breaker, mut now, mut in_a_row) = (Breaker::default(), 0, 0_u32);
            for (wait, what) in steps {
                now += wait;
                match what {
                    0 => { breaker.failed(now); in_a_row += 1; }
                    1 => { breaker.succeeded(); in_a_row = 0; }
                    _ => { breaker.may_send(now); }
                }
                prop_assert_eq!(breaker.is_open(), in_a_row >= FAILURES_MAX);
                let mut later = breaker;
                prop_assert!(later.may_send(now + 2 * 120 * SECOND), "nothing stays shut for ever");
            }
        }
    }
}
