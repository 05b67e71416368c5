use super::*;
use proptest::prelude::*;
use serde_json::json;

fn ready(operations: Value) -> Vec<ReadyOperation> {
    let operations: Vec<ApiOperation> = serde_json::from_value(operations).unwrap();
    operations.iter().map(|operation| ReadyOperation::new(operation).unwrap()).collect()
}

fn tickets() -> Vec<ReadyOperation> {
    let id = json!({"type": "integer", "minimum": 1});
    let ticket = json!({"type": "object", "required": ["title"], "additionalProperties": false, "properties": {
        "title": {"type": "string", "maxLength": 20}, "urgent": {"type": "boolean"}
    }});
    ready(json!([
        {"name": "tickets.list", "method": "GET", "path": "/tickets", "query": ["page", "tag"], "arguments": {
            "type": "object", "properties": {"page": id, "tag": {"type": "array", "items": {"type": "string"}}}}},
        {"name": "tickets.mine", "method": "GET", "path": "/tickets/mine"},
        {"name": "tickets.get", "method": "GET", "path": "/tickets/{id}", "arguments": {
            "type": "object", "properties": {"id": id}}},
        {"name": "tickets.add", "method": "POST", "path": "/tickets", "arguments": {
            "type": "object", "required": ["body"], "properties": {"body": ticket}}},
    ]))
}

fn call<'o>(
    operations: &'o [ReadyOperation],
    method: &str,
    path: &str,
    body: &str,
) -> Result<ApiCall<'o>, Problem> {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let content_type = (!body.is_empty()).then_some("application/json; charset=utf-8");
    let request = ApiRequest { method, path, query, content_type, body: Bytes::from(body.to_owned()) };
    read_api_call(operations, &request, json::Limits::default())
}

fn reason(result: Result<ApiCall<'_>, Problem>) -> String {
    result.unwrap_err().reason.code().into_owned()
}

