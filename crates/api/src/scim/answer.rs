//! Answers of provisioning.

use bartizan_authority::scim::{Answered, Failed};
use bartizan_scim::Resource;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Answer(Response<Full<Bytes>>);

impl Answer {
    /// A SCIM message.
    pub(super) fn of(status: u16, body: &Value) -> Self {
        Self::plain(status, body).with(CONTENT_TYPE, "application/scim+json")
    }

    /// A message of our own.
    pub(super) fn plain(status: u16, body: &Value) -> Self {
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self(response).with(CONTENT_TYPE, "application/json").with(CACHE_CONTROL, "no-store")
    }

    /// Nothing but a status.
    pub(super) fn empty(status: u16) -> Self {
        let mut answer = Self::plain(status, &Value::Null);
        *answer.0.body_mut() = Full::new(Bytes::new());
        answer.0.headers_mut().remove(CONTENT_TYPE);
        answer
    }

    /// What went wrong.
    pub(super) fn failed(failed: &Failed) -> Self {
        let answer = Self::of(failed.error.status, &failed.error.body());
        let answer = match failed.error.status {
            401 => answer.with(WWW_AUTHENTICATE, "Bearer"),
            _ => answer,
        };
        match failed.decision {
            Some(decision) => answer.with(DECISION, &decision.to_string()),
            None => answer,
        }
    }

    /// With a header.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    /// With where it is recorded, and what opens the digest there.
    pub(super) fn recorded<T>(self, done: &Answered<T>) -> Self {
        self.with(DECISION, &done.decision.to_string())
            .with(HeaderName::from_static("bartizan-receipt"), &done.receipt.to_string())
            .with(HeaderName::from_static("bartizan-opening"), &done.opening)
    }

    /// With the entity tag of a resource.
    pub(super) fn tagged(self, resource: &Resource) -> Self {
        let version = resource.get("meta").and_then(|meta| meta.get("version")).and_then(Value::as_str);
        match version {
            Some(version) => self.with(ETAG, version),
            None => self,
        }
    }

    /// The same, unless the client has it already (RFC 9110, 13.1.2).
    pub(super) fn unless_known(self, known: Option<&HeaderValue>) -> Self {
        let known = known.and_then(|known| known.to_str().ok()).unwrap_or_default();
        let same = self
            .0
            .headers()
            .get(ETAG)
            .and_then(|tag| tag.to_str().ok())
            .is_some_and(|tag| known.trim() == "*" || known.split(',').any(|known| known.trim() == tag));
        if !same {
            return self;
        }
        let mut empty = Self::empty(304);
        let kept = self.0.headers().iter().filter(|(name, _)| **name != CONTENT_TYPE);
        empty.0.headers_mut().extend(kept.map(|(name, value)| (name.clone(), value.clone())));
        empty
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        self.0
    }
}

const DECISION: HeaderName = HeaderName::from_static("bartizan-decision");
