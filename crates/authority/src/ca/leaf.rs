//! One certificate: from a request that is believed only as far as its key, to what an authority signs.

use std::time::Duration;

use bartizan_base::{Random, Timestamp};
use bartizan_identify::spiffe::SpiffeId;
use bartizan_model::CertificateId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    PublicKey, PublicKeyData as _, SanType, SerialNumber,
};
use time::OffsetDateTime;

/// The longest request, in bytes.
const REQUEST_MAX: usize = 8 << 10;
/// How far the clocks of those who verify may be behind ours.
const BACKDATED: Duration = Duration::from_secs(60);

/// Why a request is not one that a certificate is issued for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not PEM of a certificate signing request (RFC 2986) within bounds, or with extensions that nobody knows here.
    #[error("not a certificate signing request in PEM")]
    Form,
    /// Not signed by the key in it.
    #[error("the request is not signed by the key it is for")]
    Signature,
    /// A key of another kind.
    #[error("a certificate is issued for a key of ECDSA on P-256 or P-384, or of Ed25519")]
    Key,
}

/// The key that a request is for, once it is proven that whoever wrote it holds the key. Everything else that it asks for,
/// names above all, is passed over.
pub(super) fn requested(pem: &str) -> Result<PublicKey, RequestError> {
    if pem.len() > REQUEST_MAX {
        return Err(RequestError::Form);
    }
    let read = CertificateSigningRequestParams::from_pem(pem).map_err(|error| match error {
        rcgen::Error::InvalidCertificationRequestSignature => RequestError::Signature,
        rcgen::Error::UnsupportedSignatureAlgorithm => RequestError::Key,
        _ => RequestError::Form,
    })?;
    let key = read.public_key;
    let kinds = [(&PKCS_ECDSA_P256_SHA256, 65), (&PKCS_ECDSA_P384_SHA384, 97), (&PKCS_ED25519, 32)];
    // The length too: what signed may be said to be of another curve than the key is.
    let known = kinds.iter().any(|(kind, len)| key.algorithm() == *kind && key.der_bytes().len() == *len);
    if known { Ok(key) } else { Err(RequestError::Key) }
}

/// Signs a certificate for `key` in the name of `id`.
pub(super) fn sign(
    by: &Issuer<'_, KeyPair>,
    key: &PublicKey,
    id: &SpiffeId,
    crt: CertificateId,
    now: Timestamp,
    ends: Timestamp,
    random: &dyn Random,
) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, crt.to_string());
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    if let Some(host) = host(id) {
        params.subject_alt_names.push(SanType::DnsName(host.as_str().try_into()?));
    }
    params.serial_number = Some(serial(random));
    let begins = Timestamp::from_micros(now.as_micros().saturating_sub(micros(BACKDATED)));
    (params.not_before, params.not_after) = (moment(begins)?, moment(ends)?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(key, by)?.der().to_vec())
}

/// The name that clients which know nothing of SPIFFE can hold the certificate against: `NAME.workload.trust.domain`, where the
/// name is one that a host can have.
fn host(id: &SpiffeId) -> Option<String> {
    let segments: Vec<&str> = id.segments().collect();
    let [kind, name] = segments.as_slice() else { return None };
    let label = |text: &str| {
        let fits = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        fits && (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')
    };
    let domain = id.domain().as_str();
    // An address such as 127.0.0.1 is no end of a name.
    let is_name = domain.split('.').all(label) && domain.parse::<std::net::Ipv4Addr>().is_err();
    (label(name) && is_name).then(|| format!("{name}.{kind}.{domain}"))
}

/// PEM (RFC 7468) of a certificate.
pub(super) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// A serial number that nobody guesses: 127 bits, positive (RFC 5280, 4.1.2.2).
pub(super) fn serial(random: &dyn Random) -> SerialNumber {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

pub(super) fn moment(at: Timestamp) -> Result<OffsetDateTime, rcgen::Error> {
    let seconds = i64::try_from(at.as_secs()).map_err(|_| rcgen::Error::Time)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| rcgen::Error::Time)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
