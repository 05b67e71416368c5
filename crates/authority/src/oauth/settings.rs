//! How the authority is set up.

use std::collections::BTreeSet;
use std::time::Duration;

use bartizan_model::Tenant;

/// How the authority is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose clients and people it serves: one issuer, one organisation.
    pub tenant: Tenant,
    /// The addresses it issues tokens for (RFC 8707), to the letter.
    pub resources: BTreeSet<String>,
    /// The one of them that is meant where none is named; without, the first in order.
    pub default_resource: Option<String>,
    /// What a client is given that asks for no scope.
    pub default_scopes: BTreeSet<String>,
    /// Whether clients may be named by the address of a document about them; none for no.
    pub metadata_clients: Option<MetadataClients>,
    /// Whether clients may register themselves (RFC 7591), on behalf of somebody who may do `client:register`.
    pub registration: bool,
    /// Whether a proof of possession needs a nonce of ours (RFC 9449, 8).
    pub dpop_nonce: bool,
    /// Hosts, with their ports where they are not 443, that receive security events at private addresses, also in the clear.
    pub private_receivers: BTreeSet<String>,
    /// How long somebody has for logging in and answering.
    pub request_life: Duration,
    /// How long a code lives.
    pub code_life: Duration,
    /// How long what was allowed lives, at most.
    pub grant_life: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tenant: Tenant::default_tenant(),
            resources: BTreeSet::new(),
            default_resource: None,
            default_scopes: ["model:use".to_owned()].into(),
            metadata_clients: None,
            registration: false,
            dpop_nonce: true,
            private_receivers: BTreeSet::new(),
            request_life: Duration::from_secs(600),
            code_life: Duration::from_secs(60),
            grant_life: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}

/// Clients that are named by the address of a document about them.
#[derive(Clone, Debug, Default)]
pub struct MetadataClients {
    /// Hosts whose documents are taken; none for any. An entry that starts with a dot covers what is below it.
    pub hosts: Option<BTreeSet<String>>,
    /// Hosts, with their ports where they are not 443, whose addresses may be private. They alone may use other ports.
    pub private_hosts: BTreeSet<String>,
    /// The most they may be given.
    pub scopes: BTreeSet<String>,
}
