//! Records by reference, as they are encoded.
//!
//! Nearly all records are of three kinds, and every permitted call pays for two of them. Those are put down flat, their
//! members in canonical order, from wherever what they say lies: nothing is cloned, copied or sorted for it. What they say
//! is what [`Record`](bartizan_model::record::Record) says: each is taken from the record's own type without leaving a
//! member out, and a property test holds both against each other.

use bartizan_base::Timestamp;
use bartizan_decide::{PermitParts, Refused};
use bartizan_model::record::{
    Body, End, Given, Grounds, Intent, Kept, Outcome, Refusal, System, VERSION, VerdictKind, What, Who,
};
use bartizan_model::{DecisionId, NodeId, Obligations, Offer, PayloadRef, ReasonCode, Target, Tenant};
use serde::Serialize;

use crate::encode::{Encoded, SEQ_PLACE};
use crate::intent::RecordError;

/// What every record says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) node: NodeId,
    pub(crate) time: Timestamp,
}

/// A permitted ask.
#[derive(Serialize)]
pub(crate) struct ToldIntent<'a> {
    grounds: &'a Grounds,
    id: DecisionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<&'a Kept>,
    kind: &'static str,
    node: NodeId,
    #[serde(skip_serializing_if = "is_none_owed")]
    obligations: &'a Obligations,
    seq: u64,
    target: &'a Target,
    tenant: &'a Tenant,
    time_us: Timestamp,
    v: u32,
    what: &'a What,
    who: &'a Who,
}

/// An ask that was not permitted.
#[derive(Serialize)]
pub(crate) struct ToldRefusal<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    grounds: Option<&'a Grounds>,
    id: DecisionId,
    kind: &'static str,
    node: NodeId,
    #[serde(skip_serializing_if = "is_empty")]
    offers: &'a [Offer],
    reasons: &'a [ReasonCode],
    #[serde(skip_serializing_if = "is_zero")]
    repeated: u64,
    seq: u64,
    tenant: &'a Tenant,
    time_us: Timestamp,
    v: u32,
    verdict: VerdictKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a What>,
    who: &'a Who,
}

/// How a permitted thing ended.
#[derive(Serialize)]
struct ToldOutcome<'a> {
    bytes: u64,
    end: &'a End,
    #[serde(skip_serializing_if = "Option::is_none")]
    given: Option<&'a Given>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<&'a PayloadRef>,
    kind: &'static str,
    node: NodeId,
    of: DecisionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    redacted: u64,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    tenant: &'a Tenant,
    time_us: Timestamp,
    took_us: u64,
    v: u32,
}

/// The house about itself; seldom, so sorted where it is encoded.
#[derive(Serialize)]
struct ToldSystem<'a> {
    kind: &'static str,
    node: NodeId,
    seq: u64,
    tenant: &'a Tenant,
    time_us: Timestamp,
    v: u32,
    #[serde(flatten)]
    event: &'a System,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

const fn is_empty(offers: &&[Offer]) -> bool {
    offers.is_empty()
}

fn is_none_owed(obligations: &&Obligations) -> bool {
    obligations.is_empty()
}

impl<'a> ToldIntent<'a> {
    /// The intent that a spent permit becomes.
    pub(crate) const fn of(
        Head { tenant, node, time }: Head<'a>,
        parts: &'a PermitParts,
        target: &'a Target,
        kept: Option<&'a Kept>,
    ) -> Self {
        let PermitParts { id, tenant: _, who, what, grounds, obligations, expires: _, uses: _ } = parts;
        Self {
            grounds,
            id: *id,
            kept,
            kind: "intent",
            node,
            obligations,
            seq: SEQ_PLACE,
            target,
            tenant,
            time_us: time,
            v: VERSION,
            what,
            who,
        }
    }
}

impl<'a> ToldRefusal<'a> {
    /// The refusal as it was decided.
    pub(crate) fn of(head: Head<'a>, refused: &'a Refused) -> Self {
        let Refused {
            id,
            tenant: _,
            who,
            what,
            verdict,
            reasons,
            offers,
            // What approvals are for is told to those who give them.
            holds: _,
            grounds,
            discoverable: _,
        } = refused;
        let (what, grounds) = (what.as_ref(), grounds.as_ref());
        let Head { tenant, node, time } = head;
        Self {
            grounds,
            id: *id,
            kind: "refusal",
            node,
            offers,
            reasons,
            repeated: 0,
            seq: SEQ_PLACE,
            tenant,
            time_us: time,
            v: VERSION,
            verdict: *verdict,
            what,
            who,
        }
    }
}

/// Encodes a record with this body.
pub(crate) fn encode(head: Head<'_>, body: &Body) -> Result<Encoded, RecordError> {
    let Head { tenant, node, time: time_us } = head;
    let (seq, v) = (SEQ_PLACE, VERSION);
    match body {
        Body::Intent(Intent { id, who, what, grounds, obligations, target, kept }) => {
            let (id, kind, kept) = (*id, "intent", kept.as_ref());
            Encoded::of(&ToldIntent {
                grounds,
                id,
                kept,
                kind,
                node,
                obligations,
                seq,
                target,
                tenant,
                time_us,
                v,
                what,
                who,
            })
        }
        Body::Refusal(Refusal { id, who, what, verdict, reasons, offers, grounds, repeated }) => {
            let (id, kind, verdict, repeated) = (*id, "refusal", *verdict, *repeated);
            let (what, grounds) = (what.as_ref(), grounds.as_ref());
            Encoded::of(&ToldRefusal {
                grounds,
                id,
                kind,
                node,
                offers,
                reasons,
                repeated,
                seq,
                tenant,
                time_us,
                v,
                verdict,
                what,
                who,
            })
        }
        Body::Outcome(outcome) => {
            let Outcome {
                of,
                end,
                status,
                bytes,
                input_tokens,
                output_tokens,
                redacted,
                took_us,
                kept,
                given,
            } = outcome;
            Encoded::of(&ToldOutcome {
                bytes: *bytes,
                end,
                given: given.as_ref(),
                input_tokens: *input_tokens,
                kept: kept.as_ref(),
                kind: "outcome",
                node,
                of: *of,
                output_tokens: *output_tokens,
                redacted: *redacted,
                seq,
                status: *status,
                tenant,
                time_us,
                took_us: *took_us,
                v,
            })
        }
        Body::System(event) => {
            Encoded::of(&ToldSystem { kind: "system", node, seq, tenant, time_us, v, event })
        }
    }
}
