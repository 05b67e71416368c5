//! `.tlog-proof` files (C2SP tlog-proof): everything needed to check offline that one entry is in a log.

use std::fmt;
use std::str::FromStr;

use bartizan_base::Digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, CheckpointError, parse_decimal, parse_hash};
use crate::note::NOTE_MAX;
use crate::proof::{InvalidProof, verify_inclusion};
use crate::{VerifierKey, leaf_hash};

/// The longest proof file we read, in bytes.
pub const TLOG_PROOF_MAX: usize = 2 * NOTE_MAX;

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// No tree of at most 2^64 leaves needs more.
const HASHES_MAX: usize = 64;

/// An entry's place in a log and the way from there to a signed checkpoint. Says nothing until
/// [`TlogProof::verify`] has succeeded for the entry at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Data of the application, not authenticated by anything.
    pub extra: Option<Vec<u8>>,
    /// The entry's index, from zero.
    pub index: u64,
    /// The sibling hashes from the leaf to the root.
    pub hashes: Vec<Digest>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// Longer than [`TLOG_PROOF_MAX`].
    #[error("the proof is longer than a proof may be")]
    TooLong,
    /// Not in the form of a `.tlog-proof`.
    #[error("the proof is malformed: {0}")]
    Malformed(&'static str),
    /// The checkpoint in it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The entry is not at that place of that log.
    #[error("the proof does not lead from the entry to the checkpoint's root")]
    NotIncluded(#[from] InvalidProof),
}

impl TlogProof {
    /// Checks that `entry` is in the log of a known key, and returns the checkpoint that says so.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn verify(&self, entry: &[u8], known: &[VerifierKey]) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), known)?;
        verify_inclusion(&leaf_hash(entry), self.index, checkpoint.size, &checkpoint.root, &self.hashes)?;
        Ok(checkpoint)
    }

    /// Reads the bytes of a proof file.
    ///
    /// # Errors
    /// [`TlogProofError::TooLong`], [`TlogProofError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TlogProofError> {
        if bytes.len() > TLOG_PROOF_MAX {
            return Err(TlogProofError::TooLong);
        }
        std::str::from_utf8(bytes).map_err(|_| TlogProofError::Malformed("not UTF-8"))?.parse()
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", STANDARD.encode(hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for TlogProof {
    type Err = TlogProofError;

    fn from_str(text: &str) -> Result<Self, TlogProofError> {
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or(TlogProofError::Malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(TlogProofError::Malformed("first line"));
        }
        let extra =
            lines.next_if(|line| line.starts_with("extra ")).and_then(|line| line.strip_prefix("extra "));
        let extra = extra.map(|extra| STANDARD.decode(extra)).transpose();
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(parse_decimal);
        let hashes: Option<Vec<Digest>> = lines.take(HASHES_MAX + 1).map(parse_hash).collect();
        let hashes = hashes.ok_or(TlogProofError::Malformed("inclusion hashes"))?;
        if hashes.len() > HASHES_MAX {
            return Err(TlogProofError::Malformed("more inclusion hashes than any tree needs"));
        }
        Ok(Self {
            extra: extra.map_err(|_| TlogProofError::Malformed("extra line"))?,
            index: index.ok_or(TlogProofError::Malformed("index line"))?,
            hashes,
            checkpoint: checkpoint.to_owned(),
        })
    }
}
