//! What a request reaches for beside the text it carries, and members that nobody here knows.

use std::collections::BTreeSet;

use bartizan_model::RequestExtra;
use bartizan_model::directory::Dialect;

use crate::scan::Node;

/// Members that only shape the answer, by dialect. Whatever else stands in a request is either an extra or unknown.
const fn inert(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::OpenAiChat => &[
            "audio",
            "frequency_penalty",
            "function_call",
            "functions",
            "logit_bias",
            "logprobs",
            "max_completion_tokens",
            "max_tokens",
            "messages",
            "metadata",
            "modalities",
            "model",
            "n",
            "parallel_tool_calls",
            "prediction",
            "presence_penalty",
            "prompt_cache_key",
            "reasoning_effort",
            "response_format",
            "safety_identifier",
            "seed",
            "service_tier",
            "stop",
            "stream",
            "stream_options",
            "temperature",
            "tool_choice",
            "tools",
            "top_logprobs",
            "top_p",
            "user",
            "verbosity",
        ],
        Dialect::OpenAiResponses => &[
            "include",
            "input",
            "instructions",
            "max_output_tokens",
            "max_tool_calls",
            "metadata",
            "model",
            "parallel_tool_calls",
            "prompt_cache_key",
            "reasoning",
            "safety_identifier",
            "service_tier",
            "stream",
            "stream_options",
            "temperature",
            "text",
            "tool_choice",
            "tools",
            "top_logprobs",
            "top_p",
            "truncation",
            "user",
        ],
        Dialect::OpenAiEmbeddings => &["dimensions", "encoding_format", "input", "model", "user"],
        Dialect::AnthropicMessages => &[
            "cache_control",
            "max_tokens",
            "messages",
            "metadata",
            "model",
            "output_config",
            "service_tier",
            "stop_sequences",
            "stream",
            "system",
            "temperature",
            "thinking",
            "tool_choice",
            "tools",
            "top_k",
            "top_p",
        ],
    }
}

/// Members that reach for something, in any dialect, unless they say no.
const REACHING: &[(&str, RequestExtra)] = &[
    ("background", RequestExtra::Background),
    ("container", RequestExtra::ProviderState),
    ("conversation", RequestExtra::ProviderState),
    ("mcp_servers", RequestExtra::RemoteTools),
    ("previous_response_id", RequestExtra::ProviderState),
    ("prompt", RequestExtra::ProviderState),
    ("store", RequestExtra::Storage),
    ("web_search_options", RequestExtra::HostedTools),
];

/// Types of tools that the caller runs; every other is run by the provider.
const CALLERS_TOOLS: &[&str] = &["custom", "function"];
/// The same for types with a date at their end (Anthropic).
const CALLERS_TOOLS_DATED: &[&str] = &["bash_", "computer_", "memory_", "text_editor_"];

/// What the request reaches for, and the members nobody knows.
pub(crate) fn extras(dialect: Dialect, root: &Node, bytes: &[u8]) -> (BTreeSet<RequestExtra>, Vec<String>) {
    let (mut found, mut unknown) = (BTreeSet::new(), Vec::new());
    let Node::Object(members, _) = root else { return (found, unknown) };
    for (name, value) in members {
        if let Some((_, extra)) = REACHING.iter().find(|(known, _)| known == name) {
            if !value.is_null(bytes) && value.scalar(bytes) != Some("false") {
                found.insert(*extra);
            }
        } else if !inert(dialect).contains(&name.as_str()) {
            unknown.push(name.clone());
        }
    }
    for tool in root.member("tools").map(Node::items).unwrap_or_default() {
        match tool.member("type").and_then(|kind| kind.text(bytes)).as_deref() {
            None => {}
            Some("mcp" | "mcp_toolset") => drop(found.insert(RequestExtra::RemoteTools)),
            Some(kind) if CALLERS_TOOLS.contains(&kind) => {}
            Some(kind) if CALLERS_TOOLS_DATED.iter().any(|begin| kind.starts_with(begin)) => {}
            Some(_) => drop(found.insert(RequestExtra::HostedTools)),
        }
    }
    for name in ["messages", "input", "system"] {
        if let Some(content) = root.member(name) {
            walk(content, bytes, &mut found);
        }
    }
    (found, unknown)
}

