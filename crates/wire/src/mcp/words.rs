//! The words of messages that are ours.

use bartizan_model::{Problem, ReasonCode};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::splice::quoted;

/// Where a result says which label what it carries has.
pub const LABEL: &str = "bartizan/label";

/// The JSON-RPC code of a reason: that of the protocol where it has one, else `-31000` minus the HTTP status, beyond the codes
/// that JSON-RPC reserves (revision 2026-07-28, error codes).
#[must_use]
pub fn code_of(reason: &ReasonCode) -> i64 {
    match reason {
        ReasonCode::BodyMalformed | ReasonCode::JsonTooComplex | ReasonCode::JsonDuplicateKey => -32600,
        ReasonCode::MethodUnknown => -32601,
        ReasonCode::ToolNotFound | ReasonCode::ParamsInvalid => -32602,
        ReasonCode::Internal => -32603,
        ReasonCode::HeaderMismatch => -32020,
        ReasonCode::ProtocolUnsupported => -32022,
        reason => -31000 - i64::from(reason.status()),
    }
}

/// An error, to the request called `id` (as JSON) where one is known. Nothing in it may be secret.
#[must_use]
pub fn error_words(id: Option<&str>, problem: &Problem, receipt: Option<&str>, more: &Value) -> Bytes {
    let mut data = json!({
        "reason": problem.reason.code(), "remedies": problem.offers, "decision": problem.decision, "receipt": receipt,
    });
    if let (Some(data), Some(more)) = (data.as_object_mut(), more.as_object()) {
        data.extend(more.clone());
    }
    let error = json!({"code": code_of(&problem.reason), "message": problem.message(), "data": data});
    Bytes::from(match id {
        Some(id) => format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}"),
        None => format!("{{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{error}}}"),
    })
}

/// A result of our own, to the request called `id` (as JSON).
#[must_use]
pub fn result_words(id: &str, result: &str) -> Bytes {
    Bytes::from(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}"))
}

/// A request called `id`, with parameters that are JSON already.
#[must_use]
pub fn request_words(id: &str, method: &str, params: &[(&str, String)]) -> Bytes {
    let (id, method) = (quoted(id), quoted(method));
    Bytes::from(format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":{method},\"params\":{}}}",
        object(params)
    ))
}

/// A notification.
#[must_use]
pub fn notification_words(method: &str, params: &[(&str, String)]) -> Bytes {
    let method = quoted(method);
    Bytes::from(format!("{{\"jsonrpc\":\"2.0\",\"method\":{method},\"params\":{}}}", object(params)))
}

fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_our_own_lie_beyond_those_that_json_rpc_reserves() {
        for reason in ReasonCode::ALL {
            let code = code_of(reason);
            let own = !(-32768..=-32000).contains(&code);
            assert!(own || matches!(code, -32603..=-32600 | -32020 | -32022), "{reason}: {code}");
        }
    }

    #[test]
    fn an_error_says_why_what_would_help_and_where_it_is_recorded() {
        let problem = Problem::new(ReasonCode::ToolChanged);
        let words = error_words(Some("\"a\""), &problem, Some("log;1"), &json!({"supported": ["x"]}));
        let value: Value = serde_json::from_slice(&words).unwrap();
        assert_eq!(value["id"], "a");
        assert_eq!(value["error"]["code"], -31403);
        assert_eq!(value["error"]["data"]["reason"], "tool_changed");
        assert_eq!(value["error"]["data"]["receipt"], "log;1");
        assert_eq!(value["error"]["data"]["supported"][0], "x");
    }

    #[test]
    fn what_we_send_is_read_back_by_our_own_reader() {
        use super::super::{Kind, Message};
        let limits = bartizan_base::json::Limits::default();
        let request = request_words("dec_1", "tools/call", &[("name", "\"a\"".to_owned())]);
        let message = Message::read(request, limits).unwrap();
        assert_eq!((message.kind(), message.param_text("name").as_deref()), (Kind::Request, Some("a")));
        let told = Message::read(notification_words("notifications/initialized", &[]), limits).unwrap();
        assert_eq!(told.kind(), Kind::Notification);
    }
}