#[test]
fn a_call_is_the_operation_it_fits_with_typed_arguments_and_a_path_written_anew() {
    let operations = tickets();
    let one = call(&operations, "GET", "/tickets/%37", "").unwrap();
    assert_eq!((&*one.operation.name, one.path.as_str()), ("tickets.get", "/tickets/7"));
    assert_eq!(Value::Object(one.arguments), json!({"id": 7}));
    let list = call(&operations, "GET", "/tickets?tag=a+b&page=2&tag=c%26d", "").unwrap();
    assert_eq!(list.path, "/tickets?tag=a%20b&page=2&tag=c%26d");
    assert_eq!(Value::Object(list.arguments), json!({"page": 2, "tag": ["a b", "c&d"]}));
    let add = call(&operations, "POST", "/tickets", r#"{"title": "x", "urgent": true}"#).unwrap();
    assert_eq!(Value::Object(add.arguments), json!({"body": {"title": "x", "urgent": true}}));
    assert_eq!(add.body, r#"{"title": "x", "urgent": true}"#);
}

#[test]
fn the_more_literal_operation_is_meant() {
    assert_eq!(&*call(&tickets(), "GET", "/tickets/mine", "").unwrap().operation.name, "tickets.mine");
}

#[test]
fn what_is_not_declared_cannot_be_called() {
    let operations = tickets();
    for (method, path) in [
        ("DELETE", "/tickets/7"),
        ("get", "/tickets"),
        ("GET", "/admin"),
        ("GET", ""),
        ("GET", "/tickets/7/secret"),
        ("GET", "/Tickets"),
    ] {
        assert_eq!(reason(call(&operations, method, path, "")), "operation_unknown", "{method} {path}");
    }
}

#[test]
fn paths_that_readers_read_differently_are_refused() {
    let operations = tickets();
    for path in [
        "/tickets/../admin",
        "/tickets/%2e%2e/admin",
        "/tickets/%2E",
        "/tickets//7",
        "/tickets/7/",
        "/tickets/7%2fadmin",
        "/tickets/7%5cadmin",
        "/tickets/%00",
        "/tickets/7%0d%0aHost:x",
        "/tickets/%ff",
        "/tickets/%4",
        "/tickets/%zz",
        "tickets",
    ] {
        assert_eq!(reason(call(&operations, "GET", path, "")), "arguments_invalid", "{path}");
    }
}

#[test]
fn arguments_are_what_the_operation_takes() {
    let operations = tickets();
    for (method, path, body) in [
        ("GET", "/tickets/0", ""),
        ("GET", "/tickets/x", ""),
        ("GET", "/tickets?page=1&page=2", ""),
        ("GET", "/tickets?admin=true", ""),
        ("GET", "/tickets?page=%ff", ""),
        ("POST", "/tickets", ""),
        ("POST", "/tickets", r#"{"title": 7}"#),
        ("POST", "/tickets", r#"{"title": "x", "owner": "root"}"#),
        ("GET", "/tickets/7", "{}"),
    ] {
        assert_eq!(
            reason(call(&operations, method, path, body)),
            "arguments_invalid",
            "{method} {path} {body}"
        );
    }
    assert_eq!(
        reason(call(&operations, "POST", "/tickets", r#"{"title": "x", "title": "y"}"#)),
        "body_malformed"
    );
}

#[test]
fn a_refused_value_is_not_told() {
    let told =
        call(&tickets(), "POST", "/tickets", r#"{"title": "the secret of the house, long"}"#).unwrap_err();
    assert!(!told.message().contains("secret"), "{}", told.message());
}

#[test]
fn operations_that_could_mean_two_things_are_not_declared() {
    let new = |path: &str, query: &[&str], arguments: Value| {
        let operation =
            json!({"name": "x", "method": "GET", "path": path, "query": query, "arguments": arguments});
        ReadyOperation::new(&serde_json::from_value(operation).unwrap()).map(drop)
    };
    let any = || json!({"type": "object"});
    for path in [
        "",
        "x",
        "/a/../b",
        "/a//b",
        "/a{b}",
        "/{}",
        "/{a}{b}",
        "/a b",
        "/a?b",
        "/%41",
        "/a#b",
        "//evil.example/x",
    ] {
        assert_eq!(new(path, &[], any()), Err(OperationError::Path), "{path}");
    }
    assert!(matches!(new("/{a}/{a}", &[], any()), Err(OperationError::Parameter(_))));
    assert!(matches!(new("/{a}", &["a"], any()), Err(OperationError::Parameter(_))));
    assert!(matches!(new("/{body}", &[], any()), Err(OperationError::Parameter(_))));
    for arguments in [json!({"type": 7}), json!({"properties": {"a": {"pattern": "(a)\\1"}}})] {
        assert!(matches!(new("/a", &[], arguments.clone()), Err(OperationError::Schema(_))), "{arguments}");
    }
}

/// LiteLLM's loader of descriptions fetched whatever they referred to.
#[test]
fn cve_2026_12798_nothing_that_a_description_refers_to_elsewhere_is_fetched_or_taken() {
    for elsewhere in
        ["http://169.254.169.254/latest", "file:///etc/passwd", "other.json#/a", "//evil.example/x"]
    {
        let operation = json!({"name": "x", "method": "GET", "path": "/a", "arguments": {"$ref": elsewhere}});
        let declared = ReadyOperation::new(&serde_json::from_value(operation).unwrap());
        assert!(matches!(declared, Err(OperationError::Schema(_))), "{elsewhere}");
        let description = json!({"openapi": "3.1.0", "paths": {
            "/a": {"get": {"operationId": "a", "parameters": [{"$ref": elsewhere}]}}
        }});
        let (operations, left) = operations_of(description.to_string().as_bytes()).unwrap();
        assert_eq!((operations.len(), left.len()), (0, 1), "{elsewhere}");
    }
}

#[test]
fn operations_come_out_of_a_description_with_their_references_resolved() {
    let description = json!({"openapi": "3.1.0", "paths": {
        "/pets/{id}": {
            "parameters": [{"$ref": "#/components/parameters/id"}],
            "get": {"operationId": "getPet", "parameters": [
                {"name": "fields", "in": "query", "schema": {"type": "string"}},
                {"name": "x-trace", "in": "header", "schema": {"type": "string"}}]},
            "put": {"operationId": "put pet", "requestBody": {"required": true, "content": {"application/json": {"schema":
                {"$ref": "#/components/schemas/Pet"}}}}},
            "delete": {"parameters": [{"name": "x-csrf", "in": "header", "required": true}]},
            "summary": "ignored",
        },
        "/upload": {"post": {"requestBody": {"required": true, "content": {"multipart/form-data": {}}}}},
    }, "components": {
        "parameters": {"id": {"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}}},
        "schemas": {"Pet": {"type": "object", "required": ["example"], "properties": {
            "example": {"type": "string", "nullable": true, "example": "x"},
            "parent": {"$ref": "#/components/schemas/Pet"}}}},
    }});
    let (operations, left) = operations_of(description.to_string().as_bytes()).unwrap();
    let names: Vec<&str> = operations.iter().map(|o| &*o.name).collect();
    assert_eq!(names, ["getPet", "put_pet"]);
    assert_eq!(left.len(), 2);
    let ready: Vec<_> = operations.iter().map(|o| ReadyOperation::new(o).unwrap()).collect();
    assert_eq!(
        Value::Object(call(&ready, "GET", "/pets/3?fields=name", "").unwrap().arguments),
        json!({"fields": "name", "id": 3})
    );
    assert!(call(&ready, "PUT", "/pets/3", r#"{"example": null, "parent": {"example": "y"}}"#).is_ok());
    assert_eq!(reason(call(&ready, "PUT", "/pets/3", r#"{"parent": {}}"#)), "arguments_invalid");
    assert_eq!(
        reason(call(&ready, "PUT", "/pets/3", r#"{"example": "x", "parent": {"example": 7}}"#)),
        "arguments_invalid"
    );
}

proptest! {
    /// Whatever comes in, what goes out is the template with encoded values: nothing of the path's shape is the caller's.
    #[test]
    fn no_value_changes_the_shape_of_a_path(value in "\\PC{1,12}") {
        let operations = ready(json!([{"name": "x", "method": "GET", "path": "/a/{v}/b", "query": ["q"]}]));
        let mut encoded = String::new();
        encode(&value, &mut encoded);
        if let Ok(call) = call(&operations, "GET", &format!("/a/{encoded}/b?q={encoded}"), "") {
            prop_assert_eq!(&call.path, &format!("/a/{encoded}/b?q={encoded}"));
            prop_assert_eq!(call.arguments.get("v"), Some(&Value::String(value)));
            let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
            prop_assert!(encoded.chars().all(unreserved));
        } else {
            prop_assert!(value == "." || value == ".." || value.contains(['/', '\\']) || value.contains(char::is_control));
        }
    }
}
