//! A house with an authority in it: a real recorder, a real world of policy, and the store that a test chooses.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bartizan_authority::Authority;
use bartizan_authority::clients::{
    Authenticated, Bound, Client, Fetch, FetchFailed, Fetched, Registry, Wanted,
};
use bartizan_authority::issue::{Issue, OpenId, Rights, Root};
use bartizan_authority::kept::{Grant, keep};
use bartizan_authority::oauth::{Form, OauthError, Settings, TokenAnswer};
use bartizan_base::random::SeededRandom;
use bartizan_base::time::ManualClock;
use bartizan_base::{Clock as _, Name, Timestamp};
use bartizan_control::View;
use bartizan_decide::Bundle;
use bartizan_enforce::Keeper;
use bartizan_identify::{Caller, Proof, Scopes};
use bartizan_jose::{AccessClaims, Jkt, Jws};
use bartizan_model::action::ChangeState;
use bartizan_model::{
    Action, Assurance, AssuranceLevel, Binding, CredentialKind, Document, GrantId, GrantType, Principal,
    PrincipalId, PrincipalKind, Risk, Tenant,
};
use bartizan_record::IntentRecorded;
use bartizan_secret::Secret;
use bartizan_store::{Checkpoints, MemoryStore, Nodes, Rows, Store};
use bartizan_store_postgres::PostgresStore;
use bartizan_store_sqlite::SqliteStore;
use bartizan_testkit::house::Ground;
use bartizan_testkit::postgres::Server;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://auth.example";
pub(crate) const GATEWAY: &str = "https://gateway.example";
pub(crate) const TOOLS: &str = "https://tools.example";

const POLICY: &str = r#"
@id("own") permit (principal, action in Action::"self:use", resource);
@id("mallory-gets-nothing") forbid (principal == Agent::"barred", action == Action::"token:issue", resource);
@id("administrators") permit (principal in Role::"administrator", action in [Action::"house:change", Action::"house:read"], resource);
"#;

/// Which state database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kept {
    Memory,
    Sqlite,
    Postgres,
}

/// The server that tests on PostgreSQL share.
static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) registry: Arc<Registry>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) fetch: Arc<Published>,
    /// Goes with the world.
    _folder: tempfile::TempDir,
}

/// What others publish, by address.
#[derive(Debug, Default)]
pub(crate) struct Published(pub(crate) std::sync::Mutex<std::collections::HashMap<String, Value>>);

impl Fetch for Published {
    fn fetch<'a>(&'a self, _: Wanted, url: &'a str, _: bool) -> BoxFuture<'a, Result<Fetched, FetchFailed>> {
        let found = self.0.lock().unwrap().get(url).cloned();
        Box::pin(async move {
            let body = found.ok_or(FetchFailed::Nothing)?;
            Ok(Fetched { body: Bytes::from(body.to_string()), fresh: None })
        })
    }
}

pub(crate) fn id(number: u8) -> PrincipalId {
    PrincipalId::from_parts(Timestamp::from_secs(1), [number; 10])
}

pub(crate) fn somebody(kind: PrincipalKind, name: &'static str, number: u8) -> Principal {
    Principal { kind, name: Name::literal(name), id: id(number) }
}

pub(crate) fn alice() -> Principal {
    somebody(PrincipalKind::User, "alice", 1)
}

fn document(value: Value) -> (Tenant, Document) {
    (Tenant::default_tenant(), serde_json::from_value(value).unwrap())
}

