//! Signed notes after C2SP signed-note, with Ed25519 keys (type 0x01).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use bartizan_base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The algorithm byte of Ed25519.
const ED25519_TYPE: u8 = 0x01;
/// The longest note that is read, in bytes.
pub const NOTE_MAX: usize = 1 << 20;
/// How many signatures are read.
const SIGNATURES_MAX: usize = 100;

/// A key that verifies notes, in its text form `name+hex id+base64`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
}

/// A key that signs notes.
pub struct NoteSigner {
    verifier: VerifierKey,
    pair: Ed25519KeyPair,
}

/// A note whose text was signed by a known key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The text, ending in a line feed.
    pub text: String,
}

/// Why a note, key or signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A key name is empty or has a space or `+`; or a key is not well-formed.
    #[error("not a verifier key: expected `name+id+base64`")]
    Key,
    /// Not a signed note.
    #[error("not a signed note")]
    Shape,
    /// A signature by a known key does not hold.
    #[error("a signature by a known key does not hold")]
    Signature,
    /// No known key has signed.
    #[error("no known key has signed the note")]
    Unsigned,
}

fn valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('+') && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn key_id(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let digest = Digest::of_parts(&[name.as_bytes(), b"\n", &[ED25519_TYPE], public]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

impl VerifierKey {
    /// The name of whoever signs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the key has signed exactly `bytes`, which are no note.
    pub(crate) fn verify_bytes(&self, bytes: &[u8], signature: &[u8]) -> Result<(), NoteError> {
        let key = UnparsedPublicKey::new(&ED25519, self.public);
        key.verify(bytes, signature).map_err(|_| NoteError::Signature)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ED25519_TYPE];
        bytes.extend_from_slice(&self.public);
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id), STANDARD.encode(bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let bytes = STANDARD.decode(key).map_err(|_| NoteError::Key)?;
        let Some((&ED25519_TYPE, public)) = bytes.split_first() else { return Err(NoteError::Key) };
        let public: [u8; 32] = public.try_into().map_err(|_| NoteError::Key)?;
        let expected = key_id(name, &public);
        if !valid_name(name) || id != format!("{:08x}", u32::from_be_bytes(expected)) {
            return Err(NoteError::Key);
        }
        Ok(Self { name: name.to_owned(), id: expected, public })
    }
}

impl NoteSigner {
    /// A signer called `name` with the Ed25519 private key `seed` (RFC 8032).
    ///
    /// # Errors
    /// When `name` cannot be a key name: empty, or with white space, control characters or `+`.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        if !valid_name(name) {
            return Err(NoteError::Key);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::Key)?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key)?;
        let verifier = VerifierKey { name: name.to_owned(), id: key_id(name, &public), public };
        Ok(Self { verifier, pair })
    }

    /// The public half.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs `bytes`, which are no note: their beginning must tell them from every other thing this key signs.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> [u8; 64] {
        // Ed25519 signatures have 64 bytes (RFC 8032); whatever else would verify nowhere.
        self.pair.sign(bytes).as_ref().try_into().unwrap_or([0; 64])
    }

    /// Signs `text`, which ends in a line feed, and returns the whole note.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let mut bytes = self.verifier.id.to_vec();
        bytes.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n\u{2014} {} {}\n", self.verifier.name, STANDARD.encode(bytes))
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NoteSigner").field(&self.verifier).finish()
    }
}

impl Note {
    /// Reads a note and demands a valid signature by one of `known`. Signatures by others are ignored; one by a known
    /// key that does not hold refuses the note.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(bytes: &[u8], known: &[VerifierKey]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_MAX {
            return Err(NoteError::Shape);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Shape)?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Shape);
        }
        let split = note.rfind("\n\n").ok_or(NoteError::Shape)?;
        let (text, signatures) = note.split_at_checked(split + 1).ok_or(NoteError::Shape)?;
        let signatures =
            signatures.strip_prefix('\n').and_then(|s| s.strip_suffix('\n')).ok_or(NoteError::Shape)?;
        let mut signed = false;
        for (count, line) in signatures.split('\n').enumerate() {
            let (name, signature) =
                line.strip_prefix("\u{2014} ").and_then(|l| l.split_once(' ')).ok_or(NoteError::Shape)?;
            let signature = STANDARD.decode(signature).map_err(|_| NoteError::Shape)?;
            let (id, signature) = signature.split_first_chunk::<4>().ok_or(NoteError::Shape)?;
            if !valid_name(name) || count >= SIGNATURES_MAX {
                return Err(NoteError::Shape);
            }
            if let Some(key) = known.iter().find(|k| k.name == name && k.id == *id) {
                UnparsedPublicKey::new(&ED25519, key.public)
                    .verify(text.as_bytes(), signature)
                    .map_err(|_| NoteError::Signature)?;
                signed = true;
            }
        }
        if signed { Ok(Self { text: text.to_owned() }) } else { Err(NoteError::Unsigned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(name: &str, seed: u8) -> NoteSigner {
        NoteSigner::from_seed(name, &[seed; 32]).unwrap()
    }

    #[test]
    fn a_signed_note_opens_and_any_changed_byte_is_refused() {
        let signer = signer("example.org/log", 1);
        let known = [signer.verifier().clone()];
        let note = signer.sign("example.org/log\n3\nx\n");
        assert_eq!(Note::open(note.as_bytes(), &known).unwrap().text, "example.org/log\n3\nx\n");
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(Note::open(&bytes, &known).is_err(), "byte {at}");
        }
    }

    #[test]
    fn foreign_signatures_are_ignored_but_do_not_suffice() {
        let (ours, theirs) = (signer("ours", 1), signer("theirs", 2));
        let text = "text\n";
        let foreign = theirs.sign(text);
        let both = format!("{}{}", ours.sign(text), foreign.rsplit_once("\n\n").unwrap().1);
        assert!(Note::open(both.as_bytes(), &[ours.verifier().clone()]).is_ok());
        assert_eq!(Note::open(foreign.as_bytes(), &[ours.verifier().clone()]), Err(NoteError::Unsigned));
    }

    #[test]
    fn keys_round_trip_and_agree_with_the_foreign_implementation() {
        let ours = signer("example.org/log", 7);
        let text = ours.verifier().to_string();
        assert_eq!(text.parse(), Ok(ours.verifier().clone()));
        assert!("a b+00000000+AAAA".parse::<VerifierKey>().is_err());
        // The crate `signed_note` reads our key and accepts our note.
        use signed_note::{Note as TheirNote, StandardVerifier, VerifierList};
        let verifier = StandardVerifier::new(&text).unwrap();
        let note = TheirNote::from_bytes(ours.sign("example.org/log\n0\nx\n").as_bytes()).unwrap();
        note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
    }
}
