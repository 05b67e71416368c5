//! Checkpoints (C2SP tlog-checkpoint v1): origin, size and root of a log, signed.

use std::fmt;
use std::str::FromStr;

use bartizan_base::Digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::note::{self, NoteError};
use crate::tree::empty_root;
use crate::{KeyName, Signer, VerifierKey};

/// What a log says of itself at one moment.
///
/// Printed as the three lines of a checkpoint's text. Extension lines are neither written nor read: ours carry none,
/// and what stands under a signature and is not understood is not passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the prefix it is served under, without scheme; also the name of its key.
    pub origin: KeyName,
    /// How many entries it has.
    pub size: u64,
    /// The root over them (RFC 6962).
    pub root: Digest,
}

/// Why a checkpoint is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The signed note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Not exactly origin, size and root, each on its line and spelled in the one right way.
    #[error("the checkpoint is malformed: {0}")]
    Malformed(&'static str),
    /// Known keys have signed, but not the log whose origin it claims.
    #[error("the checkpoint of `{0}` is not signed by a known key of that name")]
    NotByItsLog(KeyName),
}

impl Checkpoint {
    /// Signs size and root as the checkpoint of the log that bears the signer's name, and returns the whole note.
    /// The caller must never let two roots for one size, or a size below an earlier one, be signed.
    ///
    /// # Errors
    /// [`NoteError::SigningFailed`].
    pub fn sign(signer: &Signer, size: u64, root: Digest) -> Result<String, NoteError> {
        let checkpoint = Self { origin: signer.verifier_key().name().clone(), size, root };
        note::sign_note(&checkpoint.to_string(), &[signer])
    }

    /// Reads a signed checkpoint and checks it against the known keys: the log itself, which is the key that bears
    /// the origin as its name, must have signed; no known key's signature may fail.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &[u8], known: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let opened = note::open_note(note, known)?;
        let checkpoint: Self = opened.text().parse()?;
        if !opened.signers().iter().any(|key| *key.name() == checkpoint.origin) {
            return Err(CheckpointError::NotByItsLog(checkpoint.origin));
        }
        Ok(checkpoint)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    /// Reads the text of a checkpoint, without signatures.
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Malformed("cut"))?.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Malformed("not three lines"));
        };
        let origin = origin.parse().map_err(|_| CheckpointError::Malformed("origin"))?;
        let size = parse_decimal(size).ok_or(CheckpointError::Malformed("size"))?;
        let root = parse_hash(root).ok_or(CheckpointError::Malformed("root"))?;
        if size == 0 && root != empty_root() {
            return Err(CheckpointError::Malformed("a root other than the empty tree's for size 0"));
        }
        Ok(Self { origin, size, root })
    }
}

/// A decimal number in its only spelling.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A digest in standard base64, with padding.
pub(crate) fn parse_hash(text: &str) -> Option<Digest> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(Digest::from_bytes(bytes.try_into().ok()?))
}
