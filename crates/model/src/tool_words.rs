//! The definitions of a server's tools that were approved: what policies know of their arguments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Status;

/// The words of a tool server, named like the server. Each tool becomes an action of its own, whose context holds the
/// arguments that the tool's schema types.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolWordsSpec {
    /// Whether policies see them. Without them a call is asked for as `tool:call`, without arguments.
    pub status: Status,
    /// The tools, as they stand in the result of MCP `tools/list`: `name` and `inputSchema` count. At most 500, of at most a
    /// mebibyte together.
    pub tools: Vec<Value>,
}

impl ToolWordsSpec {
    /// How many tools a server may have.
    pub const TOOLS_MAX: usize = 500;
    /// Bytes of all of them together, as JSON.
    pub const BYTES_MAX: usize = 1 << 20;
}
