//! Signed notes (C2SP signed-note v1): a text with signatures below it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::key::KeyHash;
use crate::{KeyName, Signer, VerifierKey};

/// The longest note we read, in bytes: room for 64 signatures of the largest kind.
pub const NOTE_MAX: usize = 512 * 1024;

/// How many signatures we read; the specification demands 16 at least.
const SIGNATURES_MAX: usize = 64;

/// A note that at least one known key has signed, and on which no known key's signature fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedNote {
    text: String,
    signers: Vec<VerifierKey>,
}

/// Why a note is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`NOTE_MAX`], or with too many signatures.
    #[error("the note is longer than a note may be")]
    TooLong,
    /// Not UTF-8, with control characters, or not in the form of a note.
    #[error("the note is malformed: {0}")]
    Malformed(&'static str),
    /// The signature of a key we know does not verify.
    #[error("the signature of `{0}` does not fit the text")]
    BadSignature(KeyName),
    /// A key we know has signed twice.
    #[error("`{0}` has signed twice")]
    Duplicate(KeyName),
    /// No key we know has signed.
    #[error("no known key has signed the note")]
    Unsigned,
    /// The cryptographic library refused to sign.
    #[error("the note could not be signed")]
    SigningFailed,
}

impl OpenedNote {
    /// The text that is signed, with its last line feed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The known keys whose signatures are on it and fit.
    #[must_use]
    pub fn signers(&self) -> &[VerifierKey] {
        &self.signers
    }
}

/// Signs `text` and returns the whole note.
///
/// # Errors
/// [`NoteError::Malformed`] when `text` does not end in a line feed or contains other control characters;
/// [`NoteError::TooLong`], [`NoteError::SigningFailed`].
pub fn sign_note(text: &str, signers: &[&Signer]) -> Result<String, NoteError> {
    check_text(text)?;
    if signers.len() > SIGNATURES_MAX {
        return Err(NoteError::TooLong);
    }
    let mut note = format!("{text}\n");
    for signer in signers {
        let signature = signer.signature(text.as_bytes()).ok_or(NoteError::SigningFailed)?;
        note.push_str(&signature_line(signer.verifier_key(), &signature));
    }
    if note.len() > NOTE_MAX { Err(NoteError::TooLong) } else { Ok(note) }
}

/// Checks a note against the keys known to the reader. Signatures of other keys are passed over, also when such a
/// key shares its name or its id with a known one.
///
/// # Errors
/// [`NoteError`]; a single failing signature of a known key refuses the note, whoever else has signed.
pub fn open_note(note: &[u8], known: &[VerifierKey]) -> Result<OpenedNote, NoteError> {
    if note.len() > NOTE_MAX {
        return Err(NoteError::TooLong);
    }
    let note = std::str::from_utf8(note).map_err(|_| NoteError::Malformed("not UTF-8"))?;
    check_text(note)?;
    // The last empty line separates. `split` is where the text ends, its line feed included.
    let split = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line before the signatures"))? + 1;
    let (text, rest) = note.split_at_checked(split).ok_or(NoteError::Malformed("cut"))?;
    let lines = rest.strip_prefix('\n').unwrap_or(rest);
    if lines.is_empty() {
        return Err(NoteError::Malformed("no signature"));
    }
    let mut signers: Vec<VerifierKey> = Vec::new();
    for (count, line) in lines.lines().enumerate() {
        if count >= SIGNATURES_MAX {
            return Err(NoteError::TooLong);
        }
        let line = parse_line(line).ok_or(NoteError::Malformed("signature line"))?;
        let Some(key) = known.iter().find(|key| *key.name() == line.name && *key.id() == line.id) else {
            continue;
        };
        if !key.verifies(text.as_bytes(), &line.signature) {
            return Err(NoteError::BadSignature(line.name));
        }
        if signers.contains(key) {
            return Err(NoteError::Duplicate(line.name));
        }
        signers.push(key.clone());
    }
    if signers.is_empty() {
        return Err(NoteError::Unsigned);
    }
    Ok(OpenedNote { text: text.to_owned(), signers })
}

struct SignatureLine {
    name: KeyName,
    id: KeyHash,
    signature: Vec<u8>,
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("no line feed at the end"));
    }
    if text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Malformed("control character"));
    }
    Ok(())
}

fn signature_line(key: &VerifierKey, signature: &[u8]) -> String {
    let mut blob = key.id().to_vec();
    blob.extend_from_slice(signature);
    format!("— {} {}\n", key.name(), STANDARD.encode(blob))
}

fn parse_line(line: &str) -> Option<SignatureLine> {
    let (name, blob) = line.strip_prefix("— ")?.split_once(' ')?;
    let blob = STANDARD.decode(blob).ok()?;
    let (id, signature) = blob.split_first_chunk::<4>()?;
    if signature.is_empty() {
        return None;
    }
    Some(SignatureLine { name: name.parse().ok()?, id: *id, signature: signature.to_vec() })
}
