//! Access tokens of an issuer that serves its keys over HTTP.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bartizan_base::random::SeededRandom;
use bartizan_jose::testing::ForeignKey;

use super::*;

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "https://ai.example";

/// An issuer's key server: gives what it is told to, and counts how often it was asked.
pub(super) struct KeyServer {
    pub(super) address: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let (given, counted) = (answer.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                while stream.read_line(&mut line).unwrap_or(0) > 2 {
                    line.clear();
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = given.lock().unwrap().clone();
                // Whoever asked may have given up.
                stream.get_mut().write_all(answer.as_bytes()).unwrap_or_default();
            }
        });
        Self { address, answer, asked }
    }

    pub(super) fn gives(&self, keys: &[&ForeignKey]) {
        let body = json!({"keys": keys.iter().map(|k| k.public_jwk()).collect::<Vec<_>>()}).to_string();
        self.says(&format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ));
    }

    fn says(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

pub(super) fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn claims(change: &Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "client_id": "app", "iat": now() - 5, "exp": now() + 300});
    for (name, value) in change.as_object().unwrap() {
        claims.as_object_mut().unwrap().insert(name.clone(), value.clone());
    }
    claims
}

fn token(key: &ForeignKey, change: &Value) -> Secret<String> {
    Secret::new(key.sign("at+jwt", &claims(change)).unwrap())
}

async fn trusting(server: &KeyServer) -> House {
    let house = House::new().await;
    let url = format!("http://{}/jwks", server.address);
    let issuer = json!([{"name": "company", "spec": {"kind": "issuer", "issuer": ISSUER, "audience": AUDIENCE, "jwks_url": url, "allow_private": true}}]);
    let admin = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
    blocking(move || admin.call("POST", "/api/v1/resources", Some(&issuer)).unwrap()).await;
    house
}

async fn refusal(house: &House, token: &Secret<String>) -> String {
    let (status, body) = house.chat(token, "assistant", "say: hi").await;
    let why = reason(&body);
    // Not knowing whether a credential holds is our trouble, not the caller's.
    assert_eq!(status, if why == "issuer_keys_unavailable" { 503 } else { 401 }, "{body}");
    why.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_trusted_issuer_are_let_in_and_forged_ones_are_refused_by_reason() {
    let (server, random) = (KeyServer::start(), SeededRandom::new(5));
    let (edwards, p256) = (ForeignKey::ed25519("e1", &random).unwrap(), ForeignKey::p256("p1").unwrap());
    server.gives(&[&edwards, &p256]);
    let house = trusting(&server).await;
    // Many at once, and the keys are fetched once.
    let first = token(&edwards, &json!({}));
    let all =
        futures_util::future::join_all((0..20).map(|_| house.chat(&first, "assistant", "say: hi"))).await;
    assert!(all.iter().all(|(status, _)| *status == 200), "{all:?}");
    assert_eq!(server.asked(), 1);
    assert_eq!(house.chat(&token(&p256, &json!({})), "assistant", "say: hi").await.0, 200);
    let calls = house.last().await.pointer("/count").cloned();
    let stranger = ForeignKey::ed25519("e1", &SeededRandom::new(6)).unwrap();
    let good = first.expose();
    let (head, rest) = good.split_once('.').unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{}.", rest.split('.').next().unwrap());
    for (token, why) in [
        (token(&stranger, &json!({})), "token_signature_invalid"),
        (token(&edwards, &json!({"exp": now() - 100, "iat": now() - 400})), "credential_expired"),
        (token(&edwards, &json!({"nbf": now() + 3_000})), "credential_not_yet_valid"),
        (token(&edwards, &json!({"aud": "https://other.example"})), "token_audience_mismatch"),
        (token(&edwards, &json!({"iss": "https://id.example.evil.example"})), "token_issuer_unknown"),
        (token(&edwards, &json!({"sub": "nobody-here"})), "credential_unknown"),
        (
            token(&edwards, &json!({"cnf": {"jkt": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}})),
            "binding_mismatch",
        ),
        (Secret::new(edwards.sign("JWT", &claims(&json!({}))).unwrap()), "token_type_refused"),
        (Secret::new(unsigned), "token_algorithm_refused"),
        (Secret::new(format!("{head}.{head}.{}", rest.rsplit('.').next().unwrap())), "credential_malformed"),
        (Secret::new(format!("{good}.{good}")), "credential_malformed"),
    ] {
        assert_eq!(refusal(&house, &token).await, why, "{}", token.expose());
    }
    assert_eq!(house.last().await.pointer("/count").cloned(), calls, "nothing was forwarded");
    // A token in the query is none: it would lie in logs everywhere.
    let path = format!("/v1/chat/completions?access_token={good}");
    let body = json!({"model": "assistant", "messages": []});
    let client = Client::new(&house.data(), None);
    let (status, _) = blocking(move || client.raw("POST", &path, Some(&body), &[]).unwrap()).await;
    assert_eq!(status, 401);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_fetched_once_and_unknown_keys_cannot_make_us_ask_the_issuer_again_and_again() {
    let (server, random) = (KeyServer::start(), SeededRandom::new(7));
    let old = ForeignKey::ed25519("old", &random).unwrap();
    let house = trusting(&server).await;
    // While the key server is broken, nobody gets in, and it is not asked for every token.
    for broken in [
        "HTTP/1.1 500 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ] {
        server.says(broken);
        for _ in 0..5 {
            assert_eq!(refusal(&house, &token(&old, &json!({}))).await, "issuer_keys_unavailable");
        }
    }
    assert!(server.asked() <= 2, "asked {} times", server.asked());
    server.gives(&[&old]);
    let in_time = async {
        while house.chat(&token(&old, &json!({})), "assistant", "say: hi").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), in_time).await.unwrap();
    let before = server.asked();
    for n in 0..10 {
        let unknown = ForeignKey::ed25519(&format!("unknown-{n}"), &random).unwrap();
        assert_eq!(refusal(&house, &token(&unknown, &json!({}))).await, "token_signature_invalid");
    }
    assert!(server.asked() <= before + 1, "asked {} times", server.asked() - before);
    // Known keys go on while the server is gone.
    server.says("");
    assert_eq!(house.chat(&token(&old, &json!({})), "assistant", "say: hi").await.0, 200);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_epoch_a_verified_token_is_dead_after_its_subjects_epoch_was_advanced() {
    let (server, random) = (KeyServer::start(), SeededRandom::new(8));
    let key = ForeignKey::ed25519("k", &random).unwrap();
    server.gives(&[&key]);
    let house = trusting(&server).await;
    let token = token(&key, &json!({"iat": now() - 200}));
    assert_eq!(house.chat(&token, "assistant", "say: hi").await.0, 200);
    let admin = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
    let epoch = json!({"kind": "principal", "name": "user/alice"});
    blocking(move || admin.call("POST", "/api/v1/epochs", Some(&epoch)).unwrap()).await;
    assert_eq!(refusal(&house, &token).await, "credential_revoked");
    house.stop().await;
}
