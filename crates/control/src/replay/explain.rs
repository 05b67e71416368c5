//! A recorded decision explained: made again from what was kept of it, and told as far as the reader may see.

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_decide::{Explanation, NotReplayable, Question, Reader, Recorded};
use bartizan_identify::Caller;
use bartizan_model::action::ReadLedger;
use bartizan_model::record::{Record, VerdictKind};
use bartizan_model::{Action, DecisionId, Problem, ReasonCode, Target, Tenant};
use schemars::JsonSchema;
use serde::Serialize;

use super::unknown;
use crate::decisions::unreadable;
use crate::policy::may;
use crate::turn::{Turn, finish};
use crate::{Control, Done, Stopped, View};

/// Why a recorded decision came out as it did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ExplainedDecision {
    /// The decision.
    pub decision: DecisionId,
    /// When it was made.
    pub at: String,
    /// The verdict on record; absent where policy was never asked.
    pub verdict: Option<VerdictKind>,
    /// The reasons on record, strongest first.
    pub reasons: Vec<ReasonCode>,
    /// The rules on record.
    pub rules: Vec<Name>,
    /// The bundle that decided.
    pub policy: Option<Digest>,
    /// Why no more than the record can be told; absent where more is.
    pub not_replayable: Option<NotReplayable>,
    /// Whether it came out the same when it was made again for this explanation, bit for bit.
    pub same: Option<bool>,
    /// In what it differs. An explanation is then of what comes out now, not of what is on record.
    pub differences: Vec<String>,
    /// The explanation: rule texts and conditions for those who may read policy, personal values for those who may read content.
    pub explanation: Option<Explanation>,
    /// The same for people.
    pub text: Option<String>,
}

impl Control {
    /// Explains a recorded decision by the bundle and the facts that it was made on, as far as the caller may see them.
    ///
    /// # Errors
    /// When policy says no or there is no such decision.
    pub async fn explain_decision(
        &self,
        caller: &Caller,
        id: DecisionId,
    ) -> Result<Done<ExplainedDecision>, Stopped> {
        let Turn { view, intent } =
            self.ask::<ReadLedger>(caller, Action::DecisionRead, &("explain", id), Target::House).await?;
        let reader = reader(&view, caller, self.clock.now());
        let found = self.recorder.find(&intent, id).await.map_err(unreadable);
        let explained = match found.and_then(|found| found.ok_or_else(|| unknown(id))) {
            Ok(found) => self.explained(caller.tenant(), &found.record, id, reader).await,
            Err(problem) => Err(problem),
        };
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), explained, receipt, decision)
    }

    async fn explained(
        &self,
        tenant: &Tenant,
        record: &Record,
        id: DecisionId,
        reader: Reader,
    ) -> Result<ExplainedDecision, Problem> {
        let recorded = Recorded::of(record);
        let outcome = recorded.as_ref().ok().map(|recorded| &recorded.outcome);
        let mut told = ExplainedDecision {
            decision: id,
            at: record.time_us.to_string(),
            verdict: outcome.map(|o| o.verdict),
            reasons: outcome.map(|o| o.reasons.clone()).unwrap_or_default(),
            rules: outcome.map(|o| o.grounds.rules.clone()).unwrap_or_default(),
            policy: outcome.map(|o| o.grounds.policy),
            not_replayable: None,
            same: None,
            differences: Vec::new(),
            explanation: None,
            text: None,
        };
        let whose = tenant.clone();
        let again = self.again(tenant, recorded, move |recorded, snapshot, kept| {
            let question = Question {
                caller: &kept.caller(&whose),
                action: kept.action,
                resource: &kept.resource,
                facts: &kept.facts,
                situation: &kept.situation,
            };
            let differences = recorded.outcome.differences(&snapshot.replay(kept, &whose));
            (differences, snapshot.explain(&question, &kept.door, reader))
        });
        match again.await? {
            Err(why) => told.not_replayable = Some(why),
            Ok((differences, explanation)) => {
                told.same = Some(differences.is_empty());
                told.differences = differences;
                told.text = Some(explanation.to_string());
                told.explanation = Some(explanation);
            }
        }
        Ok(told)
    }
}

/// What of an explanation the caller may see, by the caller's own rights.
fn reader(view: &View, caller: &Caller, now: Timestamp) -> Reader {
    Reader {
        rules: may(view, caller, Action::PolicyRead, now),
        personal: may(view, caller, Action::ContentRead, now),
    }
}
