//! Words of a bundle's own, and what callers did lately.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use super::*;

const SHOP: &str = r#"entity Todo in [Group, Todo] { done: Bool };
    namespace Shop { action "read" appliesTo { principal: [User], resource: Todo, context: Context }; }"#;

/// Puts the demo's policy with more files in force, instead of bundle number `expect`.
async fn apply(house: &House, more: &[(&str, &str)], expect: u64) -> Result<Value, String> {
    let mut files = json!({"policy.cedar": POLICY});
    for (name, text) in more {
        files[*name] = json!(text);
    }
    let (admin, body) = (house.admin.clone(), json!({"files": files, "expect": expect}));
    blocking(move || admin.call("PUT", "/api/v1/policy", Some(&body)).map_err(|e| e.to_string())).await
}

async fn declare(house: &House, spec: Value) -> Result<Value, String> {
    let (admin, body) = (house.admin.clone(), json!([{"name": "todo", "spec": spec}]));
    blocking(move || admin.call("POST", "/api/v1/resources", Some(&body)).map_err(|e| e.to_string())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn things_of_a_bundles_own_types_are_checked_and_never_break_the_house() {
    let house = House::new().await;
    let todo = |id: &str, attributes: Value, parents: Value| json!({"kind": "entity", "type": "Todo", "id": id, "attributes": attributes, "parents": parents});
    let good = || todo("/any \"text\" é", json!({"done": true}), json!(["Group::engineers"]));
    let told = declare(&house, good()).await.unwrap_err();
    assert!(told.contains("does not exist") || told.contains("Todo"), "{told}");
    apply(&house, &[("schema/shop.cedarschema", SHOP)], 2).await.unwrap();
    for (spec, why) in [
        (todo("x", json!({"done": "yes"}), json!([])), "done"),
        (todo("x", json!({"done": true}), json!(["Group::nobody"])), "nobody"),
        (todo("x", json!({"done": true}), json!(["Todo::x"])), "above itself"),
        (todo(&"x".repeat(2_000), json!({"done": true}), json!([])), "1024 bytes"),
        (
            json!({"kind": "entity", "type": "User", "id": "ada", "attributes": {"status": "active"}}),
            "a type of the house",
        ),
        (json!({"kind": "corpus", "within": ["support"]}), "cannot be within"),
    ] {
        let told = declare(&house, spec).await.unwrap_err();
        assert!(told.contains(why), "{why}: {told}");
    }
    declare(&house, good()).await.unwrap();
    // What it is in cannot be taken away below it.
    let admin = house.admin.clone();
    let told = blocking(move || {
        admin.call("DELETE", "/api/v1/resources/group/engineers", None).map_err(|e| e.to_string())
    })
    .await
    .unwrap_err();
    assert!(told.contains("refers to"), "{told}");
    // Under a bundle without its type it is left out, told of, and nothing else happens.
    apply(&house, &[], 3).await.unwrap();
    assert_eq!(house.chat(&house.alice.1, "assistant", "say: hi").await.0, 200);
    let operations = format!("http://{}", house.node.operations);
    let metrics =
        blocking(move || Client::new(&operations, None).raw("GET", "/metrics", None, &[]).unwrap()).await.1;
    assert!(metrics.contains("bartizan_declared_misfits 1"), "{metrics}");
    // A bundle that takes the house's words is refused with its file.
    let told = apply(&house, &[("schema/own.cedarschema", "entity User;")], 4).await.unwrap_err();
    assert!(
        told.contains("schema/own.cedarschema") && told.contains("`User` is a word of the house"),
        "{told}"
    );
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_see_what_callers_did_lately() {
    let house = House::new().await;
    let rule = r#"
        @id("not-so-fast") @reason("custom:too-fast")
        forbid (principal, action == Action::"model:invoke", resource == Model::"assistant")
        unless { context has activity.caller && context.activity.caller.minute.requests < 3 && context.activity.caller.hour.denials < 1 };
        @id("fresh-only") @reason("custom:spent")
        forbid (principal, action == Action::"model:invoke", resource == Model::"weights-lab")
        unless { context has activity.key && context.activity.key.day.tokens == 0 && context.activity.key.day.resources == 0 };"#;
    let reasons = r#"reasons = ["custom:too-fast", "custom:spent"]"#;
    apply(&house, &[("pace.cedar", rule), ("bundle.toml", reasons)], 2).await.unwrap();
    let call = async |key: &Secret<String>, model: &str| {
        let (status, body) = house.chat(key, model, "say: hi").await;
        (status, reason(&body).to_owned())
    };
    let refused = |why: &str| (403, why.to_owned());
    for _ in 0..3 {
        assert_eq!(call(&house.alice.1, "assistant").await.0, 200);
    }
    assert_eq!(call(&house.alice.1, "assistant").await, refused("custom:too-fast"));
    assert_eq!(call(&house.alice.1, "weights-lab").await, refused("custom:spent"));
    // Another caller's counts are their own.
    assert_eq!(call(&house.carol, "assistant").await.0, 200);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_imported_whole_or_refused_whole_with_their_reason() {
    let house = House::new().await;
    let post = async |documents: Value| {
        let client = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
        let told =
            blocking(move || client.raw("POST", "/api/v1/resources", Some(&documents), &[]).unwrap()).await;
        (told.0, serde_json::from_str::<Value>(&told.1).unwrap())
    };
    let group = |name: String, parents: Vec<String>| json!({"name": name, "spec": {"kind": "group", "parents": parents}});
    let chain = |n: usize| -> Value {
        (0..=n)
            .map(|at| {
                group(format!("deep{at}"), if at == 0 { vec![] } else { vec![format!("deep{}", at - 1)] })
            })
            .collect()
    };
    let refused = [
        (
            json!([group("a".into(), vec!["b".into()]), group("b".into(), vec!["a".into()])]),
            "invalid",
            "above itself",
        ),
        (chain(65), "invalid", "more than 64 levels"),
        (json!([group("a".into(), vec!["nowhere".into()])]), "invalid", "not declared"),
        (json!([group("a".into(), vec![]), group("a".into(), vec![])]), "invalid", "stands twice"),
        (json!([group("a\"] || true".into(), vec![])]), "body_malformed", ""),
        (json!([group("a\u{0}".into(), vec![])]), "body_malformed", ""),
        (json!([group("x".repeat(5_000), vec![])]), "body_malformed", ""),
    ];
    for (documents, reason, why) in refused {
        let (status, told) = post(documents).await;
        assert!(status == 422 || status == 400, "{told}");
        assert_eq!(told["reason"], reason, "{told}");
        assert!(told.to_string().contains(why), "{why}: {told}");
    }
    let (_, groups) = {
        let client = house.admin.clone();
        blocking(move || client.raw("GET", "/api/v1/resources/group", None, &[]).unwrap()).await
    };
    assert!(
        !groups.contains("deep") && !groups.contains("\"a\""),
        "something of what was refused is there: {groups}"
    );

    // From a file: ten thousand groups, somebody in all of them, and the last one lets them in.
    let mut documents: Vec<Value> = (0..10_000).map(|n| group(format!("g{n}"), vec![])).collect();
    documents[9_999]["spec"]["roles"] = json!(["model-user"]);
    let all: Vec<String> = (0..10_000).map(|n| format!("g{n}")).collect();
    documents.push(json!({"name": "joiner", "spec": {"kind": "user", "groups": all}}));
    let file = house.folder.path().join("directory.json");
    std::fs::write(&file, json!(documents).to_string()).unwrap();
    let (control, key) = (format!("http://{}", house.node.control), house.admin_key.clone());
    let output = blocking(move || {
        std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
            .args(["resource", "apply", &file.display().to_string()])
            .env("BARTIZAN_CONTROL_URL", control)
            .env("BARTIZAN_API_KEY", key.expose())
            .output()
            .unwrap()
    })
    .await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let admin = house.admin.clone();
    let joiner = blocking(move || {
        let body = json!({"principal_kind": "user", "principal": "joiner"});
        let made = admin.call("POST", "/api/v1/keys", Some(&body)).unwrap();
        Secret::new(made.pointer("/text").and_then(Value::as_str).unwrap().to_owned())
    })
    .await;
    // Taking in so much takes longer than the lease on a slow machine: until then nothing is decided.
    let settled = async || loop {
        match house.chat(&joiner, "assistant", "say: hi").await.0 {
            503 => tokio::time::sleep(Duration::from_millis(100)).await,
            status => return status,
        }
    };
    assert_eq!(settled().await, 200);
    // Out of that one group, out of the door: no later ask is answered.
    let left: Vec<String> = (0..9_999).map(|n| format!("g{n}")).collect();
    let (status, told) = post(json!([{"name": "joiner", "spec": {"kind": "user", "groups": left}}])).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(settled().await, 404);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_searches_name_the_things_of_the_house() {
    let house = House::new().await;
    let rules = r#"
        @id("people-end-their-own-keys")
        permit (principal is User, action in [Action::"key:rotate", Action::"key:revoke"], resource) when { resource in principal };
        @id("carol-reads-the-ledger")
        permit (principal == User::"carol", action in Action::"house:read", resource == Ledger::"bartizan");
        @id("everything-of-the-house")
        permit (principal == User::"ada", action in Action::"house:read", resource in System::"bartizan");"#;
    apply(&house, &[("own.cedar", rules)], 2).await.unwrap();
    let call = async |key: &Secret<String>, method: &'static str, path: String| {
        let client = Client::new(&format!("http://{}", house.node.control), Some(key.clone()));
        blocking(move || client.raw(method, &path, None, &[]).unwrap()).await
    };
    let id_of = async |key: &Secret<String>| {
        let told: Value =
            serde_json::from_str(&call(key, "GET", "/api/v1/whoami".to_owned()).await.1).unwrap();
        told["key"].as_str().unwrap().to_owned()
    };
    let (alice, carol) = (house.alice.1.clone(), house.carol.clone());
    let (of_alice, of_carol) = (id_of(&alice).await, id_of(&carol).await);
    // Carol sees the ledger and no other part of the house.
    assert_eq!(call(&carol, "GET", "/api/v1/checkpoints".to_owned()).await.0, 200);
    assert_eq!(call(&carol, "GET", "/api/v1/policy".to_owned()).await.0, 403);
    // Alice ends her own key and nobody else's; whether there is another she does not learn.
    let (most, last) = of_carol.split_at(of_carol.len() - 1);
    let of_nobody = format!("{most}{}", if last == "0" { "1" } else { "0" });
    for other in [&of_carol, &of_nobody] {
        assert_eq!(call(&alice, "POST", format!("/api/v1/keys/{other}/revoke")).await.0, 403, "{other}");
    }
    let search = json!({"what": "subjects", "ask": {"principal": "user/x", "action": "key:revoke", "resource": of_alice}});
    let admin = house.admin.clone();
    let found = blocking(move || admin.call("POST", "/api/v1/policy/reach", Some(&search)).unwrap()).await;
    let who: Vec<_> =
        found["items"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
    assert!(who.contains(&"user/alice") && !who.contains(&"user/carol"), "{found}");
    assert_eq!(call(&alice, "POST", format!("/api/v1/keys/{of_alice}/revoke")).await.0, 200);
    assert_eq!(house.chat(&alice, "assistant", "say: hi").await.0, 401);
    // An administrator is told that there is no such key.
    let told = call(&house.admin_key, "POST", format!("/api/v1/keys/{of_nobody}/revoke")).await;
    assert_eq!(told.0, 404, "{}", told.1);
    house.stop().await;
}
