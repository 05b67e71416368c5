//! Checkpoints after C2SP tlog-checkpoint.

use bartizan_base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cosignature::{Cosignature, CosignerKey};
use crate::note::{NoteError, NoteSigner, UnverifiedNote, VerifierKey};

/// What a log says about itself: its name, its size and its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name: a URL without scheme.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// A checkpoint that its log has signed, and who has cosigned it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// What the log says.
    pub checkpoint: Checkpoint,
    /// The cosignatures by known keys, all verified.
    pub cosignatures: Vec<Cosignature>,
}

/// Why a checkpoint is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not a checkpoint.
    #[error("the note is not a checkpoint")]
    Shape,
    /// It is of another log.
    #[error("the checkpoint is of another log")]
    Origin,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    /// Signs it.
    #[must_use]
    pub fn sign(&self, signer: &NoteSigner) -> String {
        signer.sign(&self.text())
    }

    /// Reads and verifies a signed checkpoint whose origin is the key's name.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &[u8], key: &VerifierKey) -> Result<Self, CheckpointError> {
        Ok(Self::open_cosigned(note, key, &[])?.checkpoint)
    }

    /// As [`Checkpoint::open`], with the cosignatures by `cosigners`. None need be there: [`Policy`](crate::Policy) says
    /// how many suffice.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open_cosigned(
        note: &[u8],
        key: &VerifierKey,
        cosigners: &[CosignerKey],
    ) -> Result<Cosigned, CheckpointError> {
        let note = UnverifiedNote::parse(note)?;
        let checkpoint = Self::parse(note.signed_by(std::slice::from_ref(key))?)?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::Origin);
        }
        Ok(Cosigned { checkpoint, cosignatures: note.cosigned_by(cosigners)? })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.split_terminator('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Shape);
        };
        let size = parse_decimal(size).ok_or(CheckpointError::Shape)?;
        let root = parse_hash(root).ok_or(CheckpointError::Shape)?;
        // Extension lines may follow but may not be empty.
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(CheckpointError::Shape);
        }
        Ok(Self { origin: origin.to_owned(), size, root })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_round_trips_and_other_origins_are_refused() {
        let signer = NoteSigner::from_seed("example.org/log", &[3; 32]).unwrap();
        let checkpoint = Checkpoint { origin: "example.org/log".to_owned(), size: 7, root: Digest::of(b"x") };
        assert_eq!(
            Checkpoint::open(checkpoint.sign(&signer).as_bytes(), signer.verifier()),
            Ok(checkpoint.clone())
        );
        let other = Checkpoint { origin: "example.org/other".to_owned(), ..checkpoint };
        assert_eq!(
            Checkpoint::open(other.sign(&signer).as_bytes(), signer.verifier()),
            Err(CheckpointError::Origin)
        );
    }

    #[test]
    fn sizes_with_leading_zeroes_and_empty_extensions_are_refused() {
        let root = STANDARD.encode(Digest::of(b"x").as_bytes());
        for text in [
            format!("o\n07\n{root}\n"),
            format!("o\n7\n{root}\n\n"),
            "o\n7\n".to_owned(),
            format!("\n7\n{root}\n"),
        ] {
            assert_eq!(Checkpoint::parse(&text), Err(CheckpointError::Shape), "{text:?}");
        }
    }
}
