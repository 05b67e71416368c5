//! Problems in the words of each dialect, so that official client libraries raise the right exception.

use bartizan_model::Problem;
use bartizan_model::directory::Dialect;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::eventstream::message;

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
        Dialect::BedrockConverse | Dialect::BedrockInvoke => return exception(problem, &value),
        Dialect::OpenAiChat
        | Dialect::OpenAiEmbeddings
        | Dialect::AzureChat
        | Dialect::AzureCompletions
        | Dialect::AzureEmbeddings
        | Dialect::GeminiGenerate
        | Dialect::GeminiEmbed
        | Dialect::GeminiCountTokens => format!("data: {value}\n\n"),
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
        // Amazon names the exception, Google a status of its own.
        Dialect::BedrockConverse | Dialect::BedrockInvoke => json!({
            "__type": exception_of(status), "message": message, "bartizan": bartizan
        }),
        Dialect::GeminiGenerate | Dialect::GeminiEmbed | Dialect::GeminiCountTokens => json!({
            "error": {"code": status, "message": message, "status": status_of(status), "bartizan": bartizan}
        }),
        Dialect::OpenAiChat
        | Dialect::OpenAiResponses
        | Dialect::OpenAiEmbeddings
        | Dialect::AzureChat
        | Dialect::AzureCompletions
        | Dialect::AzureEmbeddings => json!({
            "error": {"message": message, "type": kind, "param": null, "code": problem.reason.code(), "bartizan": bartizan}
        }),
    }
}

/// What Amazon calls a refusal with this status.
const fn exception_of(status: u16) -> &'static str {
    match status {
        401 => "UnrecognizedClientException",
        402 => "ServiceQuotaExceededException",
        403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        409 => "ConflictException",
        429 => "ThrottlingException",
        400..=499 => "ValidationException",
        502 => "ModelErrorException",
        503 => "ServiceUnavailableException",
        504 => "ModelTimeoutException",
        _ => "InternalServerException",
    }
}

/// The message that ends a stream of Amazon's: one of the exceptions that its libraries know there.
fn exception(problem: &Problem, value: &Value) -> Bytes {
    let kind = match problem.reason.status() {
        429 => "throttlingException",
        400..=499 => "validationException",
        502 | 504 => "modelStreamErrorException",
        503 => "serviceUnavailableException",
        _ => "internalServerException",
    };
    let headers =
        [(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")];
    message(&headers, value.to_string().as_bytes())
}

/// What Google calls a refusal with this status.
const fn status_of(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        402 | 429 => "RESOURCE_EXHAUSTED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        400..=499 => "INVALID_ARGUMENT",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_model::ReasonCode;

    #[test]
    fn every_dialect_tells_a_refusal_in_its_own_shape_with_the_reason() {
        for dialect in Dialect::ALL.iter().copied() {
            let problem = Problem::new(ReasonCode::NoMatchingPermit);
            let (status, body) = error_body(dialect, &problem);
            let body: Value = serde_json::from_slice(&body).unwrap();
            let ours = body.get("bartizan").or_else(|| body.pointer("/error/bartizan")).unwrap();
            assert_eq!(ours["reason"], *problem.reason.code(), "{dialect:?}");
            let own = match dialect.name().split('.').next().unwrap() {
                "bedrock" => body["__type"] == exception_of(status) && body["message"].is_string(),
                "gemini" => body["error"]["code"] == status && body["error"]["status"] == status_of(status),
                "anthropic" => body["type"] == "error",
                _ => body["error"]["code"] == *problem.reason.code(),
            };
            assert!(own, "{dialect:?}: {body}");
        }
    }

    #[test]
    fn a_stream_of_amazons_ends_with_an_exception_that_can_be_read() {
        let event = error_event(Dialect::BedrockConverse, &Problem::new(ReasonCode::StreamEnded));
        let mut held = bytes::BytesMut::from(event.as_ref());
        let read = crate::eventstream::open(&crate::eventstream::whole(&mut held).unwrap().unwrap()).unwrap();
        assert_eq!(read.header(":message-type"), Some("exception"));
        assert!(read.header(":exception-type").unwrap().ends_with("Exception"));
        let body: Value = serde_json::from_slice(&read.payload).unwrap();
        assert_eq!(body["bartizan"]["reason"], "stream_ended");
    }
}
