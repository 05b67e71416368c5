//! Keys of signed notes: verifier keys in their text form, and Ed25519 signers.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bartizan_base::Digest;
use bartizan_secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The signature type of plain Ed25519 (signed-note, "Signature types").
const ED25519_TYPE: u8 = 0x01;

/// Who signs a note: the name of a key, and for the key of a log its origin. Not empty, no white space, no
/// control characters, no `+` (signed-note, "Format").
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

/// A public Ed25519 key with its name, written `<name>+<id>+<base64>` (a "vkey").
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: KeyHash,
    public: [u8; 32],
}

/// The first four bytes of `SHA-256(name || 0x0A || type || public key)`. With the name it identifies the key.
pub(crate) type KeyHash = [u8; 4];

/// A private Ed25519 key with its name.
pub struct Signer {
    key: VerifierKey,
    pair: Ed25519KeyPair,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty, or contains white space, control characters or `+`.
    #[error("a key's name is not empty and contains no white space, control characters and `+`")]
    Name,
    /// Not of the form `<name>+<8 hexadecimal digits>+<base64>`.
    #[error("a verifier key has the form `<name>+<8 hexadecimal digits>+<base64>`")]
    Shape,
    /// A signature type other than Ed25519.
    #[error("only keys of signature type 0x01 (Ed25519) are supported")]
    Type,
    /// The id does not belong to name and key: mistyped or cut.
    #[error("the key's id does not fit its name and bytes; it was mistyped or cut")]
    Id,
    /// The seed was refused by the cryptographic library.
    #[error("the private key was refused")]
    Seed,
}

// === impl KeyName ===

impl KeyName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let refused = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if text.is_empty() || text.contains(refused) {
            return Err(KeyError::Name);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

// === impl VerifierKey ===

impl VerifierKey {
    /// The Ed25519 key `public` under `name`.
    #[must_use]
    pub fn ed25519(name: KeyName, public: [u8; 32]) -> Self {
        let id = key_id(&name, &public);
        Self { name, id, public }
    }

    /// The key's name; for the key of a log, the log's origin.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// The 32 bytes of the public key.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(crate) const fn id(&self) -> &KeyHash {
        &self.id
    }

    /// Whether `signature` is this key's over `message` (RFC 8032).
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public).verify(message, signature).is_ok()
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        // The last part may contain `+`, the others not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Shape);
        };
        let name: KeyName = name.parse()?;
        let key = STANDARD.decode(key).map_err(|_| KeyError::Shape)?;
        let (kind, public) = key.split_first().ok_or(KeyError::Shape)?;
        if *kind != ED25519_TYPE {
            return Err(KeyError::Type);
        }
        let found = Self::ed25519(name, public.try_into().map_err(|_| KeyError::Shape)?);
        if hex(found.id) == id { Ok(found) } else { Err(KeyError::Id) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_TYPE];
        key.extend_from_slice(&self.public);
        f.pad(&format!("{}+{}+{}", self.name, hex(self.id), STANDARD.encode(key)))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Signer ===

impl Signer {
    /// The key with this seed (RFC 8032, the 32 private bytes) under `name`. One seed may serve under several
    /// names: each log of a house has its origin as its key's name.
    ///
    /// # Errors
    /// [`KeyError::Seed`] when the cryptographic library refuses it.
    pub fn ed25519(name: KeyName, seed: &Secret<[u8; 32]>) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| KeyError::Seed)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Seed)?;
        Ok(Self { key: VerifierKey::ed25519(name, public), pair })
    }

    /// The public half.
    #[must_use]
    pub const fn verifier_key(&self) -> &VerifierKey {
        &self.key
    }

    /// The signature over `message`, 64 bytes (RFC 8032); nothing if the cryptographic library refuses. Ed25519
    /// needs no randomness.
    pub(crate) fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.pair.try_sign(message).ok()?.as_ref().to_vec())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("key", &self.key).finish_non_exhaustive()
    }
}

fn key_id(name: &KeyName, public: &[u8]) -> KeyHash {
    let digest = Digest::of_parts(&[name.as_str().as_bytes(), b"\n", &[ED25519_TYPE], public]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

fn hex(id: KeyHash) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}
