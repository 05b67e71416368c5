//! A small house with the starter policy, in memory, with a clock that is moved by hand, and a provider outside that can be made
//! to misbehave.

use std::sync::Arc;
use std::time::Duration;

use bartizan_authority::Authority;
use bartizan_authority::connections::Connections;
use bartizan_authority::oauth::Settings;
use bartizan_base::random::SeededRandom;
use bartizan_base::time::ManualClock;
use bartizan_base::{Clock as _, Name, Timestamp};
use bartizan_decide::starter_bundle;
use bartizan_enforce::Keeper;
use bartizan_identify::{Actor, Caller, Identifier, Proof, Scopes};
use bartizan_model::{CredentialKind, Document, PrincipalId, PrincipalKind, ReasonCode, Spec, Tenant};
use bartizan_secret::Secret;
use bartizan_store::MemoryStore;
use bartizan_testkit::house::Ground;
use serde_json::{Value, json};

use crate::work::provider::Provider;

pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) connections: Connections,
    pub(crate) provider: Arc<Provider>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: MemoryStore,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) identifier: Identifier,
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
        "resource": crate::work::provider::RESOURCE,
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
        let ground = Ground {
            store: Arc::new(store.clone()),
            folder: folder.path().to_owned(),
            clock: clock.clone(),
            lease: Arc::new(ManualClock::default()),
            random: Arc::new(random),
            documents,
            policy: starter_bundle(),
            segment_bytes: 1 << 20,
        };
        let (authority, keeper) = ground.found("https://house.example", Settings::default()).await.unwrap();
        let provider = Arc::new(Provider::new(clock.clone()));
        let connections = Connections::new(authority.clone(), provider.clone());
        let world = Self {
            authority,
            connections,
            provider,
            clock,
            store,
            keeper,
            identifier: Identifier::new(),
            _folder: folder,
        };
        let secret = Secret::new(crate::work::provider::CLIENT_SECRET.to_owned());
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
        self.authority.control.house.prove(proof).map_err(|(_, reason)| reason)
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
        let mut out = format!("{:?}", self.authority.control.store.load().await.unwrap());
        for kind in RowKind::ALL {
            for row in self.store.rows(&Tenant::default_tenant(), *kind, "", 1_000).await.unwrap() {
                out.push_str(&row.body);
            }
        }
        out
    }
}
