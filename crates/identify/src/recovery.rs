//! Whoever holds enough of the offline recovery keys (DESIGN 5): who they are does not matter, that they are enough does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const PUBLIC_PREFIX: &str = "ed25519:";
/// What every signed message begins with: a recovery signature is worth nothing anywhere else, and no other one here.
const DOMAIN: &[u8] = b"bartizan recovery v1\0";

/// A signature with the public half of the key that made it; printed as both with a `.` between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverySignature {
    public: String,
    signature: [u8; 64],
}

impl RecoverySignature {
    /// The bytes that are signed for `message`.
    #[must_use]
    pub fn signed(message: &[u8]) -> Vec<u8> {
        [DOMAIN, message].concat()
    }

    /// The signature of a key (RFC 8032) over [`RecoverySignature::signed`].
    #[must_use]
    pub fn new(public: &[u8; 32], signature: [u8; 64]) -> Self {
        Self { public: public_text(public), signature }
    }

    /// The public half of the key that made it, `ed25519:…`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }
}

impl fmt::Display for RecoverySignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.public, URL_SAFE_NO_PAD.encode(self.signature))
    }
}

/// The text is not a recovery signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a recovery signature has the form `ed25519:KEY.SIGNATURE`")]
pub struct SignatureError;

impl FromStr for RecoverySignature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let (public, signature) = text.split_once('.').ok_or(SignatureError)?;
        let public = public_text(&public_bytes(public).ok_or(SignatureError)?);
        let mut bytes = [0; 64];
        match URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes) {
            Ok(64) => Ok(Self { public, signature: bytes }),
            _ => Err(SignatureError),
        }
    }
}

/// Why the holders present are not enough.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// No set of keys has this threshold.
    #[error("at least one and at most all of the recovery keys must be needed")]
    Threshold,
    /// A public half is not readable.
    #[error("`{0}` is not the public half of a recovery key")]
    PublicKey(String),
    /// A signature by a key that is not one of the set.
    #[error("the signature by `{0}` is not by one of the recovery keys")]
    Stranger(String),
    /// A signature that does not hold for this message.
    #[error("the signature by `{0}` does not hold for this message")]
    Forged(String),
    /// Too few different keys have signed.
    #[error("{present} of the recovery keys have signed, {needed} are needed")]
    TooFew {
        /// Different keys that signed.
        present: u32,
        /// How many must.
        needed: u32,
    },
}

/// Checks that `needed` different keys out of `publics` signed `message`. One signature that is foreign or does not
/// hold spoils all: somebody is trying something, or the wrong message is being signed.
///
/// # Errors
/// [`QuorumError`] says what is missing or wrong.
pub fn verify_quorum(
    message: &[u8],
    signatures: &[RecoverySignature],
    publics: &[String],
    needed: u32,
) -> Result<(), QuorumError> {
    let keys = publics
        .iter()
        .map(|text| {
            public_bytes(text).map(|key| (text, key)).ok_or_else(|| QuorumError::PublicKey(text.clone()))
        })
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    if needed == 0 || needed as usize > keys.len() {
        return Err(QuorumError::Threshold);
    }
    let signed = RecoverySignature::signed(message);
    let mut present = BTreeSet::new();
    for RecoverySignature { public, signature } in signatures {
        let key = keys.get(public).ok_or_else(|| QuorumError::Stranger(public.clone()))?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&signed, signature)
            .map_err(|_| QuorumError::Forged(public.clone()))?;
        present.insert(public);
    }
    let present = u32::try_from(present.len()).unwrap_or(u32::MAX);
    if present < needed { Err(QuorumError::TooFew { present, needed }) } else { Ok(()) }
}

/// The text of a public half.
fn public_text(key: &[u8]) -> String {
    format!("{PUBLIC_PREFIX}{}", URL_SAFE_NO_PAD.encode(key))
}

/// Strict: one key has one text, so that no key counts twice.
fn public_bytes(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let encoded = text.strip_prefix(PUBLIC_PREFIX)?;
    match URL_SAFE_NO_PAD.decode_slice(encoded, &mut key) {
        Ok(32) => Some(key),
        _ => None,
    }
}
