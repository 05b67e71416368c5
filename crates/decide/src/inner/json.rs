//! The few pieces of canonical JSON (RFC 8785) that documents of entities are made of. A writer of our own, because the usual
//! one passes numbers through floating point, and two entities that differ in a large number must not look alike.

use std::cmp::Ordering;

/// The order of member names: by UTF-16 code units.
pub(crate) fn by_name(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// A text with the shortest escapes.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        // Nearly every text.
        out.extend_from_slice(text.as_bytes());
    } else {
        text.bytes().for_each(|byte| write_escaped(byte, out));
    }
    out.push(b'"');
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        0x08 => out.extend_from_slice(b"\\b"),
        0x0c => out.extend_from_slice(b"\\f"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        _ => out.push(byte),
    }
}

/// A list of what is written already.
pub(super) fn write_list(items: &[Vec<u8>], out: &mut Vec<u8>) {
    out.push(b'[');
    out.extend_from_slice(&items.join(&b','));
    out.push(b']');
}
