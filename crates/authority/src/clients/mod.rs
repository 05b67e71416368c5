//! Client programs: known from the directory, by a document that they publish about themselves, or registered by somebody.

mod authenticate;
mod built_in;
mod certificate;
mod document;
mod fetch;
mod once;
mod redirect;
mod register;
mod registry;
mod spec;

use std::collections::BTreeSet;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_jose::{Confirmation, Jkt, X5t};
use bartizan_model::{Binding, GrantType, PrincipalRef, Tenant};
use bartizan_store::Change;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use authenticate::HoldError;
pub use authenticate::Request;
pub use built_in::CONTROL_API;
pub use certificate::PeerCertificate;
pub use fetch::{Fetch, FetchFailed, Fetched, Wanted};
pub(crate) use once::use_up;
pub(crate) use redirect::{host, is_local, is_same};
pub use register::Registered;
pub use registry::Registry;

/// A client program, whichever way it is known. A snapshot of it is kept with what somebody allowed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// Whose.
    pub tenant: Tenant,
    /// How it is known.
    pub origin: Origin,
    /// The name of its document in the directory, or a name that stands for its id in epochs and records ([`epoch_name`]).
    pub name: Name,
    /// What people are shown.
    pub display: String,
    /// Where answers may be sent.
    pub redirects: BTreeSet<String>,
    /// Where the browser may be sent after logging out.
    pub post_logout_redirects: BTreeSet<String>,
    /// By what it may come to tokens.
    pub grants: BTreeSet<GrantType>,
    /// The most it may be given.
    pub scopes: BTreeSet<String>,
    /// The addresses it may have tokens for; empty for all that the authority issues for.
    pub resources: BTreeSet<String>,
    /// The addresses that it answers at.
    #[serde(default)]
    pub serves: BTreeSet<String>,
    /// How it proves what it is.
    pub authentication: Authentication,
    /// Who it is when it acts for itself.
    pub principal: Option<PrincipalRef>,
    /// Whether its tokens must be bound.
    pub bound: bool,
    /// Whether it must push its authorization requests.
    pub pushed: bool,
}

/// How a client is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An administrator declared it.
    Declared,
    /// It was registered over the protocol (RFC 7591).
    Registered,
    /// By the document at its `client_id`.
    Document,
    /// It is part of the product: the command line.
    BuiltIn,
}

/// How a client proves what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// Not at all.
    None,
    /// By a secret, of which these are the digests.
    Secret(BTreeSet<Digest>),
    /// By assertions under keys at hand.
    Keys(Map<String, Value>),
    /// By assertions under keys at an address.
    KeysAt {
        /// Where.
        url: String,
        /// Whether that may be private.
        allow_private: bool,
    },
    /// By a certificate of a trusted authority that names this.
    Tls(TlsName),
    /// By one of these certificates.
    Certificates(BTreeSet<Digest>),
}

/// What a certificate must name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsName {
    /// As its subject, written after RFC 4514.
    Subject(String),
    /// Among its DNS names.
    Dns(String),
    /// Among its addresses.
    Uri(String),
}

/// What the request proved to hold, beside the client's own credential: what tokens are bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The key of a DPoP proof.
    pub key: Option<Jkt>,
    /// The certificate of the connection.
    pub certificate: Option<X5t>,
}

impl Bound {
    /// As tokens say it.
    #[must_use]
    pub const fn confirmation(self) -> Option<Confirmation> {
        Some(match (self.key, self.certificate) {
            (Some(key), Some(certificate)) => Confirmation::Both(key, certificate),
            (Some(key), None) => Confirmation::Key(key),
            (None, Some(certificate)) => Confirmation::Certificate(certificate),
            (None, None) => return None,
        })
    }

    /// As policies see it.
    #[must_use]
    pub const fn binding(self) -> Binding {
        match (self.key, self.certificate) {
            (Some(key), _) => Binding::Dpop(*key.digest()),
            (None, Some(certificate)) => Binding::Mtls(*certificate.digest()),
            (None, None) => Binding::None,
        }
    }
}

/// A client in a request: one that has proven what it is, or a public one that was merely named.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Which.
    pub client: Client,
    /// Whether it has proven what it is. Public clients never have.
    pub proven: bool,
    /// What tokens of this request are bound to.
    pub bound: Bound,
    /// What must be kept so that an assertion and a proof are taken once. Whoever changes anything for this request puts
    /// these into the same set of changes; a conflict in them is a replay.
    pub used: Vec<Change>,
    /// When it authenticated.
    pub at: Timestamp,
}

impl Client {
    /// Whether it cannot keep a secret.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        matches!(self.authentication, Authentication::None)
    }

    /// Whether the house knows whom it belongs to: an administrator has declared it, and it proves what it is. Of others,
    /// nothing is remembered that would let them through unseen.
    #[must_use]
    pub const fn is_identified(&self) -> bool {
        matches!(self.origin, Origin::Declared) && !self.is_public()
    }

    /// Whether tokens for `resource` are for it.
    #[must_use]
    pub fn is_at(&self, resource: &str) -> bool {
        self.serves.contains(resource)
    }

    /// Whether it may come to tokens by `grant`.
    #[must_use]
    pub fn may(&self, grant: GrantType) -> bool {
        self.grants.contains(&grant)
    }
}

/// The name that stands for a client in epochs, records and `Caller::client`: what doors look its mark up by.
#[must_use]
pub fn epoch_name(id: &str) -> Name {
    bartizan_identify::client_mark(id).unwrap_or_else(|| Name::literal("client"))
}
