//! Whole answers: what they cost, and their texts.

use std::borrow::Cow;

use bartizan_base::json::Limits;
use bartizan_model::directory::Dialect;
use bartizan_model::{Problem, ReasonCode};

use crate::request::collect_texts;
use crate::scan::{Node, Span};

/// Tokens that the upstream counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the request, those that the provider had kept included.
    pub input: Option<u64>,
    /// Of those, how many the provider had kept.
    pub cached: Option<u64>,
    /// Of the answer.
    pub output: Option<u64>,
}

/// Bounds of an answer or a frame: the upstream is not trusted either.
pub(crate) const LIMITS: Limits = Limits { bytes_max: 64 << 20, depth_max: 64, nodes_max: 4_000_000 };

/// Names whose strings are structure in answers.
pub(crate) const STRUCTURE: &[&str] = &[
    "id",
    "object",
    "type",
    "model",
    "role",
    "finish_reason",
    "stop_reason",
    "system_fingerprint",
    "service_tier",
    "status",
    "name",
    "item_id",
    "call_id",
    "event",
    "previous_response_id",
    "encrypted_content",
    "signature",
    "obfuscation",
    "truncation",
    "effort",
    "tool_call_id",
    "tool_use_id",
    "embedding",
    "finishReason",
    "mimeType",
    "modelVersion",
    "redactedContent",
    "responseId",
    "stopReason",
    "thoughtSignature",
    "toolUseId",
];

/// What stands in whatever says something about tokens.
pub const USAGE: &[u8] = b"\"usage";

/// What an answer or a frame of a stream says about tokens; later frames may say more.
#[must_use]
pub fn usage_of(dialect: Dialect, body: &[u8]) -> Usage {
    // Most frames say nothing, which a search tells faster than a reader.
    if memchr::memmem::find(body, USAGE).is_none() {
        return Usage::default();
    }
    let Ok(root) = Node::parse(body, LIMITS) else { return Usage::default() };
    let inner = ["response", "message"].iter().find_map(|name| root.member(name)).unwrap_or(&root);
    let number = |usage: &Node, name: &str| {
        usage.member(name).and_then(|n| n.scalar(body)).and_then(|s| s.parse::<u64>().ok())
    };
    let (input, output) = match dialect {
        Dialect::OpenAiChat
        | Dialect::OpenAiEmbeddings
        | Dialect::AzureChat
        | Dialect::AzureCompletions
        | Dialect::AzureEmbeddings => ("prompt_tokens", "completion_tokens"),
        Dialect::OpenAiResponses
        | Dialect::AnthropicMessages
        | Dialect::AnthropicCountTokens
        | Dialect::BedrockInvoke => ("input_tokens", "output_tokens"),
        Dialect::BedrockConverse => ("inputTokens", "outputTokens"),
        Dialect::GeminiGenerate | Dialect::GeminiEmbed | Dialect::GeminiCountTokens => {
            let Some(usage) = root.member("usageMetadata") else { return Usage::default() };
            let sum = |names: [&str; 2]| {
                let [one, other] = names.map(|name| number(usage, name));
                one.or(other).map(|_| one.unwrap_or(0).saturating_add(other.unwrap_or(0)))
            };
            return Usage {
                input: sum(["promptTokenCount", "toolUsePromptTokenCount"]),
                cached: number(usage, "cachedContentTokenCount"),
                output: sum(["candidatesTokenCount", "thoughtsTokenCount"]),
            };
        }
    };
    let usage = root.member("usage").or_else(|| inner.member("usage"));
    let Some(usage) = usage else { return Usage::default() };
    let either = |names: [&str; 2]| names.iter().find_map(|name| number(usage, name));
    let read = either(["cache_read_input_tokens", "cacheReadInputTokens"]);
    let written = either(["cache_creation_input_tokens", "cacheWriteInputTokens"]);
    let details =
        ["prompt_tokens_details", "input_tokens_details"].iter().find_map(|name| usage.member(name));
    let cached = details.and_then(|details| number(details, "cached_tokens")).or(read);
    // Anthropic and Amazon count what they had kept, and what they keep from now on, beside the others.
    let beside = read.unwrap_or(0_u64).saturating_add(written.unwrap_or(0));
    let input = number(usage, input).map(|count: u64| count.saturating_add(beside));
    Usage { input, cached, output: number(usage, output) }
}

/// Every text of a whole answer with its place.
///
/// # Errors
/// When the answer is not JSON: then it cannot be searched and must not be released.
pub fn answer_texts(body: &[u8]) -> Result<Vec<(Span, Cow<'_, str>)>, Problem> {
    let root = Node::parse(body, LIMITS)
        .map_err(|e| Problem::with_detail(ReasonCode::UpstreamInvalid, e.to_string()))?;
    let mut out = Vec::new();
    collect_texts(&root, body, STRUCTURE, &mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_in_every_dialect() {
        let read = |dialect, body: &str| {
            let usage = usage_of(dialect, body.as_bytes());
            (usage.input, usage.output)
        };
        assert_eq!(
            read(Dialect::OpenAiChat, r#"{"usage":{"prompt_tokens":3,"completion_tokens":5}}"#),
            (Some(3), Some(5))
        );
        assert_eq!(
            read(
                Dialect::OpenAiResponses,
                r#"{"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":5}}}"#
            ),
            (Some(3), Some(5))
        );
        assert_eq!(
            read(
                Dialect::AnthropicMessages,
                r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}"#
            ),
            (Some(3), Some(1))
        );
        assert_eq!(
            read(Dialect::AnthropicMessages, r#"{"type":"message_delta","usage":{"output_tokens":5}}"#),
            (None, Some(5))
        );
        assert_eq!(read(Dialect::OpenAiChat, r#"{"usage":null}"#), (None, None));
        let kept = r#"{"usage":{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":4,"output_tokens":5}}"#;
        let usage = usage_of(Dialect::AnthropicMessages, kept.as_bytes());
        assert_eq!((usage.input, usage.cached, usage.output), (Some(17), Some(10), Some(5)));
        let kept = r#"{"usage":{"prompt_tokens":30,"prompt_tokens_details":{"cached_tokens":20},"completion_tokens":5}}"#;
        let usage = usage_of(Dialect::OpenAiChat, kept.as_bytes());
        assert_eq!((usage.input, usage.cached, usage.output), (Some(30), Some(20), Some(5)));
        assert_eq!(read(Dialect::OpenAiChat, "garbage \"usage\""), (None, None));
        let converse = r#"{"usage":{"inputTokens":3,"outputTokens":5,"cacheReadInputTokens":10,"cacheWriteInputTokens":4,"totalTokens":22}}"#;
        let usage = usage_of(Dialect::BedrockConverse, converse.as_bytes());
        assert_eq!((usage.input, usage.cached, usage.output), (Some(17), Some(10), Some(5)));
        let gemini = r#"{"usageMetadata":{"promptTokenCount":3,"toolUsePromptTokenCount":2,"cachedContentTokenCount":1,"candidatesTokenCount":5,"thoughtsTokenCount":7}}"#;
        let usage = usage_of(Dialect::GeminiGenerate, gemini.as_bytes());
        assert_eq!((usage.input, usage.cached, usage.output), (Some(5), Some(1), Some(12)));
        assert_eq!(
            read(Dialect::GeminiGenerate, r#"{"usageMetadata":{"promptTokenCount":3}}"#),
            (Some(3), None)
        );
    }
}
