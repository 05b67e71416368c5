//! Workloads by token (JWT-SVID, sections 3 and 4).

use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_jose::{Jws, TimeRules, Verified, WorkloadClaims, WorkloadRules, verify};
use serde_json::Value;

use super::id::{SpiffeId, TrustDomain};
use super::{SvidError, TrustBundles};

/// The longest life of a token: they are meant for minutes, and cannot be taken back.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How far clocks are taken to differ.
const SKEW: Duration = Duration::from_secs(60);

/// A workload that a token was verified for.
#[derive(Clone, Debug)]
pub struct JwtSvid {
    /// Which workload.
    pub id: SpiffeId,
    /// All that the token says.
    pub claims: Verified<WorkloadClaims>,
}

/// Which trust domain a token claims to be of, only to know whose keys to try; none for tokens of other kinds.
#[must_use]
pub fn claimed_domain(jws: &Jws<'_>) -> Option<TrustDomain> {
    let claims: Value = serde_json::from_slice(jws.unverified_payload()).ok()?;
    let id: SpiffeId = claims.get("sub")?.as_str()?.parse().ok()?;
    Some(id.domain().clone())
}

/// Verifies a token of a workload for `audience`. Only keys of the trust domain in its subject count, so that no domain can
/// vouch for a workload of another.
///
/// # Errors
/// [`SvidError`].
pub fn verify_jwt(
    jws: &Jws<'_>,
    bundles: &TrustBundles,
    audience: &str,
    now: Timestamp,
) -> Result<JwtSvid, SvidError> {
    let domain = claimed_domain(jws).ok_or(SvidError::Names)?;
    let bundle = bundles.of(&domain)?;
    let rules = WorkloadRules {
        issuer: &domain.issuer(),
        audience,
        time: TimeRules { now, skew: SKEW, life_max: LIFE_MAX },
    };
    let claims = verify::<WorkloadClaims>(jws, bundle.keys(), &rules)?;
    let id: SpiffeId = claims.sub.parse()?;
    // The payload that was verified is the one that was looked at; held against each other all the same.
    if *id.domain() != domain {
        return Err(SvidError::UnknownDomain);
    }
    Ok(JwtSvid { id, claims })
}
