//! Envelope encryption of credentials at rest.
//!
//! A sealed credential, version 1, is
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1 |
//! | 8 | which key-encryption key: the first bytes of a SHA-256 over a label and the key |
//! | 12 | nonce of the wrapped data key |
//! | 48 | the data key (32 bytes) under the key-encryption key, with its tag |
//! | 12 | nonce of the text |
//! | rest | the text under the data key, with its tag of 16 bytes |
//!
//! Both layers are AES-256-GCM (NIST SP 800-38D). The associated data of both is the layer's label, the first nine
//! bytes, tenant and name, ended by zero bytes, which names cannot hold. So a row moved to another tenant or name does
//! not open. A data key seals one text, so its nonce cannot repeat; key-encryption keys wrap one data key a seal, far
//! below the 2^32 random nonces that the mode allows.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use bartizan_base::{Digest, Name, Random};
use bartizan_model::Tenant;
use bartizan_secret::Secret;
use zeroize::Zeroizing;

use crate::printed;

const VERSION: u8 = 1;
const KEK_ID_LEN: usize = 8;
const HEAD_LEN: usize = 1 + KEK_ID_LEN;
const TAG_LEN: usize = 16;
const KEY_LEN: usize = 32;
const WRAPPED_LEN: usize = KEY_LEN + TAG_LEN;

/// Seals and opens credentials with one key-encryption key.
pub struct Sealer {
    kek: Secret<[u8; KEY_LEN]>,
    id: [u8; KEK_ID_LEN],
}

/// Why a credential was not sealed or does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Written by a newer version, or not sealed at all.
    #[error("the sealed credential has an unknown format")]
    Format,
    /// Sealed under a key-encryption key that is not this one.
    #[error("the credential is sealed under another key-encryption key")]
    OtherKey,
    /// Changed, cut, or moved from another tenant or name.
    #[error("the sealed credential does not open: it was changed, or belongs to another tenant or name")]
    Broken,
    /// The cryptographic library refused; cannot happen for texts below 64 GiB.
    #[error("the credential could not be sealed")]
    Refused,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer with this key-encryption key.
    #[must_use]
    pub fn new(kek: Secret<[u8; 32]>) -> Self {
        let digest = Digest::of_parts(&[b"bartizan key-encryption key id v1\0", kek.expose()]);
        let mut id = [0; KEK_ID_LEN];
        id.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
        Self { kek, id }
    }

    /// A secret for another purpose: the same on every node that has the key-encryption key, and of no use for finding that.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Secret<[u8; KEY_LEN]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.kek.expose());
        let tag = hmac::sign(&key, format!("bartizan derived secret v1\0{purpose}").as_bytes());
        let mut out = Zeroizing::new([0; KEY_LEN]);
        out.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Secret::new(*out)
    }

    /// A sealer with a key of its own for one purpose: what it seals does not open under this one, nor the reverse. For things
    /// that are sealed so often that they must not use up the key-encryption key's nonces.
    #[must_use]
    pub fn derived(&self, purpose: &str) -> Self {
        Self::new(self.derive(&format!("sealer for {purpose}")))
    }

    /// Seals `secret` for the place `name` of `tenant`.
    ///
    /// # Errors
    /// `Refused` by the cryptographic library.
    pub fn seal(
        &self,
        secret: &Secret<String>,
        tenant: &Tenant,
        name: &Name,
        random: &dyn Random,
    ) -> Result<Vec<u8>, SealError> {
        let data_key = printed::generate(random);
        let mut out =
            Vec::with_capacity(HEAD_LEN + 2 * NONCE_LEN + WRAPPED_LEN + secret.expose().len() + TAG_LEN);
        out.push(VERSION);
        out.extend_from_slice(&self.id);
        let place = Place { head: out.clone(), tenant, name };
        encrypt(&self.kek, data_key.expose(), &place.bound("key"), random, &mut out)?;
        encrypt(&data_key, secret.expose().as_bytes(), &place.bound("text"), random, &mut out)?;
        Ok(out)
    }

    /// Opens what was sealed for the place `name` of `tenant`.
    ///
    /// # Errors
    /// [`SealError`] says what is wrong as far as it can be told.
    pub fn open(&self, sealed: &[u8], tenant: &Tenant, name: &Name) -> Result<Secret<String>, SealError> {
        let (head, rest) = sealed.split_at_checked(HEAD_LEN).ok_or(SealError::Format)?;
        let (version, id) = head.split_first().ok_or(SealError::Format)?;
        if *version != VERSION {
            return Err(SealError::Format);
        }
        if id != self.id {
            return Err(SealError::OtherKey);
        }
        let (wrapped, text) = rest.split_at_checked(NONCE_LEN + WRAPPED_LEN).ok_or(SealError::Broken)?;
        let place = Place { head: head.to_vec(), tenant, name };
        let data_key = decrypt(&self.kek, wrapped, &place.bound("key"))?;
        let data_key =
            Secret::new(<[u8; KEY_LEN]>::try_from(data_key.as_slice()).map_err(|_| SealError::Broken)?);
        let mut text = decrypt(&data_key, text, &place.bound("text"))?;
        String::from_utf8(std::mem::take(&mut *text)).map(Secret::new).map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            SealError::Broken
        })
    }
}

/// Where a sealed credential belongs.
struct Place<'a> {
    head: Vec<u8>,
    tenant: &'a Tenant,
    name: &'a Name,
}

