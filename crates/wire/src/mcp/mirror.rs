//! Arguments that are repeated in headers (revision 2026-07-28, custom headers from tool parameters, SEP-2243).
//!
//! A definition can mark properties of its `inputSchema` with `x-mcp-header`: what stands there is then also said in a header
//! `Mcp-Param-NAME`, so that something on the way can go by it without reading bodies. Whoever acts on the body must see that both say
//! the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

/// The mark of a property.
const MARK: &str = "x-mcp-header";
/// What the names of such headers begin with.
const PREFIX: &str = "Mcp-Param-";
/// The largest whole number that every reader of JSON reads as the same one.
const SAFE: i64 = (1 << 53) - 1;
/// How deep properties are looked through, and how many may be marked.
const DEEP_MAX: usize = 32;
const MARKED_MAX: usize = 64;

pub(super) const OPENING: &str = "=?base64?";
pub(super) const CLOSING: &str = "?=";

/// Which arguments of a tool are repeated in headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrored(Vec<One>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct One {
    header: String,
    path: Vec<String>,
    kind: OfKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OfKind {
    Text,
    Whole,
    Truth,
}

/// Why a definition must not be used: its marks are none that everybody would read alike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// The name is no token (RFC 9110, 5.6.2).
    #[error("`x-mcp-header` is no name of a header")]
    Name,
    /// Two properties are marked with one name; case does not tell them apart.
    #[error("`x-mcp-header` stands twice with one name")]
    Twice,
    /// The property is no text, whole number or boolean.
    #[error("`x-mcp-header` stands on something else than a string, an integer or a boolean")]
    Kind,
    /// The mark stands where it depends on something which property is meant.
    #[error("`x-mcp-header` stands elsewhere than at a property that is always the same one")]
    Place,
    /// More marks, or deeper ones, than anybody needs.
    #[error("`x-mcp-header` stands too often or too deep")]
    TooMany,
}

/// Why a call must not be made: its headers and its arguments do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is missing, or does not say what the argument says")]
pub struct MirrorError(pub String);

impl Mirrored {
    /// The marks of a definition, as JSON.
    ///
    /// # Errors
    /// [`MarkError`]: such a tool is to be left out.
    pub fn of(definition: &Value) -> Result<Self, MarkError> {
        let mut out = Self::default();
        if let Some(schema) = definition.get("inputSchema") {
            out.gather(schema, &mut Vec::new())?;
        }
        Ok(out)
    }

    fn gather(&mut self, schema: &Value, path: &mut Vec<String>) -> Result<(), MarkError> {
        let Value::Object(schema) = schema else { return Ok(()) };
        if path.len() > DEEP_MAX {
            return if schema.values().any(|value| is_marked(value, 0)) {
                Err(MarkError::TooMany)
            } else {
                Ok(())
            };
        }
        for (keyword, value) in schema {
            match (keyword.as_str(), value) {
                ("properties", Value::Object(properties)) => {
                    for (name, property) in properties {
                        path.push(name.clone());
                        self.mark(property, path)?;
                        self.gather(property, path)?;
                        path.pop();
                    }
                }
                // Taken care of where the property is; the root is none.
                (MARK, _) if !path.is_empty() => {}
                // What stands in values is data, whatever it is called.
                ("default" | "const" | "enum" | "examples", _) => {}
                (MARK, _) => return Err(MarkError::Place),
                (_, value) if is_marked(value, 0) => return Err(MarkError::Place),
                _ => {}
            }
        }
        Ok(())
    }

    fn mark(&mut self, property: &Value, path: &[String]) -> Result<(), MarkError> {
        let Some(mark) = property.get(MARK) else { return Ok(()) };
        let name = mark.as_str().filter(|name| is_token(name)).ok_or(MarkError::Name)?;
        let header = format!("{PREFIX}{name}");
        if self.0.iter().any(|one| one.header.eq_ignore_ascii_case(&header)) {
            return Err(MarkError::Twice);
        }
        let kind = match property.get("type").and_then(Value::as_str) {
            Some("string") => OfKind::Text,
            Some("integer") => OfKind::Whole,
            Some("boolean") => OfKind::Truth,
            _ => return Err(MarkError::Kind),
        };
        if self.0.len() >= MARKED_MAX {
            return Err(MarkError::TooMany);
        }
        self.0.push(One { header, path: path.to_vec(), kind });
        Ok(())
    }

    /// Whether nothing is repeated.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers that `arguments` are sent with: names and values. What is absent or null has none.
    ///
    /// # Errors
    /// [`MirrorError`] where an argument is of another kind than its schema says, so that nobody could say it in a header.
    pub fn headers(&self, arguments: &Map<String, Value>) -> Result<Vec<(String, String)>, MirrorError> {
        let mut out = Vec::new();
        for one in &self.0 {
            let Some(value) = one.given(arguments) else { continue };
            let said = one.said(value).ok_or_else(|| MirrorError(one.header.clone()))?;
            out.push((one.header.clone(), encode(&said)));
        }
        Ok(out)
    }

