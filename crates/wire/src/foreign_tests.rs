//! Azure OpenAI, Amazon Bedrock and Gemini: requests, what is changed in them, and their streams.

use bartizan_base::json::Limits;
use bartizan_model::directory::Dialect;
use bartizan_model::{Problem, ReasonCode, RequestExtra};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::eventstream;
use crate::{
    Address, FrameSplitter, Framing, ModelRequest, PieceMasker, StreamRewriter, frame_usage, parse_request,
};

const AZURE: &str = "/openai/deployments/gpt/chat/completions?api-version=2024-10-21";
const CONVERSE: &str = "/model/claude/converse";
const GEMINI: &str = "/v1beta/models/flash:generateContent";

fn parse(target: &str, body: &Value) -> Result<ModelRequest, Problem> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    parse_request(Address::read(path, query)?, Bytes::from(body.to_string()), Limits::default())
}

fn with(body: &Value, more: Value) -> Value {
    let mut body = body.clone();
    let Value::Object(more) = more else { panic!("an object") };
    body.as_object_mut().unwrap().extend(more);
    body
}

fn converse() -> Value {
    json!({
        "system": [{"text": "be kind"}],
        "messages": [
            {"role": "user", "content": [{"text": "mail ann@x.example"}]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t1", "name": "find", "input": {"name": "Bob", "type": "x"}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"json": {"id": "secret"}}]}}]}
        ],
        "inferenceConfig": {"temperature": 0.5},
        "toolConfig": {"tools": [{"toolSpec": {"name": "find", "inputSchema": {"json": {"type": "object"}}}}]}
    })
}

fn gemini() -> Value {
    json!({
        "systemInstruction": {"parts": [{"text": "be kind"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "mail ann@x.example"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "find", "args": {"name": "Bob"}}, "thoughtSignature": "c2ln"}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "find", "response": {"name": "Eve", "id": "7"}}}]}
        ],
        "tools": [{"functionDeclarations": [{"name": "a"}, {"name": "b"}]}],
        "generationConfig": {"maxOutputTokens": 100, "candidateCount": 2}
    })
}

fn texts(request: &ModelRequest) -> Vec<String> {
    let mut all: Vec<String> = request.texts().into_iter().map(|(_, text)| text.into_owned()).collect();
    all.sort_unstable();
    all
}

fn edited(request: &ModelRequest, change: impl FnOnce(&mut crate::Edits<'_>)) -> Value {
    let mut edits = request.edits();
    change(&mut edits);
    serde_json::from_slice(&edits.apply()).unwrap()
}

#[test]
fn facts_are_the_same_whoever_the_format_is_of() {
    let facts = |target: &str, body: &Value| {
        let request = parse(target, body).unwrap();
        let facts = request.facts().clone();
        assert!(
            facts.extras.is_empty() && request.unknown_members().is_empty(),
            "{target}: {:?}",
            request.unknown_members()
        );
        (
            request.model().to_string(),
            facts.dialect,
            facts.stream,
            facts.messages,
            facts.tools,
            facts.output_tokens_max,
        )
    };
    let chat = json!({"model": "whatever", "messages": [{"role": "user", "content": "x"}], "stream": true, "max_tokens": 7});
    assert_eq!(facts(AZURE, &chat), ("gpt".into(), "azure.chat".into(), true, 1, 0, Some(7)));
    let older = json!({"prompt": ["a", "b"], "best_of": 3, "n": 2, "max_tokens": 5});
    let target = "/openai/deployments/gpt/completions?api-version=1";
    assert_eq!(facts(target, &older), ("gpt".into(), "azure.completions".into(), false, 2, 0, Some(5)));
    assert_eq!(parse(target, &older).unwrap().choices(), 6, "what is thrown away costs as well");
    assert_eq!(facts(CONVERSE, &converse()), ("claude".into(), "bedrock.converse".into(), false, 3, 1, None));
    assert!(facts("/model/claude/converse-stream", &converse()).2);
    let invoke = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": []});
    assert_eq!(
        facts("/model/claude/invoke", &invoke),
        ("claude".into(), "bedrock.invoke".into(), false, 0, 0, Some(9))
    );
    assert_eq!(facts(GEMINI, &gemini()), ("flash".into(), "gemini.generate".into(), false, 3, 2, Some(100)));
    assert!(facts("/v1beta/models/flash:streamGenerateContent?alt=sse", &gemini()).2);
    let batch = json!({"requests": [{"model": "models/flash", "content": {"parts": [{"text": "a"}]}}, {"content": {"parts": [{"text": "b"}]}}]});
    assert_eq!(facts("/v1beta/models/flash:batchEmbedContents", &batch).3, 2);
    assert_eq!(facts("/v1beta/models/flash:embedContent", &json!({"content": {"parts": []}})).3, 1);
    assert_eq!(facts("/v1beta/models/flash:countTokens", &json!({"contents": []})).3, 0);
}

#[test]
fn every_text_is_found_also_under_names_that_are_structure_elsewhere() {
    let found = texts(&parse(CONVERSE, &converse()).unwrap());
    assert_eq!(found, ["Bob", "be kind", "mail ann@x.example", "object", "secret", "x"]);
    let found = texts(&parse(GEMINI, &gemini()).unwrap());
    assert_eq!(found, ["7", "Bob", "Eve", "be kind", "find", "mail ann@x.example"]);
    let called = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "assistant", "content": [
        {"type": "tool_use", "id": "t", "name": "f", "input": {"name": "Ann", "id": "4111"}}]}]});
    let request =
        parse_request(Dialect::AnthropicMessages, Bytes::from(called.to_string()), Limits::default());
    assert_eq!(texts(&request.unwrap()), ["4111", "Ann"], "what a tool is called with has names of its own");
}

