//! What a proxy is told, before it is written in the proxy's way.

use bartizan_authority::{Authority, Vouching};
use bartizan_enforce::{OWN_HEADERS, Permitted, Refusal};
use bartizan_model::{Principal, Problem, ReasonCode};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tonic::body::Body;

/// The decision, for logs of the service.
const DECISION: &str = "x-bartizan-decision";
/// Its receipt.
const RECEIPT: &str = "x-bartizan-receipt";
/// Who asks: `user/alice`.
const SUBJECT: &str = "x-bartizan-subject";
/// Who acts for them, the nearest first, separated by commas; empty for nobody.
const ACTORS: &str = "x-bartizan-actors";
/// Both as a signed token; empty where nobody vouches.
const IDENTITY: &str = "x-bartizan-identity";
/// The label of what the service gives, as JSON.
const LABEL: &str = "x-bartizan-label";

/// What a proxy is told.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Go on with these headers set and those taken out.
    Permitted { set: Vec<(&'static str, String)>, remove: Vec<String> },
    /// Answer the client with this.
    Refused(Box<Refusal>),
}

/// Has the authority vouch for who is asking, towards the service that is asked.
///
/// # Errors
/// When there is no key to sign with.
pub(crate) fn vouch(authority: &Authority, permitted: &Permitted) -> Result<String, Problem> {
    let actors: Vec<String> = permitted.actors.iter().map(text).collect();
    let token = authority.vouch(&Vouching {
        subject: &text(&permitted.subject),
        actors: &actors,
        tenant: &permitted.tenant,
        audience: &permitted.origin,
        decision: permitted.decision,
    })?;
    Ok(token.expose().clone())
}

fn text(principal: &Principal) -> String {
    format!("{}/{}", principal.kind.entity_type().to_ascii_lowercase(), principal.name)
}

impl Answer {
    /// What a permit changes. All of our headers are always set: a proxy that copies only what is there must not leave what a
    /// client wrote.
    pub(crate) fn permitted(permitted: &Permitted, identity: Option<String>) -> Self {
        let actors: Vec<String> = permitted.actors.iter().map(text).collect();
        let set = vec![
            (DECISION, permitted.decision.to_string()),
            (RECEIPT, permitted.receipt.to_string()),
            (SUBJECT, text(&permitted.subject)),
            (ACTORS, actors.join(", ")),
            (IDENTITY, identity.unwrap_or_default()),
            (LABEL, json!(permitted.label).to_string()),
        ];
        let is_set = |name: &String| set.iter().any(|(known, _)| known == name);
        let remove = permitted.remove.iter().filter(|name| !is_set(name)).cloned().collect();
        Self::Permitted { set, remove }
    }

    /// A permit that cannot be released: nobody vouches for the caller now.
    pub(crate) fn broken(permitted: &Permitted, problem: &Problem) -> Self {
        let body = json!({"error": {
            "code": problem.reason.code(), "message": problem.message(),
            "bartizan": {"reason": problem.reason.code(), "decision": permitted.decision, "remedies": []}
        }});
        Self::refusal(problem.reason.clone(), &body)
    }

    /// A question that cannot be answered, since the proxy does not ask as it must.
    pub(crate) fn misconfigured(detail: &str) -> Self {
        tracing::warn!(
            detail,
            "a question of a proxy is refused: its client, or a configuration that is not as `docs/mesh.md` says"
        );
        let body = json!({"error": {"code": ReasonCode::HeaderInvalid.code(), "message": detail}});
        Self::refusal(ReasonCode::HeaderInvalid, &body)
    }

    fn refusal(reason: ReasonCode, body: &serde_json::Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (status, body) = (reason.status(), body.to_string().into());
        Self::Refused(Box::new(Refusal { reason, status, headers, body }))
    }

    /// The answer over HTTP, with the status that `told` makes of ours.
    pub(crate) fn http(self, told: impl FnOnce(u16) -> u16) -> Response<Body> {
        let mut answer = Response::new(Body::empty());
        match self {
            Self::Permitted { set, remove } => {
                for (name, value) in set {
                    put(answer.headers_mut(), name, &value);
                }
                if !remove.is_empty() {
                    put(answer.headers_mut(), "x-envoy-auth-headers-to-remove", &remove.join(","));
                }
            }
            Self::Refused(refusal) => {
                *answer.status_mut() =
                    StatusCode::from_u16(told(refusal.status)).unwrap_or(StatusCode::FORBIDDEN);
                *answer.headers_mut() = refusal.headers;
                put(answer.headers_mut(), "x-bartizan-status", &refusal.status.to_string());
                *answer.body_mut() = Body::new(Full::new(refusal.body));
            }
        }
        answer
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// An answer to somebody who is no proxy of ours, or asks for nothing there is.
pub(crate) fn plain(status: u16, text: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::new(Full::new(Bytes::from_static(text.as_bytes()))));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

/// The first header of a request that only we set. Where a proxy cannot take it out, the request ends there.
pub(crate) fn spoofed(headers: &HeaderMap) -> Option<&str> {
    let names = headers.keys().map(http::HeaderName::as_str);
    let ours = |name: &&str| {
        let written = name.replace('_', "-");
        written.starts_with(OWN_HEADERS) && written != "x-bartizan-purpose"
    };
    names.into_iter().find(ours)
}
