//! Content is kept where policy says so, and nowhere else; it is read by whom policy lets, and erased so that it is gone.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use bartizan_base::{Clock, Digest, Timestamp, json as canonical};
use bartizan_keys::KeyFolder;
use bartizan_model::record::{Body, Intent, Outcome, Record, System};
use bartizan_model::{Commitment, DecisionId, PayloadRef, Tenant};
use bartizan_rt::{SystemClock, SystemRandom};
use bartizan_vault::{Opening, Place, Vault, VaultError};

use super::*;

#[path = "doctor.rs"]
mod doctor;

/// Words that stand in prompts and answers, and in nothing that the house writes by itself.
const MARK: &str = "quince-marmalade";
const AGENT: &str = "Quince-Browser/7";
const PURPOSE: &str = "quince research";

const KEEPING: &str = r#"
@id("auditors-read-kept-content")
permit (principal in Role::"auditor", action == Action::"content:read", resource);

@id("engineers-are-kept")
@remedy("keep(content)")
forbid (principal in Group::"engineers", action in Action::"model:use", resource)
unless { context.obligations.contains("keep:content") };

@id("contractors-are-kept")
@remedy("keep(content)")
forbid (principal in Group::"contractors", action in Action::"model:use", resource)
unless { context.obligations.contains("keep:content") };
"#;

/// A house that keeps what engineers and contractors say, with an auditor, and somebody whom it does not keep.
struct Kept {
    house: House,
    /// Reads kept content.
    bob: Secret<String>,
    /// Is not kept.
    dave: Secret<String>,
}

impl Kept {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&'static str, String)]) -> Self {
        let house = House::with(settings).await;
        let admin = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
        let (bob, dave) = blocking(move || {
            let people = json!([
                {"name": "bob", "spec": {"kind": "user", "roles": ["auditor"]}},
                {"name": "dave", "spec": {"kind": "user", "roles": ["model-user"]}}
            ]);
            admin.call("POST", "/api/v1/resources", Some(&people)).unwrap();
            let files = json!({"policy.cedar": POLICY, "keep.cedar": KEEPING});
            admin.call("PUT", "/api/v1/policy", Some(&json!({"files": files, "expect": 2}))).unwrap();
            let key = |name: &str| {
                let body = json!({"principal_kind": "user", "principal": name});
                let made = admin.call("POST", "/api/v1/keys", Some(&body)).unwrap();
                Secret::new(made.pointer("/text").and_then(Value::as_str).unwrap().to_owned())
            };
            (key("bob"), key("dave"))
        })
        .await;
        Self { house, bob, dave }
    }

    /// A model call: status, answer and the decision.
    async fn ask(&self, key: &Secret<String>, path: &str, body: Value) -> (u16, String, DecisionId) {
        let (to, key) = (format!("{}{path}", self.house.data()), key.clone());
        blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let request = agent
                .post(&to)
                .header("authorization", &format!("Bearer {}", key.expose()))
                .header("content-type", "application/json")
                .header("user-agent", AGENT)
                .header("x-bartizan-purpose", PURPOSE);
            let mut answer = request.send(body.to_string()).unwrap();
            let decision = answer.headers().get("bartizan-decision").unwrap().to_str().unwrap();
            let decision = decision.parse().unwrap();
            (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap(), decision)
        })
        .await
    }

    async fn chat(&self, key: &Secret<String>, prompt: &str) -> (u16, String, DecisionId) {
        let body = json!({"model": "assistant", "messages": [{"role": "user", "content": prompt}]});
        self.ask(key, "/v1/chat/completions", body).await
    }

    /// A call of the control API: status and answer.
    async fn control(
        &self,
        key: &Secret<String>,
        method: &'static str,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let client = Client::new(&format!("http://{}", self.house.node.control), Some(key.clone()));
        let path = path.to_owned();
        let body = (!body.is_null()).then_some(body);
        let (status, text) = blocking(move || client.raw(method, &path, body.as_ref(), &[]).unwrap()).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    async fn admin(&self, method: &'static str, path: &str, body: Value) -> (u16, Value) {
        self.control(&self.house.admin_key.clone(), method, path, body).await
    }

    /// The record of a decision and how it ended, once it has.
    async fn record(&self, id: DecisionId) -> (Intent, Outcome) {
        for _ in 0..500 {
            let (status, found) = self.admin("GET", &format!("/api/v1/decisions/{id}"), Value::Null).await;
            assert_eq!(status, 200, "{found}");
            if found.pointer("/outcome").is_some_and(|o| !o.is_null()) {
                let read =
                    |at: &str| serde_json::from_value::<Record>(found.pointer(at).unwrap().clone()).unwrap();
                let (Body::Intent(intent), Body::Outcome(outcome)) =
                    (read("/record").body, read("/outcome").body)
                else {
                    panic!("{found}")
                };
                return (intent, outcome);
            }
        }
        panic!("{id} never ended")
    }

    async fn content(&self, id: DecisionId) -> Value {
        let (status, content) = self
            .control(&self.bob.clone(), "GET", &format!("/api/v1/decisions/{id}/content"), Value::Null)
            .await;
        assert_eq!(status, 200, "{content}");
        content
    }

    fn vault_folder(&self) -> PathBuf {
        self.house.folder.path().join("vault")
    }

    /// How often the model was called.
    async fn calls(&self) -> u64 {
        self.house.last().await.pointer("/count").and_then(Value::as_u64).unwrap()
    }
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {value}"))
}

