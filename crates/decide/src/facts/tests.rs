use std::collections::{BTreeMap, BTreeSet, HashMap};

use bartizan_model::{Action, Document};
use cedar_policy::{Entities, Entity, EntityUid, Schema, SchemaFragment};
use serde_json::{Value, json};

use super::*;
use crate::describe::{describe, roles_of_groups, uid};
use crate::platform::SCHEMA;

fn fragment() -> Value {
    SchemaFragment::from_cedarschema_str(SCHEMA).unwrap().0.to_json_value().unwrap()
}

fn schema() -> &'static Schema {
    crate::platform::schema().unwrap()
}

/// A type of the schema as the table writes it.
fn written(of: &Value) -> String {
    let name = of["name"].as_str().unwrap_or_default();
    match of["type"].as_str().unwrap() {
        "Set" => format!("Set<{}>", written(&of["element"])),
        "Record" => "{…}".to_owned(),
        "EntityOrCommon" | "Extension" | "Entity" if name == "__cedar::String" => "String".to_owned(),
        "EntityOrCommon" | "Extension" | "Entity" => name.trim_start_matches("__cedar::").to_owned(),
        other => other.to_owned(),
    }
}

/// The attributes of a record with those of the records inside of it: path, type, whether it can be absent.
fn attributes(of: &Value, above: &str, out: &mut BTreeSet<(String, String, bool)>) {
    for (name, attribute) in of["attributes"].as_object().unwrap() {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        let optional = attribute["required"].as_bool() == Some(false);
        out.insert((path.clone(), written(attribute), optional));
        if attribute["type"] == "Record" {
            attributes(attribute, &path, out);
        }
    }
}

fn of_schema(record: &Value) -> BTreeSet<(String, String, bool)> {
    let mut out = BTreeSet::new();
    if record.is_object() {
        attributes(record, "", &mut out);
    }
    out
}

fn of_table<'a>(facts: impl IntoIterator<Item = &'a PolicyFact>) -> BTreeSet<(String, String, bool)> {
    facts.into_iter().map(|f| (f.name.to_owned(), f.kind.to_owned(), f.optional)).collect()
}

