//! What holds up a step that policy permits, the same at every door: locks and limits, before it begins and while it goes on.

use std::time::Duration;

use bartizan_base::Digest;
use bartizan_decide::Permit;
use bartizan_identify::Caller;
use bartizan_limits::Tokens;
use bartizan_model::{EntityRef, Operation, ReasonCode, RunName, Situation};

use crate::limits::{Demand, Reservation};
use crate::path::{Gate, Stop};
use crate::world::World;

/// How often it is looked whether what is under way may go on.
const AGAIN: Duration = Duration::from_millis(400);

/// A step that policy permits, as locks and limits see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) world: &'a World,
    pub(crate) caller: &'a Caller,
    pub(crate) situation: &'a Situation,
    /// The run that it names.
    pub(crate) run: Option<&'a RunName>,
    /// What it is sent to, or belongs to, beside the thing that is asked for.
    pub(crate) beside: &'a [EntityRef],
    /// What is the same where the same is asked again of the same thing.
    pub(crate) same: Digest,
    /// Whether it will be known here when it has ended.
    pub(crate) ends: bool,
}

/// A step under way, for asking whether it may go on.
#[derive(Clone, Debug)]
pub(crate) struct Going {
    caller: Caller,
    resource: EntityRef,
    beside: Vec<EntityRef>,
    situation: Situation,
    run: Option<RunName>,
}

impl Gate {
    /// Lets a permitted step begin: nothing that it touches is locked, and limits let it through. What is reserved is given back
    /// when it is dropped, so it is kept until the step has ended.
    pub(crate) async fn admit<O: Operation>(
        &self,
        permit: &Permit<O>,
        step: &Step<'_>,
    ) -> Result<Reservation, Stop> {
        let Step { world, caller, situation, run, beside, .. } = *step;
        self.unlocked(world, caller, permit, situation, (beside, run)).await?;
        let tenant = world.tenants.get(caller.tenant()).ok_or(ReasonCode::PolicyMissing)?;
        let what = permit.what();
        let named =
            [what.action.name().as_bytes(), &what.resource.to_string().into_bytes(), step.same.as_bytes()];
        let demand = Demand {
            resource: &what.resource,
            upstreams: Vec::new(),
            estimate: Tokens::default(),
            digest: Digest::of_parts(&named),
            run,
            ends: step.ends,
        };
        self.reserve(tenant, caller, permit, &demand).await
    }
}

impl Going {
    /// The step on `resource`.
    pub(crate) fn new(step: &Step<'_>, resource: &EntityRef) -> Self {
        Self {
            caller: step.caller.clone(),
            resource: resource.clone(),
            beside: step.beside.to_vec(),
            situation: step.situation.clone(),
            run: step.run.cloned(),
        }
    }

    /// Whether it may go on: the lease holds, so does the credential, and no lock is on it.
    pub(crate) fn holds(&self, gate: &Gate) -> bool {
        gate.parts.keeper.current().is_ok_and(|world| {
            gate.verify_again(&world, &self.caller)
                .is_some_and(|caller| !self.is_locked(gate, &world, &caller))
        })
    }

    /// Whether a lock is on it for `caller`, who is known by what holds in `world`.
    pub(crate) fn is_locked(&self, gate: &Gate, world: &World, caller: &Caller) -> bool {
        let beside = (self.beside.as_slice(), self.run.as_ref());
        gate.lock_on(world, caller, &self.resource, &self.situation, beside).is_some()
    }

    /// Ends when it may not go on any more.
    pub(crate) async fn until_over(&self, gate: &Gate) {
        loop {
            tokio::time::sleep(AGAIN).await;
            if !self.holds(gate) {
                return;
            }
        }
    }
}
