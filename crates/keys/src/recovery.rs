//! Offline recovery keys: Ed25519, m of n.

use std::collections::BTreeSet;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use bartizan_base::Random;
use bartizan_secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

const PREFIX: &str = "btzr_";

/// The private half of a recovery key, to be kept offline.
pub struct RecoveryKey {
    seed: Zeroizing<[u8; 32]>,
}

/// The text is not a recovery key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a recovery key is `btzr_` and 43 letters, digits, `-` or `_`")]
pub struct RecoveryError;

impl std::fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryKey(…)")
    }
}

impl RecoveryKey {
    /// A new key.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        random.fill(&mut *seed);
        Self { seed }
    }

    /// Its text, to be shown once.
    #[must_use]
    pub fn text(&self) -> Secret<String> {
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*self.seed)))
    }

    fn pair(&self) -> Result<Ed25519KeyPair, RecoveryError> {
        Ed25519KeyPair::from_seed_unchecked(&*self.seed).map_err(|_| RecoveryError)
    }

    /// The public half.
    ///
    /// # Errors
    /// Never for a key made or read here.
    pub fn public(&self) -> Result<String, RecoveryError> {
        Ok(URL_SAFE_NO_PAD.encode(self.pair()?.public_key().as_ref()))
    }

    /// Signs `message` for recovery and nothing else.
    ///
    /// # Errors
    /// Never for a key made or read here.
    pub fn sign(&self, message: &str) -> Result<String, RecoveryError> {
        Ok(URL_SAFE_NO_PAD.encode(self.pair()?.sign(&domain(message))))
    }
}

impl FromStr for RecoveryKey {
    type Err = RecoveryError;

    fn from_str(text: &str) -> Result<Self, RecoveryError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(RecoveryError)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| RecoveryError)?);
        let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| RecoveryError)?;
        Ok(Self { seed: Zeroizing::new(seed) })
    }
}

fn domain(message: &str) -> Vec<u8> {
    format!("bartizan recovery v1\n{message}").into_bytes()
}

/// Whether at least `needed` different keys of `publics` have signed `message`.
#[must_use]
pub fn verify_quorum(message: &str, signatures: &[String], publics: &[String], needed: u32) -> bool {
    let message = domain(message);
    let mut signed = BTreeSet::new();
    for signature in signatures.iter().filter_map(|s| URL_SAFE_NO_PAD.decode(s).ok()) {
        let by = publics.iter().find(|public| {
            URL_SAFE_NO_PAD
                .decode(public)
                .is_ok_and(|key| UnparsedPublicKey::new(&ED25519, key).verify(&message, &signature).is_ok())
        });
        signed.extend(by);
    }
    needed > 0 && signed.len() >= usize::try_from(needed).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;

    #[test]
    fn enough_different_keys_make_a_quorum_and_one_twice_does_not() {
        let random = SeededRandom::new(1);
        let keys: Vec<RecoveryKey> = (0..3).map(|_| RecoveryKey::generate(&random)).collect();
        let publics: Vec<String> = keys.iter().map(|k| k.public().unwrap()).collect();
        let sign = |k: usize, m: &str| keys[k].sign(m).unwrap();
        let holds = |signatures: &[String]| verify_quorum("enrol alice", signatures, &publics, 2);
        assert!(holds(&[sign(0, "enrol alice"), sign(2, "enrol alice")]));
        assert!(!holds(&[sign(0, "enrol alice"), sign(0, "enrol alice")]));
        assert!(!holds(&[sign(0, "enrol alice"), sign(1, "enrol bob")]));
        assert!(!holds(&[
            sign(0, "enrol alice"),
            RecoveryKey::generate(&random).sign("enrol alice").unwrap()
        ]));
        assert!(!verify_quorum("x", &[], &publics, 0));
        let read: RecoveryKey = keys[0].text().expose().parse().unwrap();
        assert_eq!(read.public(), keys[0].public());
        assert!("btzr_short".parse::<RecoveryKey>().is_err());
    }
}
