//! How a server of tools is reached, beside the `tool_server` of the same name that policies know.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::{Digest, Name, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Status;

/// How a server of tools (MCP) is reached, and what of it was approved. It is named like its `tool_server`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolRouteSpec {
    /// Whether it may be used.
    #[serde(default)]
    pub status: Status,
    /// The upstream whose address, credential and bounds hold for it; none for one that runs as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Name>,
    /// The command of the configuration (`[commands.NAME]`) that it runs as, instead of an upstream. No command line stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Name>,
    /// Of a child: whether it keeps nothing of those who call it, so that one serves all sessions of the tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// The path of its endpoint below the upstream's address, such as `/mcp`.
    #[serde(default = "default_path")]
    pub path: String,
    /// What is spoken to it.
    #[serde(default)]
    pub transport: ToolTransport,
    /// Whose credential it is called with.
    #[serde(default)]
    pub credential: ToolCredential,
    /// What it may ask back of those who call it. Nothing unless declared: what else it asks ends the call.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accepts: BTreeSet<ServerAsk>,
    /// The most bytes that it may answer to one call, everything told on the way included; the bound of the configuration if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_bytes_max: Option<u64>,
    /// What was approved: SHA-256 of the canonical definition of each tool, and of each prompt under `prompt:NAME`. What is not
    /// among them, or is defined otherwise by now, is blocked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<Text<128>, Digest>,
}

fn default_path() -> String {
    "/mcp".to_owned()
}

/// What is spoken to a server of tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolTransport {
    /// Streamable HTTP with sessions: revisions 2025-03-26 to 2025-11-25.
    #[default]
    Http,
    /// Streamable HTTP without sessions: revision 2026-07-28.
    StatelessHttp,
    /// HTTP+SSE of revision 2024-11-05, as old servers speak it; `path` is that of the stream of events.
    Sse,
}

/// Whose credential a server of tools is called with. Never the caller's own token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolCredential {
    /// The sealed one of the upstream, if it has one.
    #[default]
    Own,
    /// That of the account which the person behind the call has connected, at the `connection` of the `tool_server`.
    Connection,
}

/// What a server may ask of its client in the middle of a call (revision 2026-07-28, `input_required`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerAsk {
    /// A question to the person (`elicitation/create`).
    Elicitation,
    /// The folders that the client works in (`roots/list`).
    Roots,
    /// A completion by the client's model (`sampling/createMessage`).
    Sampling,
}

impl ServerAsk {
    /// What the request of `method` asks for; none for other requests.
    #[must_use]
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "elicitation/create" => Some(Self::Elicitation),
            "roots/list" => Some(Self::Roots),
            "sampling/createMessage" => Some(Self::Sampling),
            _ => None,
        }
    }
}

/// What stands between server and tool in the names of the endpoint of all servers.
pub const TOOL_SEPARATOR: &str = "__";

/// What a resource read of a server is asked on, after the server's name and a slash. No tool is called so.
pub const READ_RESOURCES: &str = "resource:read";

/// What a prompt is asked on, before its name.
pub const PROMPT_PREFIX: &str = "prompt:";

/// Whether `name` can be told apart in the names of the endpoint of all servers: letters, digits, `.`, `-` and single `_`, and
/// no `_` at its end. Then the first `__` of `server__tool` is the border, whatever the tool is called.
#[must_use]
pub fn is_server_name(name: &str) -> bool {
    is_tool_name(name) && !name.contains(TOOL_SEPARATOR) && !name.ends_with('_')
}

/// Whether a tool or prompt of that name can be served: letters, digits, `.`, `_` and `-` (revision 2025-11-25, tool names).
#[must_use]
pub fn is_tool_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl ToolRouteSpec {
    /// What is wrong with it, if something is.
    #[must_use]
    pub fn mistake(&self, name: &Name) -> Option<&'static str> {
        if !is_server_name(name) {
            return Some(
                "its name has letters, digits, `.`, `-` and single `_` alone, and no `_` at the end",
            );
        }
        if self.upstream.is_some() == self.command.is_some() {
            return Some("it is reached at one `upstream`, or is one `command` of the configuration");
        }
        let connected = self.credential == ToolCredential::Connection;
        if self.command.is_some() && (connected || self.transport != ToolTransport::Http) {
            return Some("a `command` has neither `transport` nor a connected account");
        }
        if self.shared && self.command.is_none() {
            return Some("only a `command` is `shared`");
        }
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'?' | b'\\' | b'%');
        let dots = self.path.split('/').any(|part| matches!(part, "." | ".."));
        if !self.path.starts_with('/') || self.path.len() > 500 || !self.path.bytes().all(plain) || dots {
            return Some("`path` begins with `/` and has no query, fragment, escapes or dots");
        }
        let fits = |pin: &Text<128>| {
            is_tool_name(pin.strip_prefix(PROMPT_PREFIX).unwrap_or(pin)) && name.len() + pin.len() < Name::MAX
        };
        if self.pins.len() > PINS_MAX || !self.pins.keys().all(fits) {
            return Some("`pins` are at most 2,000 names of tools, and of prompts after `prompt:`");
        }
        None
    }
}

/// How many definitions can be approved of one server.
pub const PINS_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(path: &str) -> ToolRouteSpec {
        serde_json::from_value(serde_json::json!({"upstream": "u", "path": path})).unwrap()
    }

    #[test]
    fn a_path_can_lead_nowhere_but_below_the_upstream() {
        let name = Name::literal("files");
        assert_eq!(route("/mcp").mistake(&name), None);
        for bad in ["mcp", "", "/../admin", "/a/./b", "/x?y=1", "/x#y", "/%2e%2e/x", "/a b", "/a\\b", "/ä"] {
            assert!(route(bad).mistake(&name).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_server_is_reached_in_one_way() {
        let name = Name::literal("files");
        let route = |value| serde_json::from_value::<ToolRouteSpec>(value).unwrap().mistake(&name);
        assert_eq!(route(serde_json::json!({"command": "files", "shared": true})), None);
        for bad in [
            serde_json::json!({}),
            serde_json::json!({"upstream": "u", "command": "files"}),
            serde_json::json!({"upstream": "u", "shared": true}),
            serde_json::json!({"command": "files", "transport": "sse"}),
            serde_json::json!({"command": "files", "credential": "connection"}),
        ] {
            assert!(route(bad.clone()).is_some(), "{bad}");
        }
    }

    #[test]
    fn names_that_could_be_taken_for_others_are_refused() {
        for bad in ["a__b", "a_", "a/b", "a:b", "a@b"] {
            assert!(route("/mcp").mistake(&bad.parse().unwrap()).is_some(), "{bad}");
        }
        let mut pinned = route("/mcp");
        pinned.pins.insert("resource:read".parse().unwrap(), Digest::EMPTY);
        assert!(pinned.mistake(&Name::literal("files")).is_some());
    }

    proptest! {
        #[test]
        fn no_two_tools_have_one_name_at_the_endpoint_of_all_servers(
            a in "[a-z_.]{1,6}", b in "[a-z_.]{1,6}", c in "[a-z_.]{1,6}", d in "[a-z_.]{1,6}"
        ) {
            prop_assume!(is_server_name(&a) && is_server_name(&c) && (&a, &b) != (&c, &d));
            prop_assert_ne!(format!("{a}__{b}"), format!("{c}__{d}"));
            let joined = format!("{a}__{b}");
            prop_assert_eq!(joined.split_once(TOOL_SEPARATOR), Some((a.as_str(), b.as_str())));
        }
    }
}
