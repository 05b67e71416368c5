//! Deciding again what was decided once, from what was kept of it.
//!
//! A decision follows from a bundle, the entities in reach and the ask. Bundles are kept by digest; what else there is lies in
//! [`KeptAsk`] and in [`Entities::slice_documents`]. Nothing here is taken on trust: the digests that the record holds come
//! out again only if everything is as it was.
//!
//! [`Entities::slice_documents`]: crate::Entities::slice_documents

use std::sync::Arc;

use bartizan_base::Name;
use bartizan_identify::{Caller, Scopes};
use bartizan_model::record::{Body, Grounds, Record, VerdictKind};
use bartizan_model::{
    Action, AskFacts, CredentialKind, DecisionId, Detail, EntityRef, Member, Obligations, Offer, Operation,
    PrincipalId, PrincipalKind, ReasonCode, Situation, Tenant,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::approval::Standing;
use crate::called::KeptTool;
use crate::engine::{Case, Door, Snapshot};
use crate::judged::ENGINE;
use crate::servers::ServerWords;
use crate::verdict::Verdict;

/// An ask as it was decided on: everything about it but policy and entities. Personal: it holds names, addresses, purposes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptAsk {
    /// What.
    pub action: Action,
    /// On what.
    pub resource: EntityRef,
    /// How.
    pub facts: AskFacts,
    /// Under which conditions.
    pub situation: Situation,
    /// Who is responsible.
    pub subject: Member,
    /// Who was in between, outermost first.
    pub actors: Vec<Member>,
    /// What was presented.
    pub credential: CredentialKind,
    /// What that may be used for.
    pub scopes: Scopes,
    /// The exact things that it is for, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Vec<Detail>>,
    /// What the enforcement point can apply.
    pub door: Door,
    /// Of a call of a tool with words of its own: the definition that it was decided by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<KeptTool>,
}

/// What came out of a decision that was made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The verdict.
    pub verdict: VerdictKind,
    /// Why not, strongest first.
    pub reasons: Vec<ReasonCode>,
    /// What would help.
    pub offers: Vec<Offer>,
    /// Under which obligations it is permitted.
    pub obligations: Obligations,
    /// Rules and digests.
    pub grounds: Grounds,
}

/// What a record says of a decision by policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The decision.
    pub id: DecisionId,
    /// Whose.
    pub subject: PrincipalId,
    /// What kind of being that is.
    pub subject_kind: PrincipalKind,
    /// What came out.
    pub outcome: Replayed,
}

/// Why a recorded decision cannot be made again. It is said, never guessed around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotReplayable {
    /// Policy was never asked: it was refused before.
    NotDecidedByPolicy,
    /// It was decided by another engine or version of it.
    EngineDiffers,
    /// Nothing is kept for replay here.
    NotKept,
    /// What it needs is not there: a crash came between, or the disk did not keep up.
    SliceMissing,
    /// It went because of its age, or of the room there is.
    Expired,
    /// The personal data of somebody in it was erased.
    Erased,
    /// The bundle is not there, or cannot be read any more.
    BundleMissing,
    /// What was kept cannot be read.
    Damaged,
}

impl NotReplayable {
    /// The name in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotDecidedByPolicy => "not_decided_by_policy",
            Self::EngineDiffers => "engine_differs",
            Self::NotKept => "not_kept",
            Self::SliceMissing => "slice_missing",
            Self::Expired => "expired",
            Self::Erased => "erased",
            Self::BundleMissing => "bundle_missing",
            Self::Damaged => "damaged",
        }
    }
}

impl KeptAsk {
    /// What is to be kept of an ask.
    #[must_use]
    pub fn of(
        caller: &Caller,
        action: Action,
        resource: &EntityRef,
        facts: &AskFacts,
        situation: &Situation,
        door: &Door,
    ) -> Self {
        Self {
            action,
            resource: resource.clone(),
            facts: facts.clone(),
            situation: situation.clone(),
            subject: caller.subject().clone(),
            actors: caller.actors().to_vec(),
            credential: caller.credential(),
            scopes: caller.scopes().clone(),
            details: caller.details().map(<[Detail]>::to_vec),
            door: door.clone(),
            tool: None,
        }
    }

    /// The same of an ask that is decided by `snapshot`.
    #[must_use]
    pub fn by(mut self, snapshot: &Snapshot) -> Self {
        self.tool = snapshot.bundle().and_then(|bundle| bundle.keeping(self.action, &self.resource));
        self
    }

    /// The words of tool servers that it was decided by, as far as they matter to it.
    #[must_use]
    pub fn words(&self) -> Vec<ServerWords> {
        self.tool.iter().filter_map(|tool| tool.words(&self.resource)).collect()
    }

    /// Everybody in it.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.subject).chain(&self.actors)
    }

    /// The caller, as one who may be asked about and never acts.
    #[must_use]
    pub fn caller(&self, tenant: &Tenant) -> Caller {
        let (subject, actors) = (self.subject.clone(), self.actors.clone());
        let within = (self.scopes.clone(), self.details.clone());
        Caller::recalled(tenant.clone(), subject, actors, self.credential, within)
    }
}

impl Snapshot {
    /// Decides a kept ask again, evaluating every rule: the reference engine.
    #[must_use]
    pub fn replay(&self, kept: &KeptAsk, tenant: &Tenant) -> Replayed {
        self.again(kept, tenant, true)
    }

