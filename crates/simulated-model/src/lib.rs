//! A simulated model: speaks the APIs of OpenAI, Azure OpenAI, Anthropic, Amazon Bedrock and Gemini and knows nothing.
//!
//! A development tool. Its answers follow from the prompt: `say: TEXT` answers TEXT, `call the tool NAME` calls it where it is
//! offered, `call the tool NAME with JSON` calls it with those arguments, offered or not, as a model does that was talked into
//! it; anything else is echoed. `fault: WORD` misbehaves: `die-mid-stream`, `endless`, `flood`,
//! `garbage`, `redirect`, `status-503`, `hang`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How the simulation behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Milliseconds before every answer.
    pub latency_ms: u64,
    /// Milliseconds between two pieces of a stream.
    pub gap_ms: u64,
    /// Characters in a piece of a stream.
    pub piece: usize,
    /// The only credential that is accepted, if set.
    pub require_key: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { latency_ms: 0, gap_ms: 0, piece: 6, require_key: None }
    }
}

mod providers;

type Body = BoxBody<Bytes, io::Error>;

/// What the last request carried and how many there were, for tests that ask what reached the upstream.
type Last = Arc<Mutex<Seen>>;

#[derive(Clone, Debug, Default)]
struct Seen {
    count: u64,
    path: String,
    headers: HeaderMap,
    body: String,
}

/// Starts a simulation on `address` and gives its real address. It ends with the runtime.
///
/// # Errors
/// When the address cannot be bound.
#[expect(clippy::disallowed_methods, reason = "a development tool; it has no orderly end to take part in")]
pub async fn spawn(address: SocketAddr, options: Options) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let last = Last::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            let (options, last) = (options.clone(), last.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let (options, last) = (options.clone(), last.clone());
                    async move { Ok::<_, Infallible>(answer(request, &options, &last).await) }
                });
                // A client that goes away in the middle is none of our concern.
                auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .unwrap_or_default();
            });
        }
    });
    Ok(address)
}

fn full(status: u16, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never: Infallible| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("server", HeaderValue::from_static("bartizan-simulated-model"));
    response
}

async fn answer(request: Request<Incoming>, options: &Options, last: &Last) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    if path == "/_last" {
        let seen = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = |value: &HeaderValue| Value::from(value.to_str().unwrap_or_default());
        let headers: Value = seen.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect();
        return full(
            200,
            &json!({"count": seen.count, "path": seen.path, "headers": headers, "body": seen.body}),
        );
    }
    {
        let mut seen = last.lock().unwrap_or_else(PoisonError::into_inner);
        let (headers, body) = (head.headers.clone(), String::from_utf8_lossy(&body).into_owned());
        let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        *seen = Seen { count: seen.count + 1, path, headers, body };
    }
    if let Some(key) = &options.require_key {
        let presented = ["authorization", "x-api-key", "api-key", "x-goog-api-key"]
            .iter()
            .find_map(|n| head.headers.get(*n))
            .and_then(|v| v.to_str().ok());
        if presented.map(|p| p.trim_start_matches("Bearer ")) != Some(key.as_str()) {
            return full(
                401,
                &json!({"error": {"message": "wrong credential", "type": "authentication_error"}}),
            );
        }
    }
    if path.starts_with("/v1/models") {
        return full(
            200,
            &json!({"object": "list", "data": [{"id": "simulated", "object": "model", "created": 0, "owned_by": "nobody"}]}),
        );
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return full(400, &json!({"error": {"message": "not JSON", "type": "invalid_request_error"}}));
    };
    if options.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(options.latency_ms)).await;
    }
    let prompt = prompt(&request);
    if let Some(response) = fault(&prompt) {
        if prompt.contains("fault: hang") {
            std::future::pending::<()>().await;
        }
        return response;
    }
    let stream = request.get("stream") == Some(&Value::Bool(true));
    let said = said(&request, &prompt);
    let query = head.uri.query().unwrap_or_default();
    if let Some(response) = providers::answer(&path, query, &request, &said, options) {
        return response;
    }
    match path.as_str() {
        "/v1/chat/completions" if stream => {
            events(chat_stream(&request, &said, options.piece), options, &prompt)
        }
        "/v1/chat/completions" => full(200, &chat(&request, &said)),
        "/v1/responses" if stream => {
            events(responses_stream(&request, &said, options.piece), options, &prompt)
        }
        "/v1/responses" => full(200, &response(&request, &said, "completed")),
        "/v1/embeddings" => full(200, &embeddings(&request)),
        "/v1/messages" if stream => events(message_stream(&request, &said, options.piece), options, &prompt),
        "/v1/messages/count_tokens" => full(200, &json!({"input_tokens": prompt.split_whitespace().count()})),
        "/v1/messages" => full(200, &message(&request, &said)),
        _ => full(404, &json!({"error": {"message": "no such path", "type": "not_found_error"}})),
    }
}

