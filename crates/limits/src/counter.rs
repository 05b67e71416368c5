//! One count, as it is kept: how much was used in which stretch of time, and what is going on.

use std::collections::BTreeMap;

use bartizan_base::Timestamp;
use serde::{Deserialize, Serialize};

/// How a window is cut into stretches that are counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// From here to there, and nothing before.
    Fixed {
        /// When it began.
        start: Timestamp,
        /// When the next one begins.
        end: Timestamp,
    },
    /// The last so many microseconds, counted in [`SLOTS`] parts.
    Sliding {
        /// Its length in microseconds.
        window_us: u64,
    },
    /// All there ever was.
    Whole,
}

/// Into how many parts a sliding window is cut.
pub const SLOTS: u64 = 60;
/// How long a count that nobody adds to is kept.
const WHOLE_KEPT_US: u64 = 30 * 86_400_000_000;

/// A count. It is never reduced but by what was reserved and not used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counter {
    /// Used, by the beginning of the stretch.
    #[serde(rename = "s", skip_serializing_if = "BTreeMap::is_empty")]
    slots: BTreeMap<u64, u64>,
    /// What is going on, with when it counts as over.
    #[serde(rename = "h", skip_serializing_if = "BTreeMap::is_empty")]
    holds: BTreeMap<String, u64>,
    /// When it was first counted.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    began_us: Option<u64>,
    /// Until when it may be asked for.
    #[serde(rename = "k")]
    kept_us: u64,
}

impl Span {
    /// The beginning of the stretch that something at `now` is counted in.
    #[must_use]
    pub const fn slot(self, now: Timestamp) -> u64 {
        match self {
            Self::Fixed { start, .. } => start.as_micros(),
            Self::Sliding { window_us } => {
                let part = Self::part(window_us);
                now.as_micros() / part * part
            }
            Self::Whole => 0,
        }
    }

    const fn part(window_us: u64) -> u64 {
        let part = window_us / SLOTS;
        if part == 0 { 1 } else { part }
    }

    /// Whether a stretch counts at `now`: for sliding ones also the oldest, which is over in part.
    const fn counts(self, slot: u64, now: Timestamp) -> bool {
        match self {
            Self::Fixed { start, .. } => slot == start.as_micros(),
            Self::Sliding { window_us } => {
                slot.saturating_add(Self::part(window_us)).saturating_add(window_us) > now.as_micros()
            }
            Self::Whole => true,
        }
    }

    /// From when on a stretch does not count any more; none for never.
    const fn leaves(self, slot: u64) -> Option<u64> {
        match self {
            Self::Fixed { end, .. } => Some(end.as_micros()),
            Self::Sliding { window_us } => {
                Some(slot.saturating_add(Self::part(window_us)).saturating_add(window_us))
            }
            Self::Whole => None,
        }
    }

    const fn kept(self, now: Timestamp) -> u64 {
        match self {
            // As long again: a node whose clock is behind still counts in the one before.
            Self::Fixed { start, end } => {
                end.as_micros().saturating_add(end.as_micros().saturating_sub(start.as_micros()))
            }
            Self::Sliding { window_us } => now.as_micros().saturating_add(window_us.saturating_mul(2)),
            Self::Whole => now.as_micros().saturating_add(WHOLE_KEPT_US),
        }
    }
}

impl Counter {
    /// What is used at `now`.
    #[must_use]
    pub fn used(&self, span: Span, now: Timestamp) -> u64 {
        let counting = self.slots.iter().filter(|(slot, _)| span.counts(**slot, now));
        counting.fold(0, |sum: u64, (_, amount)| sum.saturating_add(*amount))
    }

    /// Adds to the stretch of `now`, and says which that is.
    pub fn add(&mut self, span: Span, now: Timestamp, amount: u64) -> u64 {
        let slot = span.slot(now);
        let kept = self.kept_us;
        // What left the window a whole window ago is not asked for any more by any clock.
        let old = |slot: &u64| {
            span.leaves(*slot).is_none_or(|leaves| leaves.saturating_add(span_length(span)) > now.as_micros())
        };
        if !matches!(span, Span::Fixed { .. }) {
            self.slots.retain(|slot, _| old(slot));
        } else if self.slots.len() > 2 {
            while self.slots.len() > 2 {
                self.slots.pop_first();
            }
        }
        let used = self.slots.entry(slot).or_default();
        *used = used.saturating_add(amount);
        self.kept_us = kept.max(span.kept(now));
        slot
    }

    /// Puts what was really used in the place of what was reserved in a stretch. Nothing where that is forgotten.
    pub fn settle(&mut self, slot: u64, reserved: u64, used: u64) {
        if let Some(sum) = self.slots.get_mut(&slot) {
            *sum = sum.saturating_sub(reserved).saturating_add(used);
        }
    }

    /// In how many microseconds `amount` more will fit below `most`; none for never.
    #[must_use]
    pub fn fits_in(&self, span: Span, now: Timestamp, amount: u64, most: u64) -> Option<u64> {
        if amount > most {
            return None;
        }
        let mut used = self.used(span, now);
        if used.saturating_add(amount) <= most {
            return Some(0);
        }
        for (slot, sum) in self.slots.iter().filter(|(slot, _)| span.counts(**slot, now)) {
            used = used.saturating_sub(*sum);
            if used.saturating_add(amount) <= most {
                return span.leaves(*slot).map(|leaves| leaves.saturating_sub(now.as_micros()));
            }
        }
        None
    }

