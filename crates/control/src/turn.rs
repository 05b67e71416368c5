//! One turn: ask, decide, record, act, tell how it ended.

use std::fmt;

use bartizan_base::{Digest, json};
use bartizan_decide::{Decided, Door, KeptAsk, Verdict};
use bartizan_identify::Caller;
use bartizan_model::action::{ChangeState, ReadState};
use bartizan_model::record::{End, VerdictKind, What};
use bartizan_model::{
    Action, Ask, AskFacts, DecisionId, EntityRef, Operation, Problem, ReasonCode, Situation, Target, Tenant,
};
use bartizan_record::{Ended, IntentRecorded, Receipt, RecordError, Running};
use bartizan_store::{Acknowledged, Change, StoreError};
use serde::Serialize;

use crate::{Control, View};

/// A use case that was carried out.
#[derive(Clone, Debug)]
pub struct Done<T> {
    /// What came of it.
    pub value: T,
    /// Where it is recorded.
    pub receipt: Receipt,
    /// The decision behind it.
    pub decision: DecisionId,
    /// That no node decides any more on what was before, where something may have been taken away.
    pub acknowledged: Option<Acknowledged>,
}

impl<T> Done<T> {
    /// The same, with something else for what came of it.
    #[must_use]
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Done<U> {
        let Self { value, receipt, decision, acknowledged } = self;
        Done { value: with(value), receipt, decision, acknowledged }
    }
}

/// A use case that was not carried out.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Why, for the one who asked.
    pub problem: Problem,
    /// Where the refusal is recorded.
    pub receipt: Option<Receipt>,
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self { problem, receipt: None }
    }
}

impl From<ReasonCode> for Stopped {
    fn from(reason: ReasonCode) -> Self {
        Problem::new(reason).into()
    }
}

impl From<RecordError> for Stopped {
    fn from(error: RecordError) -> Self {
        error.reason().into()
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Conflict(what) => Problem::with_detail(ReasonCode::Conflict, what.clone()).into(),
            StoreError::Unavailable(_) | StoreError::Corrupt(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the state database failed");
                error.reason().into()
            }
        }
    }
}

/// An administrative ask that was permitted and recorded, about to be carried out.
pub(crate) struct Turn<O: Operation> {
    pub(crate) view: View,
    pub(crate) intent: IntentRecorded<O>,
}

impl<O: Operation> fmt::Debug for Turn<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("intent", &self.intent).finish_non_exhaustive()
    }
}

impl Control {
    /// Decides and records `action` on our own house; what it says is committed to by `request`'s digest.
    pub(crate) async fn ask<O: Operation>(
        &self,
        caller: &Caller,
        action: Action,
        request: &(impl Serialize + Sync),
        target: Target,
    ) -> Result<Turn<O>, Stopped> {
        let house = EntityRef::of_the_house(action).unwrap_or_else(EntityRef::system);
        self.ask_of(caller, action, house, request, target).await
    }

    /// The same on one of the things of our own house.
    async fn ask_of<O: Operation>(
        &self,
        caller: &Caller,
        action: Action,
        resource: EntityRef,
        request: &(impl Serialize + Sync),
        target: Target,
    ) -> Result<Turn<O>, Stopped> {
        let body = json::canonical(request)
            .map_err(|e| Problem::with_detail(ReasonCode::BodyMalformed, e.to_string()))?;
        let now = self.clock.now();
        let view = self.house.view_for(caller)?;
        let facts =
            AskFacts { dialect: "control".to_owned(), bytes: body.len() as u64, ..AskFacts::default() };
        let ask =
            Ask::<O>::new(DecisionId::new(now, &*self.random), action, resource, facts, Digest::of(&body));
        let situation = Situation::at(now);
        let kept = KeptAsk::of(caller, action, &ask.resource, &ask.facts, &situation, &Door::none());
        let verdict = view.deciding.decide(caller, ask, &situation, &Door::none()).verdict;
        let decided = Decided::new(caller.tenant(), &verdict, kept, &view.deciding);
        let refused = match verdict {
            Verdict::Permit(permit) => {
                if let Some(problem) = crate::locks::locked(&view, caller, action, now) {
                    return Err(self
                        .refuse_locked(caller, permit.id(), permit.what().clone(), problem)
                        .await);
                }
                decided.into_iter().for_each(|decided| self.house.decided(decided));
                let intent = self.recorder.intend(permit, target).await?;
                return Ok(Turn { view, intent });
            }
            Verdict::StepUp(refused)
            | Verdict::Justify(refused)
            | Verdict::Hold(refused)
            | Verdict::Deny(refused) => refused,
        };
        let (receipt, own) = self.recorder.refused_once(&refused).await?;
        // A flood of equal refusals is counted in one record; there is nothing to replay of the others.
        decided.into_iter().filter(|_| own).for_each(|decided| self.house.decided(decided));
        Err(Stopped { problem: refused.problem(), receipt: Some(receipt) })
    }

