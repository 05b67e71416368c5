//! What is kept of connections. Tokens and verifiers lie sealed, each under a name of its own, so that none opens elsewhere.

use std::collections::BTreeSet;

use bartizan_base::{Name, Timestamp};
use bartizan_control::Control;
use bartizan_model::{ConnectionId, Principal, Problem, ReasonCode, Tenant};
use bartizan_secret::Secret;
use bartizan_store::RowKind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::flow::{Sent, Tokens};
use super::{ConnectionView, LIFE};
use crate::kept::{Kept, owner};

/// A connection in progress. Its id is the digest of its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Connecting {
    pub(super) user: Principal,
    pub(super) agent: Option<Principal>,
    pub(super) client: Option<Name>,
    pub(super) provider: Name,
    /// Sealed.
    pub(super) verifier: String,
    pub(super) sent: Sent,
    pub(super) ends: Timestamp,
}

impl Kept for Connecting {
    const KIND: RowKind = RowKind::Connecting;

    fn owner(&self) -> String {
        owner(&self.user)
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.ends)
    }
}

/// An external account that somebody connected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connection {
    /// Which.
    pub id: ConnectionId,
    /// Whose.
    pub user: Principal,
    /// The agent that may use it; none for the person themselves.
    pub agent: Option<Principal>,
    /// The client program through which.
    pub client: Option<Name>,
    /// Where.
    pub provider: Name,
    /// What was agreed on with the server, which the tokens belong to.
    pub sent: Sent,
    /// What it may be used for there.
    pub scopes: BTreeSet<String>,
    /// Sealed.
    pub(super) access: String,
    /// When the access token ends.
    pub access_ends: Option<Timestamp>,
    /// Sealed.
    pub(super) refresh: Option<String>,
    /// When it was connected.
    pub connected: Timestamp,
    /// When its tokens were last renewed.
    pub renewed: Timestamp,
    /// Until when one node alone renews them.
    pub renewing: Option<Timestamp>,
    /// Whether the provider has said that it is over.
    pub over: bool,
}

impl Kept for Connection {
    const KIND: RowKind = RowKind::Connection;

    fn owner(&self) -> String {
        owner(&self.user)
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.connected.saturating_add(LIFE))
    }
}

impl Connection {
    pub(super) fn new(
        control: &Control,
        tenant: &Tenant,
        id: ConnectionId,
        begun: &Connecting,
        tokens: &Tokens,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        Ok(Self {
            id,
            user: begun.user.clone(),
            agent: begun.agent.clone(),
            client: begun.client.clone(),
            provider: begun.provider.clone(),
            sent: begun.sent.clone(),
            scopes: tokens.scopes.clone().unwrap_or_else(|| begun.sent.scopes.clone()),
            access: sealed(control, tenant, &place(id, "access"), &tokens.access)?,
            access_ends: tokens.expires,
            refresh: seal_opt(control, tenant, id, tokens.refresh.as_ref())?,
            connected: now,
            renewed: now,
            renewing: None,
            over: false,
        })
    }

    /// The same with the next tokens. A server that sends no new refresh token lets the old one live (RFC 6749, 6).
    pub(super) fn renew(
        mut self,
        control: &Control,
        tenant: &Tenant,
        tokens: &Tokens,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        self.access = sealed(control, tenant, &place(self.id, "access"), &tokens.access)?;
        self.access_ends = tokens.expires;
        if tokens.refresh.is_some() {
            self.refresh = seal_opt(control, tenant, self.id, tokens.refresh.as_ref())?;
        }
        // What the server says may only be less than what was given.
        if let Some(scopes) = &tokens.scopes {
            self.scopes = self.scopes.intersection(scopes).cloned().collect();
        }
        (self.renewed, self.renewing) = (now, None);
        Ok(self)
    }

    pub(super) fn is_for(&self, provider: &Name, agent: Option<&Principal>, client: Option<&Name>) -> bool {
        self.provider == *provider
            && self.agent.as_ref().map(|a| a.id) == agent.map(|a| a.id)
            && self.client.as_ref() == client
    }

    pub(super) fn view(&self) -> ConnectionView {
        ConnectionView {
            id: self.id,
            provider: self.provider.clone(),
            agent: self.agent.as_ref().map(|a| a.name.clone()),
            client: self.client.clone(),
            issuer: self.sent.server.issuer.clone(),
            resource: self.sent.resource.clone(),
            scopes: self.scopes.clone(),
            connected_us: self.connected,
            renewed_us: self.renewed,
            alive: !self.over,
        }
    }

    pub(super) fn access(&self, control: &Control, tenant: &Tenant) -> Result<Secret<String>, Problem> {
        opened(control, tenant, &place(self.id, "access"), &self.access)
    }

    pub(super) fn refresh(
        &self,
        control: &Control,
        tenant: &Tenant,
    ) -> Result<Option<Secret<String>>, Problem> {
        let opened = |text: &String| opened(control, tenant, &place(self.id, "refresh"), text);
        self.refresh.as_ref().map(opened).transpose()
    }

    /// Everything that is to be ended at the provider, the longest-lived first.
    pub(super) fn secrets(&self, control: &Control, tenant: &Tenant) -> Vec<(Secret<String>, &'static str)> {
        let refresh = self.refresh(control, tenant).ok().flatten().map(|t| (t, "refresh_token"));
        let access = self.access(control, tenant).ok().map(|t| (t, "access_token"));
        refresh.into_iter().chain(access).collect()
    }
}

fn place(id: ConnectionId, what: &str) -> String {
    format!("{id}/{what}")
}

fn seal_opt(
    control: &Control,
    tenant: &Tenant,
    id: ConnectionId,
    token: Option<&Secret<String>>,
) -> Result<Option<String>, Problem> {
    token.map(|token| sealed(control, tenant, &place(id, "refresh"), token)).transpose()
}

fn name(place: &str) -> Result<Name, Problem> {
    format!("connection/{place}").parse().map_err(|_| Problem::new(ReasonCode::Internal))
}

/// Seals a secret for one place.
pub(crate) fn sealed(
    control: &Control,
    tenant: &Tenant,
    place: &str,
    secret: &Secret<String>,
) -> Result<String, Problem> {
    let sealed = control.sealer.seal(secret, tenant, &name(place)?, &*control.random);
    sealed.map(|bytes| STANDARD.encode(bytes)).map_err(broken)
}

/// Opens what was sealed for that place.
pub(crate) fn opened(
    control: &Control,
    tenant: &Tenant,
    place: &str,
    sealed: &str,
) -> Result<Secret<String>, Problem> {
    let bytes = STANDARD.decode(sealed).map_err(broken)?;
    control.sealer.open(&bytes, tenant, &name(place)?).map_err(broken)
}

fn broken(error: impl std::error::Error + 'static) -> Problem {
    tracing::error!(
        error = &error as &dyn std::error::Error,
        "a connection's secret could not be sealed or opened"
    );
    Problem::new(ReasonCode::Internal)
}
