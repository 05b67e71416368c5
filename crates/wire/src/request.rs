//! Requests to models.

use std::borrow::Cow;

use bartizan_base::json::{JsonError, Limits};
use bartizan_base::{Digest, Name};
use bartizan_model::directory::Dialect;
use bartizan_model::{AskFacts, Problem, ReasonCode};
use bytes::Bytes;

use crate::extras::extras;
use crate::scan::{Node, Span};
use crate::splice::{quoted, splice};

/// A request, read strictly, with the positions of what can be changed.
#[derive(Debug)]
pub struct ModelRequest {
    body: Bytes,
    root: Node,
    dialect: Dialect,
    model: Name,
    stream: bool,
    facts: AskFacts,
    unknown: Vec<String>,
}

/// Reads a request.
///
/// # Errors
/// A problem that names the place.
pub fn parse_request(dialect: Dialect, body: Bytes, limits: Limits) -> Result<ModelRequest, Problem> {
    let root = Node::parse(&body, limits).map_err(|e| problem(&e))?;
    let wrong = |place: &str, expected: &str| {
        Problem::with_detail(ReasonCode::BodyMalformed, format!("`{place}` must be {expected}"))
    };
    if !matches!(root, Node::Object(..)) {
        return Err(Problem::with_detail(ReasonCode::BodyMalformed, "the body must be an object"));
    }
    let model = root.member("model").and_then(|m| m.text(&body)).ok_or_else(|| wrong("model", "a string"))?;
    let model: Name = model.parse().map_err(|_| Problem::new(ReasonCode::ModelNotFound))?;
    let stream = match root.member("stream").map(|s| s.scalar(&body)) {
        None | Some(Some("false" | "null")) => false,
        Some(Some("true")) => true,
        Some(_) => return Err(wrong("stream", "a boolean")),
    };
    let (place, messages) = match dialect {
        Dialect::OpenAiChat | Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => {
            ("messages", root.member("messages"))
        }
        Dialect::OpenAiResponses | Dialect::OpenAiEmbeddings => ("input", root.member("input")),
    };
    let messages = match (messages, dialect) {
        (Some(Node::Array(items, _)), _) => items.len(),
        (Some(Node::String(_)), Dialect::OpenAiResponses | Dialect::OpenAiEmbeddings) => 1,
        (None, Dialect::OpenAiResponses) => 0,
        (_, Dialect::OpenAiResponses | Dialect::OpenAiEmbeddings) => {
            return Err(wrong(place, "a string or an array"));
        }
        (_, Dialect::OpenAiChat | Dialect::AnthropicMessages | Dialect::AnthropicCountTokens) => {
            return Err(wrong(place, "an array"));
        }
    };
    let tools = match root.member("tools") {
        None => 0,
        Some(Node::Array(items, _)) => items.len(),
        Some(node) if node.is_null(&body) => 0,
        Some(_) => return Err(wrong("tools", "an array")),
    };
    let mut cap: Option<u64> = None;
    for name in cap_members(dialect) {
        match root
            .member(name)
            .map(|n| (n.is_null(&body), n.scalar(&body).and_then(|s| s.parse::<u64>().ok())))
        {
            None | Some((true, _)) => {}
            Some((_, Some(n))) => cap = Some(cap.map_or(n, |c| c.max(n))),
            Some((_, None)) => return Err(wrong(name, "a whole number")),
        }
    }
    let (extras, unknown) = extras(dialect, &root, &body);
    let facts = AskFacts {
        arguments: None,
        code: None,
        operation: None,
        dialect: dialect.name().to_owned(),
        extras,
        stream,
        bytes: body.len() as u64,
        messages: messages as u64,
        tools: tools as u64,
        output_tokens_max: cap,
    };
    Ok(ModelRequest { body, root, dialect, model, stream, facts, unknown })
}

fn problem(error: &JsonError) -> Problem {
    let reason = match error {
        JsonError::TooLong(_) => ReasonCode::BodyTooLarge,
        JsonError::TooDeep(_) | JsonError::TooMany(_) => ReasonCode::JsonTooComplex,
        JsonError::DuplicateKey(_) => ReasonCode::JsonDuplicateKey,
        JsonError::Syntax(_) | JsonError::Shape(_) => ReasonCode::BodyMalformed,
    };
    Problem::with_detail(reason, error.to_string())
}

