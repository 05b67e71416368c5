//! Patterns of subjects of other platforms: Kubernetes, CI systems, SPIFFE.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest subject or pattern, in bytes: a SPIFFE identity has at most as many.
const SUBJECT_MAX: usize = 2_048;

/// Which subjects are meant: `system:serviceaccount:payments:*`, `repo:acme/app:ref:refs/heads/main`,
/// `spiffe://acme.example/ns/*/sa/api`. A `*` stands for one or more characters within one segment; segments end at `/` and `:`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectPattern(Box<str>);

/// The text is not a pattern of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty, too long, with white space or control characters, or with two stars side by side.
    #[error("a pattern of subjects is 1 to 2,048 visible characters, without `**`")]
    Text,
    /// It would let everybody in: nothing but `*`.
    #[error("a pattern of subjects says more than `*`")]
    Everybody,
}

const fn is_border(byte: u8) -> bool {
    matches!(byte, b'/' | b':')
}

impl SubjectPattern {
    /// Whether `subject` is one of those that are meant. In time linear in its length, for every pattern.
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        if subject.is_empty() || subject.len() > SUBJECT_MAX {
            return false;
        }
        // Borders of both must be the same, one for one, so that no `*` reaches beyond its segment.
        let (mut pattern, mut text) = (self.0.as_bytes(), subject.as_bytes());
        loop {
            let (one, border, rest) = segment(pattern);
            let (other, other_border, other_rest) = segment(text);
            if border != other_border || !within(one, other) {
                return false;
            }
            if border.is_none() {
                return true;
            }
            (pattern, text) = (rest, other_rest);
        }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first segment, the border that ends it, and what follows.
fn segment(text: &[u8]) -> (&[u8], Option<u8>, &[u8]) {
    let end = text.iter().position(|b| is_border(*b)).unwrap_or(text.len());
    let (one, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    match rest.split_first() {
        Some((border, rest)) => (one, Some(*border), rest),
        None => (one, None, &[]),
    }
}

/// Whether a segment fits: the pieces between stars in their order, and at least one character for every star.
fn within(pattern: &[u8], text: &[u8]) -> bool {
    let mut pieces = pattern.split(|b| *b == b'*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        // The character that the star stands for at least.
        let Some((_, after)) = rest.split_first() else { return false };
        if pieces.peek().is_none() {
            return after.ends_with(piece);
        }
        let at = if piece.is_empty() { Some(0) } else { after.windows(piece.len()).position(|w| w == piece) };
        let Some(left) = at.and_then(|at| after.get(at + piece.len()..)) else { return false };
        rest = left;
    }
    false
}

impl FromStr for SubjectPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let plain = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
        if text.is_empty() || text.len() > SUBJECT_MAX || !plain || text.contains("**") {
            return Err(PatternError::Text);
        }
        if text.bytes().all(|b| b == b'*' || is_border(b)) {
            return Err(PatternError::Everybody);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SubjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SubjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for SubjectPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SubjectPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for SubjectPattern {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SubjectPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": SUBJECT_MAX})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> SubjectPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_stays_within_its_segment_and_stands_for_something() {
        let accounts = pattern("system:serviceaccount:payments:*");
        assert!(accounts.matches("system:serviceaccount:payments:api"));
        for other in [
            "system:serviceaccount:payments:",
            "system:serviceaccount:payments:api:more",
            "system:serviceaccount:payments:a/b",
            "system:serviceaccount:paymentsx:api",
            "xsystem:serviceaccount:payments:api",
            "system:serviceaccount:payments",
            "",
        ] {
            assert!(!accounts.matches(other), "{other}");
        }
        let branches = pattern("repo:acme/*:ref:refs/heads/release-*");
        assert!(branches.matches("repo:acme/app:ref:refs/heads/release-1"));
        // Who may name a branch or repository must not reach another one by it.
        assert!(!branches.matches("repo:acme/app:ref:refs/heads/x/release-1"));
        assert!(!branches.matches("repo:acme/app:pull_request:ref:refs/heads/release-1"));
        let identity = pattern("spiffe://acme.example/ns/*/sa/api");
        assert!(identity.matches("spiffe://acme.example/ns/prod/sa/api"));
        for other in [
            "spiffe://acme.example.evil/ns/prod/sa/api",
            "spiffe://acme.example/ns/a/b/sa/api",
            "spiffe://other.example/ns/prod/sa/api",
            "https://acme.example/ns/prod/sa/api",
            "spiffe://acme.example/ns//sa/api",
        ] {
            assert!(!identity.matches(other), "{other}");
        }
    }

    #[test]
    fn a_pattern_that_would_let_everybody_in_is_refused() {
        for bad in ["*", "*:*", "*/*", "/", "::"] {
            assert_eq!(bad.parse::<SubjectPattern>(), Err(PatternError::Everybody), "{bad}");
        }
        for bad in ["", "a b", "a\nb", "a**b"] {
            assert_eq!(bad.parse::<SubjectPattern>(), Err(PatternError::Text), "{bad:?}");
        }
    }

    /// The obvious meaning, by trying everything.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), Some((c, left))) if !matches!(c, '/' | ':') => {
                naive(rest, left) || naive(pattern, left)
            }
            (Some((a, rest)), Some((b, left))) if a == b && *a != '*' => naive(rest, left),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_trying_everything_says(pattern in "[ab*:/é]{1,9}", text in "[ab*:/é]{0,9}") {
            if let Ok(parsed) = pattern.parse::<SubjectPattern>() {
                let chars = |t: &str| t.chars().collect::<Vec<_>>();
                prop_assert_eq!(parsed.matches(&text), naive(&chars(&pattern), &chars(&text)));
            }
        }

        #[test]
        fn a_text_without_stars_means_itself_alone(text in "[a-z:/.-]{1,20}", other in "[a-z:/.-]{1,20}") {
            if let Ok(parsed) = text.parse::<SubjectPattern>() {
                prop_assert!(parsed.matches(&text));
                prop_assert_eq!(parsed.matches(&other), text == other);
            }
        }

        #[test]
        fn what_fills_a_star_never_holds_a_border(filled in "[a-z:/]{0,8}") {
            let fits = pattern("ns:*:sa").matches(&format!("ns:{filled}:sa"));
            prop_assert_eq!(fits, !filled.is_empty() && !filled.contains([':', '/']));
        }
    }
}
