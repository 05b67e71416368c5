//! Where a model call comes in. Some dialects name the model in the address, and whether the answer is to be streamed.
//!
//! What the upstream is asked at is put together anew from what was read, never copied: no encoding of the caller's, no segment and
//! no parameter that was not decided on gets there.

use std::fmt::Write as _;

use bartizan_base::Name;
use bartizan_model::directory::Dialect;
use bartizan_model::{Problem, ReasonCode};

/// An address that models are called at, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub(crate) dialect: Dialect,
    /// The model, where the address names it.
    pub(crate) model: Option<Name>,
    /// Whether the answer is to be streamed, where the address says it.
    pub(crate) stream: Option<bool>,
    /// The last word of the path, of those dialects that have several.
    verb: &'static str,
    /// `api-version` (Azure).
    version: Option<String>,
}

impl From<Dialect> for Address {
    fn from(dialect: Dialect) -> Self {
        Self { dialect, model: None, stream: None, verb: "", version: None }
    }
}

/// Words at the end of the path with what they ask for, and whether the answer is streamed.
const BEDROCK: &[(&str, Dialect, bool)] = &[
    ("invoke", Dialect::BedrockInvoke, false),
    ("invoke-with-response-stream", Dialect::BedrockInvoke, true),
    ("converse", Dialect::BedrockConverse, false),
    ("converse-stream", Dialect::BedrockConverse, true),
];
const GEMINI: &[(&str, Dialect, bool)] = &[
    ("generateContent", Dialect::GeminiGenerate, false),
    ("streamGenerateContent", Dialect::GeminiGenerate, true),
    ("embedContent", Dialect::GeminiEmbed, false),
    (BATCH_EMBED, Dialect::GeminiEmbed, false),
    ("countTokens", Dialect::GeminiCountTokens, false),
];
const AZURE: &[(&str, Dialect)] = &[
    ("chat/completions", Dialect::AzureChat),
    ("completions", Dialect::AzureCompletions),
    ("embeddings", Dialect::AzureEmbeddings),
];
pub(crate) const BATCH_EMBED: &str = "batchEmbedContents";

/// Dialects whose address is theirs alone.
const FIXED: &[Dialect] = &[
    Dialect::OpenAiChat,
    Dialect::OpenAiResponses,
    Dialect::OpenAiEmbeddings,
    Dialect::AnthropicMessages,
    Dialect::AnthropicCountTokens,
];

/// The longest `api-version`.
const VERSION_MAX: usize = 40;

/// The parts of a path that a model is called at: the dialect, the segment that names the model, the verb, and whether it streams.
struct Parts<'a> {
    dialect: Dialect,
    segment: Option<&'a str>,
    verb: &'static str,
    stream: Option<bool>,
}

fn parts(path: &str) -> Option<Parts<'_>> {
    let fixed = |dialect| Parts { dialect, segment: None, verb: "", stream: None };
    if let Some(dialect) = FIXED.iter().copied().find(|dialect| dialect.path() == path) {
        return Some(fixed(dialect));
    }
    if let Some(rest) = path.strip_prefix("/openai/deployments/") {
        let (segment, rest) = rest.split_once('/')?;
        let (_, dialect) = AZURE.iter().find(|(word, _)| *word == rest)?;
        return Some(Parts { segment: Some(segment), ..fixed(*dialect) });
    }
    // Azure's newer addresses are OpenAI's, below a prefix.
    if let Some(rest) = path.strip_prefix("/openai") {
        let dialect = FIXED.iter().take(3).copied().find(|dialect| dialect.path() == rest)?;
        return Some(fixed(dialect));
    }
    let (segment, last, words) = if let Some(rest) = path.strip_prefix("/model/") {
        let (segment, last) = rest.split_once('/')?;
        (segment, last, BEDROCK)
    } else {
        let (segment, last) = path.strip_prefix("/v1beta/models/")?.rsplit_once(':')?;
        (segment, last, GEMINI)
    };
    let (verb, dialect, stream) = words.iter().find(|(word, ..)| *word == last)?;
    Some(Parts { dialect: *dialect, segment: Some(segment), verb, stream: Some(*stream) })
}

impl Address {
    /// The dialect that is spoken at a path, if models are called there.
    #[must_use]
    pub fn dialect_at(path: &str) -> Option<Dialect> {
        parts(path).map(|parts| parts.dialect)
    }

    /// Reads an address.
    ///
    /// # Errors
    /// `NotFound` where no model is called; `ModelNotFound` where the segment is no name; `RequestFieldUnknown` for parameters that
    /// nobody here knows, and `BodyMalformed` where one is missing.
    pub fn read(path: &str, query: Option<&str>) -> Result<Self, Problem> {
        let Parts { dialect, segment, verb, stream } =
            parts(path).ok_or_else(|| Problem::new(ReasonCode::NotFound))?;
        let model = segment.map(name).transpose()?;
        let version = parameters(path, (dialect, stream), query.unwrap_or_default())?;
        Ok(Self { dialect, model, stream, verb, version })
    }

