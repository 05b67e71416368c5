//! Corpora through the real door: what a hostile store, a hostile model and a hostile neighbour get out of it.
//!
//! The store of most tests speaks Chroma's words and ignores every filter of a search: whatever it holds comes back, so only
//! what the house does itself keeps it in. `tests/outside/retrieve.py` runs the rest against real stores.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a test fails by panicking, and says what it looked at"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;

use serde_json::Map;

use super::*;

const SIGHT: &str = "00000000-0000-4000-8000-000000000001";

const RULES: &str = r#"
@id("librarians-fill") permit (principal in Group::"librarians", action in [Action::"data:write", Action::"data:read"], resource);
@id("engineers-search") permit (principal in Group::"engineers", action == Action::"collection:retrieve", resource in Corpus::"handbook")
unless { resource == Collection::"board" };
@id("engineers-read") permit (principal in Group::"engineers", action == Action::"document:read", resource in Corpus::"handbook")
when { ["public", "internal"].contains(resource.confidentiality) };
@id("listed-read") permit (principal is User, action == Action::"document:read", resource)
when { resource has readers && resource.readers.contains(principal) };
@id("groups-read") permit (principal, action == Action::"document:read", resource)
when { resource has reader_groups && principal in resource.reader_groups };
@id("switched-off") forbid (principal, action == Action::"document:read", resource) when { resource.status == "disabled" };
@id("contractors-search") permit (principal in Group::"contractors", action in Action::"data:read", resource in Corpus::"handbook");
@id("contractors-are-masked") @reason("personal_data") @remedy("redact(pii)")
forbid (principal in Group::"contractors", action in Action::"data:read", resource)
unless { context.obligations.contains("redact:pii") };
"#;

/// Chroma's words over rows in memory. A search ignores its filter.
#[derive(Debug, Default)]
struct Shelf {
    rows: BTreeMap<String, Map<String, Value>>,
    /// Requests, as path and body; headers beside.
    asked: Vec<(String, Value, String)>,
}

/// Whether a row matches, as far as the house itself asks in looking up one document.
fn matches(row: &Map<String, Value>, asked: &Value) -> bool {
    asked.as_object().is_none_or(|members| {
        members.iter().all(|(name, test)| match name.as_str() {
            "$and" => test.as_array().unwrap().iter().all(|part| matches(row, part)),
            "$or" => test.as_array().unwrap().iter().any(|part| matches(row, part)),
            field => {
                let have = row.get(field).unwrap_or(&Value::Null);
                match test.as_object().and_then(|test| test.iter().next()) {
                    None => have == test,
                    Some((sign, value)) => match sign.as_str() {
                        "$eq" => have == value,
                        "$in" => value.as_array().unwrap().contains(have),
                        "$lte" => have.as_u64() <= value.as_u64(),
                        "$gte" => have.as_u64() >= value.as_u64(),
                        other => panic!("{other}"),
                    },
                }
            }
        })
    })
}

impl Shelf {
    fn answer(&mut self, verb: &str, body: &Value) -> Value {
        let condition = body.get("where").cloned().unwrap_or_default();
        match verb {
            "query" | "get" => {
                let search = verb == "query";
                let found: Vec<_> =
                    self.rows.iter().filter(|(_, row)| search || matches(row, &condition)).collect();
                let ids: Vec<_> = found.iter().map(|(id, _)| json!(id)).collect();
                let texts: Vec<_> = found.iter().map(|(_, row)| row["body"].clone()).collect();
                let told: Vec<_> = found.iter().map(|(_, row)| json!(row)).collect();
                let near: Vec<_> = (0..found.len()).map(|n| json!(n as f64 / 10.0)).collect();
                if search {
                    json!({"ids": [ids], "documents": [texts], "metadatas": [told], "distances": [near]})
                } else {
                    json!({"ids": ids, "documents": texts, "metadatas": told})
                }
            }
            "upsert" => {
                for (n, id) in body["ids"].as_array().unwrap().iter().enumerate() {
                    let mut row = body["metadatas"][n].as_object().unwrap().clone();
                    row.insert("body".to_owned(), body["documents"][n].clone());
                    self.rows.insert(id.as_str().unwrap().to_owned(), row);
                }
                json!({})
            }
            "update" => {
                for (n, id) in body["ids"].as_array().unwrap().iter().enumerate() {
                    let row = self.rows.get_mut(id.as_str().unwrap()).unwrap();
                    for (name, value) in body["metadatas"][n].as_object().unwrap() {
                        if value.is_null() {
                            row.remove(name)
                        } else {
                            row.insert(name.clone(), value.clone())
                        };
                    }
                }
                json!({})
            }
            "delete" => {
                self.rows.retain(|_, row| !matches(row, &condition));
                json!({})
            }
            other => panic!("{other}"),
        }
    }
}

