//! The control API described as OpenAPI 3.1, from the route table and the types that are read and given.

use bartizan_control::{
    Acknowledged, ApplyBundle, ApproveTools, Bundled, ContentView, CreateKey, DecisionLine, DecisionView,
    DeliveryView, DocumentView, EpochToAdvance, ErasedView, ExplainedDecision, ExportLedger, FoundEntries,
    HoldToPlace, HoldView, KeyView, LetterView, LockToSet, LockView, Material, Plan, PlanPolicy, Preview,
    Reach, RemovedView, ReplayUnder, ReplayView, RevealTokens, RevealedToken, RollBack, SearchLedger,
    ToolView, TrialView, TryPolicy,
};
use bartizan_decide::{Explanation, Found, Supposed};
use bartizan_model::{Document, Offer, ReasonCode};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::body::{Claim, Credential, Erase, Rotate};
use crate::described::{By, Described, MOUNTED};
use crate::route::{Call, ROUTES, Route};

/// What every refusal and failure says.
#[derive(JsonSchema)]
#[schemars(rename = "Problem")]
#[expect(dead_code, reason = "written by hand elsewhere; here for its description alone")]
struct ProblemBody {
    /// Why, as a stable code.
    reason: ReasonCode,
    /// Why, for people, with the way forward.
    message: String,
    /// The recorded decision.
    decision: Option<String>,
    /// What would help.
    remedies: Vec<Offer>,
}

/// The document.
#[must_use]
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let problem = schemas.subschema_for::<ProblemBody>();
    let mut paths = Map::new();
    // The files of a log follow tlog-tiles, whose paths OpenAPI cannot say.
    for route in ROUTES.iter().filter(|route| !route.path.ends_with("**")) {
        let (path, parameters) = parameters(route);
        let operation = operation(route, &parameters, &problem, &mut schemas);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(route.method.to_lowercase(), operation);
        }
    }
    for (tag, table) in MOUNTED {
        for one in *table {
            let methods = paths.entry(one.path).or_insert_with(|| json!({}));
            if let Some(methods) = methods.as_object_mut() {
                methods.insert(one.method.to_lowercase(), mounted(tag, one, &problem, &mut schemas));
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bartizan control API", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Each call is an ask of its own: decided by policy, recorded in the ledger, then carried out."
        },
        "servers": [{"url": "http://127.0.0.1:8081", "description": "The default of `listeners.control`."}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or an access token."},
                "certificate": {"type": "mutualTLS", "description": "The certificate of a workload, where `listeners.workloads` is set."},
                "client": {"type": "http", "scheme": "basic", "description": "A client of the authority; also `client_secret_post`, `private_key_jwt`, mutual TLS, or a public client's id."},
                "session": {"type": "apiKey", "in": "cookie", "name": "__Host-bartizan-session", "description": "The session of the browser."}
            },
            "schemas": schemas.take_definitions(true)
        }
    })
}

/// The path with named parts, and their descriptions.
fn parameters(route: &Route) -> (String, Vec<Value>) {
    let mut parameters = Vec::new();
    let mut names = match route.call {
        Call::HoldPlace | Call::HoldRelease => ["kind", "name", "hold"].iter(),
        Call::ResourceList
        | Call::ResourceDelete
        | Call::SubjectErase
        | Call::HoldList
        | Call::DirectoryDisable
        | Call::DirectoryEnable => ["kind", "name"].iter(),
        Call::KeyRevoke
        | Call::LockRelease
        | Call::KeyRotate
        | Call::DecisionShow
        | Call::DecisionProof
        | Call::DecisionContent => ["id"].iter(),
        Call::DeliveryRetry => ["name", "id"].iter(),
        Call::EntryProof => ["tenant", "period", "index"].iter(),
        _ => ["name"].iter(),
    };
    let parts: Vec<String> = route
        .path
        .split('/')
        .map(|part| match part {
            "{}" => {
                let name = names.next().copied().unwrap_or("name");
                parameters.push(
                    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
                );
                format!("{{{name}}}")
            }
            part => part.to_owned(),
        })
        .collect();
    if matches!(route.call, Call::DecisionList) {
        parameters.push(json!({
            "name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 20}
        }));
    }
    (parts.join("/"), parameters)
}

