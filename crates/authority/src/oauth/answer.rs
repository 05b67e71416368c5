//! The answer of the token endpoint.

use bartizan_secret::Secret;
use serde_json::{Map, Value};

/// A token answer (RFC 6749, 5.1; OpenID Connect Core, 3.1.3.3; RFC 8693, 2.2.1). Sent with `Cache-Control: no-store`.
#[derive(Debug)]
pub struct TokenAnswer {
    /// The access token.
    pub access_token: Secret<String>,
    /// `Bearer`, `DPoP`, or `N_A` where an exchange gives something else.
    pub token_type: &'static str,
    /// How long it lives, in seconds.
    pub expires_in_s: u64,
    /// The refresh token.
    pub refresh_token: Option<Secret<String>>,
    /// The ID token.
    pub id_token: Option<Secret<String>>,
    /// The scope that was given, always said.
    pub scope: String,
    /// What exactly was given (RFC 9396).
    pub authorization_details: Vec<Value>,
    /// What kind of token it is, where it was exchanged (RFC 8693).
    pub issued_token_type: Option<&'static str>,
}

impl TokenAnswer {
    /// The body: JSON that holds secrets.
    #[must_use]
    pub fn to_json(&self) -> Secret<String> {
        let mut out = Map::new();
        let mut put = |name: &str, value: Value| {
            out.insert(name.to_owned(), value);
        };
        put("access_token", self.access_token.expose().as_str().into());
        put("token_type", self.token_type.into());
        put("expires_in", self.expires_in_s.into());
        if let Some(token) = &self.refresh_token {
            put("refresh_token", token.expose().as_str().into());
        }
        if let Some(token) = &self.id_token {
            put("id_token", token.expose().as_str().into());
        }
        put("scope", self.scope.as_str().into());
        if !self.authorization_details.is_empty() {
            put("authorization_details", self.authorization_details.clone().into());
        }
        if let Some(kind) = self.issued_token_type {
            put("issued_token_type", kind.into());
        }
        Secret::new(Value::Object(out).to_string())
    }
}