/// The last text of the request.
fn prompt(request: &Value) -> String {
    fn last(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Array(items) => items.iter().rev().find_map(last),
            Value::Object(members) => {
                ["content", "parts", "text"].iter().find_map(|name| members.get(*name)).and_then(last)
            }
            _ => None,
        }
    }
    let places = ["messages", "input", "contents", "content", "requests", "prompt"];
    places.iter().find_map(|name| request.get(*name)).and_then(last).unwrap_or_default()
}

/// What the simulation says: a text, or the name of a tool to call.
enum Said {
    Text(String),
    Tool(String, String),
}

/// What a tool is called with if nobody says.
const ARGUMENTS: &str = "{\"city\": \"Paris\"}";

fn said(request: &Value, prompt: &str) -> Said {
    let offered = |name: &str| {
        let tools = request.get("tools").or_else(|| request.pointer("/toolConfig/tools"));
        let tools = tools.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let places = ["/function/name", "/toolSpec/name", "/functionDeclarations/0/name", "/name"];
        tools.iter().any(|t| places.iter().find_map(|place| t.pointer(place)?.as_str()) == Some(name))
    };
    match (prompt.split_once("call the tool "), prompt.strip_prefix("say: ")) {
        (Some((_, order)), _) if order.contains(" with {") => {
            let (name, arguments) = order.split_once(" with ").unwrap_or((order, ARGUMENTS));
            Said::Tool(name.trim().to_owned(), arguments.trim().to_owned())
        }
        (Some((_, name)), _) if offered(name.trim()) => {
            Said::Tool(name.trim().to_owned(), ARGUMENTS.to_owned())
        }
        (_, Some(text)) => Said::Text(text.to_owned()),
        _ => Said::Text(format!("You said: {prompt}")),
    }
}

impl Said {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Tool(..) => "",
        }
    }
}

fn fault(prompt: &str) -> Option<Response<Body>> {
    let (_, word) = prompt.split_once("fault: ")?;
    match word.split_whitespace().next()? {
        "garbage" => {
            let body = Full::new(Bytes::from_static(b"<html>not what you asked for</html>"))
                .map_err(|never: Infallible| match never {})
                .boxed();
            Some(Response::new(body))
        }
        "redirect" => {
            let mut response = full(302, &json!({}));
            response
                .headers_mut()
                .insert("location", HeaderValue::from_static("http://169.254.169.254/latest/meta-data/"));
            Some(response)
        }
        "status-503" => {
            Some(full(503, &json!({"error": {"message": "overloaded", "type": "overloaded_error"}})))
        }
        "hang" => Some(full(200, &json!({}))),
        _ => None,
    }
}

fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn model(request: &Value) -> Value {
    request.get("model").cloned().unwrap_or_else(|| "simulated".into())
}

fn pieces(text: &str, size: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(size.max(1)).map(|c| c.iter().collect()).collect()
}

fn chat_usage(request: &Value, said: &Said) -> Value {
    let (input, output) = (words(&prompt(request)), words(said.text()).max(1));
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

fn tool_calls(name: &str, arguments: &str) -> Value {
    json!([{"index": 0, "id": "call_simulated", "type": "function", "function": {"name": name, "arguments": arguments}}])
}

fn chat(request: &Value, said: &Said) -> Value {
    let (message, finish) = match said {
        Said::Text(text) => (json!({"role": "assistant", "content": text, "refusal": null}), "stop"),
        Said::Tool(name, arguments) => {
            let calls = tool_calls(name, arguments);
            (json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
        }
    };
    json!({
        "id": "chatcmpl-simulated", "object": "chat.completion", "created": 1_700_000_000, "model": model(request),
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}],
        "usage": chat_usage(request, said)
    })
}

