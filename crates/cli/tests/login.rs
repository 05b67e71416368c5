//! Logging in at servers that do not do what they should. What happens at a real one is tried in `crates/bartizan/tests/house`.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_base::random::SeededRandom;
use bartizan_base::time::ManualClock;
use bartizan_base::{Clock as _, Digest, Timestamp};
use bartizan_cli::login::{Login, LoginError, Machine, SignedIn, Wish};
use bartizan_cli::{Client, ClientError, ContextName, Server};
use bartizan_jose::{DpopProof, DpopRules, NonceRule};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use url::form_urlencoded::parse;

/// What a request said.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    form: BTreeMap<String, String>,
}

/// What is answered: status, further headers, body.
type Told = (u16, Vec<(&'static str, String)>, Value);
/// What a server says otherwise about its API and its authority.
type Change = fn(&mut Value, &mut Value);
type Answers = Box<dyn FnMut(&Asked) -> Told + Send>;

/// A server that says what a test wants.
struct Fake {
    server: Server,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    fn new(answers: impl FnOnce(&str) -> Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (mut answers, seen) = (answers(&address), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                seen.lock().unwrap().push(request.clone());
                write(stream, answers(&request));
            }
        });
        Self { server: address.parse().unwrap(), asked }
    }

    fn seen(&self, path: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path == path).cloned().collect()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let form = parse(&body).into_owned().collect();
    Some(Asked { method, path, headers, form })
}

fn write(mut stream: TcpStream, (status, headers, body): Told) {
    let body = body.to_string();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
}

fn ok(body: Value) -> Told {
    (200, Vec::new(), body)
}

fn no(error: &str) -> Told {
    (400, Vec::new(), json!({"error": error}))
}

/// What a server says about itself.
fn about(at: &str) -> (Value, Value) {
    let resource = json!({"resource": format!("{at}/api/v1"), "authorization_servers": [at]});
    let metadata = json!({
        "issuer": at,
        "authorization_endpoint": format!("{at}/oauth/authorize"),
        "token_endpoint": format!("{at}/oauth/token"),
        "revocation_endpoint": format!("{at}/oauth/revoke"),
        "device_authorization_endpoint": format!("{at}/oauth/device"),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    });
    (resource, metadata)
}

fn described(asked: &Asked, at: &str) -> Option<Told> {
    let (resource, metadata) = about(at);
    match asked.path.as_str() {
        "/.well-known/oauth-protected-resource/api/v1" => Some(ok(resource)),
        "/.well-known/oauth-authorization-server" => Some(ok(metadata)),
        _ => None,
    }
}

fn tokens(number: usize, kind: &str) -> Value {
    json!({"access_token": format!("at-{number}"), "token_type": kind, "expires_in": 300, "refresh_token": format!("rt-{number}"), "scope": "house:read"})
}

fn machine() -> (Machine, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    (Machine::new(clock.clone(), Arc::new(SeededRandom::new(7))), clock)
}

/// The key of a request's proof, which must hold.
fn proven(asked: &Asked, at: &str, token: Option<&str>, clock: &ManualClock) -> String {
    let uri = format!("{at}{}", asked.path.split('?').next().unwrap());
    let rules = DpopRules {
        method: &asked.method,
        uri: &uri,
        now: clock.now(),
        age_max: Duration::from_secs(60),
        skew: Duration::ZERO,
        access_token: token,
        nonce: NonceRule::Off,
    };
    DpopProof::verify(&asked.headers["dpop"], &rules).unwrap().key().to_string()
}

