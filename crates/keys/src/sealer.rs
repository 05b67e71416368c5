//! Envelope encryption: each credential under a data key of its own, each data key under the key-encryption key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bartizan_base::Random;
use bartizan_secret::Secret;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Version of the format: `1 | nonce | wrapped data key (48) | nonce | ciphertext`.
const VERSION: u8 = 1;
const WRAPPED_LEN: usize = 48;

/// Seals and opens credentials. What is sealed for one tenant and name opens for no other.
pub struct Sealer {
    kek: LessSafeKey,
    random: Arc<dyn Random>,
}

/// Why a credential cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The bytes are not of this format.
    #[error("not a sealed credential of this version")]
    Shape,
    /// It was changed, moved to another name or tenant, or sealed under another key.
    #[error("the sealed credential does not open with this key for this name")]
    Open,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

fn key(bytes: &[u8]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new).map_err(|_| SealError::Shape)
}

fn aad(tenant: &str, name: &str) -> Vec<u8> {
    // Names hold no line feed, so the border is unambiguous.
    format!("bartizan sealed credential\n{tenant}\n{name}").into_bytes()
}

impl Sealer {
    /// A sealer under the key-encryption key `kek`.
    ///
    /// # Errors
    /// Never for a key of 32 bytes.
    pub fn new(kek: &Secret<[u8; 32]>, random: Arc<dyn Random>) -> Result<Self, SealError> {
        Ok(Self { kek: key(kek.expose())?, random })
    }

    /// Seals `text` for `tenant` and `name`.
    ///
    /// # Errors
    /// When the cipher fails.
    pub fn seal(&self, text: &Secret<String>, tenant: &str, name: &str) -> Result<Vec<u8>, SealError> {
        let mut data_key = Zeroizing::new([0_u8; 32]);
        self.random.fill(&mut *data_key);
        let aad = aad(tenant, name);
        let mut out = vec![VERSION];
        self.encrypt(&self.kek, &*data_key, &aad, &mut out)?;
        self.encrypt(&key(&*data_key)?, text.expose().as_bytes(), &aad, &mut out)?;
        Ok(out)
    }

    fn encrypt(
        &self,
        key: &LessSafeKey,
        plain: &[u8],
        aad: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce);
        let mut bytes = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut bytes)
            .map_err(|_| SealError::Open)?;
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&bytes);
        Ok(())
    }

    /// Opens what was sealed for `tenant` and `name`.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open(&self, sealed: &[u8], tenant: &str, name: &str) -> Result<Secret<String>, SealError> {
        let Some((&VERSION, rest)) = sealed.split_first() else { return Err(SealError::Shape) };
        let (wrapped, sealed) = rest.split_at_checked(NONCE_LEN + WRAPPED_LEN).ok_or(SealError::Shape)?;
        let aad = aad(tenant, name);
        let data_key = decrypt(&self.kek, wrapped, &aad)?;
        let plain = decrypt(&key(&data_key)?, sealed, &aad)?;
        let text = std::str::from_utf8(&plain).map_err(|_| SealError::Shape)?;
        Ok(Secret::new(text.to_owned()))
    }
}

fn decrypt(key: &LessSafeKey, sealed: &[u8], aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Shape)?;
    let mut bytes = Zeroizing::new(ciphertext.to_vec());
    let plain = key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut bytes)
        .map_err(|_| SealError::Open)?;
    let length = plain.len();
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;

    fn sealer(kek: u8) -> Sealer {
        Sealer::new(&Secret::new([kek; 32]), Arc::new(SeededRandom::new(kek.into()))).unwrap()
    }

    #[test]
    fn a_credential_opens_for_its_own_name_and_key_only() {
        let text = Secret::new("provider-credential".to_owned());
        let sealed = sealer(1).seal(&text, "default", "openai").unwrap();
        assert!(sealer(1).open(&sealed, "default", "openai").unwrap() == text);
        for (kek, tenant, name) in
            [(2, "default", "openai"), (1, "other", "openai"), (1, "default", "anthropic")]
        {
            assert_eq!(sealer(kek).open(&sealed, tenant, name).unwrap_err(), SealError::Open);
        }
        assert!(!sealed.windows(8).any(|w| w == b"provider"));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let sealed = sealer(1).seal(&Secret::new("abc".to_owned()), "t", "n").unwrap();
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(sealer(1).open(&bad, "t", "n").is_err(), "byte {at}");
            assert!(sealer(1).open(&sealed[..at], "t", "n").is_err(), "cut at {at}");
        }
    }
}
