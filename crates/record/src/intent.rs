//! What a recorded intent unlocks, and how its end is told.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use bartizan_base::{Digest, Timestamp};
use bartizan_ledger::{NoteSigner, Promise, SignedBatch};
use bartizan_model::action::ChangeState;
use bartizan_model::record::{End, Given, Outcome};
use bartizan_model::{DecisionId, NodeId, Obligations, Operation, PayloadRef, ReasonCode, Target, Tenant};

use crate::core::OutcomeSlot;
use crate::encode::SEQ_PLACE;

/// Proof that a permit is durable in the write-ahead log. An effect of kind `O` demands one by value; it cannot be
/// cloned, and it is bound to its tenant, target and expiry.
#[must_use = "an intent without an effect is recorded as abandoned"]
#[derive(Debug)]
pub struct IntentRecorded<O: Operation> {
    pub(crate) tenant: Tenant,
    pub(crate) target: Target,
    pub(crate) obligations: Obligations,
    pub(crate) expires: Timestamp,
    pub(crate) running: Running,
    pub(crate) operation: PhantomData<fn() -> O>,
}

impl<O: Operation> IntentRecorded<O> {
    /// Whose house.
    #[must_use]
    pub const fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The decision.
    #[must_use]
    pub const fn decision(&self) -> DecisionId {
        self.running.decision
    }

    /// Where the effect may go, and with which body.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// What enforcement must still do.
    #[must_use]
    pub const fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    /// Until when the effect may begin.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The signed promise that the record will be in the ledger.
    #[must_use]
    pub const fn receipt(&self) -> &Receipt {
        &self.running.receipt
    }

    /// Begins the effect. What is returned must be told how it ended; dropping it tells `Abandoned`.
    #[must_use]
    pub fn begin(self) -> Running {
        self.running
    }
}

impl bartizan_store::Warrant for IntentRecorded<ChangeState> {
    fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    fn decision(&self) -> DecisionId {
        self.running.decision
    }
}

impl<O: Operation> bartizan_store::Entrance for IntentRecorded<O> {
    fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    fn decision(&self) -> DecisionId {
        self.running.decision
    }
}

/// What an effect brought is known only when it has come, and enters before it is released.
impl bartizan_store::Entrance for Running {
    fn tenant(&self) -> &Tenant {
        &self.receipt.tenant
    }

    fn decision(&self) -> DecisionId {
        self.decision
    }
}

/// Where in the ledger a record is, or will be once it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The name of the log.
    pub origin: Arc<str>,
    /// Whose log.
    pub tenant: Tenant,
    /// Which node wrote it.
    pub node: NodeId,
    /// The node's running number.
    pub seq: u64,
    /// The RFC 6962 leaf hash of the record.
    pub leaf: Digest,
    /// The batch in which it became durable, and its place in it.
    pub(crate) batch: (Arc<Promised>, usize),
}

/// Who signs promises, and what the names of the house's logs begin with.
#[derive(Debug)]
pub(crate) struct Signing {
    pub(crate) signer: NoteSigner,
    pub(crate) family: String,
}

/// The leaf hashes of a durable batch. It is signed, once, when the first of its promises is asked for: so the writer does
/// not wait for it.
#[derive(Debug)]
pub(crate) struct Promised {
    leaves: Vec<Digest>,
    signing: Arc<Signing>,
    signed: OnceLock<Option<SignedBatch>>,
}

impl Promised {
    pub(crate) const fn new(leaves: Vec<Digest>, signing: Arc<Signing>) -> Self {
        Self { leaves, signing, signed: OnceLock::new() }
    }

    fn promise(&self, place: usize) -> Option<Promise> {
        let Signing { signer, family } = &*self.signing;
        let sign = || SignedBatch::sign(family, self.leaves.clone(), signer);
        self.signed.get_or_init(sign).as_ref()?.promise(place)
    }
}

impl PartialEq for Promised {
    /// The same records are promised; signatures of Ed25519 then are the same, too.
    fn eq(&self, other: &Self) -> bool {
        self.leaves == other.leaves && self.signing.signer.verifier() == other.signing.signer.verifier()
    }
}

impl Eq for Promised {}

impl Receipt {
    /// The signed promise that the record will be in the ledger.
    #[must_use]
    pub fn promise(&self) -> Option<Promise> {
        self.batch.0.promise(self.batch.1)
    }
}