fn claims(asked: &Asked) -> Value {
    let payload = asked.headers["dpop"].split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A device that is allowed after these answers.
fn device(before: Vec<Told>, given: Value) -> (Result<Login, LoginError>, Fake, Vec<u64>, Arc<ManualClock>) {
    let fake = Fake::new(|at| {
        let (at, mut before, given) = (at.to_owned(), before.into_iter(), given);
        Box::new(move |asked| match asked.path.as_str() {
            "/oauth/device" => ok(json!({
                "device_code": "dc", "user_code": "BCDF-GHJK", "verification_uri": format!("{at}/device"), "expires_in": 600,
            })),
            "/oauth/token" => before.next().unwrap_or_else(|| ok(given.clone())),
            _ => described(asked, &at).unwrap_or_else(|| no("invalid_request")),
        })
    });
    let (machine, clock) = machine();
    let waits = Mutex::new(Vec::new());
    let wait = |time: Duration| waits.lock().unwrap().push(time.as_secs());
    let login = Login::by_device(&machine, &fake.server, &Wish::default(), |_| {}, wait);
    let waits = waits.into_inner().unwrap();
    (login, fake, waits, clock)
}

#[test]
fn attack_06_a_server_that_is_not_what_it_says_is_not_logged_in_at() {
    let changes: [(&str, Change); 8] = [
        ("calls itself https://evil.example", |resource, _| {
            resource["resource"] = json!("https://evil.example/api/v1")
        }),
        ("somewhere else", |resource, _| resource["authorization_servers"] = json!(["https://evil.example"])),
        ("another one", |_, metadata| metadata["issuer"] = json!("https://evil.example")),
        ("another one", |_, metadata| metadata["issuer"] = Value::Null),
        ("PKCE", |_, metadata| metadata["code_challenge_methods_supported"] = json!(["plain"])),
        ("whom they are from", |_, metadata| {
            metadata["authorization_response_iss_parameter_supported"] = json!(false)
        }),
        ("token_endpoint", |_, metadata| metadata["token_endpoint"] = json!("http://evil.example/token")),
        ("authorization_endpoint", |_, metadata| {
            metadata["authorization_endpoint"] = json!("javascript:alert(1)")
        }),
    ];
    for (told, change) in changes {
        let fake = Fake::new(|at| {
            let (mut resource, mut metadata) = about(at);
            change(&mut resource, &mut metadata);
            Box::new(move |asked| match asked.path.as_str() {
                path if path.ends_with("/api/v1") => ok(resource.clone()),
                _ => ok(metadata.clone()),
            })
        });
        let opened = |address: &str| panic!("{told}: {address}");
        let refused = Login::by_browser(&machine().0, &fake.server, &Wish::default(), opened).unwrap_err();
        assert!(refused.to_string().contains(told), "{told}: {refused}");
    }
}

#[test]
fn attack_03_a_code_is_redeemed_with_the_verifier_and_the_key_that_were_announced() {
    let fake = Fake::new(|at| {
        let at = at.to_owned();
        Box::new(move |asked| match asked.path.as_str() {
            "/oauth/token" if asked.headers["dpop"].is_empty() => no("invalid_dpop_proof"),
            "/oauth/token" => ok(tokens(1, "DPoP")),
            _ => described(asked, &at).unwrap_or_else(|| no("invalid_request")),
        })
    });
    let (machine, clock) = machine();
    let announced = Mutex::new(BTreeMap::new());
    let server = fake.server.to_string();
    let login =
        Login::by_browser(&machine, &fake.server, &Wish { again: true, ..Wish::default() }, |address| {
            let query = address.split_once('?').unwrap().1;
            let asked: BTreeMap<String, String> = parse(query.as_bytes()).into_owned().collect();
            let back = asked["redirect_uri"].strip_prefix("http://").unwrap().to_owned();
            let (host, path) = back.split_once('/').unwrap();
            let answer =
                format!("/{path}?code=c1&state={}&iss={}", asked["state"], server.replace(':', "%3A"));
            let mut stream = TcpStream::connect(host).unwrap();
            stream.write_all(format!("GET {answer} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).unwrap();
            *announced.lock().unwrap() = asked;
        })
        .unwrap();
    assert_eq!(login.scope(), "house:read");
    let announced = announced.into_inner().unwrap();
    let redeemed = fake.seen("/oauth/token").remove(0);
    let challenge = URL_SAFE_NO_PAD.encode(Digest::of(redeemed.form["code_verifier"].as_bytes()).as_bytes());
    assert_eq!(
        (announced["code_challenge"].as_str(), announced["code_challenge_method"].as_str()),
        (&*challenge, "S256")
    );
    assert_eq!(announced["dpop_jkt"], proven(&redeemed, fake.server.as_str(), None, &clock));
    assert_eq!(
        (&announced["resource"], &redeemed.form["resource"]),
        (&format!("{}/api/v1", fake.server), &announced["resource"])
    );
    assert_eq!(announced["prompt"], "login");
    assert_eq!(
        (redeemed.form["code"].as_str(), &redeemed.form["redirect_uri"]),
        ("c1", &announced["redirect_uri"])
    );
}

#[test]
fn a_device_waits_as_it_is_told_and_gets_nothing_that_anybody_could_use() {
    let nonce = || (400, vec![("dpop-nonce", "n-1".to_owned())], json!({"error": "use_dpop_nonce"}));
    let before = vec![nonce(), no("authorization_pending"), no("slow_down"), no("authorization_pending")];
    let (login, fake, waits, clock) = device(before, tokens(1, "DPoP"));
    assert_eq!(login.unwrap().scope(), "house:read");
    // The proof that lacked its nonce was no question of the device.
    assert_eq!(waits, [5, 5, 10, 10]);
    let asked = fake.seen("/oauth/token");
    assert_eq!(claims(&asked[0]).get("nonce"), None);
    assert!(asked[1..].iter().all(|asked| claims(asked)["nonce"] == "n-1"));
    let keys: Vec<_> = asked.iter().map(|asked| proven(asked, fake.server.as_str(), None, &clock)).collect();
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert!(!fake.seen("/oauth/device")[0].form["scope"].contains("house:change"));
    let (refused, ..) = device(Vec::new(), tokens(1, "Bearer"));
    assert!(matches!(refused.unwrap_err(), LoginError::Unbound));
    let (refused, ..) = device(vec![no("access_denied")], tokens(1, "DPoP"));
    assert!(matches!(refused.unwrap_err(), LoginError::Denied));
    let (late, _, waits, _) =
        device((0..500).map(|_| no("authorization_pending")).collect(), tokens(1, "DPoP"));
    assert!(matches!(late.unwrap_err(), LoginError::Late));
    assert_eq!(waits.iter().sum::<u64>(), 600);
}

/// A login kept in a context, at a server whose control API answers by `api`.
fn kept(
    api: impl Fn(&Asked, usize) -> Told + Send + 'static,
) -> (Fake, Machine, Arc<ManualClock>, tempfile::TempDir, ContextName) {
    let fake = Fake::new(|at| {
        let (at, mut given, mut called) = (at.to_owned(), 0, 0);
        Box::new(move |asked| match asked.path.as_str() {
            "/oauth/device" => ok(json!({
                "device_code": "dc", "user_code": "BCDF-GHJK", "verification_uri": format!("{at}/device"), "expires_in": 600,
            })),
            "/oauth/token"
                if asked.form.get("refresh_token").is_some_and(|token| *token != format!("rt-{given}")) =>
            {
                no("invalid_grant")
            }
            "/oauth/token" => {
                given += 1;
                ok(tokens(given, "DPoP"))
            }
            "/oauth/revoke" => ok(json!({})),
            path if path.starts_with("/api/v1/") => {
                called += 1;
                api(asked, called)
            }
            _ => described(asked, &at).unwrap_or_else(|| no("invalid_request")),
        })
    });
    let (machine, clock) = machine();
    let folder = tempfile::tempdir().unwrap();
    let context: ContextName = "work".parse().unwrap();
    let login = Login::by_device(&machine, &fake.server, &Wish::default(), |_| {}, |_| {}).unwrap();
    SignedIn::keep(&machine, folder.path(), &context, &login).unwrap();
    (fake, machine, clock, folder, context)
}

fn client(fake: &Fake, machine: &Machine, folder: &tempfile::TempDir, context: &ContextName) -> Client {
    let who = SignedIn::open(machine, folder.path(), context, &fake.server).unwrap();
    Client::signed_in(fake.server.as_str(), who)
}

#[test]
fn each_request_is_proven_for_itself_and_a_token_that_is_due_is_refreshed_before() {
    let (fake, machine, clock, folder, context) = kept(|_, _| ok(json!({})));
    let one = client(&fake, &machine, &folder, &context);
    one.call("GET", "/api/v1/keys?limit=1", None).unwrap();
    one.call("POST", "/api/v1/keys", Some(&json!({}))).unwrap();
    clock.advance(Duration::from_secs(290));
    one.call("GET", "/api/v1/keys", None).unwrap();
    // Another process finds what the first has got.
    client(&fake, &machine, &folder, &context).call("GET", "/api/v1/keys", None).unwrap();
    let shown: Vec<_> =
        fake.asked.lock().unwrap().iter().filter(|a| a.path.starts_with("/api")).cloned().collect();
    let tokens: Vec<_> = shown.iter().map(|asked| asked.headers["authorization"].as_str()).collect();
    assert_eq!(tokens, ["DPoP at-1", "DPoP at-1", "DPoP at-2", "DPoP at-2"]);
    for asked in &shown {
        // The first two were made at the beginning.
        let then = if asked.headers["authorization"].ends_with('1') { 290 } else { 0 };
        let at = ManualClock::at(Timestamp::from_secs(clock.now().as_secs() - then));
        proven(
            asked,
            fake.server.as_str(),
            Some(asked.headers["authorization"].strip_prefix("DPoP ").unwrap()),
            &at,
        );
    }
    let ids: std::collections::BTreeSet<_> =
        shown.iter().map(|asked| claims(asked)["jti"].to_string()).collect();
    assert_eq!(ids.len(), shown.len(), "no proof is used twice");
    assert_eq!(fake.seen("/oauth/token").len(), 2);
}

#[test]
fn a_token_that_is_refused_is_replaced_once_and_a_login_that_is_over_says_so() {
    let refuse = |_: &Asked, _: usize| {
        (
            401,
            vec![("www-authenticate", "DPoP error=\"invalid_token\"".to_owned())],
            json!({"reason": "credential_revoked", "message": "no"}),
        )
    };
    let (fake, machine, _, folder, context) = kept(refuse);
    let refused = client(&fake, &machine, &folder, &context)
        .call("POST", "/api/v1/keys", Some(&json!({})))
        .unwrap_err();
    assert!(matches!(refused, ClientError::Refused { status: 401, .. }), "{refused}");
    assert_eq!((fake.seen("/api/v1/keys").len(), fake.seen("/oauth/token").len()), (2, 2));
    // Somebody else has used our refresh token up.
    let path = folder.path().join("tokens/work.json");
    let stale = std::fs::read_to_string(&path).unwrap().replace("rt-2", "rt-1");
    std::fs::write(&path, stale).unwrap();
    let over = client(&fake, &machine, &folder, &context).call("GET", "/api/v1/keys", None).unwrap_err();
    assert!(matches!(over, ClientError::Login(LoginError::Over(_))), "{over}");
    assert_eq!(over.hint().as_deref(), Some("`bartizan login --context work`"));
}

#[test]
fn a_nonce_that_is_asked_for_is_given_once_and_a_context_takes_no_token_to_another_server() {
    let nonce = |asked: &Asked, _: usize| {
        let with = claims(asked)["nonce"] == "n-9";
        let headers = vec![
            ("dpop-nonce", "n-9".to_owned()),
            ("www-authenticate", "DPoP error=\"use_dpop_nonce\"".to_owned()),
        ];
        (
            if with && asked.path != "/api/v1/never" { 200 } else { 401 },
            headers,
            json!({"reason": "proof_nonce_needed"}),
        )
    };
    let (fake, machine, _, folder, context) = kept(nonce);
    let one = client(&fake, &machine, &folder, &context);
    one.call("GET", "/api/v1/keys", None).unwrap();
    one.call("GET", "/api/v1/keys", None).unwrap();
    assert_eq!(fake.seen("/api/v1/keys").len(), 3, "remembered for the next");
    one.call("GET", "/api/v1/never", None).unwrap_err();
    assert_eq!(fake.seen("/api/v1/never").len(), 2, "not for ever");
    let other: Server = "https://evil.example".parse().unwrap();
    let refused = SignedIn::open(&machine, folder.path(), &context, &other).unwrap_err();
    assert!(matches!(refused, LoginError::NotSignedIn(_)), "{refused}");
}

#[test]
fn logging_out_ends_it_there_and_forgets_it_here_also_where_nobody_can_be_told() {
    let (fake, machine, _, folder, context) = kept(|_, _| ok(json!({})));
    let path = folder.path().join("tokens/work.json");
    let copy = std::fs::read(&path).unwrap();
    assert!(SignedIn::forget(&machine, folder.path(), &context).unwrap());
    assert_eq!(fake.seen("/oauth/revoke")[0].form["token"], "rt-1");
    assert!(!path.exists() && !SignedIn::forget(&machine, folder.path(), &context).unwrap());
    // A server that is gone.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = String::from_utf8(copy).unwrap().replace(fake.server.as_str(), &format!("http://{closed}"));
    std::fs::write(&path, text).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(
        SignedIn::forget(&machine, folder.path(), &context),
        Err(LoginError::Unreachable { .. })
    ));
    assert!(!path.exists());
}
