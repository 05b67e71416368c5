//! The witness protocol after C2SP tlog-witness, without I/O: requests, the decision, answers.

use bartizan_base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, CheckpointError, parse_decimal, parse_hash};
use crate::cosignature::{CosignError, Cosignature, Cosigner, CosignerKey};
use crate::note::{NOTE_MAX, NoteError, UnverifiedNote, VerifierKey};
use crate::proof::{ProofError, verify_consistency};
use crate::tree::empty_root;

/// How many hashes a request may carry.
const PROOF_MAX: usize = 63;

/// The longest `add-checkpoint` request that is read, in bytes: a note, and 63 hashes with their line feeds before it.
pub const ADD_CHECKPOINT_MAX: usize = NOTE_MAX + 4 * 1024;

/// The media type of the answer 409, which tells the size of the latest cosigned checkpoint.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// A request to cosign a checkpoint: the body of `POST <prefix>/add-checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    old: u64,
    proof: Vec<Digest>,
    note: UnverifiedNote,
    /// What the note says, which nobody has verified yet.
    claim: Checkpoint,
    signed: String,
}

/// Why something is not an `add-checkpoint` request. A witness answers 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than [`ADD_CHECKPOINT_MAX`], more than 63 hashes, or not of the form.
    #[error("not an add-checkpoint request")]
    Shape,
    /// What it carries is not a signed checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl From<NoteError> for RequestError {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}

impl AddCheckpoint {
    /// Asks to cosign the checkpoint `signed`, which extends the one of `old` entries that the witness cosigned last, as
    /// `proof` proves. `old` is zero and the proof empty if the witness has none, or to be told its size.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn new(old: u64, proof: Vec<Digest>, signed: &str) -> Result<Self, RequestError> {
        if proof.len() > PROOF_MAX {
            return Err(RequestError::Shape);
        }
        let note = UnverifiedNote::parse(signed.as_bytes())?;
        let claim = Checkpoint::parse(note.claim())?;
        Ok(Self { old, proof, note, claim, signed: signed.to_owned() })
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > ADD_CHECKPOINT_MAX {
            return Err(RequestError::Shape);
        }
        let body = str::from_utf8(body).map_err(|_| RequestError::Shape)?;
        let (head, signed) = body.split_once("\n\n").ok_or(RequestError::Shape)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(parse_decimal);
        // One more than allowed is enough to refuse.
        let proof: Option<Vec<_>> = lines.take(PROOF_MAX + 1).map(parse_hash).collect();
        Self::new(old.ok_or(RequestError::Shape)?, proof.ok_or(RequestError::Shape)?, signed)
    }

    /// The request's body.
    #[must_use]
    pub fn text(&self) -> String {
        let hashes: String = self.proof.iter().map(|h| STANDARD.encode(h.as_bytes()) + "\n").collect();
        format!("old {}\n{hashes}\n{}", self.old, self.signed)
    }

    /// Whose checkpoint it claims to carry: what a witness looks its latest state up by.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.claim.origin
    }
}

/// Whoever cosigns checkpoints of logs, each only as the continuation of the last.
#[derive(Debug)]
pub struct Witness {
    cosigners: Vec<Cosigner>,
}

/// What a witness says to a request.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// 404: not a log it knows.
    UnknownLog,
    /// 403: not signed by a key of the log, or by one whose signature does not hold.
    Unsigned(NoteError),
    /// 400: the old size is beyond the new one.
    Backwards,
    /// 409: the old size is not the one it cosigned last, which is this.
    Conflict(u64),
    /// 422: not proven to extend what it cosigned last.
    Inconsistent(ProofError),
    /// 200, once the new state is kept.
    Accept(Accepted),
}

/// A checkpoint that extends what the witness cosigned last. Made only by [`Witness::judge`], and worth a cosignature
/// only after its state was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    latest: Option<(u64, Digest)>,
    checkpoint: Checkpoint,
    text: String,
    signed: String,
}

/// A cosigned checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The answer's body: signature lines.
    pub lines: String,
    /// The checkpoint with the log's signatures and those lines: what `GET <prefix>/<origin hash>/checkpoint` serves.
    pub checkpoint: String,
}

impl Witness {
    /// A witness that signs with these keys.
    #[must_use]
    pub const fn new(cosigners: Vec<Cosigner>) -> Self {
        Self { cosigners }
    }