    /// The dialect.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether several texts come, each in a request of its own (Gemini).
    pub(crate) fn is_batch(&self) -> bool {
        self.verb == BATCH_EMBED
    }

    /// The path and query that the upstream is asked at for `model`, as it is called there.
    #[must_use]
    pub fn target(&self, model: &Name) -> String {
        let (name, verb) = (segment(model), self.verb);
        let mut out = match self.dialect {
            Dialect::AzureChat => format!("/openai/deployments/{name}/chat/completions"),
            Dialect::AzureCompletions => format!("/openai/deployments/{name}/completions"),
            Dialect::AzureEmbeddings => format!("/openai/deployments/{name}/embeddings"),
            Dialect::BedrockConverse | Dialect::BedrockInvoke => format!("/model/{name}/{verb}"),
            Dialect::GeminiGenerate | Dialect::GeminiEmbed | Dialect::GeminiCountTokens => {
                format!("/v1beta/models/{name}:{verb}")
            }
            Dialect::OpenAiChat
            | Dialect::OpenAiResponses
            | Dialect::OpenAiEmbeddings
            | Dialect::AnthropicMessages
            | Dialect::AnthropicCountTokens => self.dialect.path().to_owned(),
        };
        if let Some(version) = &self.version {
            out.push_str("?api-version=");
            out.push_str(version);
        }
        if self.dialect == Dialect::GeminiGenerate && self.stream == Some(true) {
            out.push_str("?alt=sse");
        }
        out
    }
}

/// The name in a segment. A segment of dots alone is a way to somewhere else.
fn name(segment: &str) -> Result<Name, Problem> {
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8().ok();
    let name = decoded.filter(|text| !text.bytes().all(|b| b == b'.')).and_then(|text| text.parse().ok());
    name.ok_or_else(|| Problem::new(ReasonCode::ModelNotFound))
}

/// A name as one segment of a path: everything but letters, digits and `. _ -` is encoded.
fn segment(name: &Name) -> String {
    let mut out = String::new();
    for byte in name.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            out.push(char::from(byte));
        } else if write!(out, "%{byte:02X}").is_err() {
            // A string takes everything.
            break;
        }
    }
    out
}

