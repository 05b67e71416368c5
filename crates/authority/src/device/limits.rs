//! How often devices may ask and people may type, as this node has seen it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::Timestamp;

use super::{INTERVAL, LIFE};

/// Requests of one network that may wait.
const OF_NETWORK_MAX: usize = 20;
/// Requests that may wait in all.
const WAITING_MAX: usize = 1_000;
/// Wrong codes of one person within the life of a code.
const WRONG_MAX: usize = 5;
/// Wrong codes of all people within the life of a code: with a thousand codes waiting, one in 25 million hits.
const WRONG_OF_ALL_MAX: usize = 500;

/// What this node has seen within the life of a code.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    begun: Vec<(Timestamp, String)>,
    wrong: Vec<(Timestamp, String)>,
    /// When a device asked last, and how long it has to wait.
    polls: HashMap<String, (Timestamp, Duration)>,
}

impl Limits {
    /// Whether another request of that network may begin to wait; it is counted.
    pub(super) fn may_begin(&self, network: &str, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.begun.retain(|(at, _)| now < at.saturating_add(LIFE));
        let own = seen.begun.iter().filter(|(_, of)| of == network).count();
        let may = seen.begun.len() < WAITING_MAX && own < OF_NETWORK_MAX;
        if may {
            seen.begun.push((now, network.to_owned()));
        }
        may
    }

    /// Whether somebody may type a code.
    pub(super) fn may_type(&self, who: &str, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.wrong.retain(|(at, _)| now < at.saturating_add(LIFE));
        let own = seen.wrong.iter().filter(|(_, of)| of == who).count();
        seen.wrong.len() < WRONG_OF_ALL_MAX && own < WRONG_MAX
    }

    /// Somebody has typed a code that there is not.
    pub(super) fn typed_wrong(&self, who: &str, now: Timestamp) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.wrong.push((now, who.to_owned()));
    }

    /// Whether a device may ask again. One that comes too early waits longer from then on (RFC 8628, 3.5).
    pub(super) fn may_poll(&self, id: &str, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.polls.len() >= WAITING_MAX {
            seen.polls.retain(|_, (at, _)| now < at.saturating_add(LIFE));
        }
        let (last, wait) = seen.polls.get(id).copied().unwrap_or((Timestamp::default(), INTERVAL));
        // A device counts whole seconds; what is nearly five is five.
        let early = now.saturating_add(Duration::from_millis(500)) < last.saturating_add(wait);
        let wait = if early { wait.saturating_add(INTERVAL) } else { wait };
        seen.polls.insert(id.to_owned(), (now, wait));
        !early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(10_000 + seconds)
    }

    #[test]
    fn attack_20_a_device_that_asks_too_early_waits_longer_each_time() {
        let limits = Limits::default();
        assert!(limits.may_poll("a", at(0)));
        assert!(!limits.may_poll("a", at(3)), "now it is ten");
        assert!(!limits.may_poll("a", at(10)), "now it is fifteen");
        assert!(limits.may_poll("b", at(10)));
        assert!(limits.may_poll("a", at(25)));
        assert!(!limits.may_poll("a", at(39)));
    }

    #[test]
    fn attack_20_codes_cannot_be_guessed_by_one_person_or_by_many() {
        let limits = Limits::default();
        for _ in 0..WRONG_MAX {
            assert!(limits.may_type("mallory", at(0)));
            limits.typed_wrong("mallory", at(0));
        }
        assert!(!limits.may_type("mallory", at(1)));
        assert!(limits.may_type("alice", at(1)));
        for number in 0..WRONG_OF_ALL_MAX - WRONG_MAX {
            limits.typed_wrong(&format!("sock-{number}"), at(1));
        }
        assert!(!limits.may_type("alice", at(2)));
        assert!(limits.may_type("mallory", at(700)));
    }

    #[test]
    fn attack_20_waiting_requests_are_bounded_by_network_and_in_all() {
        let limits = Limits::default();
        assert_eq!(
            (0..OF_NETWORK_MAX + 5).filter(|_| limits.may_begin("192.0.2.0/24", at(0))).count(),
            OF_NETWORK_MAX
        );
        let others = (0..WAITING_MAX).filter(|n| limits.may_begin(&format!("net-{n}"), at(0))).count();
        assert_eq!(others, WAITING_MAX - OF_NETWORK_MAX);
        assert!(limits.may_begin("192.0.2.0/24", at(601)));
    }
}