fn operation(route: &Route, parameters: &[Value], problem: &Schema, schemas: &mut SchemaGenerator) -> Value {
    let headers = json!({
        "bartizan-decision": {"description": "The recorded decision.", "schema": {"type": "string"}},
        "bartizan-receipt": {"description": "Where it is recorded.", "schema": {"type": "string"}}
    });
    let (takes, gives) = bodies(route.call, schemas);
    let mut operation = json!({
        "operationId": operation_id(route), "summary": route.meaning, "parameters": parameters,
        "responses": {
            "200": {"description": "Done, and recorded.", "headers": headers, "content": {"application/json": {"schema": gives}}},
            "default": {"description": "Refused or failed; recorded, where a record is due.", "headers": headers, "content": {"application/json": {"schema": problem}}}
        }
    });
    if let Some(members) = operation.as_object_mut() {
        if route.action != "-" {
            members.insert("x-action".to_owned(), route.action.into());
        }
        if let Some(schema) = takes {
            let body = json!({"required": true, "content": {"application/json": {"schema": schema}}});
            members.insert("requestBody".to_owned(), body);
        }
        if matches!(route.call, Call::Claim) {
            // The claim in the body is the credential.
            members.insert("security".to_owned(), json!([]));
        }
    }
    operation
}

/// A method of a mount's path.
fn mounted(tag: &str, one: &Described, problem: &Schema, schemas: &mut SchemaGenerator) -> Value {
    let content = |media: &str, schema: Value| {
        let mut content = Map::new();
        content.insert(media.to_owned(), json!({ "schema": schema }));
        Value::Object(content)
    };
    let named = one.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<_> = named
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    let (status, gives) = one.gives;
    let given = match gives {
        Some((media, shape)) => json!({"description": "Done.", "content": content(media, shape(schemas))}),
        None => json!({"description": "Done."}),
    };
    let refused = match one.path.starts_with("/api/v1/") {
        true => {
            json!({"description": "Refused or failed.", "content": {"application/json": {"schema": problem}}})
        }
        false => json!({"description": "Refused or failed, as the standard of the path says it."}),
    };
    let path = one.path.trim_start_matches('/').replace(['{', '}', '.'], "").replace(['/', '-'], "_");
    let mut operation = json!({
        "operationId": format!("{}_{path}", one.method.to_lowercase()), "tags": [tag], "summary": one.meaning,
        "parameters": parameters,
        "responses": {status.to_string(): given, "default": refused},
        "security": match one.by {
            By::Anyone | By::Body => json!([]),
            By::Credential => json!([{"bearer": []}, {"certificate": []}]),
            By::Client => json!([{"client": []}]),
            By::Session => json!([{"session": []}]),
        },
    });
    if let Some(members) = operation.as_object_mut() {
        if let Some((media, shape)) = one.takes {
            let body = json!({"required": true, "content": content(media, shape(schemas))});
            members.insert("requestBody".to_owned(), body);
        }
        if one.action != "-" {
            members.insert("x-action".to_owned(), one.action.into());
        }
    }
    operation
}

/// The method and the path's own words: one for every route.
fn operation_id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/api/v1/").trim_start_matches('/').replace("{}", "one");
    format!("{}_{}", route.method.to_lowercase(), path.replace(['/', '.'], "_"))
}

