//! What stands in the place of a value that is masked, where it must stay the same or lead back.
//!
//! Both are keyed by tenant and derived from the key-encryption key, so every node makes the same, and nobody else can try
//! values against them. A hash is HMAC-SHA-256 (RFC 2104) cut to 80 bits. A token is
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1 |
//! | 12 | nonce: the first bytes of HMAC-SHA-256 over the text |
//! | rest | kind, a zero byte and value under AES-256-GCM-SIV (RFC 8452), with its tag of 16 bytes |
//!
//! in base32 (RFC 4648) in lower case behind `tok_`. The nonce follows from the text, so equal values make equal tokens; the
//! mode stays sound where a nonce repeats.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use bartizan_model::Tenant;
use bartizan_secret::Secret;
use zeroize::Zeroizing;

use crate::seal::{SealError, Sealer};

const VERSION: u8 = 1;
const PREFIX: &str = "tok_";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Bytes of a hash.
const HASH_LEN: usize = 10;

/// Makes hashes and tokens of one tenant, and opens its tokens.
pub struct Pseudonyms {
    tenant: Tenant,
    hash: hmac::Key,
    nonce: hmac::Key,
    seal: Secret<[u8; 32]>,
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pseudonyms").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl Sealer {
    /// What masks values of `tenant`.
    #[must_use]
    pub fn pseudonyms(&self, tenant: &Tenant) -> Pseudonyms {
        let key = |what: &str| self.derive(&format!("pseudonyms {what} of tenant {}", tenant.0));
        let hmac = |what: &str| hmac::Key::new(hmac::HMAC_SHA256, key(what).expose());
        Pseudonyms { tenant: tenant.clone(), hash: hmac("hash"), nonce: hmac("nonce"), seal: key("seal") }
    }
}

impl Pseudonyms {
    /// Twenty letters from `a` to `p` that stand for a value of a kind: no digits, so that they are no number of anybody's.
    #[must_use]
    pub fn hash(&self, kind: &str, value: &str) -> String {
        let tag = hmac::sign(&self.hash, &text_of(kind, value));
        let letter = |half: u8| char::from(b'a' + half);
        tag.as_ref().iter().take(HASH_LEN).flat_map(|b| [letter(b >> 4), letter(b & 15)]).collect()
    }

    /// A token that leads back to the value.
    ///
    /// # Errors
    /// `Refused` by the cryptographic library.
    pub fn token(&self, kind: &str, value: &str) -> Result<String, SealError> {
        let mut text = text_of(kind, value);
        let tag = hmac::sign(&self.nonce, &text);
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        self.key()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), self.bound(), &mut *text)
            .map_err(|_| SealError::Refused)?;
        let mut out = vec![VERSION];
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&text);
        Ok(format!("{PREFIX}{}", base32(&out)))
    }

    /// Kind and value of a token.
    ///
    /// # Errors
    /// When it is none, was changed, or is another tenant's.
    pub fn open(&self, token: &str) -> Result<(String, Secret<String>), SealError> {
        let sealed = token.strip_prefix(PREFIX).and_then(from_base32).ok_or(SealError::Format)?;
        let (version, rest) = sealed.split_first().ok_or(SealError::Format)?;
        if *version != VERSION {
            return Err(SealError::Format);
        }
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Format)?;
        let mut text = Zeroizing::new(text.to_vec());
        let clear = self
            .key()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), self.bound(), &mut text)
            .map_err(|_| SealError::Broken)?;
        let clear = std::str::from_utf8(clear).map_err(|_| SealError::Broken)?;
        let (kind, value) = clear.split_once('\0').ok_or(SealError::Broken)?;
        Ok((kind.to_owned(), Secret::new(value.to_owned())))
    }

    fn key(&self) -> Result<LessSafeKey, SealError> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, self.seal.expose());
        key.map(LessSafeKey::new).map_err(|_| SealError::Refused)
    }

    fn bound(&self) -> Aad<Vec<u8>> {
        Aad::from([b"bartizan masked value v1", self.tenant.0.as_bytes()].join(&0))
    }
}

fn text_of(kind: &str, value: &str) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(kind.len() + value.len() + 32));
    text.extend_from_slice(kind.as_bytes());
    text.push(0);
    text.extend_from_slice(value.as_bytes());
    text
}

fn base32(bytes: &[u8]) -> String {
    let digit = |bits: u64| {
        let place = usize::try_from(bits & 31).unwrap_or(0);
        ALPHABET.get(place).copied().map_or('a', char::from)
    };
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let bits = (0..5).fold(0_u64, |bits, at| bits << 8 | u64::from(chunk.get(at).copied().unwrap_or(0)));
        let digits = (chunk.len() * 8).div_ceil(5);
        out.extend((0..digits).map(|at| digit(bits >> (35 - 5 * at))));
    }
    out
}

/// None for other characters, and for lengths and left-over bits that no text of bytes has.
fn from_base32(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut out) = (0_u32, 0_u32, Vec::with_capacity(text.len() * 5 / 8));
    for byte in text.bytes() {
        let five = ALPHABET.iter().position(|b| *b == byte)?;
        bits = (bits << 5 | u32::try_from(five).ok()?) & 0xFFFF;
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xFF).ok()?);
        }
    }
    (held < 5 && bits & ((1 << held) - 1) == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;
    use proptest::prelude::*;

    fn sealer(seed: u64) -> Sealer {
        Sealer::new(crate::printed::generate(&SeededRandom::new(seed)))
    }

    fn tenant(name: &str) -> Tenant {
        Tenant(name.parse().unwrap())
    }

    #[test]
    fn equal_values_of_a_tenant_are_equal_and_nobody_elses_are() {
        let (one, other) = (sealer(1).pseudonyms(&tenant("a")), sealer(1).pseudonyms(&tenant("b")));
        let key = sealer(2).pseudonyms(&tenant("a"));
        let again = sealer(1).pseudonyms(&tenant("a"));
        assert_eq!(one.hash("email", "x"), again.hash("email", "x"));
        assert_eq!(one.token("email", "x").unwrap(), again.token("email", "x").unwrap());
        for different in
            [other.hash("email", "x"), key.hash("email", "x"), one.hash("phone", "x"), one.hash("email", "y")]
        {
            assert_ne!(one.hash("email", "x"), different);
        }
        let token = one.token("email", "x").unwrap();
        assert_eq!(other.open(&token).unwrap_err(), SealError::Broken);
        assert_eq!(key.open(&token).unwrap_err(), SealError::Broken);
        assert_eq!(one.hash("email", "x").len(), 20);
        assert!(!format!("{one:?}").contains("seal"));
    }

    #[test]
    fn base32_is_that_of_the_rfc() {
        for (text, expected) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(base32(text.as_bytes()), expected);
            assert_eq!(from_base32(expected).unwrap(), text.as_bytes());
        }
        for bad in ["a", "mz1q", "MY", "mz", "mzxq=", "mzxwa6b"] {
            assert!(from_base32(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_token_gives_back_what_it_was_made_of_and_a_changed_one_nothing(value in ".{0,60}", at in 0_usize..100, to in 0_usize..32) {
            let all = sealer(7).pseudonyms(&tenant("t"));
            let token = all.token("email", &value).unwrap();
            let (kind, back) = all.open(&token).unwrap();
            prop_assert_eq!((kind.as_str(), back.expose().as_str()), ("email", value.as_str()));
            let mut changed = token.clone().into_bytes();
            let at = PREFIX.len() + at % (changed.len() - PREFIX.len());
            changed[at] = ALPHABET[to];
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(all.open(&changed).is_ok(), changed == token);
        }
    }
}
