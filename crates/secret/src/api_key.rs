//! The text form of an API key: `btz_` handle `_` secret checksum.
//!
//! The handle (12 characters) is public: it names the key in lists and logs. The secret (43 characters, 256 bits)
//! never leaves the caller after creation; only the SHA-256 of the whole text is stored. The checksum (6 characters,
//! CRC-32) lets leak scanners and typing mistakes be told from real keys without asking the database.

use std::fmt;
use std::str::FromStr;

use bartizan_base::{Digest, Random};

use crate::Secret;

const PREFIX: &str = "btz_";
const HANDLE_LEN: usize = 12;
const SECRET_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A well-formed API key, whose checksum holds. Whether it is known is the directory's to say.
#[derive(Clone, Debug)]
pub struct ApiKey {
    text: Secret<String>,
    handle: KeyHandle,
}

/// The public part of an API key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct KeyHandle(String);

/// The text is not an API key of ours. Says nothing about which part was wrong beyond what the caller can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// Other prefix, length or characters.
    #[error("an API key has the form `btz_` followed by 62 letters and digits in two groups")]
    Shape,
    /// The last six characters do not fit the rest: mistyped or cut.
    #[error("the API key's checksum does not hold; it was mistyped or cut")]
    Checksum,
}

impl ApiKey {
    /// How long every key is, in bytes.
    pub const LEN: usize = PREFIX.len() + HANDLE_LEN + 1 + SECRET_LEN + CHECKSUM_LEN;

    /// A new key.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let handle = random_text(random, HANDLE_LEN);
        let mut text = format!("{PREFIX}{handle}_{}", random_text(random, SECRET_LEN));
        text.push_str(&checksum(text.as_bytes()));
        Self { text: Secret::new(text), handle: KeyHandle(handle) }
    }

    /// The whole key, to be shown once to the one who asked for it.
    #[must_use]
    pub const fn text(&self) -> &Secret<String> {
        &self.text
    }

    /// The public part.
    #[must_use]
    pub const fn handle(&self) -> &KeyHandle {
        &self.handle
    }

    /// What is stored and looked up: the SHA-256 of the whole text. A plain hash is enough, since the secret has
    /// 256 random bits; there is nothing to guess.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.expose().as_bytes())
    }

    /// Whether `text` claims to be an API key of ours, well-formed or not.
    #[must_use]
    pub fn has_prefix(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
}

impl FromStr for ApiKey {
    type Err = ApiKeyError;

    fn from_str(text: &str) -> Result<Self, ApiKeyError> {
        let rest = text.strip_prefix(PREFIX).ok_or(ApiKeyError::Shape)?;
        if text.len() != Self::LEN || !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(ApiKeyError::Shape);
        }
        let (handle, tail) = rest.split_once('_').ok_or(ApiKeyError::Shape)?;
        if handle.len() != HANDLE_LEN || tail.contains('_') {
            return Err(ApiKeyError::Shape);
        }
        let (body, sum) = text.split_at_checked(text.len() - CHECKSUM_LEN).ok_or(ApiKeyError::Shape)?;
        if checksum(body.as_bytes()) != sum {
            return Err(ApiKeyError::Checksum);
        }
        Ok(Self { text: Secret::new(text.to_owned()), handle: KeyHandle(handle.to_owned()) })
    }
}

impl KeyHandle {
    /// The twelve characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl fmt::Debug for KeyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `len` characters, each uniform over the alphabet: bytes that would favour its first characters are drawn again.
fn random_text(random: &dyn Random, len: usize) -> String {
    let mut out = String::with_capacity(len);
    let mut buffer = zeroize::Zeroizing::new([0_u8; 64]);
    while out.len() < len {
        random.fill(&mut *buffer);
        for byte in buffer.iter().filter(|b| **b < 248) {
            if out.len() < len {
                out.extend(ALPHABET.get(usize::from(byte % 62)).map(|c| char::from(*c)));
            }
        }
    }
    out
}

fn checksum(bytes: &[u8]) -> String {
    let mut rest = crc32fast::hash(bytes);
    let mut out = [b'0'; CHECKSUM_LEN];
    for place in out.iter_mut().rev() {
        *place = ALPHABET.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    out.iter().map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn generated_keys_parse_and_differ(seed in 0_u64..1_000_000) {
            let random = SeededRandom::new(seed);
            let (one, two) = (ApiKey::generate(&random), ApiKey::generate(&random));
            let parsed: ApiKey = one.text().expose().parse().unwrap();
            prop_assert_eq!(parsed.digest(), one.digest());
            prop_assert_eq!(parsed.handle(), one.handle());
            prop_assert!(one.digest() != two.digest());
            prop_assert_eq!(one.text().expose().len(), ApiKey::LEN);
        }

        #[test]
        fn one_changed_character_is_noticed(seed in 0_u64..1_000, at in 4_usize..66, by in 1_u8..61) {
            let text = ApiKey::generate(&SeededRandom::new(seed)).text().expose().clone();
            let mut bytes = text.into_bytes();
            if let Some(place) = ALPHABET.iter().position(|c| *c == bytes[at]) {
                bytes[at] = ALPHABET[(place + usize::from(by)) % 62];
                prop_assert!(String::from_utf8(bytes).unwrap().parse::<ApiKey>().is_err());
            }
        }

        #[test]
        fn any_text_is_refused_without_panic(text in ".{0,80}") {
            prop_assert!(text.parse::<ApiKey>().is_err());
            let with_prefix = format!("btz_{text}");
            prop_assert!(with_prefix.parse::<ApiKey>().is_err());
        }
    }

    #[test]
    fn debug_shows_the_handle_only() {
        let key = ApiKey::generate(&SeededRandom::new(7));
        let shown = format!("{key:?}");
        assert!(shown.contains(key.handle().as_str()));
        let secret = key.text().expose().rsplit_once('_').unwrap().1;
        assert!(!shown.contains(secret));
    }
}
