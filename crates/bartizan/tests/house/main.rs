//! The whole house over real HTTP, as an enemy would try it.
#![expect(clippy::unwrap_used, clippy::panic, clippy::result_large_err, reason = "a test fails by panicking")]

mod apis;
mod authzen;
mod cache;
mod child;
#[cfg(feature = "code")]
mod code;
mod command_line;
mod corpora;
mod database;
mod delivery;
mod dialects;
mod directory;
mod epochs;
mod faults;
mod flow;
mod handles;
mod hostile;
mod keep;
mod lessons;
mod limits;
mod mcp;
mod mesh;
#[cfg(feature = "s3")]
mod mirror;
mod oauth;
mod own_tokens;
mod periods;
mod policy_life;
#[cfg(feature = "proofs")]
mod proofs;
mod rar;
mod reading;
mod recover;
mod retrieve;
mod rows;
mod same;
mod sign_in;
mod signals;
mod sql;
mod stage;
mod step_up;
mod tls;
mod tokens;
mod tools;
mod traces;
mod vocabulary;
mod witness;
mod workloads;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bartizan::config::{Config, Raw};
use bartizan::{Founded, Machine, Node, found};
use bartizan_cli::Client;
use bartizan_secret::Secret;
use bartizan_simulated_model::{Options, spawn};
use serde_json::{Value, json};

const OWN: &str = "the-houses-own-credential";
const POLICY: &str = include_str!("../../demo/policy.cedar");