impl fmt::Display for Receipt {
    /// The value of the receipt's header: `origin;node;number;leaf hash;promise`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{};{};{}", self.origin, self.node, self.seq, self.leaf)?;
        self.promise().map_or(Ok(()), |promise| write!(f, ";{promise}"))
    }
}

/// An effect that has begun. Exactly one outcome is recorded for it: by [`Running::finish`], or `Abandoned` on drop.
///
/// Neither waits for the disk: the intent is durable, the outcome's room in the queue was reserved with it, and an outcome
/// that a crash swallows is told as `Unknown` at the next start.
#[derive(Debug)]
pub struct Running {
    pub(crate) decision: DecisionId,
    pub(crate) receipt: Receipt,
    pub(crate) began_us: u64,
    /// Gone once the outcome was told.
    pub(crate) slot: Option<OutcomeSlot>,
}

impl Running {
    /// The decision behind it.
    #[must_use]
    pub const fn decision(&self) -> DecisionId {
        self.decision
    }

    /// Tells how the effect ended.
    pub fn finish(mut self, ended: Ended) {
        self.tell(ended);
    }

    fn tell(&mut self, ended: Ended) {
        let Some(slot) = self.slot.take() else { return };
        let core = slot.core().clone();
        // What an upstream counts is its word: a number that no record can hold is cut.
        let bounded = |n: u64| n.min(SEQ_PLACE);
        let outcome = Outcome {
            of: self.decision,
            end: ended.end,
            status: ended.status,
            bytes: bounded(ended.bytes),
            input_tokens: ended.input_tokens.map(bounded),
            output_tokens: ended.output_tokens.map(bounded),
            redacted: bounded(ended.redacted),
            kept: ended.kept,
            given: ended.given,
            took_us: bounded(core.clock.monotonic_us().saturating_sub(self.began_us)),
        };
        core.submit_outcome(&self.receipt.tenant, outcome, slot);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tell(Ended::new(End::Abandoned));
    }
}

/// How an effect ended, with what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub end: End,
    /// The upstream's HTTP status, where there was one.
    pub status: Option<u16>,
    /// Bytes released to the caller.
    pub bytes: u64,
    /// Input tokens the upstream counted.
    pub input_tokens: Option<u64>,
    /// Output tokens the upstream counted.
    pub output_tokens: Option<u64>,
    /// How many matches were redacted.
    pub redacted: u64,
    /// What was released, where it was kept in the vault.
    pub kept: Option<PayloadRef>,
    /// The documents that were given to the caller, of a search.
    pub given: Option<Given>,
}

impl Ended {
    /// Ended like this, at no cost.
    #[must_use]
    pub const fn new(end: End) -> Self {
        Self {
            end,
            status: None,
            bytes: 0,
            input_tokens: None,
            output_tokens: None,
            redacted: 0,
            kept: None,
            given: None,
        }
    }
}

impl Default for Ended {
    /// Ended as it should, at no cost.
    fn default() -> Self {
        Self::new(End::Done)
    }
}

/// Why nothing could be recorded, so that nothing may happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Writing or syncing failed; the writer has stopped for good.
    #[error("the write-ahead log failed: {0}")]
    Failed(String),
    /// There is no room on the disk. Every later record tries again.
    #[error("no room on the disk for the write-ahead log")]
    NoRoom,
    /// More is waiting than the queue holds, or more is running than outcomes have room.
    #[error("the queue of records is full")]
    QueueFull,
    /// More is waiting to be sealed than memory may hold: the lock store or the log folder does not keep up.
    #[error("too many records wait to be sealed")]
    SealingBehind,
    /// The process is ending.
    #[error("the recorder is closed")]
    Closed,
    /// The record is longer than an entry may be.
    #[error("the record is longer than an entry may be")]
    TooLarge,
    /// The permit was spent after its expiry.
    #[error("the permit ran out before it was recorded")]
    PermitExpired,
    /// What the credential allows a number of times was not counted by the door.
    #[error("a use that has to be counted was not")]
    Uncounted,
}

impl RecordError {
    /// The reason code it is told by.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::QueueFull => ReasonCode::RecordQueueFull,
            Self::Closed => ReasonCode::ShuttingDown,
            Self::Failed(_) | Self::NoRoom | Self::SealingBehind | Self::TooLarge => {
                ReasonCode::RecordUnavailable
            }
            Self::PermitExpired => ReasonCode::StreamEnded,
            Self::Uncounted => ReasonCode::DetailsUsedUp,
        }
    }
}