    /// Records that policy permits it and a lock does not.
    async fn refuse_locked(&self, caller: &Caller, id: DecisionId, what: What, problem: Problem) -> Stopped {
        let refused = bartizan_decide::Refused {
            id,
            tenant: caller.tenant().clone(),
            who: caller.who(),
            what: Some(what),
            verdict: VerdictKind::Deny,
            reasons: vec![problem.reason.clone()],
            offers: Vec::new(),
            holds: Vec::new(),
            grounds: None,
            discoverable: true,
        };
        match self.recorder.refused_once(&refused).await {
            Ok((receipt, _)) => Stopped { problem: problem.of(id), receipt: Some(receipt) },
            Err(error) => error.into(),
        }
    }

    /// Records that somebody could not even be identified.
    pub async fn refuse_caller(&self, caller: &Caller, reason: ReasonCode) -> Stopped {
        let refused = bartizan_decide::Refused {
            id: DecisionId::new(self.clock.now(), &*self.random),
            tenant: caller.tenant().clone(),
            who: caller.who(),
            what: None,
            verdict: VerdictKind::Deny,
            reasons: vec![reason.clone()],
            offers: Vec::new(),
            holds: Vec::new(),
            grounds: None,
            discoverable: true,
        };
        match self.recorder.refused(&refused).await {
            Ok(receipt) => Stopped { problem: Problem::new(reason).of(refused.id), receipt: Some(receipt) },
            Err(error) => error.into(),
        }
    }

    /// Asks to change state, works the change out on the state as it is, applies it and puts it in force.
    pub(crate) async fn change<T>(
        &self,
        caller: &Caller,
        action: Action,
        request: &(impl Serialize + Sync),
        work: impl FnOnce(&View, &Tenant) -> Result<(Vec<Change>, T), Problem>,
    ) -> Result<Done<T>, Stopped> {
        self.change_with(caller, action, request, async |view, tenant| work(view, tenant)).await
    }

    /// Asks to change state, works the change out, perhaps waiting for something, applies it and puts it in force.
    ///
    /// # Errors
    /// When policy says no, or `work` does, or somebody else has changed the same meanwhile.
    pub async fn change_with<T>(
        &self,
        caller: &Caller,
        action: Action,
        request: &(impl Serialize + Sync),
        work: impl AsyncFnOnce(&View, &Tenant) -> Result<(Vec<Change>, T), Problem>,
    ) -> Result<Done<T>, Stopped> {
        let turn = self.ask::<ChangeState>(caller, action, request, Target::House).await?;
        self.changed(turn, caller, work).await
    }

    /// The same about one of the things of our own house.
    ///
    /// # Errors
    /// As for [`Control::change_with`].
    pub(crate) async fn change_of<T>(
        &self,
        caller: &Caller,
        action: Action,
        resource: EntityRef,
        request: &(impl Serialize + Sync),
        work: impl FnOnce(&View, &Tenant) -> Result<(Vec<Change>, T), Problem>,
    ) -> Result<Done<T>, Stopped> {
        let turn = self.ask_of::<ChangeState>(caller, action, resource, request, Target::House).await?;
        self.changed(turn, caller, async |view, tenant| work(view, tenant)).await
    }

