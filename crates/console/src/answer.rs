//! Answers: pages with what protects them, files, JSON for the one script.

use askama::Template;
use bartizan_authority::login::SetCookie;
use bartizan_model::{Problem, ReasonCode};
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::pages::{ErrorPage, OnwardPage};
use crate::{Answer, Request, Stop, texts};

const STYLE: &str = include_str!("../assets/style.css");
const PASSKEY: &str = include_str!("../assets/passkey.js");

/// Nothing from anywhere but our own files; nothing inline; in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

fn guarded(status: StatusCode, body: String, media: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers: [(HeaderName, &'static str); 8] = [
        (CONTENT_TYPE, media),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        // Not `no-referrer`: with that, browsers send `Origin: null` with our own forms.
        (REFERRER_POLICY, "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "publickey-credentials-get=(self), publickey-credentials-create=(self)",
        ),
    ];
    answer.headers_mut().extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer
}

/// A page.
pub(crate) fn page(status: StatusCode, page: &impl Template) -> Answer {
    match page.render() {
        Ok(text) => guarded(status, text, "text/html; charset=utf-8"),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a page cannot be rendered");
            guarded(
                StatusCode::INTERNAL_SERVER_ERROR,
                ReasonCode::Internal.meaning().to_owned(),
                "text/plain",
            )
        }
    }
}

/// The same with cookies.
pub(crate) fn with(mut answer: Answer, cookies: impl IntoIterator<Item = SetCookie>) -> Answer {
    for cookie in cookies {
        answer.headers_mut().append(SET_COOKIE, cookie.header());
    }
    answer
}

/// A page that goes on by itself: what follows a good form.
pub(crate) fn onward(said: &str, to: &str) -> Answer {
    page(StatusCode::OK, &OnwardPage { said, to })
}

/// To another page of ours.
pub(crate) fn see_other(to: &str) -> Answer {
    let mut answer = guarded(StatusCode::SEE_OTHER, String::new(), "text/plain");
    if let Ok(value) = HeaderValue::from_str(to) {
        answer.headers_mut().insert(LOCATION, value);
    }
    answer
}

/// An answer to the script.
pub(crate) fn json(status: StatusCode, value: &Value) -> Answer {
    guarded(status, value.to_string(), "application/json")
}

/// A file of ours.
pub(crate) fn asset(name: &str) -> Option<Answer> {
    let (text, media) = match name {
        "style.css" => (STYLE, "text/css; charset=utf-8"),
        "passkey.js" => (PASSKEY, "text/javascript; charset=utf-8"),
        _ => return None,
    };
    let mut answer = guarded(StatusCode::OK, text.to_owned(), media);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    Some(answer)
}

pub(crate) fn status(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// What is told instead of a page: to the script as JSON, to people as a page with a way forward.
pub(crate) fn stopped(stop: Stop, request: &Request) -> Answer {
    let head = &request.arrived.head;
    let script =
        head.headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    let problem = match stop {
        Stop::Go(to) if script => return json(StatusCode::UNAUTHORIZED, &json!({"onward": to})),
        Stop::Go(to) => return see_other(&to),
        Stop::Problem(problem) => problem,
    };
    // More is to be proven: that is done on the spot, and then one is back.
    if problem.reason == ReasonCode::LoginTooOld {
        let to = texts::to_login("/account", true);
        return if script {
            json(StatusCode::UNAUTHORIZED, &json!({"onward": to}))
        } else {
            onward("Once more, please", &to)
        };
    }
    if script {
        let message = texts::line(&problem);
        let value = json!({"error": message, "message": message, "reason": problem.reason.code(), "decision": problem.decision});
        return json(status(&problem), &value);
    }
    let mut meaning = problem.reason.meaning().trim().to_owned();
    if !problem.detail.is_empty() {
        meaning.push(' ');
        meaning.push_str(&problem.detail);
        meaning.push('.');
    }
    let page_of = ErrorPage {
        meaning: &meaning,
        way_forward: problem.reason.way_forward(),
        code: &problem.reason.code(),
        decision: problem.decision.map(|id| id.to_string()).unwrap_or_default(),
        back: "/account",
        back_label: "Back to your account",
    };
    page(status(&problem), &page_of)
}
