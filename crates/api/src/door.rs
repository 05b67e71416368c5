//! The control API as a protected resource: what its callers present, and how it says what it needs of them.

use std::sync::Arc;

use bartizan_authority::clients::CONTROL_API;
use bartizan_control::{Control, Stopped};
use bartizan_identify::{Caller, PeerCertificate, Place, Presented};
use bartizan_model::{Problem, ReasonCode, Tenant};
use bartizan_wire::{Challenge, ProtectedResource, RESOURCE_METADATA};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts as Head;
use http::{HeaderMap, Method};
use serde_json::Value;

use crate::described::{By, Described};

/// The path of the API below the address of the control listener.
const PATH: &str = CONTROL_API;
/// What tokens for it may be asked for.
const SCOPES: [&str; 4] = ["house:read", "house:change", "content:read", "self:use"];
/// The header that a proof comes in (RFC 9449).
const PROOF: HeaderName = HeaderName::from_static("dpop");
/// The header that the next proof's nonce goes in.
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// What the listener answers about itself.
pub(crate) const DESCRIBED: &[Described] = &[
    Described::new(
        "GET",
        "/.well-known/oauth-protected-resource",
        By::Anyone,
        "-",
        "How the control listener is asked (RFC 9728).",
    ),
    Described::new(
        "GET",
        "/.well-known/oauth-protected-resource/api/v1",
        By::Anyone,
        "-",
        "The same for the API.",
    ),
];

/// How the control listener is known to those who ask there.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its address, which is also who issues tokens for it: configured, without a slash at the end.
    pub issuer: Arc<str>,
    /// Whether it takes certificates of clients.
    pub certificates: bool,
}

impl Published {
    fn resource(&self, path: &str) -> ProtectedResource {
        ProtectedResource {
            base: self.issuer.to_string(),
            path: path.to_owned(),
            name: "Bartizan control API",
            issuer: self.issuer.to_string(),
            scopes: SCOPES.to_vec(),
            certificates: self.certificates,
        }
    }

    /// The metadata of the API, at its own path and at the root (RFC 9728, 3).
    pub(crate) fn metadata(&self, method: &Method, path: &str) -> Option<Value> {
        let of = path.strip_prefix(RESOURCE_METADATA).filter(|_| method == Method::GET)?;
        matches!(of, "" | PATH).then(|| self.resource(of).metadata())
    }
}

/// What a request presents. Without an address no token of ours holds, and none that is bound.
///
/// # Errors
/// As for [`Presented::at`].
pub(crate) fn presented(published: Option<&Published>, head: &Head) -> Result<Presented, ReasonCode> {
    let values = |name: HeaderName| head.headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let resources = || {
        let of = |Published { issuer, .. }: &Published| vec![format!("{issuer}{PATH}"), issuer.to_string()];
        published.map(of).unwrap_or_default()
    };
    let place = || {
        let Some(Published { issuer, .. }) = published else { return Place::default() };
        Place {
            resources: resources(),
            method: head.method.as_str().to_owned(),
            uri: format!("{issuer}{}", head.uri.path()),
            certificate: head.extensions.get::<PeerCertificate>().map(PeerCertificate::thumbprint),
        }
    };
    let api_key = values(HeaderName::from_static("x-api-key"));
    let presented = Presented::at(values(AUTHORIZATION), api_key, values(PROOF), place)?;
    Ok(presented.or_certificate(head.extensions.get(), resources))
}

/// Who asks. That somebody could not be identified is recorded.
pub(crate) async fn identify(
    control: &Control,
    published: Option<&Published>,
    head: &Head,
) -> Result<Caller, Stopped> {
    let presented = match presented(published, head) {
        Ok(presented) => presented,
        Err(reason) => {
            let nobody = Caller::anonymous(Tenant::default_tenant());
            return Err(control.refuse_caller(&nobody, reason).await);
        }
    };
    match control.house.identify(&presented).await {
        Ok(caller) => Ok(caller),
        Err((caller, reason)) => Err(control.refuse_caller(&caller, reason).await),
    }
}

/// Says in an answer how to authenticate, where that is what is missing.
pub(crate) fn challenge(
    published: Option<&Published>,
    headers: &mut HeaderMap,
    problem: &Problem,
    action: Option<&str>,
) {
    let resource = published.map(|published| published.resource(PATH));
    let scopes: Vec<_> = action.into_iter().filter(|action| *action != "-").collect();
    let challenge = Challenge { problem, resource: resource.as_ref(), scopes: &scopes };
    for value in challenge.values() {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
}

/// Gives the nonce for the next proof.
pub(crate) fn next_nonce(headers: &mut HeaderMap, nonce: Option<String>) {
    if let Some(nonce) = nonce.and_then(|nonce| HeaderValue::try_from(nonce).ok()) {
        headers.insert(NONCE, nonce);
    }
}

/// Whether a request comes with a proof.
pub(crate) fn is_proven(headers: &HeaderMap) -> bool {
    headers.contains_key(PROOF)
}
