//! Receipts after C2SP tlog-proof.

use bartizan_base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, Cosigned, parse_decimal, parse_hash};
use crate::note::VerifierKey;
use crate::policy::{Policy, Refused};
use crate::proof::{ProofError, verify_inclusion};

/// A proof that one entry is in a log, to be verified offline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which entry.
    pub index: u64,
    /// From the leaf upwards.
    pub proof: Vec<Digest>,
    /// The signed checkpoint, with the cosignatures it has.
    pub checkpoint: String,
    /// Data of an application, authenticated by nothing. Ours has none.
    pub extra: Option<Vec<u8>>,
}

/// Why a receipt is refused under a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Its proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Its checkpoint, or who has cosigned it.
    #[error(transparent)]
    Policy(#[from] Refused),
}

/// The first line of a receipt.
pub(crate) const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// No tree of at most 2^64 leaves needs more hashes.
const HASHES_MAX: usize = 64;

impl Receipt {
    /// The text of a `.tlog-proof` file.
    #[must_use]
    pub fn text(&self) -> String {
        let hashes: String = self.proof.iter().map(|h| STANDARD.encode(h.as_bytes()) + "\n").collect();
        let extra = self.extra.as_ref().map(|extra| format!("extra {}\n", STANDARD.encode(extra)));
        format!("{HEADER}\n{}index {}\n{hashes}\n{}", extra.unwrap_or_default(), self.index, self.checkpoint)
    }

    /// Reads a `.tlog-proof` file.
    ///
    /// # Errors
    /// `Shape`.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofError::Shape)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(ProofError::Shape);
        }
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.and_then(|line| line.strip_prefix("extra ")).map(|extra| STANDARD.decode(extra));
        let extra = extra.transpose().map_err(|_| ProofError::Shape)?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(parse_decimal);
        let index = index.ok_or(ProofError::Shape)?;
        // One more than any tree needs is enough to refuse.
        let proof: Option<Vec<_>> = lines.take(HASHES_MAX + 1).map(parse_hash).collect();
        let proof = proof.filter(|p| p.len() <= HASHES_MAX).ok_or(ProofError::Shape)?;
        Ok(Self { index, proof, checkpoint: checkpoint.to_owned(), extra })
    }

    /// Verifies that the entry with this leaf hash is in the log of `key`.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, leaf: Digest, key: &VerifierKey) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), key)?;
        verify_inclusion(leaf, self.index, checkpoint.size, &self.proof, &checkpoint.root)?;
        Ok(checkpoint)
    }

    /// As [`Receipt::verify`], and that the checkpoint is cosigned as `policy` demands.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn verify_under(
        &self,
        leaf: Digest,
        key: &VerifierKey,
        policy: &Policy,
    ) -> Result<Cosigned, ReceiptError> {
        let cosigned = policy.open_signed_by(self.checkpoint.as_bytes(), key)?;
        let Checkpoint { size, root, .. } = &cosigned.checkpoint;
        verify_inclusion(leaf, self.index, *size, &self.proof, root)?;
        Ok(cosigned)
    }
}
