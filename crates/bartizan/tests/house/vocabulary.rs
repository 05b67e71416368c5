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
