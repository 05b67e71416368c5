//! Refusing: recorded, and worded for whoever asked.

use bartizan_decide::{Permit, Refused};
use bartizan_identify::Caller;
use bartizan_limits::{Noted, Tracks};
use bartizan_model::directory::Dialect;
use bartizan_model::record::{VerdictKind, What};
use bartizan_model::{Action, DecisionId, Problem};

use crate::path::{Gate, Stop};
use crate::reply::{self, Reply};

impl Gate {
    /// Records a refusal and words it for the caller.
    pub(crate) async fn refuse(&self, refused: Refused) -> Stop {
        self.refuse_once(refused).await.0
    }

    /// The same, with whether it has a record of its own.
    pub(crate) async fn refuse_once(&self, refused: Refused) -> (Stop, bool) {
        let problem = refused.problem();
        self.parts.metrics.asked(
            refused.what.as_ref().map(|w| w.action),
            refused.verdict,
            refused.reasons.first(),
        );
        let resource = refused.what.as_ref().map(|what| &what.resource);
        let noted = Noted { denials: 1, resource, ..Noted::default() };
        self.activities.note(&Tracks::of(&refused.who), self.parts.clock.monotonic_us(), &noted);
        match self.parts.recorder.refused_once(&refused).await {
            Ok((receipt, own)) => (Stop { problem, receipt: Some(receipt) }, own),
            Err(error) => {
                tracing::error!(%error, "a refusal could not be recorded");
                (Problem::new(error.reason()).of(refused.id).into(), false)
            }
        }
    }

    /// Refuses what policy permits: a lock is on it, or a limit does not let it through.
    pub(crate) async fn refuse_permitted<O: bartizan_model::Operation>(
        &self,
        caller: &Caller,
        permit: &Permit<O>,
        problem: Problem,
    ) -> Stop {
        self.refuse_for(caller, permit.id(), Some(permit.what().clone()), problem).await
    }

    /// Refuses before or beside policy: an unknown credential, a malformed body, a route that leads nowhere.
    pub(crate) async fn refuse_early(
        &self,
        caller: &Caller,
        id: Option<DecisionId>,
        problem: Problem,
    ) -> Stop {
        self.refuse_for(caller, id.unwrap_or_else(|| self.new_id()), None, problem).await
    }

    async fn refuse_for(
        &self,
        caller: &Caller,
        id: DecisionId,
        what: Option<What>,
        problem: Problem,
    ) -> Stop {
        let refused = Refused {
            id,
            tenant: caller.tenant().clone(),
            who: caller.who(),
            what,
            verdict: VerdictKind::Deny,
            reasons: vec![problem.reason.clone()],
            offers: Vec::new(),
            holds: Vec::new(),
            grounds: None,
            discoverable: true,
        };
        let stop = self.refuse(refused).await;
        // What could not be recorded is told as that; everything else as what it is.
        if stop.problem.reason == problem.reason { Stop { problem: problem.of(id), ..stop } } else { stop }
    }

    pub(crate) async fn or_refuse<T>(
        &self,
        caller: &Caller,
        id: Option<DecisionId>,
        result: Result<T, Problem>,
    ) -> Result<T, Stop> {
        match result {
            Ok(value) => Ok(value),
            Err(problem) => Err(self.refuse_early(caller, id, problem).await),
        }
    }

    // --- answer --------------------------------------------------------------------------------------------------

    /// A problem as the data plane tells it where no dialect is spoken.
    pub(crate) fn problem_reply(&self, path: &str, action: Option<Action>, stop: &Stop) -> Reply {
        self.answer_problem(Dialect::OpenAiChat, path, action, stop)
    }

    pub(crate) fn answer_problem(
        &self,
        dialect: Dialect,
        path: &str,
        action: Option<Action>,
        stop: &Stop,
    ) -> Reply {
        let (status, body) = bartizan_wire::error_body(dialect, &stop.problem);
        let mut answer = reply::json(status, body);
        let decision = stop.problem.decision.unwrap_or_else(|| self.new_id());
        reply::mark(answer.headers_mut(), decision, stop.receipt.as_ref());
        self.challenge(answer.headers_mut(), &stop.problem, path, action);
        answer
    }
}
