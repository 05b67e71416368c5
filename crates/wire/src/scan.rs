//! A strict JSON scanner that keeps positions: a tree of spans over the original bytes.
//!
//! Refused: invalid UTF-8, anything beyond RFC 8259, duplicate member names at any depth (after unescaping), and what goes
//! beyond the limits. The differential test holds it against `bartizan_base::json`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bartizan_base::json::{JsonError, Limits};

/// Where something stands in the document, in bytes.
pub type Span = (usize, usize);

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// An object: member names, unescaped, with their values; the span.
    Object(Vec<(String, Node)>, Span),
    /// An array and its span.
    Array(Vec<Node>, Span),
    /// A string: its span with quotes.
    String(Span),
    /// A number, `true`, `false` or `null`.
    Scalar(Span),
}

impl Node {
    /// Reads a document.
    ///
    /// # Errors
    /// [`JsonError`] as `bartizan_base::json::parse` gives it.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Self, JsonError> {
        if bytes.len() > limits.bytes_max {
            return Err(JsonError::TooLong(limits.bytes_max));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| JsonError::Syntax("not UTF-8".to_owned()))?;
        let mut scanner = Scanner { text, at: 0, nodes: 0, limits };
        let node = scanner.value(0)?;
        scanner.space();
        if scanner.at == bytes.len() {
            Ok(node)
        } else {
            Err(scanner.syntax("something follows the document"))
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn span(&self) -> Span {
        match self {
            Self::Object(_, span) | Self::Array(_, span) | Self::String(span) | Self::Scalar(span) => *span,
        }
    }

    /// A member of an object.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members, _) => members.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The items of an array; nothing for anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items, _) => items,
            _ => &[],
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn text<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
        let Self::String((start, end)) = self else { return None };
        let raw = std::str::from_utf8(bytes.get(*start..*end)?).ok()?;
        let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            serde_json::from_str(raw).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inner))
        }
    }

    /// The bytes of a scalar.
    #[must_use]
    pub fn scalar<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        let Self::Scalar((start, end)) = self else { return None };
        std::str::from_utf8(bytes.get(*start..*end)?).ok()
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self, bytes: &[u8]) -> bool {
        self.scalar(bytes) == Some("null")
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
    limits: Limits,
}