#[test]
fn the_schema_says_what_the_table_says() {
    let house = &fragment()[""];
    assert_eq!(of_schema(&house["commonTypes"]["Context"]), of_table(CONTEXT));
    assert!(CONTEXT.is_sorted_by_key(|fact| fact.name), "the table of the context is not sorted");
    let mut commons: BTreeSet<&str> = ["Context"].into();
    for (name, facts) in RECORDS {
        assert_eq!(of_schema(&house["commonTypes"][name]), of_table(*facts), "{name}");
        commons.insert(name);
    }
    let declared: BTreeSet<&str> =
        house["commonTypes"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(declared, commons);
    let types = house["entityTypes"].as_object().unwrap();
    let named: BTreeSet<&str> = TYPES.iter().map(|t| t.name).collect();
    assert_eq!(types.keys().map(String::as_str).collect::<BTreeSet<_>>(), named);
    assert_eq!(TYPES.len(), named.len(), "a type stands twice");
    for kind in TYPES {
        let of = &types[kind.name];
        assert_eq!(of_schema(&of["shape"]), of_table(kind.facts.iter().copied().flatten()), "{}", kind.name);
        let within: BTreeSet<&str> =
            of["memberOfTypes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(within, kind.within.iter().copied().collect(), "{}", kind.name);
        assert!(!kind.meaning.is_empty());
    }
    for fact in CONTEXT.iter().chain(TYPES.iter().flat_map(|t| t.facts.iter().copied().flatten())) {
        assert!(fact.meaning.ends_with('.'), "{}", fact.name);
        assert!(
            fact.age_max_s.is_none() || fact.optional,
            "{}: what gets too old must be able to be absent",
            fact.name
        );
    }
}

#[test]
fn the_schema_knows_the_actions_of_the_model_and_no_others() {
    let schema = schema();
    let groups: BTreeSet<EntityUid> = schema.action_groups().cloned().collect();
    let applicable: BTreeSet<String> = schema
        .actions()
        .filter(|a| schema.resources_for_action(a).is_some_and(|mut r| r.next().is_some()))
        .map(|a| a.id().unescaped().to_owned())
        .collect();
    let known: BTreeSet<String> = Action::ALL.iter().map(|a| a.name().to_owned()).collect();
    assert_eq!(applicable, known);
    let entities = schema.action_entities().unwrap();
    for action in Action::ALL {
        let entity = uid("Action", action.name()).unwrap();
        assert!(!groups.contains(&entity));
        let within: Vec<_> = entities.ancestors(&entity).unwrap().map(|g| g.id().unescaped()).collect();
        assert_eq!(within, action.group().into_iter().collect::<Vec<_>>(), "{action}");
        let resources: Vec<String> =
            schema.resources_for_action(&entity).unwrap().map(ToString::to_string).collect();
        assert_eq!(resources, [action.resource_type()], "{action}");
        let principals: BTreeSet<String> =
            schema.principals_for_action(&entity).unwrap().map(ToString::to_string).collect();
        assert_eq!(
            principals,
            ["User", "Agent", "Workload", "Anonymous"].map(str::to_owned).into(),
            "{action}"
        );
    }
}

/// Each kind that policies see, with everything said and with as little as possible.
fn specs() -> Vec<(Value, Value)> {
    let asset = |kind: &str, within: &[&str]| {
        let full = json!({
            "kind": kind, "status": "disabled", "within": within, "project": "p", "environment": "e", "owner": "alice",
            "sensitivity": "high", "confidentiality": "internal", "integrity": "trusted", "categories": ["health", "pii"],
            "digest": bartizan_base::Digest::of(b"x"), "description": "d",
        });
        (full, json!({"kind": kind}))
    };
    let node = |kind: &str| (json!({"kind": kind, "parents": ["other"]}), json!({"kind": kind}));
    let agent = |kind: &str| {
        let least = json!({"kind": kind, "owner": "alice", "purpose": "p"});
        (
            json!({"kind": kind, "owner": "alice", "purpose": "p", "groups": ["g"], "roles": ["r"], "status": "disabled",
                   "conditions": {"alone": false}}),
            least,
        )
    };
    let model = json!({"kind": "model", "upstream": "u", "dialects": [], "environment": "e"});
    let mut full_model = model.clone();
    full_model["family"] = json!("f");
    full_model["project"] = json!("p");
    vec![
        (json!({"kind": "user", "groups": ["g"], "roles": ["r"]}), json!({"kind": "user"})),
        agent("agent"),
        agent("workload"),
        (
            json!({"kind": "group", "parents": ["g"], "roles": ["r"], "organisation": "o"}),
            json!({"kind": "group"}),
        ),
        (json!({"kind": "project", "parents": ["p"], "organisation": "o"}), json!({"kind": "project"})),
        node("role"),
        node("environment"),
        node("provider"),
        node("organisation"),
        (json!({"kind": "model_family", "parents": ["f"], "provider": "p"}), json!({"kind": "model_family"})),
        (full_model, model),
        (
            json!({"kind": "device", "owner": "alice", "managed": true, "groups": ["g"]}),
            json!({"kind": "device"}),
        ),
        asset("tool_server", &[]),
        asset("tool", &["s"]),
        asset("corpus", &[]),
        asset("collection", &["c"]),
        {
            let (mut full, least) = asset("document", &["c"]);
            full["readers"] = json!(["alice", "bob"]);
            full["reader_groups"] = json!(["g"]);
            (full, least)
        },
        asset("database", &[]),
        asset("table", &["d"]),
        asset("column", &["t"]),
        asset("api", &[]),
        asset("deployment", &[]),
        asset("artifact", &["m"]),
        asset("manifest", &[]),
    ]
}

#[test]
fn what_is_built_of_every_kind_fits_the_schema_and_says_everything_that_the_table_says() {
    let schema = schema();
    let mut described = BTreeSet::new();
    for (full, least) in specs() {
        let mut said: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let mut kind = String::new();
        for (name, spec) in [("full", full), ("least", least)] {
            let document: Document = serde_json::from_value(json!({"name": "x", "spec": spec})).unwrap();
            let groups: HashMap<_, _> = roles_of_groups(std::slice::from_ref(&document));
            let (attributes, parents, _) = describe(&document, &groups).unwrap();
            let entity = document.entity();
            kind = entity.kind.to_string();
            if name == "full" {
                let reached: BTreeSet<String> = parents.iter().map(|p| p.type_name().to_string()).collect();
                let table = TYPES.iter().find(|t| t.name == kind).unwrap();
                let possible: BTreeSet<String> = table.within.iter().map(ToString::to_string).collect();
                // A model's provider is that of its family.
                let indirect: BTreeSet<String> =
                    if kind == "Model" { ["Provider".to_owned()].into() } else { BTreeSet::new() };
                assert_eq!(&reached | &indirect, possible, "{kind}");
            }
            said.insert(name, attributes.keys().cloned().collect());
            let expressions = attributes.iter().map(|(n, v)| (n.clone(), v.expression())).collect();
            let id = uid(&entity.kind, &entity.name).unwrap();
            let built = Entity::new(id, expressions, parents.into_iter().collect()).unwrap();
            Entities::from_entities([built], Some(schema)).unwrap_or_else(|e| panic!("{kind} {name}: {e:?}"));
        }
        let table: Vec<&PolicyFact> =
            TYPES.iter().find(|t| t.name == kind).unwrap().facts.iter().copied().flatten().collect();
        let all = |only_required: bool| -> BTreeSet<String> {
            table.iter().filter(|f| !(only_required && f.optional)).map(|f| f.name.to_owned()).collect()
        };
        assert_eq!((&said["full"], &said["least"]), (&all(false), &all(true)), "{kind}");
        described.insert(kind);
    }
    // The others are never declared: they are made, or are the house itself.
    let of_the_house =
        ["Anonymous", "System", "Policy", "Key", "Approval", "Review", "Incident", "Ledger", "Configuration"];
    let all: BTreeSet<String> = TYPES.iter().map(|t| t.name.to_owned()).collect();
    assert_eq!(&described | &of_the_house.map(str::to_owned).into(), all);
}
