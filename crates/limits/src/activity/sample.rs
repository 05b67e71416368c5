//! How many different things were seen within a window: exactly while they are few, then estimated from a sample.
//!
//! Every different thing has a hash. At level n only hashes that end in n zero bits are kept, so each stands for 2^n things
//! (Wegman's adaptive sampling). The level rises whenever there are too many, and falls to 0 when the window has become empty.
//! Between 64 and 128 are kept then, which makes a standard error of about a tenth.

/// Up to so many different things the count is exact.
pub(super) const EXACT_MAX: usize = 128;

/// The different things of one window.
#[derive(Debug)]
pub(super) struct Sample {
    length_us: u64,
    level: u32,
    /// When each was seen last, in that order.
    seen: Vec<(u64, u64)>,
}

impl Sample {
    pub(super) const fn new(length_us: u64) -> Self {
        Self { length_us, level: 0, seen: Vec::new() }
    }

    pub(super) fn add(&mut self, now_us: u64, hash: u64) {
        self.forget(now_us);
        if hash.trailing_zeros() < self.level {
            return;
        }
        // Not before the newest, should the clock go back: the order is what forgetting relies on.
        let now_us = self.seen.last().map_or(now_us, |(newest, _)| now_us.max(*newest));
        if let Some(at) = self.seen.iter().position(|(_, known)| *known == hash) {
            self.seen.remove(at);
        }
        self.seen.push((now_us, hash));
        while self.seen.len() > EXACT_MAX && self.level < u64::BITS {
            self.level += 1;
            self.seen.retain(|(_, hash)| hash.trailing_zeros() >= self.level);
        }
    }

    /// How many different things were seen within the window before `now_us`.
    pub(super) fn count(&mut self, now_us: u64) -> u64 {
        self.forget(now_us);
        (self.seen.len() as u64).saturating_mul(1_u64.checked_shl(self.level).unwrap_or(u64::MAX))
    }

    fn forget(&mut self, now_us: u64) {
        let since = now_us.saturating_sub(self.length_us);
        let gone = self.seen.partition_point(|(at, _)| *at < since);
        self.seen.drain(..gone);
        if self.seen.is_empty() {
            self.level = 0;
        }
    }
}
