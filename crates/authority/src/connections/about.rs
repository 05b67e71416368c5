//! What we say about ourselves to authorization servers that take clients by the address of a document about them (OAuth Client ID
//! Metadata Document).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::Authority;

/// Where the document is, below the issuer.
pub const DOCUMENT: &str = "/connections/client";
/// Where providers send the browser back to.
pub const ANSWER: &str = "/connections/answer";
/// Where a program on the person's own machine waits; servers let its port vary (RFC 8252, 7.3).
const LOCAL: &str = "http://127.0.0.1/answer";

/// The address of the document about a house that is known under `issuer`; none where nobody could fetch it under TLS.
pub(super) fn address(issuer: &str) -> Option<Arc<str>> {
    issuer.starts_with("https://").then(|| format!("{issuer}{DOCUMENT}").into())
}

/// The document. It holds no key: we are a public client, which the proof of its code (PKCE) binds to what it began.
pub(super) fn document(authority: &Authority, address: &str) -> Value {
    let issuer = &*authority.issuer;
    let host = issuer.split_once("://").map_or(issuer, |(_, host)| host);
    json!({
        "client_id": address,
        "client_name": format!("Bartizan at {host}"),
        "client_uri": issuer,
        "redirect_uris": [format!("{issuer}{ANSWER}"), LOCAL],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    })
}
