//! Policy and its life: what is in force, planned, put in force, tried beside it, rolled back; explained.

mod plan;
mod proof;
mod propose;
mod reach;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_decide::{
    Bundle, CompiledBundle, Door, Entities, Explanation, FlipGroup, Level, Named, Question, Reader, Snapshot,
    Supposed,
};
use bartizan_identify::Caller;
use bartizan_keys::{Base, Stage, Statement};
use bartizan_model::record::VerdictKind;
use bartizan_model::{
    Action, AskFacts, AssuranceLevel, EntityRef, PrincipalKind, Problem, ReasonCode, Situation, Tenant,
};
use bartizan_store::BundleRow;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{Control, Done, Stopped, View};

pub use plan::{Plan, PlanPolicy};
pub use proof::{NewPermit, NoProver, PolicyProof, Proved, Prover};
pub(crate) use propose::Contents;
pub use propose::{ApplyBundle, Approvals, Approved, ByRight, Proposal, RollBack};
pub use reach::{Reach, Sought};
pub use stage::TryPolicy;

/// A version of policy, as it was signed.
#[derive(Clone, Debug)]
pub struct Version {
    /// The row, with the exact signed bytes.
    pub row: Arc<BundleRow>,
    /// What they say.
    pub statement: Statement,
}

/// A bundle in force.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Bundled {
    /// Its version.
    pub version: u64,
    /// Its digest.
    pub digest: Digest,
    /// What it calls itself.
    pub name: String,
    /// Its files.
    pub files: BTreeMap<String, String>,
    /// The earlier version that it returned to, if it did.
    pub restores: Option<u64>,
    /// What is tried beside it.
    pub candidate: Option<CandidateView>,
    /// The signed statement about all this (DSSE).
    pub signed: String,
}

/// A candidate.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CandidateView {
    /// Its digest.
    pub digest: Digest,
    /// Of how many of a thousand decisions it is evaluated beside; absent where it is in force for some.
    pub shadow_permille: Option<u16>,
    /// For how many callers of a hundred it is in force; absent where it only shadows.
    pub percent: Option<u8>,
    /// The groups for which it is in force.
    pub groups: Vec<Name>,
}

/// How a candidate does on this node, since it began here.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct TrialView {
    /// The version of policy that has it.
    pub version: u64,
    /// The candidate; absent where there is none.
    pub candidate: Option<CandidateView>,
    /// How many decisions were evaluated under both bundles.
    pub compared: u64,
    /// How many were not, for want of time.
    pub dropped: u64,
    /// How many could not be evaluated.
    pub failed: u64,
    /// How many come out otherwise.
    pub flips: u64,
    /// Those, by the rules that make them, with some of the decisions.
    pub groups: Vec<FlipGroup>,
}

impl CandidateView {
    fn of(statement: &Statement) -> Option<Self> {
        let candidate = statement.candidate.as_ref()?;
        let (shadow_permille, percent, groups) = match &candidate.stage {
            Stage::Shadow { permille } => (Some(*permille), None, Vec::new()),
            Stage::Rollout { percent, groups } => (None, Some(*percent), groups.iter().cloned().collect()),
        };
        Some(Self { digest: candidate.bundle, shadow_permille, percent, groups })
    }
}

impl From<&Version> for Bundled {
    fn from(version: &Version) -> Self {
        let (row, statement) = (&version.row, &version.statement);
        Self {
            version: row.version,
            digest: row.digest,
            name: statement.name.clone(),
            files: row.files.clone(),
            restores: statement.restores,
            candidate: CandidateView::of(statement),
            signed: row.signed.clone(),
        }
    }
}

impl View {
    /// The version in force, with its bundle; none before the first.
    pub(crate) fn base(&self) -> Option<Base> {
        self.in_force.as_ref().map(|v| Base { version: v.row.version, bundle: v.row.digest })
    }
}

