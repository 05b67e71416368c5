//! What verification has to hear of first: the keys of issuers and trust domains, and what the house has written down of the
//! certificates that it issued.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Name};
use bartizan_identify::{IssuedCertificate, NeedBundle};
use bartizan_model::ReasonCode;
use bartizan_store::RowKind;
use bartizan_upstream::FetchPolicy;
use bytes::Bytes;

use crate::path::Gate;
use crate::world::World;

/// Between two attempts at fetching the same keys.
const GAP: Duration = Duration::from_secs(2);

/// When each was last asked for, on the monotonic clock; held while it is.
pub(crate) type Fetches = Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<u64>>>>>;

impl Gate {
    /// Fetches an issuer's keys.
    pub(crate) async fn fetch_keys(&self, world: &World, issuer: &Name) {
        let Some(spec) = world.tenants.values().find_map(|t| t.issuers.get(issuer)) else { return };
        let policy = FetchPolicy::Jwks { allow_private: spec.allow_private };
        let learn = |bytes: Bytes| {
            if let Err(error) = self.parts.identifier.learn_keys(issuer, &bytes, self.parts.clock.now()) {
                tracing::warn!(%issuer, %error, "the issuer's keys are not acceptable");
            }
        };
        self.fetch(issuer.as_str(), policy, &spec.jwks_url, learn).await;
    }

    /// Fetches the keys of a trust domain.
    pub(crate) async fn fetch_bundle(&self, world: &World, need: &NeedBundle) {
        let policy = FetchPolicy::TrustBundle { allow_private: need.allow_private };
        let (identifier, now) = (&self.parts.identifier, self.parts.clock.now());
        let learn = |bytes: Bytes| {
            if let Err(error) = identifier.learn_bundle(&world.directory, need, &bytes, now) {
                tracing::warn!(domain = %need.domain, %error, "the trust domain's keys are not acceptable");
            }
        };
        self.fetch(&need.rule.to_string(), policy, &need.url, learn).await;
    }

    /// Looks up a certificate that names our own trust domain.
    ///
    /// # Errors
    /// `CredentialUnknown` when the house has not issued it.
    pub(crate) async fn find_certificate(&self, thumbprint: Digest) -> Result<(), ReasonCode> {
        let row = self.parts.rows.row(RowKind::Certificate, &thumbprint.to_string()).await;
        let row = row.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a certificate could not be looked up");
            ReasonCode::StateUnavailable
        })?;
        let row = row.ok_or(ReasonCode::CredentialUnknown)?;
        let issued = serde_json::from_str::<IssuedCertificate>(&row.body).map_err(|error| {
            tracing::error!(row = row.id, %error, "what is kept of a certificate is not readable");
            ReasonCode::Internal
        })?;
        if issued.thumbprint != thumbprint {
            return Err(ReasonCode::CredentialUnknown);
        }
        self.parts.identifier.learn_certificate(row.tenant, issued, self.parts.clock.now());
        Ok(())
    }

    /// Fetches once for all who wait, and not again at once whatever came of it: anybody can name an issuer in a token that is
    /// not its own.
    async fn fetch(&self, key: &str, policy: FetchPolicy, url: &str, learn: impl FnOnce(Bytes)) {
        let last = {
            let mut all = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(key.to_owned()).or_default().clone()
        };
        let mut last = last.lock().await;
        if last.is_some_and(|at| self.since(at) < GAP) {
            return;
        }
        *last = Some(self.parts.clock.monotonic_us());
        match self.parts.upstreams.fetch(policy, url).await {
            Ok(bytes) => learn(bytes),
            Err(error) => {
                tracing::warn!(url, error = &error as &dyn std::error::Error, "keys could not be fetched")
            }
        }
    }
}
