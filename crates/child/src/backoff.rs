//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// The first wait, doubled with every failure in a row up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Who ran for so long did not fail by starting.
const SOUND: Duration = Duration::from_secs(60);

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    not_before_us: u64,
}

impl Backoff {
    /// Whether it may be tried at `now_us`.
    pub(crate) const fn may(self, now_us: u64) -> bool {
        now_us >= self.not_before_us
    }

    /// It failed or ended at `now_us` after it ran for `ran`.
    pub(crate) fn failed(&mut self, now_us: u64, ran: Duration) {
        self.failures = if ran >= SOUND { 1 } else { self.failures.saturating_add(1) };
        let factor = 1_u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let wait = FIRST.saturating_mul(factor).min(LONGEST);
        self.not_before_us = now_us.saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX));
    }

    /// Whether nothing would be lost by forgetting it.
    pub(crate) fn is_over(self, now_us: u64) -> bool {
        let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
        self.failures == 0 || now_us >= self.not_before_us.saturating_add(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_sound_run() {
        let (mut backoff, mut now) = (Backoff::default(), 0);
        let mut waits = Vec::new();
        for _ in 0..40 {
            assert!(backoff.may(now));
            backoff.failed(now, Duration::ZERO);
            waits.push((backoff.not_before_us - now) / 1_000_000);
            assert!(!backoff.may(backoff.not_before_us - 1));
            now = backoff.not_before_us;
        }
        assert_eq!(waits.get(..8), Some(&[1, 2, 4, 8, 16, 32, 60, 60][..]));
        assert!(waits.iter().skip(6).all(|w| *w == 60));
        backoff.failed(now, Duration::from_secs(60));
        assert_eq!(backoff.not_before_us - now, 1_000_000);
    }
}
