//! A small house with an authority: the recorder, the policy and the state are real, and there are no listeners.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bartizan_authority::oauth::Settings;
use bartizan_authority::{Authority, Bonds};
use bartizan_base::{Clock, Digest, Name, Random, Timestamp};
use bartizan_control::{
    Archive, Archives, ByRight, Control, Couriers, DeliveryView, House, LetterView, NoProver, Offered, Probe,
    Stopped, ToolAsks, TrialView, View,
};
use bartizan_decide::{Bundle, BundleErrors, CompiledBundle, Decided, Door};
use bartizan_enforce::{Keeper, Policies};
use bartizan_identify::{Caller, Presented, Proof};
use bartizan_keys::{PolicySigner, Sealer, Statement};
use bartizan_model::action::{ChangeState, ModelCall};
use bartizan_model::{Action, Document, NodeId, Problem, ReasonCode, Spec, Tenant};
use bartizan_record::{ClosedLog, Config, IntentRecorded, RealDisk, Recorder};
use bartizan_secret::Secret;
use bartizan_store::{
    Acknowledged, BundleRow, Checkpoints, ClaimRow, Founding, Nodes, Rows, Store, StoreError,
};
use futures_util::future::BoxFuture;

/// What a house is founded on.
#[derive(Debug)]
pub struct Ground<S> {
    /// The state database, empty.
    pub store: Arc<S>,
    /// The data folder.
    pub folder: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The time by which the lease on the state runs out: one that stands still where a test moves `clock` and nobody watches.
    pub lease: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// What is declared.
    pub documents: Vec<(Tenant, Document)>,
    /// The policy of the default tenant.
    pub policy: Bundle,
    /// Bytes of a segment of the write-ahead log.
    pub segment_bytes: u64,
}

impl<S> Ground<S>
where
    S: Store<IntentRecorded<ChangeState>> + Rows + Nodes + Checkpoints + 'static,
{
    /// Founds the house; whoever watches the state for it has its keeper.
    ///
    /// # Errors
    /// Whatever keeps it from standing.
    pub async fn found(
        self,
        issuer: &str,
        settings: Settings,
    ) -> Result<(Authority, Arc<Keeper>), Box<dyn Error + Send + Sync>> {
        let Self { store, folder, clock, lease, random, documents, policy, segment_bytes } = self;
        let now = clock.now();
        let signer = PolicySigner::from_seed(&Secret::new([9; 32]))?;
        let founding = Founding {
            recovery: (1, vec!["none".to_owned()]),
            claim: ClaimRow { digest: Digest::of(b"claim"), expires: now },
            documents,
            bundle: Some(first(&signer, policy, now)?),
        };
        let state: Arc<dyn Store<IntentRecorded<ChangeState>>> = store.clone();
        state.found(founding).await?;
        let node = NodeId::new(now, &*random);
        let seed = Secret::new([8; 32]);
        let config =
            Config::new(folder.clone(), node, "test.example/log".to_owned(), seed, "test".to_owned());
        let config = Config { segment_bytes, ..config };
        let recorder = Recorder::open(config, clock.clone(), Arc::new(RealDisk), store.clone()).await?;
        let policies = Policies::open(&folder.join("policy"), signer.verifier()?)?;
        let keeper = Keeper::open(
            state.clone(),
            store.clone(),
            node,
            recorder.clone(),
            lease,
            policies,
            Some(issuer.into()),
        )
        .await?;
        let keeper = Arc::new(keeper);
        let house = Running { keeper: keeper.clone(), clock: clock.clone(), door: Door::none() };
        let control = Control {
            house: Arc::new(house),
            bonds: Arc::new(Bonds { rows: store.clone() }),
            store: state,
            archive: Arc::new(Archive::new(recorder.feed(), folder.join("index"), clock.clone())),
            recorder,
            archives: Arc::new(Nothing),
            couriers: Arc::new(Nothing),
            sealer: Arc::new(Sealer::new(Secret::new([6; 32]))),
            vault: None,
            policy_signer: Arc::new(signer),
            authors: Vec::new().into(),
            approvals: Arc::new(ByRight),
            prover: Arc::new(NoProver),
            slices: None,
            clock,
            random,
        };
        let authority = Authority {
            control: Arc::new(control),
            rows: store,
            issuer: issuer.into(),
            settings: Arc::new(settings),
            counts: Arc::new(bartizan_store::MemoryCounters::default()),
            issuing: Arc::default(),
        };
        Ok((authority, keeper))
    }
}

