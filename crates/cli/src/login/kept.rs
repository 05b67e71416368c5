//! The tokens of a login as they are kept: a file of the person's own for each context, `tokens/NAME.json`.

use std::path::{Path, PathBuf};

use bartizan_base::Timestamp;
use bartizan_jose::{Algorithm, SigningKey};
use bartizan_secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::token::Given;
use super::{Discovered, LoginError};
use crate::contexts::ContextName;
use crate::private::{self, PrivateError};
use crate::server::{Server, is_guarded};

/// The tokens of one login and the key that they are bound to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tokens {
    /// Whose tokens: they are presented nowhere else.
    pub(super) server: Server,
    resource: String,
    token_endpoint: Url,
    revocation_endpoint: Url,
    /// The scopes that were allowed.
    pub(super) scope: String,
    pub(super) access_token: Secret<String>,
    /// Until when the access token holds, by our own clock.
    until_us: u64,
    pub(super) refresh_token: Option<Secret<String>>,
    /// The private half of the key: the seed of Ed25519 in base64url.
    key: Secret<String>,
    /// The last nonce for proofs that the server gave.
    pub(super) nonce: Option<String>,
}

impl Tokens {
    pub(super) fn new(
        server: &Server,
        found: &Discovered,
        given: Given,
        began: Timestamp,
        key: &Secret<[u8; 32]>,
        nonce: Option<String>,
    ) -> Self {
        Self {
            server: server.clone(),
            resource: found.resource.clone(),
            token_endpoint: found.token.clone(),
            revocation_endpoint: found.revocation.clone(),
            scope: given.scope.clone().unwrap_or_default(),
            until_us: began.saturating_add(given.life()).as_micros(),
            access_token: given.access_token,
            refresh_token: given.refresh_token,
            key: Secret::new(URL_SAFE_NO_PAD.encode(key.expose())),
            nonce,
        }
    }

    /// The same after a refresh.
    pub(super) fn renewed(self, given: Given, began: Timestamp, nonce: Option<String>) -> Self {
        Self {
            scope: given.scope.clone().unwrap_or(self.scope),
            until_us: began.saturating_add(given.life()).as_micros(),
            access_token: given.access_token,
            // One that is not replaced holds on (RFC 6749, 6).
            refresh_token: given.refresh_token.or(self.refresh_token),
            nonce,
            ..self
        }
    }

    /// Until when the access token holds.
    pub(super) const fn until(&self) -> Timestamp {
        Timestamp::from_micros(self.until_us)
    }

    pub(super) fn resource(&self) -> &str {
        &self.resource
    }

    pub(super) const fn token_endpoint(&self) -> &Url {
        &self.token_endpoint
    }

    pub(super) const fn revocation_endpoint(&self) -> &Url {
        &self.revocation_endpoint
    }

    /// The key that they are bound to.
    pub(super) fn key(&self) -> Result<SigningKey, LoginError> {
        let broken = || LoginError::Key("what is kept of it is broken");
        let seed = Secret::new(URL_SAFE_NO_PAD.decode(self.key.expose()).map_err(|_| broken())?);
        let seed = <[u8; 32]>::try_from(seed.expose().as_slice()).map_err(|_| broken())?;
        SigningKey::from_private(Algorithm::Ed25519, Secret::new(seed)).map_err(|_| broken())
    }

    /// Where those of a context lie.
    pub(super) fn place(folder: &Path, context: &ContextName) -> PathBuf {
        folder.join("tokens").join(format!("{context}.json"))
    }

    /// Those of a context; none if nobody is logged in there.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, PrivateError> {
        let Some(text) = private::read(path)? else { return Ok(None) };
        // The parser's own words could repeat what stands there.
        let broken = || PrivateError::content(path, "it is not what `bartizan login` writes");
        let tokens: Self = serde_json::from_str(text.expose()).map_err(|_| broken())?;
        let guarded = [&tokens.token_endpoint, &tokens.revocation_endpoint].into_iter().all(is_guarded);
        if guarded { Ok(Some(tokens)) } else { Err(broken()) }
    }

    /// Keeps them; whoever calls this holds the lock of the file.
    pub(super) fn write(&self, path: &Path) -> Result<(), PrivateError> {
        let text = json!({
            "server": self.server,
            "resource": self.resource,
            "token_endpoint": self.token_endpoint.as_str(),
            "revocation_endpoint": self.revocation_endpoint.as_str(),
            "scope": self.scope,
            "access_token": self.access_token.expose(),
            "until_us": self.until_us,
            "refresh_token": self.refresh_token.as_ref().map(Secret::expose),
            "key": self.key.expose(),
            "nonce": self.nonce,
        });
        private::write(path, &Secret::new(text.to_string()))
    }
}
