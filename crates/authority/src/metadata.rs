//! What the authority says about itself (RFC 8414; OpenID Connect Discovery): only what it really does.

use std::collections::BTreeSet;

use bartizan_jose::Algorithm;
use bartizan_model::GrantType;
use serde_json::{Map, Value, json};

use crate::Authority;
use crate::authorize::ACRS;
use crate::oauth::IDENTITY;

/// What of the protocol is mounted beside the authorization code.
#[derive(Clone, Debug, Default)]
pub struct Offered {
    /// Ways to a token.
    pub grants: BTreeSet<GrantType>,
    /// Members that name endpoints, with the paths they are at: `introspection_endpoint`, `/oauth/introspect`.
    pub endpoints: Vec<(&'static str, &'static str)>,
    /// Whether the listener asks for certificates of clients.
    pub mutual_tls: bool,
}

/// The document of both well-known addresses.
#[must_use]
pub fn metadata(authority: &Authority, offered: &Offered) -> Value {
    let settings = &authority.settings;
    let at = |path: &str| Value::from(format!("{}{path}", authority.issuer));
    let names = |algorithms: &[Algorithm]| -> Vec<&str> {
        // Older clients know Ed25519 by the name of RFC 8037 alone.
        let old = algorithms.contains(&Algorithm::Ed25519).then_some("EdDSA");
        algorithms.iter().map(|a| a.name()).chain(old).collect()
    };
    let mut methods = vec!["none", "client_secret_basic", "client_secret_post", "private_key_jwt"];
    if offered.mutual_tls {
        methods.extend(["tls_client_auth", "self_signed_tls_client_auth"]);
    }
    let scopes: BTreeSet<&str> =
        IDENTITY.iter().copied().chain(settings.default_scopes.iter().map(String::as_str)).collect();
    let grants: BTreeSet<&str> =
        offered.grants.iter().map(|g| g.name()).chain([GrantType::AuthorizationCode.name()]).collect();
    let acrs: Vec<&str> = ACRS.iter().map(|(name, _)| *name).collect();
    let mut out = json!({
        "issuer": &*authority.issuer,
        "authorization_endpoint": at("/oauth/authorize"),
        "token_endpoint": at("/oauth/token"),
        "pushed_authorization_request_endpoint": at("/oauth/par"),
        "userinfo_endpoint": at("/oauth/userinfo"),
        "end_session_endpoint": at("/oauth/logout"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": grants,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": names(Algorithm::ALL),
        "dpop_signing_alg_values_supported": names(Algorithm::ALL),
        "scopes_supported": scopes,
        "acr_values_supported": acrs,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["Ed25519"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "at_hash", "preferred_username"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "authorization_details_types_supported": bartizan_model::Exactly::TYPES,
        "authorization_response_iss_parameter_supported": true,
        "client_id_metadata_document_supported": settings.metadata_clients.is_some(),
        "require_pushed_authorization_requests": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "claims_parameter_supported": false,
    });
    let mut more = Map::new();
    if settings.registration {
        more.insert("registration_endpoint".to_owned(), at("/oauth/register"));
    }
    if offered.mutual_tls {
        more.insert("tls_client_certificate_bound_access_tokens".to_owned(), true.into());
    }
    for (name, path) in &offered.endpoints {
        more.insert((*name).to_owned(), at(path));
    }
    if let Some(out) = out.as_object_mut() {
        out.append(&mut more);
    }
    out
}