fn config(folder: &Path, more: &[(&'static str, String)]) -> Config {
    let mut flags = vec![
        ("data.folder", folder.to_string_lossy().into_owned()),
        ("record.segment_bytes", "1048576".to_owned()),
        ("record.seal_interval_ms", "100".to_owned()),
        ("limits.body_bytes_max", "20000".to_owned()),
        ("limits.body_timeout_ms", "700".to_owned()),
        ("limits.json_depth_max", "20".to_owned()),
    ];
    for listener in ["listeners.data", "listeners.control", "listeners.operations"] {
        flags.push((listener, "127.0.0.1:0".to_owned()));
    }
    flags.extend_from_slice(more);
    Config::resolve(&Raw::load(None, &Vec::new(), &flags).unwrap()).unwrap()
}

/// A house with a simulated model behind it, and keys for everybody.
struct House {
    node: Node,
    model: SocketAddr,
    admin: Client,
    admin_key: Secret<String>,
    alice: (String, Secret<String>),
    carol: Secret<String>,
    mallory: Secret<String>,
    folder: tempfile::TempDir,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

impl House {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&'static str, String)]) -> Self {
        Self::on(settings, Machine::default()).await
    }

    async fn on(settings: &[(&'static str, String)], machine: Machine) -> Self {
        Self::prepared(settings, machine, |_| {}).await
    }

    /// The same on an installation whose folder is `prepare`d before it is served.
    async fn prepared(
        settings: &[(&'static str, String)],
        machine: Machine,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), settings);
        Self::founded(folder, config, machine, prepare).await
    }

    /// The same by a whole configuration.
    async fn founded(
        folder: tempfile::TempDir,
        config: Config,
        machine: Machine,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        // Another test of this binary may have been first.
        rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
        let Founded { claim, .. } = found(&config, "2/3").await.unwrap();
        prepare(folder.path());
        let node = Node::start_on(&config, machine).await.unwrap();
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let model =
            spawn(local, Options { require_key: Some(OWN.to_owned()), ..Options::default() }).await.unwrap();
        let control = format!("http://{}", node.control);
        let ((admin, admin_key), alice, carol, mallory) =
            blocking(move || furnish(&control, &claim, model)).await;
        Self { node, model, admin, admin_key, alice, carol, mallory, folder }
    }

    fn data(&self) -> String {
        format!("http://{}", self.node.data)
    }

    async fn post(&self, key: &Secret<String>, path: &str, body: Value) -> (u16, Value) {
        let (client, path) = (Client::new(&self.data(), Some(key.clone())), path.to_owned());
        let (status, text) = blocking(move || client.raw("POST", &path, Some(&body), &[]).unwrap()).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn chat(&self, key: &Secret<String>, model: &str, prompt: &str) -> (u16, Value) {
        let body = json!({"model": model, "messages": [{"role": "user", "content": prompt}]});
        self.post(key, "/v1/chat/completions", body).await
    }

    /// Headers and body of the last request that reached the model.
    async fn last(&self) -> Value {
        let base = format!("http://{}", self.model);
        blocking(move || Client::new(&base, None).call("GET", "/_last", None).unwrap()).await
    }

    async fn stop(self) -> tempfile::TempDir {
        self.node.stop().await;
        self.folder
    }
}

type Furnished = ((Client, Secret<String>), (String, Secret<String>), Secret<String>, Secret<String>);

fn furnish(control: &str, claim: &Secret<String>, model: SocketAddr) -> Furnished {
    let text = |v: &Value, p: &str| v.pointer(p).and_then(Value::as_str).unwrap().to_owned();
    let claimed = Client::new(control, None).call(
        "POST",
        "/api/v1/claim",
        Some(&json!({"claim": claim.expose(), "name": "ada"})),
    );
    let admin_key = Secret::new(text(&claimed.unwrap(), "/key/text"));
    let admin = Client::new(control, Some(admin_key.clone()));
    admin.call("PUT", "/api/v1/credentials/simulated", Some(&json!({"credential": OWN}))).unwrap();
    let all = ["openai.chat", "openai.responses", "openai.embeddings", "anthropic.messages"];
    let a_model = |name: &str, environment: &str| json!({"name": name, "spec": {"kind": "model", "upstream": "simulated", "dialects": all, "environment": environment, "project": "support"}});
    let documents = json!([
        {"name": "development", "spec": {"kind": "environment"}}, {"name": "production", "spec": {"kind": "environment"}},
        {"name": "support", "spec": {"kind": "project"}},
        {"name": "engineers", "spec": {"kind": "group", "roles": ["model-user"]}},
        {"name": "contractors", "spec": {"kind": "group", "roles": ["model-user"]}},
        {"name": "simulated", "spec": {"kind": "upstream", "base_url": format!("http://{model}"), "allow_private": true, "credential": "simulated"}},
        {"name": "guarded", "spec": {"kind": "upstream", "base_url": format!("http://{model}")}},
        a_model("assistant", "development"), a_model("assistant-prod", "production"), a_model("weights-lab", "development"),
        {"name": "private", "spec": {"kind": "model", "upstream": "guarded", "dialects": all, "environment": "development", "project": "support"}},
        {"name": "alice", "spec": {"kind": "user", "groups": ["engineers"]}}, {"name": "carol", "spec": {"kind": "user", "groups": ["contractors"]}},
        {"name": "mallory", "spec": {"kind": "user"}}
    ]);
    admin.call("POST", "/api/v1/resources", Some(&documents)).unwrap();
    admin
        .call("PUT", "/api/v1/policy", Some(&json!({"files": {"policy.cedar": POLICY}, "expect": 1})))
        .unwrap();
    let key = |name: &str| {
        let value = admin
            .call("POST", "/api/v1/keys", Some(&json!({"principal_kind": "user", "principal": name})))
            .unwrap();
        (text(&value, "/id"), Secret::new(text(&value, "/text")))
    };
    let (alice, carol, mallory) = (key("alice"), key("carol").1, key("mallory").1);
    ((admin, admin_key), alice, carol, mallory)
}

fn reason(body: &Value) -> &str {
    body.pointer("/error/bartizan/reason")
        .or_else(|| body.pointer("/bartizan/reason"))
        .and_then(Value::as_str)
        .unwrap_or("none")
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_credential_only_the_houses_own_credential_reaches_the_model_and_it_never_comes_back() {
    let house = House::new().await;
    let (status, body) = house.chat(&house.alice.1, "assistant", "say: hi").await;
    assert_eq!((status, body.pointer("/choices/0/message/content")), (200, Some(&json!("hi"))), "{body}");
    let last = house.last().await;
    assert_eq!(last.pointer("/headers/authorization"), Some(&json!(format!("Bearer {OWN}"))));
    let seen = last.to_string();
    assert!(!seen.contains(house.alice.1.expose()), "the caller's key went upstream");
    let folder = house.stop().await;
    // Neither the provider's credential nor a caller's key lies anywhere in clear.
    let mut queue = vec![folder.path().to_owned()];
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            queue.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            for secret in [OWN, "btz_"] {
                let found = bytes.windows(secret.len()).filter(|w| *w == secret.as_bytes()).count();
                // A key's public handle is kept, in the state database alone; it begins like the key.
                assert!(
                    found == 0 || (secret == "btz_" && path.to_string_lossy().contains("state.db")),
                    "{secret} in {}",
                    path.display()
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_permit_nothing_reaches_the_model_on_any_refusal() {
    let house = House::new().await;
    let unknown =
        Secret::new("btz_000000000000_0000000000000000000000000000000000000000000000000".to_owned());
    let cases = [
        (&house.mallory, "assistant", 404, "model_not_found"),
        (&house.alice.1, "no-such-model", 404, "model_not_found"),
        (&house.alice.1, "assistant-prod", 401, "assurance_too_low"),
        (&house.alice.1, "weights-lab", 403, "approval_required"),
        (&unknown, "assistant", 401, "credential_malformed"),
    ];
    for (key, model, status, why) in cases {
        let (got, body) = house.chat(key, model, "say: hi").await;
        assert_eq!((got, reason(&body)), (status, why), "{model}: {body}");
    }
    for (body, status, why) in [
        (
            "{\"model\":\"assistant\",\"model\":\"assistant-prod\",\"messages\":[]}".to_owned(),
            400,
            "json_duplicate_key",
        ),
        (
            format!("{{\"model\":\"assistant\",\"messages\":{}{}}}", "[".repeat(30), "]".repeat(30)),
            400,
            "json_too_complex",
        ),
        (
            format!("{{\"model\":\"assistant\",\"messages\":[\"{}\"]}}", "x".repeat(30_000)),
            413,
            "body_too_large",
        ),
        ("{\"model\":\"assistant\"".to_owned(), 400, "body_malformed"),
        ("{\"messages\":[]}".to_owned(), 400, "body_malformed"),
    ] {
        let (base, key) = (house.data(), house.alice.1.clone());
        let (got, text) = blocking(move || raw(&base, &key, body.as_bytes())).await;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!((got, reason(&value)), (status, why), "{text}");
    }
    assert_eq!(house.last().await.pointer("/body"), Some(&json!("")), "something reached the model");
    house.stop().await;
}

/// Sends bytes that no JSON library would write.
fn raw(base: &str, key: &Secret<String>, body: &[u8]) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(base.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        key.expose(),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that has refused already may have closed its side.
    stream.write_all(body).unwrap_or_default();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap_or_default();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    (head.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_given_up() {
    use std::io::{Read as _, Write as _};
    let house = House::new().await;
    let (base, key) = (house.data(), house.alice.1.clone());
    let answer = blocking(move || {
        let mut stream = std::net::TcpStream::connect(base.trim_start_matches("http://")).unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{{\"mod\r\n",
            key.expose()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 2_048];
        let length = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(answer.get(..length).unwrap()).into_owned()
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn obligations_are_applied_in_both_directions_and_in_every_dialect() {
    let house = House::new().await;
    let say = "say: mail ann@mail.example or +49 30 901820";
    let (_, body) = house.chat(&house.carol, "assistant", say).await;
    assert_eq!(body.pointer("/choices/0/message/content"), Some(&json!("mail [email] or [phone]")), "{body}");
    let sent: Value =
        serde_json::from_str(house.last().await.pointer("/body").and_then(Value::as_str).unwrap()).unwrap();
    assert_eq!(sent.pointer("/messages/0/content"), Some(&json!("say: mail [email] or [phone]")));
    assert_eq!(sent.pointer("/max_completion_tokens"), Some(&json!(500)));
    let message =
        json!({"model": "assistant", "max_tokens": 9_000, "messages": [{"role": "user", "content": say}]});
    let (_, body) = house.post(&house.carol, "/v1/messages", message).await;
    assert_eq!(body.pointer("/content/0/text"), Some(&json!("mail [email] or [phone]")), "{body}");
    let sent: Value =
        serde_json::from_str(house.last().await.pointer("/body").and_then(Value::as_str).unwrap()).unwrap();
    assert_eq!(sent.pointer("/max_tokens"), Some(&json!(500)));
    let (_, body) =
        house.post(&house.carol, "/v1/responses", json!({"model": "assistant", "input": say})).await;
    assert_eq!(body.pointer("/output/0/content/0/text"), Some(&json!("mail [email] or [phone]")), "{body}");
    // What cannot be redacted is not forwarded.
    let image = json!({"model": "assistant", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]});
    let (status, body) = house.post(&house.carol, "/v1/chat/completions", image).await;
    assert_eq!((status, reason(&body)), (502, "obligation_failed"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_misbehaves_is_told_by_reason() {
    let house = House::new().await;
    for (prompt, status, why) in [("fault: redirect", 502, "upstream_redirect")] {
        let (got, body) = house.chat(&house.alice.1, "assistant", prompt).await;
        assert_eq!((got, reason(&body)), (status, why), "{body}");
    }
    // Garbage passes to those whose permit asks for nothing; it is not released where it would have to be redacted.
    let (status, body) = house.chat(&house.carol, "assistant", "fault: garbage").await;
    assert_eq!((status, reason(&body)), (502, "upstream_invalid"), "{body}");
    let (status, _) = house.chat(&house.alice.1, "assistant", "fault: status-503").await;
    assert_eq!(status, 503);
    // A private address without leave is never connected to.
    let (status, body) = house.chat(&house.alice.1, "private", "say: hi").await;
    assert_eq!((status, reason(&body)), (502, "egress_forbidden"), "{body}");
    let body = json!({"model": "assistant", "stream": true, "messages": [{"role": "user", "content": "fault: die-mid-stream and a longer text"}]});
    let (_, text) = house.post(&house.alice.1, "/v1/chat/completions", body).await;
    let text = text.as_str().unwrap();
    assert!(text.contains("upstream_truncated") && !text.contains("[DONE]"), "{text}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_epoch_an_open_stream_ends_after_its_key_was_revoked_and_the_next_call_is_refused() {
    let house = House::new().await;
    let body = json!({"model": "assistant", "stream": true, "messages": [{"role": "user", "content": "fault: endless"}]});
    let (client, admin) = (Client::new(&house.data(), Some(house.alice.1.clone())), Arc::new(house.admin));
    let stream = tokio::task::spawn_blocking(move || {
        client.raw("POST", "/v1/chat/completions", Some(&body), &[]).unwrap()
    });
    let (revoker, id) = (admin.clone(), house.alice.0.clone());
    blocking(move || revoker.call("POST", &format!("/api/v1/keys/{id}/revoke"), None).unwrap()).await;
    // Without the revocation this stream would never end.
    let (status, text) = tokio::time::timeout(Duration::from_secs(20), stream).await.unwrap().unwrap();
    let refused = status == 401 && text.contains("credential_revoked");
    assert!(refused || text.contains("stream_ended"), "{status} {text}");
    let base = house.node.data;
    let key = house.alice.1.clone();
    let (status, text) = blocking(move || {
        let body = json!({"model": "assistant", "messages": []});
        Client::new(&format!("http://{base}"), Some(key))
            .raw("POST", "/v1/chat/completions", Some(&body), &[])
            .unwrap()
    })
    .await;
    assert!(status == 401 && text.contains("credential_revoked"), "{text}");
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_recover_no_bundle_and_no_claim_locks_everybody_out_or_in() {
    let house = House::new().await;
    let admin = Arc::new(house.admin);
    let refused = |method: &'static str, path: &'static str, body: Value| {
        let admin = admin.clone();
        async move {
            match blocking(move || admin.call(method, path, Some(&body))).await {
                Err(bartizan_cli::ClientError::Refused { reason, .. }) => reason,
                other => panic!("{other:?}"),
            }
        }
    };
    let locking = "@id(\"nobody\") permit (principal in Role::\"model-user\", action, resource is Model);";
    let files = |text: &str| json!({"files": {"p.cedar": text}, "expect": 2});
    assert_eq!(refused("PUT", "/api/v1/policy", files(locking)).await, "constitution");
    assert_eq!(refused("PUT", "/api/v1/policy", files("permit (principal")).await, "invalid");
    assert_eq!(
        refused("PUT", "/api/v1/policy", json!({"files": {"p.cedar": POLICY}, "expect": 1})).await,
        "conflict"
    );
    assert_eq!(
        refused("PUT", "/api/v1/policy", json!({"files": {"p.cedar": POLICY}, "expect": u64::MAX})).await,
        "conflict"
    );
    assert_eq!(
        refused("POST", "/api/v1/claim", json!({"claim": "btzc_again", "name": "eve"})).await,
        "credential_unknown"
    );
    assert_eq!(
        refused(
            "POST",
            "/api/v1/resources",
            json!([{"name": "x", "spec": {"kind": "user", "groups": ["ghosts"]}}])
        )
        .await,
        "invalid"
    );
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_found_proven_and_survive_a_restart_and_a_second_process_is_refused() {
    let house = House::new().await;
    let (status, _) = house.chat(&house.alice.1, "assistant", "say: hi").await;
    assert_eq!(status, 200);
    assert!(Node::start(&config(house.folder.path(), &[])).await.is_err(), "two processes on one folder");
    let key = {
        let admin = house.admin;
        let list = blocking(move || {
            let list = admin.call("GET", "/api/v1/decisions?limit=1000", None).unwrap();
            (list, admin)
        })
        .await;
        let id = list
            .0
            .as_array()
            .unwrap()
            .iter()
            .find(|d| d.pointer("/record/what/action") == Some(&json!("model:invoke")))
            .unwrap();
        let id = id.pointer("/record/id").and_then(Value::as_str).unwrap().to_owned();
        assert_eq!(id.get(..4), Some("dec_"));
        house.node.seal().await.unwrap();
        let (proof, admin) = blocking(move || {
            let admin = list.1;
            (admin.call("GET", &format!("/api/v1/decisions/{id}/proof"), None).unwrap(), admin)
        })
        .await;
        drop(admin);
        let receipt =
            bartizan_ledger::Receipt::parse(proof.pointer("/proof").and_then(Value::as_str).unwrap())
                .unwrap();
        let entry = proof.pointer("/entry").and_then(Value::as_str).unwrap().to_owned();
        let log = house.folder.path().join("log/default");
        let period = std::fs::read_dir(log).unwrap().next().unwrap().unwrap().path();
        let key: bartizan_ledger::VerifierKey =
            std::fs::read_to_string(period.join("key.vkey")).unwrap().trim().parse().unwrap();
        assert!(receipt.verify(bartizan_ledger::leaf_hash(entry.as_bytes()), &key).is_ok());
        assert!(receipt.verify(bartizan_ledger::leaf_hash(b"{}"), &key).is_err());
        (key, period)
    };
    let old = std::fs::read(key.1.join("checkpoint")).unwrap();
    let folder = house.folder;
    house.node.stop().await;
    let again = Node::start(&config(folder.path(), &[])).await.unwrap();
    let alice = Client::new(&format!("http://{}", again.control), Some(house.alice.1));
    let (status, text) = blocking(move || alice.raw("GET", "/api/v1/whoami", None, &[]).unwrap()).await;
    assert!(status == 200 && text.contains("alice"), "a key did not survive the restart: {text}");
    again.seal().await.unwrap();
    again.stop().await;
    let report = bartizan_verify::verify_directory(&key.1, &key.0, Some(&old));
    assert!(report.ok, "{report:?}");
}
