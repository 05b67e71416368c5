//! A whole house with an authority: recorder, policy, SQLite, the control listener with the endpoints of OAuth. It writes what the
//! load needs into a file when it is ready, and serves until it is killed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bartizan_api::oauth::{Oauth, Visitors};
use bartizan_api::{Api, Mount};
use bartizan_authority::Authority;
use bartizan_authority::authorize::{Desk, Person};
use bartizan_authority::clients::{
    Authenticated, Bound, Client, Fetch, FetchFailed, Fetched, Registry, Wanted,
};
use bartizan_authority::grants::GiveGrant;
use bartizan_authority::issue::{Issue, Rights, Root};
use bartizan_authority::kept::{Grant, keep};
use bartizan_authority::login::risk::NoSignals;
use bartizan_authority::login::{Login, LoginSettings, Visitor};
use bartizan_authority::metadata::Offered;
use bartizan_authority::oauth::{Form, OauthError, Settings, TokenAnswer};
use bartizan_base::{Clock, Digest, Name, Timestamp};
use bartizan_bench::Error;
use bartizan_control::View;
use bartizan_decide::Bundle;
use bartizan_enforce::Keeper;
use bartizan_gateway::{ServerLimits, serve as listen};
use bartizan_identify::{Caller, Proof, Scopes};
use bartizan_model::{
    Action, Assurance, AssuranceLevel, Binding, CredentialKind, Document, GrantId, GrantType, Principal,
    PrincipalId, PrincipalKind, Risk, Tenant,
};
use bartizan_rt::{SystemClock, SystemRandom, Tasks};
use bartizan_secret::Secret;
use bartizan_store_sqlite::SqliteStore;
use bartizan_testkit::house::Ground;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use serde_json::{Value, json};

const RESOURCE: &str = "https://gateway.example";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const POLICY: &str = "@id(\"own\") permit (principal, action in Action::\"self:use\", resource);\n";

/// What this house has not.
#[derive(Debug)]
struct Nothing;

impl Fetch for Nothing {
    fn fetch<'a>(&'a self, _: Wanted, _: &'a str, _: bool) -> BoxFuture<'a, Result<Fetched, FetchFailed>> {
        Box::pin(async { Err(FetchFailed::Nothing) })
    }
}

impl Visitors for Nothing {
    fn signed_in<'a>(
        &'a self,
        _: &'a HeaderMap,
        _: SocketAddr,
    ) -> BoxFuture<'a, Result<Option<Person>, OauthError>> {
        Box::pin(async { Ok(None) })
    }
}

/// Serves until it is killed. Where `flood` is not 0, that many at a time try passwords all along, as many guessers do: each from
/// a network of its own, under a name of its own, so that no budget stops them.
pub fn serve(
    address: SocketAddr,
    folder: &Path,
    ready: &Path,
    logins: usize,
    flood: usize,
) -> Result<(), Error> {
    // One core is what it gets.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let (authority, keeper) = house(folder).await?;
        let told = seeds(&authority, &keeper, logins).await?;
        let registry = Arc::new(Registry::new(authority.clone(), Arc::new(Nothing)));
        let offered = Offered { grants: GrantType::ALL.iter().copied().collect(), ..Offered::default() };
        let oauth: Arc<dyn Mount> =
            Arc::new(Oauth::new(Arc::new(Desk::new(registry)), Arc::new(Nothing), offered));
        let api = Api::new((*authority.control).clone()).with(vec![oauth]);
        let tasks = Tasks::new();
        let limits = ServerLimits::default();
        let _served = listen("control", address, None, limits, &tasks, move |request, peer| {
            let api = api.clone();
            async move { api.answer(request, peer).await }
        })
        .await?;
        std::fs::write(ready.with_extension("new"), told.to_string())?;
        std::fs::rename(ready.with_extension("new"), ready)?;
        let login = Arc::new(Login::new(authority.clone(), LoginSettings::default(), Arc::new(NoSignals)));
        for guesser in 0..flood {
            tasks.spawn("guesser", guess(login.clone(), u32::try_from(guesser)?, u32::try_from(flood)?));
        }
        let hashes = ready.with_file_name("hashes");
        let mut turns: u64 = 0;
        loop {
            std::fs::write(&hashes, login.hashes().to_string())?;
            keeper.watch().await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            turns += 1;
            if turns.is_multiple_of(5) {
                authority.control.recorder.seal_now().await?;
            }
        }
    })
}

/// Tries one password after another.
async fn guess(login: Arc<Login>, guesser: u32, guessers: u32) {
    for number in 0_u32.. {
        // A network (48 bits) may fail 40 times, so each attempt is made from another one.
        let network = u128::from(number.wrapping_mul(guessers).wrapping_add(guesser));
        let address = std::net::Ipv6Addr::from((0x2001_u128 << 112) | (network << 80));
        let visitor = Visitor::of(&HeaderMap::new(), SocketAddr::new(address.into(), 1));
        let password = Secret::new(format!("a guess that fails {number}"));
        // That it fails is what it is for.
        drop(login.password(&visitor, &format!("nobody-{guesser}-{number}"), &password).await);
    }
}

fn document(value: Value) -> Result<(Tenant, Document), Error> {
    Ok((Tenant::default_tenant(), serde_json::from_value(value)?))
}

fn id(number: u8) -> PrincipalId {
    PrincipalId::from_parts(Timestamp::from_secs(1), [number; 10])
}

fn alice() -> Principal {
    Principal { kind: PrincipalKind::User, name: Name::literal("alice"), id: id(1) }
}