#[test]
fn a_cap_is_lowered_or_set_where_the_format_has_it() {
    let capped =
        |target: &str, body: &Value| edited(&parse(target, body).unwrap(), |edits| edits.cap_output(10));
    let pointer = "/inferenceConfig/maxTokens";
    for config in [
        json!({"temperature": 0.5}),
        json!({}),
        json!({"maxTokens": 500}),
        json!({"maxTokens": null}),
        json!(null),
    ] {
        let out = capped(CONVERSE, &with(&converse(), json!({"inferenceConfig": config})));
        assert_eq!(out.pointer(pointer), Some(&json!(10)), "{config}");
        assert_eq!(out.pointer("/inferenceConfig/temperature"), config.pointer("/temperature"));
    }
    let lower = capped(CONVERSE, &with(&converse(), json!({"inferenceConfig": {"maxTokens": 3}})));
    assert_eq!(lower.pointer(pointer), Some(&json!(3)));
    let mut bare = converse();
    bare.as_object_mut().unwrap().remove("inferenceConfig");
    assert_eq!(capped(CONVERSE, &bare).pointer(pointer), Some(&json!(10)));
    assert_eq!(
        capped(GEMINI, &gemini()).pointer("/generationConfig/maxOutputTokens"),
        Some(&json!(5)),
        "over both candidates"
    );
    let older =
        capped("/openai/deployments/g/completions?api-version=1", &json!({"prompt": "x", "best_of": 2}));
    assert_eq!(older["max_tokens"], 5);
}

#[test]
fn tools_are_taken_out_and_the_model_is_named_as_the_upstream_knows_it() {
    let out = edited(&parse(CONVERSE, &converse()).unwrap(), |edits| edits.strip_tools());
    assert_eq!(out["toolConfig"], Value::Null);
    let choice = with(&gemini(), json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}));
    let out = edited(&parse(GEMINI, &choice).unwrap(), |edits| edits.strip_tools());
    assert_eq!((&out["tools"], &out["toolConfig"]), (&Value::Null, &Value::Null));
    let there = "there".parse().unwrap();
    // Azure's clients write a name of their own into the body; whatever reads it there reads what was decided on.
    let chat = parse(AZURE, &json!({"model": "something-dearer", "messages": []})).unwrap();
    assert_eq!(edited(&chat, |edits| edits.set_model(&there))["model"], "there");
    assert_eq!(
        chat.target(Some(&there)),
        "/openai/deployments/there/chat/completions?api-version=2024-10-21"
    );
    let batch = json!({"requests": [{"model": "models/flash", "content": {}}, {"model": "models/flash", "content": {}}]});
    let batch = parse("/v1beta/models/flash:batchEmbedContents", &batch).unwrap();
    let out = edited(&batch, |edits| edits.set_model(&there));
    assert_eq!(
        (&out["requests"][0]["model"], &out["requests"][1]["model"]),
        (&json!("models/there"), &json!("models/there"))
    );
}

