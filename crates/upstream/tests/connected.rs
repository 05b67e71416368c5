//! What arrives at the resource of a connected account, captured on the wire.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bartizan_base::time::ManualClock;
use bartizan_base::{Name, Timestamp};
use bartizan_model::{PrincipalId, Tenant};
use bartizan_secret::Secret;
use bartizan_upstream::{Credentials, FetchError, Released, Settings, SystemResolver, Upstreams};
use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[derive(Debug)]
struct Nothing;

impl Credentials for Nothing {
    fn credential(&self, _: &Tenant, _: &Name) -> Option<Secret<String>> {
        None
    }
}

fn upstreams() -> Upstreams {
    let settings = Settings {
        extra_roots: Vec::new(),
        resolver: Arc::new(SystemResolver),
        credentials: Arc::new(Nothing),
        clock: Arc::new(ManualClock::at(Timestamp::from_secs(1))),
    };
    Upstreams::new(settings).unwrap()
}

fn released(resource: &str) -> Released {
    let user = PrincipalId::from_parts(Timestamp::from_secs(1), [1; 10]);
    let token = Secret::new("outside-token".to_owned());
    Released::new(token, resource, true, (user, None), Timestamp::from_secs(1)).unwrap()
}

/// A resource that answers one request, and gives what it saw.
async fn resource(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut seen, mut part) = (String::new(), [0; 4_096]);
        while !seen.contains("\r\n\r\n") {
            let read = stream.read(&mut part).await.unwrap();
            seen.push_str(&String::from_utf8_lossy(part.get(..read).unwrap()));
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        seen
    });
    (address, seen)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

#[tokio::test]
async fn attack_39_no_credential_of_the_caller_arrives_at_the_resource() {
    let (address, seen) = resource(OK).await;
    let request = Request::post(format!("{address}/mcp"))
        .header("authorization", "Bearer the-callers-own")
        .header("proxy-authorization", "Basic the-callers-own")
        .header("cookie", "session=the-callers-own")
        .header("x-api-key", "the-callers-own")
        .header("accept", "application/json")
        .body(Bytes::new());
    let token = released(&format!("{address}/mcp"));
    let answer = upstreams().connected(&token, request.unwrap()).await.unwrap();
    assert_eq!(answer.body(), "ok");
    let seen = seen.await.unwrap().to_ascii_lowercase();
    assert!(!seen.contains("the-callers-own"), "{seen}");
    assert_eq!(seen.matches("authorization:").count(), 1, "{seen}");
    assert!(
        seen.contains("authorization: bearer outside-token") && seen.contains("accept: application/json")
    );
}

#[tokio::test]
async fn attack_39_a_redirect_is_not_followed_with_the_token() {
    let (elsewhere, stolen) = resource(OK).await;
    let moved = format!(
        "HTTP/1.1 307 Moved\r\nlocation: {elsewhere}/mcp\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let (address, seen) = resource(moved.leak()).await;
    let token = released(&address);
    let request = Request::post(format!("{address}/mcp")).body(Bytes::new()).unwrap();
    assert_eq!(upstreams().connected(&token, request).await.unwrap().status(), 307);
    seen.await.unwrap();
    assert!(!stolen.is_finished(), "nothing came there");
    // Nor is it sent there when asked to.
    let request = Request::post(format!("{elsewhere}/mcp")).body(Bytes::new()).unwrap();
    assert!(matches!(upstreams().connected(&token, request).await, Err(FetchError::Address)));
    assert!(!stolen.is_finished());
    stolen.abort();
}

/// rmcp, and ContextForge (GHSA-vgf8-3685-66j9): a redirect took what was sent along to wherever it led.
#[tokio::test]
async fn ghsa_9g45_5xwm_f3wc_nothing_goes_along_with_a_redirect_of_any_kind() {
    let (elsewhere, stolen) = resource(OK).await;
    for status in [301, 302, 303, 307, 308] {
        let moved = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: {elsewhere}/mcp\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let (address, seen) = resource(moved.leak()).await;
        let request = Request::get(format!("{address}/mcp")).body(Bytes::new()).unwrap();
        let answer = upstreams().connected(&released(&address), request).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert!(seen.await.unwrap().to_ascii_lowercase().contains("authorization: bearer outside-token"));
        assert!(!stolen.is_finished(), "{status}");
    }
    stolen.abort();
}
