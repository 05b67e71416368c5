//! ML-DSA-44 (FIPS 204) cosignatures of whole trees, after C2SP tlog-cosignature v1.1. Their keys and signatures are some
//! forty times as long as those of Ed25519.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{KeyPair as _, ML_DSA_44, ML_DSA_44_SIGNING, PqdsaKeyPair, UnparsedPublicKey};

use crate::checkpoint::Checkpoint;

pub(crate) type KeyPair = PqdsaKeyPair;

/// The algorithm byte.
pub(crate) const TYPE: u8 = 0x06;
/// Bytes of a public key.
pub(crate) const PUBLIC_LENGTH: usize = 1_312;

const LABEL: &[u8; 12] = b"subtree/v1\n\0";

pub(crate) fn key_pair(seed: &[u8; 32]) -> Option<(KeyPair, Box<[u8; PUBLIC_LENGTH]>)> {
    let pair = PqdsaKeyPair::from_seed(&ML_DSA_44_SIGNING, seed).ok()?;
    let public = pair.public_key().as_ref().to_vec().try_into().ok()?;
    Some((pair, public))
}

/// The `cosigned_message` of a checkpoint: its whole tree, from entry 0 on. Nothing if
/// a name is longer than 255 bytes.
pub(crate) fn message(name: &str, checkpoint: &Checkpoint, time_s: u64) -> Option<Vec<u8>> {
    let mut out = LABEL.to_vec();
    out.push(u8::try_from(name.len()).ok()?);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&time_s.to_be_bytes());
    out.push(u8::try_from(checkpoint.origin.len()).ok()?);
    out.extend_from_slice(checkpoint.origin.as_bytes());
    out.extend_from_slice(&0_u64.to_be_bytes());
    out.extend_from_slice(&checkpoint.size.to_be_bytes());
    out.extend_from_slice(checkpoint.root.as_bytes());
    Some(out)
}

pub(crate) fn sign(pair: &KeyPair, message: &[u8]) -> Option<Vec<u8>> {
    let mut signature = vec![0; ML_DSA_44_SIGNING.signature_len()];
    let length = pair.sign(message, &mut signature).ok()?;
    signature.truncate(length);
    Some(signature)
}

pub(crate) fn verify(
    public: &[u8; PUBLIC_LENGTH],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Unspecified> {
    UnparsedPublicKey::new(&ML_DSA_44, &public[..]).verify(message, signature)
}
