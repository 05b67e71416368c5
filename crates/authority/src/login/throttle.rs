//! Budgets for attempts that can be guessed at: passwords, codes. Nobody can use them to lock somebody else out: a browser that
//! the person has used before has a budget of its own, and passkeys have none, since there is nothing to guess.
//!
//! Counted on each node, in memory, and bounded: failed attempts write nothing to the state database.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};

/// Failures in a row after which one has to wait.
const FREE: u32 = 5;
/// The first wait; it doubles with every further failure.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// Failures in a row after which an account's passwords and codes are good only in browsers that are known
/// (NIST SP 800-63B-4, 3.2.2: at most 100).
const MOST: u32 = 100;
/// Failures of one network within [`NETWORK_WINDOW`].
const NETWORK_MOST: u32 = 40;
const NETWORK_WINDOW: Duration = Duration::from_secs(10 * 60);
/// For how long failures of an account are remembered after the last one.
const MEMORY: Duration = Duration::from_secs(24 * 3_600);
/// Accounts and networks that are remembered at once.
const REMEMBERED: usize = 50_000;

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    failures: u32,
    last: Timestamp,
}

/// Against what attempts are counted: an account as it was typed, or a known browser of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Account {
    name: Digest,
    known: Option<Digest>,
}

impl Account {
    /// Of a name as it was typed, whether anybody is called so or not.
    pub(super) fn new(tenant: &str, name: &str, known: Option<Digest>) -> Self {
        let name = Digest::of_parts(&[tenant.as_bytes(), b"\0", name.to_lowercase().as_bytes()]);
        Self { name, known }
    }
}

/// How long somebody has to wait before they may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait(pub(super) Duration);

/// Counts attempts.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    accounts: Mutex<HashMap<Account, Count>>,
    networks: Mutex<HashMap<String, Count>>,
}

impl Throttle {
    /// Begins an attempt, which counts as failed until it is found good: a thousand at once are a thousand.
    pub(super) fn begin(&self, account: &Account, network: &str, now: Timestamp) -> Result<u32, Wait> {
        {
            let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
            make_room(&mut networks, network, NETWORK_WINDOW, now);
            let count = networks.entry(network.to_owned()).or_default();
            if now.saturating_since(count.last) >= NETWORK_WINDOW {
                *count = Count { failures: 0, last: now };
            }
            // A known browser is not held responsible for its neighbours.
            if account.known.is_none() {
                if count.failures >= NETWORK_MOST {
                    return Err(Wait(NETWORK_WINDOW.saturating_sub(now.saturating_since(count.last))));
                }
                count.failures = count.failures.saturating_add(1);
            }
        }
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut accounts, account, MEMORY, now);
        let count = accounts.entry(account.clone()).or_default();
        if now.saturating_since(count.last) >= MEMORY && count.failures < MOST {
            count.failures = 0;
        }
        let wait = wait_after(count.failures);
        let passed = now.saturating_since(count.last);
        if passed < wait || count.failures >= MOST {
            return Err(Wait(wait.saturating_sub(passed)));
        }
        count.failures = count.failures.saturating_add(1);
        count.last = now;
        Ok(count.failures.saturating_sub(1))
    }

    /// The attempt was good: the account begins anew, and the network gets its attempt back.
    pub(super) fn good(&self, account: &Account, network: &str) {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).remove(account);
        if account.known.is_none()
            && let Some(count) = self.networks.lock().unwrap_or_else(PoisonError::into_inner).get_mut(network)
        {
            count.failures = count.failures.saturating_sub(1);
        }
    }

    /// Somebody has proven themselves in a way that cannot be guessed: what others failed at is forgotten.
    pub(super) fn forgive(&self, tenant: &str, name: &str) {
        let account = Account::new(tenant, name, None);
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).remove(&account);
    }
}

/// The wait after `failures` in a row.
fn wait_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(more) => {
            FIRST_WAIT.saturating_mul(1_u32.checked_shl(more.min(16)).unwrap_or(u32::MAX)).min(LONGEST_WAIT)
        }
    }
}

