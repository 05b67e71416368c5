//! One sliding window of counts, in parts.

use std::collections::VecDeque;

use super::Noted;

/// Sums over a window. Only parts in which something was done take room.
#[derive(Debug)]
pub(super) struct Buckets {
    part_us: u64,
    parts: u64,
    held: VecDeque<Bucket>,
}

/// A part of a window: its number since the clock's beginning, and what was done in it.
#[derive(Debug)]
struct Bucket {
    number: u64,
    sums: Sums,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) requests: u64,
    pub(super) denials: u64,
    pub(super) exports: u64,
    pub(super) tokens: u64,
    pub(super) cost_micro: u64,
}

/// The greatest sum that every reader of JSON keeps exactly: no sum goes beyond it.
const SUM_MAX: u64 = (1 << 53) - 1;

impl Sums {
    pub(super) const fn of(noted: &Noted<'_>) -> Self {
        let Noted { requests, denials, exports, tokens, cost_micro, .. } = *noted;
        Self { requests, denials, exports, tokens, cost_micro }
    }

    fn add(&mut self, more: &Self) {
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more).min(SUM_MAX);
        add(&mut self.requests, more.requests);
        add(&mut self.denials, more.denials);
        add(&mut self.exports, more.exports);
        add(&mut self.tokens, more.tokens);
        add(&mut self.cost_micro, more.cost_micro);
    }
}

impl Buckets {
    pub(super) const fn new((length_us, parts): (u64, u64)) -> Self {
        Self { part_us: length_us / parts, parts, held: VecDeque::new() }
    }

    /// Adds to the part of `now_us`; to the newest one if the clock went back, so that nothing is lost.
    pub(super) fn add(&mut self, now_us: u64, sums: &Sums) {
        let number = now_us / self.part_us;
        self.forget(number);
        match self.held.back_mut() {
            Some(newest) if newest.number >= number => newest.sums.add(sums),
            _ => self.held.push_back(Bucket { number, sums: *sums }),
        }
    }

    /// What was done within the window before `now_us`, and within at most one part more.
    pub(super) fn sums(&mut self, now_us: u64) -> Sums {
        self.forget(now_us / self.part_us);
        let mut out = Sums::default();
        self.held.iter().for_each(|bucket| out.add(&bucket.sums));
        out
    }

    /// Lets go of what lies before the window of the part `number`: that part, those of a whole length, and no more.
    fn forget(&mut self, number: u64) {
        while self.held.front().is_some_and(|oldest| oldest.number + self.parts < number) {
            self.held.pop_front();
        }
    }
}
