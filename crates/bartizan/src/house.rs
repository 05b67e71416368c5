//! Introduces `control` to the ones who know: the keeper of the world, the gate that verifies, the exit that probes.

use std::sync::Arc;

use bartizan_base::{Clock, Digest, Name};
use bartizan_control::{House, Offered, Probe, Stopped, ToolAsks, TrialView, Version, View};
use bartizan_decide::{Bundle, BundleErrors, CompiledBundle, Decided, Door, Snapshot};
use bartizan_enforce::{Afterwards, Definition, Errand, Gate, Keeper, TenantWorld, ToolStop, World};
use bartizan_identify::{Caller, Presented, Proof};
use bartizan_keys::{Sealer, Statement};
use bartizan_model::action::{ModelCall, ToolCall};
use bartizan_model::record::End;
use bartizan_model::{Action, ReasonCode, Target, Tenant};
use bartizan_record::{Ended, IntentRecorded};
use bartizan_secret::Secret;
use bartizan_store::{Acknowledged, BundleRow, StoreError};
use bartizan_upstream::{Carries, Credentials, Outbound, Upstreams};
use futures_util::future::BoxFuture;

/// The running house.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) afterwards: Arc<Afterwards>,
    pub(crate) clock: Arc<dyn Clock>,
}

fn view(world: &World, part: &TenantWorld, deciding: &Arc<Snapshot>) -> View {
    let in_force = part.in_force.as_ref();
    View {
        state: world.state.clone(),
        policy: part.policy.clone(),
        deciding: deciding.clone(),
        in_force: in_force.map(|f| Version { row: f.row.clone(), statement: f.statement.clone() }),
    }
}

