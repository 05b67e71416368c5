//! Where in a request its parts stand, by dialect.

use bartizan_model::Problem;
use bartizan_model::directory::Dialect;

use crate::address::Address;
use crate::request::wrong;
use crate::scan::Node;

/// Where caps on output tokens stand: below which member, if any, and their names; the one to set first.
pub(crate) const fn caps(dialect: Dialect) -> (Option<&'static str>, &'static [&'static str]) {
    match dialect {
        Dialect::OpenAiChat | Dialect::AzureChat => (None, &["max_completion_tokens", "max_tokens"]),
        Dialect::OpenAiResponses => (None, &["max_output_tokens"]),
        Dialect::AnthropicMessages | Dialect::AzureCompletions | Dialect::BedrockInvoke => {
            (None, &["max_tokens"])
        }
        Dialect::BedrockConverse => (Some("inferenceConfig"), &["maxTokens"]),
        Dialect::GeminiGenerate => (Some("generationConfig"), &["maxOutputTokens"]),
        Dialect::OpenAiEmbeddings
        | Dialect::AzureEmbeddings
        | Dialect::AnthropicCountTokens
        | Dialect::GeminiEmbed
        | Dialect::GeminiCountTokens => (None, &[]),
    }
}

/// How many answers are asked for. None where that is no whole number.
pub(crate) fn choices(dialect: Dialect, root: &Node, body: &[u8]) -> Option<u64> {
    let count = |node: Option<&Node>| match node {
        None => Some(1),
        Some(node) if node.is_null(body) => Some(1),
        Some(node) => node.scalar(body)?.parse::<u64>().ok(),
    };
    match dialect {
        Dialect::GeminiGenerate => {
            count(root.member("generationConfig").and_then(|c| c.member("candidateCount")))
        }
        Dialect::AzureCompletions => {
            // As many for every prompt, and those that are thrown away cost as well.
            let each = count(root.member("n"))?.max(count(root.member("best_of"))?);
            let prompts = root.member("prompt").map_or(1, |prompt| prompt.items().len().max(1));
            Some(each.saturating_mul(prompts as u64))
        }
        _ => count(root.member("n")),
    }
}

/// How many messages, texts or parts of a prompt there are.
///
/// # Errors
/// When they do not stand where they must.
pub(crate) fn messages(address: &Address, root: &Node, body: &[u8]) -> Result<usize, Problem> {
    let dialect = address.dialect;
    let place = match dialect {
        Dialect::OpenAiChat
        | Dialect::AzureChat
        | Dialect::AnthropicMessages
        | Dialect::AnthropicCountTokens
        | Dialect::BedrockInvoke
        | Dialect::BedrockConverse => "messages",
        Dialect::OpenAiResponses | Dialect::OpenAiEmbeddings | Dialect::AzureEmbeddings => "input",
        Dialect::AzureCompletions => "prompt",
        Dialect::GeminiGenerate | Dialect::GeminiCountTokens => "contents",
        Dialect::GeminiEmbed if address.is_batch() => "requests",
        Dialect::GeminiEmbed => "content",
    };
    // Other makers' models are asked in formats of their own, of which nothing could be told here.
    let anthropic = root.member("anthropic_version").and_then(|version| version.text(body));
    if dialect == Dialect::BedrockInvoke && anthropic.is_none() {
        return Err(wrong("anthropic_version", "there: other models are asked with `converse`"));
    }
    let text_too = matches!(place, "input" | "prompt");
    match root.member(place) {
        Some(Node::Array(items, _)) if place != "content" => Ok(items.len()),
        Some(Node::String(_)) if text_too => Ok(1),
        Some(Node::Object(..)) if place == "content" => Ok(1),
        None if dialect == Dialect::OpenAiResponses => Ok(0),
        _ if text_too => Err(wrong(place, "a string or an array")),
        _ if place == "content" => Err(wrong(place, "an object")),
        _ => Err(wrong(place, "an array")),
    }
}

/// How many tools are offered.
///
/// # Errors
/// When they do not stand where they must.
pub(crate) fn tools(dialect: Dialect, root: &Node, body: &[u8]) -> Result<usize, Problem> {
    let within = match dialect {
        Dialect::BedrockConverse => match root.member("toolConfig") {
            None => return Ok(0),
            Some(node) if node.is_null(body) => return Ok(0),
            Some(node @ Node::Object(..)) => node,
            Some(_) => return Err(wrong("toolConfig", "an object")),
        },
        _ => root,
    };
    match within.member("tools") {
        None => Ok(0),
        Some(Node::Array(items, _)) if dialect == Dialect::GeminiGenerate => {
            let functions = |tool: &Node| {
                FUNCTIONS.iter().find_map(|name| tool.member(name)).map_or(1, |listed| listed.items().len())
            };
            Ok(items.iter().map(functions).sum())
        }
        Some(Node::Array(items, _)) => Ok(items.len()),
        Some(node) if node.is_null(body) => Ok(0),
        Some(_) => Err(wrong("tools", "an array")),
    }
}

/// Gemini's functions, in both spellings that it takes.
pub(crate) const FUNCTIONS: &[&str] = &["functionDeclarations", "function_declarations"];
