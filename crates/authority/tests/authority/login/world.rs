//! A small house with the starter policy, in memory, with a clock that is moved by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bartizan_authority::login::risk::NoSignals;
use bartizan_authority::login::upstream::Providers;
use bartizan_authority::login::{Cost, Entered, Login, LoginSettings, SetCookie, SignedIn, Visitor};
use bartizan_authority::oauth::Settings;
use bartizan_base::random::SeededRandom;
use bartizan_base::time::ManualClock;
use bartizan_base::{Clock as _, Name, Timestamp};
use bartizan_decide::starter_bundle;
use bartizan_identify::{Caller, Proof};
use bartizan_model::directory::{PrincipalSpec, Status};
use bartizan_model::{Document, PrincipalId, Spec, Tenant};
use bartizan_store::{MemoryStore, Row, RowKind, Rows, StoreError};
use bartizan_testkit::house::Ground;
use futures_util::future::BoxFuture;
use http::HeaderMap;

pub(crate) const CHEAP: Cost = Cost { memory_kib: 64, passes: 1 };

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
        let (mut authority, _) = ground.found(super::ISSUER, Settings::default()).await.unwrap();
        let reads = Arc::new(AtomicU64::new(0));
        authority.rows = Arc::new(Counted { rows: store.clone(), reads: reads.clone() });
        let settings = LoginSettings { cost: CHEAP, ..LoginSettings::default() };
        let login = Login::new(authority, settings, Arc::new(NoSignals));
        let login = Arc::new(match providers {
            Some(providers) => login.with_providers(providers),
            None => login,
        });
        Self { login, clock, reads, store, _folder: folder }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Somebody is let in no more.
    pub(crate) async fn disable(&self, name: &'static str) {
        let spec = Spec::User(PrincipalSpec { status: Status::Disabled, ..PrincipalSpec::default() });
        let document = Document { name: Name::literal(name), principal: None, spec };
        self.login.authority.control.apply_documents(&self.caller(), &[document]).await.unwrap();
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
        self.login.authority.control.house.prove(&self.root()).unwrap()
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
