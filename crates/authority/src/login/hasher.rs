//! Hashes of passwords: argon2id in a bounded number of threads, so that nobody who guesses starves the rest of the house.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use bartizan_base::{Digest, Random};
use bartizan_model::ReasonCode;
use bartizan_secret::Secret;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// How many are computed at once.
const AT_ONCE: usize = 2;
/// How long one may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a guess costs (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for Cost {
    /// The second recommended choice of RFC 9106, 4, in one lane: 64 MiB, three passes.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3 }
    }
}

/// A hash with what it was computed by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hashed {
    cost: Cost,
    salt: Digest,
    hash: Digest,
}

/// Computes hashes.
#[derive(Debug)]
pub(super) struct Hasher {
    cost: Cost,
    slots: Arc<Semaphore>,
    runs: AtomicU64,
    /// What is computed where there is nobody to compute for.
    nobody: Hashed,
}

impl Hasher {
    pub(super) fn new(cost: Cost, random: &dyn Random) -> Self {
        let (salt, hash) = (bytes(random), bytes(random));
        let nobody = Hashed { cost, salt, hash };
        Self { cost, slots: Arc::new(Semaphore::new(AT_ONCE)), runs: AtomicU64::new(0), nobody }
    }

    pub(super) fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Whether a hash was computed by less or more than what is asked today.
    pub(super) fn is_outdated(&self, hashed: &Hashed) -> bool {
        hashed.cost != self.cost
    }

    /// A new hash.
    pub(super) async fn hash(
        &self,
        password: &Secret<String>,
        random: &dyn Random,
    ) -> Result<Hashed, ReasonCode> {
        let salt = bytes(random);
        let hash = self.derive(password.clone(), salt, self.cost).await?;
        Ok(Hashed { cost: self.cost, salt, hash })
    }

    /// Whether the password is the one of `hashed`; for nobody it takes as long, and is false.
    pub(super) async fn holds(
        &self,
        password: &Secret<String>,
        hashed: Option<&Hashed>,
    ) -> Result<bool, ReasonCode> {
        let against = hashed.unwrap_or(&self.nobody);
        let hash = self.derive(password.clone(), against.salt, against.cost).await?;
        let same = bartizan_secret::constant_time_eq(hash.as_bytes(), against.hash.as_bytes());
        Ok(same && hashed.is_some())
    }

    async fn derive(&self, password: Secret<String>, salt: Digest, cost: Cost) -> Result<Digest, ReasonCode> {
        let slot = tokio::time::timeout(PATIENCE, self.slots.clone().acquire_owned()).await;
        let slot = slot.map_err(|_| ReasonCode::Busy)?.map_err(|_| ReasonCode::ShuttingDown)?;
        self.runs.fetch_add(1, Ordering::Relaxed);
        let work = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            let params = Params::new(cost.memory_kib, cost.passes, 1, Some(32)).ok()?;
            let mut out = [0; 32];
            let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon.hash_password_into(password.expose().as_bytes(), salt.as_bytes(), &mut out).ok()?;
            Some(Digest::from_bytes(out))
        });
        work.await.ok().flatten().ok_or(ReasonCode::Internal)
    }
}

fn bytes(random: &dyn Random) -> Digest {
    let mut out = [0; 32];
    random.fill(&mut out);
    Digest::from_bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1 };

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_holds_against_its_own_hash_only() {
        let (random, hasher) = (SeededRandom::new(1), Hasher::new(CHEAP, &SeededRandom::new(2)));
        let one = hasher.hash(&secret("correct horse"), &random).await.unwrap();
        let same = hasher.hash(&secret("correct horse"), &random).await.unwrap();
        assert!(one.hash != same.hash, "salted");
        assert!(hasher.holds(&secret("correct horse"), Some(&one)).await.unwrap());
        assert!(!hasher.holds(&secret("correct hors"), Some(&one)).await.unwrap());
        assert!(!hasher.holds(&secret(""), None).await.unwrap());
        assert_eq!(hasher.runs(), 5, "nobody costs as much as somebody");
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_still_holds_and_is_known_as_outdated() {
        let old = Hasher::new(Cost { memory_kib: 32, passes: 2 }, &SeededRandom::new(2));
        let hashed = old.hash(&secret("x"), &SeededRandom::new(1)).await.unwrap();
        let hasher = Hasher::new(CHEAP, &SeededRandom::new(2));
        assert!(hasher.holds(&secret("x"), Some(&hashed)).await.unwrap());
        assert!(hasher.is_outdated(&hashed) && !old.is_outdated(&hashed));
    }

    #[test]
    fn the_default_is_what_the_rfc_recommends() {
        // Against the reference implementation: argon2 -id -t 3 -k 65536 -p 1 would be slow here; the parameters are what counts.
        assert_eq!(Cost::default(), Cost { memory_kib: 65_536, passes: 3 });
    }
}
