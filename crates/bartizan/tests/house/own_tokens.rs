//! Tokens of the house's own authority at its doors: challenges, metadata, proofs, certificates of clients, epochs.

use std::io::{Read, Write};
use std::net::TcpStream;

use bartizan_base::random::SeededRandom;
use bartizan_base::{Digest, Timestamp};
use bartizan_jose::{
    AccessClaims, Algorithm, Audience, Confirmation, DpopProof, KeptKey, KeyPlan, SigningKey, Times, X5t,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::*;

pub(super) const ISSUER: &str = "https://id.example";
pub(super) const GATEWAY: &str = "https://ai.example";
const CHAT: &str = "/v1/chat/completions";

pub(super) fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

pub(super) fn key(seed: u64) -> SigningKey {
    SigningKey::generate(Algorithm::Ed25519, &SeededRandom::new(seed)).unwrap()
}

/// Puts the authority's key where the authority keeps it.
pub(super) fn keep_key(folder: &Path, key: &SigningKey) {
    let at = |secs: u64| Timestamp::from_secs(secs);
    let plan = KeyPlan {
        kid: key.kid().to_owned(),
        published: at(now() - 1_000),
        signs: at(now() - 900),
        ends: at(now() + 9_000),
        gone: at(now() + 10_000),
        withdrawn: false,
    };
    let kept = KeptKey { plan, jwk: key.public().to_json(), sealed: String::new() };
    rusqlite::Connection::open(folder.join("state.db"))
        .unwrap()
        .execute(
            "insert into side_rows (kind, id, tenant, owner, version, body) values ('signing_key', ?1, 'default', '', 1, ?2)",
            (key.kid(), serde_json::to_string(&kept).unwrap()),
        )
        .unwrap();
}

/// A house with an authority, and what it needs to issue tokens to alice.
struct Known {
    house: House,
    key: SigningKey,
    alice: String,
}

impl Known {
    async fn new(more: &[(&'static str, String)]) -> Self {
        let key = key(11);
        let mut settings =
            vec![("authority.issuer", ISSUER.to_owned()), ("listeners.public_url", GATEWAY.to_owned())];
        settings.extend_from_slice(more);
        let house = House::prepared(&settings, Machine::default(), |folder| keep_key(folder, &key)).await;
        let admin = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
        let users = blocking(move || admin.call("GET", "/api/v1/resources/user", None).unwrap()).await;
        let alice = users.as_array().unwrap().iter().find(|user| user["name"] == "alice").unwrap();
        let alice = alice["principal"].as_str().unwrap().to_owned();
        Self { house, key, alice }
    }

    fn token(&self, change: impl FnOnce(&mut AccessClaims)) -> String {
        let at = Timestamp::from_secs;
        let times = Times { issued: at(now() - 5), not_before: None, expires: at(now() + 300) };
        let mut claims = AccessClaims::new(ISSUER, &self.alice, GATEWAY, "app", "tok_1", times);
        claims.scope = Some("model:use model:list".to_owned());
        claims.acr = Some("aal1".to_owned());
        claims.auth_time = Some(at(now() - 60));
        claims.others.insert("bartizan".to_owned(), json!({"rev": 1, "kind": "user"}));
        change(&mut claims);
        self.key.issue(&claims).unwrap().expose().clone()
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let (address, text) = (self.house.node.data, request(method, path, headers, body));
        blocking(move || answer(TcpStream::connect(address).unwrap(), &text)).await
    }

    async fn chat(&self, headers: &[(&str, &str)], model: &str) -> Answer {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "say: hi"}]});
        self.ask("POST", CHAT, headers, &body.to_string()).await
    }

    async fn bearer(&self, token: &str) -> Answer {
        self.chat(&[("authorization", &format!("Bearer {token}"))], "assistant").await
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: anything.example\r\n{headers}content-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

fn answer(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap_or_default();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Answer {
        status: head.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default(),
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or_default(),
    }
}

impl Answer {
    /// The values of a header, in order.
    fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    fn challenges(&self) -> String {
        self.header("www-authenticate").join(" | ")
    }

    #[track_caller]
    fn must_be(&self, status: u16, why: &str) {
        assert_eq!((self.status, reason(&self.body)), (status, why), "{self:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_without_a_token_finds_out_where_to_get_one_and_one_for_this_door_is_let_in() {
    let known = Known::new(&[]).await;
    let unknown = known.chat(&[], "assistant").await;
    unknown.must_be(401, "credential_missing");
    let [bearer, dpop] = unknown.header("www-authenticate")[..] else { panic!("{unknown:?}") };
    assert!(bearer.starts_with("Bearer ") && dpop.starts_with("DPoP ") && dpop.contains("algs="));
    let metadata = format!("{GATEWAY}/.well-known/oauth-protected-resource/v1");
    assert!(bearer.contains(&format!("resource_metadata=\"{metadata}\"")), "{bearer}");
    assert!(bearer.contains("scope=\"model:invoke\"") && !bearer.contains("error="), "{bearer}");
    for (path, resource) in [
        ("", GATEWAY.to_owned()),
        ("/v1", format!("{GATEWAY}/v1")),
        ("/access/v1", format!("{GATEWAY}/access/v1")),
    ] {
        let found = known.ask("GET", &format!("/.well-known/oauth-protected-resource{path}"), &[], "").await;
        assert_eq!((found.status, &found.body["resource"]), (200, &json!(resource)), "{found:?}");
        assert_eq!(found.body["authorization_servers"], json!([ISSUER]));
        let token = known.token(|c| c.aud = Audience::One(resource.clone()));
        let status = known.bearer(&token).await.status;
        assert_eq!(status, if path == "/access/v1" { 401 } else { 200 }, "{resource}");
    }
    let elsewhere = known.ask("GET", "/.well-known/oauth-protected-resource/mcp/x", &[], "").await;
    elsewhere.must_be(401, "credential_missing");
    // attack 40: a token for another door of the same house, and for its authority.
    for audience in [format!("{GATEWAY}/mcp/files"), ISSUER.to_owned(), "https://anything.example".to_owned()]
    {
        let token = known.token(|c| c.aud = Audience::One(audience));
        let refused = known.bearer(&token).await;
        refused.must_be(401, "token_audience_mismatch");
        assert!(refused.challenges().contains("error=\"invalid_token\""), "{refused:?}");
    }
    // What a token does not cover: the scope that would, and where to get it.
    let listing = known.token(|c| c.scope = Some("model:list".to_owned()));
    let narrow = known.bearer(&listing).await;
    narrow.must_be(403, "scope_insufficient");
    let challenge = narrow.challenges();
    for part in ["error=\"insufficient_scope\"", "scope=\"model:invoke\"", "resource_metadata="] {
        assert!(challenge.contains(part), "{part}: {challenge}");
    }
    // A login that is not enough: which would be.
    let headers = [("authorization", &*format!("Bearer {}", known.token(|_| {})))];
    let weak = known.chat(&headers, "assistant-prod").await;
    weak.must_be(401, "assurance_too_low");
    let challenge = weak.challenges();
    for part in ["error=\"insufficient_user_authentication\"", "acr_values=\"phr phrh\"", "max_age=\"900\""] {
        assert!(challenge.contains(part), "{part}: {challenge}");
    }
    let strong = format!("Bearer {}", known.token(|c| c.acr = Some("phr".to_owned())));
    assert_eq!(known.chat(&[("authorization", &strong)], "assistant-prod").await.status, 200);
    // attack 39: no token of a caller goes upstream.
    let last = known.house.last().await.to_string();
    assert!(!last.contains(strong.get(7..50).unwrap()), "{last}");
    known.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_31_and_32_over_http_a_bound_token_needs_a_fresh_proof_of_this_request_and_each_is_taken_once()
{
    let known = Known::new(&[]).await;
    let mine = key(12);
    let token = known.token(|c| c.cnf = Some(Confirmation::Key(mine.thumbprint())));
    let proof = |n: u8, nonce: Option<&str>, change: fn(&mut DpopProof)| {
        let mut proof = DpopProof {
            jti: format!("p-{n}"),
            htm: "POST".to_owned(),
            htu: format!("{GATEWAY}{CHAT}"),
            issued: Timestamp::from_secs(now()),
            ath: Some(Digest::of(token.as_bytes())),
            nonce: nonce.map(str::to_owned),
        };
        change(&mut proof);
        mine.prove(&proof).unwrap().expose().clone()
    };
    let authorization = format!("DPoP {token}");
    let show = async |proof: &str| {
        known.chat(&[("authorization", &authorization), ("dpop", proof)], "assistant").await
    };
    let first = show(&proof(1, None, |_| {})).await;
    first.must_be(401, "proof_nonce_needed");
    assert!(
        first.challenges().starts_with("DPoP ") && first.challenges().contains("error=\"use_dpop_nonce\"")
    );
    let [nonce] = first.header("dpop-nonce")[..] else { panic!("{first:?}") };
    let good = proof(1, Some(nonce), |_| {});
    let let_in = show(&good).await;
    assert_eq!(let_in.status, 200, "{let_in:?}");
    assert_eq!(let_in.header("dpop-nonce").len(), 1, "{let_in:?}");
    let again = show(&good).await;
    again.must_be(401, "proof_refused");
    assert!(again.challenges().contains("error=\"invalid_dpop_proof\""), "{again:?}");
    for (n, change) in [
        (|p| p.htm = "GET".to_owned()) as fn(&mut DpopProof),
        // As the request itself says where it goes: what it says counts for nothing.
        |p| p.htu = "http://anything.example/v1/chat/completions".to_owned(),
        |p| p.htu = format!("{GATEWAY}/v1/embeddings"),
        |p| p.ath = None,
        |p| p.issued = Timestamp::from_secs(now() - 400),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = show(&proof(10 + u8::try_from(n).unwrap(), Some(nonce), change)).await;
        refused.must_be(401, "proof_refused");
    }
    known.bearer(&token).await.must_be(401, "binding_mismatch");
    let bearer = known.token(|_| {});
    let fresh = proof(20, Some(nonce), |_| {});
    let dressed = [("authorization", &*format!("DPoP {bearer}")), ("dpop", &fresh)];
    known.chat(&dressed, "assistant").await.must_be(401, "binding_mismatch");
    known.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_api_takes_tokens_that_are_for_it_and_says_which() {
    let known = Known::new(&[]).await;
    let control = known.house.node.control;
    let ask = async |path: &'static str, token: Option<String>| {
        blocking(move || {
            let authorization = token.map(|token| format!("Bearer {token}"));
            let headers: Vec<_> = authorization.iter().map(|a| ("authorization", a.as_str())).collect();
            answer(TcpStream::connect(control).unwrap(), &request("GET", path, &headers, ""))
        })
        .await
    };
    let unknown = ask("/api/v1/keys", None).await;
    let challenge = unknown.challenges();
    assert_eq!(unknown.status, 401);
    let metadata = format!("resource_metadata=\"{ISSUER}/.well-known/oauth-protected-resource/api/v1\"");
    assert!(challenge.contains(&metadata) && challenge.contains("scope=\"key:list\""), "{challenge}");
    for (path, resource) in [("/api/v1", format!("{ISSUER}/api/v1")), ("", ISSUER.to_owned())] {
        let path: &'static str = if path.is_empty() {
            "/.well-known/oauth-protected-resource"
        } else {
            "/.well-known/oauth-protected-resource/api/v1"
        };
        let found = ask(path, None).await;
        assert_eq!((found.status, &found.body["resource"]), (200, &json!(resource)));
        let mine = ask("/api/v1/whoami", Some(known.token(|c| c.aud = Audience::One(resource)))).await;
        assert_eq!((mine.status, &mine.body["name"]), (200, &json!("alice")), "{mine:?}");
    }
    let data = ask("/api/v1/whoami", Some(known.token(|_| {}))).await;
    assert_eq!((data.status, &data.body["reason"]), (401, &json!("token_audience_mismatch")));
    known.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_epoch_a_session_that_was_ended_ends_its_tokens_and_the_streams_they_opened_within_a_second() {
    let known = Known::new(&[]).await;
    let session = "ses_01890a5dac96774bbcceb302099a8057";
    let token = known.token(|c| c.sid = Some(session.to_owned()));
    let other = known.token(|_| {});
    let first = known.bearer(&token).await;
    assert_eq!(first.status, 200, "{first:?}");
    let address = known.house.node.data;
    let body = json!({"model": "assistant", "stream": true, "messages": [{"role": "user", "content": "fault: endless"}]});
    let text = request("POST", CHAT, &[("authorization", &format!("Bearer {token}"))], &body.to_string());
    let stream = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap_or_default();
        text
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let admin =
        Client::new(&format!("http://{}", known.house.node.control), Some(known.house.admin_key.clone()));
    let epoch = json!({"kind": "session", "name": session});
    blocking(move || admin.call("POST", "/api/v1/epochs", Some(&epoch)).unwrap()).await;
    let text = tokio::time::timeout(Duration::from_secs(1), blocking(move || stream.join().unwrap()));
    let text = text.await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("stream_ended"), "{text}");
    known.bearer(&token).await.must_be(401, "credential_revoked");
    assert_eq!(known.bearer(&other).await.status, 200);
    known.house.stop().await;
}

/// An authority of certificates, and what it issues.
struct Issuing(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Issuing {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str, expired: bool) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let made = params.signed_by(&key, &self.0).unwrap();
        (made.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_33_a_token_bound_to_a_certificate_holds_over_its_own_connection_and_no_header_stands_for_it()
{
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let server = rcgen::generate_simple_self_signed(["house.example".to_owned()]).unwrap();
    let (ours, foreign) = (Issuing::new(), Issuing::new());
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let settings = [
        ("authority.issuer", ISSUER.to_owned()),
        ("listeners.public_url", GATEWAY.to_owned()),
        ("listeners.tls_certificate", file("cert.pem", server.cert.pem())),
        ("listeners.tls_key", file("key.pem", server.signing_key.serialize_pem())),
        ("listeners.client_ca", file("ca.pem", ours.0.pem())),
    ];
    let signer = key(11);
    let config = config(&folder.path().join("data"), &settings);
    let Founded { claim, .. } = found(&config, "1/1").await.unwrap();
    keep_key(&folder.path().join("data"), &signer);
    let node = Node::start(&config).await.unwrap();
    let (mine, other) = (ours.issue("agent", false), ours.issue("another", false));
    let root = server.cert.der().clone();
    let over = async |address,
                      certificate: Option<&(CertificateDer<'static>, PrivateKeyDer<'static>)>,
                      text: String| {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                builder.with_client_auth_cert(vec![chain.clone()], key.clone_key()).unwrap()
            }
        };
        blocking(move || {
            let name = ServerName::try_from("house.example").unwrap();
            let connection = ClientConnection::new(Arc::new(config), name).unwrap();
            let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
            if stream.write_all(text.as_bytes()).is_err() {
                return None;
            }
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap_or_default();
            text.starts_with("HTTP").then_some(text)
        })
        .await
    };
    let json_of = |text: Option<String>| -> Value {
        serde_json::from_str(text.unwrap().split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let claim = json!({"claim": claim.expose(), "name": "ada"}).to_string();
    let made = json_of(over(node.control, None, request("POST", "/api/v1/claim", &[], &claim)).await);
    let admin = format!("Bearer {}", made["key"]["text"].as_str().unwrap());
    let asked = request("GET", "/api/v1/resources/user", &[("authorization", &admin)], "");
    let users = json_of(over(node.control, None, asked).await);
    let at = Timestamp::from_secs;
    let times = Times { issued: at(now() - 5), not_before: None, expires: at(now() + 300) };
    let ada = users[0]["principal"].as_str().unwrap();
    let mut claims = AccessClaims::new(ISSUER, ada, GATEWAY, "app", "tok_1", times);
    claims.scope = Some("model:list".to_owned());
    claims.others.insert("bartizan".to_owned(), json!({"rev": 1, "kind": "user"}));
    claims.cnf = Some(Confirmation::Certificate(X5t::of_certificate(&mine.0)));
    let token = signer.issue(&claims).unwrap().expose().clone();
    let show = async |certificate, spoof: bool| {
        let authorization = format!("Bearer {token}");
        let print = X5t::of_certificate(&mine.0).to_string();
        let mut headers = vec![("authorization", authorization.as_str())];
        if spoof {
            for name in
                ["x-forwarded-client-cert", "x-ssl-client-cert", "client-cert", "x-client-cert-sha256"]
            {
                headers.push((name, &print));
            }
        }
        over(node.data, certificate, request("GET", "/v1/models", &headers, "")).await
    };
    let mismatch = |answer: Option<String>| answer.is_some_and(|text| text.contains("binding_mismatch"));
    // She may list no models here, but it is she who may not.
    let known = show(Some(&mine), false).await.unwrap();
    assert!(known.starts_with("HTTP/1.1 403") && known.contains("no_matching_permit"), "{known}");
    assert!(mismatch(show(None, false).await), "a token without its certificate");
    assert!(mismatch(show(None, true).await), "headers that claim the certificate");
    assert!(mismatch(show(Some(&other), true).await), "another certificate of the same authority");
    let strangers = [foreign.issue("agent", false), ours.issue("agent", true)];
    for (stranger, what) in strangers.iter().zip(["of a foreign authority", "past its end"]) {
        assert!(show(Some(stranger), false).await.is_none(), "a certificate {what}");
    }
    node.stop().await;
}