#[test]
fn what_another_reader_would_read_otherwise_is_refused() {
    let refused = |target: &str, body: &Value| parse(target, body).unwrap_err().reason;
    for more in [
        json!({"model": "models/other"}),
        json!({"model": 7}),
        json!({"generationConfig": {"candidateCount": "8"}}),
        json!({"generationConfig": {"maxOutputTokens": "100000"}}),
        json!({"generationConfig": {"maxOutputTokens": 1e5}}),
        json!({"generationConfig": []}),
        json!({"contents": {"parts": []}}),
        json!({"tools": {"functionDeclarations": []}}),
    ] {
        assert_eq!(refused(GEMINI, &with(&gemini(), more.clone())), ReasonCode::BodyMalformed, "{more}");
    }
    let batch = json!({"requests": [{"model": "models/flash"}, {"model": "models/dearer"}]});
    assert_eq!(refused("/v1beta/models/flash:batchEmbedContents", &batch), ReasonCode::BodyMalformed);
    let unknown = |target: &str, body: &Value| parse(target, body).unwrap().unknown_members().to_vec();
    // Gemini takes both spellings of every member: one that was not looked at must not be the one that counts.
    for (more, name) in [
        (json!({"generationConfig": {"max_output_tokens": 1}}), "generationConfig.max_output_tokens"),
        (json!({"generation_config": {}}), "generation_config"),
        (json!({"system_instruction": {}}), "system_instruction"),
        (json!({"cached_content": "x"}), "cached_content"),
    ] {
        assert_eq!(unknown(GEMINI, &with(&gemini(), more)), [name]);
    }
    assert_eq!(
        unknown(CONVERSE, &with(&converse(), json!({"additionalModelRequestFields": {}}))),
        ["additionalModelRequestFields"]
    );
    assert_eq!(unknown(CONVERSE, &with(&converse(), json!({"stream": true}))), ["stream"]);
    assert_eq!(
        refused("/model/titan/invoke", &json!({"inputText": "x"})),
        ReasonCode::BodyMalformed,
        "a format that nobody here reads"
    );
    assert_eq!(refused(CONVERSE, &with(&converse(), json!({"toolConfig": []}))), ReasonCode::BodyMalformed);
    let twice = Bytes::from_static(br#"{"contents":[],"contents":[]}"#);
    let address = Address::read(GEMINI, None).unwrap();
    assert_eq!(
        parse_request(address, twice, Limits::default()).unwrap_err().reason,
        ReasonCode::JsonDuplicateKey
    );
}

#[test]
fn whatever_reaches_beyond_the_text_is_found_in_every_spelling() {
    let reaches = |target: &str, body: &Value| {
        parse(target, body).unwrap().facts().extras.iter().copied().collect::<Vec<_>>()
    };
    let part = |part: Value| with(&gemini(), json!({"contents": [{"parts": [part]}]}));
    for name in ["fileData", "file_data"] {
        for uri in ["fileUri", "file_uri"] {
            assert_eq!(
                reaches(GEMINI, &part(json!({name: {uri: "https://x.example/a"}}))),
                [RequestExtra::Urls]
            );
            let kept = "https://generativelanguage.googleapis.com/v1beta/files/1";
            assert_eq!(reaches(GEMINI, &part(json!({name: {uri: kept}}))), [RequestExtra::Files]);
        }
    }
    assert_eq!(
        reaches(GEMINI, &with(&gemini(), json!({"cachedContent": "cachedContents/1"}))),
        [RequestExtra::ProviderState]
    );
    for tool in ["googleSearch", "google_search", "codeExecution", "urlContext", "fileSearch", "computerUse"]
    {
        assert_eq!(
            reaches(GEMINI, &with(&gemini(), json!({"tools": [{tool: {}}]}))),
            [RequestExtra::HostedTools],
            "{tool}"
        );
    }
    let beside = json!({"tools": [{"functionDeclarations": [], "googleSearch": {}}]});
    assert_eq!(
        reaches(GEMINI, &with(&gemini(), beside)),
        [RequestExtra::HostedTools],
        "beside functions, too"
    );
    let image = json!({"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"s3Location": {"uri": "s3://x"}}}}]}]});
    assert_eq!(reaches(CONVERSE, &with(&converse(), image)), [RequestExtra::Urls]);
    assert_eq!(
        reaches(CONVERSE, &with(&converse(), json!({"promptVariables": {}}))),
        [RequestExtra::ProviderState]
    );
    assert_eq!(
        reaches(
            CONVERSE,
            &with(&converse(), json!({"toolConfig": {"tools": [{"systemTool": {"name": "x"}}]}}))
        ),
        [RequestExtra::HostedTools]
    );
}

#[test]
fn parts_that_are_not_text_cannot_be_masked() {
    let opaque = |target: &str, body: &Value| parse(target, body).unwrap().has_opaque_parts();
    assert!(!opaque(CONVERSE, &converse()) && !opaque(GEMINI, &gemini()));
    for part in [
        json!({"inlineData": {"mimeType": "image/png", "data": "AA=="}}),
        json!({"inline_data": {}}),
        json!({"fileData": {}}),
    ] {
        assert!(opaque(GEMINI, &with(&gemini(), json!({"contents": [{"parts": [part]}]}))), "{part}");
    }
    assert!(opaque(GEMINI, &with(&gemini(), json!({"generationConfig": {"responseLogprobs": true}}))));
    for part in ["image", "document", "video"] {
        assert!(
            opaque(CONVERSE, &with(&converse(), json!({"messages": [{"content": [{part: {}}]}]}))),
            "{part}"
        );
    }
    let older = "/openai/deployments/g/completions?api-version=1";
    assert!(
        opaque(older, &json!({"prompt": [1, 2]})) && opaque(older, &json!({"prompt": "x", "logprobs": 0}))
    );
    assert!(!opaque(older, &json!({"prompt": ["x"]})));
}

/// Holds everything back after the last space, and hides `secret`.
#[derive(Default)]
struct Words(String);

impl PieceMasker for Words {
    fn feed(&mut self, piece: &str) -> String {
        self.0.push_str(piece);
        let rest = self.0.split_off(self.0.rfind(' ').map_or(0, |at| at + 1));
        std::mem::replace(&mut self.0, rest).replace("secret", "[hidden]")
    }

    fn finish(&mut self) -> String {
        std::mem::take(&mut self.0).replace("secret", "[hidden]")
    }
}

fn run(dialect: Dialect, framing: Framing, stream: &[u8]) -> Vec<Bytes> {
    let (mut splitter, mut rewriter) =
        (FrameSplitter::new(framing), StreamRewriter::<Words>::new(dialect, framing));
    let mut out = Vec::new();
    for chunk in stream.chunks(5) {
        splitter.feed(chunk);
        while let Some(frame) = splitter.whole_frame().unwrap() {
            out.extend(
                rewriter.frame(&frame, Words::default, |text| text.replace("secret", "[hidden]")).unwrap(),
            );
        }
    }
    assert!(splitter.is_empty());
    out.extend(rewriter.finish());
    out
}

fn event(kind: &str, payload: &Value) -> Bytes {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    eventstream::message(&headers, payload.to_string().as_bytes())
}

fn payload(frame: &Bytes) -> (String, Value) {
    let mut held = BytesMut::from(frame.as_ref());
    let message = eventstream::open(&eventstream::whole(&mut held).unwrap().expect("whole")).unwrap();
    assert!(held.is_empty());
    (message.header(":event-type").unwrap().to_owned(), serde_json::from_slice(&message.payload).unwrap())
}

#[test]
fn lesson_litellm_30728_a_stream_of_converse_is_masked_across_its_messages_whose_checksums_stay_right() {
    let delta = |text: &str| {
        event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": text}, "p": "abc"}))
    };
    let tool = |text: &str| {
        event("contentBlockDelta", &json!({"contentBlockIndex": 1, "delta": {"toolUse": {"input": text}}}))
    };
    let metadata =
        event("metadata", &json!({"usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8}}));
    let frames = [
        event("messageStart", &json!({"role": "assistant"})),
        delta("a sec"),
        delta("ret b se"),
        delta("cret"),
        event("contentBlockStop", &json!({"contentBlockIndex": 0})),
        tool("{\"to\":\"sec"),
        tool("ret\"}"),
        event("contentBlockStop", &json!({"contentBlockIndex": 1})),
        event("messageStop", &json!({"stopReason": "tool_use"})),
        metadata.clone(),
    ];
    let out = run(Dialect::BedrockConverse, Framing::Messages, &frames.concat());
    let said = |pointer: &str| -> String {
        out.iter()
            .filter_map(|frame| payload(frame).1.pointer(pointer).and_then(|v| v.as_str().map(str::to_owned)))
            .collect()
    };
    assert_eq!(said("/delta/text"), "a [hidden] b [hidden]");
    assert_eq!(said("/delta/toolUse/input"), "{\"to\":\"[hidden]\"}");
    let place = |kind: &str| out.iter().position(|frame| payload(frame).0 == kind).unwrap();
    let last_text = out.iter().rposition(|frame| payload(frame).1.pointer("/delta/text").is_some()).unwrap();
    assert!(last_text < place("contentBlockStop"), "what was held back comes before the block ends");
    let usage = frame_usage(Dialect::BedrockConverse, Framing::Messages, out.last().unwrap());
    assert_eq!((usage.input, usage.output), (Some(3), Some(5)));
    assert_eq!(out.last(), Some(&metadata), "what is not changed is passed on byte by byte");
}

#[test]
fn chunks_of_invoke_are_masked_inside_of_their_base64() {
    let chunk =
        |inner: Value| event("chunk", &json!({"bytes": STANDARD.encode(inner.to_string()), "p": "abcdef"}));
    let delta = |text: &str| {
        chunk(
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        )
    };
    let frames = [
        chunk(
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 4, "output_tokens": 1}}}),
        ),
        delta("x sec"),
        delta("ret"),
        chunk(json!({"type": "content_block_stop", "index": 0})),
    ];
    let out = run(Dialect::BedrockInvoke, Framing::Messages, &frames.concat());
    let inner = |frame: &Bytes| -> Value {
        let bytes = payload(frame).1["bytes"].as_str().map(|text| STANDARD.decode(text).unwrap()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let said: String = out
        .iter()
        .filter_map(|f| inner(f).pointer("/delta/text").and_then(|v| v.as_str().map(str::to_owned)))
        .collect();
    assert_eq!(said, "x [hidden]");
    assert_eq!(frame_usage(Dialect::BedrockInvoke, Framing::Messages, out.first().unwrap()).input, Some(4));
    assert_eq!(inner(out.last().unwrap())["type"], "content_block_stop");
    let broken = event("chunk", &json!({"bytes": "not base64"}));
    let mut rewriter = StreamRewriter::<Words>::new(Dialect::BedrockInvoke, Framing::Messages);
    assert!(
        rewriter.frame(&broken, Words::default, str::to_owned).is_err(),
        "what cannot be read is not released"
    );
}

#[test]
fn a_text_of_gemini_is_masked_wherever_it_goes_on_and_nothing_is_said_twice() {
    let frame = |candidate: Value| format!("data: {}\r\n\r\n", json!({"candidates": [candidate]}));
    let parts = |parts: Value| frame(json!({"content": {"role": "model", "parts": parts}, "index": 0}));
    let call = json!({"functionCall": {"name": "find", "args": {"q": "secret"}}});
    let stream = [
        parts(json!([{"text": "thinking of sec", "thought": true}])),
        parts(json!([{"text": "ret", "thought": true}, {"text": "a sec"}])),
        parts(json!([{"text": "re"}, {"text": "t b"}])),
        parts(json!([call])),
        frame(json!({"content": {"parts": [{"text": "c sec"}, {"text": "ret"}]}, "finishReason": "STOP", "index": 0})),
    ]
    .concat();
    let out = run(Dialect::GeminiGenerate, Framing::Events, stream.as_bytes());
    let (mut said, mut thought, mut calls) = (String::new(), String::new(), 0);
    for frame in &out {
        let data = std::str::from_utf8(frame).unwrap().trim().strip_prefix("data: ").unwrap();
        let value: Value = serde_json::from_str(data).unwrap();
        for part in value.pointer("/candidates/0/content/parts").and_then(Value::as_array).unwrap() {
            calls += usize::from(part.get("functionCall").is_some());
            let into = if part.get("thought").is_some() { &mut thought } else { &mut said };
            into.push_str(part.get("text").and_then(Value::as_str).unwrap_or_default());
        }
    }
    assert_eq!(
        (said.as_str(), thought.as_str(), calls),
        ("a [hidden] bc [hidden]", "thinking of [hidden]", 1)
    );
    assert!(!String::from_utf8(out.concat()).unwrap().contains("secret"), "nor in arguments of calls");
}

/// What was held back of one text goes out in a copy of its frame: the other texts of that frame must not come along again, unmasked.
#[test]
fn what_is_held_back_of_one_choice_does_not_bring_the_other_again() {
    let both = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a secret\"}},{\"index\":1,\"delta\":{\"content\":\"b secret\"}}]}\n\n";
    let out = run(Dialect::OpenAiChat, Framing::Events, both.as_bytes());
    let text = String::from_utf8(out.concat()).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(text.matches("[hidden]").count(), 2, "{text}");
}

#[test]
fn a_stream_is_told_by_the_content_type_that_its_dialect_has() {
    assert_eq!(
        Framing::of(Dialect::BedrockConverse, b"application/vnd.amazon.eventstream"),
        Some(Framing::Messages)
    );
    assert_eq!(Framing::of(Dialect::BedrockConverse, b"text/event-stream"), None);
    assert_eq!(Framing::of(Dialect::OpenAiChat, b"application/vnd.amazon.eventstream"), None);
    assert_eq!(
        Framing::of(Dialect::GeminiGenerate, b"text/event-stream; charset=utf-8"),
        Some(Framing::Events)
    );
}
