//! What the ledger holds: one record an entry, in canonical JSON (RFC 8785), version 1.
//!
//! No secrets and no direct personal data: principals appear as random pseudonyms, credentials by id. Unknown
//! fields are refused when written and tolerated when read.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::{Digest, Name, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Action, Commitment, CredentialKind, DecisionId, EntityRef, ErasureId, KeyId, NodeId, Obligations, Offer,
    PayloadRef, PrincipalId, PrincipalKind, ReasonCode, Target, Tenant,
};

/// The version of the schema below.
pub const VERSION: u32 = 1;

/// The longest encoded record, in bytes: well below the 65,535 of an entry bundle (tlog-tiles).
pub const ENCODED_MAX: usize = 16 * 1024;

/// One entry of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// The schema's version.
    pub v: u32,
    /// Whose log it belongs to.
    pub tenant: Tenant,
    /// Which process wrote it.
    pub node: NodeId,
    /// The node's own running number, without gaps: a lost disk shows as one.
    pub seq: u64,
    /// When it was written.
    pub time_us: Timestamp,
    /// What it says.
    #[serde(flatten)]
    pub body: Body,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// Something was permitted and is about to happen.
    Intent(Intent),
    /// Something was asked and not permitted.
    Refusal(Refusal),
    /// How a permitted thing ended.
    Outcome(Outcome),
    /// The house speaks about itself.
    System(System),
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Who {
    /// The one responsible.
    pub subject: PrincipalId,
    /// What kind of being.
    pub subject_kind: PrincipalKind,
    /// Those in between, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<PrincipalId>,
    /// What was presented.
    pub credential: CredentialKind,
    /// Which key, where it was one of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// Who issued it, where somebody else did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Name>,
    /// How surely, 0 to 4.
    pub assurance: u8,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct What {
    /// The action.
    pub action: Action,
    /// The resource.
    pub resource: EntityRef,
    /// The dialect spoken.
    pub dialect: String,
    /// The body's size as it came in.
    pub bytes: u64,
    /// SHA-256 of the body as it came in.
    pub body: Digest,
}

/// Why it was decided so, and everything needed to decide it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grounds {
    /// The rules that decided, by id, sorted.
    pub rules: Vec<Name>,
    /// Digest of the policy bundle in force.
    pub policy: Digest,
    /// Digest of the entity slice the engine saw.
    pub slice: Digest,
    /// Digest of the context the engine saw.
    pub context: Digest,
    /// Version of the engine.
    pub engine: Name,
}

/// A permitted ask, before its effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Intent {
    /// The decision.
    pub id: DecisionId,
    /// Who asked.
    pub who: Who,
    /// What was asked.
    pub what: What,
    /// Why it was permitted.
    pub grounds: Grounds,
    /// Under which obligations.
    #[serde(default, skip_serializing_if = "Obligations::is_empty")]
    pub obligations: Obligations,
    /// Where the effect goes.
    pub target: Target,
    /// What of the call was kept in the vault before its effect, where policy demanded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// What a leaf says about content that lies in the vault: digests and commitments, never the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// The prompt as it went out.
    pub prompt: PayloadRef,
    /// Circumstances of the ask by name: `network`, `user_agent`, `purpose`; those that there were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub committed: BTreeMap<Name, Commitment>,
}

/// An ask that was not permitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The decision.
    pub id: DecisionId,
    /// Who asked.
    pub who: Who,
    /// What was asked; absent when it was refused before that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<What>,
    /// `step_up`, `justify`, `hold` or `deny`.
    pub verdict: VerdictKind,
    /// Why, strongest first.
    pub reasons: Vec<ReasonCode>,
    /// What would help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
    /// On which grounds; absent when it never came to a decision by policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grounds: Option<Grounds>,
    /// How many further refusals of the same kind this one stands for; a flood is counted, not written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeated: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The kinds of verdicts, in order of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// It may happen, under obligations.
    Permit,
    /// Log in more surely first.
    StepUp,
    /// State a purpose first.
    Justify,
    /// Others approve first.
    Hold,
    /// No.
    Deny,
}

impl VerdictKind {
    /// The name in records, tests and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::StepUp => "step_up",
            Self::Justify => "justify",
            Self::Hold => "hold",
            Self::Deny => "deny",
        }
    }
}

