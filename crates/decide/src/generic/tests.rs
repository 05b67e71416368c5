use std::sync::Arc;

use bartizan_model::Document;
use serde_json::{Value, json};

use crate::entities::View;
use crate::evaluate::{Evaluator, Noted, Triple};
use crate::{Bundle, CompiledBundle, Entities, Misfit};

const SHOP: &str = r#"
    entity Todo in [Group, Todo] { done: Bool, owner?: User };
    namespace Shop {
        entity Order in [Group, Order] {
            total: Long, paid: Bool, tags: Set<String>, owner: User, from?: ipaddr, due?: datetime,
            address: { city: String, zip?: String },
        } tags String;
        action "read", "refund" appliesTo { principal: [User, Agent], resource: Order, context: Context };
    }
"#;

fn compiled(schema: &str) -> CompiledBundle {
    let files = [
        ("a.cedar", r#"@id("a") permit (principal, action, resource);"#),
        ("schema/own.cedarschema", schema),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    CompiledBundle::compile(&Bundle { files }).unwrap()
}

fn document(name: &str, spec: &Value) -> Document {
    serde_json::from_value(json!({"name": name, "spec": spec})).unwrap()
}

fn entity(name: &str, kind: &str, id: &str, attributes: impl Into<Value>, parents: &[&str]) -> Document {
    let attributes = attributes.into();
    let spec =
        json!({"kind": "entity", "type": kind, "id": id, "attributes": attributes, "parents": parents});
    document(name, &spec)
}

fn house() -> Vec<Document> {
    vec![document("alice", &json!({"kind": "user"})), document("staff", &json!({"kind": "group"}))]
}

fn order(name: &str, id: &str, change: impl Fn(&mut Value), parents: &[&str]) -> Document {
    let mut attributes = json!({
        "total": 7, "paid": false, "tags": ["a", "b"], "owner": {"type": "User", "id": "alice"}, "address": {"city": "é"},
    });
    change(&mut attributes);
    entity(name, "Shop::Order", id, attributes, parents)
}

fn build(own: Vec<Document>) -> Entities {
    let all: Vec<Document> = house().into_iter().chain(own).collect();
    Entities::build_for(&all, Some(&compiled(SHOP))).unwrap()
}

fn misfits(own: Vec<Document>) -> Vec<(String, String)> {
    build(own).misfits().iter().map(|m| (m.document.to_string(), m.why.clone())).collect()
}

#[test]
fn a_thing_of_a_bundles_own_type_is_an_entity_whatever_text_its_id_is() {
    let odd = "2026/é \"quoted\" \\ ::{}\u{1f600}";
    let all = vec![
        order("first", odd, |_| (), &["Group::staff"]),
        order(
            "second",
            "",
            |a| a["from"] = json!("10.0.0.0/8"),
            &[r#"Shop::Order::"2026/é \"quoted\" \\ ::{}😀""#],
        ),
        order("third", "3", |a| a["due"] = json!("2026-11-21T10:00:00Z"), &[]),
        entity("todo", "Todo", "/any/text", json!({"done": true}), &["Group::staff"]),
    ];
    let entities = build(all);
    assert_eq!(entities.misfits(), []);
    let view = View::of(&entities);
    let (_, second) = view.declared(&crate::describe::uid("Shop::Order", "").unwrap()).unwrap();
    assert!(second.is_in(view.find(&crate::describe::uid("Group", "staff").unwrap()).unwrap()));
}

#[test]
fn rules_decide_on_own_actions_and_things_and_whatever_does_not_fit_is_denied() {
    let rules = r#"
        @id("own") permit (principal, action in Shop::Action::"all", resource in Group::"staff")
          when { resource.owner == principal && resource.total < 10 };
        @id("paid") forbid (principal, action, resource is Shop::Order) when { resource.paid };"#;
    let schema = SHOP
        .replace("action \"read\"", "action \"all\"; action \"read\"")
        .replace("\"refund\" applies", "\"refund\" in [\"all\"] applies");
    let files = [("a.cedar", rules), ("schema/own.cedarschema", &schema)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let bundle = Arc::new(CompiledBundle::compile(&Bundle { files }).unwrap());
    let all = [
        house(),
        vec![
            order("cheap", "any \"text\"", |_| (), &["Group::staff"]),
            order("dear", "2", |a| a["total"] = json!(11), &["Group::staff"]),
            order("paid", "3", |a| a["paid"] = json!(true), &["Group::staff"]),
            order("elsewhere", "4", |_| (), &[]),
            order("misfit", "5", |a| a["total"] = json!("7"), &["Group::staff"]),
        ],
    ]
    .concat();
    let entities = Arc::new(Entities::build_for(&all, Some(&bundle)).unwrap());
    let evaluator = Evaluator::new(bundle, entities);
    let uid = |kind: &str, id: &str| crate::describe::uid(kind, id).unwrap();
    let may = |action: &str, order: &str, all: bool| {
        let triple = Triple {
            principal: uid("User", "alice"),
            action: uid("Shop::Action", action),
            resource: uid("Shop::Order", order),
        };
        crate::context::tests::with_conditions(|c| {
            evaluator.evaluate(&triple, c, all, Noted::Nothing).map(|e| e.permitted)
        })
    };
    for all in [false, true] {
        assert_eq!(may("refund", "any \"text\"", all), Some(true));
        for other in ["2", "3", "4"] {
            assert_eq!(may("refund", other, all), Some(false), "{other}");
        }
        assert_eq!(may("read", "any \"text\"", all), Some(true));
        assert_eq!(may("refund", "5", all), None);
    }
}

#[test]
fn what_does_not_fit_the_schema_is_left_out_with_the_reason_and_nothing_else_is() {
    let good = || entity("good", "Todo", "good", json!({"done": true}), &[]);
    let deep = (0..6).fold(json!("x"), |inner, _| json!([inner]));
    for (bad, why) in [
        (order("bad", "1", |a| a["total"] = json!("seven"), &[]), "total"),
        (order("bad", "1", |a| a["address"]["zap"] = json!("x"), &[]), "zap"),
        (order("bad", "1", |a| a["tags"] = deep.clone(), &[]), "tags"),
        (order("bad", "1", |a| a["from"] = json!("10.0.0.0/99"), &[]), "from"),
        (order("bad", "1", |a| a["unheard_of"] = json!(1), &[]), "unheard_of"),
        (order("bad", "1", |a| a["owner"] = json!({"type": "Group", "id": "staff"}), &[]), "owner"),
        (
            order("bad", "1", |a| a["owner"] = json!({"type": "User", "id": "bob"}), &[]),
            "User::\"bob\", which is not",
        ),
        (order("bad", "1", |_| (), &["Group::nobody"]), "Group::\"nobody\", which is not"),
        (order("bad", "1", |_| (), &["User::alice"]), "User"),
        (entity("bad", "Todo", "1", json!({}), &[]), "done"),
        (entity("bad", "Nothing", "1", json!({}), &[]), "Nothing"),
        (entity("bad", "Shop::Nothing", "1", json!({}), &[]), "Nothing"),
        (entity("bad", "User", "alice", json!({"status": "active"}), &[]), "a type of the house"),
        (entity("bad", "System", "bartizan", json!({}), &[]), "a type of the house"),
        (entity("bad", "Action", "model:invoke", json!({}), &[]), "a type of the house"),
        (entity("bad", "Shop::Action", "read", json!({}), &[]), "a type of the house"),
        (entity("bad", "Shop::Order", "1", json!({"total": 7}), &[]), "attribute"),
    ] {
        let told = misfits(vec![good(), bad]);
        let [(name, reason)] = told.as_slice() else { panic!("{why}: {told:?}") };
        assert!(name == "bad" && reason.contains(why), "{why}: {reason}");
    }
}

#[test]
fn without_a_schema_in_force_nothing_of_own_types_is_seen() {
    let all = [house(), vec![entity("todo", "Todo", "1", json!({"done": true}), &[])]].concat();
    let entities = Entities::build(&all).unwrap();
    assert!(matches!(entities.misfits(), [Misfit { why, .. }] if why.contains("no bundle")));
}

#[test]
fn what_refers_to_something_left_out_is_left_out_too_however_far_away() {
    // Were it only missing, a rule that forbids what lies in `secret` would not apply to `inner` any more.
    let mut all = vec![
        entity("secret", "Todo", "secret", json!({"done": true}), &[]),
        entity("broken", "Todo", "broken", json!({"done": "yes"}), &["Todo::secret"]),
        entity("other", "Todo", "other", json!({"done": true}), &["Todo::secret"]),
    ];
    for n in 0..2_000_usize {
        let parent = if n == 0 { "Todo::broken".to_owned() } else { format!("Todo::{}", n - 1) };
        all.push(entity(&format!("link-{n}"), "Todo", &n.to_string(), json!({"done": true}), &[&parent]));
    }
    let entities = build(all);
    assert_eq!(entities.misfits().len(), 2_001);
    let view = View::of(&entities);
    let there = |id: &str| view.declared(&crate::describe::uid("Todo", id).unwrap()).is_some();
    assert!(there("secret") && there("other") && !there("broken") && !there("0") && !there("1999"));
}

#[test]
fn of_two_that_claim_to_be_the_same_neither_is_seen() {
    let todo = |name: &str, done: bool| entity(name, "Todo", "1", json!({"done": done}), &[]);
    let told = misfits(vec![todo("one", true), todo("two", false), todo("three", true)]);
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn circles_are_left_out_and_do_not_end_the_world() {
    let todo = |id: &str, parents: &[&str]| entity(id, "Todo", id, json!({"done": true}), parents);
    let told = misfits(vec![
        todo("a", &["Todo::b"]),
        todo("b", &["Todo::c"]),
        todo("c", &["Todo::a"]),
        todo("itself", &["Todo::itself"]),
        todo("below", &["Todo::a"]),
        todo("fine", &["Group::staff"]),
    ]);
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "below", "c", "itself"]);
}

#[test]
fn ids_that_are_too_long_and_types_that_are_none_do_not_even_become_documents() {
    let read = |kind: &str, id: &str| {
        let spec = json!({"kind": "entity", "type": kind, "id": id});
        serde_json::from_value::<Document>(json!({"name": "x", "spec": spec})).map_err(|e| e.to_string())
    };
    assert!(read("Todo", &"x".repeat(1_024)).is_ok());
    assert!(read("Todo", &"x".repeat(1_025)).unwrap_err().contains("1024 bytes"));
    assert!(read("Todo", "a\u{0}").is_err());
    for kind in ["", "To do", "::Todo", "Todo::", "1", "Todo\"", &"T".repeat(200)] {
        assert!(read(kind, "x").unwrap_err().contains("entity type"), "{kind}");
    }
}
