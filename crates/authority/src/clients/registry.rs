//! Finding clients.

use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_jose::Nonces;
use bartizan_model::Tenant;
use bartizan_store::{Change, Row, RowKind, StoreError};
use serde::{Deserialize, Serialize};

use super::document::{self, Address};
use super::fetch::{Fetch, FetchFailed, Fetches, Wanted};
use super::once::Seen;
use super::{Client, Origin};
use crate::Authority;
use crate::kept::{Held, Kept, find};
use crate::oauth::{OauthCode, OauthError};

/// How long a nonce for proofs is handed out. It is taken one period longer.
const NONCE_PERIOD: Duration = Duration::from_secs(120);
/// How long a client that registered itself, or was allowed something, is remembered without either happening again.
const CLIENT_LIFE: Duration = Duration::from_secs(400 * 24 * 3_600);

/// Knows all clients.
#[derive(Debug)]
pub struct Registry {
    pub(super) authority: Authority,
    pub(super) fetches: Fetches,
    pub(super) seen: Seen,
    pub(super) nonces: Nonces,
}

/// A client in a row: one that registered itself, or the description of one that somebody has agreed to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptClient {
    /// As it was described.
    pub(crate) client: Client,
    /// Who answers for it: the owner for lists.
    pub(crate) by: String,
    /// When.
    pub(crate) at: Timestamp,
}

impl Kept for KeptClient {
    const KIND: RowKind = RowKind::Client;

    fn owner(&self) -> String {
        self.by.clone()
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.at.saturating_add(CLIENT_LIFE))
    }
}

/// Under what a client lies in rows.
pub(crate) fn row_id(tenant: &Tenant, client: &str) -> String {
    Digest::of_parts(&[tenant.0.as_bytes(), b"\0", client.as_bytes()]).to_string()
}

impl Registry {
    /// The clients of an authority; what they publish is fetched by `fetch`.
    #[must_use]
    pub fn new(authority: Authority, fetch: Arc<dyn Fetch>) -> Self {
        let nonces = Nonces::new(authority.control.sealer.derive("nonces of proofs"), NONCE_PERIOD);
        Self { authority, fetches: Fetches::new(fetch), seen: Seen::default(), nonces }
    }

    /// The authority whose clients they are.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A nonce for the next proof of possession (RFC 9449, 8).
    #[must_use]
    pub fn nonce(&self) -> String {
        self.nonces.current(self.authority.control.clock.now())
    }

    /// The client that an authorization request names. The document of one that publishes it is read anew, within its bounds.
    ///
    /// # Errors
    /// `invalid_client` when there is none; nothing may be sent to an address that such a request names.
    pub async fn find(&self, id: &str) -> Result<Client, OauthError> {
        let now = self.authority.control.clock.now();
        let settings = &self.authority.settings;
        if let Some(trusted) = settings.metadata_clients.as_ref().filter(|_| id.starts_with("https:")) {
            let address = Address::read(id, trusted).ok_or_else(OauthError::client)?;
            let body =
                self.fetches.get(Wanted::Document, id, address.private, now, None).await.map_err(failed)?;
            return document::read(id, &body, &settings.tenant, trusted);
        }
        self.known(id, now).await
    }

    /// The client that a request to the token endpoint names: as it was when somebody allowed it something. Nothing is
    /// fetched about it.
    ///
    /// # Errors
    /// `invalid_client` when there is none.
    pub async fn known(&self, id: &str, now: Timestamp) -> Result<Client, OauthError> {
        let tenant = &self.authority.settings.tenant;
        let view = self.authority.control.house.view(tenant)?;
        if let Some(client) = Client::declared(&view.state, tenant, id) {
            return Ok(client);
        }
        if let Some(client) = Client::built_in(&view.state, tenant, &self.authority.issuer, id) {
            return Ok(client);
        }
        let held: Option<Held<KeptClient>> = find(&*self.authority.rows, &row_id(tenant, id), now).await?;
        let client =
            held.filter(|held| held.tenant == *tenant && held.value.client.id == id).map(|h| h.value.client);
        let client = client.ok_or_else(OauthError::client)?;
        // What was allowed by a setting ends with it.
        let allowed = match client.origin {
            Origin::Declared | Origin::BuiltIn => false,
            Origin::Registered => self.authority.settings.registration,
            Origin::Document => self
                .authority
                .settings
                .metadata_clients
                .as_ref()
                .is_some_and(|trusted| Address::read(id, trusted).is_some()),
        };
        if allowed { Ok(client) } else { Err(OauthError::client()) }
    }

    /// The change that keeps what somebody has agreed to of a client that is known by its document.
    ///
    /// # Errors
    /// When the state database does not answer.
    pub(crate) async fn keep_agreed(
        &self,
        client: &Client,
        now: Timestamp,
    ) -> Result<Option<Change>, StoreError> {
        if client.origin != Origin::Document {
            return Ok(None);
        }
        let id = row_id(&client.tenant, &client.id);
        // Also one that is over but was not swept yet is replaced.
        let present = self.authority.rows.row(RowKind::Client, &id).await?;
        let kept = KeptClient { client: client.clone(), by: String::new(), at: now };
        let body = serde_json::to_string(&kept).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let row = Row {
            tenant: client.tenant.clone(),
            kind: RowKind::Client,
            id,
            owner: kept.owner(),
            expires: kept.expires(),
            version: 0,
            body,
        };
        Ok(Some(Change::PutRow { row, expect: present.map(|row| row.version) }))
    }
}

pub(super) fn failed(error: FetchFailed) -> OauthError {
    let code = match error {
        FetchFailed::Nothing => OauthCode::InvalidClient,
        FetchFailed::Budget => OauthCode::TemporarilyUnavailable,
    };
    OauthError::new(code, error.to_string())
}
