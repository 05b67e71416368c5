//! A small house with the starter policy, in memory, with a clock that is moved by hand, and a provider outside that can be made
//! to misbehave.

use std::sync::Arc;
use std::time::Duration;

use bartizan_authority::Authority;
use bartizan_authority::connections::Connections;
use bartizan_base::random::SeededRandom;
use bartizan_base::time::ManualClock;
use bartizan_base::{Clock as _, Name, Timestamp};
use bartizan_control::{
    Archive, Archives, ByRight, Control, Couriers, DeliveryView, House, LetterView, NoProver, Probe,
    TrialView, View,
};
use bartizan_decide::{
    Bundle, BundleErrors, CompiledBundle, Decided, Door, Entities, Snapshot, starter_bundle,
};
use bartizan_identify::{Actor, Caller, Directory, Presented, Proof, Scopes};
use bartizan_keys::{PolicySigner, Sealer, Statement};
use bartizan_model::action::{ChangeState, ModelCall};
use bartizan_model::{
    Action, CredentialKind, Document, NodeId, PrincipalId, PrincipalKind, Problem, ReasonCode, Spec, Tenant,
};
use bartizan_record::{ClosedLog, Config, IntentRecorded, RealDisk, Recorder};
use bartizan_secret::Secret;
use bartizan_store::{Acknowledged, BundleRow, ClaimRow, Founding, MemoryStore, State, StoreError};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::provider::Provider;

#[derive(Debug)]
struct TestHouse {
    store: MemoryStore,
    state: std::sync::Mutex<Arc<State>>,
    bundle: Arc<CompiledBundle>,
    clock: Arc<ManualClock>,
}

impl TestHouse {
    async fn load(&self) {
        let state = load(&self.store).await;
        *self.state.lock().unwrap() = Arc::new(state);
    }
}

async fn load(store: &MemoryStore) -> State {
    bartizan_store::Store::<IntentRecorded<bartizan_model::action::ChangeState>>::load(store).await.unwrap()
}

impl House for TestHouse {
    fn identify<'a>(&'a self, _: &'a Presented) -> BoxFuture<'a, Result<Caller, (Caller, ReasonCode)>> {
        Box::pin(async { Err((Caller::anonymous(Tenant::default_tenant()), ReasonCode::CredentialUnknown)) })
    }

    fn prove(&self, proof: &Proof) -> Result<Caller, (Box<Caller>, ReasonCode)> {
        let state = self.state.lock().unwrap().clone();
        let documents = state.documents.iter().map(|(t, d, _)| (t.clone(), d.clone()));
        let epochs = state.epochs.iter().filter(|epoch| epoch.kind == bartizan_store::EpochKind::Principal);
        let epochs = epochs.map(|epoch| bartizan_identify::EpochEntry {
            tenant: epoch.tenant.clone(),
            kind: bartizan_identify::EpochKind::Principal,
            name: epoch.name.clone(),
            not_before: epoch.not_before,
            revision: epoch.revision,
        });
        let directory = Directory::build(state.revision, documents, std::iter::empty(), epochs);
        proof.caller(&directory, self.clock.now())
    }

    fn proof_nonce(&self) -> Option<String> {
        None
    }

    fn view(&self, _: &Tenant) -> Result<View, ReasonCode> {
        let state = self.state.lock().unwrap().clone();
        let documents: Vec<Document> = state.documents.iter().map(|(_, d, _)| d.clone()).collect();
        let entities = Arc::new(Entities::build(&documents).unwrap());
        let policy = Arc::new(Snapshot::new(Some(self.bundle.clone()), entities));
        Ok(View { state, policy: policy.clone(), deciding: policy, in_force: None })
    }

    fn view_for(&self, caller: &Caller) -> Result<View, ReasonCode> {
        self.view(caller.tenant())
    }

    fn decided(&self, _: Decided) {}

    fn trial(&self, _: &Tenant) -> TrialView {
        TrialView::default()
    }

    fn compile(&self, bundle: Bundle) -> BoxFuture<'_, Result<Arc<CompiledBundle>, BundleErrors>> {
        Box::pin(async move { CompiledBundle::compile(&bundle).map(Arc::new) })
    }

    fn signed(&self, _: &BundleRow) -> Result<Statement, ReasonCode> {
        Err(ReasonCode::PolicyUnsigned)
    }

    fn door(&self, _: Action) -> &Door {
        static NONE: std::sync::OnceLock<Door> = std::sync::OnceLock::new();
        NONE.get_or_init(Door::none)
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            self.load().await;
            Ok(())
        })
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
}

#[derive(Debug)]
struct Nothing;

impl Archives for Nothing {
    fn keep(&self) -> Option<Duration> {
        None
    }

    fn verify(&self, _: &ClosedLog) -> Result<String, String> {
        Err("there are none".to_owned())
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

pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) connections: Connections,
    pub(crate) provider: Arc<Provider>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: MemoryStore,
    house: Arc<TestHouse>,
    _folder: tempfile::TempDir,
}

fn document(name: &'static str, spec: Value, random: &SeededRandom) -> (Tenant, Document) {
    let spec: Spec = serde_json::from_value(spec).unwrap();
    let principal = spec.principal_kind().map(|_| PrincipalId::new(Timestamp::from_micros(1), random));
    (Tenant::default_tenant(), Document { name: Name::literal(name), principal, spec })
}

