//! The decision, in types that cannot be forged or forgotten.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use bartizan_base::{Name, Timestamp};
use bartizan_model::record::{Grounds, VerdictKind, What, Who};
use bartizan_model::{
    Covering, DecisionId, DetailUse, Obligations, Offer, Operation, Problem, ReasonCode, Tenant,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::approval::Hold;

/// What was decided.
#[must_use = "a decision that is not enforced is a hole"]
#[derive(Debug)]
pub enum Verdict<O: Operation> {
    /// It may happen, under the permit's obligations.
    Permit(Permit<O>),
    /// The caller must authenticate more surely or more recently first.
    StepUp(Refused),
    /// The caller must state a purpose first.
    Justify(Refused),
    /// Others must approve first.
    Hold(Refused),
    /// No.
    Deny(Refused),
}

/// A verdict with the evidence it rests on.
#[must_use = "a decision that is not enforced is a hole"]
#[derive(Debug)]
pub struct Decision<O: Operation> {
    /// What was decided.
    pub verdict: Verdict<O>,
    /// What it rests on.
    pub evidence: Evidence,
}

/// What a decision rests on: noted while it was made, not worked out afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Evidence {
    /// Rules that permitted, of any member.
    pub permits: Vec<Name>,
    /// Rules that forbade, of any member.
    pub forbids: Vec<Name>,
    /// Rules of the constitution that forbade.
    pub constitution: Vec<Name>,
    /// Permits whose scope matched a member that had none, and whose condition did not hold.
    pub near: Vec<Name>,
    /// Rules that could not be evaluated.
    pub erred: Vec<Name>,
    /// Facts that were known of a member but too old, and therefore absent.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub stale: BTreeSet<Name>,
    /// Whether the remedies of the rules that forbade would have led to a permit; absent when none was tried.
    pub remedy_helps: Option<bool>,
}

/// Leave for one effect of kind `O`: not cloneable, spent by recording it.
#[must_use = "a permit does nothing until it is recorded"]
#[derive(Debug)]
pub struct Permit<O: Operation> {
    pub(crate) parts: PermitParts,
    pub(crate) operation: PhantomData<fn() -> O>,
}

/// What a spent permit says, for the record. It cannot be turned back into a permit.
#[derive(Clone, Debug)]
pub struct PermitParts {
    /// The decision.
    pub id: DecisionId,
    /// Whose house.
    pub tenant: Tenant,
    /// Who asked.
    pub who: Who,
    /// What was asked.
    pub what: What,
    /// Why it was permitted.
    pub grounds: Grounds,
    /// What enforcement must do.
    pub obligations: Obligations,
    /// Until when the permit may be used.
    pub expires: Timestamp,
    /// What is to be counted before it is recorded, because the credential allows it a number of times.
    pub uses: Vec<DetailUse>,
}

impl PermitParts {
    /// Notes by which exact thing it is covered.
    pub(crate) fn cover(&mut self, covering: Covering) {
        self.uses.extend(covering.counts.filter(|one| self.uses.iter().all(|noted| noted.id != one.id)));
        self.expires = covering.until.map_or(self.expires, |until| self.expires.min(until));
    }
}

impl<O: Operation> Permit<O> {
    /// The decision.
    #[must_use]
    pub const fn id(&self) -> DecisionId {
        self.parts.id
    }

    /// Whose house.
    #[must_use]
    pub const fn tenant(&self) -> &Tenant {
        &self.parts.tenant
    }

    /// What was asked.
    #[must_use]
    pub const fn what(&self) -> &What {
        &self.parts.what
    }

    /// Why it was permitted.
    #[must_use]
    pub const fn grounds(&self) -> &Grounds {
        &self.parts.grounds
    }

    /// What enforcement must do for the permit to stand.
    #[must_use]
    pub const fn obligations(&self) -> &Obligations {
        &self.parts.obligations
    }

    /// Until when it may be used.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.parts.expires
    }

    /// What is to be counted before it can be recorded.
    #[must_use]
    pub fn uses(&self) -> &[DetailUse] {
        &self.parts.uses
    }

    /// The same once these uses are counted, or where nothing is done by it that would be one.
    pub fn counted(mut self, uses: &[DetailUse]) -> Self {
        self.parts.uses.retain(|one| !uses.contains(one));
        self
    }

    /// Spends the permit. Only `record` has a use for this: it writes the parts down and makes the
    /// `IntentRecorded` that an effect demands.
    #[must_use]
    pub fn spend(self) -> PermitParts {
        self.parts
    }
}

/// An ask that may not happen now.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The decision.
    pub id: DecisionId,
    /// Whose house.
    pub tenant: Tenant,
    /// Who asked.
    pub who: Who,
    /// What was asked; absent when it was refused before that was known.
    pub what: Option<What>,
    /// The kind of refusal.
    pub verdict: VerdictKind,
    /// Why, the strongest first; never empty.
    pub reasons: Vec<ReasonCode>,
    /// What would help.
    pub offers: Vec<Offer>,
    /// The approvals among them, with what they are to be given for. Not told to the caller.
    pub holds: Vec<Hold>,
    /// On which grounds; absent when policy was never asked.
    pub grounds: Option<Grounds>,
    /// Whether the caller may know that the resource exists. If not, the answer is the one for a thing that does not.
    pub discoverable: bool,
}

impl Refused {
    /// The refusal as it is told to the caller.
    #[must_use]
    pub fn problem(&self) -> Problem {
        if !self.discoverable {
            let reason = match self.what.as_ref().map(|what| what.resource.kind.as_str()) {
                None | Some("Model") => ReasonCode::ModelNotFound,
                Some("Tool") => ReasonCode::ToolNotFound,
                Some(_) => ReasonCode::NotFound,
            };
            return Problem::new(reason).of(self.id);
        }
        let reason = self.reasons.first().cloned().unwrap_or(ReasonCode::NoMatchingPermit);
        Problem { offers: self.offers.clone(), ..Problem::new(reason).of(self.id) }
    }
}
