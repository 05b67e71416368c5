//! Lists of models in both dialects.

use bartizan_base::Name;
use bytes::Bytes;
use serde_json::{Value, json};

/// The body of `GET /v1/models`.
#[must_use]
pub fn models_body(anthropic: bool, names: &[Name]) -> Bytes {
    let data: Vec<Value> = names.iter().map(|n| model(anthropic, n)).collect();
    let body = if anthropic {
        json!({"data": data, "has_more": false, "first_id": names.first(), "last_id": names.last()})
    } else {
        json!({"object": "list", "data": data})
    };
    body.to_string().into()
}

/// The body of `GET /v1/models/NAME`.
#[must_use]
pub fn model_body(anthropic: bool, name: &Name) -> Bytes {
    model(anthropic, name).to_string().into()
}

fn model(anthropic: bool, name: &Name) -> Value {
    if anthropic {
        json!({"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"})
    } else {
        json!({"id": name, "object": "model", "created": 0, "owned_by": "bartizan"})
    }
}