/// How a permitted thing ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The decision it belongs to.
    pub of: DecisionId,
    /// How it ended.
    pub end: End,
    /// The upstream's HTTP status, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes released to the caller.
    pub bytes: u64,
    /// Input tokens the upstream counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Output tokens the upstream counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// How many matches were redacted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redacted: u64,
    /// From intent to end, in microseconds.
    pub took_us: u64,
    /// What was released, kept in the vault, where policy demanded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<PayloadRef>,
    /// The documents that were given to the caller, of a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
}

/// Which documents a search gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Given {
    /// SHA-256 over the ids of all of them, sorted, each ended by a line feed.
    pub digest: Digest,
    /// The first of them, at most [`Given::IDS_MAX`], sorted.
    pub ids: Vec<Name>,
    /// Passages that the store found and that were not given: not permitted, too old, not ours. Never told to the caller.
    pub dropped: u64,
}

impl Given {
    /// The most ids that are written out.
    pub const IDS_MAX: usize = 20;

    /// What a search gave, and how many passages it found beside that.
    #[must_use]
    pub fn of<'a>(ids: impl IntoIterator<Item = &'a Name>, dropped: u64) -> Self {
        let sorted: BTreeSet<&Name> = ids.into_iter().collect();
        let lines: Vec<u8> = sorted.iter().flat_map(|id| id.bytes().chain([b'\n'])).collect();
        Self {
            digest: Digest::of(&lines),
            ids: sorted.into_iter().take(Self::IDS_MAX).cloned().collect(),
            dropped,
        }
    }
}

/// How a permitted thing ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum End {
    /// As it should.
    Done,
    /// The caller went away.
    Abandoned,
    /// It failed or was ended.
    Failed {
        /// Why.
        reason: ReasonCode,
    },
    /// The process ended before it could say how; found at the next start.
    Unknown,
}

impl End {
    /// The name in records and events.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Abandoned => "abandoned",
            Self::Failed { .. } => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// The house about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum System {
    /// A process began to write.
    Started {
        /// Its version.
        version: String,
    },
    /// A process ended in order.
    Stopped,
    /// A part of the write-ahead log that held no acknowledged record was cut off after a crash.
    TailCut {
        /// How many bytes.
        bytes: u64,
    },
    /// The state was changed by the offline recovery keys.
    Recovered {
        /// What was done.
        what: String,
    },
    /// The installation was created.
    Initialised,
    /// A tenant's log had come so far. Stands in the operator's log, whose checkpoints witnesses cosign.
    Checkpoint {
        /// The log's name.
        origin: String,
        /// How many entries it held.
        size: u64,
        /// The root over them.
        root: Digest,
    },
    /// Too few witnesses have cosigned the operator's log for too long: a rollback by whoever holds the machine and the
    /// key would show to nobody outside.
    Unwitnessed {
        /// The size that was cosigned last.
        size: u64,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// The personal data of somebody was erased. Whose is not said: only the digest of the ask's request commits to it.
    Erased {
        /// Which erasure; one that is asked for again is the same.
        erasure: ErasureId,
        /// The ask that it answers.
        of: DecisionId,
        /// What was erased.
        class: ErasedClass,
        /// On what ground.
        basis: ErasureBasis,
        /// How many values of fields.
        items: u64,
        /// How many prompts and outputs.
        payloads: u64,
        /// When the oldest of it was put.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_us: Option<Timestamp>,
        /// When the newest of it was put.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_us: Option<Timestamp>,
    },
    /// Kept content went because of its age.
    Expired {
        /// How many values of fields.
        items: u64,
        /// How many prompts and outputs.
        payloads: u64,
    },
    /// Erasures were done again after a restore from a backup that did not know them.
    Reapplied {
        /// How many were new to the vault.
        erasures: u64,
    },
    /// A log of a past period is removed from the node that wrote it, after it was archived. What the node keeps of it is
    /// this head, its last checkpoint. Stands in the operator's log, before it is done.
    Removed {
        /// The log's name.
        origin: String,
        /// How many entries it held at its end.
        size: u64,
        /// The root over them.
        root: Digest,
        /// The ask that it answers, which stands in the tenant's own log.
        of: DecisionId,
    },
    /// The directory was changed. Who it is about is said by pseudonyms, so that the history of each can be told.
    DirectoryChanged {
        /// The ask that it answers.
        of: DecisionId,
        /// What became of whom.
        changes: Vec<DirectoryChange>,
    },
    /// A policy bundle could not be loaded; the last good one stays in force.
    PolicyRejected {
        /// The bundle's digest, where it could be read at all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bundle: Option<Digest>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<ReasonCode>,
    },
    /// A candidate was tried beside the bundle in force; told when that ends and once an hour.
    PolicyCompared {
        /// The candidate.
        candidate: Digest,
        /// How many decisions were evaluated under both.
        compared: u64,
        /// How many of them differ.
        flips: u64,
    },
    /// Recorded decisions were decided again from what was kept.
    ReplayChecked {
        /// How many came out the same, bit for bit.
        same: u64,
        /// How many did not: an alarm.
        differing: u64,
        /// How many could not be decided again.
        not_replayable: u64,
    },
    /// The index of a policy bundle decided otherwise than all of its rules would have. From then on every ask is decided
    /// by all rules, until another bundle is in force.
    DecisionMismatch {
        /// The bundle's digest.
        bundle: Digest,
        /// The entities in reach, as the grounds of the decision name them.
        slice: Digest,
        /// The conditions, likewise.
        context: Digest,
        /// The rules that only one of the two found.
        rules: Vec<Name>,
    },
}

impl System {
    /// The name in records and events.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped => "stopped",
            Self::TailCut { .. } => "tail_cut",
            Self::Recovered { .. } => "recovered",
            Self::Initialised => "initialised",
            Self::PolicyRejected { .. } => "policy_rejected",
            Self::DecisionMismatch { .. } => "decision_mismatch",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Unwitnessed { .. } => "unwitnessed",
            Self::Erased { .. } => "erased",
            Self::Expired { .. } => "expired",
            Self::Reapplied { .. } => "reapplied",
            Self::Removed { .. } => "removed",
            Self::DirectoryChanged { .. } => "directory_changed",
            Self::PolicyCompared { .. } => "policy_compared",
            Self::ReplayChecked { .. } => "replay_checked",
        }
    }
}

