//! One request to a store, as it will leave the house.

use bartizan_base::{Digest, json};
use bartizan_filter::SqlValue;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

/// A statement for a database. Every value is a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The text, with placeholders.
    pub text: String,
    /// The values, in their order.
    pub values: Vec<SqlValue>,
}

/// One request to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Over HTTP.
    Http {
        /// The method.
        method: Method,
        /// The path below the upstream's address, with its query.
        path: String,
        /// The body.
        body: Bytes,
        /// Its media type.
        media: &'static str,
    },
    /// To a database, all in one transaction.
    Sql {
        /// The statements, in their order. What the last gives is the answer.
        statements: Vec<Statement>,
        /// Whether the transaction only reads.
        reads: bool,
    },
}

impl Step {
    /// A request with a body of JSON.
    pub(crate) fn json(method: Method, path: String, body: &Value) -> Self {
        Self::Http { method, path, body: body.to_string().into(), media: "application/json" }
    }

    /// SHA-256 of the body as it leaves; of a database, of the statements with their values, as canonical JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Http { body, .. } => Digest::of(body),
            Self::Sql { statements, reads } => {
                let told = |s: &Statement| json!([s.text, s.values.iter().map(told).collect::<Vec<_>>()]);
                let all: Vec<Value> = statements.iter().map(told).collect();
                Digest::of(&json::canonical(&json!([reads, all])).unwrap_or_default())
            }
        }
    }
}

fn told(value: &SqlValue) -> Value {
    match value {
        SqlValue::Bool(flag) => json!({ "bool": flag }),
        // As text: a number in JSON is a double.
        SqlValue::Int(number) => json!({ "int": number.to_string() }),
        SqlValue::Text(text) => json!({ "text": text }),
        SqlValue::Ints(numbers) => {
            json!({ "ints": numbers.iter().map(ToString::to_string).collect::<Vec<_>>() })
        }
        SqlValue::Texts(texts) => json!({ "texts": texts }),
    }
}