pub(crate) fn provider_spec() -> Value {
    json!({
        "kind": "connection_provider",
        "resource": crate::provider::RESOURCE,
        "client": {"by": "registered", "client_id": "house", "authentication": "client_secret_basic", "credential": "tools"},
        "scopes_max": ["files:read", "files:write", "offline_access"],
    })
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let random = SeededRandom::new(7);
        let clock = Arc::new(ManualClock::at(Timestamp::parse_rfc3339("2026-11-21T12:00:00Z").unwrap()));
        let store = MemoryStore::default();
        let documents = [
            ("administrator", json!({"kind": "role"})),
            ("root", json!({"kind": "user", "roles": ["administrator"]})),
            ("alice", json!({"kind": "user"})),
            ("bob", json!({"kind": "user"})),
            ("helper", json!({"kind": "agent", "owner": "alice", "purpose": "helps"})),
            ("stranger", json!({"kind": "agent", "owner": "bob", "purpose": "helps"})),
            ("payments", json!({"kind": "workload", "owner": "root", "purpose": "pays"})),
            ("tools", provider_spec()),
        ];
        let documents = documents.into_iter().map(|(name, spec)| document(name, spec, &random)).collect();
        let claim = ClaimRow { digest: bartizan_base::Digest::of(b""), expires: Timestamp::MAX };
        let founding = Founding { recovery: (1, Vec::new()), claim, documents, bundle: None };
        bartizan_store::Store::<IntentRecorded<ChangeState>>::found(&store, founding).await.unwrap();
        let config = Config::new(
            folder.path().to_owned(),
            NodeId::new(clock.now(), &random),
            "test.example/log".to_owned(),
            Secret::new([1; 32]),
            "0".to_owned(),
        );
        let config = Config { segment_bytes: 1 << 20, ..config };
        let recorder =
            Recorder::open(config, clock.clone(), Arc::new(RealDisk), Arc::new(store.clone())).await.unwrap();
        let house = Arc::new(TestHouse {
            store: store.clone(),
            state: std::sync::Mutex::default(),
            bundle: Arc::new(CompiledBundle::compile(&starter_bundle()).unwrap()),
            clock: clock.clone(),
        });
        house.load().await;
        let control = Control {
            house: house.clone(),
            bonds: Arc::new(bartizan_authority::Bonds { rows: Arc::new(store.clone()) }),
            store: Arc::new(store.clone()),
            archive: Arc::new(Archive::new(recorder.feed(), folder.path().join("index"), clock.clone())),
            recorder,
            archives: Arc::new(Nothing),
            couriers: Arc::new(Nothing),
            sealer: Arc::new(Sealer::new(Secret::new([2; 32]))),
            vault: None,
            policy_signer: Arc::new(PolicySigner::from_seed(&Secret::new([3; 32])).unwrap()),
            authors: Vec::new().into(),
            approvals: Arc::new(ByRight),
            prover: Arc::new(NoProver),
            slices: None,
            clock: clock.clone(),
            random: Arc::new(random),
        };
        let authority = Authority {
            control: Arc::new(control),
            rows: Arc::new(store.clone()),
            issuer: "https://house.example".into(),
            settings: Arc::default(),
            issuing: Arc::default(),
        };
        let provider = Arc::new(Provider::new(clock.clone()));
        let connections = Connections::new(authority.clone(), provider.clone(), None);
        let world = Self { authority, connections, provider, clock, store, house, _folder: folder };
        let secret = Secret::new(crate::provider::CLIENT_SECRET.to_owned());
        world
            .authority
            .control
            .put_credential(&world.user("root"), &Name::literal("tools"), &secret)
            .await
            .unwrap();
        world
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) async fn declare(&self, name: &'static str, spec: Value) {
        let document = Document {
            name: Name::literal(name),
            principal: None,
            spec: serde_json::from_value(spec).unwrap(),
        };
        self.authority.control.apply_documents(&self.user("root"), &[document]).await.unwrap();
    }

    pub(crate) fn proof(
        &self,
        kind: PrincipalKind,
        name: &'static str,
        agent: Option<&'static str>,
    ) -> Proof {
        let actors = agent.into_iter().map(|name| Actor {
            kind: PrincipalKind::Agent,
            name: Name::literal(name),
            assurance: Default::default(),
            binding: Default::default(),
        });
        Proof {
            tenant: Tenant::default_tenant(),
            kind,
            name: Name::literal(name),
            assurance: Default::default(),
            binding: Default::default(),
            device: None,
            risk: Default::default(),
            actors: actors.collect(),
            client: None,
            credential: CredentialKind::ApiKey,
            scopes: Scopes::All,
            issued: self.clock.now(),
            expires: Timestamp::MAX,
        }
    }

    pub(crate) fn prove(&self, proof: &Proof) -> Result<Caller, ReasonCode> {
        self.house.prove(proof).map_err(|(_, reason)| reason)
    }

    pub(crate) fn user(&self, name: &'static str) -> Caller {
        self.prove(&self.proof(PrincipalKind::User, name, None)).unwrap()
    }

    pub(crate) fn through(&self, name: &'static str, agent: &'static str) -> Caller {
        self.prove(&self.proof(PrincipalKind::User, name, Some(agent))).unwrap()
    }

    /// Everything that is kept, as text.
    pub(crate) async fn kept(&self) -> String {
        use bartizan_store::{RowKind, Rows as _};
        let mut out = format!("{:?}", load(&self.store).await);
        for kind in RowKind::ALL {
            for row in self.store.rows(&Tenant::default_tenant(), *kind, "", 1_000).await.unwrap() {
                out.push_str(&row.body);
            }
        }
        out
    }
}
