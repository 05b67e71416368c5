//! The offline recovery keys: m of n people can bring back what no permitted change can (DESIGN 5).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bartizan_base::Random;
use bartizan_identify::{QuorumError, RecoverySignature};
use bartizan_secret::Secret;

use crate::printed::{self, PrintedError};

const PRIVATE_PREFIX: &str = "btzr_";

/// The two halves of a fresh set of recovery keys, in the same order.
#[derive(Debug)]
pub struct RecoverySet {
    /// Public halves, `ed25519:…`, to be kept in the state.
    pub publics: Vec<String>,
    /// Private halves, `btzr_…`, to be shown once, one to each holder, and kept nowhere.
    pub privates: Vec<Secret<String>>,
}

impl RecoverySet {
    /// Makes `count` keys of which `needed` together can recover.
    ///
    /// # Errors
    /// `Threshold` unless 1 ≤ `needed` ≤ `count`.
    pub fn generate(count: u32, needed: u32, random: &dyn Random) -> Result<Self, QuorumError> {
        if needed == 0 || needed > count {
            return Err(QuorumError::Threshold);
        }
        let mut set = Self { publics: Vec::new(), privates: Vec::new() };
        for _ in 0..count {
            let key = RecoveryKey::from_seed(&printed::generate(random)).ok_or(QuorumError::Threshold)?;
            set.publics.push(key.public());
            set.privates.push(key.text);
        }
        Ok(set)
    }
}

/// One private recovery key (Ed25519, RFC 8032).
pub struct RecoveryKey {
    pair: Ed25519KeyPair,
    text: Secret<String>,
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

impl RecoveryKey {
    fn from_seed(seed: &Secret<[u8; 32]>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok()?;
        Some(Self { pair, text: printed::print(PRIVATE_PREFIX, seed) })
    }

    /// The public half, `ed25519:…`.
    #[must_use]
    pub fn public(&self) -> String {
        self.sign(b"").public().to_owned()
    }

    /// Signs `message`. What the message says must name the installation and what it is to return to, so that the
    /// signature cannot be used again elsewhere or later.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> RecoverySignature {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(&RecoverySignature::signed(message)).as_ref());
        RecoverySignature::new(&public, signature)
    }
}

impl FromStr for RecoveryKey {
    type Err = PrintedError;

    fn from_str(text: &str) -> Result<Self, PrintedError> {
        let seed = printed::parse(PRIVATE_PREFIX, text)?;
        Self::from_seed(&seed).ok_or(PrintedError::Shape(PRIVATE_PREFIX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;
    use bartizan_identify::{SignatureError, verify_quorum};

    const MESSAGE: &[u8] = b"return installation 7 to bundle 12";

    fn set() -> (Vec<String>, Vec<RecoveryKey>) {
        let set = RecoverySet::generate(3, 2, &SeededRandom::new(4)).unwrap();
        let keys = set.privates.iter().map(|text| text.expose().parse().unwrap()).collect();
        (set.publics, keys)
    }

    #[test]
    fn enough_different_keys_make_a_quorum() {
        let (publics, keys) = set();
        let signatures: Vec<_> = keys.iter().map(|key| key.sign(MESSAGE)).collect();
        for pair in [[0, 1], [1, 2], [2, 0]] {
            let present = pair.map(|n: usize| signatures[n].clone());
            assert_eq!(verify_quorum(MESSAGE, &present, &publics, 2), Ok(()));
        }
        assert_eq!(verify_quorum(MESSAGE, &signatures, &publics, 3), Ok(()));
        assert_eq!(publics, keys.iter().map(RecoveryKey::public).collect::<Vec<_>>());
    }

    #[test]
    fn a_duplicate_signer_counts_once() {
        let (publics, keys) = set();
        let twice = [keys[0].sign(MESSAGE), keys[0].sign(MESSAGE)];
        let too_few = Err(QuorumError::TooFew { present: 1, needed: 2 });
        assert_eq!(verify_quorum(MESSAGE, &twice, &publics, 2), too_few);
        // Nor does a set that names one key twice make two of it.
        let doubled = [publics[0].clone(), publics[0].clone()];
        assert_eq!(verify_quorum(MESSAGE, &twice, &doubled, 2), Err(QuorumError::Threshold));
        assert_eq!(
            verify_quorum(MESSAGE, &[], &publics, 2),
            Err(QuorumError::TooFew { present: 0, needed: 2 })
        );
    }

    #[test]
    fn a_stranger_or_another_message_spoils_the_quorum() {
        let (publics, keys) = set();
        let stranger =
            RecoveryKey::from_seed(&printed::generate(&SeededRandom::new(99))).unwrap().sign(MESSAGE);
        let good = [keys[0].sign(MESSAGE), keys[1].sign(MESSAGE)];
        let with_stranger = [good[0].clone(), good[1].clone(), stranger.clone()];
        assert_eq!(
            verify_quorum(MESSAGE, &with_stranger, &publics, 2),
            Err(QuorumError::Stranger(stranger.public().to_owned()))
        );
        assert_eq!(
            verify_quorum(b"another message", &good, &publics, 2),
            Err(QuorumError::Forged(publics[0].clone()))
        );
        // A stranger's signature under a holder's name.
        let text = stranger.to_string();
        let renamed = format!("{}.{}", publics[1], text.split_once('.').unwrap().1).parse().unwrap();
        assert_eq!(
            verify_quorum(MESSAGE, &[good[0].clone(), renamed], &publics, 2),
            Err(QuorumError::Forged(publics[1].clone()))
        );
    }

    #[test]
    fn a_signature_without_our_domain_is_forged() {
        let (publics, keys) = set();
        let (mut public, mut signature) = ([0; 32], [0; 64]);
        public.copy_from_slice(keys[0].pair.public_key().as_ref());
        signature.copy_from_slice(keys[0].pair.sign(MESSAGE).as_ref());
        let bare = RecoverySignature::new(&public, signature);
        assert!(matches!(verify_quorum(MESSAGE, &[bare], &publics, 1), Err(QuorumError::Forged(_))));
    }

    #[test]
    fn a_threshold_of_none_or_more_than_all_is_refused() {
        let (publics, keys) = set();
        let signatures: Vec<_> = keys.iter().map(|key| key.sign(MESSAGE)).collect();
        for needed in [0, 4] {
            assert_eq!(verify_quorum(MESSAGE, &signatures, &publics, needed), Err(QuorumError::Threshold));
            assert!(RecoverySet::generate(3, needed, &SeededRandom::new(1)).is_err());
        }
        assert_eq!(verify_quorum(MESSAGE, &signatures, &[], 1), Err(QuorumError::Threshold));
    }

    #[test]
    fn signatures_are_printed_and_read_back() {
        let (_, keys) = set();
        let signature = keys[0].sign(MESSAGE);
        let text = signature.to_string();
        assert_eq!(text.parse(), Ok(signature));
        for bad in [
            "",
            "ed25519:.",
            text.trim_start_matches('e'),
            text.get(..text.len() - 1).unwrap(),
            &format!("{text}A"),
        ] {
            assert_eq!(bad.parse::<RecoverySignature>(), Err(SignatureError), "{bad}");
        }
        assert!(verify_quorum(MESSAGE, &[], &["ed25519:short".to_owned()], 1).is_err());
    }

    #[test]
    fn a_private_key_is_never_printed_by_debug() {
        let (_, keys) = set();
        let shown = format!("{:?}", keys[0]);
        assert!(shown.contains(&keys[0].public()) && !shown.contains(PRIVATE_PREFIX), "{shown}");
    }
}
