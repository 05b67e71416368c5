//! The words of tool servers: a schema made of what a server lists (MCP `tools/list`), in a namespace of its own.
//!
//! Each tool becomes an action in the group `tool:call`, applied to a `Tool`, whose context holds what the house's does and the
//! call's `arguments`. What a server says is untrusted: it is bounded, names are encoded, and what has no type in policies
//! (fractions, unions, references) is left out, so that rules cannot look at it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bartizan_base::{Name, json};
use cedar_policy::SchemaFragment;
use serde_json::{Map, Value, json};

use crate::platform;
use crate::vocabulary::chain;

/// The namespace that holds those of servers.
pub(crate) const TOOLS: &str = "Tools";
/// Bounds on what a server lists.
const LIMITS: json::Limits = json::Limits { bytes_max: 1 << 20, depth_max: 32, nodes_max: 50_000 };
/// Tools of a server.
const TOOLS_MAX: usize = 500;
/// Members of arguments, of all tools and at all depths.
const MEMBERS_MAX: usize = 5_000;
/// How deep arguments may nest; deeper ones are left out.
const DEPTH_MAX: usize = 6;
/// Bytes of a name.
const NAME_MAX: usize = 128;

/// Why what a server lists makes no words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// It is not a bounded list of tools.
    #[error("the list of tools cannot be read: {0}")]
    Unreadable(String),
    /// A bound is broken.
    #[error("the server has more than {0} {1}")]
    TooMuch(usize, &'static str),
    /// A tool is unusable.
    #[error("tool `{tool}`: {why}")]
    Tool {
        /// Its name, as far as it can be shown.
        tool: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The words of one tool server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerWords {
    server: Name,
    namespace: String,
    json: Value,
}

impl ServerWords {
    /// Reads the result of `tools/list`: `{"tools": [{"name": …, "inputSchema": …}, …]}`.
    ///
    /// # Errors
    /// What makes the whole server unusable.
    pub fn read(server: &Name, listed: &[u8]) -> Result<Self, ServerError> {
        let listed = json::parse(listed, LIMITS).map_err(|e| ServerError::Unreadable(e.to_string()))?;
        let tools = listed.get("tools").and_then(Value::as_array);
        let tools = tools.ok_or_else(|| ServerError::Unreadable("there is no array `tools`".to_owned()))?;
        if tools.len() > TOOLS_MAX {
            return Err(ServerError::TooMuch(TOOLS_MAX, "tools"));
        }
        let mut budget = MEMBERS_MAX;
        let mut actions = Map::new();
        for tool in tools {
            let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            let wrong = |why| ServerError::Tool {
                tool: name.chars().take(40).flat_map(char::escape_debug).collect(),
                why,
            };
            if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
                return Err(wrong("its name has not 1 to 128 bytes without control characters"));
            }
            let arguments = tool.get("inputSchema").and_then(|schema| record(schema, &mut budget, 1));
            if budget == 0 {
                return Err(ServerError::TooMuch(MEMBERS_MAX, "members of arguments"));
            }
            let mut context = platform::context_attributes().cloned().unwrap_or_default();
            if let Some(arguments) = arguments {
                context.insert("arguments".to_owned(), arguments);
            }
            let action = json!({
                "memberOf": [{"id": "tool:call", "type": "Action"}],
                "appliesTo": {
                    "principalTypes": ["User", "Agent", "Workload", "Anonymous"],
                    "resourceTypes": ["Tool"],
                    "context": {"type": "Record", "attributes": context},
                },
            });
            if actions.insert(name.to_owned(), action).is_some() {
                return Err(wrong("its name stands twice"));
            }
        }
        let namespace = format!("{TOOLS}::{}", identifier(server));
        let json = json!({&namespace: {"entityTypes": {}, "actions": actions}});
        Ok(Self { server: server.clone(), namespace, json })
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> &Name {
        &self.server
    }

    /// Its namespace: `Tools::files`, whose tools are `Tools::files::Action::"NAME"`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its words, in the engine's JSON.
    pub(crate) const fn words(&self) -> &Value {
        &self.json
    }

    pub(crate) fn fragment(&self) -> Result<SchemaFragment, String> {
        SchemaFragment::from_json_value(self.json.clone()).map_err(|e| chain(&e))
    }
}

/// A server's name as an identifier, different for different names: `_` is `__`, and whatever may not stand there is `_` and
/// two hexadecimal digits.
fn identifier(name: &Name) -> String {
    let mut out = String::new();
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'_' => out.push_str("__"),
            b if b.is_ascii_alphabetic() || (at > 0 && b.is_ascii_digit()) => out.push(char::from(b)),
            b => write!(out, "_{b:02x}").unwrap_or_default(),
        }
    }
    out
}

/// The type of an object's members; none where it has no members that policies can see.
fn record(schema: &Value, budget: &mut usize, depth: usize) -> Option<Value> {
    let properties = schema.get("properties").and_then(Value::as_object)?;
    let required: BTreeSet<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut attributes = Map::new();
    for (name, property) in properties {
        *budget = budget.checked_sub(1)?;
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            continue;
        }
        if let Some(Value::Object(mut of)) = kind(property, budget, depth + 1) {
            of.insert("required".to_owned(), required.contains(name.as_str()).into());
            attributes.insert(name.clone(), of.into());
        }
    }
    Some(json!({"type": "Record", "attributes": attributes}))
}

/// The type of a value, where policies have one.
fn kind(schema: &Value, budget: &mut usize, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    match schema.get("type")?.as_str()? {
        "string" => Some(json!({"type": "String"})),
        "integer" => Some(json!({"type": "Long"})),
        "boolean" => Some(json!({"type": "Boolean"})),
        "array" => {
            let element = kind(schema.get("items")?, budget, depth + 1)?;
            Some(json!({"type": "Set", "element": element}))
        }
        "object" => record(schema, budget, depth),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
