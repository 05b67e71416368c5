//! Workloads by token (JWT-SVID, sections 3 and 4).

use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_jose::{Jws, TimeRules, Verified, WorkloadClaims, WorkloadRules, verify};

use super::SvidError;
use super::bundle::TrustBundle;
use super::id::SpiffeId;

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

/// Verifies a token of a workload for `audience` by the keys of a trust domain. The workload must be one of that domain: no domain
/// can vouch for a workload of another.
///
/// # Errors
/// [`SvidError`].
pub fn verify_jwt(
    jws: &Jws<'_>,
    bundle: &TrustBundle,
    audience: &str,
    now: Timestamp,
) -> Result<JwtSvid, SvidError> {
    let domain = bundle.domain();
    let rules = WorkloadRules {
        issuer: &domain.issuer(),
        audience,
        time: TimeRules { now, skew: SKEW, life_max: LIFE_MAX },
    };
    let claims = verify::<WorkloadClaims>(jws, bundle.keys(), &rules)?;
    let id: SpiffeId = claims.sub.parse()?;
    if id.domain() != domain {
        return Err(SvidError::UnknownDomain);
    }
    Ok(JwtSvid { id, claims })
}
