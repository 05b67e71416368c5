//! The doors of the data plane as protected resources (RFC 9728): what tokens must be for to hold there.
//!
//! A token of ours is for one resource. That of the whole plane holds at every door, that of a door at this door alone.

use std::sync::Arc;

use bartizan_identify::{PeerCertificate, Place, Presented};
use bartizan_model::{Action, Problem, ReasonCode};
use bartizan_wire::{Challenge, ProtectedResource, RESOURCE_METADATA};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts as Head;
use http::{HeaderMap, Method};

use crate::path::Gate;
use crate::reply::{self, Reply};

/// How the data plane is known to those who ask there.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its address, without a slash at the end: configured, and never what a request says.
    pub base: String,
    /// Who issues tokens for it, if there is an authority of our own.
    pub issuer: Option<Arc<str>>,
    /// Whether its listener takes certificates of clients.
    pub certificates: bool,
}

/// A part of the data plane with tokens of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Everything.
    Plane,
    /// Calls of models.
    Models,
    /// The decision API.
    Decisions,
    /// External APIs.
    Apis,
    /// Servers of tools, each and all.
    Tools,
}

/// The header that a proof comes in (RFC 9449).
const PROOF: HeaderName = HeaderName::from_static("dpop");
/// The header that the next proof's nonce goes in.
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

impl Door {
    const ALL: [Self; 5] = [Self::Models, Self::Decisions, Self::Apis, Self::Tools, Self::Plane];

    const fn path(self) -> &'static str {
        match self {
            Self::Plane => "",
            Self::Models => "/v1",
            Self::Decisions => "/access/v1",
            Self::Apis => "/apis",
            Self::Tools => "/mcp",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Plane => "Bartizan data plane",
            Self::Models => "Models",
            Self::Decisions => "Decisions",
            Self::Apis => "External APIs",
            Self::Tools => "Tools",
        }
    }

    const fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Plane => &[
                "model:use",
                "model:list",
                "tool:use",
                "tool:list",
                "access:evaluate",
                "access:search",
                "api:call",
            ],
            Self::Models => &["model:use", "model:list"],
            Self::Decisions => &["access:evaluate", "access:search"],
            Self::Apis => &["api:call"],
            Self::Tools => &["tool:use", "tool:list"],
        }
    }

    /// The door that answers at `path`.
    fn at(path: &str) -> Self {
        // Models are called at the addresses of other providers, too.
        if bartizan_wire::Address::dialect_at(path).is_some() {
            return Self::Models;
        }
        let below = |door: &&Self| match path.strip_prefix(door.path()) {
            // The endpoint of all servers of tools is the door itself.
            Some("") => **door == Self::Tools,
            Some(rest) => rest.starts_with('/'),
            None => false,
        };
        Self::ALL.iter().find(below).copied().unwrap_or(Self::Plane)
    }
}

impl Published {
    /// The identifiers of the resources that `path` is part of: what a token of ours may be for.
    fn resources(&self, path: &str) -> Vec<String> {
        let door = Door::at(path);
        let own = (door != Door::Plane).then(|| format!("{}{}", self.base, door.path()));
        own.into_iter().chain([self.base.clone()]).collect()
    }

    fn resource(&self, door: Door) -> Option<ProtectedResource> {
        Some(ProtectedResource {
            base: self.base.clone(),
            path: door.path().to_owned(),
            name: door.name(),
            issuer: self.issuer.as_deref()?.to_owned(),
            scopes: door.scopes().to_vec(),
            certificates: self.certificates,
        })
    }
}

/// What a request presents.
///
/// # Errors
/// As for [`Presented::at`].
pub(crate) fn presented(published: &Published, head: &Head) -> Result<Presented, ReasonCode> {
    let values = |name: HeaderName| head.headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let place = || Place {
        resources: published.resources(head.uri.path()),
        method: head.method.as_str().to_owned(),
        uri: format!("{}{}", published.base, head.uri.path()),
        certificate: head.extensions.get::<PeerCertificate>().map(PeerCertificate::thumbprint),
    };
    // Where a provider's own libraries ask, they present a key in a header of their own.
    let path = head.uri.path();
    let azure = path.starts_with("/openai/").then(|| HeaderName::from_static("api-key"));
    let gemini = path.starts_with("/v1beta/").then(|| HeaderName::from_static("x-goog-api-key"));
    let own = [Some(HeaderName::from_static("x-api-key")), azure, gemini];
    let api_key = own.into_iter().flatten().flat_map(values);
    let presented = Presented::at(values(AUTHORIZATION), api_key, values(PROOF), place)?;
    Ok(presented.or_certificate(head.extensions.get(), || published.resources(head.uri.path())))
}

impl Gate {
    /// The metadata of a protected resource, at its own path and no other (RFC 9728, 3); none where there is no authority.
    #[must_use]
    pub fn resource_metadata(&self, method: &Method, path: &str) -> Option<Reply> {
        let of = path.strip_prefix(RESOURCE_METADATA).filter(|_| method == Method::GET)?;
        let door = Door::ALL.iter().copied().find(|door| door.path() == of)?;
        let resource = self.parts.published.resource(door)?;
        Some(reply::json(200, resource.metadata().to_string().into()))
    }

    /// Says in an answer how to authenticate, where that is what is missing.
    pub(crate) fn challenge(
        &self,
        headers: &mut HeaderMap,
        problem: &Problem,
        path: &str,
        action: Option<Action>,
    ) {
        crate::reply::tell(headers, &problem.fields);
        let resource = self.parts.published.resource(Door::at(path));
        let scopes: Vec<_> = action.iter().map(|action| action.name()).collect();
        let challenge = Challenge { problem, resource: resource.as_ref(), scopes: &scopes };
        for value in challenge.values() {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(WWW_AUTHENTICATE, value);
            }
        }
        if problem.reason == ReasonCode::ProofNonceNeeded {
            self.next_nonce(headers);
        }
    }

    /// The nonce for the next proof, where one is asked for.
    #[must_use]
    pub fn proof_nonce(&self) -> Option<String> {
        self.parts.identifier.nonce(self.parts.clock.now())
    }

    /// Gives the nonce for the next proof to those who prove (RFC 9449, 8.2).
    pub fn next_nonce(&self, headers: &mut HeaderMap) {
        if let Some(nonce) = self.proof_nonce().and_then(|nonce| HeaderValue::try_from(nonce).ok()) {
            headers.insert(NONCE, nonce);
        }
    }
}

/// Whether a request comes with a proof.
#[must_use]
pub fn is_proven(headers: &HeaderMap) -> bool {
    headers.contains_key(PROOF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Published {
        Published { base: "https://ai.example".to_owned(), issuer: None, certificates: false }
    }

    #[test]
    fn attack_40_a_path_is_part_of_its_own_door_and_of_the_plane_and_of_no_other_door() {
        let of = |path| published().resources(path).join(" ");
        let (plane, models) = ("https://ai.example", "https://ai.example/v1 https://ai.example");
        assert_eq!(of("/v1/chat/completions"), models);
        assert_eq!(of("/access/v1/evaluation"), "https://ai.example/access/v1 https://ai.example");
        let tools = "https://ai.example/mcp https://ai.example";
        assert_eq!((of("/mcp").as_str(), of("/mcp/files").as_str()), (tools, tools));
        for other in ["/", "/v1", "/v10/x", "/access", "/x/v1/models", "/mcpx", "/.well-known/x"] {
            assert_eq!(of(other), plane, "{other}");
        }
    }
}