/// Looks through what is said: parts can stand anywhere in it, also inside of results of tools.
fn walk(node: &Node, bytes: &[u8], found: &mut BTreeSet<RequestExtra>) {
    match node {
        Node::Array(items, _) => items.iter().for_each(|item| walk(item, bytes, found)),
        Node::Object(members, _) => {
            let kind = node.member("type").and_then(|kind| kind.text(bytes));
            if kind.as_deref() == Some("item_reference") {
                found.insert(RequestExtra::ProviderState);
            }
            for (name, value) in members {
                // What a tool was called with is the model's own data, not a part of ours.
                if kind.as_deref() == Some("tool_use") && name == "input" {
                    continue;
                }
                let text = value.text(bytes);
                match name.as_str() {
                    "file_id" if text.is_some() => drop(found.insert(RequestExtra::Files)),
                    "url" | "image_url" | "file_url" if text.as_deref().is_some_and(is_fetched) => {
                        found.insert(RequestExtra::Urls);
                    }
                    _ => walk(value, bytes, found),
                }
            }
        }
        Node::String(_) | Node::Scalar(_) => {}
    }
}

/// Everything but data that stands in the address itself.
fn is_fetched(url: &str) -> bool {
    !url.trim_start().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::json::Limits;
    use serde_json::{Value, json};

    fn of(dialect: Dialect, body: &Value) -> (Vec<&'static str>, Vec<String>) {
        let bytes = body.to_string();
        let root = Node::parse(bytes.as_bytes(), Limits::default()).unwrap();
        let (extras, unknown) = extras(dialect, &root, bytes.as_bytes());
        (extras.into_iter().map(RequestExtra::name).collect(), unknown)
    }

    #[test]
    fn whatever_reaches_beyond_the_text_is_found() {
        let chat = |more: Value| {
            let mut body =
                json!({"model": "m", "messages": [], "temperature": 1, "store": false, "background": null});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of(Dialect::OpenAiChat, &body)
        };
        let found = |names: &[&'static str]| (names.to_vec(), Vec::<String>::new());
        assert_eq!(chat(json!({})), found(&[]));
        assert_eq!(chat(json!({"store": true})), found(&["storage"]));
        assert_eq!(chat(json!({"store": "yes"})), found(&["storage"]), "whatever does not say no");
        assert_eq!(chat(json!({"web_search_options": {}})), found(&["hosted_tools"]));
        assert_eq!(chat(json!({"previous_response_id": "resp_1"})), found(&["provider_state"]));
        assert_eq!(chat(json!({"tools": [{"type": "function"}, {"type": "custom"}]})), found(&[]));
        let say = |part: Value| chat(json!({"messages": [{"role": "user", "content": [part]}]}));
        assert_eq!(say(json!({"type": "image_url", "image_url": {"url": "https://x"}})), found(&["urls"]));
        assert_eq!(
            say(json!({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}})),
            found(&["urls"])
        );
        assert_eq!(
            say(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}})),
            found(&[])
        );
        assert_eq!(say(json!({"type": "file", "file": {"file_id": "file-1"}})), found(&["files"]));
        assert_eq!(chat(json!({"api_base": "http://x", "Model": "b"})).1, ["api_base", "Model"]);
    }

    #[test]
    fn each_dialect_has_its_own_ways() {
        let responses = |more: Value| {
            let mut body = json!({"model": "m", "input": "x"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of(Dialect::OpenAiResponses, &body).0
        };
        assert_eq!(
            responses(json!({"background": true, "conversation": "c"})),
            ["background", "provider_state"]
        );
        assert_eq!(
            responses(json!({"tools": [{"type": "web_search"}, {"type": "mcp", "server_url": "http://x"}]})),
            ["hosted_tools", "remote_tools"]
        );
        assert_eq!(responses(json!({"input": [{"type": "item_reference", "id": "x"}]})), ["provider_state"]);
        assert_eq!(responses(json!({"prompt": {"id": "p"}})), ["provider_state"]);
        let messages = |more: Value| {
            let mut body = json!({"model": "m", "messages": [], "max_tokens": 1});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of(Dialect::AnthropicMessages, &body).0
        };
        assert_eq!(
            messages(json!({"mcp_servers": [{}], "container": "c"})),
            ["provider_state", "remote_tools"]
        );
        let tools =
            json!({"tools": [{"name": "f"}, {"type": "bash_20250124"}, {"type": "text_editor_20250429"}]});
        assert_eq!(messages(tools), Vec::<&str>::new());
        assert_eq!(messages(json!({"tools": [{"type": "web_search_20250305"}]})), ["hosted_tools"]);
        let nested = json!({"messages": [{"role": "user", "content": [
            {"type": "tool_use", "input": {"url": "https://the-models-own"}},
            {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "https://x"}}]}
        ]}]});
        assert_eq!(messages(nested), ["urls"]);
    }
}
