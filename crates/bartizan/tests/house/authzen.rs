//! The decision API: AuthZEN's certification scenario and interoperability scenarios, and what an enemy would try.
//!
//! The cases stand as facts in `authzen/*.json`: one request with what is expected a line, from the working group's
//! certification scenario (draft of 2026) and interoperability test data.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use super::*;

const POLICIES: &str = include_str!("authzen/policy.cedar");
const SCHEMA: &str = include_str!("authzen/schema.cedarschema");

/// A house with the scenarios' applications, and the key of each.
struct Applications {
    house: House,
    keys: BTreeMap<&'static str, Secret<String>>,
}

fn cases(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn entity(name: &str, kind: &str, id: &str, attributes: &Value, parents: &[String]) -> Value {
    json!({"name": name, "spec": {"kind": "entity", "type": kind, "id": id, "attributes": attributes, "parents": parents}})
}

/// What the scenarios' directories hold.
fn directory() -> Vec<Value> {
    let mut out = Vec::new();
    let mut add = |kind: &str, id: &str, attributes: Value, parents: &[String]| {
        out.push(entity(&format!("authzen-{}", out.len()), kind, id, &attributes, parents));
    };
    let staff = ["Cert::team::staff".to_owned()];
    add("Cert::team", "staff", json!({}), &[]);
    add("Cert::user", "alice", json!({}), &staff);
    add("Cert::user", "bob", json!({"role": "admin"}), &staff);
    add("Cert::record", "record-1", json!({"status": "active"}), &[]);
    add("Cert::record", "record-2", json!({"status": "archived"}), &[]);
    let role = |name: &str| format!("Todo::role::{name}");
    add("Todo::role", "viewer", json!({}), &[]);
    add("Todo::role", "editor", json!({}), &[role("viewer")]);
    add("Todo::role", "admin", json!({}), &[role("editor")]);
    add("Todo::role", "evil_genius", json!({}), &[role("editor")]);
    for (digit, name, house, roles) in [
        ("A", "rick", "citadel", vec![role("admin"), role("evil_genius")]),
        ("E", "morty", "citadel", vec![role("editor")]),
        ("I", "summer", "smiths", vec![role("editor")]),
        ("M", "beth", "smiths", vec![role("viewer")]),
        ("Q", "jerry", "smiths", vec![role("viewer")]),
    ] {
        let email = format!("{name}@the-{house}.com");
        let pid = format!("CiRmZD{digit}2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs");
        for id in [&email, &pid] {
            add("Todo::user", id, json!({"email": email}), &roles);
        }
    }
    for user in cases(include_str!("authzen/search-users.json")) {
        let attributes = json!({"role": user["role"], "department": user["department"]});
        add("Search::user", user["id"].as_str().unwrap(), attributes, &[]);
    }
    for record in cases(include_str!("authzen/search-records.json")) {
        let owner = json!({"type": "Search::user", "id": record["owner"]});
        let attributes = json!({"department": record["department"], "owner": owner});
        add("Search::record", &record["id"].to_string(), attributes, &[]);
    }
    let clerk = ["Shop::role::clerk".to_owned()];
    add("Shop::role", "clerk", json!({}), &[]);
    add("Shop::role", "manager", json!({}), &[]);
    add("Shop::person", "kim", json!({}), &clerk);
    add("Shop::person", "max", json!({}), &[clerk[0].clone(), "Shop::role::manager".to_owned()]);
    add("Shop::order", "small", json!({"total": 20}), &[]);
    add("Shop::order", "large", json!({"total": 2_000}), &[]);
    out
}

/// The applications and what each is believed.
fn points() -> [(&'static str, Value); 7] {
    [
        (
            "certified",
            json!({"namespace": "Cert", "subject_properties": ["role"], "action_properties": ["soft"], "resource_properties": ["status"], "context": ["ip"]}),
        ),
        ("todo", json!({"namespace": "Todo", "resource_properties": ["ownerID"]})),
        (
            "todo-draft",
            json!({"namespace": "Todo", "resource_properties": ["ownerID"], "flat_properties": true}),
        ),
        ("routes", json!({"namespace": "Todo", "types": {"identity": "Todo::user"}})),
        ("search", json!({"namespace": "Search"})),
        (
            "shop",
            json!({"namespace": "Shop", "applies": ["redact"], "context": ["country", "now", "approvals", "obligations"]}),
        ),
        ("shop-simple", json!({"namespace": "Shop", "resource_properties": ["total"]})),
    ]
}

impl Applications {
    async fn new() -> Self {
        let house = House::new().await;
        let admin = house.admin.clone();
        let keys = blocking(move || {
            let files = json!({"policy.cedar": format!("{POLICY}{POLICIES}"), "schema/applications.cedarschema": SCHEMA});
            admin.call("PUT", "/api/v1/policy", Some(&json!({"files": files, "expect": 2}))).unwrap();
            let mut documents = vec![json!({"name": "enforcement-point", "spec": {"kind": "role"}})];
            for (name, spec) in points() {
                let mut spec = spec;
                spec["kind"] = json!("enforcement_point");
                spec["workload"] = json!(name);
                documents.push(json!({"name": name, "spec": {"kind": "workload", "owner": "alice", "purpose": "asks", "roles": ["enforcement-point"]}}));
                documents.push(json!({"name": name, "spec": spec}));
            }
            documents.push(json!({"name": "stranger", "spec": {"kind": "workload", "owner": "alice", "purpose": "is not trusted", "roles": ["enforcement-point"]}}));
            documents.push(json!({"name": "nobody", "spec": {"kind": "workload", "owner": "alice", "purpose": "may not ask"}}));
            documents.extend(directory());
            admin.call("POST", "/api/v1/resources", Some(&json!(documents))).unwrap();
            let names = points().map(|(name, _)| name).into_iter().chain(["stranger", "nobody"]);
            let key = |name: &'static str| {
                let body = json!({"principal_kind": "workload", "principal": name});
                let made = admin.call("POST", "/api/v1/keys", Some(&body)).unwrap();
                (name, Secret::new(made["text"].as_str().unwrap().to_owned()))
            };
            names.map(key).collect()
        });
        let keys = keys.await;
        Self { house, keys }
    }

    async fn ask(&self, who: &str, path: &str, body: &Value) -> (u16, Value) {
        self.house.post(&self.keys[who], path, body.clone()).await
    }

    async fn evaluate(&self, who: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(who, "/access/v1/evaluation", body).await;
        assert_eq!(status, 200, "{body}: {answer}");
        answer
    }

    /// Every case of a file of single evaluations.
    async fn all(&self, who: &str, cases: &[Value]) {
        for case in cases {
            let answer = self.evaluate(who, &case["request"]).await;
            assert_eq!(answer["decision"], case["expected"], "{who}: {case}: {answer}");
        }
    }

    /// Every case of a file of searches, whose results are a set.
    async fn found(&self, who: &str, endpoint: &str, cases: &[Value]) {
        let set = |answer: &Value| {
            let all = answer["results"].as_array().unwrap().iter().map(ToString::to_string);
            all.collect::<std::collections::BTreeSet<_>>()
        };
        for case in cases {
            let path = format!("/access/v1/search/{endpoint}");
            let (status, answer) = self.ask(who, &path, &case["request"]).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(set(&answer), set(&case["expected"]), "{case}");
            assert_eq!(answer["page"]["next_token"], "");
        }
    }
}

/// One request over a bare connection: the answer's status and head.
fn bare(house: &House, key: Option<&Secret<String>>, head: &str, body: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(house.node.data).unwrap();
    let bearer = key.map(|key| format!("authorization: Bearer {}\r\n", key.expose())).unwrap_or_default();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: pdp.example\r\n{bearer}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // The head may bring headers of its own: they stand before the version.
    let request = match head.split_once('|') {
        None => request,
        Some((line, headers)) => request.replacen(
            &format!("{head} HTTP/1.1\r\n"),
            &format!("{line} HTTP/1.1\r\n{}\r\n", headers.replace('|', "\r\n")),
            1,
        ),
    };
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certification_scenario_holds_at_every_level() {
    let all = Applications::new().await;
    for case in cases(include_str!("authzen/certification.json")) {
        let (status, answer) = all.ask("certified", case["path"].as_str().unwrap(), &case["body"]).await;
        assert_eq!(json!(status), case.get("status").cloned().unwrap_or(json!(200)), "{case}: {answer}");
        if let Some(decision) = case.get("decision") {
            assert_eq!(&answer["decision"], decision, "{case}: {answer}");
        }
        if let Some(expected) = case.get("evaluations").and_then(Value::as_array) {
            let told = answer["evaluations"].as_array().unwrap();
            assert_eq!(told.len(), expected.len(), "{case}");
            for (one, expected) in told.iter().zip(expected) {
                assert!(one["decision"].is_boolean(), "{case}: {answer}");
                assert!(expected.is_null() || one["decision"] == *expected, "{case}: {answer}");
            }
        }
        if let Some(expected) = case.get("results").and_then(Value::as_array) {
            let told = answer["results"].as_array().unwrap();
            for one in expected {
                let has = |r: &Value| {
                    ["type", "id", "name"].iter().all(|m| one.get(m).is_none() || r.get(m) == one.get(m))
                };
                assert!(told.iter().any(has), "{case}: {answer}");
            }
        }
        if case.get("empty").is_some() {
            assert_eq!(answer["results"], json!([]), "{case}");
        }
    }
    // The same question, again and again (2.6), and by pages (4.5).
    let question = json!({"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}, "resource": {"type": "record", "id": "record-1"}});
    for _ in 0..5 {
        assert_eq!(all.evaluate("certified", &question).await["decision"], true);
    }
    let page = |page: Value| json!({"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record", "id": "record-1"}, "page": page});
    let (_, first) = all.ask("certified", "/access/v1/search/subject", &page(json!({"limit": 1}))).await;
    assert_eq!(first["results"], json!([{"type": "user", "id": "alice"}]));
    let token = first["page"]["next_token"].clone();
    let (_, second) =
        all.ask("certified", "/access/v1/search/subject", &page(json!({"limit": 5, "token": token}))).await;
    assert_eq!(second["results"], json!([{"type": "user", "id": "bob"}]));
    assert_eq!(second["page"]["next_token"], "");
    // Headers and bodies that are not what they should be (2.4.3 to 2.5).
    let key = all.keys["certified"].clone();
    let house = all.house;
    let house = blocking(move || {
        let post = |headers: &str, body: &str| {
            bare(&house, Some(&key), &format!("POST /access/v1/evaluation|{headers}"), body)
        };
        let (status, answer) =
            post("content-type: application/json|x-request-id: bfe9eb29-ab87", &question.to_string());
        assert_eq!(status, 200, "{answer}");
        assert!(answer.to_lowercase().contains("\r\nx-request-id: bfe9eb29-ab87\r\n"), "{answer}");
        assert!(answer.to_lowercase().contains("\r\ncontent-type: application/json\r\n"), "{answer}");
        assert!(answer.contains("bartizan-receipt"), "{answer}");
        assert_eq!(post("content-type: text/plain", &question.to_string()).0, 400);
        assert_eq!(post("content-type: application/json", "{\"subject\": ").0, 400);
        assert_eq!(post("content-type: application/json", "").0, 400);
        let (status, answer) = bare(
            &house,
            None,
            "POST /access/v1/evaluation|content-type: application/json|x-request-id: q",
            &question.to_string(),
        );
        assert_eq!(status, 401, "{answer}");
        assert!(answer.to_lowercase().contains("\r\nx-request-id: q\r\n"), "{answer}");
        let (status, answer) = bare(&house, None, "GET /.well-known/authzen-configuration", "");
        assert_eq!(status, 200);
        let metadata: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(metadata["policy_decision_point"], "http://pdp.example");
        assert_eq!(metadata["access_evaluation_endpoint"], "http://pdp.example/access/v1/evaluation");
        assert_eq!(metadata["supported_obligations"], json!(["custom"]));
        assert_eq!(metadata.as_object().unwrap().len(), 7);
        house
    });
    drop(house.await.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interoperability_scenarios_get_exactly_their_decisions_and_results() {
    let all = Applications::new().await;
    all.all("todo-draft", &cases(include_str!("authzen/todo-draft.json"))).await;
    all.all("todo", &cases(include_str!("authzen/todo.json"))).await;
    all.all("todo", &cases(include_str!("authzen/todo-02.json"))).await;
    all.all("routes", &cases(include_str!("authzen/gateway.json"))).await;
    for case in cases(include_str!("authzen/todo-batch.json")) {
        let (_, answer) = all.ask("todo", "/access/v1/evaluations", &case["request"]).await;
        let decisions =
            |list: &Value| list.as_array().unwrap().iter().map(|e| e["decision"].clone()).collect::<Vec<_>>();
        assert_eq!(decisions(&answer["evaluations"]), decisions(&case["expected"]), "{case}");
    }
    all.found("search", "subject", &cases(include_str!("authzen/search-subject.json"))).await;
    all.found("search", "resource", &cases(include_str!("authzen/search-resource.json"))).await;
    all.found("search", "action", &cases(include_str!("authzen/search-action.json"))).await;
    all.found("search", "resource", &cases(include_str!("authzen/idp.json"))).await;
    drop(all.house.stop().await);
}

fn order(subject: &str, action: &str, order: &str) -> Value {
    json!({"subject": {"type": "person", "id": subject}, "action": {"name": action}, "resource": {"type": "order", "id": order}})
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_argues_himself_into_a_right_by_what_he_tells() {
    let all = Applications::new().await;
    // A property that is not listed, or that the directory says otherwise, changes nothing.
    let mut morty = json!({"subject": {"type": "user", "id": "beth@the-smiths.com"}, "action": {"name": "can_create_todo"}, "resource": {"type": "todo", "id": "t"}});
    morty["subject"]["properties"] = json!({"roles": ["admin"], "email": "rick@the-citadel.com"});
    assert_eq!(all.evaluate("todo", &morty).await["decision"], false);
    let archived = json!({"subject": {"type": "user", "id": "alice"}, "action": {"name": "write"}, "resource": {"type": "record", "id": "record-2", "properties": {"status": "active"}}});
    assert_eq!(all.evaluate("certified", &archived).await["decision"], false, "the directory wins");
    let small = json!({"subject": {"type": "person", "id": "kim"}, "action": {"name": "void"}, "resource": {"type": "order", "id": "large", "properties": {"total": 1}}});
    assert_eq!(all.evaluate("shop-simple", &small).await["decision"], false, "the directory wins");
    // An order that the directory does not know is what the application says, if that is believed.
    let mut unknown = small.clone();
    unknown["resource"]["id"] = json!("of today");
    assert_eq!(all.evaluate("shop-simple", &unknown).await["decision"], true);
    let untrusted = all.evaluate("shop", &unknown).await;
    assert_eq!(
        (&untrusted["decision"], &untrusted["context"]["reasons"]),
        (&json!(false), &json!(["invalid"]))
    );
    // What is made by the house is not taken from anybody, though this one's list names it.
    let mut void = order("max", "void", "small");
    void["context"] = json!({"approvals": ["shop-managers-void-with-approval"], "obligations": ["redact:email"], "now": "2000-01-01"});
    let refused = all.evaluate("shop", &void).await;
    assert_eq!(
        (&refused["decision"], &refused["context"]["reasons"]),
        (&json!(false), &json!(["approval_required"]))
    );
    // What is not declared is believed nothing, and the house's own actions cannot be asked about.
    let mut abroad = order("kim", "void", "small");
    assert_eq!(all.evaluate("shop", &abroad).await["decision"], true);
    abroad["context"] = json!({"country": "LI"});
    assert_eq!(all.evaluate("shop", &abroad).await["decision"], false);
    let full = |kind: &str, id: &str, action: &str, of: &str, resource: &str| json!({"subject": {"type": kind, "id": id}, "action": {"name": action}, "resource": {"type": of, "id": resource}});
    for (who, question) in [
        ("stranger", full("User", "ada", "policy:apply", "Policy", "bartizan")),
        ("stranger", full("User", "alice", "model:invoke", "Model", "assistant")),
        ("stranger", full("Shop::person", "kim", "void", "Shop::order", "small")),
        ("stranger", full("No such::type!", "\u{0}\"); drop", "read", "record", "x")),
        ("shop", full("person", "kim", "read", "order", "small")),
        ("shop", full("person", &"x".repeat(2_000), "void", "order", "small")),
    ] {
        assert_eq!(all.evaluate(who, &question).await["decision"], false, "{question}");
    }
    // Who may not ask is told nothing, and an unknown key even less.
    let (status, answer) = all.ask("nobody", "/access/v1/evaluation", &order("kim", "void", "small")).await;
    assert_eq!(
        (status, answer.pointer("/error/code")),
        (403, Some(&json!("no_matching_permit"))),
        "{answer}"
    );
    let (status, _) = all
        .house
        .post(&Secret::new("btz_nonsense".to_owned()), "/access/v1/evaluation", order("kim", "void", "small"))
        .await;
    assert_eq!(status, 401);
    let (status, _) = all.ask("shop", "/access/v1/nothing", &json!({})).await;
    assert_eq!(status, 404);
    drop(all.house.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn obligations_reach_those_who_can_apply_them_and_batches_stop_where_they_say() {
    let all = Applications::new().await;
    let seen = all.evaluate("shop", &order("kim", "see", "small")).await;
    assert_eq!(seen["decision"], true);
    let obligation = &seen["context"]["obligations"][0];
    assert_eq!((&obligation["id"], &obligation["type"]), (&json!("obl-1"), &json!("custom")));
    assert_eq!(obligation["properties"]["obligation"], json!({"kind": "redact", "detectors": ["email"]}));
    // One that cannot apply it, or says so, is told no.
    let unable = all.evaluate("shop-simple", &order("kim", "see", "small")).await;
    assert_eq!(unable["context"]["reasons"], json!(["obligation_unsupported"]));
    let mut negotiated = order("kim", "see", "small");
    negotiated["context"] = json!({"supported_obligations": ["notification"]});
    assert_eq!(all.evaluate("shop", &negotiated).await["decision"], false);
    negotiated["context"] = json!({"supported_obligations": ["custom"]});
    assert_eq!(all.evaluate("shop", &negotiated).await["decision"], true);
    for (semantic, expected) in [
        ("execute_all", json!([true, false, true])),
        ("deny_on_first_deny", json!([true, false])),
        ("permit_on_first_permit", json!([true])),
    ] {
        let batch = json!({"subject": {"type": "person", "id": "kim"}, "action": {"name": "void"},
            "evaluations": [{"resource": {"type": "order", "id": "small"}}, {"resource": {"type": "order", "id": "large"}}, {"resource": {"type": "order", "id": "small"}}],
            "options": {"evaluations_semantic": semantic}});
        let (status, answer) = all.ask("shop", "/access/v1/evaluations", &batch).await;
        let told: Vec<_> =
            answer["evaluations"].as_array().unwrap().iter().map(|e| e["decision"].clone()).collect();
        assert_eq!((status, json!(told)), (200, expected), "{semantic}");
    }
    // A place in one search is none in another, nor another application's.
    let search = |action: &str, token: &str| json!({"subject": {"type": "user", "id": "alice"}, "action": {"name": action}, "resource": {"type": "record"}, "page": {"limit": 3, "token": token}});
    let (_, page) = all.ask("search", "/access/v1/search/resource", &search("view", "")).await;
    let token = page["page"]["next_token"].as_str().unwrap();
    assert_eq!(page["results"].as_array().unwrap().len(), 3);
    assert!(!token.contains("101") && !token.is_empty());
    for (who, question) in [
        ("search", search("edit", token)),
        ("todo", search("view", token)),
        ("search", search("view", "AAAA")),
    ] {
        let (status, answer) = all.ask(who, "/access/v1/search/resource", &question).await;
        assert_eq!(status, 400, "{answer}");
    }
    let mut pages = vec![page.clone()];
    while let Some(token) = pages
        .last()
        .and_then(|p| p["page"]["next_token"].as_str())
        .filter(|t| !t.is_empty())
        .map(str::to_owned)
    {
        pages.push(all.ask("search", "/access/v1/search/resource", &search("view", &token)).await.1);
    }
    assert_eq!(pages.iter().map(|p| p["results"].as_array().unwrap().len()).sum::<usize>(), 20);
    // The ledger says who asked how much, before the answer left.
    let latest = blocking({
        let admin = all.house.admin.clone();
        move || admin.call("GET", "/api/v1/decisions?limit=9", None).unwrap()
    });
    let lines = latest.await;
    let records = lines.as_array().unwrap().iter().map(|line| &line["record"]);
    let last = records.into_iter().find(|record| record["what"]["action"] == "access:search").unwrap();
    assert_eq!(last["kind"], "intent");
    assert_eq!((&last["target"]["target"], &last["target"]["permitted"]), (&json!("answer"), &json!(2)));
    drop(all.house.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_asks_with_the_client_and_only_a_whole_yes_is_one() {
    use bartizan_client::{Client as Asker, Error, Question, Semantic};
    let all = Applications::new().await;
    let (base, keys) = (all.house.data(), all.keys.clone());
    let asked = blocking(move || {
        let of = |who: &str| Asker::new(&base, keys[who].expose().clone()).unwrap();
        let (shop, search) = (of("shop"), of("search"));
        let see = Question::new(("person", "kim"), "see", ("order", "small"));
        let answer = shop.evaluate(&see).unwrap();
        assert!(!answer.permits_plainly(), "nobody masked anything");
        assert!(answer.permits(|o| o.own("redact").is_some_and(|r| r["detectors"] == json!(["email"]))));
        let void = Question::new(("person", "kim"), "void", ("order", "small"));
        let abroad = void.clone().with_context("country", "LI");
        let answers =
            shop.evaluate_all(&[void.clone(), abroad.clone(), void.clone()], Semantic::default()).unwrap();
        assert_eq!(answers.iter().map(|a| a.permits_plainly()).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(answers[1].reasons(), ["forbidden"]);
        let first = shop.evaluate_all(&[abroad, void], Semantic::DenyOnFirstDeny).unwrap();
        assert_eq!(first.len(), 1);
        let view = Question::new(("user", "felix"), "view", ("record", "106"));
        assert_eq!(search.actions(&view).unwrap().results, ["delete", "edit", "view"]);
        assert_eq!(
            search.resources(&Question::new(("user", "dan"), "view", ("record", "x"))).unwrap().results.len(),
            20
        );
        assert_eq!(
            search.subjects(&Question::new(("user", "x"), "delete", ("record", "101"))).unwrap().results,
            ["alice"]
        );
        let refused = of("nobody").evaluate(&see).unwrap_err();
        assert!(
            matches!(&refused, Error::Refused { status: 403, code, .. } if code == "no_matching_permit"),
            "{refused}"
        );
        let unknown = Asker::new(&base, "nonsense".to_owned()).unwrap().evaluate(&see).unwrap_err();
        assert!(matches!(unknown, Error::Refused { status: 401, .. }), "{unknown}");
    });
    asked.await;
    drop(all.house.stop().await);
}
