//! What all keys of signed notes share: names, key ids and the text form `name+id+base64` (C2SP signed-note).

use bartizan_base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The first four bytes of a hash over name, type and public key: with the name they say which key has signed.
pub(crate) type KeyId = [u8; 4];

/// A verifier key as its text says, its id checked; the type is for the caller to judge.
pub(crate) struct KeyText {
    pub(crate) name: String,
    pub(crate) id: KeyId,
    pub(crate) kind: u8,
    pub(crate) public: Vec<u8>,
}

impl KeyText {
    /// Reads `name+id+base64(type || public key)`; nothing if it is not that or its id is another key's.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let bytes = STANDARD.decode(key).ok()?;
        let (&kind, public) = bytes.split_first()?;
        let expected = key_id(name, kind, public);
        if !valid_name(name) || id != format!("{:08x}", u32::from_be_bytes(expected)) {
            return None;
        }
        Some(Self { name: name.to_owned(), id: expected, kind, public: public.to_vec() })
    }
}

/// The text form of a key.
pub(crate) fn key_text(name: &str, id: KeyId, kind: u8, public: &[u8]) -> String {
    let key = STANDARD.encode([&[kind], public].concat());
    format!("{name}+{:08x}+{key}", u32::from_be_bytes(id))
}

pub(crate) fn key_id(name: &str, kind: u8, public: &[u8]) -> KeyId {
    let digest = Digest::of_parts(&[name.as_bytes(), b"\n", &[kind], public]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

pub(crate) fn valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('+') && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// A signature line, with its line feed.
pub(crate) fn signature_line(name: &str, id: KeyId, signature: &[u8]) -> String {
    format!("\u{2014} {name} {}\n", STANDARD.encode([&id, signature].concat()))
}