/// The first version of the policy, signed by the house.
fn first(
    signer: &PolicySigner,
    bundle: Bundle,
    now: Timestamp,
) -> Result<BundleRow, Box<dyn Error + Send + Sync>> {
    let tenant = Tenant::default_tenant();
    let statement = Statement {
        tenant: tenant.clone(),
        name: bundle.name(),
        version: 1,
        base: None,
        bundle: bundle.digest(),
        candidate: None,
        restores: None,
        created: now,
        author: None,
        authored: None,
    };
    let (digest, signed) = (statement.bundle, signer.sign(&statement)?);
    Ok(BundleRow { tenant, version: 1, base: 0, digest, files: bundle.files, candidate: None, signed })
}

#[derive(Debug)]
struct Running {
    keeper: Arc<Keeper>,
    clock: Arc<dyn Clock>,
    door: Door,
}

impl House for Running {
    fn identify<'a>(&'a self, _: &'a Presented) -> BoxFuture<'a, Result<Caller, (Caller, ReasonCode)>> {
        Box::pin(async { Err((Caller::anonymous(Tenant::default_tenant()), ReasonCode::CredentialUnknown)) })
    }

    fn prove(&self, proof: &Proof) -> Result<Caller, (Box<Caller>, ReasonCode)> {
        let stale = |reason| (Box::new(Caller::anonymous(proof.tenant.clone())), reason);
        proof.caller(&self.keeper.current().map_err(stale)?.directory, self.clock.now())
    }

    fn view(&self, tenant: &Tenant) -> Result<View, ReasonCode> {
        let world = self.keeper.current()?;
        let part = world.tenants.get(tenant).ok_or(ReasonCode::PolicyMissing)?;
        let (state, policy) = (world.state.clone(), part.policy.clone());
        Ok(View { state, deciding: policy.clone(), policy, in_force: None })
    }

    fn view_for(&self, caller: &Caller) -> Result<View, ReasonCode> {
        self.view(caller.tenant())
    }

    fn decided(&self, _: Decided) {}

    fn trial(&self, _: &Tenant) -> TrialView {
        TrialView::default()
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

    fn proof_nonce(&self) -> Option<String> {
        None
    }

    fn door(&self, _: Action) -> &Door {
        &self.door
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.keeper.reload())
    }

    fn acknowledged(&self, _: u64, _: bool) -> BoxFuture<'_, Acknowledged> {
        Box::pin(std::future::ready(Acknowledged::default()))
    }

    fn probe<'a>(
        &'a self,
        _: IntentRecorded<ModelCall>,
        _: &'a Name,
    ) -> BoxFuture<'a, Result<Probe, ReasonCode>> {
        Box::pin(async { Err(ReasonCode::NotFound) })
    }

    fn tools_offered<'a>(
        &'a self,
        _: &'a Caller,
        _: &'a Name,
        _: &'a dyn ToolAsks,
    ) -> BoxFuture<'a, Result<Vec<Offered>, Stopped>> {
        Box::pin(async { Err(ReasonCode::NotFound.into()) })
    }
}

/// What the house has not.
#[derive(Debug)]
struct Nothing;

impl Archives for Nothing {
    fn keep(&self) -> Option<Duration> {
        None
    }

    fn verify(&self, _: &ClosedLog) -> Result<String, String> {
        Err("nothing is archived".to_owned())
    }
}

impl Couriers for Nothing {
    fn absent_feature(&self, _: &Spec) -> Option<&'static str> {
        None
    }

    fn list(&self, _: &Tenant) -> Vec<DeliveryView> {
        Vec::new()
    }

    fn letters<'a>(&'a self, _: &'a Tenant, _: &'a Name) -> BoxFuture<'a, Result<Vec<LetterView>, Problem>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn retry<'a>(&'a self, _: &'a Tenant, _: &'a Name, _: &'a str) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async { Ok(()) })
    }
}
