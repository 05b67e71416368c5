//! What a caller's message sends to a server: decided, counted and recorded for each message that leaves.

use std::sync::{Mutex, OnceLock, PoisonError};

use bartizan_base::{Digest, Name};
use bartizan_decide::Permit;
use bartizan_model::action::ToolCall;
use bartizan_model::record::VerdictKind;
use bartizan_model::{
    Action, AskFacts, DecisionId, DetailUse, EntityRef, Obligation, ObligationKind, Obligations, Problem,
    ReasonCode, Target,
};
use bartizan_record::{IntentRecorded, Receipt};
use bartizan_upstream::Carries;
use futures_util::future::BoxFuture;

use super::visit::Visit;
use super::{Errand, ToolStop};
use crate::admit::{Going, Step};
use crate::limits::Reservation;
use crate::path::Stop;

impl Visit {
    /// What goes to `server` for `action` on `entity`.
    pub(super) fn errand<'v>(
        &'v self,
        server: &'v Name,
        action: Action,
        entity: &'v EntityRef,
        facts: &'v AskFacts,
    ) -> VisitErrand<'v> {
        VisitErrand {
            visit: self,
            server,
            action,
            entity,
            facts,
            permit: Mutex::default(),
            applied: OnceLock::new(),
            used: Mutex::default(),
            last: Mutex::default(),
        }
    }
}

/// What a caller's message sends to a server. Each message that leaves is decided anew.
pub(super) struct VisitErrand<'v> {
    visit: &'v Visit,
    server: &'v Name,
    action: Action,
    entity: &'v EntityRef,
    facts: &'v AskFacts,
    /// A permit that is not spent yet.
    permit: Mutex<Option<Permit<ToolCall>>>,
    /// The obligations of the first permit: what is sent is made by them.
    applied: OnceLock<Obligations>,
    /// What was counted already: several messages may have to leave for one call, and it is one use.
    used: Mutex<Vec<DetailUse>>,
    last: Mutex<Option<(DecisionId, Receipt)>>,
}

impl std::fmt::Debug for VisitErrand<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VisitErrand").field("entity", self.entity).finish_non_exhaustive()
    }
}

impl VisitErrand<'_> {
    /// Decides, counts, and keeps the permit for the next message. A refusal is recorded.
    pub(super) async fn decide(&self) -> Result<DecisionId, Stop> {
        let permit = self.decided().await?;
        self.visit.gate.counted(&self.visit.entered.tracks(&self.visit.caller), &permit);
        let id = permit.id();
        self.applied.get_or_init(|| permit.obligations().clone());
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        Ok(id)
    }

    /// What was decided on has to be done with content.
    pub(super) fn obligations(&self) -> Obligations {
        self.applied.get().cloned().unwrap_or_default()
    }

    /// Lets what was decided on begin, under locks and limits.
    pub(super) async fn admitted(&self, same: Digest) -> Result<(Reservation, Going), Stop> {
        let visit = self.visit;
        let permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
        let permit = permit.ok_or(ReasonCode::Internal)?;
        let (world, caller, situation, run) =
            (&visit.world, &visit.caller, &visit.situation, visit.entered.run());
        let beside = visit.beside(self.server);
        let step = Step { world, caller, situation, run, beside: &beside, same, ends: true };
        let reserved = visit.gate.admit(&permit, &step).await?;
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        Ok((reserved, Going::new(&step, self.entity)))
    }

    async fn decided(&self) -> Result<Permit<ToolCall>, Stop> {
        let visit = self.visit;
        let ask = visit.ask::<ToolCall>(self.action, self.entity, self.facts.clone());
        let door = visit.gate.door(self.action);
        let (permit, _) = visit.gate.decide(&visit.world, &visit.caller, ask, &visit.situation, door).await?;
        Ok(permit)
    }

    async fn intended(&self, target: Target) -> Result<IntentRecorded<ToolCall>, ToolStop> {
        let kept = self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
        let permit = match kept {
            Some(permit) => permit,
            None => self.decided().await?,
        };
        let visit = self.visit;
        // Policy can want more by now than what was done to the message.
        let applied = self.applied.get();
        let done = |wanted: &Obligation| {
            applied.iter().flat_map(|all| all.iter()).any(|one| one.is_at_least(wanted))
        };
        if applied.is_some() && !permit.obligations().iter().all(done) {
            let problem = Problem::new(ReasonCode::ObligationFailed);
            return Err(visit.gate.refuse_permitted(&visit.caller, &permit, problem).await.into());
        }
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let permit = permit.counted(&used);
        let uses = permit.uses().to_vec();
        let permit = visit.gate.use_up(permit).await?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).extend(uses);
        let hides = applied.unwrap_or(permit.obligations()).contains(ObligationKind::Hide);
        let intent = if self.action == Action::ToolList || hides {
            // Of tools and prompts only such definitions are told as somebody has looked at; what is kept here enters nothing.
            visit.gate.intend(permit, target, None).await?
        } else {
            let gives = visit.label_of(self.server, self.entity);
            visit.gate.intend_labelled(permit, target, None, &visit.entered, &gives).await?
        };
        let recorded = (intent.decision(), intent.receipt().clone());
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorded);
        self.visit.gate.parts.metrics.asked(Some(self.action), VerdictKind::Permit, None);
        Ok(intent)
    }

    async fn carried(&self) -> Result<Carries, ToolStop> {
        self.visit.gate.tool_credential(&self.visit.world, &self.visit.caller, self.server).await
    }

    /// What was recorded last.
    pub(super) fn last(&self) -> Option<(DecisionId, Receipt)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Errand for VisitErrand<'_> {
    fn intend(&self, target: Target) -> BoxFuture<'_, Result<IntentRecorded<ToolCall>, ToolStop>> {
        Box::pin(self.intended(target))
    }

    fn carries(&self) -> BoxFuture<'_, Result<Carries, ToolStop>> {
        Box::pin(self.carried())
    }
}
