//! Schemas of arguments: JSON Schema, bounded, compiled once, with regular expressions in linear time and nothing fetched.

use bartizan_base::json;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::typed;

/// Bounds on a schema.
const LIMITS: json::Limits = json::Limits { bytes_max: 256 << 10, depth_max: 32, nodes_max: 10_000 };
/// Bytes of the program of one regular expression.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Characters of a complaint that are told.
const TOLD_MAX: usize = 300;

/// A schema of the arguments of an operation or tool.
#[derive(Debug)]
pub struct ArgumentSchema {
    schema: Value,
    validator: Validator,
}

/// Why a schema is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is larger than may be.
    #[error("the schema is too large or too deep")]
    TooLarge,
    /// It is no JSON Schema, or refers to something outside of itself.
    #[error("no usable JSON Schema: {0}")]
    Unusable(String),
}

impl ArgumentSchema {
    /// Compiles a schema (draft 2020-12 where it does not say another).
    ///
    /// # Errors
    /// [`SchemaError`].
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        let written = serde_json::to_vec(schema).map_err(|_| SchemaError::TooLarge)?;
        let schema = json::parse(&written, LIMITS).map_err(|_| SchemaError::TooLarge)?;
        // Nothing is fetched: the library is built without the means to.
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
            .build(&schema)
            .map_err(|error| SchemaError::Unusable(told(&error.to_string())))?;
        Ok(Self { schema, validator })
    }

    /// Whether a value is what the schema says.
    ///
    /// # Errors
    /// The first complaint, without the value itself.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.validator.validate(value).map_err(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "the arguments".to_owned() } else { format!("`{place}`") };
            told(&format!("{place}: {}", error.masked()))
        })
    }

    /// A parameter's text as its schema's type has it.
    pub(super) fn read(&self, name: &str, text: &str) -> Value {
        let of = self.property(name);
        let item = of.and_then(|of| of.get("items")).filter(|_| self.is_list(name));
        typed(item.or(of).and_then(|of| of.get("type")).and_then(Value::as_str), text)
    }

    /// Whether a parameter may stand several times.
    pub(super) fn is_list(&self, name: &str) -> bool {
        self.property(name).and_then(|of| of.get("type")).and_then(Value::as_str) == Some("array")
    }

    fn property(&self, name: &str) -> Option<&Value> {
        self.schema.get("properties")?.get(name)
    }
}

fn told(text: &str) -> String {
    text.chars().take(TOLD_MAX).collect()
}
