//! JSON at the edges: strict on the way in, canonical where it is hashed or signed.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Number, Value};

/// Bounds of a document, checked while it is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The document's length in bytes.
    pub bytes_max: usize,
    /// How deep arrays and objects may nest; the outermost counts one.
    pub depth_max: usize,
    /// How many values the document may hold in all.
    pub nodes_max: usize,
}

impl Default for Limits {
    /// 1 MiB, 32 levels, 100,000 values: for configuration and control requests.
    fn default() -> Self {
        Self { bytes_max: 1 << 20, depth_max: 32, nodes_max: 100_000 }
    }
}

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Longer than the limit in bytes.
    #[error("document is longer than {0} bytes")]
    TooLong(usize),
    /// Nested deeper than the limit.
    #[error("document is nested deeper than {0} levels")]
    TooDeep(usize),
    /// More values than the limit.
    #[error("document holds more than {0} values")]
    TooMany(usize),
    /// A member name stands twice in one object; two readers could disagree about its value.
    #[error("member `{0}` stands twice in one object")]
    DuplicateKey(String),
    /// Not JSON (RFC 8259), or not UTF-8; where, and what the reader said.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// Valid JSON of another shape than expected.
    #[error("{0}")]
    Shape(String),
}

/// Reads one document: duplicate member names and everything beyond `limits` are refused.
///
/// # Errors
/// [`JsonError`] says which bound or rule was broken.
pub fn parse(bytes: &[u8], limits: Limits) -> Result<Value, JsonError> {
    if bytes.len() > limits.bytes_max {
        return Err(JsonError::TooLong(limits.bytes_max));
    }
    let mut budget = Budget { limits, nodes: 0, broken: None };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let result = Strict { budget: &mut budget, depth: 0 }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match (result, budget.broken) {
        (_, Some(broken)) => Err(broken),
        (Ok(value), None) => Ok(value),
        (Err(error), None) => Err(JsonError::Syntax(error.to_string())),
    }
}

/// Reads one document into a type, under the same rules as [`parse`].
///
/// # Errors
/// [`JsonError::Shape`] when the document does not fit the type; otherwise as [`parse`].
pub fn parse_as<T: DeserializeOwned>(bytes: &[u8], limits: Limits) -> Result<T, JsonError> {
    serde_json::from_value(parse(bytes, limits)?).map_err(|error| JsonError::Shape(error.to_string()))
}

/// Writes `value` in canonical form (JCS, RFC 8785).
///
/// # Errors
/// When `value` cannot be written as JSON, such as a map whose keys are not text.
pub fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    serde_json_canonicalizer::to_vec(value).map_err(|error| JsonError::Shape(error.to_string()))
}

struct Budget {
    limits: Limits,
    nodes: usize,
    broken: Option<JsonError>,
}

struct Strict<'a> {
    budget: &'a mut Budget,
    depth: usize,
}

impl Strict<'_> {
    fn refuse<E: de::Error>(&mut self, error: JsonError) -> E {
        let message = E::custom(&error);
        self.budget.broken.get_or_insert(error);
        message
    }

    fn enter<E: de::Error>(&mut self) -> Result<usize, E> {
        let depth = self.depth + 1;
        if depth > self.budget.limits.depth_max {
            return Err(self.refuse(JsonError::TooDeep(self.budget.limits.depth_max)));
        }
        Ok(depth)
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Value, D::Error> {
        self.budget.nodes += 1;
        if self.budget.nodes > self.budget.limits.nodes_max {
            return Err(self.refuse(JsonError::TooMany(self.budget.limits.nodes_max)));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("number is not finite"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.enter()?;
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(Strict { budget: self.budget, depth })? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        let depth = self.enter()?;
        let mut out = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Strict { budget: self.budget, depth })?;
            if out.contains_key(&name) {
                return Err(self.refuse(JsonError::DuplicateKey(name)));
            }
            out.insert(name, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn duplicate_members_are_refused_at_every_depth() {
        for text in [r#"{"a":1,"a":2}"#, r#"[{"x":{"b":1,"\u0062":2}}]"#] {
            assert!(
                matches!(parse(text.as_bytes(), Limits::default()), Err(JsonError::DuplicateKey(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn limits_on_length_depth_and_count_hold() {
        let limits = Limits { bytes_max: 20, depth_max: 2, nodes_max: 4 };
        assert_eq!(parse(b"[[1,2]]", limits), Ok(serde_json::json!([[1, 2]])));
        assert_eq!(parse(b"[[[1]]]", limits), Err(JsonError::TooDeep(2)));
        assert_eq!(parse(b"[1,2,3,4]", limits), Err(JsonError::TooMany(4)));
        assert_eq!(parse(b"[                    ]", limits), Err(JsonError::TooLong(20)));
    }

    #[test]
    fn trailing_bytes_and_invalid_utf8_are_refused() {
        for bytes in [&b"{} {}"[..], b"\"\xff\"", b"", b"nul", b"1e999"] {
            assert!(matches!(parse(bytes, Limits::default()), Err(JsonError::Syntax(_))), "{bytes:?}");
        }
    }

    #[test]
    fn very_deep_documents_are_refused_not_crashed_on() {
        let deep = "[".repeat(500_000);
        assert!(
            parse(deep.as_bytes(), Limits { bytes_max: 1 << 20, depth_max: 100_000, nodes_max: 1 << 20 })
                .is_err()
        );
    }

    #[test]
    fn canonical_form_sorts_members_and_drops_space() {
        assert_eq!(
            canonical(&serde_json::json!({"b": 1, "a": "é\n"})).unwrap(),
            "{\"a\":\"é\\n\",\"b\":1}".as_bytes()
        );
    }

    proptest! {
        #[test]
        fn strict_reading_agrees_with_serde_json(text in r#"(\{"a":[1-9][0-9]{0,2},"b":\[(true|null|"x")(,[0-9])*\]\})"#) {
            let expected: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(parse(text.as_bytes(), Limits::default()), Ok(expected));
        }
    }
}
