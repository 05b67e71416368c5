//! Problems in the words of each dialect, so that official client libraries raise the right exception.

use bartizan_model::Problem;
use bartizan_model::directory::Dialect;
use bytes::Bytes;
use serde_json::{Value, json};

/// The status and body of a problem.
#[must_use]
pub fn error_body(dialect: Dialect, problem: &Problem) -> (u16, Bytes) {
    (problem.reason.status(), Bytes::from(value(dialect, problem).to_string()))
}

/// The frame that ends a stream with a problem.
#[must_use]
pub fn error_event(dialect: Dialect, problem: &Problem) -> Bytes {
    let value = value(dialect, problem);
    Bytes::from(match dialect {
        Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => {
            format!("event: error\ndata: {value}\n\n")
        }
        Dialect::OpenAiResponses => {
            let error = json!({
                "type": "error", "code": problem.reason.code(), "message": problem.message(), "param": null, "sequence_number": 0,
                "bartizan": value.pointer("/error/bartizan")
            });
            format!("event: error\ndata: {error}\n\n")
        }
        Dialect::OpenAiChat | Dialect::OpenAiEmbeddings => format!("data: {value}\n\n"),
    })
}

fn value(dialect: Dialect, problem: &Problem) -> Value {
    let message = problem.message();
    let status = problem.reason.status();
    let bartizan =
        json!({"reason": problem.reason.code(), "decision": problem.decision, "remedies": problem.offers});
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        402 => "billing_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 => "overloaded_error",
        _ => "api_error",
    };
    match dialect {
        Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => json!({
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": problem.decision,
            "bartizan": bartizan
        }),
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::OpenAiEmbeddings => json!({
            "error": {"message": message, "type": kind, "param": null, "code": problem.reason.code(), "bartizan": bartizan}
        }),
    }
}