/// Every file below `folder`, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut out, mut queue) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            queue.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            out.insert(path, bytes);
        }
    }
    out
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && bytes.windows(needle.len()).any(|window| window == needle)
}

/// The records of the tenant's sealed log, which must verify, in canonical JSON.
fn entries(data: &Path) -> Vec<String> {
    let log = command_line::log_folder(&data.join("log/default"));
    let key = std::fs::read_to_string(log.join("key.vkey")).unwrap().trim().parse().unwrap();
    let report = bartizan_verify::verify_directory(&log, &key, None);
    assert!(report.ok, "{report:?}");
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
        .env_clear()
        .args(["log", "show", log.to_str().unwrap(), "--limit", "100000"])
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The vault of a stopped house.
fn vault(data: &Path) -> Vault {
    let keys = KeyFolder::open(&data.join("keys")).unwrap();
    Vault::open(data, Arc::new(keys.sealer().unwrap()), Arc::new(SystemRandom::new())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policy_wants_kept_is_kept_as_it_went_out_in_every_dialect_whole_and_streamed() {
    let kept = Kept::new().await;
    let say = format!("say: {MARK} and more of it, to ann@mail.example");
    let messages = json!([{"role": "user", "content": say}]);
    for stream in [false, true] {
        for (path, body) in [
            ("/v1/chat/completions", json!({"model": "assistant", "stream": stream, "messages": messages})),
            (
                "/v1/messages",
                json!({"model": "assistant", "stream": stream, "max_tokens": 90, "messages": messages}),
            ),
            ("/v1/responses", json!({"model": "assistant", "stream": stream, "input": say})),
        ] {
            for key in [kept.house.alice.1.clone(), kept.house.carol.clone()] {
                let (status, answer, id) = kept.ask(&key, path, body.clone()).await;
                assert_eq!(status, 200, "{path}: {answer}");
                let (intent, outcome) = kept.record(id).await;
                let leaf = intent.kept.unwrap();
                assert!(outcome.kept.is_some() && outcome.bytes == answer.len() as u64, "{outcome:?}");
                let content = kept.content(id).await;
                // Byte for byte what reached the model, and what the caller received.
                let sent = kept.house.last().await;
                assert_eq!(content.pointer("/prompt/text"), sent.pointer("/body"));
                assert_eq!(at(&content, "/output/text"), answer, "{path}, streamed: {stream}");
                assert_eq!(at(&content, "/prompt/state"), "kept");
                // After redaction: what a contractor may not see is not kept of it either.
                let is_masked = key.expose() == kept.house.carol.expose();
                assert_eq!(!content.to_string().contains("ann@mail"), is_masked, "{content}");
                // Anybody can check the circumstances against the leaf, with what opens them.
                let digits = at(&content, "/opening").as_bytes().chunks(2);
                let bytes: Vec<u8> =
                    digits.map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap()).collect();
                let opening = Opening::from_key(Secret::new(bytes.try_into().unwrap()));
                assert_eq!(leaf.committed.len(), 3, "{leaf:?}");
                let expected = [("network", "127.0.0.1"), ("user_agent", AGENT), ("purpose", PURPOSE)];
                for (name, value) in expected {
                    let commitment: Commitment = leaf.committed[name];
                    assert_eq!(at(&content, &format!("/circumstances/{name}/value")), value);
                    assert!(opening.opens(&commitment, &name.parse().unwrap(), value), "{name}");
                }
            }
        }
    }
    // Nobody else is kept.
    let (status, _, id) = kept.chat(&kept.dave, &say).await;
    let (intent, outcome) = kept.record(id).await;
    assert_eq!((status, intent.kept, outcome.kept), (200, None, None));
    let path = format!("/api/v1/decisions/{id}/content");
    let (status, told) = kept.control(&kept.bob, "GET", &path, Value::Null).await;
    assert_eq!((status, at(&told, "/reason")), (404, "not_found"));
    // Nothing of it lies anywhere in clear.
    let folder = kept.house.stop().await;
    for (path, bytes) in files(folder.path()) {
        for mark in [MARK, AGENT, PURPOSE, "ann@mail"] {
            assert!(!holds(&bytes, mark.as_bytes()), "`{mark}` in {}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_content_is_read_by_whom_a_rule_names_alone_and_every_attempt_is_recorded() {
    let kept = Kept::new().await;
    let (_, _, id) = kept.chat(&kept.house.alice.1, &format!("say: {MARK}")).await;
    kept.record(id).await;
    let path = format!("/api/v1/decisions/{id}/content");
    // Running the house, or having said it, is not enough.
    for key in [&kept.house.admin_key, &kept.house.alice.1, &kept.dave] {
        let (status, told) = kept.control(key, "GET", &path, Value::Null).await;
        assert_eq!((status, at(&told, "/reason")), (403, "no_matching_permit"));
        assert!(!told.to_string().contains(MARK));
    }
    assert!(kept.content(id).await.to_string().contains(MARK));
    let unknown = DecisionId::from_parts(id.timestamp(), [7; 10]);
    let (status, _) =
        kept.control(&kept.bob, "GET", &format!("/api/v1/decisions/{unknown}/content"), Value::Null).await;
    assert_eq!(status, 404);
    let folder = kept.house.stop().await;
    let entries = entries(folder.path());
    let count = |kind: &str| {
        let kind = format!("\"kind\":\"{kind}\"");
        entries.iter().filter(|e| e.contains("\"content:read\"") && e.contains(&kind)).count()
    };
    assert_eq!((count("refusal"), count("intent")), (3, 2));
    // The same decision asked of the vault for another tenant, or about another subject, gives nothing.
    let vault = vault(folder.path());
    let intent = entries.iter().find(|e| e.contains(&format!("\"id\":\"{id}\""))).unwrap();
    let Body::Intent(intent) = serde_json::from_str::<Record>(intent).unwrap().body else { panic!() };
    let (own, other) = (Tenant::default_tenant(), Tenant("other".parse().unwrap()));
    let payload = intent.kept.unwrap().prompt;
    let read = |tenant, decision| {
        let place = Place { tenant, subject: intent.who.subject, decision };
        let read = vault.read_payload(&place, &payload, &mut Vec::new());
        (vault.get(&place).unwrap().len(), read)
    };
    assert!(matches!(read(&own, id), (3, Ok(_))));
    assert!(matches!(read(&other, id), (0, Err(VaultError::Absent))));
    assert!(matches!(read(&own, unknown), (0, Err(VaultError::Absent))));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_is_found_nowhere_and_the_ledger_still_proves_everything() {
    let kept = Kept::new().await;
    let alice = kept.house.alice.1.clone();
    let mut decisions = Vec::new();
    for stream in [false, true] {
        let messages = json!([{"role": "user", "content": format!("say: {MARK}")}]);
        let body = json!({"model": "assistant", "stream": stream, "messages": messages});
        let (status, _, id) = kept.ask(&alice, "/v1/chat/completions", body).await;
        assert_eq!(status, 200);
        decisions.push(id);
    }
    let mut payloads: Vec<PayloadRef> = Vec::new();
    let mut subject = None;
    for id in &decisions {
        let (intent, outcome) = kept.record(*id).await;
        subject = Some(intent.who.subject);
        payloads.extend([intent.kept.unwrap().prompt, outcome.kept.unwrap()]);
    }
    let subject = subject.unwrap().to_string();
    let (_, _, carols) = kept.chat(&kept.house.carol, "say: of somebody else").await;
    kept.record(carols).await;
    // What lies on the disk of alice's, by the digests in the leaves.
    let sealed: Vec<Vec<u8>> = payloads
        .iter()
        .map(|payload| {
            let name = payload.sha256.to_string();
            let bytes = std::fs::read(kept.vault_folder().join(name.get(..2).unwrap()).join(&name)).unwrap();
            assert_eq!((Digest::of(&bytes), bytes.len() as u64), (payload.sha256, payload.bytes));
            bytes
        })
        .collect();
    let proof = {
        kept.house.node.seal().await.unwrap();
        let (status, proof) =
            kept.admin("GET", &format!("/api/v1/decisions/{}/proof", decisions[0]), Value::Null).await;
        assert_eq!(status, 200, "{proof}");
        proof
    };

    // A legal hold comes first, and says its name.
    let holds_path = "/api/v1/subjects/user/alice/holds";
    let (status, _) =
        kept.admin("PUT", &format!("{holds_path}/case-17"), json!({"basis": "a claim is open"})).await;
    assert_eq!(status, 200);
    let erase = "/api/v1/subjects/user/alice/erase";
    let (status, told) = kept.admin("POST", erase, json!({"basis": "objection"})).await;
    assert_eq!((status, at(&told, "/reason")), (409, "legal_hold"));
    assert!(at(&told, "/message").contains("case-17"), "{told}");
    assert_eq!(at(&kept.content(decisions[0]).await, "/prompt/state"), "kept");
    let (_, listed) = kept.admin("GET", holds_path, Value::Null).await;
    assert_eq!(listed.pointer("/0/name"), Some(&json!("case-17")));
    let (status, _) = kept.admin("DELETE", &format!("{holds_path}/case-17"), Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(kept.admin("DELETE", &format!("{holds_path}/case-17"), Value::Null).await.0, 404);

    // Only who runs the house erases, on a ground that the law knows, and somebody whom there is.
    for key in [&alice, &kept.bob] {
        let (status, _) = kept.control(key, "POST", erase, json!({"basis": "objection"})).await;
        assert_eq!(status, 403);
    }
    assert_eq!(kept.admin("POST", erase, json!({"basis": "because alice wants it"})).await.0, 400);
    let nobody = "/api/v1/subjects/user/nobody/erase";
    assert_eq!(kept.admin("POST", nobody, json!({"basis": "objection"})).await.0, 404);

    let (status, erased) = kept.admin("POST", erase, json!({"basis": "objection"})).await;
    assert_eq!(
        (status, erased.pointer("/items"), erased.pointer("/payloads")),
        // Beside six circumstances the key under which lies what replay needs.
        (200, Some(&json!(7)), Some(&json!(4)))
    );
    // Asked again, by the pseudonym this time, it is the same erasure.
    let again = format!("/api/v1/subjects/principal/{subject}/erase");
    let (_, again) = kept.admin("POST", &again, json!({"basis": "objection"})).await;
    assert_eq!(at(&again, "/erasure"), at(&erased, "/erasure"));
    assert_ne!(at(&again, "/opening"), at(&erased, "/opening"), "two asks do not look equal");

    for id in &decisions {
        let content = kept.content(*id).await;
        for part in ["prompt", "output", "circumstances/network", "circumstances/user_agent"] {
            assert_eq!(at(&content, &format!("/{part}/state")), "erased", "{content}");
        }
        assert!(
            content.pointer("/prompt/text").unwrap().is_null()
                && content.pointer("/opening").unwrap().is_null()
        );
    }
    assert_eq!(at(&kept.content(carols).await, "/prompt/state"), "kept", "others are not touched");

    let folder = kept.house.stop().await;
    for (path, bytes) in files(folder.path()) {
        for sealed in &sealed {
            // Without its head, which others share; sealed under a key that is gone, and gone itself.
            assert!(!holds(&bytes, &sealed[5..]), "sealed content in {}", path.display());
        }
        for mark in [MARK, AGENT, PURPOSE] {
            assert!(!holds(&bytes, mark.as_bytes()), "`{mark}` in {}", path.display());
        }
        if path.to_string_lossy().contains("vault") {
            let key = payloads[0].key.to_string();
            assert!(!holds(&bytes, key.as_bytes()), "the wrapped data key in {}", path.display());
        }
    }
    // The log verifies, and so does the proof of before.
    let entries = entries(folder.path());
    let log = command_line::log_folder(&folder.path().join("log/default"));
    let key = std::fs::read_to_string(log.join("key.vkey")).unwrap().trim().parse().unwrap();
    let receipt = bartizan_ledger::Receipt::parse(at(&proof, "/proof")).unwrap();
    assert!(receipt.verify(bartizan_ledger::leaf_hash(at(&proof, "/entry").as_bytes()), &key).is_ok());

    // The house's own record: what, how much, on what ground; nobody's name.
    let told: Vec<&String> = entries.iter().filter(|e| e.contains("\"event\":\"erased\"")).collect();
    assert_eq!(told.len(), 2, "once for each ask");
    for entry in &told {
        for word in ["alice", &subject, "prn_", "ada"] {
            assert!(!entry.contains(word), "`{word}` in {entry}");
        }
    }
    let Body::System(System::Erased { of, items, payloads, .. }) =
        serde_json::from_str::<Record>(told[0]).unwrap().body
    else {
        panic!("{}", told[0])
    };
    assert_eq!((items, payloads), (7, 4));
    // Its ask commits to whose it was, for whoever has what opens it; guessing names leads nowhere.
    let ask = entries.iter().find(|e| e.contains(&format!("\"id\":\"{of}\""))).unwrap();
    let Body::Intent(ask) = serde_json::from_str::<Record>(ask).unwrap().body else { panic!("{ask}") };
    let request = |opening: &str| {
        let request = json!({"basis": "objection", "opening": opening, "subject": "user/alice"});
        Digest::of(&canonical::canonical(&request).unwrap())
    };
    assert_eq!(ask.what.body, request(at(&erased, "/opening")));
    assert_ne!(ask.what.body, request(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_even_a_list_would_have_to_be_kept_nothing_is_listed() {
    let kept = Kept::new().await;
    let list = async |path: &'static str| {
        let client = Client::new(&kept.house.data(), Some(kept.house.alice.1.clone()));
        let (status, text) = blocking(move || client.raw("GET", path, None, &[]).unwrap()).await;
        (status, reason(&serde_json::from_str(&text).unwrap()).to_owned())
    };
    assert_eq!(list("/v1/models").await.0, 200);
    let all = KEEPING.replace("action in Action::\"model:use\", resource", "action, resource is Model");
    let files = json!({"policy.cedar": POLICY, "keep.cedar": all});
    assert_eq!(kept.admin("PUT", "/api/v1/policy", json!({"files": files, "expect": 3})).await.0, 200);
    assert_eq!(list("/v1/models").await, (403, "obligation_unsupported".to_owned()));
    assert_eq!(list("/v1/models/assistant").await, (404, "model_not_found".to_owned()));
    let (status, _, id) = kept.chat(&kept.house.alice.1, "say: hi").await;
    assert!(status == 200 && kept.record(id).await.0.kept.is_some());
    kept.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_deny_a_vault_that_cannot_keep_refuses_before_anything_leaves() {
    let kept = Kept::new().await;
    let alice = kept.house.alice.1.clone();
    assert_eq!(kept.chat(&alice, "say: hi").await.0, 200);
    let before = kept.calls().await;
    // Nothing can be written there any more.
    let (folder, aside) = (kept.vault_folder().join("tmp"), kept.vault_folder().join("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    let (status, told, id) = kept.chat(&alice, &format!("say: {MARK}")).await;
    assert_eq!((status, told.contains("vault_unavailable")), (503, true), "{told}");
    assert_eq!(kept.calls().await, before, "nothing was forwarded");
    let (_, refusal) = kept.admin("GET", &format!("/api/v1/decisions/{id}"), Value::Null).await;
    assert_eq!(refusal.pointer("/record/reasons/0"), Some(&json!("vault_unavailable")), "{refusal}");
    assert_eq!(kept.chat(&kept.dave, "say: hi").await.0, 200, "who is not kept does not need the vault");
    std::fs::rename(&aside, &folder).unwrap();
    assert_eq!(kept.chat(&alice, "say: hi").await.0, 200);
    kept.house.stop().await;
}

/// Begins a stream and waits until `sign` was released.
async fn begin(kept: &Kept, path: &str, body: Value, sign: &'static str) -> (std::net::TcpStream, String) {
    let (base, key) = (kept.house.node.data, kept.house.alice.1.clone());
    let (path, body) = (path.to_owned(), body.to_string());
    blocking(move || {
        let mut stream = std::net::TcpStream::connect(base).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            key.expose(),
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut text = String::new();
        while !text.contains(sign) {
            let mut piece = [0; 1_024];
            let length = stream.read(&mut piece).unwrap();
            assert!(length > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(piece.get(..length).unwrap()));
        }
        (stream, text)
    })
    .await
}

/// Begins a stream that never ends by itself.
async fn begin_stream(kept: &Kept) -> (std::net::TcpStream, String) {
    let messages = json!([{"role": "user", "content": format!("{MARK} fault: endless")}]);
    let body = json!({"model": "assistant", "stream": true, "messages": messages});
    begin(kept, "/v1/chat/completions", body, "still here").await
}

async fn rest_of(mut stream: std::net::TcpStream) -> String {
    blocking(move || {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        rest
    })
    .await
}

fn decision_of(head: &str) -> DecisionId {
    let line = head.lines().find_map(|line| line.strip_prefix("bartizan-decision: ")).unwrap();
    line.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_before_the_end_is_kept_as_well() {
    let kept = Kept::new().await;
    let (stream, head) = begin_stream(&kept).await;
    drop(stream);
    let id = decision_of(&head);
    let (_, outcome) = kept.record(id).await;
    assert_eq!(serde_json::to_value(&outcome.end).unwrap(), json!({"how": "abandoned"}));
    assert!(outcome.kept.is_some(), "{outcome:?}");
    let content = kept.content(id).await;
    let output = at(&content, "/output/text");
    assert!(output.starts_with("data: {") && output.contains(": still here"), "{output}");
    kept.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_while_an_answer_is_on_its_way_is_not_kept_again_by_its_end() {
    let kept = Kept::new().await;
    let (stream, head) = begin_stream(&kept).await;
    let erase = "/api/v1/subjects/user/alice/erase";
    let (_, erased) = kept.admin("POST", erase, json!({"basis": "consent_withdrawn"})).await;
    assert_eq!(erased.pointer("/payloads"), Some(&json!(1)), "{erased}");
    drop(stream);
    let (_, outcome) = kept.record(decision_of(&head)).await;
    let end = json!({"how": "failed", "reason": "vault_unavailable"});
    assert_eq!((serde_json::to_value(&outcome.end).unwrap(), outcome.kept), (end, None));
    let (_, again) = kept.admin("POST", erase, json!({"basis": "consent_withdrawn"})).await;
    assert_eq!(at(&again, "/erasure"), at(&erased, "/erasure"), "nothing was put since");
    // Whoever asks anew is kept anew.
    let (_, _, id) = kept.chat(&kept.house.alice.1, "say: hi").await;
    kept.record(id).await;
    assert_eq!(at(&kept.content(id).await, "/output/state"), "kept");
    kept.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_content_cannot_be_kept_ends_with_an_error_and_without_its_end() {
    let kept = Kept::new().await;
    let (stream, head) = begin_stream(&kept).await;
    std::fs::rename(kept.vault_folder().join("tmp"), kept.vault_folder().join("aside")).unwrap();
    let key = format!("/api/v1/keys/{}/revoke", kept.house.alice.0);
    assert_eq!(kept.admin("POST", &key, Value::Null).await.0, 200);
    let rest = rest_of(stream).await;
    assert!(rest.contains("vault_unavailable") && !rest.contains("[DONE]"), "{rest}");
    let (_, outcome) = kept.record(decision_of(&head)).await;
    let end = json!({"how": "failed", "reason": "vault_unavailable"});
    assert_eq!((serde_json::to_value(&outcome.end).unwrap(), outcome.kept), (end, None));
    kept.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_frame_of_a_stream_is_not_released_before_all_of_it_is_kept() {
    let kept = Kept::new().await;
    // A model that takes its time between two pieces.
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let model = spawn(local, Options { gap_ms: 40, ..Options::default() }).await.unwrap();
    let documents = json!([
        {"name": "slow", "spec": {"kind": "upstream", "base_url": format!("http://{model}"), "allow_private": true}},
        {"name": "slow-model", "spec": {
            "kind": "model", "upstream": "slow", "environment": "development", "project": "support",
            "dialects": ["openai.chat", "openai.responses", "anthropic.messages"]
        }}
    ]);
    assert_eq!(kept.admin("POST", "/api/v1/resources", documents).await.0, 200);
    let say = format!("say: {}", "slowly ".repeat(20));
    let messages = json!([{"role": "user", "content": say}]);
    let (folder, aside) = (kept.vault_folder().join("tmp"), kept.vault_folder().join("aside"));
    for (path, body, last) in [
        ("/v1/chat/completions", json!({"messages": messages}), "[DONE]"),
        ("/v1/messages", json!({"messages": messages, "max_tokens": 99}), "event: message_stop"),
        ("/v1/responses", json!({"input": say}), "event: response.completed"),
    ] {
        let mut body = body;
        let more = json!({"model": "slow-model", "stream": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (stream, head) = begin(&kept, path, body.clone(), "data: {").await;
        std::fs::rename(&folder, &aside).unwrap();
        let rest = rest_of(stream).await;
        assert!(rest.contains("vault_unavailable") && !rest.contains(last), "{path}: {rest}");
        let (_, outcome) = kept.record(decision_of(&head)).await;
        assert_eq!(outcome.kept, None);
        std::fs::rename(&aside, &folder).unwrap();
        // The same with a vault that works is released whole, and kept whole.
        let (stream, head) = begin(&kept, path, body, "data: {").await;
        let rest = rest_of(stream).await;
        assert!(rest.contains(last) && !rest.contains("vault_unavailable"), "{path}: {rest}");
        let id = decision_of(&head);
        kept.record(id).await;
        assert!(at(&kept.content(id).await, "/output/text").contains(last));
    }
    kept.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_too_long_to_be_kept_is_not_released() {
    let kept = Kept::with(&[("limits.answer_bytes_max", "4000".to_owned())]).await;
    let alice = kept.house.alice.1.clone();
    let (status, told, id) = kept.chat(&alice, &format!("say: {}", "long ".repeat(1_000))).await;
    assert_eq!((status, told.contains("obligation_failed")), (502, true), "{told}");
    let (_, outcome) = kept.record(id).await;
    assert_eq!((outcome.kept, outcome.bytes), (None, 0));
    let messages = json!([{"role": "user", "content": format!("say: {}", "long ".repeat(1_000))}]);
    let body = json!({"model": "assistant", "stream": true, "messages": messages});
    let (_, text, id) = kept.ask(&alice, "/v1/chat/completions", body).await;
    assert!(text.contains("obligation_failed") && !text.contains("[DONE]"), "{text}");
    // What was released up to there is kept.
    let (_, outcome) = kept.record(id).await;
    let content = kept.content(id).await;
    let output = at(&content, "/output/text");
    assert!(outcome.bytes == output.len() as u64 && text.starts_with(output), "{output}");
    assert!(!output.is_empty() && output.len() <= 4_000);
    kept.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_vault_denies_what_it_would_have_to_keep() {
    let kept = Kept::with(&[("vault.enabled", "false".to_owned())]).await;
    let (status, told, _) = kept.chat(&kept.house.alice.1, "say: hi").await;
    assert_eq!((status, told.contains("obligation_unsupported")), (403, true), "{told}");
    assert_eq!(kept.calls().await, 0);
    assert_eq!(kept.chat(&kept.dave, "say: hi").await.0, 200);
    let (status, told) =
        kept.admin("POST", "/api/v1/subjects/user/alice/erase", json!({"basis": "child"})).await;
    assert_eq!((status, at(&told, "/reason")), (503, "vault_unavailable"));
    let folder = kept.house.stop().await;
    assert!(!folder.path().join("vault.db").exists() && !folder.path().join("vault").exists());
}

/// A clock that is ahead.
#[derive(Debug)]
struct Ahead(SystemClock, Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now().saturating_add(self.1)
    }
    fn monotonic_us(&self) -> u64 {
        self.0.monotonic_us()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes_by_itself_and_that_is_recorded() {
    let kept = Kept::new().await;
    let (_, _, id) = kept.chat(&kept.house.alice.1, &format!("say: {MARK}")).await;
    kept.record(id).await;
    let (bob, folder) = (kept.bob, kept.house.stop().await);
    let settings = [("vault.retention_days", "prompt=2, user_agent=2".to_owned())];
    let clock = Arc::new(Ahead(SystemClock::new(), Duration::from_secs(3 * 86_400)));
    let machine = Machine { clock, ..Machine::default() };
    let node = Node::start_on(&config(folder.path(), &settings), machine).await.unwrap();
    let client = Arc::new(Client::new(&format!("http://{}", node.control), Some(bob)));
    let state = |content: &Value, part: &str| at(content, &format!("/{part}/state")).to_owned();
    let expired = async {
        loop {
            let (client, path) = (client.clone(), format!("/api/v1/decisions/{id}/content"));
            let content = blocking(move || client.call("GET", &path, None).unwrap()).await;
            if state(&content, "prompt") == "expired" {
                return content;
            }
        }
    };
    let content = tokio::time::timeout(Duration::from_secs(20), expired).await.unwrap();
    assert_eq!(state(&content, "circumstances/user_agent"), "expired");
    for part in ["output", "circumstances/network", "circumstances/purpose"] {
        assert_eq!(state(&content, part), "kept");
    }
    node.stop().await;
    let entries = entries(folder.path());
    let told: Vec<_> = entries.iter().filter(|e| e.contains("\"event\":\"expired\"")).collect();
    assert!(
        told.len() == 1 && told[0].contains("\"items\":1") && told[0].contains("\"payloads\":1"),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_command_line_data_is_held_read_erased_and_stays_erased_after_a_restore() {
    let kept = Kept::new().await;
    let (_, _, id) = kept.chat(&kept.house.alice.1, &format!("say: {MARK}")).await;
    kept.record(id).await;
    let data = kept.house.folder.path().to_owned();
    let (control, keys) =
        (format!("http://{}", kept.house.node.control), [kept.house.admin_key.clone(), kept.bob.clone()]);
    let run = move |key: &Secret<String>, arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
            .env_clear()
            .env("BARTIZAN_CONTROL_URL", &control)
            .env("BARTIZAN_API_KEY", key.expose())
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (list, decision) = (data.join("erasures.json"), id.to_string());
    let at_list = list.clone();
    let backup = tempfile::tempdir().unwrap();
    let before = backup.path().to_owned();
    let from = data.clone();
    blocking(move || {
        let [ada, bob] = &keys;
        assert!(run(bob, &["decision", "content", &decision]).1.contains(MARK));
        assert_ne!(run(ada, &["decision", "content", &decision]).0, Some(0));
        let hold = ["subject", "hold", "user/alice", "--name", "case-1", "--basis", "a claim"];
        assert_eq!(run(ada, &hold).0, Some(0));
        assert!(run(ada, &["subject", "holds", "user/alice"]).1.contains("case-1"));
        let erase = ["subject", "erase", "user/alice", "--basis", "not_needed"];
        let (code, _, error) = run(ada, &erase);
        assert!(
            code == Some(5) && error.contains("case-1") && error.contains("legal_hold"),
            "{code:?} {error}"
        );
        assert_eq!(run(ada, &["subject", "release", "user/alice", "--name", "case-1"]).0, Some(0));
        assert_eq!(run(ada, &["subject", "erase", "alice", "--basis", "not_needed"]).0, Some(64));
        // A backup from before the erasure.
        copy(&from.join("vault"), &before.join("vault"));
        std::fs::copy(from.join("vault.db"), before.join("vault.db")).unwrap();
        let (code, out, error) = run(ada, &erase);
        assert!(code == Some(0) && out.contains("4 values and 2 payloads"), "{out}{error}");
        assert!(run(bob, &["decision", "content", &decision]).1.contains("prompt (erased)"));
        let (_, erasures, _) = run(ada, &["vault", "erasures"]);
        assert!(erasures.contains("ers_") && !erasures.contains("alice") && !erasures.contains("prn_"));
        std::fs::write(at_list, erasures).unwrap();
    })
    .await;
    let reapply = |list: &Path| {
        std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
            .env_clear()
            .args(["vault", "reapply", "--data-folder", data.to_str().unwrap(), list.to_str().unwrap()])
            .output()
            .unwrap()
    };
    assert_eq!(reapply(&list).status.code(), Some(1), "a node runs on the folder");
    let bob = kept.bob.clone();
    let folder = kept.house.stop().await;
    std::fs::remove_dir_all(data.join("vault")).unwrap();
    copy(&backup.path().join("vault"), &data.join("vault"));
    std::fs::copy(backup.path().join("vault.db"), data.join("vault.db")).unwrap();
    std::fs::write(data.join("broken.json"), "{}").unwrap();
    assert_eq!(reapply(&data.join("broken.json")).status.code(), Some(3));
    let output = reapply(&list);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("1 erasures"), "{output:?}");
    assert!(String::from_utf8_lossy(&reapply(&list).stdout).starts_with("0 erasures"));
    let node = Node::start(&config(folder.path(), &[])).await.unwrap();
    let client = Client::new(&format!("http://{}", node.control), Some(bob));
    let content =
        blocking(move || client.call("GET", &format!("/api/v1/decisions/{id}/content"), None).unwrap()).await;
    assert_eq!(at(&content, "/prompt/state"), "erased");
    node.stop().await;
    assert!(entries(folder.path()).iter().any(|e| e.contains("\"event\":\"reapplied\"")));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
