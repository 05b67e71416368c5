//! Traces, as a collector gets them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// A collector: takes whatever is posted and hands it over.
fn collector() -> (SocketAddr, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (give, take) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap();
                }
                head += &line;
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            stream.get_mut().write_all(answer).unwrap();
            // The test may be over already.
            give.send((head, serde_json::from_slice(&body).unwrap())).unwrap_or_default();
        }
    });
    (address, take)
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a Value> {
    let all = span.pointer("/attributes")?.as_array()?;
    let value = all.iter().find(|a| a.pointer("/key") == Some(&json!(key)))?.pointer("/value")?;
    value.as_object()?.values().next()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_traced_by_the_conventions_and_a_trace_tells_no_content() {
    let (address, received) = collector();
    let house = House::with(&[("telemetry.otlp_endpoint", format!("http://{address}"))]).await;
    let body =
        json!({"model": "assistant", "messages": [{"role": "user", "content": "say: the-secret-word"}]});
    let (client, parent) =
        (Client::new(&house.data(), Some(house.alice.1.clone())), "0af7651916cd43dd8448eb211c80319c");
    let header = format!("00-{parent}-b7ad6b7169203331-01");
    let answer = blocking(move || {
        client.raw("POST", "/v1/chat/completions", Some(&body), &[("traceparent", &header)]).unwrap()
    })
    .await;
    assert_eq!(answer.0, 200, "{}", answer.1);
    house.chat(&house.mallory, "assistant", "say: hi").await;
    house.stop().await;
    let mut spans = Vec::new();
    while let Ok((head, batch)) = received.recv_timeout(Duration::from_secs(1)) {
        assert!(head.starts_with("POST /v1/traces "), "{head}");
        assert!(!batch.to_string().contains("the-secret-word"));
        spans.extend(
            batch.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap().as_array().unwrap().clone(),
        );
    }
    let named =
        |name: &str| spans.iter().filter(|s| s.pointer("/name") == Some(&json!(name))).collect::<Vec<_>>();
    let servers = named("POST /v1/chat/completions");
    let (ours, refused) = match servers.as_slice() {
        [a, b] if a.pointer("/traceId") == Some(&json!(parent)) => (a, b),
        [b, a] => (a, b),
        other => panic!("{other:?}"),
    };
    assert_eq!(ours.pointer("/parentSpanId"), Some(&json!("b7ad6b7169203331")));
    assert_eq!(attribute(refused, "error.type"), Some(&json!("model_not_found")));
    let calls = named("chat assistant");
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(call.pointer("/traceId"), Some(&json!(parent)));
    assert_eq!(call.pointer("/parentSpanId"), ours.pointer("/spanId"));
    assert_eq!(attribute(call, "gen_ai.operation.name"), Some(&json!("chat")));
    assert_eq!(attribute(call, "gen_ai.request.model"), Some(&json!("assistant")));
    assert!(attribute(call, "gen_ai.usage.output_tokens").is_some(), "{call}");
    assert_eq!(attribute(call, "http.response.status_code"), Some(&json!("200")));
    for step in ["identify", "decide", "record"] {
        assert!(named(step).iter().any(|s| s.pointer("/parentSpanId") == ours.pointer("/spanId")), "{step}");
    }
}