fn chat_stream(request: &Value, said: &Said, piece: usize) -> Vec<String> {
    let chunk = |delta: Value, finish: Value| {
        json!({
            "id": "chatcmpl-simulated", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model(request),
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]
        })
    };
    let mut out = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    let finish = match said {
        Said::Text(text) => {
            out.extend(pieces(text, piece).into_iter().map(|p| chunk(json!({"content": p}), Value::Null)));
            "stop"
        }
        Said::Tool(name, arguments) => {
            out.push(chunk(json!({"tool_calls": tool_calls(name, arguments)}), Value::Null));
            "tool_calls"
        }
    };
    out.push(chunk(json!({}), finish.into()));
    if request.pointer("/stream_options/include_usage") == Some(&Value::Bool(true)) {
        let mut last = chunk(json!({}), Value::Null);
        if let Some(members) = last.as_object_mut() {
            members.insert("choices".to_owned(), json!([]));
            members.insert("usage".to_owned(), chat_usage(request, said));
        }
        out.push(last);
    }
    let mut frames: Vec<String> = out.iter().map(|c| format!("data: {c}\n\n")).collect();
    frames.push("data: [DONE]\n\n".to_owned());
    frames
}

fn response_item(said: &Said, status: &str) -> Value {
    match said {
        Said::Text(text) => json!({
            "type": "message", "id": "msg_simulated", "status": status, "role": "assistant",
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
        }),
        Said::Tool(name, arguments) => json!({
            "type": "function_call", "id": "fc_simulated", "call_id": "call_simulated", "status": status, "name": name, "arguments": arguments
        }),
    }
}

