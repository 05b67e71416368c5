//! Replacing pieces of a document.

use bytes::Bytes;

use crate::scan::Span;

/// The document with each span replaced. Spans must not overlap; those that do are an error of ours and leave the later one
/// out, which the property tests would show.
#[must_use]
pub fn splice(bytes: &Bytes, mut edits: Vec<(Span, String)>) -> Bytes {
    if edits.is_empty() {
        return bytes.clone();
    }
    edits.sort_by_key(|((start, end), _)| (*start, *end));
    let mut out = Vec::with_capacity(bytes.len() + edits.iter().map(|(_, t)| t.len()).sum::<usize>());
    let mut from = 0;
    for ((start, end), text) in edits {
        if start < from {
            continue;
        }
        out.extend_from_slice(bytes.get(from..start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        from = end;
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    out.into()
}

/// A JSON string literal.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