    /// The same by the index: for many decisions at once.
    #[must_use]
    pub fn replay_fast(&self, kept: &KeptAsk, tenant: &Tenant) -> Replayed {
        self.again(kept, tenant, false)
    }

    fn again(&self, kept: &KeptAsk, tenant: &Tenant, all: bool) -> Replayed {
        let case = Case {
            caller: &kept.caller(tenant),
            action: kept.action,
            resource: &kept.resource,
            facts: &kept.facts,
            situation: &kept.situation,
            // Nobody approves anything yet, so nothing that stood then is to be kept.
            standing: &Standing::default(),
            all,
            row: None,
            supposed: None,
        };
        let judged = self.judge(&case, &kept.door);
        let permitted = judged.verdict == VerdictKind::Permit;
        Replayed {
            verdict: judged.verdict,
            reasons: judged.reasons,
            offers: judged.offers,
            // Only a permit has any.
            obligations: if permitted { judged.obligations } else { Obligations::none() },
            grounds: judged.grounds,
        }
    }
}

impl Recorded {
    /// What a record says, if it is about a decision that this engine can make again.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn of(record: &Record) -> Result<Self, NotReplayable> {
        let (id, who, outcome) = match &record.body {
            Body::Intent(intent) => {
                let outcome = Replayed {
                    verdict: VerdictKind::Permit,
                    reasons: Vec::new(),
                    offers: Vec::new(),
                    obligations: intent.obligations.clone(),
                    grounds: intent.grounds.clone(),
                };
                (intent.id, &intent.who, outcome)
            }
            Body::Refusal(refusal) => {
                let outcome = Replayed {
                    verdict: refusal.verdict,
                    reasons: refusal.reasons.clone(),
                    offers: refusal.offers.clone(),
                    obligations: Obligations::none(),
                    grounds: refusal.grounds.clone().ok_or(NotReplayable::NotDecidedByPolicy)?,
                };
                (refusal.id, &refusal.who, outcome)
            }
            Body::Outcome(_) | Body::System(_) => return Err(NotReplayable::NotDecidedByPolicy),
        };
        if outcome.grounds.engine != Name::literal(ENGINE) {
            return Err(NotReplayable::EngineDiffers);
        }
        Ok(Self { id, subject: who.subject, subject_kind: who.subject_kind, outcome })
    }
}

impl Replayed {
    /// In what another outcome differs from this one, in words; nothing where they are the same, bit for bit.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut out = Vec::new();
        let mut compare = |what: &str, a: String, b: String| {
            if a != b {
                out.push(format!("{what}: recorded {a}, now {b}"));
            }
        };
        let list = |names: Vec<String>| format!("[{}]", names.join(", "));
        let rules = |r: &Self| list(r.grounds.rules.iter().map(ToString::to_string).collect());
        let reasons = |r: &Self| list(r.reasons.iter().map(ToString::to_string).collect());
        let obligations = |r: &Self| list(r.obligations.iter().map(ToString::to_string).collect());
        let offers = |r: &Self| serde_json::to_string(&r.offers).unwrap_or_default();
        compare("verdict", self.verdict.name().to_owned(), other.verdict.name().to_owned());
        compare("reasons", reasons(self), reasons(other));
        compare("offers", offers(self), offers(other));
        compare("obligations", obligations(self), obligations(other));
        compare("rules", rules(self), rules(other));
        let (a, b) = (&self.grounds, &other.grounds);
        compare("policy", a.policy.to_string(), b.policy.to_string());
        compare("slice", a.slice.to_string(), b.slice.to_string());
        compare("context", a.context.to_string(), b.context.to_string());
        compare("engine", a.engine.to_string(), b.engine.to_string());
        out
    }

    /// Whether policy would answer otherwise: another verdict, or other obligations.
    #[must_use]
    pub fn flips(&self, other: &Self) -> bool {
        self.verdict != other.verdict || self.obligations != other.obligations
    }
}

/// A decision that was just made, with what would be needed to make it again.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Whose house.
    pub tenant: Tenant,
    /// Which.
    pub id: DecisionId,
    /// The ask.
    pub ask: Arc<KeptAsk>,
    /// What came out.
    pub outcome: Replayed,
    /// What it was decided on.
    pub snapshot: Arc<Snapshot>,
}

impl Decided {
    /// What `verdict` says, in one form for permits and refusals.
    #[must_use]
    pub fn new<O: Operation>(
        tenant: &Tenant,
        verdict: &Verdict<O>,
        ask: KeptAsk,
        snapshot: &Arc<Snapshot>,
    ) -> Option<Self> {
        let (id, outcome) = match verdict {
            Verdict::Permit(permit) => {
                let outcome = Replayed {
                    verdict: VerdictKind::Permit,
                    reasons: Vec::new(),
                    offers: Vec::new(),
                    obligations: permit.parts.obligations.clone(),
                    grounds: permit.parts.grounds.clone(),
                };
                (permit.parts.id, outcome)
            }
            Verdict::StepUp(refused)
            | Verdict::Justify(refused)
            | Verdict::Hold(refused)
            | Verdict::Deny(refused) => {
                let outcome = Replayed {
                    verdict: refused.verdict,
                    reasons: refused.reasons.clone(),
                    offers: refused.offers.clone(),
                    obligations: Obligations::none(),
                    grounds: refused.grounds.clone()?,
                };
                (refused.id, outcome)
            }
        };
        Some(Self { tenant: tenant.clone(), id, ask: Arc::new(ask), outcome, snapshot: snapshot.clone() })
    }
}