    /// How many go on at `now`.
    #[must_use]
    pub fn going_on(&self, now: Timestamp) -> u64 {
        self.holds.values().filter(|until| **until > now.as_micros()).count() as u64
    }

    /// Notes that something goes on, at most until then.
    pub fn hold(&mut self, hold: &str, now: Timestamp, until: Timestamp) {
        self.holds.retain(|_, until| *until > now.as_micros());
        self.holds.insert(hold.to_owned(), until.as_micros());
        self.kept_us = self.kept_us.max(until.as_micros());
    }

    /// Notes that something goes on for longer. What had counted as over goes on again.
    pub fn renew(&mut self, hold: &str, until: Timestamp) {
        let end = self.holds.entry(hold.to_owned()).or_default();
        *end = (*end).max(until.as_micros());
        self.kept_us = self.kept_us.max(until.as_micros());
    }

    /// Notes that something is over.
    pub fn release(&mut self, hold: &str) {
        self.holds.remove(hold);
    }

    /// When it was first counted.
    #[must_use]
    pub const fn began(&self) -> Option<Timestamp> {
        match self.began_us {
            Some(us) => Some(Timestamp::from_micros(us)),
            None => None,
        }
    }

    /// Notes when it began, if that was not noted.
    pub fn begin(&mut self, now: Timestamp) {
        self.began_us.get_or_insert(now.as_micros());
        self.kept_us = self.kept_us.max(Span::Whole.kept(now));
    }

    /// From when on it may be forgotten.
    #[must_use]
    pub const fn kept(&self) -> Timestamp {
        Timestamp::from_micros(self.kept_us)
    }
}

const fn span_length(span: Span) -> u64 {
    match span {
        Span::Fixed { start, end } => end.as_micros().saturating_sub(start.as_micros()),
        Span::Sliding { window_us } => window_us,
        Span::Whole => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000_000;

    #[test]
    fn what_was_used_leaves_a_sliding_window_only_when_all_of_it_is_out() {
        let span = Span::Sliding { window_us: MINUTE };
        let at = |us| Timestamp::from_micros(1_000 * MINUTE + us);
        let mut counter = Counter::default();
        counter.add(span, at(500_000), 3);
        assert_eq!(counter.used(span, at(500_000 + MINUTE)), 3, "the stretch is in it in part");
        assert_eq!(counter.used(span, at(1_000_000 + MINUTE)), 0);
        assert_eq!(counter.fits_in(span, at(500_000), 8, 10), Some(MINUTE + 500_000));
        assert_eq!(counter.fits_in(span, at(500_000), 7, 10), Some(0));
        assert_eq!(counter.fits_in(span, at(500_000), 11, 10), None, "it never fits");
    }

    #[test]
    fn what_a_node_that_crashed_had_going_on_is_over_when_its_time_is_and_not_before() {
        let at = Timestamp::from_secs;
        let mut counter = Counter::default();
        counter.hold("a", at(10), at(100));
        counter.hold("b", at(20), at(110));
        assert_eq!(
            (counter.going_on(at(99)), counter.going_on(at(100)), counter.going_on(at(110))),
            (2, 1, 0)
        );
        counter.renew("a", at(200));
        assert_eq!(counter.going_on(at(150)), 1);
        counter.release("a");
        assert_eq!(counter.going_on(at(99)), 1);
    }

    proptest! {
        /// No stretch of the window's length holds more than was let in by looking at the count first.
        #[test]
        fn a_sliding_window_never_holds_more_than_the_most(
            steps in proptest::collection::vec((0_u64..20_000_000, 1_u64..5), 1..200), most in 1_u64..20,
        ) {
            let span = Span::Sliding { window_us: MINUTE };
            let (mut counter, mut now, mut let_in) = (Counter::default(), 5_000 * MINUTE, Vec::new());
            for (wait, amount) in steps {
                now += wait;
                let at = Timestamp::from_micros(now);
                if counter.used(span, at) + amount <= most {
                    counter.add(span, at, amount);
                    let_in.push((now, amount));
                }
            }
            for (end, _) in &let_in {
                let within: u64 = let_in.iter().filter(|(t, _)| t <= end && *t + MINUTE > *end).map(|(_, a)| a).sum();
                prop_assert!(within <= most, "{within} > {most}");
            }
        }

        #[test]
        fn what_is_kept_is_read_again(slots in proptest::collection::vec((0_u64..10, 0_u64..9), 0..6)) {
            let mut counter = Counter::default();
            for (minute, amount) in slots {
                counter.add(Span::Sliding { window_us: MINUTE }, Timestamp::from_micros(minute * MINUTE), amount);
                counter.hold(&amount.to_string(), Timestamp::from_micros(0), Timestamp::from_secs(9));
            }
            let text = serde_json::to_string(&counter).unwrap();
            prop_assert_eq!(serde_json::from_str::<Counter>(&text).unwrap(), counter);
        }
    }
}