const fn cap_members(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::OpenAiChat => &["max_completion_tokens", "max_tokens"],
        Dialect::OpenAiResponses => &["max_output_tokens"],
        Dialect::OpenAiEmbeddings | Dialect::AnthropicCountTokens => &[],
        Dialect::AnthropicMessages => &["max_tokens"],
    }
}

/// Names whose strings are structure, not text that people or models wrote.
const STRUCTURE: &[&str] = &[
    "model",
    "role",
    "type",
    "id",
    "name",
    "tool_call_id",
    "tool_use_id",
    "call_id",
    "encoding_format",
    "service_tier",
    "effort",
    "detail",
    "media_type",
    "previous_response_id",
    "truncation",
    "response_format",
    "tool_choice",
    "format",
    "status",
    "object",
    "cache_control",
    "signature",
    "encrypted_content",
];

/// Names whose values cannot be searched for text.
const OPAQUE: &[&str] =
    &["image_url", "input_audio", "file", "source", "file_id", "file_url", "file_data", "image", "audio"];

impl ModelRequest {
    /// The model asked for.
    #[must_use]
    pub const fn model(&self) -> &Name {
        &self.model
    }

    /// Whether the answer is to be streamed.
    #[must_use]
    pub const fn stream(&self) -> bool {
        self.stream
    }

    /// Facts for policy.
    #[must_use]
    pub const fn facts(&self) -> &AskFacts {
        &self.facts
    }

    /// How many answers it asks for; caps on output are each one's.
    #[must_use]
    pub fn choices(&self) -> u64 {
        let choices = self.root.member("n").and_then(|n| n.scalar(&self.body)?.parse().ok());
        choices.unwrap_or(1_u64).max(1)
    }

    /// Members that nobody here knows, in the order of the request.
    #[must_use]
    pub fn unknown_members(&self) -> &[String] {
        &self.unknown
    }

    /// SHA-256 of the body.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.body)
    }

    /// Whether there are parts that are not text, or input in tokens.
    #[must_use]
    pub fn has_opaque_parts(&self) -> bool {
        fn opaque(node: &Node) -> bool {
            match node {
                Node::Object(members, _) => {
                    members.iter().any(|(n, v)| OPAQUE.contains(&n.as_str()) || opaque(v))
                }
                Node::Array(items, _) => items.iter().any(opaque),
                Node::String(_) | Node::Scalar(_) => false,
            }
        }
        let tokens = self.dialect == Dialect::OpenAiEmbeddings
            && self
                .root
                .member("input")
                .is_some_and(|i| i.items().iter().any(|n| !matches!(n, Node::String(_))));
        tokens || self.asks_for_tokens() || opaque(&self.root)
    }

    /// Whether the answer would tell every token by itself: what is masked in the text would stand there in parts.
    fn asks_for_tokens(&self) -> bool {
        let on = |name: &str| {
            let value = self.root.member(name).and_then(|node| node.scalar(&self.body));
            value.is_some_and(|value| !matches!(value, "false" | "null" | "0"))
        };
        let included = |node: &Node| node.text(&self.body).is_some_and(|text| text.contains("logprobs"));
        on("logprobs")
            || on("top_logprobs")
            || self.root.member("include").is_some_and(|include| include.items().iter().any(included))
    }

    /// Every text in the request with its place: messages, instructions, tool descriptions and arguments, metadata.
    #[must_use]
    pub fn texts(&self) -> Vec<(Span, Cow<'_, str>)> {
        let mut out = Vec::new();
        collect_texts(&self.root, &self.body, STRUCTURE, &mut out);
        out
    }

    /// Begins a set of changes.
    #[must_use]
    pub const fn edits(&self) -> Edits<'_> {
        Edits { request: self, splices: Vec::new(), members: Vec::new() }
    }
}

