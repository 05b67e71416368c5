//! Requests to models.

use std::borrow::Cow;

use bartizan_base::json::{JsonError, Limits};
use bartizan_base::{Digest, Name};
use bartizan_model::directory::Dialect;
use bartizan_model::{AskFacts, Problem, ReasonCode};
use bytes::Bytes;

use crate::address::Address;
use crate::extras::extras;
use crate::places::{caps, choices, messages, tools};
use crate::scan::{Node, Span};
use crate::splice::{quoted, splice};

/// A request, read strictly, with the positions of what can be changed.
#[derive(Debug)]
pub struct ModelRequest {
    body: Bytes,
    root: Node,
    address: Address,
    model: Name,
    stream: bool,
    facts: AskFacts,
    unknown: Vec<String>,
}

/// Reads a request that came in at an address.
///
/// # Errors
/// A problem that names the place.
pub fn parse_request(
    address: impl Into<Address>,
    body: Bytes,
    limits: Limits,
) -> Result<ModelRequest, Problem> {
    let address = address.into();
    let dialect = address.dialect;
    let root = Node::parse(&body, limits).map_err(|e| problem(&e))?;
    if !matches!(root, Node::Object(..)) {
        return Err(Problem::with_detail(ReasonCode::BodyMalformed, "the body must be an object"));
    }
    let named = |node: &Node| node.text(&body).ok_or_else(|| wrong("model", "a string"));
    let model: Name = match (&address.model, root.member("model")) {
        (Some(model), _) => model.clone(),
        (None, Some(node)) => named(node)?.parse().map_err(|_| Problem::new(ReasonCode::ModelNotFound))?,
        (None, None) => return Err(wrong("model", "a string")),
    };
    let stream = match (address.stream, root.member("stream").map(|s| s.scalar(&body))) {
        (Some(stream), _) => stream,
        (None, None | Some(Some("false" | "null"))) => false,
        (None, Some(Some("true"))) => true,
        (None, Some(_)) => return Err(wrong("stream", "a boolean")),
    };
    let messages = messages(&address, &root, &body)?;
    let tools = tools(dialect, &root, &body)?;
    let mut cap: Option<u64> = None;
    let (within, names) = caps(dialect);
    let capped = match within.map(|name| (name, root.member(name))) {
        None => Some(&root),
        Some((_, None)) => None,
        Some((_, Some(node))) if node.is_null(&body) => None,
        Some((_, Some(node @ Node::Object(..)))) => Some(node),
        Some((name, Some(_))) => return Err(wrong(name, "an object")),
    };
    for name in names {
        match capped
            .and_then(|node| node.member(name))
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
        handles: None,
        stream,
        bytes: body.len() as u64,
        messages: messages as u64,
        tools: tools as u64,
        output_tokens_max: cap,
    };
    let request = ModelRequest { body, root, address, model, stream, facts, unknown };
    request.consistent()?;
    Ok(request)
}

pub(crate) fn wrong(place: &str, expected: &str) -> Problem {
    Problem::with_detail(ReasonCode::BodyMalformed, format!("`{place}` must be {expected}"))
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
    "anthropic_version",
    "mimeType",
    "redactedContent",
    "taskType",
    "thoughtSignature",
    "thought_signature",
    "toolUseId",
];