    /// Sees that headers say what `arguments` say. `header` gives the value of a header, of names in any case, or fails where it stands
    /// twice.
    ///
    /// # Errors
    /// [`MirrorError`].
    pub fn check<'h>(
        &self,
        arguments: &Map<String, Value>,
        header: impl Fn(&str) -> Result<Option<&'h str>, MirrorError>,
    ) -> Result<(), MirrorError> {
        for one in &self.0 {
            let same = match (one.given(arguments), header(&one.header)?) {
                (None, None) => true,
                (Some(value), Some(header)) => decode(header).is_some_and(|said| one.is_said(value, &said)),
                _ => false,
            };
            if !same {
                return Err(MirrorError(one.header.clone()));
            }
        }
        Ok(())
    }
}

impl One {
    fn given<'a>(&self, arguments: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.path.split_first()?;
        let value = rest.iter().try_fold(arguments.get(first)?, |value, name| value.get(name))?;
        (!value.is_null()).then_some(value)
    }

    fn said(&self, value: &Value) -> Option<String> {
        match (self.kind, value) {
            (OfKind::Text, Value::String(text)) => Some(text.clone()),
            (OfKind::Truth, Value::Bool(truth)) => Some(truth.to_string()),
            (OfKind::Whole, value) => whole(value).map(|number| number.to_string()),
            _ => None,
        }
    }

    fn is_said(&self, value: &Value, said: &str) -> bool {
        match self.kind {
            // `42` and `42.0` are one number.
            OfKind::Whole => {
                let said = serde_json::from_str::<Value>(said).ok();
                said.and_then(|said| whole(&said)).is_some_and(|said| whole(value) == Some(said))
            }
            _ => self.said(value).as_deref() == Some(said),
        }
    }
}

/// A whole number that is the same for every reader.
fn whole(value: &Value) -> Option<i64> {
    let number = match value.as_i64() {
        Some(number) => number,
        None => {
            let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= 1e16)?;
            format!("{float:.0}").parse().ok()?
        }
    };
    (-SAFE..=SAFE).contains(&number).then_some(number)
}

fn is_token(name: &str) -> bool {
    let special = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || special(b))
}

/// Whether a mark stands anywhere in a schema.
fn is_marked(value: &Value, depth: usize) -> bool {
    match value {
        // So deep that nobody has looked: taken for marked.
        Value::Object(_) | Value::Array(_) if depth > 2 * DEEP_MAX => true,
        Value::Object(members) => {
            members.contains_key(MARK) || members.values().any(|value| is_marked(value, depth + 1))
        }
        Value::Array(items) => items.iter().any(|item| is_marked(item, depth + 1)),
        _ => false,
    }
}

fn encode(value: &str) -> String {
    let plain = value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && value.trim() == value;
    let looks_encoded = value.starts_with(OPENING) && value.ends_with(CLOSING);
    if plain && !looks_encoded {
        return value.to_owned();
    }
    format!("{OPENING}{}{CLOSING}", BASE64.encode(value))
}

