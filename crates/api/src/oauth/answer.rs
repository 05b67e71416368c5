//! Answers of the authority's endpoints.

use bartizan_authority::oauth::{OauthCode, OauthError};
use bartizan_secret::Secret;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    HeaderValue, LOCATION, PRAGMA, REFERRER_POLICY, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use super::Answer;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

fn of(status: StatusCode, body: impl Into<Bytes>, headers: &[(HeaderName, HeaderValue)]) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    for (name, value) in headers {
        answer.headers_mut().insert(name, value.clone());
    }
    answer
}

/// What everybody may read, from everywhere.
pub(super) fn public(value: &Value) -> Answer {
    let any = HeaderValue::from_static("*");
    let kept = HeaderValue::from_static("public, max-age=300");
    let headers = [(CONTENT_TYPE, JSON), (CACHE_CONTROL, kept), (ACCESS_CONTROL_ALLOW_ORIGIN, any)];
    of(StatusCode::OK, value.to_string(), &headers)
}

/// What is only for whoever asked (RFC 6749, 5.1).
pub(super) fn private(status: StatusCode, value: &Value) -> Answer {
    of(status, value.to_string(), &[(CONTENT_TYPE, JSON), (CACHE_CONTROL, NO_STORE), (PRAGMA, no_cache())])
}

/// The same, of text that holds secrets.
pub(super) fn secret(body: &Secret<String>) -> Answer {
    let headers = [(CONTENT_TYPE, JSON), (CACHE_CONTROL, NO_STORE), (PRAGMA, no_cache())];
    of(StatusCode::OK, body.expose().clone(), &headers)
}

const fn no_cache() -> HeaderValue {
    HeaderValue::from_static("no-cache")
}

pub(super) fn empty(status: StatusCode) -> Answer {
    of(status, Bytes::new(), &[(CACHE_CONTROL, NO_STORE)])
}

/// Sends the browser on, by a new request of method `GET`.
pub(super) fn see_other(address: &str) -> Answer {
    let Ok(mut location) = HeaderValue::from_str(address) else {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    location.set_sensitive(true);
    let none = HeaderValue::from_static("no-referrer");
    of(
        StatusCode::SEE_OTHER,
        Bytes::new(),
        &[(LOCATION, location), (CACHE_CONTROL, NO_STORE), (REFERRER_POLICY, none)],
    )
}

/// What is told to a person because there is nowhere to send it.
pub(super) fn page(error: &OauthError) -> Answer {
    let text = escaped(&error.description);
    let decision = error.decision.map(|id| format!("<p>Decision {id}</p>")).unwrap_or_default();
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Not possible</title>\
         <h1>This cannot go on</h1><p>The application that sent you here has asked for something that is not possible: \
         {text}.</p><p>Go back, or tell those who run the application.</p><p>{}</p>{decision}</html>",
        error.code.name()
    );
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CACHE_CONTROL, NO_STORE),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
        (HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")),
        (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff")),
    ];
    // A page for a person: clients never see it, so it has no challenge.
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let status = if status == StatusCode::UNAUTHORIZED { StatusCode::BAD_REQUEST } else { status };
    of(status, body, &headers)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// An error of an endpoint (RFC 6749, 5.2; RFC 6750, 3; RFC 9449, 7.1).
pub(super) fn refused(error: &OauthError, path: &str) -> Answer {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let resource = path == "/oauth/userinfo";
    let proof = matches!(error.code, OauthCode::InvalidDpopProof | OauthCode::UseDpopNonce);
    // At a resource a bad proof is a bad credential; at the token endpoint it is a bad request.
    let status = if resource && proof { StatusCode::UNAUTHORIZED } else { status };
    let mut answer = private(status, &error.to_json());
    let challenge = match (resource, error.basic) {
        (true, _) if error.reason == bartizan_model::ReasonCode::CredentialMissing => {
            Some("Bearer, DPoP".to_owned())
        }
        (true, _) if proof => Some(format!("DPoP error=\"{}\"", error.code.name())),
        (true, _) => Some(format!("Bearer error=\"{0}\", DPoP error=\"{0}\"", error.code.name())),
        (false, true) => Some("Basic realm=\"oauth\", charset=\"UTF-8\"".to_owned()),
        (false, false) => None,
    };
    if let Some(value) = challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
        answer.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    answer
}

/// With the nonce for the next proof (RFC 9449, 8).
pub(super) fn with_nonce(mut answer: Answer, nonce: Option<String>) -> Answer {
    if let Some(value) = nonce.and_then(|nonce| HeaderValue::try_from(nonce).ok()) {
        answer.headers_mut().insert("dpop-nonce", value);
    }
    answer
}