/// What became of one entry of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DirectoryChange {
    /// The kind of entry, such as `user`.
    pub kind: Name,
    /// Its pseudonym.
    pub whom: PrincipalId,
    /// What became of it.
    pub became: Became,
}

/// What became of an entry of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// It is new.
    Declared,
    /// It now says something else, such as other groups or roles.
    Changed,
    /// It is called otherwise.
    Renamed,
    /// It may not come in any more; everything issued to it is dead.
    Disabled,
    /// It may come in again.
    Enabled,
    /// It is gone for good; its name stays taken.
    Retired,
    /// It is gone.
    Removed,
}

/// What an erasure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErasedClass {
    /// Everything that the vault held of one subject.
    Subject,
}

/// On what ground personal data is erased (GDPR, Article 17(1)). Closed, so that no words about a person get into a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErasureBasis {
    /// (a) It is not needed any more for what it was collected for.
    NotNeeded,
    /// (b) Consent was withdrawn.
    ConsentWithdrawn,
    /// (c) The person objects.
    Objection,
    /// (d) It was processed unlawfully.
    Unlawful,
    /// (e) The law demands it.
    LegalDuty,
    /// (f) It was collected from a child.
    Child,
}

impl ErasureBasis {
    /// Every ground, in the order of the article.
    pub const ALL: &[Self] = &[
        Self::NotNeeded,
        Self::ConsentWithdrawn,
        Self::Objection,
        Self::Unlawful,
        Self::LegalDuty,
        Self::Child,
    ];

    /// The name in records and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotNeeded => "not_needed",
            Self::ConsentWithdrawn => "consent_withdrawn",
            Self::Objection => "objection",
            Self::Unlawful => "unlawful",
            Self::LegalDuty => "legal_duty",
            Self::Child => "child",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_before_content_was_kept_is_read_and_written_as_it_was() {
        let text =
            r#"{"of":"dec_01990000000070008000000000000001","end":{"how":"done"},"bytes":2,"took_us":3}"#;
        let outcome: Outcome = serde_json::from_str(text).unwrap();
        assert_eq!(outcome.kept, None);
        assert_eq!(serde_json::to_string(&outcome).unwrap(), text);
        let later = text.replace("\"took_us\":3", "\"took_us\":3,\"of_tomorrow\":[1]");
        assert_eq!(serde_json::from_str::<Outcome>(&later).unwrap(), outcome);
    }

    #[test]
    fn grounds_are_written_by_their_names() {
        for basis in ErasureBasis::ALL {
            assert_eq!(serde_json::to_value(basis).unwrap(), basis.name());
        }
    }
}
