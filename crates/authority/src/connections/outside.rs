//! The way to other people's servers, and which of their addresses are acceptable.

use std::fmt::Debug;

use bartizan_base::json;
use bartizan_jose::normal_uri;
use bartizan_upstream::{ExchangePolicy, Upstreams};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use serde_json::Value;

use super::ConnectError;

const LIMITS: json::Limits = json::Limits { bytes_max: 64 << 10, depth_max: 10, nodes_max: 4_000 };
/// The longest address, in bytes.
const ADDRESS_MAX: usize = 2_048;

/// Sends one request to somebody else's server: guarded, bounded in bytes and time, no redirect followed.
pub trait Outside: Debug + Send + Sync {
    /// The whole answer, whatever its status. `private` says whether the address may be private, and may then be `http`.
    fn exchange<'a>(
        &'a self,
        request: Request<Bytes>,
        private: bool,
    ) -> BoxFuture<'a, Result<Response<Bytes>, ConnectError>>;
}

impl Outside for Upstreams {
    fn exchange<'a>(
        &'a self,
        request: Request<Bytes>,
        private: bool,
    ) -> BoxFuture<'a, Result<Response<Bytes>, ConnectError>> {
        Box::pin(async move {
            let policy = ExchangePolicy::Provider { allow_private: private };
            Self::exchange(self, policy, request).await.map_err(|error| {
                tracing::info!(error = &error as &dyn std::error::Error, "a provider was not reached");
                ConnectError::Unreachable
            })
        })
    }
}

/// An address that we send something to, or the person's browser: `https`, or `http` where it may be private; no user, no
/// fragment, nothing that a browser would run (attack 44), nothing that two readers could see differently.
pub(super) fn acceptable(address: &str, private: bool) -> bool {
    let secure = address.starts_with("https://") || (private && address.starts_with("http://"));
    let plain =
        address.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\' | b'"' | b'<' | b'>'));
    secure && plain && address.len() <= ADDRESS_MAX && normal_uri(address).is_some()
}

/// Scheme, host and port of an address, and its path without a slash at the end.
pub(super) fn parts(address: &str) -> Option<(&str, &str)> {
    let scheme = address.find("://")? + 3;
    let end = address.get(scheme..)?.find(['/', '?', '#']).map_or(address.len(), |at| scheme + at);
    let (origin, rest) = address.split_at_checked(end)?;
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    Some((origin, path.strip_suffix('/').unwrap_or(path)))
}

/// Whether `inner` is `outer` or lies below it: the same origin, and a path that begins with the other's whole segments.
pub(super) fn is_within(inner: &str, outer: &str) -> bool {
    let (Some(inner), Some(outer)) = (normal_uri(inner), normal_uri(outer)) else { return false };
    let (Some((inner, path)), Some((outer, prefix))) = (parts(&inner), parts(&outer)) else { return false };
    inner == outer && path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A `GET` of a document.
pub(super) fn get(address: &str) -> Result<Request<Bytes>, ConnectError> {
    Request::get(address)
        .header(ACCEPT, HeaderValue::from_static("application/json"))
        .body(Bytes::new())
        .map_err(|_| ConnectError::Address)
}

/// A `POST` of form parameters.
pub(super) fn post(address: &str, form: String) -> Result<Request<Bytes>, ConnectError> {
    Request::post(address)
        .header(ACCEPT, HeaderValue::from_static("application/json"))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
        .body(Bytes::from(form))
        .map_err(|_| ConnectError::Address)
}

/// The object in an answer's body.
pub(super) fn object(answer: &Response<Bytes>) -> Result<Value, ConnectError> {
    let value = json::parse(answer.body(), LIMITS).map_err(|_| ConnectError::Answer)?;
    if value.is_object() { Ok(value) } else { Err(ConnectError::Answer) }
}

/// A member that is text.
pub(super) fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

/// The texts of a member that is a list.
pub(super) fn texts<'a>(object: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    object.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_44_what_a_browser_would_run_or_a_reader_misread_is_no_address() {
        for good in ["https://as.example/authorize", "https://as.example:8443/a?tenant=1"] {
            assert!(acceptable(good, false), "{good}");
        }
        assert!(acceptable("http://127.0.0.1:9/authorize", true));
        for bad in [
            "javascript:alert(1)",
            "javascript://as.example/%0aalert(1)",
            "file:///etc/passwd",
            "data:text/html,x",
            "http://as.example/authorize",
            "https://user@as.example/",
            "https://as.example/#x",
            "https://as.example/\"onload=",
            "https://as.example\\@evil.example/",
            "https:///x",
            "vbscript:x",
            " https://as.example/",
            "",
        ] {
            assert!(!acceptable(bad, false), "{bad}");
        }
        assert!(!acceptable("javascript:alert(1)", true) && !acceptable("file:///x", true));
    }

    #[test]
    fn what_lies_below_an_address_shares_its_origin_and_whole_segments() {
        let outer = "https://tools.example/mcp";
        for inner in
            ["https://tools.example/mcp", "https://tools.example/mcp/", "https://TOOLS.example:443/mcp/a?b"]
        {
            assert!(is_within(inner, outer), "{inner}");
        }
        for inner in [
            "https://tools.example/mcpx",
            "https://tools.example/",
            "http://tools.example/mcp",
            "https://tools.example:8443/mcp",
            "https://tools.example.evil.example/mcp",
            "https://tools.example@evil.example/mcp",
            "https://tools.example/mcp/../admin",
            "https://tools.example/mcp/%2e%2e/admin",
        ] {
            assert!(!is_within(inner, outer), "{inner}");
        }
        assert!(is_within("https://tools.example/any", "https://tools.example"));
    }
}