    /// Judges a request. `known_logs` are the keys of the logs that may ask, named by their origins; `latest` is the size
    /// and root of the checkpoint that was cosigned last for [`AddCheckpoint::origin`], if any.
    ///
    /// Two requests judged from the same `latest` are both accepted, and keeping the smaller one last would roll the log
    /// back. So the caller keeps [`Accepted::state`] by compare-and-swap: only if the latest state is still
    /// [`Accepted::latest`], durably, and before it asks for the cosignature. If the swap fails it judges again.
    pub fn judge(
        &self,
        known_logs: &[VerifierKey],
        latest: Option<(u64, Digest)>,
        request: &AddCheckpoint,
    ) -> Judgement {
        let AddCheckpoint { old, proof, note, claim, .. } = request;
        let keys: Vec<_> = known_logs.iter().filter(|key| key.name() == claim.origin).cloned().collect();
        if keys.is_empty() {
            return Judgement::UnknownLog;
        }
        let text = match note.signed_by(&keys) {
            Ok(text) => text,
            Err(error) => return Judgement::Unsigned(error),
        };
        if *old > claim.size {
            return Judgement::Backwards;
        }
        let (size, root) = latest.unwrap_or_else(|| (0, empty_root()));
        if *old != size {
            return Judgement::Conflict(size);
        }
        // The consistency of two empty trees does not look at the newer one's root.
        if claim.size == 0 && claim.root != empty_root() {
            return Judgement::Inconsistent(ProofError::Root);
        }
        match verify_consistency((size, root), (claim.size, claim.root), proof) {
            Err(error) => Judgement::Inconsistent(error),
            Ok(()) => Judgement::Accept(Accepted {
                latest,
                checkpoint: claim.clone(),
                text: text.to_owned(),
                signed: note.signed_only(&keys),
            }),
        }
    }

    /// Cosigns what was accepted, after its state was kept; at `time_s`, in seconds since 1970.
    ///
    /// # Errors
    /// [`CosignError`].
    pub fn cosign(&self, accepted: &Accepted, time_s: u64) -> Result<Answer, CosignError> {
        let lines = self.cosigners.iter().map(|cosigner| cosigner.cosign(&accepted.text, time_s));
        let lines: String = lines.collect::<Result<_, _>>()?;
        let checkpoint = format!("{}{lines}", accepted.signed);
        Ok(Answer { lines, checkpoint })
    }
}

impl Judgement {
    /// The HTTP status of the answer.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Accept(_) => 200,
            Self::Backwards => 400,
            Self::Unsigned(_) => 403,
            Self::UnknownLog => 404,
            Self::Conflict(_) => 409,
            Self::Inconsistent(_) => 422,
        }
    }

    /// The body of a 409, whose media type is [`SIZE_TYPE`].
    #[must_use]
    pub fn conflict_body(&self) -> Option<String> {
        if let Self::Conflict(size) = self { Some(format!("{size}\n")) } else { None }
    }
}

impl Accepted {
    /// The state it was judged from: what must still be kept when the new state replaces it.
    #[must_use]
    pub const fn latest(&self) -> Option<(u64, Digest)> {
        self.latest
    }

    /// The state to keep: size and root.
    #[must_use]
    pub const fn state(&self) -> (u64, Digest) {
        (self.checkpoint.size, self.checkpoint.root)
    }

    /// The log.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.checkpoint.origin
    }
}

/// Reads a witness's answer 200: nothing but signature lines. Gives the cosignatures by `expected` over exactly the
/// checkpoint `signed`; lines by other keys are passed over.
///
/// # Errors
/// `Shape`; `Signature` or `Duplicate` of an expected key; `Unsigned` if no expected key has cosigned.
pub fn read_cosignatures(
    body: &[u8],
    signed: &str,
    expected: &[CosignerKey],
) -> Result<Vec<Cosignature>, NoteError> {
    if body.len() > NOTE_MAX {
        return Err(NoteError::Shape);
    }
    let lines = str::from_utf8(body).map_err(|_| NoteError::Shape)?;
    let ours = UnverifiedNote::parse(signed.as_bytes())?;
    let cosignatures = UnverifiedNote::of(ours.claim(), lines)?.cosigned_by(expected)?;
    if cosignatures.is_empty() { Err(NoteError::Unsigned) } else { Ok(cosignatures) }
}

/// Reads a witness's answer 409: the size of the checkpoint it cosigned last. Larger than our own log, it says that this
/// was rolled back.
#[must_use]
pub fn read_conflict(content_type: &str, body: &[u8]) -> Option<u64> {
    let essence = content_type.split(';').next()?.trim();
    let size = str::from_utf8(body).ok()?.strip_suffix('\n')?;
    essence.eq_ignore_ascii_case(SIZE_TYPE).then(|| parse_decimal(size))?
}

/// Where a witness serves the latest checkpoint of a log, below its monitoring prefix.
#[must_use]
pub fn monitor_path(origin: &str) -> String {
    format!("{}/checkpoint", Digest::of(origin.as_bytes()))
}
