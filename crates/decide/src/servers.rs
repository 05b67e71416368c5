//! The words of tool servers: a schema made of what a server lists (MCP `tools/list`), in a namespace of its own.
//!
//! Each tool becomes an action in the group `tool:call`, applied to a `Tool`, whose context holds what the house's does, the
//! call's `arguments`, and their `sizes`. What a server says is untrusted: it is bounded, names are encoded, and what has no
//! type in policies (fractions, unions, references) is left out, so that rules cannot look at it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use bartizan_base::{Digest, Name, json};
use cedar_policy::{EntityUid, SchemaFragment};
use serde_json::{Map, Value, json};

use crate::describe::uid;
use crate::platform;
use crate::vocabulary::chain;

mod shape;

pub(crate) use shape::Shape;

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
    tools: Vec<Arc<Tool>>,
    json: Value,
    /// Why none of its tools can be asked for.
    unusable: Option<String>,
}

/// A tool, as policies see it.
#[derive(Debug, PartialEq)]
pub(crate) struct Tool {
    /// Its own action.
    pub(crate) uid: EntityUid,
    /// The resource that it is: `server/tool`.
    pub(crate) resource: String,
    /// What of its definition its words are made of: name and schema.
    pub(crate) definition: Value,
    /// The digest of that.
    pub(crate) digest: Digest,
    /// The arguments that policies see.
    pub(crate) shape: Option<Shape>,
}

impl ServerWords {
    /// Reads the result of `tools/list`: `{"tools": [{"name": …, "inputSchema": …}, …]}`.
    ///
    /// # Errors
    /// What makes the whole server unusable.
    pub fn read(server: &Name, listed: &[u8]) -> Result<Self, ServerError> {
        let listed = json::parse(listed, LIMITS).map_err(|e| ServerError::Unreadable(e.to_string()))?;
        let tools = listed.get("tools").and_then(Value::as_array);
        Self::of(
            server,
            tools.ok_or_else(|| ServerError::Unreadable("there is no array `tools`".to_owned()))?,
        )
    }

    /// The words of tools that are read already, as they stand in the result of `tools/list`.
    ///
    /// # Errors
    /// What makes the whole server unusable.
    pub fn of(server: &Name, listed: &[Value]) -> Result<Self, ServerError> {
        if server.contains('/') {
            // What a tool is called as a resource would be two things.
            return Err(ServerError::Unreadable("the name of a tool server holds no `/`".to_owned()));
        }
        if listed.len() > TOOLS_MAX {
            return Err(ServerError::TooMuch(TOOLS_MAX, "tools"));
        }
        let namespace = namespace_of(server);
        let action = format!("{namespace}::Action");
        let (mut budget, mut names, mut tools) = (MEMBERS_MAX, BTreeSet::new(), Vec::new());
        for tool in listed {
            let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            let wrong = |why| ServerError::Tool {
                tool: name.chars().take(40).flat_map(char::escape_debug).collect(),
                why,
            };
            if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
                return Err(wrong("its name has not 1 to 128 bytes without control characters"));
            }
            let shape = tool.get("inputSchema").and_then(|schema| Shape::record(schema, &mut budget, 1));
            if budget == 0 {
                return Err(ServerError::TooMuch(MEMBERS_MAX, "members of arguments"));
            }
            if !names.insert(name) {
                return Err(wrong("its name stands twice"));
            }
            let definition = json!({"name": name, "inputSchema": tool.get("inputSchema")});
            let canonical = json::canonical(&definition).map_err(|_| wrong("it has no canonical form"))?;
            tools.push(Arc::new(Tool {
                uid: uid(&action, name).ok_or_else(|| wrong("it cannot be an action"))?,
                resource: format!("{server}/{name}"),
                definition,
                digest: Digest::of(&canonical),
                shape,
            }));
        }
        let json = words(&namespace, &tools);
        Ok(Self { server: server.clone(), namespace, tools, json, unusable: None })
    }

    /// A server of whose tools none can be asked for.
    #[must_use]
    pub fn unusable(server: &Name, why: &ServerError) -> Self {
        let (namespace, unusable) = (namespace_of(server), Some(why.to_string()));
        Self { server: server.clone(), json: words(&namespace, &[]), namespace, tools: Vec::new(), unusable }
    }

    /// The same without some of its tools.
    pub(crate) fn without(&self, gone: &BTreeSet<EntityUid>) -> Self {
        let tools: Vec<_> = self.tools.iter().filter(|tool| !gone.contains(&tool.uid)).cloned().collect();
        Self { json: words(&self.namespace, &tools), tools, ..self.clone() }
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

    /// Its tools.
    pub(crate) fn tools(&self) -> &[Arc<Tool>] {
        &self.tools
    }

    /// Its words, in the engine's JSON.
    pub(crate) const fn words(&self) -> &Value {
        &self.json
    }

    pub(crate) fn fragment(&self) -> Result<SchemaFragment, String> {
        match &self.unusable {
            Some(why) => Err(why.clone()),
            None => SchemaFragment::from_json_value(self.json.clone()).map_err(|e| chain(&e)),
        }
    }
}

/// The namespace of a server.
pub(crate) fn namespace_of(server: &str) -> String {
    format!("{TOOLS}::{}", identifier(server))
}

/// Whether an action is that of a tool.
pub(crate) fn is_tools(action: &EntityUid) -> bool {
    action.type_name().namespace_components().next() == Some(TOOLS)
}

/// A schema of tools, in the engine's JSON.
fn words(namespace: &str, tools: &[Arc<Tool>]) -> Value {
    let action = |tool: &Arc<Tool>| {
        let mut context = platform::context_attributes().cloned().unwrap_or_default();
        if let Some(shape) = &tool.shape {
            context.insert("arguments".to_owned(), shape.words().into());
            context.extend(shape.sizes().map(|sizes| ("sizes".to_owned(), sizes.into())));
        }
        let action = json!({
            "memberOf": [{"id": "tool:call", "type": "Action"}],
            "appliesTo": {
                "principalTypes": ["User", "Agent", "Workload", "Anonymous"],
                "resourceTypes": ["Tool"],
                "context": {"type": "Record", "attributes": context},
            },
        });
        (tool.uid.id().unescaped().to_owned(), action)
    };
    let actions: Map<String, Value> = tools.iter().map(action).collect();
    json!({namespace: {"entityTypes": {}, "actions": actions}})
}

/// A server's name as an identifier, different for different names: `_` is `__`, and whatever may not stand there is `_` and
/// two hexadecimal digits.
fn identifier(name: &str) -> String {
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

#[cfg(test)]
mod tests;
