//! Azure OpenAI, Amazon Bedrock and Gemini, as the simulation speaks them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::Response;
use http::header::HeaderValue;
use serde_json::{Value, json};

use crate::{
    Body, Options, Said, chat, chat_stream, embeddings, events, full, message, message_stream, pieces,
    prompt, words,
};

/// The answer at an address of theirs; none elsewhere.
pub(crate) fn answer(
    path: &str,
    query: &str,
    request: &Value,
    said: &Said,
    options: &Options,
) -> Option<Response<Body>> {
    if let Some(rest) = path.strip_prefix("/openai/deployments/") {
        return azure(rest.split_once('/')?.1, query, request, said, options);
    }
    if let Some(rest) = path.strip_prefix("/model/") {
        return bedrock(rest.split_once('/')?.1, request, said, options);
    }
    gemini(path.strip_prefix("/v1beta/models/")?.rsplit_once(':')?.1, query, request, said, options)
}

fn azure(verb: &str, query: &str, request: &Value, said: &Said, options: &Options) -> Option<Response<Body>> {
    if !query.starts_with("api-version=") {
        return Some(full(404, &json!({"error": {"code": "404", "message": "Resource not found"}})));
    }
    let stream = request.get("stream") == Some(&Value::Bool(true));
    Some(match verb {
        "chat/completions" if stream => {
            events(chat_stream(request, said, options.piece), options, &prompt(request))
        }
        "chat/completions" => full(200, &chat(request, said)),
        "embeddings" => full(200, &embeddings(request)),
        "completions" => {
            let choice = |text: &str, finish: Value| {
                json!({"id": "cmpl-simulated", "object": "text_completion", "created": 1_700_000_000, "model": "simulated",
                       "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}]})
            };
            let usage = json!({"prompt_tokens": words(&prompt(request)), "completion_tokens": words(said.text()).max(1),
                               "total_tokens": words(&prompt(request)) + words(said.text()).max(1)});
            let mut whole = choice(said.text(), "stop".into());
            if let Some(members) = whole.as_object_mut() {
                members.insert("usage".to_owned(), usage);
            }
            if !stream {
                return Some(full(200, &whole));
            }
            let texts = pieces(said.text(), options.piece);
            let mut frames: Vec<Value> = texts.iter().map(|text| choice(text, Value::Null)).collect();
            frames.push(choice("", "stop".into()));
            let mut frames: Vec<String> = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
            frames.push("data: [DONE]\n\n".to_owned());
            events(frames, options, &prompt(request))
        }
        _ => return None,
    })
}

/// A message of `application/vnd.amazon.eventstream`.
fn framed(kind: &str, payload: &Value) -> Bytes {
    let mut headers = BytesMut::new();
    for (name, value) in
        [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")]
    {
        headers.put_u8(u8::try_from(name.len()).unwrap_or_default());
        headers.extend_from_slice(name.as_bytes());
        headers.put_u8(7);
        headers.put_u16(u16::try_from(value.len()).unwrap_or_default());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let length = |n: usize| u32::try_from(n).unwrap_or_default();
    let mut out = BytesMut::new();
    out.put_u32(length(16 + headers.len() + payload.len()));
    out.put_u32(length(headers.len()));
    out.put_u32(crc32fast::hash(&out));
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload.as_bytes());
    out.put_u32(crc32fast::hash(&out));
    out.freeze()
}

fn messages(frames: Vec<Bytes>, options: &Options, prompt: &str) -> Response<Body> {
    let mut response = events(frames, options, prompt);
    let media = HeaderValue::from_static("application/vnd.amazon.eventstream");
    response.headers_mut().insert(http::header::CONTENT_TYPE, media);
    response
}

fn bedrock(verb: &str, request: &Value, said: &Said, options: &Options) -> Option<Response<Body>> {
    let (input, output) = (words(&prompt(request)), words(said.text()).max(1));
    let usage = json!({"inputTokens": input, "outputTokens": output, "totalTokens": input + output});
    let (block, stop) = match said {
        Said::Text(text) => (json!({"text": text}), "end_turn"),
        Said::Tool(name, arguments) => {
            let input: Value = serde_json::from_str(arguments).unwrap_or_default();
            (json!({"toolUse": {"toolUseId": "tooluse_simulated", "name": name, "input": input}}), "tool_use")
        }
    };
    Some(match verb {
        "invoke" => full(200, &message(request, said)),
        "invoke-with-response-stream" => {
            let chunk = |event: &String| {
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
                framed("chunk", &json!({"bytes": STANDARD.encode(data), "p": "abcdef"}))
            };
            let frames = message_stream(request, said, options.piece).iter().map(chunk).collect();
            messages(frames, options, &prompt(request))
        }
        "converse" => full(
            200,
            &json!({"output": {"message": {"role": "assistant", "content": [block]}}, "stopReason": stop, "usage": usage, "metrics": {"latencyMs": 1}}),
        ),
        "converse-stream" => {
            let delta = |delta: Value| {
                framed("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": delta, "p": "abc"}))
            };
            let mut frames = vec![framed("messageStart", &json!({"role": "assistant", "p": "ab"}))];
            match said {
                Said::Text(text) => {
                    frames.extend(pieces(text, options.piece).into_iter().map(|p| delta(json!({"text": p}))));
                }
                Said::Tool(name, arguments) => {
                    let start = json!({"toolUse": {"toolUseId": "tooluse_simulated", "name": name}});
                    frames
                        .push(framed("contentBlockStart", &json!({"contentBlockIndex": 0, "start": start})));
                    frames.push(delta(json!({"toolUse": {"input": arguments}})));
                }
            }
            frames.push(framed("contentBlockStop", &json!({"contentBlockIndex": 0})));
            frames.push(framed("messageStop", &json!({"stopReason": stop})));
            frames.push(framed("metadata", &json!({"usage": usage, "metrics": {"latencyMs": 1}})));
            messages(frames, options, &prompt(request))
        }
        _ => return None,
    })
}

fn gemini(
    verb: &str,
    query: &str,
    request: &Value,
    said: &Said,
    options: &Options,
) -> Option<Response<Body>> {
    let (input, output) = (words(&prompt(request)), words(said.text()).max(1));
    let usage =
        json!({"promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output});
    let answer = |part: Value, finish: Value| {
        let content = json!({"role": "model", "parts": [part]});
        let mut candidate = json!({"content": content, "index": 0});
        if let Some(members) = candidate.as_object_mut().filter(|_| !finish.is_null()) {
            members.insert("finishReason".to_owned(), finish);
        }
        json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "simulated", "responseId": "simulated"})
    };
    let part = |text: &str| json!({"text": text});
    Some(match (verb, said) {
        ("generateContent", Said::Text(text)) => full(200, &answer(part(text), "STOP".into())),
        ("streamGenerateContent", Said::Text(text)) if query == "alt=sse" => {
            let mut frames: Vec<Value> =
                pieces(text, options.piece).iter().map(|p| answer(part(p), Value::Null)).collect();
            frames.push(answer(part(""), "STOP".into()));
            let frames = frames.iter().map(|frame| format!("data: {frame}\r\n\r\n")).collect::<Vec<_>>();
            events(frames, options, &prompt(request))
        }
        ("generateContent" | "streamGenerateContent", Said::Tool(name, arguments)) => {
            let args: Value = serde_json::from_str(arguments).unwrap_or_default();
            let whole = answer(json!({"functionCall": {"name": name, "args": args}}), "STOP".into());
            if verb == "generateContent" {
                return Some(full(200, &whole));
            }
            events(vec![format!("data: {whole}\r\n\r\n")], options, &prompt(request))
        }
        ("embedContent", _) => full(200, &json!({"embedding": {"values": [0.5, -0.5, 0.25, 1.0]}})),
        ("batchEmbedContents", _) => {
            let count = request.get("requests").and_then(Value::as_array).map_or(0, Vec::len);
            full(200, &json!({"embeddings": vec![json!({"values": [0.5, -0.5, 0.25, 1.0]}); count]}))
        }
        ("countTokens", _) => full(200, &json!({"totalTokens": input})),
        _ => return None,
    })
}
