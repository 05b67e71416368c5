//! Timestamped cosignatures after C2SP tlog-cosignature: Ed25519 (type 0x04) and, with the feature `pq`, ML-DSA-44 (type
//! 0x06) over a checkpoint.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::checkpoint::Checkpoint;
use crate::key::{KeyId, KeyText, key_id, key_text, signature_line, valid_name};
use crate::note::{NoteError, SIGNATURES_MAX, UnverifiedNote};
#[cfg(feature = "pq")]
use crate::pq;

/// The algorithm byte of Ed25519 cosignatures.
const ED25519_TYPE: u8 = 0x04;

/// The latest moment a cosignature can tell, in seconds.
const TIME_MAX_S: u64 = i64::MAX as u64;

/// The public key of a cosigner, in its text form `name+hex id+base64`.
///
/// An Ed25519 cosignature does not commit to the cosigner's name, so a public key belongs to one name only.
#[derive(Clone, PartialEq, Eq)]
pub struct CosignerKey {
    name: String,
    id: KeyId,
    public: Public,
}

#[derive(Clone, PartialEq, Eq)]
enum Public {
    Ed25519([u8; 32]),
    #[cfg(feature = "pq")]
    MlDsa44(Box<[u8; pq::PUBLIC_LENGTH]>),
}

/// A key that cosigns checkpoints.
pub struct Cosigner {
    verifier: CosignerKey,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    #[cfg(feature = "pq")]
    MlDsa44(Box<pq::KeyPair>),
}

/// A cosignature that was verified: at that time this was the largest consistent tree its cosigner had seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    key: CosignerKey,
    time_s: u64,
    line: String,
}

/// Why a checkpoint is not cosigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignError {
    /// The time is zero or beyond 2^63 - 1: no moment.
    #[error("a cosignature tells a time between 1 and 2^63 - 1 seconds")]
    Time,
    /// Only checkpoints are cosigned.
    #[error("not the text of a checkpoint")]
    Checkpoint,
    /// The key cannot sign this: its name or the log's is longer than ML-DSA cosignatures carry.
    #[error("the key cannot sign this checkpoint")]
    Key,
}

impl CosignerKey {
    fn new(name: &str, public: Public) -> Result<Self, NoteError> {
        if !valid_name(name) {
            return Err(NoteError::Key);
        }
        let id = key_id(name, public.kind(), public.bytes());
        Ok(Self { name: name.to_owned(), id, public })
    }

    /// The cosigner's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn id(&self) -> KeyId {
        self.id
    }

    /// Whether both are the same public key, under whatever names.
    pub(crate) fn same_public(&self, other: &Self) -> bool {
        self.public == other.public
    }

    /// What is signed. Only checkpoints, and only with a time: a cosignature is never anything else.
    fn message(&self, text: &str, time_s: u64) -> Result<Vec<u8>, CosignError> {
        if !(1..=TIME_MAX_S).contains(&time_s) {
            return Err(CosignError::Time);
        }
        let checkpoint = Checkpoint::parse(text).map_err(|_| CosignError::Checkpoint);
        match &self.public {
            // The whole text, so that extension lines are covered too; the cosigner's name is not.
            Public::Ed25519(_) => {
                checkpoint.map(|_| format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes())
            }
            // Three lines of it: whoever reads extension lines must not take them for cosigned.
            #[cfg(feature = "pq")]
            Public::MlDsa44(_) => {
                let checkpoint = checkpoint.ok().filter(|checkpoint| checkpoint.text() == text);
                let checkpoint = checkpoint.ok_or(CosignError::Checkpoint)?;
                pq::message(&self.name, &checkpoint, time_s).ok_or(CosignError::Key)
            }
        }
    }

    /// Verifies a timestamped signature over the text of a checkpoint.
    pub(crate) fn verify(&self, text: &str, signature: &[u8]) -> Result<Cosignature, NoteError> {
        let (time, bytes) = signature.split_first_chunk::<8>().ok_or(NoteError::Signature)?;
        let time_s = u64::from_be_bytes(*time);
        let message = self.message(text, time_s).map_err(|_| NoteError::Signature)?;
        match &self.public {
            Public::Ed25519(public) => UnparsedPublicKey::new(&ED25519, public).verify(&message, bytes),
            #[cfg(feature = "pq")]
            Public::MlDsa44(public) => pq::verify(public, &message, bytes),
        }
        .map_err(|_| NoteError::Signature)?;
        let line = signature_line(&self.name, self.id, signature);
        Ok(Cosignature { key: self.clone(), time_s, line })
    }
}

