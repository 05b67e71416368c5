//! A small house with the starter policy, in memory, with a clock that is moved by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bartizan_authority::Authority;
use bartizan_authority::login::risk::NoSignals;
use bartizan_authority::login::upstream::Providers;
use bartizan_authority::login::{Cost, Entered, Login, LoginSettings, SetCookie, SignedIn, Visitor};
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
use bartizan_identify::{Caller, Directory, Presented, Proof};
use bartizan_keys::{PolicySigner, Sealer, Statement};
use bartizan_model::action::ModelCall;
use bartizan_model::directory::{PrincipalSpec, Status};
use bartizan_model::{Action, Document, NodeId, PrincipalId, Problem, ReasonCode, Spec, Tenant};
use bartizan_record::{ClosedLog, Config, IntentRecorded, RealDisk, Recorder};
use bartizan_secret::Secret;
use bartizan_store::{
    Acknowledged, BundleRow, ClaimRow, Founding, MemoryStore, Row, RowKind, Rows, State, StoreError,
};
use futures_util::future::BoxFuture;
use http::HeaderMap;

pub(crate) const CHEAP: Cost = Cost { memory_kib: 64, passes: 1 };

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

    fn proof_nonce(&self) -> Option<String> {
        None
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

/// Rows that are counted.
#[derive(Debug)]
struct Counted {
    rows: MemoryStore,
    reads: Arc<AtomicU64>,
}

impl Rows for Counted {
    fn row<'a>(&'a self, kind: RowKind, id: &'a str) -> BoxFuture<'a, Result<Option<Row>, StoreError>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.rows.row(kind, id)
    }

    fn rows_of<'a>(
        &'a self,
        tenant: &'a Tenant,
        kind: RowKind,
        owner: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.rows.rows_of(tenant, kind, owner, after, limit)
    }

    fn rows<'a>(
        &'a self,
        tenant: &'a Tenant,
        kind: RowKind,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.rows.rows(tenant, kind, after, limit)
    }

    fn sweep(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.rows.sweep(now, limit)
    }
}

pub(crate) struct World {
    pub(crate) login: Arc<Login>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) reads: Arc<AtomicU64>,
    pub(crate) store: MemoryStore,
    house: Arc<TestHouse>,
    _folder: tempfile::TempDir,
}

fn person(name: &'static str, n: u8, random: &SeededRandom) -> (Tenant, Document) {
    let roles = if n == 0 { [Name::literal("administrator")].into() } else { Default::default() };
    let spec = Spec::User(PrincipalSpec { roles, ..PrincipalSpec::default() });
    let id = PrincipalId::new(Timestamp::from_micros(1), random);
    (Tenant::default_tenant(), Document { name: Name::literal(name), principal: Some(id), spec })
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(None, Vec::new()).await
    }

    /// With other providers, and what is declared of them.
    pub(crate) async fn with(providers: Option<Arc<dyn Providers>>, more: Vec<Document>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let random = SeededRandom::new(7);
        let clock = Arc::new(ManualClock::at(Timestamp::parse_rfc3339("2026-11-21T12:00:00Z").unwrap()));
        let store = MemoryStore::default();
        let role = Document {
            name: Name::literal("administrator"),
            principal: None,
            spec: Spec::Role(Default::default()),
        };
        let mut documents = vec![(Tenant::default_tenant(), role)];
        documents.extend(["root", "alice", "bob"].iter().zip(0..).map(|(name, n)| person(name, n, &random)));
        documents.extend(more.into_iter().map(|document| (Tenant::default_tenant(), document)));
        let claim = ClaimRow { digest: bartizan_base::Digest::of(b""), expires: Timestamp::MAX };
        let founding = Founding { recovery: (1, Vec::new()), claim, documents, bundle: None };
        bartizan_store::Store::<IntentRecorded<bartizan_model::action::ChangeState>>::found(&store, founding)
            .await
            .unwrap();
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
        let reads = Arc::new(AtomicU64::new(0));
        let authority = Authority {
            control: Arc::new(control),
            rows: Arc::new(Counted { rows: store.clone(), reads: reads.clone() }),
            issuer: super::ISSUER.into(),
            settings: Arc::default(),
            issuing: Arc::default(),
        };
        let settings = LoginSettings { cost: CHEAP, ..LoginSettings::default() };
        let login = Login::new(authority, settings, Arc::new(NoSignals));
        let login = Arc::new(match providers {
            Some(providers) => login.with_providers(providers),
            None => login,
        });
        Self { login, clock, reads, store, house, _folder: folder }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Somebody is let in no more.
    pub(crate) async fn disable(&self, name: &'static str) {
        let root = self.house.prove(&self.root()).unwrap();
        let spec = Spec::User(PrincipalSpec { status: Status::Disabled, ..PrincipalSpec::default() });
        let document = Document { name: Name::literal(name), principal: None, spec };
        self.login.authority.control.apply_documents(&root, &[document]).await.unwrap();
    }

    /// The administrator, as the command line would prove them.
    pub(crate) fn root(&self) -> Proof {
        Proof {
            tenant: Tenant::default_tenant(),
            kind: bartizan_model::PrincipalKind::User,
            name: Name::literal("root"),
            assurance: Default::default(),
            binding: Default::default(),
            device: None,
            risk: Default::default(),
            actors: Vec::new(),
            client: None,
            credential: bartizan_model::CredentialKind::ApiKey,
            scopes: bartizan_identify::Scopes::All,
            issued: self.clock.now(),
            expires: Timestamp::MAX,
        }
    }

    pub(crate) fn caller(&self) -> Caller {
        self.house.prove(&self.root()).unwrap()
    }

    /// Invites somebody and lets them begin to enrol.
    pub(crate) async fn enrolling(&self, browser: &mut Browser, name: &'static str) -> SignedIn {
        let invited = self.login.invite(&self.caller(), &Name::literal(name)).await.unwrap().value;
        let secret = invited.link.expose().rsplit('/').next().unwrap().to_owned();
        let entered = self.login.accept(&browser.visitor(), &secret).await.unwrap();
        browser.take(&entered);
        self.who(browser).await.unwrap()
    }

    pub(crate) async fn who(&self, browser: &Browser) -> Option<SignedIn> {
        self.login.signed_in(&browser.visitor()).await.unwrap()
    }
}

/// A browser: it keeps cookies.
#[derive(Clone, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: std::collections::BTreeMap<String, String>,
    pub(crate) address: Option<&'static str>,
}

impl Browser {
    pub(crate) fn new(login: &Login) -> Self {
        let mut browser = Self::default();
        let (_, cookie) = login.greet(&browser.visitor());
        browser.set(&cookie.unwrap());
        browser
    }

    pub(crate) fn visitor(&self) -> Visitor {
        let mut headers = HeaderMap::new();
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        headers.insert("cookie", pairs.join("; ").parse().unwrap());
        headers.insert("user-agent", "Test/1 (Linux)".parse().unwrap());
        let peer: SocketAddr = format!("{}:1", self.address.unwrap_or("198.51.100.7")).parse().unwrap();
        Visitor::of(&headers, peer)
    }

    pub(crate) fn set(&mut self, cookie: &SetCookie) {
        let header = cookie.header();
        let text = header.to_str().unwrap().split(';').next().unwrap();
        let (name, value) = text.split_once('=').unwrap();
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn take(&mut self, entered: &Entered) {
        entered.cookies.iter().for_each(|cookie| self.set(cookie));
    }
}