    async fn changed<T>(
        &self,
        turn: Turn<ChangeState>,
        caller: &Caller,
        work: impl AsyncFnOnce(&View, &Tenant) -> Result<(Vec<Change>, T), Problem>,
    ) -> Result<Done<T>, Stopped> {
        let Turn { view, intent } = turn;
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        let stop = |stopped: Stopped| Stopped {
            problem: stopped.problem.of(decision),
            receipt: Some(receipt.clone()),
        };
        let worked = work(&view, caller.tenant()).await;
        let result = match worked {
            // Nothing to change is no change: it moves no revision.
            Ok((changes, value)) if changes.is_empty() => {
                Ok((value, view.state.revision, Extent::of(&changes)))
            }
            Ok((changes, value)) => {
                let extent = Extent::of(&changes);
                let applied = self.store.apply(&intent, changes).await;
                applied.map(|revision| (value, revision, extent)).map_err(Stopped::from)
            }
            Err(problem) => Err(problem.into()),
        };
        let running = intent.begin();
        match result {
            Ok((value, revision, extent)) => {
                running.finish(ended(End::Done));
                let acknowledged = self.settle(revision, extent).await.map_err(|error| stop(error.into()))?;
                Ok(Done { value, receipt, decision, acknowledged })
            }
            Err(stopped) => {
                running.finish(ended(End::Failed { reason: stopped.problem.reason.clone() }));
                Err(stop(stopped))
            }
        }
    }

    /// Acknowledged only when it is in force, so that a revoked key is dead on the next call; and what takes something away,
    /// only when it is dead at every door. Rows beside the state move no revision: there is nothing to put in force.
    async fn settle(&self, revision: u64, extent: Extent) -> Result<Option<Acknowledged>, StoreError> {
        if !extent.moves {
            return Ok(None);
        }
        self.house.reload().await?;
        if !extent.takes_away {
            return Ok(None);
        }
        Ok(Some(self.house.acknowledged(revision, extent.policy).await))
    }

    /// Asks to read, and reads.
    pub(crate) async fn read<T>(
        &self,
        caller: &Caller,
        action: Action,
        request: &(impl Serialize + Sync),
        look: impl FnOnce(&View, &Tenant) -> Result<T, Problem>,
    ) -> Result<Done<T>, Stopped> {
        self.read_with(caller, action, request, async |view, tenant| look(view, tenant)).await
    }

    /// Asks to read, and reads, perhaps waiting for something.
    ///
    /// # Errors
    /// When policy says no, or `look` does.
    pub async fn read_with<T>(
        &self,
        caller: &Caller,
        action: Action,
        request: &(impl Serialize + Sync),
        look: impl AsyncFnOnce(&View, &Tenant) -> Result<T, Problem>,
    ) -> Result<Done<T>, Stopped> {
        let Turn { view, intent } = self.ask::<ReadState>(caller, action, request, Target::House).await?;
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        let looked = look(&view, caller.tenant()).await;
        finish(intent.begin(), looked, receipt, decision)
    }
}

/// Whom a set of changes concerns.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Every node has to hear of it.
    moves: bool,
    /// Something may be taken away from somebody.
    takes_away: bool,
    /// There is policy in it, which has to be compiled.
    policy: bool,
}

impl Extent {
    fn of(changes: &[Change]) -> Self {
        Self {
            moves: changes.is_empty() || changes.iter().any(Change::moves_revision),
            takes_away: changes.iter().any(Change::may_take_away),
            policy: changes.iter().any(|change| matches!(change, Change::PutBundle { .. })),
        }
    }
}

/// Tells how a read ended and wraps its result.
#[expect(clippy::result_large_err, reason = "an administrative answer, not a hot path")]
pub(crate) fn finish<T>(
    running: Running,
    result: Result<T, Problem>,
    receipt: Receipt,
    decision: DecisionId,
) -> Result<Done<T>, Stopped> {
    match result {
        Ok(value) => {
            running.finish(ended(End::Done));
            Ok(Done { value, receipt, decision, acknowledged: None })
        }
        Err(problem) => {
            running.finish(ended(End::Failed { reason: problem.reason.clone() }));
            Err(Stopped { problem: problem.of(decision), receipt: Some(receipt) })
        }
    }
}

fn ended(end: End) -> Ended {
    Ended { end, ..Ended::default() }
}
