//! Requests on their way: sealed into the name that stands for them, so that nothing is kept for somebody unproven.

use std::sync::Arc;

use bartizan_base::{Name, Random, Timestamp};
use bartizan_keys::Sealer;
use bartizan_model::Tenant;
use bartizan_secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::oauth::{OauthCode, OauthError};

/// How all names of requests begin (RFC 9126, 2.2).
const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";
/// The longest request, sealed: it must fit into an address.
const SEALED_MAX: usize = 6 << 10;

/// A request as it came.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sealed {
    /// Its parameters.
    pub(super) pairs: Vec<(String, String)>,
    /// When it first came.
    pub(super) began: Timestamp,
    /// Until when it can be answered.
    pub(super) until: Timestamp,
    /// Whether a client has pushed it.
    pub(super) pushed: bool,
}

#[derive(Debug)]
pub(super) struct Sealing {
    sealer: Sealer,
    random: Arc<dyn Random>,
}

impl Sealing {
    pub(super) fn new(sealer: Sealer, random: Arc<dyn Random>) -> Self {
        Self { sealer, random }
    }

    /// The name of a request.
    pub(super) fn seal(&self, tenant: &Tenant, request: &Sealed) -> Result<String, OauthError> {
        let broken = |_| OauthError::new(OauthCode::ServerError, "the request could not be sealed");
        let text = serde_json::to_string(request).map_err(|_| broken(()))?;
        if text.len() > SEALED_MAX {
            return Err(OauthError::request("the request is too long"));
        }
        let sealed =
            self.sealer.seal(&Secret::new(text), tenant, &place(), &*self.random).map_err(|_| broken(()))?;
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// The request of that name, if it is one of ours and not over.
    pub(super) fn open(&self, tenant: &Tenant, name: &str, now: Timestamp) -> Result<Sealed, OauthError> {
        let refuse = || OauthError::new(OauthCode::InvalidRequestUri, "no request of ours, or it is over");
        let sealed = name
            .strip_prefix(PREFIX)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .ok_or_else(refuse)?;
        let text = self.sealer.open(&sealed, tenant, &place()).map_err(|_| refuse())?;
        let request: Sealed = serde_json::from_str(text.expose()).map_err(|_| refuse())?;
        if request.until <= now { Err(refuse()) } else { Ok(request) }
    }
}

fn place() -> Name {
    Name::literal("oauth/request")
}
