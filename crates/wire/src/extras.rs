//! What a request reaches for beside the text it carries, and members that nobody here knows.

use std::collections::BTreeSet;

use bartizan_model::RequestExtra;
use bartizan_model::directory::Dialect;

use crate::places::FUNCTIONS;
use crate::scan::Node;

/// Members that only shape the answer, by dialect. Whatever else stands in a request is either an extra or unknown.
const fn inert(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::OpenAiChat | Dialect::AzureChat => &[
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
        Dialect::OpenAiEmbeddings | Dialect::AzureEmbeddings => {
            &["dimensions", "encoding_format", "input", "model", "user"]
        }
        Dialect::AzureCompletions => &[
            "best_of",
            "echo",
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "max_tokens",
            "model",
            "n",
            "presence_penalty",
            "prompt",
            "seed",
            "stop",
            "stream",
            "stream_options",
            "suffix",
            "temperature",
            "top_p",
            "user",
        ],
        Dialect::BedrockInvoke => &[
            "anthropic_beta",
            "anthropic_version",
            "max_tokens",
            "messages",
            "metadata",
            "output_config",
            "stop_sequences",
            "system",
            "temperature",
            "thinking",
            "tool_choice",
            "tools",
            "top_k",
            "top_p",
        ],
        Dialect::BedrockConverse => &[
            "additionalModelResponseFieldPaths",
            "guardrailConfig",
            "inferenceConfig",
            "messages",
            "performanceConfig",
            "requestMetadata",
            "serviceTier",
            "system",
            "toolConfig",
        ],
        Dialect::GeminiGenerate => &[
            "contents",
            "generationConfig",
            "labels",
            "model",
            "safetySettings",
            "serviceTier",
            "systemInstruction",
            "toolConfig",
            "tools",
        ],
        Dialect::GeminiCountTokens => &["contents", "model"],
        Dialect::GeminiEmbed => {
            &["content", "model", "outputDimensionality", "requests", "taskType", "title"]
        }
        Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => &[
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
    ("cachedContent", RequestExtra::ProviderState),
    ("container", RequestExtra::ProviderState),
    ("conversation", RequestExtra::ProviderState),
    ("mcp_servers", RequestExtra::RemoteTools),
    ("previous_response_id", RequestExtra::ProviderState),
    ("promptVariables", RequestExtra::ProviderState),
    ("prompt", RequestExtra::ProviderState),
    ("store", RequestExtra::Storage),
    ("web_search_options", RequestExtra::HostedTools),
];

/// Settings below one member that only shape the answer. Others pass for unknown ones, so that none is taken in another spelling than
/// the one that was looked at: Gemini reads `max_output_tokens` as `maxOutputTokens`.
const fn settings(dialect: Dialect) -> Option<(&'static str, &'static [&'static str])> {
    match dialect {
        Dialect::BedrockConverse => {
            Some(("inferenceConfig", &["maxTokens", "stopSequences", "temperature", "topP"]))
        }
        Dialect::GeminiGenerate => Some((
            "generationConfig",
            &[
                "audioTimestamp",
                "candidateCount",
                "enableEnhancedCivicAnswers",
                "frequencyPenalty",
                "imageConfig",
                "logprobs",
                "maxOutputTokens",
                "mediaResolution",
                "presencePenalty",
                "responseJsonSchema",
                "responseLogprobs",
                "responseMimeType",
                "responseModalities",
                "responseSchema",
                "seed",
                "speechConfig",
                "stopSequences",
                "temperature",
                "thinkingConfig",
                "topK",
                "topP",
            ],
        )),
        _ => None,
    }
}

/// Types of tools that the caller runs; every other is run by the provider.
const CALLERS_TOOLS: &[&str] = &["custom", "function"];
/// The same for types with a date at their end (Anthropic).
const CALLERS_TOOLS_DATED: &[&str] = &["bash_", "computer_", "memory_", "text_editor_"];

/// What the request reaches for, and the members nobody knows.
pub(crate) fn extras(dialect: Dialect, root: &Node, bytes: &[u8]) -> (BTreeSet<RequestExtra>, Vec<String>) {
    let (mut found, mut unknown) = (BTreeSet::new(), Vec::new());
    let Node::Object(members, _) = root else { return (found, unknown) };
    for (name, value) in members {
        if inert(dialect).contains(&name.as_str()) {
            continue;
        }
        if let Some((_, extra)) = REACHING.iter().find(|(known, _)| known == name) {
            if !value.is_null(bytes) && value.scalar(bytes) != Some("false") {
                found.insert(*extra);
            }
        } else {
            unknown.push(name.clone());
        }
    }
    if let Some((within, known)) = settings(dialect)
        && let Some(Node::Object(members, _)) = root.member(within)
    {
        let others = members.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        unknown.extend(others.map(|(name, _)| format!("{within}.{name}")));
    }
    let gemini = matches!(dialect, Dialect::GeminiGenerate);
    let within = if dialect == Dialect::BedrockConverse { root.member("toolConfig") } else { Some(root) };
    for tool in within.and_then(|node| node.member("tools")).map(Node::items).unwrap_or_default() {
        if gemini || dialect == Dialect::BedrockConverse {
            let Node::Object(members, _) = tool else { continue };
            let callers = |name: &str| match dialect {
                Dialect::BedrockConverse => matches!(name, "toolSpec" | "cachePoint"),
                _ => FUNCTIONS.contains(&name),
            };
            for (name, _) in members {
                match name.as_str() {
                    "mcpServers" | "mcp_servers" => drop(found.insert(RequestExtra::RemoteTools)),
                    name if callers(name) => {}
                    _ => drop(found.insert(RequestExtra::HostedTools)),
                }
            }
            continue;
        }
        match tool.member("type").and_then(|kind| kind.text(bytes)).as_deref() {
            None => {}
            Some("mcp" | "mcp_toolset") => drop(found.insert(RequestExtra::RemoteTools)),
            Some(kind) if CALLERS_TOOLS.contains(&kind) => {}
            Some(kind) if CALLERS_TOOLS_DATED.iter().any(|begin| kind.starts_with(begin)) => {}
            Some(_) => drop(found.insert(RequestExtra::HostedTools)),
        }
    }
    for name in ["messages", "input", "system", "contents", "systemInstruction", "content", "requests"] {
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
                if kind.as_deref() == Some("tool_use") && name == "input" || CALLS.contains(&name.as_str()) {
                    continue;
                }
                let text = value.text(bytes);
                match name.as_str() {
                    "file_id" if text.is_some() => drop(found.insert(RequestExtra::Files)),
                    "s3Location" => drop(found.insert(RequestExtra::Urls)),
                    "fileUri" | "file_uri" if text.as_deref().is_some_and(is_provider_file) => {
                        found.insert(RequestExtra::Files);
                    }
                    "fileUri" | "file_uri" => drop(found.insert(RequestExtra::Urls)),
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

/// Parts that say what a tool was called with (Converse, Gemini).
const CALLS: &[&str] = &["toolUse", "functionCall", "function_call"];

/// Files that were given to the provider before have addresses of its own (Gemini).
fn is_provider_file(uri: &str) -> bool {
    uri.starts_with("https://generativelanguage.googleapis.com/") || uri.starts_with("files/")
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
        let mut unknown = chat(json!({"api_base": "http://x", "Model": "b"})).1;
        unknown.sort_unstable();
        assert_eq!(unknown, ["Model", "api_base"]);
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
