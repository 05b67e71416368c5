//! What must be read of a JSON-RPC 2.0 message to pass it on. The rest of it stays as it came: changes are splices.

use std::borrow::Cow;

use bartizan_base::json::{JsonError, Limits};
use bartizan_wire::{Node, Span, splice};
use bytes::Bytes;

/// The longest id or progress token, in bytes.
const ID_MAX: usize = 256;

/// How deep and how large a message may be, beside its length.
pub(crate) const fn limits(bytes_max: usize) -> Limits {
    Limits { bytes_max, depth_max: 64, nodes_max: 200_000 }
}

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Notification,
    Response,
}

/// A message that was read.
#[derive(Debug)]
pub(crate) struct Message {
    bytes: Bytes,
    root: Node,
    pub(crate) kind: Kind,
}

/// Why something is no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    // Without what it quotes: this goes to the log.
    #[error("no JSON that is taken")]
    Json(#[from] JsonError),
    #[error("{0}")]
    Shape(&'static str),
}

impl Message {
    /// Reads one message; batches are none.
    pub(crate) fn read(bytes: Bytes, limits: Limits) -> Result<Self, Unread> {
        let root = Node::parse(&bytes, limits)?;
        if !matches!(root, Node::Object(..)) {
            return Err(Unread::Shape("a message is one JSON object"));
        }
        if root.member("jsonrpc").and_then(|v| v.text(&bytes)).as_deref() != Some("2.0") {
            return Err(Unread::Shape("`jsonrpc` must be \"2.0\""));
        }
        let id = root.member("id");
        if id.is_some_and(|id| identifier(id, &bytes).is_none()) {
            return Err(Unread::Shape("`id` must be text or a whole number"));
        }
        let method = root.member("method");
        if method.is_some_and(|m| m.text(&bytes).is_none()) {
            return Err(Unread::Shape("`method` must be text"));
        }
        let answers = (root.member("result").is_some(), root.member("error").is_some());
        let kind = match (method.is_some(), id.is_some(), answers) {
            (true, true, (false, false)) => Kind::Request,
            (true, false, (false, false)) => Kind::Notification,
            (false, true, (true, false) | (false, true)) => Kind::Response,
            _ => return Err(Unread::Shape("neither a request, nor a notification, nor a response")),
        };
        Ok(Self { bytes, root, kind })
    }

    pub(crate) fn method(&self) -> Option<Cow<'_, str>> {
        self.root.member("method")?.text(&self.bytes)
    }

    /// The id as it was written.
    pub(crate) fn id(&self) -> Option<&str> {
        identifier(self.root.member("id")?, &self.bytes)
    }

    pub(crate) fn id_span(&self) -> Option<Span> {
        self.root.member("id").map(Node::span)
    }

    pub(crate) fn is_error(&self) -> bool {
        self.root.member("error").is_some()
    }

    /// A value below `params`.
    pub(crate) fn param(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self.root.member("params")?, |node, name| node.member(name))
    }

    /// An id or token below `params`, as it was written.
    pub(crate) fn param_id(&self, path: &[&str]) -> Option<(&str, Span)> {
        let node = self.param(path)?;
        Some((identifier(node, &self.bytes)?, node.span()))
    }

    /// The bytes of `params`.
    pub(crate) fn params(&self) -> &[u8] {
        let span = self.root.member("params").map(Node::span);
        span.and_then(|(start, end)| self.bytes.get(start..end)).unwrap_or_default()
    }

    /// The message as one line, with numbers of ours at their places.
    pub(crate) fn numbered(&self, numbers: &[(Span, u64)]) -> Bytes {
        line(self.with(numbers.iter().map(|(span, number)| (*span, number.to_string())).collect()))
    }

    /// The message with pieces replaced.
    pub(crate) fn with(&self, edits: Vec<(Span, String)>) -> Bytes {
        splice(&self.bytes, edits)
    }

    /// The message under another id.
    pub(crate) fn under(&self, id: &str) -> Bytes {
        self.with(self.id_span().map(|span| (span, id.to_owned())).into_iter().collect())
    }
}

/// An id or token, if it is text or a whole number and not too long.
fn identifier<'a>(node: &Node, bytes: &'a [u8]) -> Option<&'a str> {
    let (start, end) = node.span();
    let raw = std::str::from_utf8(bytes.get(start..end)?).ok()?;
    let fits = match node {
        Node::String(_) => true,
        Node::Scalar(_) => raw.bytes().all(|b| b.is_ascii_digit() || b == b'-'),
        Node::Object(..) | Node::Array(..) => false,
    };
    (fits && raw.len() <= ID_MAX).then_some(raw)
}

/// The message as one line: line ends can only stand between values, where a space means the same.
fn line(message: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &message).is_none() {
        return message;
    }
    message.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Message, Unread> {
        Message::read(Bytes::copy_from_slice(text.as_bytes()), limits(1 << 16))
    }

    #[test]
    fn the_three_kinds_are_told_apart_and_mixtures_are_refused() {
        let kind = |text| read(text).unwrap().kind;
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#), Kind::Request);
        assert_eq!(kind(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), Kind::Notification);
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":"a","result":{}}"#), Kind::Response);
        for bad in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":2}"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            "Server started",
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lesson_envoy_ghsa_4gph_a_member_that_stands_twice_or_in_other_case_is_no_message() {
        assert!(read(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#).is_err());
        assert!(read(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1,"\u0061":2}}"#).is_err());
        assert!(read(r#"{"jsonrpc":"2.0","Id":1,"Method":"ping"}"#).is_err());
    }

    #[test]
    fn inv_credential_why_something_is_no_message_does_not_quote_it() {
        let told = read(r#"{"jsonrpc":"2.0","hunter2hunter2":1,"hunter2hunter2":2}"#).unwrap_err();
        assert!(!told.to_string().contains("hunter2"), "{told}");
    }

    #[test]
    fn a_message_over_several_lines_leaves_as_one_that_means_the_same() {
        let text = "{\n\"jsonrpc\":\"2.0\",\r\n\"id\":1,\n\"method\":\"x\",\"params\":{\"t\":\"a\\nb\"}\n}";
        let out = line(read(text).unwrap().under("7"));
        assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((value["id"].as_u64(), value["params"]["t"].as_str()), (Some(7), Some("a\nb")));
    }
}
