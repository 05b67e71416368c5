//! What a recorded intent unlocks, and how its end is told.

use std::marker::PhantomData;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::action::ChangeState;
use bartizan_model::record::End;
use bartizan_model::{DecisionId, NodeId, Obligations, Operation, ReasonCode, Target, Tenant};

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

/// Where in the ledger a record is, or will be once it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which log.
    pub tenant: Tenant,
    /// Which node wrote it.
    pub node: NodeId,
    /// The node's running number.
    pub seq: u64,
    /// The RFC 6962 leaf hash of the record.
    pub leaf: Digest,
}

/// An effect that has begun. Exactly one outcome is recorded for it: by [`Running::finish`], or `Abandoned` on drop.
#[derive(Debug)]
pub struct Running {
    pub(crate) decision: DecisionId,
    pub(crate) receipt: Receipt,
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
}

/// Why nothing could be recorded, so that nothing may happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Writing or syncing failed; the writer has stopped for good.
    #[error("the write-ahead log failed: {0}")]
    Failed(String),
    /// More is waiting than the queue holds.
    #[error("the queue of records is full")]
    QueueFull,
    /// The process is ending.
    #[error("the recorder is closed")]
    Closed,
    /// The record is longer than an entry may be.
    #[error("the record is longer than an entry may be")]
    TooLarge,
    /// The permit was spent after its expiry.
    #[error("the permit ran out before it was recorded")]
    PermitExpired,
}

impl RecordError {
    /// The reason code it is told by.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::QueueFull => ReasonCode::RecordQueueFull,
            Self::Closed => ReasonCode::ShuttingDown,
            Self::Failed(_) | Self::TooLarge => ReasonCode::RecordUnavailable,
            Self::PermitExpired => ReasonCode::StreamEnded,
        }
    }
}
