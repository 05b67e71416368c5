//! Answers of the control API, as they are written.

use bartizan_control::{Acknowledged, CreatedKey, Done, Exported, LogFile, Stopped};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::route::Answer;

pub(crate) fn plain(status: u16, value: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(value.to_string())));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub(crate) fn given<T>(done: &Done<T>, value: &Value) -> Answer {
    let mut answer = plain(200, value);
    if let Some(Acknowledged { ms, ran_out, behind, .. }) = &done.acknowledged {
        mark(answer.headers_mut(), "bartizan-acknowledged-ms", &ms.to_string());
        for (name, nodes) in [("bartizan-lease-ran-out", ran_out), ("bartizan-behind", behind)] {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            if !nodes.is_empty() {
                mark(answer.headers_mut(), name, &nodes.join(", "));
            }
        }
    }
    mark(answer.headers_mut(), "bartizan-decision", &done.decision.to_string());
    mark(answer.headers_mut(), "bartizan-receipt", &done.receipt.to_string());
    answer
}

/// Entries in another system's format. Where to go on stands in a header: the body is theirs alone.
pub(crate) fn exported(done: Done<Exported>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(done.value.bytes)));
    mark(answer.headers_mut(), "content-type", done.value.media_type);
    mark(answer.headers_mut(), "cache-control", "no-store");
    mark(answer.headers_mut(), "bartizan-decision", &done.decision.to_string());
    mark(answer.headers_mut(), "bartizan-receipt", &done.receipt.to_string());
    if let Some(next) = &done.value.next {
        mark(answer.headers_mut(), "bartizan-next", next);
    }
    answer
}

/// A file of a log. Tiles never change, so they may be kept by whoever was allowed to have them.
pub(crate) fn file(done: Done<LogFile>) -> Answer {
    let (bytes, media, cache) = match done.value {
        LogFile::Checkpoint(text) => {
            (Bytes::from(text.to_string()), "text/plain; charset=utf-8", "private, max-age=1")
        }
        LogFile::Tile(bytes) => {
            (Bytes::from(bytes), "application/octet-stream", "private, max-age=31536000, immutable")
        }
    };
    let mut answer = Response::new(Full::new(bytes));
    mark(answer.headers_mut(), "content-type", media);
    mark(answer.headers_mut(), "cache-control", cache);
    mark(answer.headers_mut(), "bartizan-decision", &done.decision.to_string());
    mark(answer.headers_mut(), "bartizan-receipt", &done.receipt.to_string());
    answer
}

pub(crate) fn same<T: Serialize>(done: &Done<T>) -> Answer {
    given(done, &serde_json::to_value(&done.value).unwrap_or(Value::Null))
}

/// The same, and how it was acknowledged as a member beside the others.
pub(crate) fn acknowledged<T: Serialize>(done: &Done<T>) -> Answer {
    let value = serde_json::to_value(&done.value).unwrap_or(Value::Null);
    let mut members = if let Value::Object(members) = value { members } else { Map::new() };
    members.insert("acknowledged".to_owned(), json!(done.acknowledged));
    given(done, &Value::Object(members))
}

pub(crate) fn key(created: &CreatedKey) -> Value {
    let mut value = serde_json::to_value(&created.key).unwrap_or(Value::Null);
    if let Some(members) = value.as_object_mut() {
        // The one place where a key's text is given out, to the one who asked for it.
        members.insert("text".to_owned(), created.text.expose().as_str().into());
    }
    value
}

pub(crate) fn created(done: &Done<CreatedKey>) -> Answer {
    given(done, &key(&done.value))
}

pub(crate) fn told(stopped: &Stopped) -> Answer {
    let problem = &stopped.problem;
    let mut answer = plain(
        problem.reason.status(),
        &json!({"reason": problem.reason.code(), "message": problem.message(), "decision": problem.decision, "remedies": problem.offers}),
    );
    if let Some(decision) = problem.decision {
        mark(answer.headers_mut(), "bartizan-decision", &decision.to_string());
    }
    if let Some(receipt) = &stopped.receipt {
        mark(answer.headers_mut(), "bartizan-receipt", &receipt.to_string());
    }
    answer
}

pub(crate) fn mark(headers: &mut HeaderMap, name: &'static str, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