impl House for Running {
    fn identify<'a>(
        &'a self,
        presented: &'a Presented,
    ) -> BoxFuture<'a, Result<Caller, (Caller, ReasonCode)>> {
        Box::pin(async move {
            let world = self
                .keeper
                .current()
                .map_err(|reason| (Caller::anonymous(Tenant::default_tenant()), reason))?;
            self.gate.verify(&world, presented).await
        })
    }

    fn proof_nonce(&self) -> Option<String> {
        self.gate.proof_nonce()
    }

    fn prove(&self, proof: &Proof) -> Result<Caller, (Box<Caller>, ReasonCode)> {
        let world = self
            .keeper
            .current()
            .map_err(|reason| (Box::new(Caller::anonymous(proof.tenant.clone())), reason))?;
        proof.caller(&world.directory, self.clock.now())
    }

    fn view(&self, tenant: &Tenant) -> Result<View, ReasonCode> {
        let world = self.keeper.current()?;
        let part = world.tenants.get(tenant).ok_or(ReasonCode::PolicyMissing)?;
        Ok(view(&world, part, &part.policy))
    }

    fn view_for(&self, caller: &Caller) -> Result<View, ReasonCode> {
        let world = self.keeper.current()?;
        let part = world.tenants.get(caller.tenant()).ok_or(ReasonCode::PolicyMissing)?;
        Ok(view(&world, part, part.policy_for(caller)))
    }

    fn decided(&self, decided: Decided) {
        // Also on a world that is older than its lease: the decision was made.
        let world = self.keeper.latest();
        if let Some(part) = world.tenants.get(&decided.tenant) {
            self.afterwards.decided(decided, part, &world.state);
        }
    }

    fn trial(&self, tenant: &Tenant) -> TrialView {
        let trial = self.afterwards.trial(tenant);
        TrialView {
            compared: trial.compared,
            dropped: trial.dropped,
            failed: trial.failed,
            flips: trial.flips,
            groups: trial.groups,
            ..TrialView::default()
        }
    }

    fn compile<'a>(
        &'a self,
        tenant: &'a Tenant,
        bundle: Bundle,
    ) -> BoxFuture<'a, Result<Arc<CompiledBundle>, BundleErrors>> {
        Box::pin(self.keeper.compile(tenant, bundle))
    }

    fn signed(&self, row: &BundleRow) -> Result<Statement, ReasonCode> {
        self.keeper.signed(row)
    }

    fn door(&self, action: Action) -> &Door {
        self.gate.door(action)
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.keeper.reload())
    }

    fn acknowledged(&self, revision: u64, policy: bool) -> BoxFuture<'_, Acknowledged> {
        Box::pin(self.keeper.acknowledged(revision, policy))
    }

    fn probe<'a>(
        &'a self,
        intent: IntentRecorded<ModelCall>,
        upstream: &'a Name,
    ) -> BoxFuture<'a, Result<Probe, ReasonCode>> {
        Box::pin(async move {
            let world = self.keeper.current()?;
            let spec = world.tenants.get(intent.tenant()).and_then(|t| t.upstreams.get(upstream)).cloned();
            let spec = spec.ok_or(ReasonCode::NotFound)?;
            let began = self.clock.monotonic_us();
            let nothing =
                Outbound::post("/v1/models".to_owned(), bytes::Bytes::new(), http::HeaderMap::new());
            let outbound = Outbound { method: http::Method::GET, ..nothing };
            match self.upstreams.send(intent, &spec, outbound).await {
                Ok(answer) => {
                    answer.running.finish(Ended { status: Some(answer.status), ..Ended::default() });
                    Ok(Probe {
                        status: answer.status,
                        took_us: self.clock.monotonic_us().saturating_sub(began),
                    })
                }
                Err(error) => {
                    error.running.finish(Ended {
                        end: End::Failed { reason: error.reason.clone() },
                        ..Ended::default()
                    });
                    Err(error.reason)
                }
            }
        })
    }

    fn tools_offered<'a>(
        &'a self,
        caller: &'a Caller,
        server: &'a Name,
        asks: &'a dyn ToolAsks,
    ) -> BoxFuture<'a, Result<Vec<Offered>, Stopped>> {
        Box::pin(async move {
            let errand = Asking { house: self, caller, server, asks };
            // A session of its own: what callers see of a server does not depend on who administers it.
            let who = caller.subject().principal.id.to_string();
            let session = Digest::of_parts(&[b"bartizan tool administration\0", who.as_bytes()]);
            let found = self.gate.tool_definitions(caller.tenant(), server, session, &errand).await;
            let found = found.map_err(|stop| Stopped { problem: stop.problem, receipt: stop.receipt })?;
            let offered = |one: Definition| Offered {
                pin: one.pin(),
                digest: one.digest,
                definition: serde_json::from_str(&one.raw).unwrap_or_default(),
            };
            Ok(found.into_iter().map(offered).collect())
        })
    }
}

/// Asks servers of tools on behalf of whoever administers them.
#[derive(Debug)]
struct Asking<'a> {
    house: &'a Running,
    caller: &'a Caller,
    server: &'a Name,
    asks: &'a dyn ToolAsks,
}

impl Errand for Asking<'_> {
    fn intend(&self, target: Target) -> BoxFuture<'_, Result<IntentRecorded<ToolCall>, ToolStop>> {
        Box::pin(async move {
            let stop = |stopped: Stopped| ToolStop { problem: stopped.problem, receipt: stopped.receipt };
            self.asks.ask(target).await.map_err(stop)
        })
    }

    fn carries(&self) -> BoxFuture<'_, Result<Carries, ToolStop>> {
        Box::pin(async move {
            let world = self.house.keeper.current()?;
            self.house.gate.tool_credential(&world, self.caller, self.server).await
        })
    }
}

/// Opens sealed credentials of the state in force.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) keeper: Arc<std::sync::OnceLock<Arc<Keeper>>>,
    pub(crate) sealer: Arc<Sealer>,
}

impl Credentials for Opener {
    fn credential(&self, tenant: &Tenant, name: &Name) -> Option<Secret<String>> {
        let world = self.keeper.get()?.current().ok()?;
        let row = world.state.sealed.iter().find(|s| s.tenant == *tenant && s.name == *name)?;
        let opened = self.sealer.open(&row.sealed, tenant, name);
        opened
            .inspect_err(|error| tracing::error!(%error, credential = %name, "a credential does not open"))
            .ok()
    }
}