/// Reads the query: gives the `api-version`. Values are never told back, since keys stand there too.
fn parameters(
    path: &str,
    (dialect, stream): (Dialect, Option<bool>),
    query: &str,
) -> Result<Option<String>, Problem> {
    let azure = path.starts_with("/openai/");
    // The addresses that are no provider's alone have no parameters, and never had any looked at.
    if !azure && stream.is_none() {
        return Ok(None);
    }
    let malformed = |detail: &str| Err(Problem::with_detail(ReasonCode::BodyMalformed, detail));
    let (mut version, mut events) = (None, false);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("api-version", value) if azure && version.is_none() => {
                let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
                if !plain || value.is_empty() || value.len() > VERSION_MAX {
                    return malformed("`api-version` must be a version");
                }
                version = Some(value.to_owned());
            }
            ("alt", "sse") if dialect == Dialect::GeminiGenerate && stream == Some(true) => events = true,
            ("alt", "json") if stream == Some(false) && !azure && dialect.name().starts_with("gemini.") => {}
            ("key", _) => {
                return malformed("a credential does not belong in an address: send it as `x-goog-api-key`");
            }
            (name, _) => {
                let shown: String = name.chars().take(40).collect();
                let detail = format!("the parameter `{shown}` is not known here");
                return Err(Problem::with_detail(ReasonCode::RequestFieldUnknown, detail));
            }
        }
    }
    if path.starts_with("/openai/deployments/") && version.is_none() {
        return malformed("`api-version` is missing in the address");
    }
    if dialect == Dialect::GeminiGenerate && stream == Some(true) && !events {
        return malformed("a stream is asked for with `alt=sse`");
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str, query: Option<&str>, model: &str) -> Result<String, ReasonCode> {
        Address::read(path, query).map(|a| a.target(&model.parse().unwrap())).map_err(|p| p.reason)
    }

    #[test]
    fn every_dialect_is_found_at_its_addresses_and_leads_to_the_same_at_the_upstream() {
        for (path, query, dialect, out) in [
            ("/v1/chat/completions", None, Dialect::OpenAiChat, "/v1/chat/completions"),
            ("/v1/messages", Some("beta=true"), Dialect::AnthropicMessages, "/v1/messages"),
            ("/openai/v1/responses", None, Dialect::OpenAiResponses, "/v1/responses"),
            (
                "/openai/v1/chat/completions",
                Some("api-version=preview"),
                Dialect::OpenAiChat,
                "/v1/chat/completions?api-version=preview",
            ),
            (
                "/openai/deployments/gpt/chat/completions",
                Some("api-version=2024-10-21"),
                Dialect::AzureChat,
                "/openai/deployments/there/chat/completions?api-version=2024-10-21",
            ),
            (
                "/openai/deployments/gpt/embeddings",
                Some("api-version=2024-10-21"),
                Dialect::AzureEmbeddings,
                "/openai/deployments/there/embeddings?api-version=2024-10-21",
            ),
            (
                "/openai/deployments/gpt/completions",
                Some("api-version=1"),
                Dialect::AzureCompletions,
                "/openai/deployments/there/completions?api-version=1",
            ),
            ("/model/gpt/converse", None, Dialect::BedrockConverse, "/model/there/converse"),
            ("/model/gpt/converse-stream", None, Dialect::BedrockConverse, "/model/there/converse-stream"),
            (
                "/model/gpt/invoke-with-response-stream",
                None,
                Dialect::BedrockInvoke,
                "/model/there/invoke-with-response-stream",
            ),
            (
                "/v1beta/models/gpt:generateContent",
                Some("alt=json"),
                Dialect::GeminiGenerate,
                "/v1beta/models/there:generateContent",
            ),
            (
                "/v1beta/models/gpt:streamGenerateContent",
                Some("alt=sse"),
                Dialect::GeminiGenerate,
                "/v1beta/models/there:streamGenerateContent?alt=sse",
            ),
            (
                "/v1beta/models/gpt:batchEmbedContents",
                None,
                Dialect::GeminiEmbed,
                "/v1beta/models/there:batchEmbedContents",
            ),
            (
                "/v1beta/models/gpt:countTokens",
                None,
                Dialect::GeminiCountTokens,
                "/v1beta/models/there:countTokens",
            ),
        ] {
            assert_eq!(Address::dialect_at(path), Some(dialect), "{path}");
            assert_eq!(target(path, query, "there").as_deref(), Ok(out), "{path}");
        }
    }

    #[test]
    fn cve_2026_29791_a_name_in_an_address_is_one_segment_however_it_is_written() {
        let read = |path: &str| {
            Address::read(path, None).map(|a| a.model.unwrap().to_string()).map_err(|p| p.reason)
        };
        assert_eq!(read("/model/anthropic.claude-v1%3A0/converse").as_deref(), Ok("anthropic.claude-v1:0"));
        assert_eq!(read("/model/anthropic.claude-v1:0/converse").as_deref(), Ok("anthropic.claude-v1:0"));
        assert_eq!(read("/v1beta/models/a:b:countTokens").as_deref(), Ok("a:b"));
        assert_eq!(read("/model/team%2Fmodel/converse").as_deref(), Ok("team/model"));
        for bad in ["%2e%2e", "..", ".", "", "a%00", "a%20b", "%ff", "{model}", "a%0d%0ab", "a%3fb", "a%23b"]
        {
            assert_eq!(read(&format!("/model/{bad}/converse")), Err(ReasonCode::ModelNotFound), "{bad}");
        }
        let arn = "arn:aws:bedrock:eu-west-1:1:inference-profile/x";
        assert_eq!(
            target("/model/m/converse", None, arn).unwrap(),
            "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Fx/converse"
        );
    }

    #[test]
    fn addresses_that_are_almost_right_are_nothing() {
        for path in [
            "/openai/deployments/a/b/chat/completions",
            "/openai/deployments/a/chat/completions/",
            "/openai/deployments/a/images/generations",
            "/openai/v1/messages",
            "/openai/v1/models",
            "/openai",
            "/model/a/b/converse",
            "/model/a/converse/",
            "/model/a/Converse",
            "/model/a/async-invoke",
            "/model//",
            "/v1beta/models/a/generateContent",
            "/v1beta/models/a:generateAnswer",
            "/v1beta/tunedModels/a:generateContent",
            "/v1/models/a:generateContent",
            "/v1/chat/completions/",
        ] {
            assert_eq!(Address::dialect_at(path), None, "{path}");
        }
    }

    #[test]
    fn parameters_that_nobody_knows_and_credentials_are_refused_and_never_told_back() {
        let azure = "/openai/deployments/gpt/chat/completions";
        for query in
            [None, Some(""), Some("api-version="), Some("api-version=a%26b"), Some("api-version=1#x")]
        {
            assert_eq!(target(azure, query, "m"), Err(ReasonCode::BodyMalformed), "{query:?}");
        }
        for query in ["api-version=1&api-version=2", "api-version=1&x=1", "api-version=1&alt=sse"] {
            assert_eq!(target(azure, Some(query), "m"), Err(ReasonCode::RequestFieldUnknown), "{query}");
        }
        let gemini = "/v1beta/models/m:streamGenerateContent";
        assert_eq!(
            target(gemini, None, "m"),
            Err(ReasonCode::BodyMalformed),
            "an array is no stream of events"
        );
        assert_eq!(target(gemini, Some("alt=sse&$fields=x"), "m"), Err(ReasonCode::RequestFieldUnknown));
        let keyed = Address::read(gemini, Some("alt=sse&key=btz_secret")).unwrap_err();
        assert!(!keyed.message().contains("btz_secret") && keyed.message().contains("x-goog-api-key"));
        assert_eq!(target("/model/m/converse", Some("x=y"), "m"), Err(ReasonCode::RequestFieldUnknown));
        assert_eq!(target("/model/m/converse", Some("alt=json"), "m"), Err(ReasonCode::RequestFieldUnknown));
    }
}
