//! An answer on its way out that may be kept: only once it is whole, and only if it is an answer.

use bartizan_base::{Digest, Name};
use bartizan_model::{DecisionId, Label};
use bartizan_wire::Framing;
use bytes::BytesMut;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::cache::answers::{Kept, Lead};
use crate::metrics::Cached;

/// Collects what is released. Dropped before its end nothing is kept: of an answer that was broken off, ended, or too long.
#[derive(Debug)]
pub(crate) struct Filling {
    lead: Lead,
    label: Label,
    max_age_us: u64,
    fetched: Option<Fetched>,
    collected: BytesMut,
}

/// Where it comes from, and as what.
#[derive(Debug)]
struct Fetched {
    of: DecisionId,
    upstream: Name,
    content_type: HeaderValue,
    streamed: bool,
}

impl Filling {
    pub(crate) fn new(lead: Lead, label: Label, max_age_us: u64) -> Self {
        Self { lead, label, max_age_us, fetched: None, collected: BytesMut::new() }
    }

    /// Goes on if what an upstream answered may be kept at all: an answer in JSON, or as a stream of events, to the decision `of`.
    pub(crate) fn begun(
        mut self,
        (of, upstream): (DecisionId, &Name),
        (status, headers): (u16, &HeaderMap),
        framing: Option<Framing>,
    ) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.clone();
        let media = content_type.to_str().ok()?;
        let media = media.split(';').next().unwrap_or_default().trim();
        let streamed = match framing {
            Some(Framing::Events) => true,
            None if media.eq_ignore_ascii_case("application/json") => false,
            _ => return None,
        };
        if status != 200 || headers.contains_key("content-encoding") {
            return None;
        }
        self.fetched = Some(Fetched { of, upstream: upstream.clone(), content_type, streamed });
        Some(self)
    }

    /// Takes what was released; false from where it is too long to be kept.
    pub(crate) fn feed(&mut self, released: &[u8]) -> bool {
        let answers = self.lead.answers();
        let fits = self.collected.len().saturating_add(released.len()) <= answers.body_max();
        if fits {
            self.collected.extend_from_slice(released);
        } else {
            answers.metrics.cached(Cached::TooLong, 1);
        }
        fits
    }

    /// All of it was released: keeps it, if it is a whole answer.
    pub(crate) fn done(self, redacted: u64) {
        let Some(Fetched { of, upstream, content_type, streamed }) = self.fetched else { return };
        let body = self.collected.freeze();
        if !(if streamed { is_whole_stream(&body) } else { is_answer(&body) }) {
            return;
        }
        let at_us = self.lead.answers().now_us();
        let until_us = at_us.saturating_add(self.max_age_us);
        let digest = Digest::of(&body);
        let label = self.label;
        self.lead.keep(Kept { of, upstream, label, content_type, body, digest, redacted, at_us, until_us });
    }
}

/// Whether it is an answer, not an error that was sent as one, and one that came to its end.
fn is_answer(body: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(members)) => {
            let ended = members.get("status").is_none_or(|status| status == "completed");
            let is_error = members.get("type").is_some_and(|kind| kind == "error");
            ended && !is_error && members.get("error").is_none_or(Value::is_null)
        }
        _ => false,
    }
}

/// Whether a stream says itself that it is over and that nothing went wrong. Dialects whose streams do not say so are not kept.
fn is_whole_stream(body: &[u8]) -> bool {
    let (mut over, mut event) = (false, &b""[..]);
    for line in body.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let value = |name: &[u8]| Some(line.strip_prefix(name)?.strip_prefix(b":")?.trim_ascii());
        if let Some(name) = value(b"event") {
            event = name;
        } else if let Some(data) = value(b"data") {
            // Something behind the end is not what was told as the end.
            if over || event == b"error" {
                return false;
            }
            if data == b"[DONE]" || matches!(event, b"message_stop" | b"response.completed") {
                over = true;
            } else if memchr::memmem::find(data, b"error").is_some() && !is_frame(data) {
                return false;
            }
        } else if line.is_empty() {
            event = b"";
        }
    }
    over
}

/// Whether the data of an event is anything but an error.
fn is_frame(data: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(data) {
        Ok(Value::Object(members)) => {
            let is_error = members.get("type").is_some_and(|kind| kind == "error");
            !is_error && members.get("error").is_none_or(Value::is_null)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_came_to_their_end_are_kept() {
        for (body, whole) in [
            (r#"{"choices":[{"message":{"content":"an error"}}]}"#, true),
            (r#"{"status":"completed","error":null,"output":[]}"#, true),
            (r#"{"status":"incomplete","error":null,"output":[]}"#, false),
            (r#"{"status":"in_progress","output":[]}"#, false),
            (r#"{"error":{"message":"overloaded"}}"#, false),
            (r#"{"type":"error","error":null}"#, false),
            (r#"{"choices":[{"message":{"content":"cut o"#, false),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(is_answer(body.as_bytes()), whole, "{body}");
        }
    }

    #[test]
    fn only_streams_that_say_that_they_are_over_are_kept() {
        let chunk = "data: {\"choices\":[{\"delta\":{\"content\":\"error\"}}]}\n\n";
        for (body, whole) in [
            (format!("{chunk}data: [DONE]\n\n"), true),
            (format!("{chunk}data: [DONE]\r\n\r\n"), true),
            ("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned(), true),
            ("event: response.completed\ndata: {}\n\n".to_owned(), true),
            (chunk.to_owned(), false),
            (String::new(), false),
            (format!("{chunk}data: {{\"error\":{{\"code\":502}}}}\n\ndata: [DONE]\n\n"), false),
            (format!("{chunk}event: error\ndata: {{}}\n\nevent: message_stop\ndata: {{}}\n\n"), false),
            (format!("{chunk}data: [DONE]\n\n{chunk}"), false),
            ("event: response.failed\ndata: {\"response\":{}}\n\n".to_owned(), false),
            ("event: response.incomplete\ndata: {\"response\":{}}\n\n".to_owned(), false),
            // The word in what somebody says is not the end.
            ("data: {\"choices\":[{\"delta\":{\"content\":\"data: [DONE]\"}}]}\n\n".to_owned(), false),
        ] {
            assert_eq!(is_whole_stream(body.as_bytes()), whole, "{body}");
        }
    }
}
