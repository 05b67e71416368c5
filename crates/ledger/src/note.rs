//! Signed notes after C2SP signed-note: logs sign with Ed25519 keys (type 0x01), cosigners as [`CosignerKey`] says.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cosignature::{Cosignature, CosignerKey};
use crate::key::{KeyId, KeyText, key_id, key_text, signature_line, valid_name};

/// The algorithm byte of Ed25519.
const ED25519_TYPE: u8 = 0x01;
/// The longest note that is read, in bytes.
pub const NOTE_MAX: usize = 1 << 20;
/// How many signatures are read.
pub const SIGNATURES_MAX: usize = 100;

/// A key that verifies notes, in its text form `name+hex id+base64`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: KeyId,
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

/// A note as it was read. Its text is shown only against keys: what it says is anybody's claim until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedNote {
    text: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: String,
    id: KeyId,
    bytes: Vec<u8>,
}

/// Why a note, key or signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A key name is empty or has a space or `+`; or a key is not well-formed.
    #[error("not a verifier key: expected `name+id+base64`")]
    Key,
    /// Not a signed note, or one with more than [`SIGNATURES_MAX`] signatures.
    #[error("not a signed note")]
    Shape,
    /// A signature by a known key does not hold.
    #[error("a signature by a known key does not hold")]
    Signature,
    /// A known key has signed twice. The specification leaves this open; the stricter of the foreign verifiers refuses it.
    #[error("a known key has signed more than once")]
    Duplicate,
    /// No known key has signed.
    #[error("no known key has signed the note")]
    Unsigned,
}

impl VerifierKey {
    /// The name of whoever signs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same public key under another name; none if that cannot be a key's.
    pub(crate) fn renamed(&self, name: &str) -> Option<Self> {
        let id = key_id(name, ED25519_TYPE, &self.public);
        valid_name(name).then(|| Self { name: name.to_owned(), id, public: self.public })
    }

    /// Whether the key has signed exactly `bytes`, which are no note.
    pub(crate) fn verify_bytes(&self, bytes: &[u8], signature: &[u8]) -> Result<(), NoteError> {
        let key = UnparsedPublicKey::new(&ED25519, self.public);
        key.verify(bytes, signature).map_err(|_| NoteError::Signature)
    }

    /// Whether both are the same public key, under whatever names.
    pub(crate) fn same_public(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, self.id, ED25519_TYPE, &self.public))
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
        let KeyText { name, id, kind, public } = KeyText::parse(text).ok_or(NoteError::Key)?;
        let public = public.try_into().map_err(|_| NoteError::Key)?;
        if kind == ED25519_TYPE { Ok(Self { name, id, public }) } else { Err(NoteError::Key) }
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
        let verifier = VerifierKey { name: name.to_owned(), id: key_id(name, ED25519_TYPE, &public), public };
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
        let signature = self.pair.sign(text.as_bytes());
        format!("{text}\n{}", signature_line(&self.verifier.name, self.verifier.id, signature.as_ref()))
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
        let note = UnverifiedNote::parse(bytes)?;
        note.signed_by(known)?;
        Ok(Self { text: note.text })
    }
}

impl UnverifiedNote {
    /// Reads a note.
    ///
    /// # Errors
    /// `Shape`.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_MAX {
            return Err(NoteError::Shape);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Shape)?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Shape);
        }
        let split = note.rfind("\n\n").ok_or(NoteError::Shape)?;
        let (text, lines) = note.split_at_checked(split + 1).ok_or(NoteError::Shape)?;
        let lines = lines.strip_prefix('\n').ok_or(NoteError::Shape)?;
        Ok(Self { text: text.to_owned(), signatures: parse_lines(lines)? })
    }

    /// A note of this text with these signature lines, as a witness answers them.
    pub(crate) fn of(text: &str, lines: &str) -> Result<Self, NoteError> {
        Ok(Self { text: text.to_owned(), signatures: parse_lines(lines)? })
    }

    /// The text, once one of `known` has signed it. Signatures by others are ignored; one by a known key that does not
    /// hold, or a second one, refuses the note.
    ///
    /// # Errors
    /// `Signature`, `Duplicate`, `Unsigned`.
    pub fn signed_by(&self, known: &[VerifierKey]) -> Result<&str, NoteError> {
        let mut signed = false;
        for key in known {
            if let Some(signature) = self.signature(&key.name, key.id)? {
                UnparsedPublicKey::new(&ED25519, key.public)
                    .verify(self.text.as_bytes(), signature)
                    .map_err(|_| NoteError::Signature)?;
                signed = true;
            }
        }
        if signed { Ok(&self.text) } else { Err(NoteError::Unsigned) }
    }

    /// The cosignatures by `known`, in their order; maybe none. Signatures by others are ignored; one by a known key
    /// that does not hold, or a second one, refuses the note. A public key counts once, under whatever names it is known.
    ///
    /// # Errors
    /// `Signature`, `Duplicate`.
    pub fn cosigned_by(&self, known: &[CosignerKey]) -> Result<Vec<Cosignature>, NoteError> {
        let mut found: Vec<Cosignature> = Vec::new();
        for key in known {
            let Some(signature) = self.signature(key.name(), key.id())? else { continue };
            let cosignature = key.verify(&self.text, signature)?;
            if !found.iter().any(|other| other.key().same_public(key)) {
                found.push(cosignature);
            }
        }
        Ok(found)
    }

    /// The text, unverified.
    pub(crate) fn claim(&self) -> &str {
        &self.text
    }

    /// The note with the signatures of these keys alone.
    pub(crate) fn signed_only(&self, keys: &[VerifierKey]) -> String {
        let of_keys = |s: &&Signature| keys.iter().any(|key| key.name == s.name && key.id == s.id);
        let lines = self.signatures.iter().filter(of_keys).map(|s| signature_line(&s.name, s.id, &s.bytes));
        format!("{}\n{}", self.text, lines.collect::<String>())
    }

    pub(crate) const fn signatures(&self) -> usize {
        self.signatures.len()
    }

    /// The signature of a key, which signs at most once.
    pub(crate) fn signature(&self, name: &str, id: KeyId) -> Result<Option<&[u8]>, NoteError> {
        let mut of_key = self.signatures.iter().filter(|s| s.name == name && s.id == id);
        match (of_key.next(), of_key.next()) {
            (_, Some(_)) => Err(NoteError::Duplicate),
            (found, None) => Ok(found.map(|signature| &*signature.bytes)),
        }
    }
}

/// Reads signature lines, one at least, each ending in a line feed.
fn parse_lines(lines: &str) -> Result<Vec<Signature>, NoteError> {
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Shape)?;
    let mut signatures = Vec::new();
    for line in lines.split('\n') {
        let (name, signature) =
            line.strip_prefix("\u{2014} ").and_then(|l| l.split_once(' ')).ok_or(NoteError::Shape)?;
        let signature = STANDARD.decode(signature).map_err(|_| NoteError::Shape)?;
        let (id, bytes) = signature.split_first_chunk::<4>().ok_or(NoteError::Shape)?;
        if !valid_name(name) || signatures.len() >= SIGNATURES_MAX {
            return Err(NoteError::Shape);
        }
        signatures.push(Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() });
    }
    Ok(signatures)
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
