//! The authorization endpoint and codes, over real HTTP, as an enemy would try them. Numbers are those of the catalogue of attacks.
#![expect(clippy::indexing_slicing, reason = "what the tests share may fail like a test")]

use std::collections::BTreeMap;

use bartizan_authority::kept::{Reach, Session};
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_jose::testing::ForeignKey;
use bartizan_model::{Assurance, AssuranceLevel, Principal, PrincipalKind, Risk, SessionId};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;

const ISSUER: &str = "https://id.example";
const AT: &str = "https://ai.example";
const CALLBACK: &str = "https://app.example/cb";
const SECRET: &str = "a secret of more than thirty-two characters";
/// RFC 7636, Appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub(crate) type Pairs<'a> = &'a [(&'a str, &'a str)];

/// An answer: status, headers in lower case, body.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Told {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn location(&self) -> &str {
        self.header("location").unwrap_or_else(|| panic!("no location: {self:?}"))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The parameters that the answer sends back to the client.
    fn back(&self) -> BTreeMap<String, String> {
        read_query(self.location().split_once('?').unwrap().1)
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or("none").to_owned()
    }
}

fn read_query(query: &str) -> BTreeMap<String, String> {
    let form = bartizan_authority::oauth::Form::parse(query.as_bytes()).unwrap();
    form.pairs().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn query(pairs: Pairs<'_>) -> String {
    let mut out = Vec::new();
    for (name, value) in pairs {
        let form = bartizan_authority::oauth::Form::of([((*name).to_owned(), (*value).to_owned())]).unwrap();
        out.push(form.to_query());
    }
    out.join("&")
}

/// A house with an authority, a browser in which alice is signed in, and client programs.
pub(crate) struct Scene {
    pub(crate) house: House,
    issuer: String,
    base: String,
    agent: ureq::Agent,
    cookie: String,
}

impl Scene {
    async fn new() -> Self {
        let settings = [
            ("authority.resources", format!("{AT},https://b.example")),
            ("authority.registration", "true".to_owned()),
        ];
        Self::at(ISSUER, "alice", &settings).await
    }

    /// The same at `issuer`, with `who` signed in.
    pub(crate) async fn at(issuer: &str, who: &'static str, more: &[(&'static str, String)]) -> Self {
        let settings = [&[("authority.issuer", issuer.to_owned())], more].concat();
        let house = House::with(&settings).await;
        let base = format!("http://{}", house.node.control);
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build();
        let scopes = json!(["openid", "profile", "offline_access", "model:use", "model:invoke"]);
        let client = |name: &str, more: Value| {
            let mut spec = json!({"kind": "client", "redirect_uris": [CALLBACK], "scopes": scopes});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"name": name, "spec": spec})
        };
        let secret = json!({"method": "client_secret", "digests": [Digest::of(SECRET.as_bytes())]});
        let documents = json!([
            client("app", json!({"post_logout_redirect_uris": ["https://app.example/out"]})),
            client("native", json!({"redirect_uris": ["http://127.0.0.1/cb"]})),
            client("web", json!({"authentication": secret})),
            client("tight", json!({"bound_tokens": true})),
            client("pushing", json!({"pushed_requests": true})),
            client("narrow", json!({"resources": [AT], "scopes": ["openid"]})),
            {"name": "mail", "spec": {"kind": "tool"}},
        ]);
        let admin = house.admin.clone();
        blocking(move || admin.call("POST", "/api/v1/resources", Some(&documents)).unwrap()).await;
        let issuer = issuer.to_owned();
        let mut scene = Self { house, issuer, base, agent: config.into(), cookie: String::new() };
        scene.cookie = scene.sign_in(who, AssuranceLevel::Aal1).await;
        scene
    }

    /// A session as a login would begin it: its row, written where the house keeps it, and its cookie.
    pub(crate) async fn sign_in(&self, name: &'static str, level: AssuranceLevel) -> String {
        let admin = self.house.admin.clone();
        let users = blocking(move || admin.call("GET", "/api/v1/resources/user", None).unwrap()).await;
        let users = users.as_array().or_else(|| users["items"].as_array()).unwrap().clone();
        let found = users.iter().map(|u| u.get("document").unwrap_or(u)).find(|u| u["name"] == name).unwrap();
        let principal = Principal {
            kind: PrincipalKind::User,
            name: Name::literal(name),
            id: found["principal"].as_str().unwrap().parse().unwrap(),
        };
        let now = Timestamp::from_micros(
            u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap(),
        );
        let mut secret = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut secret).unwrap();
        let id = SessionId::from_parts(now, *secret.first_chunk().unwrap());
        let until = now.saturating_add(Duration::from_secs(3_600));
        let session = Session {
            id,
            secret: Digest::of(&secret),
            principal: principal.clone(),
            assurance: Assurance { level, methods: vec![Name::literal("pwd")], at: now, via: None },
            began: now,
            ends: until,
            idle_ends: until,
            agent: "test".to_owned(),
            network: "127.0.0.0/24".to_owned(),
            device: None,
            risk: Risk::default(),
            reach: Reach::Full,
        };
        let body = serde_json::to_string(&session).unwrap();
        let (path, owner) = (self.house.folder.path().join("state.db"), principal.id.to_string());
        blocking(move || {
            let state = rusqlite::Connection::open(path).unwrap();
            state.busy_timeout(Duration::from_secs(10)).unwrap();
            state
                .execute(
                    "insert into side_rows (kind, id, tenant, owner, expires_us, version, body) \
                     values ('session', ?1, 'default', ?2, ?3, 1, ?4)",
                    (id.to_string(), owner, until.as_micros() as i64, body),
                )
                .unwrap();
        })
        .await;
        format!("__Host-bartizan-session={id}.{}", URL_SAFE_NO_PAD.encode(secret))
    }

    pub(crate) async fn call(&self, method: &str, path: &str, headers: Pairs<'_>, body: String) -> Told {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let agent = self.agent.clone();
        blocking(move || {
            let mut answer = agent.run(request).unwrap();
            let headers = answer.headers().iter();
            let headers = headers.map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
            Told {
                status: answer.status().as_u16(),
                headers,
                body: answer.body_mut().read_to_string().unwrap(),
            }
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Told {
        self.call("GET", path, &[("cookie", &self.cookie)], String::new()).await
    }

    async fn post(&self, path: &str, pairs: Pairs<'_>, headers: Pairs<'_>) -> Told {
        let all: Vec<_> =
            [("content-type", "application/x-www-form-urlencoded")].iter().chain(headers).copied().collect();
        self.call("POST", path, &all, query(pairs)).await
    }

    /// An authorization request of `client`, changed: a value replaces the one that is there, an empty one removes it.
    async fn ask(&self, client: &str, change: Pairs<'_>) -> Told {
        self.get(&format!("/oauth/authorize?{}", asking(client, change))).await
    }

    /// Answers the page that a request led to.
    pub(crate) async fn answer(&self, asked: &Told, word: &str) -> Told {
        let page = self.get(asked.location()).await;
        assert_eq!(page.status, 200, "{page:?}");
        self.answer_page(&page, word, &self.cookie).await
    }

    async fn answer_page(&self, page: &Told, word: &str, session: &str) -> Told {
        let told = self.submit("/consent", page, ("answer", word), session).await;
        // The page that follows leads to the client.
        let Some((_, rest)) =
            told.body.split_once("href=\"https://app.example").or(told.body.split_once("href=\"http://127"))
        else {
            return told;
        };
        let start = if told.body.contains("href=\"https://app.example") {
            "https://app.example"
        } else {
            "http://127"
        };
        let address =
            format!("{start}{}", rest.split_once('"').unwrap().0).replace("&amp;", "&").replace("&#38;", "&");
        Told { headers: vec![("location".to_owned(), address)], ..told }
    }

    /// Sends the form of a page, in the browser of this scene.
    pub(crate) async fn send(&self, path: &str, page: &Told, more: (&str, &str)) -> Told {
        self.submit(path, page, more, &self.cookie).await
    }

    pub(crate) async fn submit(&self, path: &str, page: &Told, more: (&str, &str), session: &str) -> Told {
        let mut pairs: Vec<(String, String)> = page
            .body
            .split("<input ")
            .skip(1)
            .filter_map(|input| {
                let part = |name: &str| {
                    Some(input.split_once(&format!("{name}=\""))?.1.split_once('"')?.0.to_owned())
                };
                Some((part("name")?, part("value")?))
            })
            .collect();
        pairs.retain(|(name, _)| name != more.0);
        pairs.push((more.0.to_owned(), more.1.to_owned()));
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let visit = page.header("set-cookie").and_then(|c| c.split(';').next()).unwrap_or_default();
        let cookie = format!("{session}; {visit}");
        let mut told = self.post(path, &pairs, &[("cookie", &cookie), ("origin", &self.issuer)]).await;
        // The browser keeps it for the page after this one.
        if told.header("set-cookie").is_none() {
            told.headers.push(("set-cookie".to_owned(), visit.to_owned()));
        }
        told
    }

    /// A code for `client`.
    async fn code(&self, client: &str, change: Pairs<'_>) -> String {
        let asked = self.ask(client, change).await;
        let told =
            if asked.location().starts_with("/consent") { self.answer(&asked, "allow").await } else { asked };
        told.back().remove("code").unwrap_or_else(|| panic!("no code: {told:?}"))
    }

    async fn redeem(&self, client: &str, code: &str, change: Pairs<'_>) -> Told {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        self.post("/oauth/token", &changed(&pairs, change), &[]).await
    }

    async fn userinfo(&self, token: &str) -> Told {
        let bearer = format!("Bearer {token}");
        self.call("GET", "/oauth/userinfo", &[("authorization", &bearer)], String::new()).await
    }
}

fn changed<'a>(pairs: Pairs<'a>, change: Pairs<'a>) -> Vec<(&'a str, &'a str)> {
    let mut out: Vec<_> =
        pairs.iter().filter(|(n, _)| !change.iter().any(|(c, _)| c == n)).copied().collect();
    out.extend(change.iter().filter(|(_, value)| !value.is_empty()));
    out
}

fn asking(client: &str, change: Pairs<'_>) -> String {
    let pairs = [
        ("client_id", client),
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid model:invoke"),
        ("state", "a state"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    query(&changed(&pairs, change))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_becomes_tokens_and_the_ledger_tells_of_it() {
    let scene = Scene::new().await;
    let asked = scene.ask("app", &[("nonce", "n-1")]).await;
    assert_eq!(asked.status, 303, "{asked:?}");
    let back = scene.answer(&asked, "allow").await.back();
    assert_eq!((back["state"].as_str(), back["iss"].as_str()), ("a state", ISSUER));
    let told = scene.redeem("app", &back["code"], &[]).await;
    assert_eq!((told.status, told.header("cache-control")), (200, Some("no-store")), "{told:?}");
    let tokens = told.json();
    assert_eq!((&tokens["token_type"], &tokens["scope"]), (&json!("Bearer"), &json!("model:invoke openid")));
    let claims = |token: &Value| -> Value {
        let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    };
    let (access, id) = (claims(&tokens["access_token"]), claims(&tokens["id_token"]));
    assert_eq!(
        (&access["iss"], &access["aud"], &access["client_id"]),
        (&json!(ISSUER), &json!(AT), &json!("app"))
    );
    assert_eq!((&id["aud"], &id["nonce"], &id["acr"]), (&json!("app"), &json!("n-1"), &json!("aal1")));
    assert_eq!(access["sub"], id["sub"]);
    let about = scene.userinfo(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!((about.status, &about.json()["sub"]), (200, &id["sub"]), "{about:?}");
    // Consent and token are both in the ledger, under the person's pseudonym.
    let admin = scene.house.admin.clone();
    let decisions =
        blocking(move || admin.call("GET", "/api/v1/decisions?limit=50", None).unwrap()).await.to_string();
    for action in ["grant:give", "token:issue"] {
        assert!(decisions.contains(action), "{action}: {decisions}");
    }
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_01_02_07_an_answer_is_never_sent_to_an_address_that_is_not_registered() {
    let scene = Scene::new().await;
    for redirect in [
        "https://app.example/cb/",
        "https://app.example/cb/../x",
        "https://app.example/%63b",
        "https://app.example/cb?x=1",
        "https://app.example/cb#x",
        "https://app.example.evil.example/cb",
        "https://app.example@evil.example/cb",
        "https://APP.example/cb",
        "https://app.example:443/cb",
        "http://app.example/cb",
        "//evil.example/cb",
        "javascript:alert(1)",
    ] {
        // Whatever else is wrong with the request, and whoever is signed in.
        for change in
            [&[][..], &[("response_type", "token")], &[("scope", "nonsense")], &[("code_challenge", "")]]
        {
            let change: Vec<_> = change.iter().chain(&[("redirect_uri", redirect)]).copied().collect();
            let told = scene.ask("app", &change).await;
            assert_eq!((told.status, told.header("location")), (400, None), "{redirect} {change:?}");
            assert!(!told.body.contains("evil"), "{}", told.body);
        }
    }
    let free = scene.ask("native", &[("redirect_uri", "http://127.0.0.1:4711/cb")]).await;
    assert!(free.location().starts_with("/consent"), "{free:?}");
    for unknown in ["nobody", "alice", "https://evil.example/client", "<script>alert(1)</script>"] {
        let told = scene.ask(unknown, &[("redirect_uri", "https://evil.example/")]).await;
        assert_eq!((told.status, told.header("location")), (400, None), "{unknown}");
        assert!(!told.body.contains("<script>"));
        assert!(told.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    }
    for twice in [
        "client_id=app",
        "state=x",
        "redirect_uri=https%3A%2F%2Fevil.example",
        "scope=openid",
        "code_challenge=x",
    ] {
        let told = scene.get(&format!("/oauth/authorize?{}&{twice}", asking("app", &[]))).await;
        assert_eq!((told.status, told.header("location")), (400, None), "{twice}");
    }
    let twice = [("grant_type", "authorization_code"), ("code", "a"), ("code", "b"), ("client_id", "app")];
    let told = scene.post("/oauth/token", &twice, &[]).await;
    assert_eq!((told.status, told.error().as_str()), (400, "invalid_request"));
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_03_and_attack_05_what_is_wrong_with_a_request_is_told_with_the_issuer_and_no_code() {
    let scene = Scene::new().await;
    for (change, error) in [
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge", &"a".repeat(44)), "invalid_request"),
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", "code id_token"), "unsupported_response_type"),
        (("response_mode", "fragment"), "invalid_request"),
        (("request", "eyJhbGciOiJub25lIn0.e30."), "request_not_supported"),
        (("scope", "openid key:create"), "invalid_scope"),
        (("scope", "nonsense"), "invalid_scope"),
        (("prompt", "none login"), "invalid_request"),
        (("prompt", "none"), "consent_required"),
        (("max_age", "-1"), "invalid_request"),
        (("dpop_jkt", "x"), "invalid_request"),
        (
            ("authorization_details", r#"[{"type":"bartizan_tool","tool":"absent"}]"#),
            "invalid_authorization_details",
        ),
        (("authorization_details", "{"), "invalid_authorization_details"),
    ] {
        let told = scene.ask("app", &[change]).await;
        assert!(told.location().starts_with(CALLBACK), "{change:?}: {told:?}");
        let back = told.back();
        let (issuer, state) = (back["iss"].as_str(), back["state"].as_str());
        assert_eq!((back["error"].as_str(), issuer, state), (error, ISSUER, "a state"), "{change:?}");
        assert!(!back.contains_key("code"));
    }
    let told = scene.ask("pushing", &[]).await;
    assert_eq!(told.back()["error"], "invalid_request");
    // A code is nothing without its verifier.
    for (verifier, error) in [
        ("", "invalid_request"),
        ("short", "invalid_grant"),
        (CHALLENGE, "invalid_grant"),
        (&"a".repeat(43), "invalid_grant"),
    ] {
        let code = scene.code("app", &[]).await;
        let told = scene.redeem("app", &code, &[("code_verifier", verifier)]).await;
        assert_eq!((told.status, told.error().as_str()), (400, error), "{verifier}");
    }
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_06_a_resource_that_is_unknown_vague_or_anothers_is_no_target() {
    let scene = Scene::new().await;
    for resource in [
        "https://other.example",
        "https://ai.example/x",
        "https://ai.example#x",
        "https://ai.example?x",
        "https://*.example",
        "*",
        "http://ai.example",
        "https://ai.example@other.example",
    ] {
        let back = scene.ask("app", &[("resource", resource)]).await.back();
        let (issuer, state) = (back["iss"].as_str(), back["state"].as_str());
        assert_eq!(
            (back["error"].as_str(), issuer, state),
            ("invalid_target", ISSUER, "a state"),
            "{resource}"
        );
        assert!(!back.contains_key("code"));
    }
    // What a client may not have, it is not given either.
    let told = scene.ask("narrow", &[("scope", "openid"), ("resource", "https://b.example")]).await;
    assert_eq!(told.back()["error"], "invalid_target");
    // At the token endpoint a resource only narrows.
    let code = scene.code("app", &[("resource", AT)]).await;
    let told = scene.redeem("app", &code, &[("resource", "https://b.example")]).await;
    assert_eq!(told.error(), "invalid_target", "{told:?}");
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_10_questions_do_not_pile_up_and_who_was_refused_is_refused_for_the_person() {
    use bartizan_authority::authorize::fatigue::{REFUSED_MAX, WAITING_MAX, WAITING_OF_CLIENT_MAX};
    let mut scene = Scene::new().await;
    for _ in 0..REFUSED_MAX {
        let asked = scene.ask("app", &[]).await;
        assert_eq!(scene.answer(&asked, "deny").await.back()["error"], "access_denied");
    }
    let back = scene.ask("app", &[]).await.back();
    assert_eq!((back["error"].as_str(), back["iss"].as_str()), ("access_denied", ISSUER), "nobody was asked");
    // Another client asks until too much waits, of it and of all.
    let native = [("redirect_uri", "http://127.0.0.1/cb")];
    let mut waiting = 0;
    for (client, change) in [("web", &[][..]), ("tight", &[]), ("native", &native)] {
        for _ in 0..WAITING_OF_CLIENT_MAX {
            let asked = scene.ask(client, change).await;
            assert!(asked.location().starts_with("/consent"), "{client}: {asked:?}");
            waiting += 1;
        }
        assert_eq!(scene.ask(client, change).await.back()["error"], "temporarily_unavailable", "{client}");
    }
    assert_eq!(waiting, WAITING_MAX);
    let narrow = [("scope", "openid"), ("resource", AT)];
    assert_eq!(scene.ask("narrow", &narrow).await.back()["error"], "temporarily_unavailable");
    // Neither another browser of hers helps, nor does it touch anybody else.
    scene.cookie = scene.sign_in("alice", AssuranceLevel::Aal1).await;
    assert_eq!(scene.ask("narrow", &narrow).await.back()["error"], "temporarily_unavailable");
    assert_eq!(scene.ask("app", &[]).await.back()["error"], "access_denied");
    scene.cookie = scene.sign_in("ada", AssuranceLevel::Aal1).await;
    assert!(scene.ask("app", &[]).await.location().starts_with("/consent"));
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_04_a_code_is_redeemed_once_by_its_own_client_and_what_came_of_it_dies_when_it_comes_again() {
    let scene = Scene::new().await;
    let code = scene.code("app", &[("scope", "openid offline_access")]).await;
    // Somebody else's client, another address: nothing, and the code is not used up.
    assert_eq!(scene.redeem("native", &code, &[]).await.error(), "invalid_grant");
    assert_eq!(
        scene.redeem("app", &code, &[("redirect_uri", "https://app.example/x")]).await.error(),
        "invalid_grant"
    );
    let told = scene.redeem("app", &code, &[]).await;
    assert_eq!(told.status, 200, "{told:?}");
    let (access, refresh) = (told.json()["access_token"].clone(), told.json()["refresh_token"].clone());
    let (access, refresh) = (access.as_str().unwrap(), refresh.as_str().unwrap());
    assert_eq!(scene.userinfo(access).await.status, 200);
    assert_eq!(scene.redeem("app", &code, &[]).await.error(), "invalid_grant");
    let dead = scene.userinfo(access).await;
    assert_eq!((dead.status, dead.error().as_str()), (401, "invalid_token"), "{dead:?}");
    let pairs = [("grant_type", "refresh_token"), ("client_id", "app"), ("refresh_token", refresh)];
    assert_eq!(scene.post("/oauth/token", &pairs, &[]).await.error(), "invalid_grant");
    // Many at once: one of them at most.
    let code = scene.code("app", &[]).await;
    let all = futures_util::future::join_all((0..8).map(|_| scene.redeem("app", &code, &[]))).await;
    assert!(all.iter().filter(|told| told.status == 200).count() <= 1, "{all:?}");
    // A made-up one, and one whose session has ended.
    assert_eq!(scene.redeem("app", &"A".repeat(43), &[]).await.error(), "invalid_grant");
    let code = scene.code("app", &[]).await;
    let path = scene.house.folder.path().join("state.db");
    blocking(move || {
        let state = rusqlite::Connection::open(path).unwrap();
        state.busy_timeout(Duration::from_secs(10)).unwrap();
        state.execute("delete from side_rows where kind = 'session'", ()).unwrap();
    })
    .await;
    assert_eq!(scene.redeem("app", &code, &[]).await.error(), "invalid_grant");
    scene.house.stop().await;
}

fn proof(key: &ForeignKey, path: &str, nonce: Option<&str>, number: u32) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut jwk = key.public_jwk();
    jwk.as_object_mut().unwrap().retain(|name, _| ["kty", "crv", "x", "y"].contains(&name.as_str()));
    let header = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk});
    let mut claims = json!({"jti": format!("proof-{number}"), "htm": "POST", "htu": format!("{ISSUER}{path}"), "iat": now});
    if let Some(nonce) = nonce {
        claims["nonce"] = nonce.into();
    }
    key.sign_with(&header, &claims).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_04_a_code_that_is_bound_to_a_key_is_redeemed_with_that_key_alone() {
    let scene = Scene::new().await;
    let (own, other) = (ForeignKey::p256("own").unwrap(), ForeignKey::p256("other").unwrap());
    let redeem = async |code: &str, key: &ForeignKey, nonce: Option<&str>, number: u32| {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        scene.post("/oauth/token", &pairs, &[("dpop", &proof(key, "/oauth/token", nonce, number))]).await
    };
    // A pushed request binds the code to the key of its proof.
    let push = async |nonce: Option<&str>, number: u32| {
        let body = asking("app", &[]);
        let proof = proof(&own, "/oauth/par", nonce, number);
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("dpop", proof.as_str())];
        scene.call("POST", "/oauth/par", &headers, body).await
    };
    let first = push(None, 1).await;
    assert_eq!((first.status, first.error().as_str()), (400, "use_dpop_nonce"), "{first:?}");
    let nonce = first.header("dpop-nonce").unwrap().to_owned();
    let pushed = push(Some(&nonce), 2).await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
    assert_eq!(push(Some(&nonce), 2).await.error(), "invalid_dpop_proof", "a proof is taken once");
    let name = pushed.json()["request_uri"].as_str().unwrap().to_owned();
    let at = |client: &str| {
        format!("/oauth/authorize?{}", query(&[("client_id", client), ("request_uri", &name)]))
    };
    // Another client cannot come with it, nor can what stands beside it change anything.
    assert_eq!(scene.get(&at("native")).await.status, 400);
    let asked = scene.get(&format!("{}&scope=openid&state=other", at("app"))).await;
    let back = scene.answer(&asked, "allow").await.back();
    assert_eq!(back["state"], "a state");
    let again = scene.get(&at("app")).await;
    assert!(!again.location().starts_with("/consent"), "a request is answered once: {again:?}");
    let code = &back["code"];
    let told = redeem(code, &other, Some(&nonce), 3).await;
    assert_eq!(told.error(), "invalid_grant", "{told:?}");
    let told = scene.redeem("app", code, &[]).await;
    assert_eq!(told.status, 400, "without a proof: {told:?}");
    let told = redeem(code, &own, Some(&nonce), 4).await;
    assert_eq!((told.status, told.json()["token_type"].as_str()), (200, Some("DPoP")), "{told:?}");
    // Bound, it is nothing as a bearer token.
    let token = told.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(scene.userinfo(&token).await.status, 401);
    // A client whose tokens must be bound gets none that are not.
    let code = scene.code("tight", &[]).await;
    assert_eq!(scene.redeem("tight", &code, &[]).await.status, 400);
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_08_09_12_consent_is_given_on_its_own_page_in_its_own_session_and_never_skipped_for_the_unproven()
 {
    let scene = Scene::new().await;
    let asked = scene.ask("native", &[("redirect_uri", "http://127.0.0.1:4711/cb")]).await;
    let page = scene.get(asked.location()).await;
    assert!(page.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"), "{page:?}");
    assert!(page.body.contains("127.0.0.1:4711") && page.body.contains("Take care"), "{}", page.body);
    // Another session, also of the same person, neither sees nor answers it.
    let other = scene.sign_in("alice", AssuranceLevel::Aal2).await;
    let stolen = scene.call("GET", asked.location(), &[("cookie", &other)], String::new()).await;
    assert_ne!(stolen.status, 200);
    let forced = scene.answer_page(&page, "allow", &other).await;
    assert!(forced.header("location").is_none() && forced.status >= 400, "{forced:?}");
    // From another site, or without what the page carries: nothing.
    let request = read_query(asked.location().split_once('?').unwrap().1).remove("request").unwrap();
    let bare = [("request", request.as_str()), ("answer", "allow")];
    for headers in [&[("origin", ISSUER)][..], &[("origin", "https://evil.example")], &[]] {
        let headers: Vec<_> = headers.iter().chain(&[("cookie", scene.cookie.as_str())]).copied().collect();
        let told = scene.post("/consent", &bare, &headers).await;
        assert!(told.status >= 400, "{told:?}");
    }
    let answered = scene.answer_page(&page, "allow", &scene.cookie).await;
    assert!(answered.back().contains_key("code"), "{answered:?}");
    let twice = scene.answer_page(&page, "allow", &scene.cookie).await;
    assert!(twice.header("location").is_none(), "answered once: {twice:?}");
    // A program that proves nothing is asked about each time; one that does is remembered, for as much and no more.
    let again = scene.ask("native", &[("redirect_uri", "http://127.0.0.1:4711/cb")]).await;
    assert!(again.location().starts_with("/consent"));
    drop(scene.code("web", &[]).await);
    assert!(scene.ask("web", &[]).await.back().contains_key("code"));
    for more in [("scope", "openid model:use"), ("resource", "https://b.example"), ("prompt", "consent")] {
        assert!(scene.ask("web", &[more]).await.location().starts_with("/consent"), "{more:?}");
    }
    // Refused is told as such.
    let asked = scene.ask("app", &[]).await;
    assert_eq!(scene.answer(&asked, "deny").await.back()["error"], "access_denied");
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_11_a_login_is_as_sure_and_as_recent_as_was_asked_for() {
    let scene = Scene::new().await;
    for change in [("acr_values", "phr"), ("acr_values", "phrh aal2"), ("prompt", "login"), ("max_age", "0")]
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let told = scene.ask("app", &[change]).await;
        assert!(told.location().starts_with("/login?"), "{change:?}: {told:?}");
        if change.0 == "prompt" {
            continue;
        }
        let none = scene.ask("app", &[change, ("prompt", "none")]).await;
        assert_eq!(none.back()["error"], "login_required", "{change:?}");
    }
    // Whoever has just logged in again and still is not proven surely enough does not go round in circles.
    let asked = scene.ask("app", &[("acr_values", "phr")]).await;
    let resume = read_query(asked.location().split_once('?').unwrap().1).remove("continue").unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let weak = scene.sign_in("alice", AssuranceLevel::Aal2).await;
    let told = scene.call("GET", &resume, &[("cookie", &weak)], String::new()).await;
    assert_eq!(told.back()["error"], "unmet_authentication_requirements");
    let strong = scene.sign_in("alice", AssuranceLevel::Aal2PhishingResistant).await;
    let told = scene.call("GET", &resume, &[("cookie", &strong)], String::new()).await;
    assert!(told.location().starts_with("/consent"), "{told:?}");
    // Nobody signed in: to the login, and nothing is kept of it.
    let told =
        scene.call("GET", &format!("/oauth/authorize?{}", asking("app", &[])), &[], String::new()).await;
    assert!(told.location().starts_with("/login?"));
    let silent = format!("/oauth/authorize?{}", asking("app", &[("prompt", "none")]));
    let told = scene.call("GET", &silent, &[], String::new()).await;
    assert_eq!(told.back()["error"], "login_required");
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_16_a_client_proves_itself_in_one_way_and_never_in_the_address() {
    let scene = Scene::new().await;
    let code = scene.code("web", &[]).await;
    let basic = |id: &str, secret: &str| {
        format!("Basic {}", STANDARD.encode(format!("{id}:{}", secret.replace(' ', "+"))))
    };
    let pairs = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let token = async |more: Pairs<'_>, header: Option<String>| {
        let header = header.as_deref().map(|h| ("authorization", h));
        scene.post("/oauth/token", &changed(&pairs, more), &Vec::from_iter(header)).await
    };
    let both = token(&[("client_id", "web"), ("client_secret", SECRET)], Some(basic("web", SECRET))).await;
    assert_eq!((both.status, both.error().as_str()), (400, "invalid_request"));
    let other = token(&[("client_id", "app")], Some(basic("web", SECRET))).await;
    assert_eq!(other.error(), "invalid_request");
    for (more, header) in [
        (&[("client_id", "web")][..], None),
        (&[("client_id", "web"), ("client_secret", "wrong")], None),
        (&[("client_id", "app"), ("client_secret", SECRET)], None),
        (&[], Some(basic("web", "wrong"))),
        (&[], Some(basic("nobody", SECRET))),
        (&[], Some("Basic !!!".to_owned())),
        (&[], Some("Bearer x".to_owned())),
        (
            &[
                ("client_id", "web"),
                ("client_assertion", "x"),
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ],
            None,
        ),
    ] {
        let tried_header = header.is_some();
        let told = token(more, header).await;
        assert_eq!((told.status, told.error().as_str()), (401, "invalid_client"), "{more:?}");
        assert_eq!(told.header("www-authenticate").is_some(), tried_header);
    }
    let address = format!("/oauth/token?{}", query(&[("client_id", "web"), ("client_secret", SECRET)]));
    assert_eq!(scene.post(&address, &pairs, &[]).await.error(), "invalid_request");
    let told = scene.ask("web", &[("client_secret", SECRET)]).await;
    assert_eq!((told.status, told.header("location")), (400, None));
    // None of it has used the code up.
    let told = token(&[], Some(basic("web", SECRET))).await;
    assert_eq!(told.status, 200, "{told:?}");
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_says_what_is_there_and_a_client_registers_on_somebodys_word_only() {
    let scene = Scene::new().await;
    let told = scene.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(told["issuer"], ISSUER);
    assert_eq!(told["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(told["authorization_response_iss_parameter_supported"], true);
    assert_eq!(told["client_id_metadata_document_supported"], false);
    assert_eq!(told, scene.get("/.well-known/openid-configuration").await.json());
    for (name, value) in told.as_object().unwrap() {
        if let (true, Some(address)) = (name.ends_with("_endpoint") || name == "jwks_uri", value.as_str()) {
            let path = address.strip_prefix(ISSUER).unwrap();
            assert_ne!(scene.get(path).await.status, 404, "{name}");
        }
    }
    let keys = scene.get("/oauth/jwks").await.json();
    assert!(!keys["keys"].as_array().unwrap().is_empty() && !keys.to_string().contains("\"d\""));
    let body =
        json!({"client_name": "A tool", "redirect_uris": ["http://127.0.0.1/cb"], "unknown": 1}).to_string();
    let register = async |key: Option<&Secret<String>>| {
        let bearer = key.map(|key| format!("Bearer {}", key.expose()));
        let header = bearer.as_deref().map(|b| ("authorization", b));
        scene.call("POST", "/oauth/register", &Vec::from_iter(header), body.clone()).await
    };
    assert_eq!(register(None).await.status, 401);
    assert_eq!(register(Some(&scene.house.alice.1)).await.status, 403, "policy does not let her");
    let told = register(Some(&scene.house.admin_key)).await;
    assert_eq!(told.status, 201, "{told:?}");
    let id = told.json()["client_id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("cli_") && told.json().get("client_secret").is_none());
    let asked = scene.ask(&id, &[("redirect_uri", "http://127.0.0.1:9/cb"), ("scope", "model:use")]).await;
    assert!(asked.location().starts_with("/consent"), "{asked:?}");
    scene.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_logs_somebody_out_only_where_it_shows_their_id_token_and_never_to_an_address_of_others()
 {
    let scene = Scene::new().await;
    let code = scene.code("app", &[]).await;
    let token = scene.redeem("app", &code, &[]).await.json()["id_token"].as_str().unwrap().to_owned();
    let out = async |pairs: Pairs<'_>| scene.get(&format!("/oauth/logout?{}", query(pairs))).await;
    for (pairs, status) in [
        (&[("post_logout_redirect_uri", "https://app.example/out")][..], 400),
        (&[("post_logout_redirect_uri", "https://app.example/out"), ("client_id", "app")], 400),
        (&[("id_token_hint", &token), ("post_logout_redirect_uri", "https://evil.example/")], 400),
        (&[("id_token_hint", &token), ("client_id", "web")], 400),
        (&[("id_token_hint", "eyJhbGciOiJub25lIn0.e30.")], 400),
        (&[], 303),
    ] {
        let told = out(pairs).await;
        assert_eq!(told.status, status, "{pairs:?}");
        assert!(told.header("location").is_none_or(|to| to == "/account"), "they are asked: {told:?}");
    }
    assert!(scene.ask("app", &[]).await.location().starts_with("/consent"), "still signed in");
    let good = [
        ("id_token_hint", token.as_str()),
        ("post_logout_redirect_uri", "https://app.example/out"),
        ("state", "s"),
    ];
    assert_eq!(out(&good).await.location(), "https://app.example/out?state=s");
    assert!(scene.ask("app", &[]).await.location().starts_with("/login"), "signed out");
    scene.house.stop().await;
}
