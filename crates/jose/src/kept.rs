//! Signing keys as an issuer keeps them: the plan of a key's life beside its public half, and the private half sealed by
//! whoever may open it.

use bartizan_base::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::jwk::{Jwk, JwkError, Jwks};
use crate::rotation::KeyPlan;

/// A key as it is kept: JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptKey {
    /// When it is published, signs, ends and goes.
    pub plan: KeyPlan,
    /// The public half (RFC 7517), with the plan's id and the key's one algorithm.
    pub jwk: Value,
    /// The private half under envelope encryption, in base64url. Only the authority opens it.
    pub sealed: String,
}

impl KeptKey {
    /// The public half.
    ///
    /// # Errors
    /// [`JwkError`] when it is none, or has another id than the plan.
    pub fn public(&self) -> Result<Jwk, JwkError> {
        let set = Jwks::parse(json!({"keys": [self.jwk]}).to_string().as_bytes())?;
        set.find(Some(&self.plan.kid)).cloned().ok_or(JwkError::Member("kid"))
    }

    /// The set of public halves that are published at `now`: what tokens are verified by.
    ///
    /// # Errors
    /// [`JwkError`].
    pub fn published<'a>(keys: impl IntoIterator<Item = &'a Self>, now: Timestamp) -> Result<Jwks, JwkError> {
        let published = keys.into_iter().filter(|key| key.plan.is_published(now));
        Jwks::of(published.map(Self::public).collect::<Result<Vec<_>, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::key::SigningKey;
    use bartizan_base::random::SeededRandom;

    fn kept(seed: u64, published: u64, gone: u64) -> KeptKey {
        let key = SigningKey::generate(Algorithm::Ed25519, &SeededRandom::new(seed)).unwrap();
        let at = Timestamp::from_secs;
        let plan = KeyPlan {
            kid: key.kid().to_owned(),
            published: at(published),
            signs: at(published),
            ends: at(gone),
            gone: at(gone),
            withdrawn: false,
        };
        KeptKey { plan, jwk: key.public().to_json(), sealed: String::new() }
    }

    #[test]
    fn what_is_kept_is_published_for_its_time_and_not_when_it_is_withdrawn() {
        let mut keys = [kept(1, 10, 20), kept(2, 15, 30)];
        for key in &mut keys {
            *key = serde_json::from_str(&serde_json::to_string(key).unwrap()).unwrap();
        }
        let count = |keys: &[KeptKey], now| {
            KeptKey::published(keys, Timestamp::from_secs(now)).unwrap().iter().count()
        };
        assert_eq!([5, 10, 15, 20, 30].map(|now| count(&keys, now)), [0, 1, 2, 1, 0]);
        keys[0].plan.withdrawn = true;
        assert_eq!(count(&keys, 15), 1);
    }

    #[test]
    fn a_public_half_under_another_id_than_its_plan_is_refused() {
        let mut key = kept(1, 10, 20);
        key.plan.kid = "another".to_owned();
        assert!(key.public().is_err());
        assert!(KeptKey::published([&key], Timestamp::from_secs(10)).is_err());
    }
}