/// Names whose values cannot be searched for text.
const OPAQUE: &[&str] = &[
    "image_url",
    "input_audio",
    "file",
    "source",
    "file_id",
    "file_url",
    "file_data",
    "image",
    "audio",
    "video",
    "document",
    "inlineData",
    "inline_data",
    "fileData",
];

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

    /// Where the upstream is asked: path and query, for the model as it is called there.
    #[must_use]
    pub fn target(&self, upstream_model: Option<&Name>) -> String {
        self.address.target(upstream_model.unwrap_or(&self.model))
    }

    /// What was read, out of which bytes, and the kind of address that it came to.
    pub(crate) fn read(&self) -> (&Node, &[u8], String) {
        let address = format!("{} {}", self.address.dialect.name(), self.address.target(&self.model));
        (&self.root, &self.body, address)
    }

    /// How many answers it asks for; caps on output are each one's.
    #[must_use]
    pub fn choices(&self) -> u64 {
        choices(self.address.dialect, &self.root, &self.body).unwrap_or(1).max(1)
    }

    /// Places in the body that name the model, where the address names it too.
    fn names_of_model(&self) -> Vec<&Node> {
        let requests = self.root.member("requests").filter(|_| self.address.is_batch());
        let each = requests.map(Node::items).unwrap_or_default().iter();
        each.chain([&self.root]).filter_map(|node| node.member("model")).collect()
    }

    /// Whether the body says nothing else than the address, and counts in numbers. Other readers take `"8"` for a number, too.
    fn consistent(&self) -> Result<(), Problem> {
        if self.address.model.is_none() {
            return Ok(());
        }
        if choices(self.address.dialect, &self.root, &self.body).is_none() {
            return Err(wrong("candidateCount", "a whole number"));
        }
        // Azure's clients write some name or other there, which is not looked at upstream; it is replaced below.
        let bound = self.is_gemini();
        for node in self.names_of_model() {
            let text = node.text(&self.body).ok_or_else(|| wrong("model", "a string"))?;
            if bound && text.strip_prefix("models/").unwrap_or(&text) != self.model.as_str() {
                return Err(wrong("model", "the one in the address"));
            }
        }
        Ok(())
    }

    const fn is_gemini(&self) -> bool {
        matches!(
            self.address.dialect,
            Dialect::GeminiGenerate | Dialect::GeminiEmbed | Dialect::GeminiCountTokens
        )
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
        let place = match self.address.dialect {
            Dialect::OpenAiEmbeddings | Dialect::AzureEmbeddings => Some("input"),
            Dialect::AzureCompletions => Some("prompt"),
            _ => None,
        };
        let input = place.and_then(|place| self.root.member(place));
        let tokens = input.is_some_and(|i| i.items().iter().any(|n| !matches!(n, Node::String(_))));
        tokens || self.asks_for_tokens() || opaque(&self.root)
    }

    /// Whether the answer would tell every token by itself: what is masked in the text would stand there in parts.
    fn asks_for_tokens(&self) -> bool {
        // In the older completions 0 asks for the tokens themselves.
        let older = self.address.dialect == Dialect::AzureCompletions;
        let at =
            caps(self.address.dialect).0.and_then(|within| self.root.member(within)).unwrap_or(&self.root);
        let on = |name: &str| {
            let value = at.member(name).and_then(|node| node.scalar(&self.body));
            value.is_some_and(|value| !matches!(value, "false" | "null") && (older || value != "0"))
        };
        let included = |node: &Node| node.text(&self.body).is_some_and(|text| text.contains("logprobs"));
        on("logprobs")
            || on("top_logprobs")
            || on("responseLogprobs")
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

/// Members that hold what a tool is called with (Anthropic and Converse, Gemini), or what one gave (Converse, Gemini).
const FREE: &[&str] = &["input", "args", "json", "functionResponse", "function_response"];

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
                // What a tool was called with has names of its own, none of which is structure.
                let free = matches!(value, Node::Object(..)) && FREE.contains(&name.as_str());
                let structure = if free { &[] } else { structure };
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
    /// Names the model as the upstream knows it, wherever the body names it.
    pub fn set_model(&mut self, name: &Name) {
        for node in self.request.names_of_model() {
            let prefix = if self.request.is_gemini() { "models/" } else { "" };
            let name = format!("{prefix}{name}");
            if node.text(&self.request.body).as_deref() != Some(&name) {
                self.splices.push((node.span(), quoted(&name)));
            }
        }
    }

    /// Tells a provider that keeps exchanges unless told otherwise not to.
    pub fn forbid_storage(&mut self) {
        if self.request.address.dialect == Dialect::OpenAiResponses {
            match self.request.root.member("store") {
                Some(node) => self.splices.push((node.span(), "false".to_owned())),
                None => self.members.push("\"store\":false".to_owned()),
            }
        }
    }

    /// Lowers every cap on output tokens to `most` over all choices together, and sets one where none is.
    pub fn cap_output(&mut self, most: u64) {
        let most = most / self.request.choices();
        let (within, names) = caps(self.request.address.dialect);
        let Some(first) = names.first() else { return };
        let holder = within.map_or(Some(&self.request.root), |name| self.request.root.member(name));
        let mut set = false;
        for name in names {
            if let Some(node) = holder.and_then(|holder| holder.member(name)) {
                let asked = node.scalar(&self.request.body).and_then(|s| s.parse::<u64>().ok());
                set |= asked.is_some();
                if asked.is_some_and(|n| n > most) {
                    self.splices.push((node.span(), most.to_string()));
                }
            }
        }
        if set {
            return;
        }
        let member = format!("{}:{most}", quoted(first));
        match (within, holder) {
            (_, Some(Node::Object(members, (start, _)))) => {
                match holder.and_then(|holder| holder.member(first)) {
                    Some(null) => self.splices.push((null.span(), most.to_string())),
                    None if within.is_none() => self.members.push(member),
                    None => {
                        let comma = if members.is_empty() { "" } else { "," };
                        self.splices.push(((start + 1, start + 1), format!("{member}{comma}")));
                    }
                }
            }
            (Some(_), Some(null)) => self.splices.push((null.span(), format!("{{{member}}}"))),
            (Some(within), None) => self.members.push(format!("{}:{{{member}}}", quoted(within))),
            (None, _) => {}
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
            ("toolConfig", "null"),
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
            // A model or what is said is always there, so a comma follows.
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