/// Serves a shelf, one request a connection.
fn serve(shelf: Arc<Mutex<Shelf>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = said.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let mut shelf = shelf.lock().unwrap();
            shelf.asked.push((path.clone(), body.clone(), head));
            let answer = shelf.answer(path.rsplit('/').next().unwrap(), &body).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            stream.get_mut().write_all((head + &answer).as_bytes()).unwrap_or_default();
        }
    });
    address
}

/// A house with a corpus, somebody who fills it, and those of the house who search it.
pub(super) struct Library {
    pub(super) house: House,
    shelf: Arc<Mutex<Shelf>>,
    pub(super) librarian: Secret<String>,
    pub(super) admin: Client,
}

pub(super) struct Told {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) label: Option<Value>,
    decision: String,
}

impl Told {
    /// The documents of the passages, in their order.
    fn documents(&self) -> Vec<&str> {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body["passages"].as_array().unwrap().iter().map(|p| p["document"].as_str().unwrap()).collect()
    }
}

fn send(base: &str, key: &Secret<String>, method: &str, path: &str, body: &Value) -> Told {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .build()
        .into();
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{base}{path}"))
        .header("authorization", format!("Bearer {}", key.expose()))
        .header("content-type", "application/json")
        .body(if body.is_null() { String::new() } else { body.to_string() })
        .unwrap();
    let mut answer = agent.run(request).unwrap();
    let header = |name: &str| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let label = header("x-bartizan-label").map(|text| serde_json::from_str(&text).unwrap());
    let decision = header("bartizan-decision").unwrap_or_default();
    let status = answer.status().as_u16();
    let text = answer.body_mut().read_to_string().unwrap();
    Told { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)), label, decision }
}

impl Library {
    pub(super) async fn new(more: Value) -> Self {
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let address = serve(shelf.clone());
        let store = json!({"type": "chroma", "upstream": "shelf", "collection": SIGHT});
        let upstream = json!({"name": "shelf", "spec": {"kind": "upstream", "base_url": format!("http://{address}"), "allow_private": true}});
        Self::on(shelf, (store, vec![upstream]), more, RULES).await
    }

    async fn on(
        shelf: Arc<Mutex<Shelf>>,
        (store, beside): (Value, Vec<Value>),
        more: Value,
        rules: &str,
    ) -> Self {
        let house = House::new().await;
        let admin = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
        let mut route = json!({"kind": "corpus_route", "store": store, "dimensions": 2, "metadata": {"year": "number", "lang": "text"}});
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let files = json!({"policy.cedar": POLICY, "library.cedar": rules});
        let (told, librarian) = (admin.clone(), admin.clone());
        let librarian = blocking(move || {
            let collection = |name: &str, confidentiality: &str| json!({"name": name, "spec": {"kind": "collection", "within": ["handbook"], "confidentiality": confidentiality, "integrity": "trusted"}});
            let mut all = beside;
            all.extend([
                json!({"name": "librarians", "spec": {"kind": "group"}}),
                json!({"name": "lee", "spec": {"kind": "user", "groups": ["librarians"]}}),
                json!({"name": "handbook", "spec": {"kind": "corpus"}}),
                json!({"name": "elsewhere", "spec": {"kind": "corpus"}}),
                collection("guides", "internal"),
                collection("board", "restricted"),
                json!({"name": "foreign", "spec": {"kind": "collection", "within": ["elsewhere"]}}),
                json!({"name": "handbook", "spec": route}),
            ]);
            told.call("POST", "/api/v1/resources", Some(&json!(all))).unwrap();
            told.call("PUT", "/api/v1/policy", Some(&json!({"files": files, "expect": 2}))).unwrap();
            let key = librarian.call("POST", "/api/v1/keys", Some(&json!({"principal_kind": "user", "principal": "lee"})));
            Secret::new(key.unwrap().pointer("/text").and_then(Value::as_str).unwrap().to_owned())
        })
        .await;
        Self { house, shelf, librarian, admin }
    }

