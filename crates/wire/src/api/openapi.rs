//! Operations out of an OpenAPI description (3.0 and 3.1, JSON).
//!
//! References are replaced by what they lead to within the description, so that an operation stands for itself. What cannot be
//! brokered is told instead of left out silently.

use std::collections::BTreeSet;

use bartizan_base::{Name, Text, json};
use bartizan_model::ApiOperation;
use serde_json::{Map, Value, json};

use super::method;

/// Bounds on a description.
const LIMITS: json::Limits = json::Limits { bytes_max: 16 << 20, depth_max: 100, nodes_max: 1_000_000 };
/// How deep references may lead into one another; what goes deeper takes any value.
const DEPTH_MAX: usize = 12;
/// Values of one operation's schema.
const NODES_MAX: usize = 10_000;

/// Why no operations were read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenApiError {
    /// It is no bounded JSON.
    #[error("the description cannot be read: {0}")]
    Unreadable(String),
    /// It has no `paths`.
    #[error("this is no OpenAPI description: it has no `paths`")]
    NoPaths,
}

/// The operations of a description, and what is not among them, with the reason.
///
/// # Errors
/// [`OpenApiError`].
pub fn operations_of(description: &[u8]) -> Result<(Vec<ApiOperation>, Vec<String>), OpenApiError> {
    let root = json::parse(description, LIMITS).map_err(|e| OpenApiError::Unreadable(e.to_string()))?;
    let paths = root.get("paths").and_then(Value::as_object).ok_or(OpenApiError::NoPaths)?;
    let (mut operations, mut left) = (Vec::new(), Vec::new());
    for (path, item) in paths {
        let common = parameters(item);
        for (verb, operation) in item.as_object().into_iter().flatten() {
            let Some(method) = method(verb) else { continue };
            match read(&root, &common, operation) {
                Ok((query, arguments)) => {
                    let id = operation.get("operationId").and_then(Value::as_str);
                    let name = name(id, verb, path);
                    match (name, path.parse::<Text<500>>()) {
                        (Some(name), Ok(path)) => {
                            operations.push(ApiOperation { name, method, path, query, arguments });
                        }
                        _ => left.push(format!("{verb} {path}: its name or path is too long")),
                    }
                }
                Err(why) => left.push(format!("{verb} {path}: {why}")),
            }
        }
    }
    Ok((operations, left))
}

fn parameters(of: &Value) -> Vec<&Value> {
    of.get("parameters").and_then(Value::as_array).into_iter().flatten().collect()
}

type Taken = (BTreeSet<Text<100>>, Value);

/// The parameters of the query, and the schema of all arguments.
fn read(root: &Value, common: &[&Value], operation: &Value) -> Result<Taken, String> {
    let mut budget = NODES_MAX;
    let mut properties = Map::new();
    let mut required = BTreeSet::new();
    let mut query = BTreeSet::new();
    // An operation's own parameters replace those of its path.
    for parameter in common.iter().copied().chain(parameters(operation)) {
        let parameter = follow(root, parameter, 0).ok_or("a parameter's reference leads nowhere")?;
        let name = parameter.get("name").and_then(Value::as_str).ok_or("a parameter has no name")?;
        let needed = parameter.get("required").and_then(Value::as_bool) == Some(true);
        match parameter.get("in").and_then(Value::as_str) {
            Some("path") => {}
            Some("query") => {
                query.insert(name.parse().map_err(|_| "the name of a parameter is too long")?);
            }
            _ if needed => return Err(format!("it needs `{name}` in a header or cookie")),
            // Headers are not brokered; what can be left out is.
            _ => continue,
        }
        let schema = parameter.get("schema").unwrap_or(&Value::Bool(true));
        properties.insert(name.to_owned(), inline(root, schema, 0, &mut budget));
        if needed {
            required.insert(name.to_owned());
        }
    }
    if let Some(body) = operation.get("requestBody").and_then(|body| follow(root, body, 0)) {
        let needed = body.get("required").and_then(Value::as_bool) == Some(true);
        match body.pointer("/content/application~1json") {
            Some(content) => {
                let schema = content.get("schema").unwrap_or(&Value::Bool(true));
                properties.insert("body".to_owned(), inline(root, schema, 0, &mut budget));
                if needed {
                    required.insert("body".to_owned());
                }
            }
            None if needed => return Err("it needs a body that is not JSON".to_owned()),
            None => {}
        }
    }
    if budget == 0 {
        return Err("its schemas are too large".to_owned());
    }
    Ok((query, json!({"type": "object", "properties": properties, "required": required})))
}

/// What a reference within the description leads to.
fn follow<'v>(root: &'v Value, value: &'v Value, depth: usize) -> Option<&'v Value> {
    match value.get("$ref").and_then(Value::as_str) {
        None => Some(value),
        Some(reference) if depth < DEPTH_MAX => {
            follow(root, root.pointer(reference.strip_prefix('#')?)?, depth + 1)
        }
        Some(_) => None,
    }
}

/// A schema in which no reference is left. One that leads into itself, or nowhere, takes any value at that place.
fn inline(root: &Value, schema: &Value, depth: usize, budget: &mut usize) -> Value {
    *budget = budget.saturating_sub(1);
    if *budget == 0 || depth > DEPTH_MAX {
        return Value::Bool(true);
    }
    let Some(schema) = follow(root, schema, 0) else { return Value::Bool(true) };
    let Value::Object(words) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (word, value) in words {
        let mut within = |value: &Value| inline(root, value, depth + 1, budget);
        let value = match (word.as_str(), value) {
            // Words of OpenAPI that say nothing about a value.
            ("nullable" | "discriminator" | "xml" | "externalDocs" | "example" | "examples", _) => continue,
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
                Value::Object(named),
            ) => Value::Object(named.iter().map(|(name, schema)| (name.clone(), within(schema))).collect()),
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(list)) => {
                list.iter().map(within).collect()
            }
            (
                "items"
                | "additionalProperties"
                | "not"
                | "if"
                | "then"
                | "else"
                | "contains"
                | "propertyNames",
                schema,
            ) => within(schema),
            (_, other) => other.clone(),
        };
        out.insert(word.clone(), value);
    }
    let nullable = words.get("nullable").and_then(Value::as_bool) == Some(true);
    if let Some(kind) = out.get("type").filter(|kind| nullable && kind.is_string()).cloned() {
        out.insert("type".to_owned(), json!([kind, "null"]));
    }
    Value::Object(out)
}

/// A name out of the operation's id or, where it has none, out of method and path.
fn name(id: Option<&str>, verb: &str, path: &str) -> Option<Name> {
    let text = id.map_or_else(|| format!("{verb}{path}"), str::to_owned);
    let plain: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
        .collect();
    plain.trim_matches('_').parse().ok()
}
