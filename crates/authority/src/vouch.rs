//! Vouching for a caller towards a service behind a proxy.

use std::time::Duration;

use bartizan_jose::{Actor, Audience, Times, VouchedClaims};
use bartizan_model::{DecisionId, Problem, ReasonCode, Tenant};
use bartizan_secret::Secret;

use crate::Authority;

/// For how long it holds: one request.
const LIFE: Duration = Duration::from_secs(60);

/// What is vouched for.
#[derive(Clone, Copy, Debug)]
pub struct Vouching<'a> {
    /// Who asks: `user/alice`.
    pub subject: &'a str,
    /// Who acts for them, the nearest first.
    pub actors: &'a [String],
    /// In which tenant.
    pub tenant: &'a Tenant,
    /// The origin of the service.
    pub audience: &'a str,
    /// The decision, whose record is durable already.
    pub decision: DecisionId,
}

impl Authority {
    /// Signs for a service who was let through to it. The decision is what is recorded; the token says nothing more.
    ///
    /// # Errors
    /// When the state is too old, or no key is in force.
    pub fn vouch(&self, vouching: &Vouching<'_>) -> Result<Secret<String>, Problem> {
        let view = self.control.house.view(&self.settings.tenant).map_err(Problem::new)?;
        let now = self.control.clock.now();
        let claims = VouchedClaims {
            iss: self.issuer.to_string(),
            sub: vouching.subject.to_owned(),
            aud: Audience::One(vouching.audience.to_owned()),
            times: Times { issued: now, not_before: None, expires: now.saturating_add(LIFE) },
            jti: vouching.decision.to_string(),
            tenant: vouching.tenant.to_string(),
            act: vouching.actors.iter().map(Actor::named).collect(),
            others: serde_json::Map::new(),
        };
        self.signer(&view)?.issue(&claims).map_err(|error| {
            tracing::error!(%error, "a caller could not be vouched for");
            Problem::new(ReasonCode::Internal)
        })
    }
}