impl Public {
    const fn kind(&self) -> u8 {
        match self {
            Self::Ed25519(_) => ED25519_TYPE,
            #[cfg(feature = "pq")]
            Self::MlDsa44(_) => pq::TYPE,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(public) => public,
            #[cfg(feature = "pq")]
            Self::MlDsa44(public) => &**public,
        }
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, self.id, self.public.kind(), self.public.bytes()))
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CosignerKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let KeyText { name, id, kind, public } = KeyText::parse(text).ok_or(NoteError::Key)?;
        let public = match kind {
            ED25519_TYPE => Public::Ed25519(public.try_into().map_err(|_| NoteError::Key)?),
            #[cfg(feature = "pq")]
            pq::TYPE => Public::MlDsa44(public.try_into().map_err(|_| NoteError::Key)?),
            _ => return Err(NoteError::Key),
        };
        Ok(Self { name, id, public })
    }
}

impl Cosigner {
    /// An Ed25519 cosigner called `name` with the private key `seed` (RFC 8032).
    ///
    /// # Errors
    /// When `name` cannot be a key name: empty, or with white space, control characters or `+`.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::Key)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key)?;
        Ok(Self { verifier: CosignerKey::new(name, Public::Ed25519(public))?, pair: Pair::Ed25519(pair) })
    }

    /// An ML-DSA-44 cosigner called `name` with the private key `seed` (FIPS 204, key generation from ξ).
    ///
    /// # Errors
    /// As [`Cosigner::from_seed`].
    #[cfg(feature = "pq")]
    pub fn ml_dsa_44_from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let (pair, public) = pq::key_pair(seed).ok_or(NoteError::Key)?;
        let verifier = CosignerKey::new(name, Public::MlDsa44(public))?;
        Ok(Self { verifier, pair: Pair::MlDsa44(Box::new(pair)) })
    }

    /// The public half.
    #[must_use]
    pub const fn verifier(&self) -> &CosignerKey {
        &self.verifier
    }

    /// Cosigns the text of a checkpoint (without its signatures) at `time_s`, in seconds since 1970. Returns the
    /// signature line, with its line feed.
    ///
    /// The caller has verified that the checkpoint extends every earlier one of its origin that this key has cosigned;
    /// [`Witness`](crate::Witness) does.
    ///
    /// # Errors
    /// [`CosignError`].
    pub fn cosign(&self, checkpoint_text: &str, time_s: u64) -> Result<String, CosignError> {
        let message = self.verifier.message(checkpoint_text, time_s)?;
        let mut signature = time_s.to_be_bytes().to_vec();
        match &self.pair {
            Pair::Ed25519(pair) => signature.extend_from_slice(pair.sign(&message).as_ref()),
            #[cfg(feature = "pq")]
            Pair::MlDsa44(pair) => signature.extend(pq::sign(pair, &message).ok_or(CosignError::Key)?),
        }
        Ok(signature_line(&self.verifier.name, self.verifier.id, &signature))
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cosigner").field(&self.verifier).finish()
    }
}

impl Cosignature {
    /// The key that has cosigned.
    #[must_use]
    pub const fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// The cosigner's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// When, in seconds since 1970; never zero.
    #[must_use]
    pub const fn time_s(&self) -> u64 {
        self.time_s
    }

    /// The signature line, with its line feed.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// Appends `cosignatures` to a signed checkpoint. Each is verified against this checkpoint once more; of a key that is
/// there already the older one stays.
///
/// # Errors
/// `Shape` if `signed` is not a note or would have more than [`SIGNATURES_MAX`] signatures; `Signature` if a cosignature
/// is of another checkpoint.
pub fn add_cosignatures(signed: &str, cosignatures: &[Cosignature]) -> Result<String, NoteError> {
    let mut out = signed.to_owned();
    for Cosignature { key, line, .. } in cosignatures {
        let note = UnverifiedNote::parse(out.as_bytes())?;
        let text = note.claim();
        let new = UnverifiedNote::of(text, line)?;
        key.verify(text, new.signature(&key.name, key.id)?.ok_or(NoteError::Signature)?)?;
        if note.signature(&key.name, key.id)?.is_none() {
            if note.signatures() >= SIGNATURES_MAX {
                return Err(NoteError::Shape);
            }
            out.push_str(line);
        }
    }
    Ok(out)
}