/// What a call takes and gives.
fn bodies(call: Call, schemas: &mut SchemaGenerator) -> (Option<Value>, Value) {
    fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
        schemas.subschema_for::<T>().to_value()
    }
    let created = |schemas: &mut SchemaGenerator| json!({"allOf": [of::<KeyView>(schemas), {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "description": "The key. Never shown again."}}}]});
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let text = json!({"type": "string"});
    match call {
        Call::Claim => (Some(of::<Claim>(schemas)), object(json!({"name": text, "key": created(schemas)}))),
        Call::Whoami => {
            let number = json!({"type": "integer"});
            let who = json!({"tenant": text, "kind": text, "name": text, "assurance": number, "expires": text, "key": {"type": ["string", "null"]}});
            (None, object(who))
        }
        Call::OpenApi => (None, object(json!({}))),
        Call::KeyList => (None, of::<Vec<KeyView>>(schemas)),
        Call::KeyCreate => (Some(of::<CreateKey>(schemas)), created(schemas)),
        Call::KeyRevoke => {
            let acknowledged = object(json!({"acknowledged": of::<Acknowledged>(schemas)}));
            (None, json!({"allOf": [of::<KeyView>(schemas), acknowledged]}))
        }
        Call::LockList => (None, of::<Vec<LockView>>(schemas)),
        Call::LockAdd => {
            let acknowledged = object(json!({"acknowledged": of::<Acknowledged>(schemas)}));
            (Some(of::<LockToSet>(schemas)), json!({"allOf": [of::<LockView>(schemas), acknowledged]}))
        }
        Call::EpochAdvance => {
            let gives = object(json!({"acknowledged": of::<Acknowledged>(schemas)}));
            (Some(of::<EpochToAdvance>(schemas)), gives)
        }
        Call::KeyRotate => (Some(of::<Rotate>(schemas)), created(schemas)),
        Call::ResourceList => (None, of::<Vec<DocumentView>>(schemas)),
        Call::ResourceApply => (Some(of::<Vec<Document>>(schemas)), of::<Vec<DocumentView>>(schemas)),
        Call::DeliveryList => (None, of::<Vec<DeliveryView>>(schemas)),
        Call::DeliveryLetters => (None, of::<Vec<LetterView>>(schemas)),
        Call::ResourceDelete
        | Call::CredentialPut
        | Call::DirectoryDisable
        | Call::DirectoryEnable
        | Call::HoldPlace
        | Call::HoldRelease
        | Call::LockRelease
        | Call::DeliveryRetry => {
            let takes = match call {
                Call::CredentialPut => Some(of::<Credential>(schemas)),
                Call::HoldPlace => Some(of::<HoldToPlace>(schemas)),
                _ => None,
            };
            (takes, json!({"type": "null"}))
        }
        Call::UpstreamTest => {
            let number = json!({"type": "integer"});
            (None, object(json!({"status": number, "took_us": number})))
        }
        Call::ToolList => (None, of::<Vec<ToolView>>(schemas)),
        Call::ToolApprove => (Some(of::<ApproveTools>(schemas)), of::<Vec<ToolView>>(schemas)),
        Call::PolicyRead => (None, of::<Bundled>(schemas)),
        Call::PolicyApply => (Some(of::<ApplyBundle>(schemas)), of::<Bundled>(schemas)),
        Call::PolicyReach => (Some(of::<Reach>(schemas)), of::<Found>(schemas)),
        Call::PolicyPlan => (Some(of::<PlanPolicy>(schemas)), of::<Plan>(schemas)),
        Call::PolicyRollback => (Some(of::<RollBack>(schemas)), of::<Bundled>(schemas)),
        Call::PolicyTrial => (None, of::<TrialView>(schemas)),
        Call::PolicyTry => (Some(of::<TryPolicy>(schemas)), of::<Bundled>(schemas)),
        Call::PolicyDrop => (None, of::<Bundled>(schemas)),
        Call::DecisionReplay => (None, of::<ReplayView>(schemas)),
        Call::DecisionExplain => (None, of::<ExplainedDecision>(schemas)),
        Call::DecisionMaterial => (None, of::<Material>(schemas)),
        Call::ReplayUnder => (Some(of::<ReplayUnder>(schemas)), of::<Preview>(schemas)),
        Call::PolicyExplain => {
            let gives = object(json!({"explanation": of::<Explanation>(schemas), "text": text}));
            (Some(of::<Supposed>(schemas)), gives)
        }
        Call::DecisionList => (None, of::<Vec<DecisionLine>>(schemas)),
        Call::DecisionShow => (None, of::<DecisionView>(schemas)),
        Call::LogSearch => (Some(of::<SearchLedger>(schemas)), of::<FoundEntries>(schemas)),
        Call::LogExport => (Some(of::<ExportLedger>(schemas)), text),
        Call::DecisionContent => (None, of::<ContentView>(schemas)),
        Call::ContentReveal => (Some(of::<RevealTokens>(schemas)), of::<Vec<RevealedToken>>(schemas)),
        Call::SubjectErase => (Some(of::<Erase>(schemas)), of::<ErasedView>(schemas)),
        Call::HoldList => (None, of::<Vec<HoldView>>(schemas)),
        Call::Erasures => {
            let erasure =
                json!({"id": text, "tenant": text, "time_us": {"type": "integer"}, "subject": text});
            (None, json!({"type": "array", "items": object(erasure)}))
        }
        Call::PeriodRemove => (None, of::<RemovedView>(schemas)),
        Call::LogFile => (None, text),
        Call::DecisionProof | Call::DecisionWitnessed | Call::EntryProof => {
            (None, object(json!({"proof": text, "entry": text})))
        }
        Call::Checkpoints => (
            None,
            json!({"type": "array", "items": {"type": "array", "prefixItems": [text, {"type": "integer"}, text]}}),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_and_every_path_of_a_mount_is_described_under_a_name_of_its_own() {
        let document = openapi();
        let of_routes = ROUTES.iter().filter(|route| !route.path.ends_with("**"));
        let mut expected: Vec<_> = of_routes.map(|r| (r.method, parameters(r).0)).collect();
        expected.extend(MOUNTED.iter().flat_map(|(_, table)| *table).map(|d| (d.method, d.path.to_owned())));
        let mut names = BTreeSet::new();
        for (method, path) in &expected {
            let operation = &document["paths"][path.as_str()][method.to_lowercase()];
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
        }
        let paths = document["paths"].as_object().unwrap().values();
        assert_eq!(paths.map(|path| path.as_object().unwrap().len()).sum::<usize>(), expected.len());
    }

    #[test]
    fn parts_of_a_path_have_names_of_their_own() {
        for route in ROUTES.iter().filter(|route| !route.path.ends_with("**")) {
            let (path, parameters) = parameters(route);
            let names: BTreeSet<_> = parameters.iter().map(|p| p["name"].to_string()).collect();
            assert_eq!(names.len(), parameters.len(), "{path}");
        }
    }
}