/// Forgets what is over when there is no more room, and else whoever failed least.
fn make_room<K, Q>(counts: &mut HashMap<K, Count>, key: &Q, memory: Duration, now: Timestamp)
where
    K: Clone + Eq + Hash + std::borrow::Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    if counts.len() < REMEMBERED || counts.contains_key(key) {
        return;
    }
    counts.retain(|_, count| now.saturating_since(count.last) < memory);
    if counts.len() < REMEMBERED {
        return;
    }
    let mut failures: Vec<u32> = counts.values().map(|count| count.failures).collect();
    failures.sort_unstable();
    let median = failures.get(failures.len() / 2).copied().unwrap_or_default();
    let mut spare = REMEMBERED / 4;
    counts.retain(|_, count| {
        let gone = count.failures <= median && spare > 0;
        spare = spare.saturating_sub(usize::from(gone));
        !gone
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros((1_000_000 + seconds) * 1_000_000)
    }

    fn unknown() -> Account {
        Account::new("default", "alice", None)
    }

    #[test]
    fn attack_49_guessing_one_account_gets_slower_and_slower() {
        let throttle = Throttle::default();
        let mut tried = 0;
        for second in 0..24 * 3_600 {
            // From everywhere at once, and as fast as may be.
            let network = format!("network {second}");
            tried += u32::from(throttle.begin(&unknown(), &network, at(second)).is_ok());
        }
        assert!(tried <= 100, "{tried} attempts in a day");
        assert!(tried > 20, "the budget is no lock: {tried}");
    }

    #[test]
    fn attack_49_nobody_can_lock_somebody_else_out() {
        let throttle = Throttle::default();
        for second in 0..100_000 {
            let _ = throttle.begin(&unknown(), &format!("network {second}"), at(second));
        }
        assert!(throttle.begin(&unknown(), "home", at(100_000)).is_err(), "a stranger's browser waits");
        let own = Account::new("default", "Alice", Some(Digest::of(b"her laptop")));
        assert_eq!(throttle.begin(&own, "home", at(100_000)), Ok(0), "her own browser does not");
        throttle.forgive("default", "alice");
        assert!(throttle.begin(&unknown(), "phone", at(100_001)).is_ok(), "a passkey clears the way");
    }

    #[test]
    fn attack_49_spraying_many_accounts_from_one_network_ends() {
        let throttle = Throttle::default();
        let tries = (0..10_000_u64)
            .filter(|n| {
                let account = Account::new("default", &format!("user {n}"), None);
                throttle.begin(&account, "198.51.100.0/24", at(n / 100)).is_ok()
            })
            .count();
        assert_eq!(tries, 40);
        let other = Account::new("default", "bob", None);
        assert!(throttle.begin(&other, "203.0.113.0/24", at(100)).is_ok(), "other networks go on");
        assert!(
            throttle.begin(&other, "198.51.100.0/24", at(100 + 600)).is_ok(),
            "and this one after a while"
        );
    }

    #[test]
    fn a_thousand_attempts_at_once_are_a_thousand() {
        let throttle = Throttle::default();
        let good = (0..1_000).filter(|n| throttle.begin(&unknown(), &format!("n{n}"), at(0)).is_ok()).count();
        assert_eq!(good, 5);
    }

    #[test]
    fn a_known_browser_that_guesses_is_slowed_as_well() {
        let throttle = Throttle::default();
        let stolen = Account::new("default", "alice", Some(Digest::of(b"laptop")));
        let tried = (0..3_600).filter(|s| throttle.begin(&stolen, "home", at(*s)).is_ok()).count();
        assert!(tried < 20, "{tried}");
    }

    #[test]
    fn success_starts_anew_and_memory_is_bounded() {
        let throttle = Throttle::default();
        for n in 0..4 {
            throttle.begin(&unknown(), "home", at(n)).unwrap();
        }
        throttle.good(&unknown(), "home");
        assert_eq!(throttle.begin(&unknown(), "home", at(9)), Ok(0));
        for n in 0..200_000_u64 {
            let _ = throttle.begin(&Account::new("default", &n.to_string(), None), &n.to_string(), at(9));
        }
        assert!(throttle.accounts.lock().unwrap().len() <= REMEMBERED);
        assert!(throttle.networks.lock().unwrap().len() <= REMEMBERED);
    }
}
