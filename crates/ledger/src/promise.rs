//! Promises: what the house has acknowledged, signed before it is sealed.
//!
//! Records become durable in batches, so a batch is signed once: its root over the leaf hashes, in the tree of RFC 6962. A
//! promise is a record's way to that root with the signature. A log that does not hold the record later stands against
//! its own signature.

use std::fmt;
use std::str::FromStr;

use bartizan_base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{parse_decimal, parse_hash};
use crate::note::{NoteSigner, VerifierKey};
use crate::proof::root_by_inclusion;
use crate::tree::node_hash;

/// What the signed text begins with. No checkpoint does: their second line is a number.
const CONTEXT: &str = "bartizan-promise/v1";
/// No batch has more records, so no promise has more hashes.
const HASHES_MAX: usize = 32;

/// A batch of records that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBatch {
    /// The tree from the leaves up to the root. A node without a sibling goes up as it is, which gives the tree of RFC
    /// 6962, 2.1.
    levels: Vec<Vec<Digest>>,
    signature: [u8; 64],
}

impl SignedBatch {
    /// Signs the batch whose records have these leaf hashes, none for an empty one. `family` is what the names of the
    /// house's logs begin with.
    #[must_use]
    pub fn sign(family: &str, leaves: Vec<Digest>, signer: &NoteSigner) -> Option<Self> {
        let count = leaves.len() as u64;
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let above = level.chunks(2).filter_map(|pair| match pair {
                [left, right] => Some(node_hash(left, right)),
                [alone] => Some(*alone),
                _ => None,
            });
            levels.push(above.collect());
        }
        let signature = signer.sign_bytes(text(family, count, levels.last()?.first()?).as_bytes());
        Some(Self { levels, signature })
    }

    /// The promise about the record at `place` of the batch.
    #[must_use]
    pub fn promise(&self, place: usize) -> Option<Promise> {
        let count = self.levels.first().map(Vec::len).filter(|count| place < *count)?;
        let siblings = self
            .levels
            .iter()
            .enumerate()
            .filter_map(|(height, level)| level.get((place >> height) ^ 1).filter(|_| level.len() > 1));
        let proof = siblings.copied().collect();
        Some(Promise { index: place as u64, count: count as u64, proof, signature: self.signature })
    }
}

fn text(family: &str, count: u64, root: &Digest) -> String {
    format!("{CONTEXT}\n{family}\n{count}\n{}\n", STANDARD.encode(root.as_bytes()))
}

/// That a record will be in the ledger. Its text form is `index/count;hash,hash,…;signature`, in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    index: u64,
    count: u64,
    proof: Vec<Digest>,
    signature: [u8; 64],
}

/// Why a promise is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromiseError {
    /// Not the text of a promise.
    #[error("not a promise: expected `index/count;hashes;signature`")]
    Shape,
    /// The key has not signed it about this record.
    #[error("the promise was not made by this key about this record")]
    Signature,
}

impl Promise {
    /// Verifies that the holder of `key` has promised the record whose leaf hash is `leaf` to a log of `family`.
    ///
    /// # Errors
    /// [`PromiseError::Signature`].
    pub fn verify(&self, leaf: Digest, family: &str, key: &VerifierKey) -> Result<(), PromiseError> {
        let root = root_by_inclusion(leaf, self.index, self.count, &self.proof)
            .map_err(|_| PromiseError::Signature)?;
        key.verify_bytes(text(family, self.count, &root).as_bytes(), &self.signature)
            .map_err(|_| PromiseError::Signature)
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{};", self.index, self.count)?;
        for (place, hash) in self.proof.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{}", STANDARD.encode(hash.as_bytes()))?;
        }
        write!(f, ";{}", STANDARD.encode(self.signature))
    }
}

impl FromStr for Promise {
    type Err = PromiseError;

    fn from_str(text: &str) -> Result<Self, PromiseError> {
        let read = || {
            let (place, rest) = text.split_once(';')?;
            let (hashes, signature) = rest.split_once(';')?;
            let (index, count) = place.split_once('/')?;
            let proof: Option<Vec<Digest>> = match hashes {
                "" => Some(Vec::new()),
                hashes => hashes.split(',').take(HASHES_MAX + 1).map(parse_hash).collect(),
            };
            Some(Self {
                index: parse_decimal(index)?,
                count: parse_decimal(count)?,
                proof: proof.filter(|p| p.len() <= HASHES_MAX)?,
                signature: STANDARD.decode(signature).ok()?.try_into().ok()?,
            })
        };
        read().ok_or(PromiseError::Shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(seed: u8) -> NoteSigner {
        NoteSigner::from_seed("example.org/log/default/2026q4", &[seed; 32]).unwrap()
    }

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|n| Digest::of(&n.to_be_bytes())).collect()
    }

    #[test]
    fn every_record_of_a_batch_of_any_size_has_its_promise() {
        let signer = signer(1);
        for count in 1..=40 {
            let leaves = leaves(count);
            let batch = SignedBatch::sign("example.org/log", leaves.clone(), &signer).unwrap();
            for (place, leaf) in leaves.iter().enumerate() {
                let promise = batch.promise(place).unwrap();
                assert_eq!(promise.to_string().parse(), Ok(promise.clone()));
                promise.verify(*leaf, "example.org/log", signer.verifier()).unwrap();
                assert!(
                    promise.verify(Digest::of(b"other"), "example.org/log", signer.verifier()).is_err(),
                    "{place} of {count}"
                );
            }
            assert_eq!(batch.promise(leaves.len()), None);
        }
        assert_eq!(SignedBatch::sign("example.org/log", Vec::new(), &signer), None);
    }

    #[test]
    fn a_promise_by_another_key_for_another_house_or_with_any_changed_character_is_none() {
        let (ours, theirs) = (signer(1), signer(2));
        let leaves = leaves(5);
        let promise =
            SignedBatch::sign("example.org/log", leaves.clone(), &ours).unwrap().promise(3).unwrap();
        let leaf = leaves[3];
        assert!(promise.verify(leaf, "example.org/log", theirs.verifier()).is_err());
        assert!(promise.verify(leaf, "example.net/log", ours.verifier()).is_err());
        let text = promise.to_string();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
            let Ok(changed) = String::from_utf8(bytes).unwrap().parse::<Promise>() else { continue };
            assert!(changed.verify(leaf, "example.org/log", ours.verifier()).is_err(), "character {at}");
        }
        for bad in ["", "0/1", "0/1;;", "01/2;;AAAA", "0/1;x;AAAA", &format!("0/1;{};", "A,".repeat(40))] {
            assert_eq!(bad.parse::<Promise>(), Err(PromiseError::Shape), "{bad}");
        }
    }
}