fn documents() -> Vec<(Tenant, Document)> {
    let all = [
        "authorization_code",
        "refresh_token",
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:ietf:params:oauth:grant-type:device_code",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ];
    let scopes = ["model:invoke", "model:list", "tool:call", "openid", "profile", "offline_access"];
    let secret = bartizan_base::Digest::of(b"0123456789abcdef0123456789abcdef");
    let proven = json!({"method": "client_secret", "digests": [secret]});
    let client = |name: &str, extra: Value| {
        let mut spec = json!({"kind": "client", "grant_types": all, "scopes": scopes});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        document(json!({"name": name, "spec": spec}))
    };
    let of = |name: &str, kind: &str, who: &str, mut extra: Value| {
        extra["authentication"] = proven.clone();
        extra["principal"] = json!({"kind": kind, "name": who});
        client(name, extra)
    };
    let agent = |name: &str, number| {
        let spec = json!({"kind": "agent", "owner": "alice", "purpose": "tests"});
        document(json!({"name": name, "principal": id(number), "spec": spec}))
    };
    let workload = |name: &str, number| {
        let spec = json!({"kind": "workload", "owner": "bob", "purpose": "tests"});
        document(json!({"name": name, "principal": id(number), "spec": spec}))
    };
    vec![
        document(json!({"name": "administrator", "spec": {"kind": "role"}})),
        document(json!({"name": "alice", "principal": id(1), "spec": {"kind": "user"}})),
        document(
            json!({"name": "bob", "principal": id(2), "spec": {"kind": "user", "roles": ["administrator"]}}),
        ),
        agent("helper", 3),
        agent("second", 4),
        agent("third", 5),
        agent("fourth", 6),
        agent("fifth", 7),
        agent("barred", 8),
        workload("service", 9),
        workload("deployer", 10),
        client("cli", json!({"scopes": scopes})),
        client("web", json!({"authentication": proven})),
        of("helper-app", "agent", "helper", json!({})),
        of("second-app", "agent", "second", json!({})),
        of("third-app", "agent", "third", json!({})),
        of("fourth-app", "agent", "fourth", json!({})),
        of("fifth-app", "agent", "fifth", json!({})),
        of("barred-app", "agent", "barred", json!({})),
        of("service-app", "workload", "service", json!({"serves": [TOOLS]})),
        of("bound-app", "workload", "service", json!({"bound_tokens": true})),
    ]
}

async fn founded<S>(
    store: Arc<S>,
    folder: &tempfile::TempDir,
    clock: &Arc<ManualClock>,
) -> (Authority, Arc<Keeper>)
where
    S: Store<IntentRecorded<ChangeState>> + Rows + Nodes + Checkpoints + 'static,
{
    let ground = Ground {
        store,
        folder: folder.path().to_owned(),
        clock: clock.clone(),
        lease: clock.clone(),
        random: Arc::new(SeededRandom::new(7)),
        documents: documents(),
        policy: Bundle { files: [("policy.cedar".to_owned(), POLICY.to_owned())].into() },
        segment_bytes: 1 << 20,
    };
    let resources = [GATEWAY, TOOLS].map(str::to_owned).into();
    ground.found(ISSUER, Settings { resources, ..Settings::default() }).await.unwrap()
}

impl World {
    pub(crate) async fn new(kept: Kept) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_795_000_000)));
        let (authority, keeper) = match kept {
            Kept::Memory => founded(Arc::new(MemoryStore::new()), &folder, &clock).await,
            Kept::Sqlite => {
                let path = folder.path().join("state.db");
                let store = tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await.unwrap();
                founded(Arc::new(store.unwrap()), &folder, &clock).await
            }
            Kept::Postgres => {
                let url = tokio::task::spawn_blocking(|| SERVER.create_schema()).await.unwrap();
                let store = PostgresStore::open(&Secret::new(url)).await.unwrap();
                founded(Arc::new(store), &folder, &clock).await
            }
        };
        authority.tend_keys().await.unwrap();
        let fetch = Arc::new(Published::default());
        let registry = Arc::new(Registry::new(authority.clone(), fetch.clone()));
        Self { authority, registry, keeper, clock, fetch, _folder: folder }
    }

    /// Time passes, and the state database is heard of meanwhile.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.keeper.watch().await.unwrap();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn view(&self) -> View {
        self.authority.control.house.view(&Tenant::default_tenant()).unwrap()
    }

    /// A client as it comes, with the key of that number.
    pub(crate) fn client(&self, name: &str, key: Option<u8>) -> Authenticated {
        let client = Client::declared(&self.view().state, &Tenant::default_tenant(), name).unwrap();
        let key = key.map(|number| Jkt::from_digest(bartizan_base::Digest::of(&[number])));
        Authenticated {
            proven: !client.is_public(),
            client,
            bound: Bound { key, certificate: None },
            used: Vec::new(),
            at: self.now(),
        }
    }

    /// Somebody who is signed in.
    pub(crate) fn person(&self, who: &Principal) -> Caller {
        let proof = Proof {
            tenant: Tenant::default_tenant(),
            kind: who.kind,
            name: who.name.clone(),
            assurance: self.login(),
            binding: Binding::None,
            device: None,
            risk: Risk::default(),
            actors: Vec::new(),
            client: None,
            credential: CredentialKind::Session,
            scopes: Scopes::All,
            issued: self.now(),
            expires: Timestamp::MAX,
        };
        self.authority.control.house.prove(&proof).unwrap()
    }

    pub(crate) fn login(&self) -> Assurance {
        Assurance {
            level: AssuranceLevel::Aal2,
            methods: vec![Name::literal("otp"), Name::literal("pwd")],
            at: Timestamp::from_secs(1_794_999_000),
            via: None,
        }
    }

    /// What alice allows a client: everything that it may have, everywhere.
    pub(crate) async fn consent(&self, client: &str, uses_max: Option<u64>) -> Grant {
        let grant = Grant {
            id: GrantId::new(self.now(), &*self.authority.control.random),
            principal: alice(),
            client: client.to_owned(),
            agent: None,
            scopes: ["model:invoke", "model:list", "tool:call", "openid", "profile", "offline_access"]
                .map(str::to_owned)
                .into(),
            resources: [GATEWAY, TOOLS].map(str::to_owned).into(),
            details: Vec::new(),
            session: None,
            assurance: self.login(),
            given: self.now(),
            ends: self.now().saturating_add(Duration::from_secs(60 * 24 * 3_600)),
            uses_max,
            uses: 0,
            withdrawn: None,
        };
        let change = keep(&Tenant::default_tenant(), grant.id.to_string(), &grant).unwrap();
        let work = async |_: &View, _: &Tenant| Ok((vec![change], ()));
        let caller = self.person(&alice());
        self.authority.control.change_with(&caller, Action::GrantGive, &grant.id, work).await.unwrap();
        grant
    }

    /// What comes of `grant` when it was just given.
    pub(crate) fn rights(&self, grant: &Grant) -> Rights {
        Rights::root(Root {
            tenant: Tenant::default_tenant(),
            subject: grant.principal.clone(),
            actors: Vec::new(),
            scopes: grant.scopes.clone(),
            resources: grant.resources.clone(),
            details: grant.details.clone(),
            assurance: grant.assurance.clone(),
            session: grant.session,
            device: None,
            grants: vec![grant.id],
            family: None,
            binding: None,
            since: self.view().state.revision,
            ends: grant.ends,
        })
    }

    /// A login of `client`: an access token for `resource` and a refresh token.
    pub(crate) async fn log_in(&self, client: &Authenticated, grant: &Grant, resource: &str) -> TokenAnswer {
        let rights = self.rights(grant);
        let issue = Issue::new(GrantType::AuthorizationCode, client, rights).unwrap();
        let openid = OpenId { nonce: Some("n-1".to_owned()), ..OpenId::default() };
        let issue = issue.openid(openid).refreshable().asked(&form(&[("resource", resource)])).unwrap();
        self.authority.issue(issue).await.unwrap()
    }

    /// A login of the client `web` for `resource`.
    pub(crate) async fn token(&self, resource: &str) -> String {
        let grant = self.consent("web", None).await;
        let answer = self.log_in(&self.client("web", None), &grant, resource).await;
        answer.access_token.expose().clone()
    }

    /// Whether a token is alive, as the service that it is for sees it.
    pub(crate) async fn is_active(&self, token: &str) -> bool {
        let told = self.introspect("service-app", token).await;
        told.get("active") == Some(&Value::Bool(true))
    }

    pub(crate) async fn introspect(&self, client: &str, token: &str) -> serde_json::Map<String, Value> {
        let client = self.client(client, None);
        self.authority.introspect(&client, &form(&[("token", token)])).await.unwrap()
    }
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> Form {
    Form::of(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).unwrap()
}

/// What a token says, believed.
pub(crate) fn claims(token: &str) -> AccessClaims {
    AccessClaims::parse(Jws::parse(token).unwrap().unverified_payload()).unwrap()
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, OauthError>) -> &'static str {
    result.unwrap_err().code.name()
}