impl Scanner<'_> {
    fn syntax(&self, what: &str) -> JsonError {
        JsonError::Syntax(format!("{what} at byte {}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let hit = self.peek() == Some(byte);
        self.at += usize::from(hit);
        hit
    }

    fn value(&mut self, depth: usize) -> Result<Node, JsonError> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes_max {
            return Err(JsonError::TooMany(self.limits.nodes_max));
        }
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.object(depth + 1, start),
            Some(b'[') => self.array(depth + 1, start),
            Some(b'"') => self.string().map(Node::String),
            Some(_) => self.scalar().map(|()| Node::Scalar((start, self.at))),
            None => Err(self.syntax("the document ends")),
        }
    }

    fn enter(&self, depth: usize) -> Result<(), JsonError> {
        if depth > self.limits.depth_max { Err(JsonError::TooDeep(self.limits.depth_max)) } else { Ok(()) }
    }

    fn object(&mut self, depth: usize, start: usize) -> Result<Node, JsonError> {
        self.enter(depth)?;
        self.at += 1;
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        self.space();
        if !self.eat(b'}') {
            loop {
                self.space();
                if self.peek() != Some(b'"') {
                    return Err(self.syntax("a member name is missing"));
                }
                let name = self.string().map(Node::String)?;
                let name = name
                    .text(self.text.as_bytes())
                    .ok_or_else(|| self.syntax("a name cannot be read"))?
                    .into_owned();
                self.space();
                if !self.eat(b':') {
                    return Err(self.syntax("a colon is missing"));
                }
                let value = self.value(depth)?;
                // Few members are compared one by one; only large objects pay for a set.
                let twice = if members.len() < 16 {
                    members.iter().any(|(n, _)| *n == name)
                } else {
                    if names.is_empty() {
                        names.extend(members.iter().map(|(n, _)| n.clone()));
                    }
                    !names.insert(name.clone())
                };
                if twice {
                    return Err(JsonError::DuplicateKey(name));
                }
                members.push((name, value));
                self.space();
                if self.eat(b'}') {
                    break;
                }
                if !self.eat(b',') {
                    return Err(self.syntax("a comma is missing"));
                }
            }
        }
        Ok(Node::Object(members, (start, self.at)))
    }

    fn array(&mut self, depth: usize, start: usize) -> Result<Node, JsonError> {
        self.enter(depth)?;
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if !self.eat(b']') {
            loop {
                items.push(self.value(depth)?);
                self.space();
                if self.eat(b']') {
                    break;
                }
                if !self.eat(b',') {
                    return Err(self.syntax("a comma is missing"));
                }
            }
        }
        Ok(Node::Array(items, (start, self.at)))
    }

    /// A string with its quotes. Escapes are checked here, so that unescaping cannot fail later.
    fn string(&mut self) -> Result<Span, JsonError> {
        let start = self.at;
        self.at += 1;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let Some(offset) = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)) else {
                return Err(self.syntax("a string does not end"));
            };
            self.at += offset;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((start, self.at));
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.syntax("a control character stands in a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                let first = self.hex()?;
                match first {
                    0xdc00..=0xdfff => Err(self.syntax("half a surrogate pair")),
                    0xd800..=0xdbff => {
                        let low = (self.eat(b'\\') && self.eat(b'u')).then(|| self.hex()).transpose()?;
                        if low.is_some_and(|l| (0xdc00..=0xdfff).contains(&l)) {
                            Ok(())
                        } else {
                            Err(self.syntax("half a surrogate pair"))
                        }
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(self.syntax("an unknown escape")),
        }
    }

    fn hex(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = digits
            .and_then(|d| u32::from_str_radix(d, 16).ok())
            .ok_or_else(|| self.syntax("four hexadecimal digits are missing"))?;
        self.at += 4;
        Ok(value)
    }

    fn scalar(&mut self) -> Result<(), JsonError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        for word in ["true", "false", "null"] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(());
            }
        }
        self.number()
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.eat(b'-');
        let zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (zero && whole > 1) {
            return Err(self.syntax("not a value"));
        }
        if self.eat(b'.') && self.digits() == 0 {
            return Err(self.syntax("not a number"));
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            if self.digits() == 0 {
                return Err(self.syntax("not a number"));
            }
        }
        // What another reader would take for infinity is refused.
        let finite =
            self.text.get(start..self.at).and_then(|n| n.parse::<f64>().ok()).is_some_and(f64::is_finite);
        if finite { Ok(()) } else { Err(self.syntax("a number is out of range")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::json;
    use proptest::prelude::*;
    use serde_json::Value;

    fn tree(node: &Node, bytes: &[u8]) -> Value {
        match node {
            Node::Object(members, _) => members.iter().map(|(n, v)| (n.clone(), tree(v, bytes))).collect(),
            Node::Array(items, _) => items.iter().map(|v| tree(v, bytes)).collect(),
            Node::String(_) => node.text(bytes).unwrap().into_owned().into(),
            Node::Scalar(_) => serde_json::from_str(node.scalar(bytes).unwrap()).unwrap(),
        }
    }

    fn agree(bytes: &[u8], limits: Limits) {
        let ours = Node::parse(bytes, limits).map(|n| tree(&n, bytes));
        let theirs = json::parse(bytes, limits);
        match (&ours, &theirs) {
            (Ok(a), Ok(b)) => assert_eq!(a, b),
            (Err(_), Err(_)) => {}
            _ => panic!("{:?}: {ours:?} against {theirs:?}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn hostile_documents_are_read_as_the_reference_reads_them() {
        let limits = Limits { bytes_max: 200, depth_max: 4, nodes_max: 12 };
        for text in [
            "",
            " ",
            "{",
            "}",
            "{}",
            "[]",
            "[,]",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":1,\"\\u0061\":2}",
            "\"\\ud800\"",
            "\"\\ud83d\\ude00\"",
            "\"\\udc00\"",
            "\"\\x\"",
            "\"\u{1}\"",
            "\"a",
            "01",
            "-",
            "-0",
            "1.",
            ".5",
            "1e",
            "1e5",
            "1e999",
            "-1e999",
            "1E+2",
            "nul",
            "null",
            "true1",
            "[[[[1]]]]",
            "[[[[[1]]]]]",
            "[1,2,3,4,5,6,7,8,9,0,1]",
            "[1,2,3,4,5,6,7,8,9,0,1,2]",
            "\u{feff}{}",
            "{} {}",
            "\"\\u12\"",
            "{\"a\":{\"b\":1,\"b\":2}}",
            "\"\0\"",
            "NaN",
            "Infinity",
            "'a'",
            "// x\n1",
            "[1 2]",
            "\"\\uD83D\\u0041\"",
        ] {
            agree(text.as_bytes(), limits);
        }
        agree(b"\"\xff\"", limits);
        agree(&vec![b' '; 201], limits);
        agree("[".repeat(199).as_bytes(), limits);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn any_text_is_read_as_the_reference_reads_it(text in r#"([\[\]{}:, ]|"[ab\\u0061n]{0,4}"|-?[0-9.eE+]{1,4}|true|null){0,12}"#) {
            agree(text.as_bytes(), Limits { bytes_max: 100, depth_max: 3, nodes_max: 8 });
        }
    }

    #[test]
    fn a_large_object_with_a_late_duplicate_is_refused() {
        let members: Vec<String> = (0..100).map(|i| format!("\"m{i}\":0")).collect();
        let text = format!("{{{},\"m3\":1}}", members.join(","));
        assert_eq!(
            Node::parse(text.as_bytes(), Limits::default()),
            Err(JsonError::DuplicateKey("m3".to_owned()))
        );
    }
}