fn response(request: &Value, said: &Said, status: &str) -> Value {
    let output = if status == "completed" { json!([response_item(said, "completed")]) } else { json!([]) };
    let (input, out) = (words(&prompt(request)), words(said.text()).max(1));
    json!({
        "id": "resp_simulated", "object": "response", "created_at": 1_700_000_000, "status": status, "model": model(request), "output": output,
        "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "parallel_tool_calls": true, "temperature": 1.0,
        "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": {"input_tokens": input, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": out,
                  "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + out}
    })
}

fn responses_stream(request: &Value, said: &Said, piece: usize) -> Vec<String> {
    let mut events = vec![
        json!({"type": "response.created", "response": response(request, said, "in_progress")}),
        json!({"type": "response.in_progress", "response": response(request, said, "in_progress")}),
    ];
    let mut started = response_item(said, "in_progress");
    if let Some(content) = started.get_mut("content") {
        *content = json!([]);
    }
    events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": started}));
    if let Said::Text(text) = said {
        let place = |kind: &str, extra: Value| {
            let mut event =
                json!({"type": kind, "item_id": "msg_simulated", "output_index": 0, "content_index": 0});
            if let (Some(event), Some(extra)) = (event.as_object_mut(), extra.as_object()) {
                event.extend(extra.clone());
            }
            event
        };
        let part = |text: &str| json!({"part": {"type": "output_text", "text": text, "annotations": [], "logprobs": []}});
        events.push(place("response.content_part.added", part("")));
        events.extend(
            pieces(text, piece)
                .into_iter()
                .map(|p| place("response.output_text.delta", json!({"delta": p, "logprobs": []}))),
        );
        events.push(place("response.output_text.done", json!({"text": text, "logprobs": []})));
        events.push(place("response.content_part.done", part(text)));
    }
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": response_item(said, "completed")}));
    events.push(json!({"type": "response.completed", "response": response(request, said, "completed")}));
    events
        .into_iter()
        .enumerate()
        .map(|(number, mut event)| {
            if let Some(members) = event.as_object_mut() {
                members.insert("sequence_number".to_owned(), number.into());
            }
            let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
            format!("event: {kind}\ndata: {event}\n\n")
        })
        .collect()
}

fn embeddings(request: &Value) -> Value {
    let count = request.get("input").and_then(Value::as_array).map_or(1, Vec::len);
    let base64 = request.get("encoding_format").and_then(Value::as_str) == Some("base64");
    // Four floats: 0.5, -0.5, 0.25, 1.0, in little-endian base64.
    let vector = if base64 { json!("AAAAPwAAAL8AAIA+AACAPw==") } else { json!([0.5, -0.5, 0.25, 1.0]) };
    let data: Vec<Value> =
        (0..count).map(|i| json!({"object": "embedding", "index": i, "embedding": vector})).collect();
    let tokens = words(&prompt(request));
    json!({"object": "list", "data": data, "model": model(request), "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

fn block(said: &Said) -> (Value, &'static str) {
    match said {
        Said::Text(text) => (json!({"type": "text", "text": text}), "end_turn"),
        Said::Tool(name, arguments) => {
            let input: Value = serde_json::from_str(arguments).unwrap_or_default();
            (json!({"type": "tool_use", "id": "toolu_simulated", "name": name, "input": input}), "tool_use")
        }
    }
}

fn message(request: &Value, said: &Said) -> Value {
    let (block, stop) = block(said);
    json!({
        "id": "msg_simulated", "type": "message", "role": "assistant", "model": model(request), "content": [block], "stop_reason": stop,
        "stop_sequence": null, "usage": {"input_tokens": words(&prompt(request)), "output_tokens": words(said.text()).max(1)}
    })
}

fn message_stream(request: &Value, said: &Said, piece: usize) -> Vec<String> {
    let (_, stop) = block(said);
    let mut start = message(request, said);
    if let Some(members) = start.as_object_mut() {
        members.insert("content".to_owned(), json!([]));
        members.insert("stop_reason".to_owned(), Value::Null);
        members
            .insert("usage".to_owned(), json!({"input_tokens": words(&prompt(request)), "output_tokens": 1}));
    }
    let mut events = vec![json!({"type": "message_start", "message": start})];
    match said {
        Said::Text(text) => {
            events.push(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
            events.push(json!({"type": "ping"}));
            let delta = |p: String| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}});
            events.extend(pieces(text, piece).into_iter().map(delta));
        }
        Said::Tool(name, arguments) => {
            let block = json!({"type": "tool_use", "id": "toolu_simulated", "name": name, "input": {}});
            events.push(json!({"type": "content_block_start", "index": 0, "content_block": block}));
            let delta = json!({"type": "input_json_delta", "partial_json": arguments});
            events.push(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        }
    }
    events.push(json!({"type": "content_block_stop", "index": 0}));
    let delta = json!({"stop_reason": stop, "stop_sequence": null});
    events.push(json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": words(said.text()).max(1)}}));
    events.push(json!({"type": "message_stop"}));
    events
        .into_iter()
        .map(|event| {
            format!(
                "event: {}\ndata: {event}\n\n",
                event.get("type").and_then(Value::as_str).unwrap_or_default()
            )
        })
        .collect()
}

fn events(frames: Vec<impl Into<Bytes>>, options: &Options, prompt: &str) -> Response<Body> {
    let gap = Duration::from_millis(options.gap_ms);
    let dies = prompt.contains("fault: die-mid-stream");
    let flood = prompt.contains("fault: flood");
    let endless = flood || prompt.contains("fault: endless");
    let half = frames.len() / 2;
    let mut items: Vec<io::Result<Bytes>> = frames.into_iter().map(|f| Ok(f.into())).collect();
    if dies {
        items.truncate(half);
        items.push(Err(io::Error::other("simulated fault")));
    }
    let source = if endless {
        items.truncate(2);
        let comment =
            if flood { format!(": {}\n\n", "x".repeat(1 << 16)) } else { ": still here\n\n".to_owned() };
        let comment = Bytes::from(comment);
        let comment = futures_util::stream::repeat_with(move || Ok(comment.clone()));
        futures_util::stream::iter(items).chain(comment).boxed()
    } else {
        futures_util::stream::iter(items).boxed()
    };
    let gap = if endless && !flood && gap.is_zero() { Duration::from_millis(50) } else { gap };
    let stream = source.then(move |item| async move {
        // What came before a fault is sent first, as a real upstream's would be.
        let pause = if item.is_err() { gap.max(Duration::from_millis(100)) } else { gap };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        item.map(Frame::data)
    });
    // A stream of pieces is sent from one task, so that it may be shared by none.
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(stream.boxed())))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    response.headers_mut().insert("server", HeaderValue::from_static("bartizan-simulated-model"));
    response
}

/// Makes a stream `Sync`, as the boxed body demands.
struct SyncStream<S>(Mutex<S>);

impl<S: futures_util::Stream + Unpin> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(cx)
    }
}
