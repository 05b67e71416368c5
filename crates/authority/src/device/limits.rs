//! How often devices may ask and people may type, as this node has seen it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::Timestamp;

use super::{INTERVAL, LIFE};

/// Requests of one network that may wait.
const OF_NETWORK_MAX: usize = 20;
/// Requests of one client that may wait: no program keeps those of all others out.
const OF_CLIENT_MAX: usize = 200;
/// Devices that one person may answer within the life of a code: whoever is sent code after code is not asked on and on.
pub(super) const ANSWERED_MAX: usize = 10;
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
    /// When, from which network, by which client.
    begun: Vec<(Timestamp, String, String)>,
    answered: Vec<(Timestamp, String)>,
    wrong: Vec<(Timestamp, String)>,
    /// When a device asked last, and how long it has to wait.
    polls: HashMap<String, (Timestamp, Duration)>,
}

impl Limits {
    /// Whether another request of that network and client may begin to wait; it is counted.
    pub(super) fn may_begin(&self, network: &str, client: &str, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.begun.retain(|(at, ..)| now < at.saturating_add(LIFE));
        let of_network = seen.begun.iter().filter(|(_, of, _)| of == network).count();
        let of_client = seen.begun.iter().filter(|(.., of)| of == client).count();
        let may = seen.begun.len() < WAITING_MAX && of_network < OF_NETWORK_MAX && of_client < OF_CLIENT_MAX;
        if may {
            seen.begun.push((now, network.to_owned(), client.to_owned()));
        }
        may
    }

    /// Whether somebody may answer for another device.
    pub(super) fn may_answer(&self, who: &str, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.answered.retain(|(at, _)| now < at.saturating_add(LIFE));
        seen.answered.iter().filter(|(_, of)| of == who).count() < ANSWERED_MAX
    }

    /// Somebody has answered for a device, whatever they said.
    pub(super) fn answered(&self, who: &str, now: Timestamp) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.answered.push((now, who.to_owned()));
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
        let begun = |network: &str, n: usize| limits.may_begin(network, &format!("app-{n}"), at(0));
        assert_eq!((0..OF_NETWORK_MAX + 5).filter(|n| begun("192.0.2.0/24", *n)).count(), OF_NETWORK_MAX);
        let others = (0..WAITING_MAX).filter(|n| begun(&format!("net-{n}"), *n)).count();
        assert_eq!(others, WAITING_MAX - OF_NETWORK_MAX);
        assert!(limits.may_begin("192.0.2.0/24", "app", at(601)));
    }

    #[test]
    fn attack_10_one_client_keeps_no_other_from_waiting() {
        let limits = Limits::default();
        let begun = |client: &str, n: usize| limits.may_begin(&format!("net-{n}"), client, at(0));
        assert_eq!((0..OF_CLIENT_MAX + 5).filter(|n| begun("flood", *n)).count(), OF_CLIENT_MAX);
        assert!(begun("other", 0));
        assert!(limits.may_begin("net-0", "flood", at(601)));
    }

    #[test]
    fn attack_10_nobody_is_asked_about_devices_on_and_on() {
        let limits = Limits::default();
        for _ in 0..ANSWERED_MAX {
            assert!(limits.may_answer("alice", at(0)));
            limits.answered("alice", at(0));
        }
        assert!(!limits.may_answer("alice", at(1)) && limits.may_answer("bob", at(1)));
        assert!(limits.may_answer("alice", at(601)));
    }
}