async fn house(folder: &Path) -> Result<(Authority, Arc<Keeper>), Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    std::fs::create_dir_all(folder)?;
    let path = folder.join("state.db");
    let store = Arc::new(tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await??);
    let client = json!({
        "kind": "client",
        "grant_types": GrantType::ALL.iter().map(|grant| grant.name()).collect::<Vec<_>>(),
        "scopes": ["model:invoke", "offline_access"],
        "authentication": {"method": "client_secret", "digests": [Digest::of(SECRET)]},
        "principal": {"kind": "agent", "name": "helper"},
    });
    let agent = json!({"kind": "agent", "owner": "alice", "purpose": "measurements"});
    let ground = Ground {
        store,
        folder: folder.to_owned(),
        clock: clock.clone(),
        lease: clock,
        random: Arc::new(SystemRandom::new()),
        documents: vec![
            document(json!({"name": "alice", "principal": id(1), "spec": {"kind": "user"}}))?,
            document(json!({"name": "helper", "principal": id(2), "spec": agent}))?,
            document(json!({"name": "bench-app", "spec": client}))?,
        ],
        policy: Bundle { files: [("policy.cedar".to_owned(), POLICY.to_owned())].into() },
        segment_bytes: 64 << 20,
    };
    let settings = Settings { resources: [RESOURCE.to_owned()].into(), ..Settings::default() };
    let (authority, keeper) = ground.found("https://auth.example", settings).await?;
    authority.tend_keys().await.map_err(|stopped| stopped.problem.message())?;
    Ok((authority, keeper))
}

/// Logins of alice's, and what she lets the agent do.
async fn seeds(authority: &Authority, keeper: &Keeper, logins: usize) -> Result<Value, Error> {
    let alice = alice();
    let now = authority.control.clock.now();
    let assurance = Assurance { level: AssuranceLevel::Aal2, methods: Vec::new(), at: now, via: None };
    let proof = Proof {
        tenant: Tenant::default_tenant(),
        kind: alice.kind,
        name: alice.name.clone(),
        assurance: assurance.clone(),
        binding: Binding::None,
        device: None,
        risk: Risk::default(),
        actors: Vec::new(),
        client: None,
        credential: CredentialKind::Session,
        scopes: Scopes::All,
        issued: now,
        expires: Timestamp::MAX,
    };
    let caller = authority.control.house.prove(&proof).map_err(|(_, reason)| reason.to_string())?;
    let give = GiveGrant {
        agent: Name::literal("helper"),
        client: None,
        scopes: ["model:invoke".to_owned()].into(),
        resources: [RESOURCE.to_owned()].into(),
        life_s: 24 * 3_600,
        uses_max: None,
    };
    authority.give_grant(&caller, &give).await.map_err(|stopped| stopped.problem.message())?;
    // One consent, as a person gives it to a program once: the next logins rest on it.
    let consent = consent(authority, &caller, &alice, &assurance).await?;
    let mut answers = Vec::new();
    for number in 0..logins {
        if number % 50 == 0 {
            // Nobody else looks at the state yet, and what was not looked at for long is not decided by.
            keeper.watch().await?;
        }
        answers.push(login(authority, &consent).await?);
    }
    let refresh: Vec<_> = answers
        .iter()
        .filter_map(|answer| answer.refresh_token.as_ref())
        .map(|t| t.expose().clone())
        .collect();
    let subject = answers.first().map(|answer| answer.access_token.expose().clone());
    Ok(json!({"path": "/oauth/token", "refresh": refresh, "subject": subject}))
}

/// What alice lets the program do.
async fn consent(
    authority: &Authority,
    caller: &Caller,
    alice: &Principal,
    assurance: &Assurance,
) -> Result<Grant, Error> {
    let tenant = Tenant::default_tenant();
    let now = authority.control.clock.now();
    let grant = Grant {
        id: GrantId::new(now, &*authority.control.random),
        principal: alice.clone(),
        client: "bench-app".to_owned(),
        agent: None,
        scopes: ["model:invoke", "offline_access"].map(str::to_owned).into(),
        resources: [RESOURCE.to_owned()].into(),
        details: Vec::new(),
        session: None,
        assurance: assurance.clone(),
        given: now,
        ends: now.saturating_add(Duration::from_secs(24 * 3_600)),
        uses_max: None,
        uses: 0,
        withdrawn: None,
    };
    let change = keep(&tenant, grant.id.to_string(), &grant)?;
    let work = async |_: &View, _: &Tenant| Ok((vec![change], ()));
    let kept = authority.control.change_with(caller, Action::GrantGive, &grant.id, work).await;
    kept.map_err(|stopped| stopped.problem.message())?;
    Ok(grant)
}

/// A login of hers at the program, as it comes from a code.
async fn login(authority: &Authority, consent: &Grant) -> Result<TokenAnswer, Error> {
    let tenant = Tenant::default_tenant();
    let now = authority.control.clock.now();
    let view = authority.control.house.view(&tenant).map_err(|reason| reason.to_string())?;
    let client = Client::declared(&view.state, &tenant, "bench-app").ok_or("no client")?;
    let client = Authenticated { client, proven: true, bound: Bound::default(), used: Vec::new(), at: now };
    let rights = Rights::root(Root {
        tenant,
        subject: consent.principal.clone(),
        actors: Vec::new(),
        scopes: consent.scopes.clone(),
        resources: consent.resources.clone(),
        details: Vec::new(),
        assurance: consent.assurance.clone(),
        session: None,
        device: None,
        grants: vec![consent.id],
        family: None,
        binding: None,
        since: view.state.revision,
        ends: consent.ends,
    });
    let issue =
        Issue::new(GrantType::AuthorizationCode, &client, rights)?.refreshable().asked(&Form::default())?;
    Ok(authority.issue(issue).await?)
}