pub(super) fn decode(header: &str) -> Option<String> {
    match header.strip_prefix(OPENING).and_then(|rest| rest.strip_suffix(CLOSING)) {
        None => Some(header.to_owned()),
        Some(encoded) => String::from_utf8(BASE64.decode(encoded).ok()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn tool(properties: &Value) -> Value {
        json!({"name": "a", "inputSchema": {"type": "object", "properties": properties}})
    }

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn check(marks: &Mirrored, arguments: &Value, headers: &[(&str, &str)]) -> Result<(), MirrorError> {
        marks.check(&object(arguments), |name| {
            let found = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
            Ok(found.map(|(_, value)| *value))
        })
    }

    #[test]
    fn marked_arguments_are_said_in_headers_and_nothing_else_is() {
        let marks = Mirrored::of(&tool(&json!({
            "region": {"type": "string", "x-mcp-header": "Region"},
            "priority": {"type": "integer", "x-mcp-header": "Priority"},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
            "query": {"type": "string"},
            "place": {"type": "object", "properties": {"city": {"type": "string", "x-mcp-header": "City"}}},
        })))
        .unwrap();
        let all = json!({"region": "us west 1", "priority": 42.0, "dry": false, "query": "q", "place": {"city": "Hello, 世界"}});
        let headers = marks.headers(&object(&all)).unwrap();
        let expected = [
            ("Mcp-Param-City", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            ("Mcp-Param-Dry", "false"),
            ("Mcp-Param-Priority", "42"),
            ("Mcp-Param-Region", "us west 1"),
        ];
        let mut told: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        told.sort_unstable();
        assert_eq!(told, expected);
        assert_eq!(check(&marks, &all, &expected), Ok(()));
        assert_eq!(marks.headers(&object(&json!({"region": null, "query": "q"}))), Ok(Vec::new()));
        // What cannot be said is not sent.
        for wrong in [
            json!({"priority": 9_007_199_254_740_993_i64}),
            json!({"priority": 1.5}),
            json!({"priority": "1"}),
            json!({"region": 1}),
            json!({"dry": "true"}),
        ] {
            assert!(marks.headers(&object(&wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_that_say_anything_else_than_the_arguments_are_refused() {
        let marks = Mirrored::of(&tool(&json!({
            "region": {"type": "string", "x-mcp-header": "Region"},
            "n": {"type": "integer", "x-mcp-header": "N"},
        })))
        .unwrap();
        let hello = json!({"region": "Hello"});
        for good in ["Hello", "=?base64?SGVsbG8=?="] {
            assert_eq!(check(&marks, &hello, &[("mcp-param-region", good)]), Ok(()), "{good}");
        }
        for bad in [
            "hello",
            "=?base64?SGVsbG8?=",
            "=?base64?SGVs!!!bG8=?=",
            "SGVsbG8=",
            "",
            "=?base64?/w==?=",
            "Hello ",
        ] {
            assert!(check(&marks, &hello, &[("mcp-param-region", bad)]).is_err(), "{bad}");
        }
        assert!(check(&marks, &hello, &[]).is_err(), "left out");
        assert!(
            check(&marks, &json!({}), &[("mcp-param-region", "Hello")]).is_err(),
            "of an argument that is not there"
        );
        assert!(check(&marks, &json!({"region": null}), &[("mcp-param-region", "null")]).is_err());
        assert_eq!(check(&marks, &json!({"region": null}), &[]), Ok(()));
        // Without its closing it is no encoding, but a text as it stands.
        let literal = json!({"region": "=?base64?SGVsbG8="});
        assert_eq!(check(&marks, &literal, &[("mcp-param-region", "=?base64?SGVsbG8=")]), Ok(()));
        let number = json!({"n": 42});
        for (said, same) in
            [("42", true), ("42.0", true), ("4.2e1", true), ("43", false), ("0x2a", false), ("\"42\"", false)]
        {
            assert_eq!(check(&marks, &number, &[("mcp-param-n", said)]).is_ok(), same, "{said}");
        }
    }

    #[test]
    fn a_definition_whose_marks_could_be_read_in_two_ways_is_not_used() {
        let bad = |property: Value| Mirrored::of(&tool(&json!({"value": property}))).unwrap_err();
        for name in ["", "My Region", "Region:Primary", "Région", "Region\t1", "a\r\nX: y"] {
            assert_eq!(bad(json!({"type": "string", "x-mcp-header": name})), MarkError::Name, "{name:?}");
        }
        assert_eq!(bad(json!({"type": "string", "x-mcp-header": 7})), MarkError::Name);
        for kind in [
            json!("number"),
            json!("object"),
            json!("array"),
            json!("null"),
            json!(["string", "null"]),
            Value::Null,
        ] {
            assert_eq!(bad(json!({"type": kind, "x-mcp-header": "A"})), MarkError::Kind, "{kind}");
        }
        let marked = json!({"type": "string", "x-mcp-header": "A"});
        for (name, other) in [("A", MarkError::Twice), ("a", MarkError::Twice)] {
            let two = json!({"one": marked, "two": {"type": "string", "x-mcp-header": name}});
            assert_eq!(Mirrored::of(&tool(&two)).unwrap_err(), other);
        }
        for elsewhere in [
            json!({"type": "array", "items": marked}),
            json!({"anyOf": [marked]}),
            json!({"additionalProperties": marked}),
            json!({"then": {"properties": {"b": marked}}}),
            json!({"$defs": {"a": marked}}),
        ] {
            assert_eq!(bad(elsewhere.clone()), MarkError::Place, "{elsewhere}");
        }
        let root = json!({"inputSchema": {"type": "object", "x-mcp-header": "A"}});
        assert_eq!(Mirrored::of(&root).unwrap_err(), MarkError::Place);
        let data = json!({"value": {"type": "object", "default": {"x-mcp-header": "A"}}});
        assert!(Mirrored::of(&tool(&data)).unwrap().is_empty(), "data is no mark");
    }

    proptest! {
        /// Whatever an argument is, what we say of it is what we read of it, and fits into a header.
        #[test]
        fn what_is_said_of_an_argument_is_read_as_the_same(
            text in "\\PC{0,12}|[ -~\\t\\r\\n]{0,12}|=\\?base64\\?[a-zA-Z=]{0,6}\\?=",
            number in -SAFE..=SAFE, truth: bool,
        ) {
            let marks = Mirrored::of(&tool(&json!({
                "t": {"type": "string", "x-mcp-header": "T"}, "n": {"type": "integer", "x-mcp-header": "N"},
                "b": {"type": "boolean", "x-mcp-header": "B"},
            }))).unwrap();
            let arguments = json!({"t": text, "n": number, "b": truth});
            let headers = marks.headers(&object(&arguments)).unwrap();
            prop_assert_eq!(headers.len(), 3);
            for (_, value) in &headers {
                prop_assert!(value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && value.trim() == value);
            }
            let pairs: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            prop_assert_eq!(check(&marks, &arguments, &pairs), Ok(()));
        }
    }
}
