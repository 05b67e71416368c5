//! The decision API described as OpenAPI 3.1, from the types that are read and given.

use bartizan_enforce::Access;
use bartizan_wire::authzen::{Action, Answer, Answers, Entity, Found, PageRequest, Semantic, Sought};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The document.
#[must_use]
pub fn decision_openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let text = json!({"type": "string"});
    let error = json!({"type": "object", "properties": {"error": {"type": "object", "properties": {"code": text, "message": text, "decision": {"type": ["string", "null"]}}}}});
    let mut paths = Map::new();
    for (access, path) in Access::ALL {
        let operation = operation(access, &error, &mut schemas);
        paths.insert(path.to_owned(), json!({"post": operation}));
    }
    let metadata = json!({
        "operationId": "metadata", "summary": "The addresses of the decision API and what its answers can carry.", "security": [],
        "responses": {"200": {"description": "The metadata.", "content": {"application/json": {"schema": {"type": "object"}}}}}
    });
    paths.insert("/.well-known/authzen-configuration".to_owned(), json!({"get": metadata}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bartizan decision API", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "OpenID AuthZEN Authorization API 1.0. Each call is an ask of its own: decided by policy, recorded in the ledger, then answered."
        },
        "servers": [{"url": "http://127.0.0.1:8080", "description": "The default of `listeners.data`."}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "The API key or access token of a workload."}},
            "schemas": schemas.take_definitions(true)
        }
    })
}

fn operation(access: Access, error: &Value, schemas: &mut SchemaGenerator) -> Value {
    let (id, summary, takes, gives) = match access {
        Access::Evaluation => (
            "evaluation",
            "May this subject do this to that resource?",
            evaluation(schemas),
            of::<Answer>(schemas),
        ),
        Access::Evaluations => {
            let gives = json!({"anyOf": [of::<Answers>(schemas), of::<Answer>(schemas)]});
            ("evaluations", "Several such questions; without a list, one.", evaluations(schemas), gives)
        }
        Access::Search(sought) => {
            let (id, summary) = match sought {
                Sought::Subject => ("search_subject", "Who may do this to that resource?"),
                Sought::Resource => ("search_resource", "To what may this subject do this?"),
                Sought::Action => ("search_action", "What may this subject do to that resource?"),
            };
            (id, summary, search(sought, schemas), of::<Found>(schemas))
        }
    };
    let header = json!({"x-request-id": {"description": "As it was sent; the decision's id where none was.", "schema": {"type": "string"}}});
    json!({
        "operationId": id, "summary": summary, "x-action": if matches!(access, Access::Search(_)) { "access:search" } else { "access:evaluate" },
        "requestBody": {"required": true, "content": {"application/json": {"schema": takes}}},
        "responses": {
            "200": {"description": "Answered, and recorded. A denial is an answer.", "headers": header, "content": {"application/json": {"schema": gives}}},
            "default": {"description": "Not answered: no permit.", "headers": header, "content": {"application/json": {"schema": error}}}
        }
    })
}

fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

fn members(schemas: &mut SchemaGenerator) -> Value {
    json!({"subject": of::<Entity>(schemas), "action": of::<Action>(schemas), "resource": of::<Entity>(schemas), "context": {"type": "object"}})
}

fn evaluation(schemas: &mut SchemaGenerator) -> Value {
    json!({"type": "object", "required": ["subject", "action", "resource"], "properties": members(schemas)})
}

fn evaluations(schemas: &mut SchemaGenerator) -> Value {
    let item = json!({"type": "object", "properties": members(schemas)});
    let mut properties = members(schemas);
    if let Some(all) = properties.as_object_mut() {
        all.insert(
            "evaluations".to_owned(),
            json!({"type": "array", "maxItems": bartizan_wire::authzen::EVALUATIONS_MAX, "items": item}),
        );
        all.insert(
            "options".to_owned(),
            json!({"type": "object", "properties": {"evaluations_semantic": of::<Semantic>(schemas)}}),
        );
    }
    json!({"type": "object", "properties": properties})
}

fn search(sought: Sought, schemas: &mut SchemaGenerator) -> Value {
    let mut properties = members(schemas);
    let mut required = vec!["subject", "action", "resource"];
    if let Some(all) = properties.as_object_mut() {
        all.insert("page".to_owned(), of::<PageRequest>(schemas));
        if sought == Sought::Action {
            all.remove("action");
            required.retain(|name| *name != "action");
        }
    }
    json!({"type": "object", "required": required, "properties": properties})
}
