//! What a request to a model becomes on its way out: what it reaches for, what it may take, what is done to it.

use bartizan_base::Name;
use bartizan_limits::Tokens;
use bartizan_mask::Masker;
use bartizan_model::directory::{Dialect, ModelSpec, UpstreamSpec};
use bartizan_model::{Action, ObligationKind, Obligations, Problem, ReasonCode, RequestExtra};
use bartizan_wire::ModelRequest;
use bytes::Bytes;
use http::HeaderMap;

use crate::mask::uncaught;
use crate::routing::Route;

pub(crate) const fn action_of(dialect: Dialect) -> Action {
    match dialect {
        Dialect::OpenAiEmbeddings | Dialect::AzureEmbeddings | Dialect::GeminiEmbed => Action::ModelEmbed,
        Dialect::OpenAiChat
        | Dialect::OpenAiResponses
        | Dialect::AnthropicMessages
        | Dialect::AnthropicCountTokens
        | Dialect::AzureChat
        | Dialect::AzureCompletions
        | Dialect::BedrockConverse
        | Dialect::BedrockInvoke
        | Dialect::GeminiGenerate
        | Dialect::GeminiCountTokens => Action::ModelInvoke,
    }
}

/// Whether tokens are counted there and none are used up.
const fn only_counts(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::AnthropicCountTokens | Dialect::GeminiCountTokens)
}

/// What a request reaches for must be accepted by the model, and what nobody knows must be inert at the upstream: a
/// field of tomorrow could do anything.
pub(crate) fn reach(
    request: &ModelRequest,
    model: &ModelSpec,
    upstream: &UpstreamSpec,
) -> Result<(), Problem> {
    let accepted =
        |extra: &RequestExtra| *extra != RequestExtra::ProviderState && model.accepts.contains(extra);
    if let Some(extra) = request.facts().extras.iter().find(|extra| !accepted(extra)) {
        let detail = format!("this model does not accept `{}`", extra.name());
        return Err(Problem::with_detail(ReasonCode::RequestExtraRefused, detail));
    }
    let inert = |name: &String| upstream.inert_fields.contains(name.as_str());
    match request.unknown_members().iter().find(|name| !inert(name)) {
        None => Ok(()),
        Some(name) => {
            let shown: String = name.chars().take(40).collect();
            let detail = format!("`{shown}` is not known here");
            Err(Problem::with_detail(ReasonCode::RequestFieldUnknown, detail))
        }
    }
}

/// Output tokens that are reserved for where neither the request nor the model says how many there may be.
const OUTPUT_UNSAID: u64 = 16_384;

/// The most tokens that a call can take: no token is shorter than a byte, and the answer is held to its cap.
pub(crate) fn estimate(
    dialect: Dialect,
    request: &ModelRequest,
    obligations: &Obligations,
    route: Option<&Route>,
) -> Tokens {
    let (facts, most) = (request.facts(), route.and_then(|route| route.output_tokens_max));
    let output = match action_of(dialect) {
        Action::ModelInvoke if !only_counts(dialect) => {
            let unsaid = most.unwrap_or(OUTPUT_UNSAID);
            let each = facts.output_tokens_max.unwrap_or(unsaid).min(most.unwrap_or(u64::MAX));
            let all = each.saturating_mul(request.choices());
            all.min(obligations.output_tokens_max().unwrap_or(u64::MAX))
        }
        _ => 0,
    };
    let input = if only_counts(dialect) { 0 } else { facts.bytes };
    Tokens { input, cached: 0, output }
}

/// Applies the obligations of a permit to the request and names the model as the upstream knows it.
pub(crate) fn oblige(
    request: &ModelRequest,
    upstream_model: Option<&Name>,
    obligations: &Obligations,
    (output_most, masker): (Option<u64>, Option<&Masker>),
) -> Result<(Bytes, u64), Problem> {
    let mut edits = request.edits();
    // Also where it is called the same there: a body may say another name than its address.
    edits.set_model(upstream_model.unwrap_or_else(|| request.model()));
    // What is reserved is an upper bound only if the upstream is held to it.
    if let Some(most) = obligations.output_tokens_max().into_iter().chain(output_most).min() {
        edits.cap_output(most);
    }
    if !request.facts().extras.contains(&RequestExtra::Storage) {
        edits.forbid_storage();
    }
    if obligations.contains(ObligationKind::StripTools) {
        edits.strip_tools();
    }
    let mut redacted = 0;
    if let Some(masker) = masker {
        if request.has_opaque_parts() {
            let detail = "parts that are not text cannot be redacted";
            return Err(Problem::with_detail(ReasonCode::ObligationFailed, detail));
        }
        for (place, text) in request.texts() {
            let masked = masker.mask(&text);
            if matches!(masked.text, std::borrow::Cow::Owned(_)) {
                redacted += masked.count;
                edits.replace_text(place, &masked.text);
            }
        }
        uncaught(Some(masker))?;
    }
    Ok((edits.apply(), redacted))
}

/// The headers that pass on to an upstream: a closed list, and never a credential.
pub(crate) fn forwarded_headers(headers: &HeaderMap, dialect: Dialect) -> HeaderMap {
    let names: &[&'static str] = match dialect {
        Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => {
            &["anthropic-version", "anthropic-beta", "accept"]
        }
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::OpenAiEmbeddings => {
            &["openai-beta", "accept"]
        }
        Dialect::BedrockInvoke => &[
            "accept",
            "x-amzn-bedrock-accept",
            "x-amzn-bedrock-guardrailidentifier",
            "x-amzn-bedrock-guardrailversion",
            "x-amzn-bedrock-trace",
        ],
        Dialect::AzureChat
        | Dialect::AzureCompletions
        | Dialect::AzureEmbeddings
        | Dialect::BedrockConverse
        | Dialect::GeminiGenerate
        | Dialect::GeminiEmbed
        | Dialect::GeminiCountTokens => &["accept"],
    };
    let mut out = HeaderMap::new();
    for name in names {
        if let Some(value) = headers.get(*name) {
            out.insert(*name, value.clone());
        }
    }
    out
}

/// Headers of an answer that its dialect says something in, beside those that every upstream's answers keep: which exception an error
/// of Amazon's is.
pub(crate) const fn passed_on(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::BedrockConverse | Dialect::BedrockInvoke => &["x-amzn-errortype"],
        _ => &[],
    }
}