/// Every string below `node` that is not the value of a structural member.
pub(crate) fn collect_texts<'a>(
    node: &Node,
    bytes: &'a [u8],
    structure: &[&str],
    out: &mut Vec<(Span, Cow<'a, str>)>,
) {
    match node {
        Node::Object(members, _) => {
            for (name, value) in members {
                // Structure is a string; what is nested under such a name is looked at like everything else.
                if !(matches!(value, Node::String(_)) && structure.contains(&name.as_str())) {
                    collect_texts(value, bytes, structure, out);
                }
            }
        }
        Node::Array(items, _) => items.iter().for_each(|item| collect_texts(item, bytes, structure, out)),
        Node::String(span) => out.extend(node.text(bytes).map(|text| (*span, text))),
        Node::Scalar(_) => {}
    }
}

/// Changes to a request, applied as splices.
#[derive(Debug)]
pub struct Edits<'a> {
    request: &'a ModelRequest,
    splices: Vec<(Span, String)>,
    /// Members to be added at the beginning of the object.
    members: Vec<String>,
}

impl Edits<'_> {
    /// Names the model as the upstream knows it.
    pub fn set_model(&mut self, name: &Name) {
        if let Some(node) = self.request.root.member("model") {
            self.splices.push((node.span(), quoted(name)));
        }
    }

    /// Tells a provider that keeps exchanges unless told otherwise not to.
    pub fn forbid_storage(&mut self) {
        if self.request.dialect == Dialect::OpenAiResponses {
            match self.request.root.member("store") {
                Some(node) => self.splices.push((node.span(), "false".to_owned())),
                None => self.members.push("\"store\":false".to_owned()),
            }
        }
    }

    /// Lowers every cap on output tokens to `most` over all choices together, and sets one where none is.
    pub fn cap_output(&mut self, most: u64) {
        let most = most / self.request.choices();
        let mut set = false;
        for name in cap_members(self.request.dialect) {
            if let Some(node) = self.request.root.member(name) {
                let asked = node.scalar(&self.request.body).and_then(|s| s.parse::<u64>().ok());
                set |= asked.is_some();
                if asked.is_some_and(|n| n > most) {
                    self.splices.push((node.span(), most.to_string()));
                }
            }
        }
        let Some(name) = cap_members(self.request.dialect).first().filter(|_| !set) else { return };
        match self.request.root.member(name) {
            Some(null) => self.splices.push((null.span(), most.to_string())),
            None => self.members.push(format!("{}:{most}", quoted(name))),
        }
    }

    /// Takes tool definitions and what refers to them out.
    pub fn strip_tools(&mut self) {
        for (name, empty) in [
            ("tools", "null"),
            ("tool_choice", "null"),
            ("parallel_tool_calls", "null"),
            ("functions", "null"),
            ("function_call", "null"),
            ("mcp_servers", "null"),
            ("web_search_options", "null"),
        ] {
            if let Some(node) = self.request.root.member(name) {
                self.splices.push((node.span(), empty.to_owned()));
            }
        }
    }

    /// Replaces a text that [`ModelRequest::texts`] gave.
    pub fn replace_text(&mut self, place: Span, text: &str) {
        self.splices.push((place, quoted(text)));
    }

    /// The changed body; the original one where nothing changes.
    #[must_use]
    pub fn apply(mut self) -> Bytes {
        if !self.members.is_empty() {
            let (start, _) = self.request.root.span();
            // A model is always there, so a comma follows.
            self.splices.push(((start + 1, start + 1), self.members.join(",") + ","));
        }
        splice(&self.request.body, self.splices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(dialect: Dialect, value: &Value) -> Result<ModelRequest, Problem> {
        parse_request(dialect, Bytes::from(value.to_string()), Limits::default())
    }

    fn chat() -> Value {
        json!({"model": "gpt", "messages": [{"role": "user", "content": "mail ann@x.example"}], "stream": true, "tools": [{"type": "function", "function": {"name": "f"}}], "unknown": {"x": 1.50}})
    }

    #[test]
    fn tokens_by_themselves_cannot_be_masked() {
        for (asks, change) in [
            (true, json!({"logprobs": true})),
            (true, json!({"top_logprobs": 3})),
            (true, json!({"include": ["message.output_text.logprobs"]})),
            (
                false,
                json!({"logprobs": false, "top_logprobs": null, "include": ["reasoning.encrypted_content"]}),
            ),
        ] {
            let mut body = chat();
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            assert_eq!(parse(Dialect::OpenAiChat, &body).unwrap().has_opaque_parts(), asks, "{change}");
        }
    }

    #[test]
    fn facts_are_read() {
        let request = parse(Dialect::OpenAiChat, &chat()).unwrap();
        let facts = request.facts();
        assert_eq!(
            (request.model().as_str(), facts.stream, facts.messages, facts.tools, facts.output_tokens_max),
            ("gpt", true, 1, 1, None)
        );
        let texts: Vec<_> = request.texts().into_iter().map(|(_, t)| t.into_owned()).collect();
        assert_eq!(texts, ["mail ann@x.example"]);
    }

    #[test]
    fn wrong_types_and_lenient_json_are_refused_with_the_place() {
        for (change, expected) in [
            (json!({"model": 7}), "`model` must be a string"),
            (json!({"stream": "yes"}), "`stream` must be a boolean"),
            (json!({"messages": "hi"}), "`messages` must be an array"),
            (json!({"max_tokens": -1}), "`max_tokens` must be a whole number"),
            (json!({"tools": {}}), "`tools` must be an array"),
        ] {
            let mut body = chat();
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            assert_eq!(parse(Dialect::OpenAiChat, &body).unwrap_err().detail, expected);
        }
        let smuggled = Bytes::from_static(br#"{"model":"a","model":"b","messages":[]}"#);
        assert_eq!(
            parse_request(Dialect::OpenAiChat, smuggled, Limits::default()).unwrap_err().reason,
            ReasonCode::JsonDuplicateKey
        );
        // Another case is another member, which passes through but means nothing here.
        let cased = Bytes::from_static(br#"{"Model":"b","model":"a","messages":[]}"#);
        assert_eq!(
            parse_request(Dialect::OpenAiChat, cased, Limits::default()).unwrap().model().as_str(),
            "a"
        );
    }

    #[test]
    fn without_changes_the_bytes_are_the_ones_that_came() {
        let body = Bytes::from_static(b" {\"model\" : \"gpt\",\"messages\":[ ],\"seed\":1.0e2 }\n");
        let request = parse_request(Dialect::OpenAiChat, body.clone(), Limits::default()).unwrap();
        assert_eq!(request.edits().apply(), body);
    }

    #[test]
    fn changes_touch_only_what_they_name() {
        let request = parse(Dialect::OpenAiChat, &chat()).unwrap();
        let mut edits = request.edits();
        edits.set_model(&"up\"stream".replace('"', "-").parse().unwrap());
        edits.cap_output(50);
        edits.strip_tools();
        let (place, _) = request.texts()[0].clone();
        edits.replace_text(place, "mail [email] \"quoted\"\n");
        let changed: Value = serde_json::from_slice(&edits.apply()).unwrap();
        let mut expected = chat();
        expected["model"] = json!("up-stream");
        expected["max_completion_tokens"] = json!(50);
        expected["tools"] = json!(null);
        expected["messages"][0]["content"] = json!("mail [email] \"quoted\"\n");
        assert_eq!(changed, expected);
    }

    #[test]
    fn caps_are_lowered_never_raised() {
        for (asked, expected) in [(json!(10), 10), (json!(100), 50), (json!(null), 50)] {
            let body = json!({"model": "c", "messages": [], "max_tokens": asked});
            let request = parse(Dialect::AnthropicMessages, &body).unwrap();
            let mut edits = request.edits();
            edits.cap_output(50);
            let changed: Value = serde_json::from_slice(&edits.apply()).unwrap();
            assert_eq!(changed["max_tokens"], json!(expected));
        }
    }

    #[test]
    fn images_and_tokens_are_opaque() {
        let image = json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]});
        assert!(parse(Dialect::OpenAiChat, &image).unwrap().has_opaque_parts());
        assert!(
            parse(Dialect::OpenAiEmbeddings, &json!({"model": "m", "input": [[1, 2]]}))
                .unwrap()
                .has_opaque_parts()
        );
        assert!(
            !parse(Dialect::OpenAiEmbeddings, &json!({"model": "m", "input": ["a", "b"]}))
                .unwrap()
                .has_opaque_parts()
        );
    }
}