impl Control {
    /// The bundle in force.
    ///
    /// # Errors
    /// When policy says no or there is none.
    pub async fn policy(&self, caller: &Caller) -> Result<Done<Bundled>, Stopped> {
        self.read(caller, Action::PolicyRead, &(), |view, _| {
            let version = view.in_force.as_ref().map(Bundled::from);
            version.ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, "no bundle is in force"))
        })
        .await
    }

    /// How the candidate does.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn policy_trial(&self, caller: &Caller) -> Result<Done<TrialView>, Stopped> {
        self.read(caller, Action::PolicyRead, &("candidate",), |view, tenant| {
            let mut trial = self.house.trial(tenant);
            trial.version = view.base().map_or(0, |base| base.version);
            trial.candidate = view.in_force.as_ref().and_then(|v| CandidateView::of(&v.statement));
            Ok(trial)
        })
        .await
    }

    /// Says what would be decided and why, rule texts included.
    ///
    /// # Errors
    /// When policy says no or the principal is unknown.
    pub async fn explain(&self, caller: &Caller, request: &Supposed) -> Result<Done<Explanation>, Stopped> {
        let now = self.clock.now();
        self.read(caller, Action::PolicyTest, request, |view, tenant| {
            let reader = Reader { rules: true, personal: may(view, caller, Action::ContentRead, now) };
            Ok(view.policy.explain_supposed(request, tenant, now, self.house.door(request.action), reader))
        })
        .await
    }

    /// Compiles a bundle beside the threads that answer.
    pub(crate) async fn compile(
        &self,
        tenant: &Tenant,
        bundle: &Bundle,
    ) -> Result<Arc<CompiledBundle>, Problem> {
        let compiled = self.house.compile(tenant, bundle.clone()).await;
        compiled.map_err(|e| Problem::with_detail(ReasonCode::Invalid, e.to_string()))
    }
}

/// Whether the caller has a right to something of the house: what decides how much of an answer is shown, beside the ask itself.
pub(crate) fn may(view: &View, caller: &Caller, action: Action, now: Timestamp) -> bool {
    let resource = EntityRef::of_the_house(action).unwrap_or_else(EntityRef::system);
    let (facts, situation) = (AskFacts::default(), Situation::at(now));
    let question = Question { caller, action, resource: &resource, facts: &facts, situation: &situation };
    view.deciding.explain(&question, &Door::none(), Reader::CALLER).verdict == VerdictKind::Permit
}

/// Runs `work` where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Problem::new(ReasonCode::ShuttingDown)))
}

/// A bundle may only have masked what can be looked for: a detector of the tenant's own has to be declared first.
pub(crate) fn check_detectors(
    view: &View,
    tenant: &Tenant,
    compiled: &CompiledBundle,
) -> Result<(), Problem> {
    let declared = |name: &Name| view.state.of_kind(tenant, "detector").any(|(_, d, _)| d.name == *name);
    match compiled.custom_detectors().find(|(detector, _)| !declared(detector)) {
        None => Ok(()),
        Some((detector, rule)) => {
            let detail = format!("rule `{rule}` names the detector `{detector}`, which is not declared");
            Err(Problem::with_detail(ReasonCode::Invalid, detail))
        }
    }
}

/// Nobody may lock everybody out: under the new bundle somebody must be able to apply another.
pub(crate) fn guard(
    view: &View,
    tenant: &Tenant,
    compiled: Arc<CompiledBundle>,
    now: Timestamp,
) -> Result<(), Problem> {
    // As surely as anybody can be.
    let level = AssuranceLevel::Aal2PhishingResistant;
    if can_apply(view, tenant, compiled, |_| Some(level), now)? {
        return Ok(());
    }
    Err(Problem::with_detail(ReasonCode::Constitution, "under this bundle nobody could apply another"))
}

/// Whether one of the people in `view`, supposed to be as sure as `level` says, could put a bundle in force under
/// `compiled`. Those without a level are passed over.
pub(crate) fn can_apply(
    view: &View,
    tenant: &Tenant,
    compiled: Arc<CompiledBundle>,
    level: impl Fn(&Name) -> Option<AssuranceLevel>,
    now: Timestamp,
) -> Result<bool, Problem> {
    let documents: Vec<_> =
        view.state.documents.iter().filter(|(t, ..)| t == tenant).map(|(_, d, _)| d.clone()).collect();
    let entities = Entities::build_for(&documents, Some(&compiled))
        .map_err(|e| Problem::with_detail(ReasonCode::Invalid, e.to_string()))?;
    let snapshot = Snapshot::new(Some(compiled), Arc::new(entities));
    let suppose = |name: &Name| match level(name) {
        None => Caller::anonymous(tenant.clone()),
        Some(level) => {
            let named = Named { kind: PrincipalKind::User, name: name.clone() };
            let supposed = Supposed::new(named, Action::PolicyApply, name.clone());
            Supposed { assurance: Level(level), ..supposed }.caller(tenant.clone(), now)
        }
    };
    Ok(snapshot.somebody_can_apply(suppose, now))
}
