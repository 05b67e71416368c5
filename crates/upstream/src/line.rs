//! Lines to old tool servers: the HTTP+SSE transport of MCP 2024-11-05. A stream of events is opened with `GET`; its first event
//! names the address that messages are posted to.
//!
//! That address is the server's word, so it is held to the origin and the path prefix of the declared upstream. A line is opened
//! for a recorded intent, and each message of a caller needs one of its own.

use std::time::Duration;

use bartizan_base::Digest;
use bartizan_model::action::ToolCall;
use bartizan_model::directory::UpstreamSpec;
use bartizan_model::{ReasonCode, Target, Tenant};
use bartizan_record::{IntentRecorded, Running};
use bartizan_wire::{Node, Span, splice};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use url::Url;

use crate::body::AnswerBody;
use crate::send::{Carries, SendError, Upstreams};

/// The longest address of messages.
const ENDPOINT_MAX: usize = 2_048;
/// What is read of the answer to a message; it says nothing.
const ANSWER_MAX: usize = 16 << 10;

/// A line that is open, or about to be: where its events come from and where its messages go.
#[derive(Debug)]
pub struct Line {
    tenant: Tenant,
    spec: UpstreamSpec,
    path: String,
    carries: Carries,
    events: Uri,
    endpoint: Option<Uri>,
}

impl Line {
    /// The upstream as it was declared when the line was opened.
    #[must_use]
    pub const fn spec(&self) -> &UpstreamSpec {
        &self.spec
    }

    /// Takes the address that messages are posted to, as the server's first event names it. It can be named once.
    ///
    /// # Errors
    /// [`ReasonCode::EgressForbidden`] when it leads to another origin, or out of the upstream's path prefix.
    pub fn lead_to(&mut self, endpoint: &str) -> Result<(), ReasonCode> {
        if self.endpoint.is_some() {
            return Err(ReasonCode::UpstreamInvalid);
        }
        let found = resolve(&self.spec.base_url, &self.events, endpoint);
        let found =
            found.inspect_err(|_| tracing::warn!("an old tool server names an address that is not its own"));
        self.endpoint = Some(found?);
        Ok(())
    }
}

/// The address `named` on a stream of events from `events`, if it is one of the upstream's own.
fn resolve(base: &str, events: &Uri, named: &str) -> Result<Uri, ReasonCode> {
    let forbidden = ReasonCode::EgressForbidden;
    let fits = named.len() <= ENDPOINT_MAX && !named.is_empty() && !named.chars().any(char::is_control);
    let (Ok(base), Ok(from)) = (Url::parse(base), Url::parse(&events.to_string())) else {
        return Err(forbidden);
    };
    let Some(to) = Some(named).filter(|_| fits).and_then(|named| from.join(named).ok()) else {
        return Err(forbidden);
    };
    let origin = to.scheme() == base.scheme()
        && to.host() == base.host()
        && to.port_or_known_default() == base.port_or_known_default();
    let plain = to.username().is_empty() && to.password().is_none() && to.fragment().is_none();
    let prefix = base.path().trim_end_matches('/');
    let below = to.path().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    if !(origin && plain && below) {
        return Err(forbidden);
    }
    to.as_str().parse().map_err(|_| forbidden)
}

impl Upstreams {
    /// Opens the stream of events of an old tool server, at the path that the intent was recorded for. What comes must not be silent
    /// for longer than `patience`.
    ///
    /// # Errors
    /// Why there is no stream.
    pub async fn open_line(
        &self,
        intent: &IntentRecorded<ToolCall>,
        spec: &UpstreamSpec,
        carries: Carries,
        patience: Duration,
    ) -> Result<(Line, AnswerBody), ReasonCode> {
        let Target::Upstream { path, .. } = intent.target() else { return Err(ReasonCode::Internal) };
        if self.clock.now() >= intent.expires() {
            return Err(ReasonCode::Internal);
        }
        let events = self.address(&spec.base_url, path).ok_or(ReasonCode::EgressForbidden)?;
        let mut request = Request::new(Full::default());
        *request.uri_mut() = events.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let tenant = intent.tenant().clone();
        let request = self.dressed(&tenant, spec, request, &carries)?;
        let (status, headers, body) = self.ask(spec, request, &[]).await?;
        let media = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if status != 200 || media.split(';').next().map(str::trim) != Some("text/event-stream") {
            tracing::warn!(status, "an old tool server gives no stream of events");
            return Err(ReasonCode::UpstreamInvalid);
        }
        let line = Line { tenant, spec: spec.clone(), path: path.clone(), carries, events, endpoint: None };
        Ok((line, AnswerBody::new(body, patience)))
    }

