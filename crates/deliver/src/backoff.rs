//! How long to wait before the next try.

use std::time::Duration;

use bartizan_base::Random;

/// Exponential back-off with full jitter: a wait is drawn evenly between nothing and a bound that doubles with each failure,
/// so that many who failed together do not come back together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The bound of the first wait.
    pub first: Duration,
    /// The bound that no wait exceeds.
    pub max: Duration,
}

impl Default for Backoff {
    /// From half a second to five minutes.
    fn default() -> Self {
        Self { first: Duration::from_millis(500), max: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row. What the receiver asked for is waited at least, up to the bound.
    pub(crate) fn wait(self, failures: u32, asked: Option<Duration>, random: &dyn Random) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.first.saturating_mul(factor).min(self.max);
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        let micros = bound.as_micros().saturating_mul(u128::from(u64::from_be_bytes(bytes))) >> 64;
        let drawn = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        drawn.max(asked.unwrap_or_default().min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;

    #[test]
    fn waits_are_spread_below_a_bound_that_doubles_and_ends() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2) };
        let random = SeededRandom::new(1);
        for (failures, bound_ms) in
            [(1, 100), (2, 200), (5, 1_600), (6, 2_000), (40, 2_000), (u32::MAX, 2_000)]
        {
            let waits: Vec<_> = (0..400).map(|_| backoff.wait(failures, None, &random).as_millis()).collect();
            assert!(waits.iter().all(|w| *w <= bound_ms), "{failures}");
            assert!(waits.iter().any(|w| *w < bound_ms / 4) && waits.iter().any(|w| *w > bound_ms * 3 / 4));
        }
    }

    #[test]
    fn what_the_receiver_asks_for_is_waited_up_to_the_bound() {
        let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_secs(2) };
        let wait = |asked| backoff.wait(1, Some(asked), &SeededRandom::new(1));
        assert_eq!(wait(Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(wait(Duration::from_secs(86_400)), Duration::from_secs(2));
    }
}
