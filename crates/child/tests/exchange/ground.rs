//! What intents are recorded on: a real policy, a real key, a real ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bartizan_base::random::SeededRandom;
use bartizan_base::{Clock as _, Digest, Name, Timestamp};
use bartizan_decide::{Bundle, CompiledBundle, Door, Entities, Snapshot, Verdict};
use bartizan_identify::{Caller, Directory, Identified, Identifier, KeyEntry, Presented};
use bartizan_model::action::ToolCall;
use bartizan_model::asset::AssetSpec;
use bartizan_model::directory::{PrincipalSpec, Spec};
use bartizan_model::{
    Action, Ask, AskFacts, DecisionId, Document, EntityRef, KeyId, NodeId, Principal, PrincipalId,
    PrincipalKind, Situation, Target, Tenant,
};
use bartizan_record::{Config, IntentRecorded, RealDisk, Recorder};
use bartizan_rt::SystemClock;
use bartizan_secret::{ApiKey, Secret};
use bartizan_store::MemoryStore;
use bartizan_upstream::Credentials;

/// No credentials.
#[derive(Debug)]
pub(crate) struct Nothing;

impl Credentials for Nothing {
    fn credential(&self, _: &Tenant, _: &Name) -> Option<Secret<String>> {
        None
    }
}

pub(crate) struct Ground {
    _folder: tempfile::TempDir,
    recorder: Recorder,
    snapshot: Snapshot,
    caller: Caller,
    now: Timestamp,
    made: AtomicU8,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let now = clock.now();
        let node = NodeId::from_parts(now, [7; 10]);
        let log = "test.example/log".to_owned();
        let config = Config::new(folder.path().into(), node, log, Secret::new([8; 32]), "test".to_owned());
        let recorder = Recorder::open(config, clock, Arc::new(RealDisk), Arc::new(MemoryStore::default()));
        let policy = r#"@id("all") permit (principal, action == Action::"tool:call", resource);"#;
        let bundle = Bundle { files: [("p.cedar".to_owned(), policy.to_owned())].into() };
        let compiled = CompiledBundle::compile(&bundle).unwrap();
        let entities = Arc::new(Entities::build(&documents(now)).unwrap());
        Self {
            _folder: folder,
            recorder: recorder.await.unwrap(),
            snapshot: Snapshot::new(Some(Arc::new(compiled)), entities),
            caller: alice(now),
            now,
            made: AtomicU8::new(0),
        }
    }

    /// A recorded intent for a target.
    pub(crate) async fn intent(&self, target: Target) -> IntentRecorded<ToolCall> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let id = DecisionId::from_parts(self.now, [number; 10]);
        let tool = EntityRef::new(Name::literal("Tool"), Name::literal("echo"));
        let ask = Ask::<ToolCall>::new(id, Action::ToolCall, tool, AskFacts::default(), Digest::of(b"{}"));
        let decision = self.snapshot.decide(&self.caller, ask, &Situation::at(self.now), &Door::none());
        let Verdict::Permit(permit) = decision.verdict else { panic!("{:?}", decision.verdict) };
        self.recorder.intend(permit, target).await.unwrap()
    }
}

fn id(now: Timestamp) -> PrincipalId {
    PrincipalId::from_parts(now, [1; 10])
}

fn documents(now: Timestamp) -> Vec<Document> {
    let tool = AssetSpec { within: [Name::literal("server")].into(), ..AssetSpec::default() };
    let server = Spec::ToolServer(AssetSpec::default());
    vec![
        Document {
            name: Name::literal("alice"),
            principal: Some(id(now)),
            spec: Spec::User(PrincipalSpec::default()),
        },
        Document { name: Name::literal("server"), principal: None, spec: server },
        Document { name: Name::literal("echo"), principal: None, spec: Spec::Tool(tool) },
    ]
}

fn alice(now: Timestamp) -> Caller {
    let key = ApiKey::generate(&SeededRandom::new(1));
    let entry = KeyEntry {
        id: KeyId::from_parts(now, [1; 10]),
        tenant: Tenant::default_tenant(),
        digest: key.digest(),
        principal: Principal { kind: PrincipalKind::User, name: Name::literal("alice"), id: id(now) },
        scopes: None,
        created: now,
        expires: now.saturating_add(Duration::from_secs(3_600)),
        revoked: None,
    };
    let all = documents(now).into_iter().map(|d| (Tenant::default_tenant(), d));
    let directory = Directory::build(1, all, [entry].into_iter(), std::iter::empty());
    let header = format!("Bearer {}", key.text().expose());
    let presented = Presented::from_headers([header.as_bytes()].into_iter(), std::iter::empty()).unwrap();
    match Identifier::new().identify(&directory, &presented, now) {
        Identified::Caller(caller) => *caller,
        other => panic!("{other:?}"),
    }
}
