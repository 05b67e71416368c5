//! From a resource to the server that guards it (RFC 9728, RFC 8414, OpenID Connect Discovery; MCP 2026-07-28, authorization).

use std::collections::BTreeSet;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ConnectError;
use super::challenge::Challenge;
use super::outside::{Outside, acceptable, get, is_within, object, parts, text, texts};

/// How many words of scope are looked at.
const SCOPES_MAX: usize = 100;

/// What a resource says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its own identifier: what tokens are asked for.
    pub identifier: String,
    /// Who issues tokens for it: the first that it names, or the one that was declared.
    pub issuer: String,
    /// All that it knows of scopes.
    pub scopes: BTreeSet<String>,
}

/// An authorization server, as it describes itself, within what we take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its issuer identifier: what `iss` is held against, to the letter.
    pub issuer: String,
    /// Where the person's browser is sent.
    pub authorize: String,
    /// Where codes and refresh tokens are redeemed.
    pub token: String,
    /// Where tokens are ended (RFC 7009).
    pub revoke: Option<String>,
    /// Where clients register themselves (RFC 7591).
    pub register: Option<String>,
    /// Whether it promises `iss` in every answer (RFC 9207).
    pub sends_iss: bool,
    /// Whether it takes clients by the address of a document about them.
    pub takes_documents: bool,
    /// How clients may prove what they are at the token endpoint.
    pub authentication: BTreeSet<String>,
    /// Whether it knows `offline_access`.
    pub offline: bool,
}

/// Asks the resource, or its well-known addresses, who guards it. With `declared`, no other issuer is taken.
///
/// # Errors
/// [`ConnectError`] says what is missing or not acceptable.
pub async fn resource(
    outside: &dyn Outside,
    address: &str,
    challenge: Option<&Challenge>,
    declared: Option<&str>,
    private: bool,
) -> Result<Resource, ConnectError> {
    if !acceptable(address, private) {
        return Err(ConnectError::Address);
    }
    let (origin, path) = parts(address).ok_or(ConnectError::Address)?;
    let stated = challenge.and_then(|c| c.metadata.clone());
    let well_known = "/.well-known/oauth-protected-resource";
    let tried = match stated {
        // Where the resource itself says where to look, nothing else counts.
        Some(stated) => vec![stated],
        None => {
            let mut tried = vec![format!("{origin}{well_known}{path}"), format!("{origin}{well_known}")];
            tried.dedup();
            tried
        }
    };
    for candidate in tried {
        if !acceptable(&candidate, private) {
            return Err(ConnectError::Address);
        }
        let answer = outside.exchange(get(&candidate)?, private).await?;
        if answer.status() == StatusCode::OK {
            return described(&object(&answer)?, address, declared);
        }
    }
    // Resources from before RFC 9728 are guarded by their own origin, unless it was declared by whom.
    let issuer = declared.map_or_else(|| origin.to_owned(), str::to_owned);
    Ok(Resource { identifier: address.to_owned(), issuer, scopes: BTreeSet::new() })
}

fn described(document: &Value, address: &str, declared: Option<&str>) -> Result<Resource, ConnectError> {
    // It must speak of the very resource, or of one around it: otherwise the tokens would be for somebody else (RFC 9728, 3.3).
    let identifier = text(document, "resource").ok_or(ConnectError::Resource)?;
    if !is_within(address, identifier) {
        return Err(ConnectError::Resource);
    }
    let mut servers = texts(document, "authorization_servers");
    let issuer = match declared {
        Some(declared) => servers.find(|server| *server == declared),
        None => servers.next(),
    };
    Ok(Resource {
        identifier: identifier.to_owned(),
        issuer: issuer.ok_or(ConnectError::Issuer)?.to_owned(),
        scopes: texts(document, "scopes_supported").take(SCOPES_MAX).map(str::to_owned).collect(),
    })
}

/// Finds out how an authorization server is spoken to.
///
/// # Errors
/// [`ConnectError`]: it must describe itself under its own name, know PKCE with S256, and have acceptable addresses.
pub async fn server(outside: &dyn Outside, issuer: &str, private: bool) -> Result<Server, ConnectError> {
    if !acceptable(issuer, private) || issuer.contains('?') {
        return Err(ConnectError::Address);
    }
    let (origin, path) = parts(issuer).ok_or(ConnectError::Address)?;
    let mut tried = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
        format!("{origin}{path}/.well-known/openid-configuration"),
    ];
    tried.dedup();
    for candidate in tried {
        let answer = outside.exchange(get(&candidate)?, private).await?;
        if answer.status() == StatusCode::OK {
            return understood(&object(&answer)?, issuer, private);
        }
    }
    Err(ConnectError::Metadata)
}

fn understood(document: &Value, issuer: &str, private: bool) -> Result<Server, ConnectError> {
    // To the letter (RFC 8414, 3.3): whoever answers under another's name gets nothing of ours.
    if text(document, "issuer") != Some(issuer) {
        return Err(ConnectError::Issuer);
    }
    if !texts(document, "code_challenge_methods_supported").any(|method| method == "S256") {
        return Err(ConnectError::Pkce);
    }
    let address = |name: &str| match text(document, name) {
        Some(found) if acceptable(found, private) => Ok(Some(found.to_owned())),
        Some(_) => Err(ConnectError::Address),
        None => Ok(None),
    };
    let truth = |name: &str| document.get(name).and_then(Value::as_bool).unwrap_or_default();
    Ok(Server {
        issuer: issuer.to_owned(),
        authorize: address("authorization_endpoint")?.ok_or(ConnectError::Metadata)?,
        token: address("token_endpoint")?.ok_or(ConnectError::Metadata)?,
        revoke: address("revocation_endpoint")?,
        register: address("registration_endpoint")?,
        sends_iss: truth("authorization_response_iss_parameter_supported"),
        takes_documents: truth("client_id_metadata_document_supported"),
        authentication: texts(document, "token_endpoint_auth_methods_supported").map(str::to_owned).collect(),
        offline: texts(document, "scopes_supported").any(|scope| scope == "offline_access"),
    })
}