impl Place<'_> {
    /// The associated data of a layer.
    fn bound(&self, layer: &str) -> Vec<u8> {
        let label = format!("bartizan sealed {layer}");
        [label.as_bytes(), &self.head, self.tenant.0.as_bytes(), self.name.as_bytes()].join(&0)
    }
}

fn key(bytes: &Secret<[u8; KEY_LEN]>) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, bytes.expose()).map(LessSafeKey::new).map_err(|_| SealError::Refused)
}

/// Appends nonce, ciphertext and tag to `out`.
fn encrypt(
    under: &Secret<[u8; KEY_LEN]>,
    plain: &[u8],
    bound: &[u8],
    random: &dyn Random,
    out: &mut Vec<u8>,
) -> Result<(), SealError> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce);
    let mut text = Zeroizing::new(Vec::with_capacity(plain.len() + TAG_LEN));
    text.extend_from_slice(plain);
    key(under)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut *text)
        .map_err(|_| SealError::Refused)?;
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&text);
    Ok(())
}

fn decrypt(
    under: &Secret<[u8; KEY_LEN]>,
    sealed: &[u8],
    bound: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Broken)?;
    let mut text = Zeroizing::new(sealed.to_vec());
    let len = key(under)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound), &mut text)
        .map_err(|_| SealError::Broken)?
        .len();
    text.truncate(len);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;
    use proptest::prelude::*;

    fn sealer(seed: u64) -> Sealer {
        Sealer::new(printed::generate(&SeededRandom::new(seed)))
    }

    fn tenant(name: &str) -> Tenant {
        Tenant(name.parse().unwrap())
    }

    fn seal(text: &str, random: &SeededRandom) -> Vec<u8> {
        let secret = Secret::new(text.to_owned());
        sealer(1).seal(&secret, &tenant("default"), &Name::literal("openai"), random).unwrap()
    }

    fn open(sealed: &[u8], of: &str, name: &'static str) -> Result<Secret<String>, SealError> {
        sealer(1).open(sealed, &tenant(of), &Name::literal(name))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_sealed_opens_and_shows_nothing(text in ".{0,200}", seed in any::<u64>()) {
            let random = SeededRandom::new(seed);
            let (one, two) = (seal(&text, &random), seal(&text, &random));
            let opened = open(&one, "default", "openai").unwrap();
            prop_assert_eq!(opened.expose(), &text);
            prop_assert!(one != two, "two seals of one text differ");
            prop_assert!(text.len() < 8 || !one.windows(text.len()).any(|w| w == text.as_bytes()));
        }
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let sealed = seal("sk-secret", &SeededRandom::new(2));
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                let expected = match at {
                    0 => SealError::Format,
                    1..HEAD_LEN => SealError::OtherKey,
                    _ => SealError::Broken,
                };
                assert_eq!(open(&changed, "default", "openai").unwrap_err(), expected, "{at}");
            }
        }
    }

    #[test]
    fn any_cut_or_addition_is_noticed() {
        let sealed = seal("sk-secret", &SeededRandom::new(2));
        for len in 0..sealed.len() {
            assert!(open(&sealed[..len], "default", "openai").is_err(), "{len}");
        }
        assert!(open(&[sealed.as_slice(), &[0]].concat(), "default", "openai").is_err());
    }

    #[test]
    fn inv_tenant_a_swapped_row_does_not_open() {
        let sealed = seal("sk-secret", &SeededRandom::new(2));
        for (of, name) in [("other", "openai"), ("default", "anthropic"), ("default:openai", "openai")] {
            assert_eq!(open(&sealed, of, name).unwrap_err(), SealError::Broken, "{of} {name}");
        }
        // Moving the border between tenant and name does not help either.
        let secret = Secret::new("x".to_owned());
        let sealed =
            sealer(1).seal(&secret, &tenant("a"), &Name::literal("bc"), &SeededRandom::new(2)).unwrap();
        assert_eq!(open(&sealed, "ab", "c").unwrap_err(), SealError::Broken);
    }

    #[test]
    fn parts_of_two_seals_do_not_mix() {
        let random = SeededRandom::new(2);
        let (one, two) = (seal("first", &random), seal("other", &random));
        let border = HEAD_LEN + NONCE_LEN + WRAPPED_LEN;
        let mixed = [&one[..border], &two[border..]].concat();
        assert_eq!(open(&mixed, "default", "openai").unwrap_err(), SealError::Broken);
    }

    #[test]
    fn derived_sealers_open_only_what_is_of_their_purpose() {
        let (text, random) = (Secret::new("x".to_owned()), SeededRandom::new(2));
        let (tenant, name) = (tenant("default"), Name::literal("n"));
        let one = sealer(1).derived("one");
        let sealed = one.seal(&text, &tenant, &name, &random).unwrap();
        assert_eq!(sealer(1).derived("one").open(&sealed, &tenant, &name).unwrap().expose(), "x");
        for other in [sealer(1), sealer(1).derived("two"), sealer(2).derived("one"), one.derived("one")] {
            assert_eq!(other.open(&sealed, &tenant, &name).unwrap_err(), SealError::OtherKey);
        }
    }

    #[test]
    fn another_key_encryption_key_says_so() {
        let sealed = seal("sk-secret", &SeededRandom::new(2));
        let result = sealer(9).open(&sealed, &tenant("default"), &Name::literal("openai"));
        assert_eq!(result.unwrap_err(), SealError::OtherKey);
        assert_eq!(format!("{:?}", sealer(9)), "Sealer { .. }");
    }
}