    /// Posts the message that the intent was recorded for. Nothing in it changes but ids and progress tokens, at `numbers`.
    ///
    /// # Errors
    /// With the running effect, so that its end can be told.
    pub async fn say(
        &self,
        intent: IntentRecorded<ToolCall>,
        line: &Line,
        message: &Bytes,
        numbers: &[(Span, u64)],
    ) -> Result<Running, SendError> {
        let fits = matches!(intent.target(), Target::Upstream { path, body, .. } if *path == line.path && *body == Digest::of(message))
            && *intent.tenant() == line.tenant
            && numbers.len() <= 2;
        let in_time = self.clock.now() < intent.expires();
        let running = intent.begin();
        if !fits || !in_time {
            tracing::error!(fits, in_time, "a message that is not the recorded one was stopped at the exit");
            return Err(SendError { reason: ReasonCode::Internal, running });
        }
        let edits = numbers.iter().map(|(span, number)| (*span, number.to_string())).collect();
        match self.post(line, splice(message, edits)).await {
            Ok(()) => Ok(running),
            Err(reason) => Err(SendError { reason, running }),
        }
    }

    /// Posts what belongs to the protocol and to no caller's ask: opening the line, cancelling, short answers to the server.
    ///
    /// # Errors
    /// Also when it is something else.
    pub async fn courtesy(&self, line: &Line, message: Bytes) -> Result<(), ReasonCode> {
        if !is_courtesy(&message) {
            return Err(ReasonCode::Internal);
        }
        self.post(line, message).await
    }

    async fn post(&self, line: &Line, message: Bytes) -> Result<(), ReasonCode> {
        let Line { tenant, spec, carries, endpoint, .. } = line;
        let endpoint = endpoint.clone().ok_or(ReasonCode::Internal)?;
        let mut request = Request::new(Full::new(message));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, endpoint);
        let request = self.dressed(tenant, spec, request, carries)?;
        let (status, _, body) = self.ask(spec, request, &[]).await?;
        // Read, so that the connection can be used again; what it says comes as an event.
        let rest = Limited::new(body, ANSWER_MAX).collect();
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        match status {
            200..300 => Ok(()),
            _ => {
                tracing::warn!(status, "an old tool server does not take a message");
                Err(ReasonCode::UpstreamInvalid)
            }
        }
    }
}

/// Whether a message is one of those that carry nothing of an ask.
fn is_courtesy(message: &Bytes) -> bool {
    const METHODS: [&str; 3] = ["initialize", "notifications/initialized", "notifications/cancelled"];
    let Ok(root) = Node::parse(message, bartizan_base::json::Limits::default()) else { return false };
    let empty = |node: &Node| matches!(node, Node::Object(members, _) if members.is_empty());
    match root.member("method").map(|method| method.text(message)) {
        Some(method) => method.is_some_and(|method| METHODS.contains(&method.as_ref())),
        None => root.member("result").is_some_and(empty) || root.member("error").is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(base: &str, path: &str, named: &str) -> Result<String, ReasonCode> {
        let events: Uri = format!("{}{path}", base.trim_end_matches('/')).parse().unwrap();
        resolve(base, &events, named).map(|uri| uri.to_string())
    }

    #[test]
    fn lesson_litellm_cve_2024_6587_the_endpoint_event_does_not_lead_to_another_origin() {
        let base = "https://tools.example/acme";
        let good = led(base, "/sse", "/acme/messages?sessionId=1");
        assert_eq!(good.as_deref(), Ok("https://tools.example/acme/messages?sessionId=1"));
        assert_eq!(
            led(base, "/sse", "messages?s=1").as_deref(),
            Ok("https://tools.example/acme/messages?s=1")
        );
        assert_eq!(
            led(base, "/sse", "https://tools.example:443/acme/m").as_deref(),
            Ok("https://tools.example/acme/m")
        );
        for bad in [
            "https://evil.example/acme/messages",
            "//evil.example/acme/messages",
            "\\\\evil.example\\acme\\m",
            "http://tools.example/acme/messages",
            "https://tools.example:8443/acme/messages",
            "https://tools.example@evil.example/acme/m",
            "https://user:pw@tools.example/acme/m",
            "https://tools.example.evil.example/acme/m",
            "/other/messages",
            "/acme/../other/messages",
            "/acme/%2e%2e/other",
            "/acmeother/messages",
            "/acme/m#x",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "http://169.254.169.254/latest/meta-data",
            "/acme/m\nx-injected: 1",
            "",
        ] {
            assert_eq!(led(base, "/sse", bad), Err(ReasonCode::EgressForbidden), "{bad}");
        }
        assert!(led("http://127.0.0.1:9", "/sse", "/messages").is_ok());
        assert!(led("http://127.0.0.1:9", "/sse", "http://127.0.0.1:10/messages").is_err());
        assert!(led("http://127.0.0.1:9", "/sse", "http://localhost:9/messages").is_err());
    }

    #[test]
    fn only_what_opens_cancels_or_briefly_answers_leaves_without_an_ask() {
        let courteous = |text: &str| is_courtesy(&Bytes::copy_from_slice(text.as_bytes()));
        for good in [
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
            r#"{"jsonrpc":"2.0","id":"p","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"p","error":{"code":-32601,"message":"x"}}"#,
        ] {
            assert!(courteous(good), "{good}");
        }
        for bad in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":"p","result":{"content":[]}}"#,
            r#"[{"jsonrpc":"2.0","method":"notifications/initialized"}]"#,
            "x",
        ] {
            assert!(!courteous(bad), "{bad}");
        }
    }
}
