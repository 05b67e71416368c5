//! SPIFFE: workloads that a platform vouches for, by certificate (X.509-SVID) or token (JWT-SVID), under a trust domain whose
//! keys are known. What is verified here is only which workload it is; who that is in our directory, rules of federation say, or
//! what the house kept of the certificate where the trust domain is ours.

mod bundle;
mod id;
mod jwt;
#[cfg(test)]
mod tests;
mod x509;

use std::collections::HashMap;

pub use bundle::{BundleError, TrustBundle};
pub use id::{SpiffeId, SpiffeIdError, TrustDomain};
pub use jwt::{JwtSvid, verify_jwt};
pub use x509::{Purpose, X509Svid, claimed_workload, verify_x509};

/// Why an identity is not accepted. It never holds what was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// No certificate, too many, too long, or not readable.
    #[error("not a certificate chain within bounds")]
    Malformed,
    /// The certificate names no workload, or more than one.
    #[error("the certificate must name exactly one workload")]
    Names,
    /// What it names is not an identity of SPIFFE.
    #[error("not an identity of SPIFFE")]
    Id(#[from] SpiffeIdError),
    /// Nobody here knows the trust domain.
    #[error("the trust domain is not known here")]
    UnknownDomain,
    /// The certificate may sign others, or may not sign a handshake.
    #[error("the certificate is not one of a workload")]
    Use,
    /// Expired or not valid yet.
    #[error("the identity is not valid at this moment")]
    Time,
    /// Not issued under a key of its trust domain, or not for this purpose.
    #[error("not issued by the trust domain for this purpose")]
    Untrusted,
    /// What the token says does not hold.
    #[error(transparent)]
    Token(#[from] bartizan_jose::TokenError),
}

/// The keys of trust domains, each for its own names alone.
#[derive(Clone, Debug, Default)]
pub struct TrustBundles(HashMap<TrustDomain, TrustBundle>);

impl TrustBundles {
    /// Takes a bundle in the place of the one that was known.
    pub fn learn(&mut self, bundle: TrustBundle) {
        self.0.insert(bundle.domain().clone(), bundle);
    }

    /// The bundle of a trust domain.
    ///
    /// # Errors
    /// `UnknownDomain`.
    pub fn of(&self, domain: &TrustDomain) -> Result<&TrustBundle, SvidError> {
        self.0.get(domain).ok_or(SvidError::UnknownDomain)
    }
}

impl FromIterator<TrustBundle> for TrustBundles {
    fn from_iter<I: IntoIterator<Item = TrustBundle>>(bundles: I) -> Self {
        Self(bundles.into_iter().map(|bundle| (bundle.domain().clone(), bundle)).collect())
    }
}
