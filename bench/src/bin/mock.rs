//! A model that answers at once, always the same: as little as possible behind the gateways. Beside it, on `/jwks`, the
//! keys of the issuer of the measurements; on `/mcp` and `/v1/mcp`, an MCP server with one tool that answers as quickly; and on
//! `/ext_authz`, a service that says yes to every proxy that asks.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bartizan_bench::{ANSWER_BYTES, Error, MCP_TEXT_BYTES, MCP_TOOL, PACE, PACE_MS, STREAM_EVENTS};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: mock ADDRESS JWKS";
    let address: SocketAddr = arguments.next().ok_or(usage)?.parse()?;
    let jwks = std::fs::read_to_string(arguments.next().ok_or(usage)?)?;
    let listener = TcpListener::bind(address).await?;
    let answers: &'static Answers = Box::leak(Box::new(Answers::new(jwks)));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let service =
                service_fn(move |request| async move { Ok::<_, Infallible>(answers.to(request).await) });
            // A client that goes away is none of our concern.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

struct Answers {
    jwks: Bytes,
    whole: Bytes,
    events: Vec<Bytes>,
}

impl Answers {
    fn new(jwks: String) -> Self {
        let whole = |content: &str| {
            format!(
                r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":70,"completion_tokens":20,"total_tokens":90}}}}"#
            )
        };
        let filling = "lorem ipsum ".repeat(40);
        let room = ANSWER_BYTES.saturating_sub(whole("").len());
        let event = |delta: &str, finish: &str| {
            Bytes::from(format!(
                "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
            ))
        };
        let mut events = vec![event(r#"{"role":"assistant","content":""}"#, "null")];
        let words = STREAM_EVENTS.saturating_sub(3);
        events.extend((0..words).map(|_| event(r#"{"content":" lorem ipsum"}"#, "null")));
        events.push(event("{}", r#""stop""#));
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        Self {
            jwks: Bytes::from(jwks),
            whole: Bytes::from(whole(filling.get(..room).unwrap_or_default())),
            events,
        }
    }

    async fn to(&'static self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let keys = path == "/jwks";
        if path.starts_with("/ext_authz") {
            return Response::new(Full::default().boxed_unsync());
        }
        let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        if path.ends_with("/mcp") {
            return mcp(&body);
        }
        let holds = |needle: &[u8]| body.windows(needle.len()).any(|window| window == needle);
        let stream = holds(br#""stream":true"#) || holds(br#""stream": true"#);
        let (kind, body) = match (stream, holds(PACE.as_bytes())) {
            _ if keys => ("application/json", Full::new(self.jwks.clone()).boxed_unsync()),
            (false, _) => ("application/json", Full::new(self.whole.clone()).boxed_unsync()),
            (true, false) => {
                let events =
                    futures_util::stream::iter(&self.events).map(|event| Ok(Frame::data(event.clone())));
                ("text/event-stream", StreamBody::new(events).boxed_unsync())
            }
            (true, true) => {
                let events = futures_util::stream::iter(&self.events).then(|event| async {
                    tokio::time::sleep(Duration::from_millis(PACE_MS)).await;
                    Ok(Frame::data(event.clone()))
                });
                ("text/event-stream", StreamBody::new(events).boxed_unsync())
            }
        };
        let mut response = Response::new(body);
        response.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
        response
    }
}

/// What an MCP server without sessions answers (revision 2025-06-18, streamable HTTP).
fn mcp(body: &[u8]) -> Response<Body> {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let result = match asked.get("method").and_then(Value::as_str) {
        Some("initialize") => json!({
            "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
            "serverInfo": {"name": "bench", "version": "1"},
        }),
        Some("tools/list") => json!({"tools": [{
            "name": MCP_TOOL, "description": "Answers at once.",
            "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
        }]}),
        Some("tools/call") => {
            // Twelve bytes a time.
            let text = "lorem ipsum ".repeat(usize::try_from(MCP_TEXT_BYTES / 12).unwrap_or_default());
            json!({"content": [{"type": "text", "text": text}], "isError": false})
        }
        _ => json!({}),
    };
    let Some(id) = asked.get("id") else {
        let mut accepted = Response::new(Full::default().boxed_unsync());
        *accepted.status_mut() = http::StatusCode::ACCEPTED;
        return accepted;
    };
    let answer = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
    let mut response = Response::new(Full::new(Bytes::from(answer)).boxed_unsync());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
