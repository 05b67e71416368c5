//! Workloads by certificate (X.509-SVID, sections 2, 4 and 5). Paths and signatures are the library's business; what SPIFFE
//! demands beyond them is checked here.

use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_jose::X5t;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::id::{SpiffeId, SpiffeIdError};
use super::{SvidError, TrustBundles};

/// Bounds before anything is read.
const CHAIN_MAX: usize = 6;
const CERTIFICATE_MAX: usize = 16 << 10;

/// What the peer is in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It connected to us.
    Client,
    /// We connected to it.
    Server,
}

/// A workload whose certificate was verified. That it holds the key, the handshake proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X509Svid {
    /// Which workload.
    pub id: SpiffeId,
    /// The certificate's thumbprint.
    pub thumbprint: X5t,
    /// From when on it holds: what a mark of an epoch is held against.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// Verifies a certificate chain, the workload's own first, under the keys of the trust domain that it names.
///
/// # Errors
/// [`SvidError`].
pub fn verify_x509(
    chain: &[CertificateDer<'_>],
    bundles: &TrustBundles,
    purpose: Purpose,
    now: Timestamp,
) -> Result<X509Svid, SvidError> {
    let (leaf, intermediates) = chain.split_first().ok_or(SvidError::Malformed)?;
    if chain.len() > CHAIN_MAX || chain.iter().any(|c| c.len() > CERTIFICATE_MAX) {
        return Err(SvidError::Malformed);
    }
    let parsed = read(leaf)?;
    let id = workload(&parsed)?;
    check_use(&parsed)?;
    for signer in intermediates {
        check_signer(&read(signer)?, &id)?;
    }
    let bundle = bundles.of(id.domain())?;
    verify_path(leaf, intermediates, bundle.anchors(), purpose, now)?;
    let validity = parsed.validity();
    let moment = |seconds: i64| Timestamp::from_secs(u64::try_from(seconds).unwrap_or_default());
    Ok(X509Svid {
        id,
        thumbprint: X5t::of_certificate(leaf),
        issued: moment(validity.not_before.timestamp()),
        expires: moment(validity.not_after.timestamp()),
    })
}

/// Which workload a certificate claims to be of, only to know whose keys to try; none for chains beyond bounds, and for certificates
/// that name no workload.
#[must_use]
pub fn claimed_workload(chain: &[CertificateDer<'_>]) -> Option<SpiffeId> {
    if chain.len() > CHAIN_MAX || chain.iter().any(|c| c.len() > CERTIFICATE_MAX) {
        return None;
    }
    workload(&read(chain.first()?).ok()?).ok()
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, SvidError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok((&[], certificate)) => Ok(certificate),
        _ => Err(SvidError::Malformed),
    }
}

/// The one identity: exactly one address among the alternative names (section 2).
fn workload(certificate: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let mut addresses = addresses(certificate)?.into_iter();
    match (addresses.next(), addresses.next()) {
        (Some(one), None) => Ok(one.parse()?),
        _ => Err(SvidError::Names),
    }
}

fn addresses<'a>(certificate: &X509Certificate<'a>) -> Result<Vec<&'a str>, SvidError> {
    let mut out = Vec::new();
    // More than one such extension is malformed (RFC 5280, 4.2), and so is one that the reader could not make out.
    let names = certificate.subject_alternative_name().map_err(|_| SvidError::Malformed)?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => out.push(*uri),
            GeneralName::Invalid(..) => return Err(SvidError::Malformed),
            _ => {}
        }
    }
    Ok(out)
}

/// A workload's certificate signs handshakes and nothing else (section 4).
fn check_use(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    let usage = certificate.key_usage().map_err(|_| SvidError::Malformed)?.ok_or(SvidError::Use)?;
    let signs = usage.value.digital_signature();
    if certificate.is_ca() || !signs || usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err(SvidError::Use);
    }
    Ok(())
}

/// A certificate between: it may sign, and if it names a trust domain, then the workload's.
fn check_signer(certificate: &X509Certificate<'_>, id: &SpiffeId) -> Result<(), SvidError> {
    let usage = certificate.key_usage().map_err(|_| SvidError::Malformed)?;
    if !certificate.is_ca() || !usage.is_some_and(|u| u.value.key_cert_sign()) {
        return Err(SvidError::Use);
    }
    for name in addresses(certificate)? {
        if name != id.domain().issuer() {
            return Err(SvidError::Id(SpiffeIdError::Domain));
        }
    }
    Ok(())
}

fn verify_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[rustls_pki_types::TrustAnchor<'_>],
    purpose: Purpose,
    now: Timestamp,
) -> Result<(), SvidError> {
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|_| SvidError::Malformed)?;
    let usage = match purpose {
        Purpose::Client => webpki::KeyUsage::client_auth(),
        Purpose::Server => webpki::KeyUsage::server_auth(),
    };
    let moment = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    leaf.verify_for_usage(algorithms, anchors, intermediates, moment, usage, None, None).map(|_| ()).map_err(
        |error| match error {
            webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => SvidError::Time,
            _ => SvidError::Untrusted,
        },
    )
}