    pub(super) async fn send(
        &self,
        key: &Secret<String>,
        method: &'static str,
        path: &str,
        body: Value,
    ) -> Told {
        let (base, key, path) = (self.house.data(), key.clone(), path.to_owned());
        blocking(move || send(&base, &key, method, &path, &body)).await
    }

    async fn put(&self, id: &str, text: &str, more: Value) -> Told {
        let mut body = json!({"collection": "guides", "passages": [{"text": text, "vector": [1.0, 0.5]}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send(&self.librarian, "PUT", &format!("/retrieve/handbook/documents/{id}"), body).await
    }

    pub(super) async fn written(&self, id: &str, text: &str, more: Value) {
        let told = self.put(id, text, more).await;
        assert_eq!(told.status, 200, "{id}: {}", told.body);
    }

    pub(super) async fn search(&self, key: &Secret<String>, more: Value) -> Told {
        let mut body = json!({"vector": [1.0, 0.5]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send(key, "POST", "/retrieve/handbook", body).await
    }

    /// How a decision ended, once it has.
    async fn outcome(&self, decision: &str) -> Value {
        for _ in 0..500 {
            let (admin, path) = (self.admin.clone(), format!("/api/v1/decisions/{decision}"));
            let found = blocking(move || admin.call("GET", &path, None).unwrap()).await;
            if let Some(outcome) = found.pointer("/outcome").filter(|o| !o.is_null()) {
                return outcome.clone();
            }
        }
        panic!("{decision} never ended")
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pitfall_what_is_filtered_afterwards_leaks_through_no_count_and_no_citation() {
    let library = Library::new(json!({})).await;
    let alice = library.house.alice.1.clone();
    let empty = library.search(&alice, json!({})).await;
    library.written("plan", "how we plan", json!({"passages": [{"text": "how we plan", "vector": [1.0, 0.5], "metadata": {"year": 2026, "lang": "en"}}]})).await;
    library
        .written(
            "pay",
            "what people earn",
            json!({"confidentiality": "restricted", "categories": ["salary"]}),
        )
        .await;
    library
        .written("draft", "for her eyes", json!({"confidentiality": "restricted", "readers": ["alice"]}))
        .await;
    let told = library.search(&alice, json!({})).await;
    assert_eq!(told.documents().into_iter().collect::<BTreeSet<_>>(), ["draft", "plan"].into());
    let text = told.body.to_string();
    for leak in ["pay", "earn", "salary", "score", "total", "distance"] {
        assert!(!text.contains(leak), "{leak}: {text}");
    }
    // The label is the join of what was given, and of nothing else.
    assert_eq!(told.label, Some(json!({"confidentiality": "restricted", "integrity": "trusted"})));
    let outcome = library.outcome(&told.decision).await;
    assert_eq!(outcome.pointer("/given/ids"), Some(&json!(["draft", "plan"])), "{outcome}");
    assert_eq!(outcome.pointer("/given/dropped"), Some(&json!(1)), "{outcome}");
    // Pitfall of D1: post-filter leaks through counts and citations. Nothing for you is answered like nothing there.
    library.rows().rows.retain(|_, row| row["id"] == "pay");
    let mut without = library.search(&alice, json!({})).await;
    assert_eq!((without.status, without.body.take(), without.label), (empty.status, empty.body, empty.label));
    library.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_part_of_the_stores_own_question_beside_tenant_collection_and_the_callers_filter() {
    let library = Library::new(json!({})).await;
    let alice = library.house.alice.1.clone();
    library.written("plan", "how we plan", json!({})).await;
    library.search(&alice, json!({"where": {"all": [{"field": "year", "at_least": 2024}, {"field": "lang", "in": ["en", "de"]}]}, "k": 3})).await;
    let asked = library.rows().asked.last().cloned().unwrap();
    assert!(asked.0.ends_with("/query"), "{}", asked.0);
    let condition = asked.1["where"].to_string();
    for part in [
        "\"tenant\"",
        "\"default\"",
        "\"collection\"",
        "\"guides\"",
        "\"confidentiality\"",
        "\"internal\"",
        "\"m_year\"",
        "\"m_lang\"",
        "\"synced_ms\"",
        "\"readers\"",
        "alice",
    ] {
        assert!(condition.contains(part), "{part}: {condition}");
    }
    // INV-CREDENTIAL: nothing of the caller's goes along.
    assert!(!format!("{asked:?}").contains(alice.expose()));
    assert!(!asked.2.to_ascii_lowercase().contains("authorization"));
    // Without any right to read, the store is not even asked.
    let before = library.rows().asked.len();
    let mallory = library.house.mallory.clone();
    let refused = library.search(&mallory, json!({"collections": ["guides"]})).await;
    assert_eq!((refused.status, reason(&refused.body)), (404, "not_found"), "{}", refused.body);
    assert_eq!(library.rows().asked.len(), before);
    library.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pitfall_the_model_chooses_the_tenant_or_whom_it_asks_for() {
    let library = Library::new(json!({})).await;
    let alice = library.house.alice.1.clone();
    library.written("plan", "how we plan", json!({})).await;
    for more in [
        json!({"tenant": "acme"}),
        json!({"user": "lee"}),
        json!({"namespace": "acme"}),
        json!({"where": {"field": "tenant", "is": "acme"}}),
        json!({"where": {"field": "confidentiality", "is": "restricted"}}),
        json!({"where": {"field": "m_year", "is": 1}}),
        json!({"where": {"$or": [{}]}}),
        json!({"where": {"field": "year", "is": {"$ne": 0}}}),
        json!({"where": {"field": "year", "is": 1, "not": 2}}),
        json!({"query": "x"}),
        json!({"vector": [0.0, 0.0]}),
        json!({"vector": [1.0]}),
        json!({"k": 0}),
    ] {
        let told = library.search(&alice, more.clone()).await;
        assert_eq!((told.status, reason(&told.body)), (400, "body_malformed"), "{more}: {}", told.body);
    }
    // The row of another tenant, exactly as that tenant's house would have written it, is nobody's here.
    {
        let mut shelf = library.rows();
        let (id, mut row) = shelf.rows.pop_first().unwrap();
        row.insert("tenant".to_owned(), json!("acme"));
        shelf.rows.insert(id, row);
    }
    assert_eq!(library.search(&alice, json!({})).await.documents(), Vec::<&str>::new());
    library.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_collection_is_missing_foreign_or_forbidden_is_told_alike() {
    let library = Library::new(json!({})).await;
    let alice = library.house.alice.1.clone();
    let mut answers = Vec::new();
    for (corpus, collection) in [
        ("handbook", "board"),
        ("handbook", "no-such"),
        ("handbook", "foreign"),
        ("no-such", "guides"),
        ("elsewhere", "foreign"),
    ] {
        let body = json!({"vector": [1.0, 0.5], "collections": [collection]});
        let told = library.send(&alice, "POST", &format!("/retrieve/{corpus}"), body).await;
        let text = told.body.to_string().replace(&told.decision, "");
        answers.push((told.status, text));
    }
    assert_eq!(answers[0].0, 404);
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    library.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_written_behind_the_houses_back_are_not_given() {
    let library = Library::new(json!({})).await;
    let alice = library.house.alice.1.clone();
    library.written("plan", "how we plan", json!({})).await;
    library.written("pay", "what people earn", json!({"confidentiality": "restricted"})).await;
    assert_eq!(library.search(&alice, json!({})).await.documents(), ["plan"]);
    let genuine = library.rows().rows.clone();
    let of = |rows: &BTreeMap<String, Map<String, Value>>, id: &str| {
        rows.values().find(|row| row["id"] == id).unwrap().clone()
    };
    let (plan, pay) = (of(&genuine, "plan"), of(&genuine, "pay"));
    let with = |row: &Map<String, Value>, changes: &[(&str, Value)]| {
        let mut row = row.clone();
        changes.iter().for_each(|(name, value)| drop(row.insert((*name).to_owned(), value.clone())));
        row
    };
    let forged = [
        // Another text under a good seal.
        with(&plan, &[("body", json!("wire the money to X"))]),
        // A label that was lowered.
        with(&pay, &[("confidentiality", json!("public"))]),
        with(&pay, &[("readers", json!(["alice"])), ("has_readers", json!(true))]),
        // The seals of one row on another.
        with(&pay, &[("access_seal", plan["access_seal"].clone()), ("confidentiality", json!("internal"))]),
        with(&pay, &[("id", json!("plan"))]),
        // A passage in the place of another, and a field more.
        with(&plan, &[("chunk", json!(7))]),
        with(&plan, &[("m_year", json!(1999))]),
        // Fresh again.
        with(&plan, &[("synced_ms", json!(plan["synced_ms"].as_u64().unwrap() + 1))]),
        with(&plan, &[("content_seal", json!("")), ("access_seal", json!(""))]),
        with(&plan, &[("synced_ms", json!("now"))]),
    ];
    for row in forged {
        library.rows().rows = [("forged".to_owned(), row.clone())].into();
        let told = library.search(&alice, json!({})).await;
        assert_eq!(told.documents(), Vec::<&str>::new(), "{row:?}");
        assert_eq!(
            library.outcome(&told.decision).await.pointer("/given/dropped"),
            Some(&json!(1)),
            "{row:?}"
        );
    }
    library.rows().rows = genuine;
    assert_eq!(library.search(&alice, json!({})).await.documents(), ["plan"], "the genuine ones still are");
    library.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_lists_follow_their_source_in_its_order_and_old_ones_are_nobodys() {
    let library = Library::new(json!({"access_age_max_s": 3_600})).await;
    let alice = library.house.alice.1.clone();
    let secret = json!({"confidentiality": "restricted", "readers": ["alice"], "source_time": ago(600)});
    library.written("draft", "for her eyes", secret).await;
    assert_eq!(library.search(&alice, json!({})).await.documents(), ["draft"]);
    let access = |seconds: u64, more: Value| {
        let mut body = json!({"collection": "guides", "source_time": ago(seconds)});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let path = "/retrieve/handbook/documents/draft/access";
    let lee = library.librarian.clone();
    let taken = library.send(&lee, "PUT", path, access(60, json!({}))).await;
    assert_eq!(taken.status, 200, "{}", taken.body);
    assert_eq!(library.search(&alice, json!({})).await.documents(), Vec::<&str>::new(), "taken off the list");
    // What the source said earlier comes late, and changes nothing.
    let late = library.send(&lee, "PUT", path, access(300, json!({"readers": ["alice"]}))).await;
    assert_eq!((late.status, reason(&late.body)), (409, "conflict"), "{}", late.body);
    let late =
        library.put("draft", "for her eyes", json!({"readers": ["alice"], "source_time": ago(300)})).await;
    assert_eq!((late.status, reason(&late.body)), (409, "conflict"), "{}", late.body);
    let group = library.send(&lee, "PUT", path, access(30, json!({"reader_groups": ["engineers"]}))).await;
    assert_eq!(group.status, 200, "{}", group.body);
    assert_eq!(library.search(&alice, json!({})).await.documents(), ["draft"], "by a group");
    let off = library
        .send(&lee, "PUT", path, access(20, json!({"reader_groups": ["engineers"], "status": "disabled"})))
        .await;
    assert_eq!(off.status, 200, "{}", off.body);
    assert_eq!(library.search(&alice, json!({})).await.documents(), Vec::<&str>::new(), "switched off");
    let future = json!({"collection": "guides", "source_time": "2099-01-01T00:00:00Z"});
    assert_eq!(library.send(&lee, "PUT", path, future).await.status, 400);
    // Nobody has told this one's list for longer than the route allows.
    library.written("old", "nobody looked", json!({"source_time": ago(4_000)})).await;
    let told = library.search(&alice, json!({})).await;
    assert_eq!(told.documents(), Vec::<&str>::new());
    assert_eq!(library.outcome(&told.decision).await.pointer("/given/dropped"), Some(&json!(2)));
    library.house.stop().await;
}

/// A moment so long ago, as RFC 3339.
#[expect(clippy::disallowed_methods, reason = "the house under test runs on the real clock")]
fn ago(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    bartizan_base::Timestamp::from_secs(now - seconds).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_a_document_over_and_what_is_gone_is_gone_from_the_index() {
    let mut rules = RULES.to_owned();
    write!(rules, r#"@id("engineers-write") permit (principal in Group::"engineers", action == Action::"document:write", resource) when {{ resource.confidentiality == "internal" }};"#).unwrap();
    let shelf = Arc::new(Mutex::new(Shelf::default()));
    let address = serve(shelf.clone());
    let store = json!({"type": "chroma", "upstream": "shelf", "collection": SIGHT});
    let upstream = json!({"name": "shelf", "spec": {"kind": "upstream", "base_url": format!("http://{address}"), "allow_private": true}});
    let library = Library::on(shelf, (store, vec![upstream]), json!({}), &rules).await;
    let alice = library.house.alice.1.clone();
    library.written("pay", "what people earn", json!({"confidentiality": "restricted"})).await;
    let path = "/retrieve/handbook/documents/pay";
    let body = json!({"collection": "guides", "confidentiality": "internal", "passages": [{"text": "mine", "vector": [1.0, 0.5]}]});
    let taken = library.send(&alice, "PUT", path, body.clone()).await;
    assert_eq!((taken.status, reason(&taken.body)), (404, "not_found"), "{}", taken.body);
    let access = json!({"collection": "guides", "source_time": ago(0), "readers": ["alice"]});
    assert_eq!(library.send(&alice, "PUT", &format!("{path}/access"), access).await.status, 404);
    let gone = library.send(&alice, "DELETE", &format!("{path}?collection=guides"), Value::Null).await;
    let none = library
        .send(&alice, "DELETE", "/retrieve/handbook/documents/none?collection=guides", Value::Null)
        .await;
    let bare = |told: &Told| (told.status, told.body.to_string().replace(&told.decision, ""));
    assert_eq!(bare(&gone), bare(&none), "there, and not to be touched, is told like not there");
    assert!(library.rows().rows.values().any(|row| row["body"] == "what people earn"), "it is still there");
    // What she may write she may write, and take out again.
    let own = library.send(&alice, "PUT", "/retrieve/handbook/documents/note", body).await;
    assert_eq!(own.status, 200, "{}", own.body);
    assert_eq!(library.search(&alice, json!({})).await.documents(), ["note"]);
    let gone = library
        .send(&alice, "DELETE", "/retrieve/handbook/documents/note?collection=guides", Value::Null)
        .await;
    assert_eq!(gone.status, 200, "{}", gone.body);
    assert!(library.rows().rows.values().all(|row| row["id"] != "note"), "acknowledged, so no longer there");
    // Somebody without any right to write does not reach the store.
    let before = library.rows().asked.len();
    let carol = library.house.carol.clone();
    let body = json!({"collection": "guides", "passages": [{"text": "x", "vector": [1.0, 0.5]}]});
    assert_eq!(library.send(&carol, "PUT", "/retrieve/handbook/documents/x", body).await.status, 404);
    assert_eq!(library.rows().asked.len(), before);
    library.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_document_is_decided_on_as_declared_whatever_the_store_says_of_it() {
    let library = Library::new(json!({})).await;
    let alice = library.house.alice.1.clone();
    library.written("memo", "first public", json!({"confidentiality": "public"})).await;
    assert_eq!(library.search(&alice, json!({})).await.documents(), ["memo"]);
    let declare = |within: &str, confidentiality: &str| {
        let body = json!([{"name": "memo", "spec": {"kind": "document", "within": [within], "confidentiality": confidentiality}}]);
        let admin = library.admin.clone();
        blocking(move || admin.call("POST", "/api/v1/resources", Some(&body)).unwrap())
    };
    declare("guides", "restricted").await;
    assert_eq!(library.search(&alice, json!({})).await.documents(), Vec::<&str>::new());
    // Declared as somebody else's: the name gives the row no rights.
    declare("foreign", "public").await;
    assert_eq!(library.search(&alice, json!({})).await.documents(), Vec::<&str>::new());
    library.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_become_vectors_by_a_model_call_of_the_same_caller_and_probing_is_bounded() {
    let library =
        Library::new(json!({"model": "assistant", "searches_per_minute": 4, "dimensions": 4})).await;
    let alice = library.house.alice.1.clone();
    let passage = |text: &str| json!({"passages": [{"text": text, "vector": [0.5, 0.5, 0.0, 0.0]}]});
    library.written("plan", "", passage("how we plan")).await;
    let ask = json!({"query": "how do we plan?", "k": 1});
    let told = library.send(&alice, "POST", "/retrieve/handbook", ask.clone()).await;
    assert_eq!(told.documents(), ["plan"]);
    let last = library.house.last().await;
    assert!(last.to_string().contains("how do we plan?"), "{last}");
    // Contractors may search but are masked: in what goes to the model, and in what comes back.
    library.written("mail", "", passage("write to ann@mail.example")).await;
    let carol = library.house.carol.clone();
    let masked = library
        .send(
            &carol,
            "POST",
            "/retrieve/handbook",
            json!({"query": "who is bob@mail.example?", "collections": ["guides"]}),
        )
        .await;
    let seen = masked.body.to_string();
    assert!(seen.contains("write to [email]") && !seen.contains("ann@mail"), "{seen}");
    assert!(!library.house.last().await.to_string().contains("bob@mail.example"));
    // Lee may search and may not use the model.
    let lee = library.librarian.clone();
    let refused = library.send(&lee, "POST", "/retrieve/handbook", ask.clone()).await;
    assert_eq!((refused.status, reason(&refused.body)), (404, "model_not_found"), "{}", refused.body);
    for _ in 0..3 {
        assert_eq!(library.send(&alice, "POST", "/retrieve/handbook", ask.clone()).await.status, 200);
    }
    let asked = library.rows().asked.len();
    let many = library.send(&alice, "POST", "/retrieve/handbook", ask.clone()).await;
    assert_eq!((many.status, reason(&many.body)), (429, "searches_too_many"), "{}", many.body);
    assert_eq!(library.rows().asked.len(), asked);
    assert_eq!(
        library.send(&carol, "POST", "/retrieve/handbook", ask).await.status,
        200,
        "each caller for themselves"
    );
    library.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_of_the_store_is_decided_row_by_row_and_never_allowed() {
    // A rule over two fields of a row is nothing that Chroma can be asked.
    let rules = RULES.replace(
        r#"["public", "internal"].contains(resource.confidentiality)"#,
        r#"resource.confidentiality != "restricted" && resource.integrity != resource.confidentiality"#,
    );
    let shelf = Arc::new(Mutex::new(Shelf::default()));
    let address = serve(shelf.clone());
    let store = json!({"type": "chroma", "upstream": "shelf", "collection": SIGHT});
    let upstream = json!({"name": "shelf", "spec": {"kind": "upstream", "base_url": format!("http://{address}"), "allow_private": true}});
    let library = Library::on(shelf, (store, vec![upstream]), json!({"check_max": 33}), &rules).await;
    let alice = library.house.alice.1.clone();
    library.written("plan", "how we plan", json!({})).await;
    library.written("pay", "what people earn", json!({"confidentiality": "restricted"})).await;
    assert_eq!(library.search(&alice, json!({"k": 1})).await.documents(), ["plan"]);
    let asked = library.rows().asked.last().cloned().unwrap().1;
    assert_eq!(asked["n_results"], json!(33), "bounded");
    assert!(asked["where"].to_string().contains("\"tenant\""), "{asked}");
    library.house.stop().await;
}

// --- real stores: run by tests/outside/retrieve.py ---------------------------------------------------------------

#[path = "retrieve_real.rs"]
mod real;
