//! What is counted of one track.

use bartizan_model::{Counts, Windows};

use super::buckets::{Buckets, Sums};
use super::sample::Sample;
use super::{DAY_US, Noted, WINDOWS};

#[derive(Debug)]
pub(super) struct Tracked {
    last_us: u64,
    /// Since when it is counted, where there may have been counts before that were given up.
    since_us: Option<u64>,
    minute: Window,
    hour: Window,
    day: Window,
}

#[derive(Debug)]
struct Window {
    sums: Buckets,
    resources: Sample,
}

impl Tracked {
    pub(super) const fn new(now_us: u64, unknown_before: bool) -> Self {
        let [minute, hour, day] = WINDOWS;
        Self {
            last_us: now_us,
            since_us: if unknown_before { Some(now_us) } else { None },
            minute: Window::new(minute),
            hour: Window::new(hour),
            day: Window::new(day),
        }
    }

    pub(super) const fn last_us(&self) -> u64 {
        self.last_us
    }

    pub(super) fn note(&mut self, now_us: u64, noted: &Noted<'_>, resource: Option<u64>) {
        self.last_us = self.last_us.max(now_us);
        let sums = Sums::of(noted);
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.note(now_us, &sums, resource);
        }
    }

    /// None while counts that were given up could still matter.
    pub(super) fn read(&mut self, now_us: u64) -> Option<Windows> {
        if let Some(since) = self.since_us {
            if now_us.saturating_sub(since) <= DAY_US {
                return None;
            }
            self.since_us = None;
        }
        Some(Windows {
            day: self.day.counts(now_us),
            hour: self.hour.counts(now_us),
            minute: self.minute.counts(now_us),
        })
    }
}

impl Window {
    const fn new(shape: (u64, u64)) -> Self {
        Self { sums: Buckets::new(shape), resources: Sample::new(shape.0) }
    }

    fn note(&mut self, now_us: u64, sums: &Sums, resource: Option<u64>) {
        if *sums != Sums::default() {
            self.sums.add(now_us, sums);
        }
        if let Some(resource) = resource {
            self.resources.add(now_us, resource);
        }
    }

    fn counts(&mut self, now_us: u64) -> Counts {
        let Sums { requests, denials, exports, tokens, cost_micro } = self.sums.sums(now_us);
        Counts { cost_micro, denials, exports, requests, resources: self.resources.count(now_us), tokens }
    }
}
