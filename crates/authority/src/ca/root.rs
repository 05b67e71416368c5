//! Authorities: their keys, sealed, and when each comes and goes.
//!
//! A new one is made at two thirds of the life of the last one, is published a day before it signs, and stays published until
//! all that it signed has ended. So whoever fetches the trust bundle once a day knows every signer beforehand.

use std::time::Duration;

use bartizan_base::{Random, Timestamp};
use bartizan_identify::spiffe::TrustDomain;
use bartizan_keys::{SealError, Sealer};
use bartizan_model::{CertificateId, Tenant};
use bartizan_secret::Secret;
use bartizan_store::{RowKind, Rows, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};
use serde::{Deserialize, Serialize};

use super::leaf::{moment, serial};
use super::{LIFE_MAX, sealed_name};
use crate::kept::{Held, Kept};

/// How long an authority lives.
pub(super) const LIFE: Duration = Duration::from_secs(90 * 24 * 3_600);
/// How long it is published before it signs.
pub(super) const AHEAD: Duration = Duration::from_secs(24 * 3_600);
/// More are not looked at.
const KNOWN_MAX: usize = 64;

/// An authority of our trust domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Root {
    id: CertificateId,
    domain: String,
    /// Grows by one with each.
    sequence: u64,
    /// The certificate, DER in base64.
    certificate: String,
    /// The private key, PKCS #8 in PEM, sealed, in base64.
    key: String,
    /// When it may sign first.
    signs_from: Timestamp,
    ends: Timestamp,
}

impl Kept for Root {
    const KIND: RowKind = RowKind::CertificateAuthority;

    fn owner(&self) -> String {
        self.domain.clone()
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.ends)
    }
}

/// Why an authority cannot be made or used. It never holds key material.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// What is kept of it is not readable.
    #[error("what is kept of an authority cannot be read")]
    Kept,
    /// Its key does not open.
    #[error("the key of an authority does not open")]
    Sealed(#[from] SealError),
    /// The library refused.
    #[error("an authority cannot be made")]
    Made(#[from] rcgen::Error),
}

/// When a new authority may sign first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) signs_from: Timestamp,
}

impl Root {
    /// Makes an authority. Its names end with the trust domain, it signs no other authority and nothing for addresses. (The
    /// library that most verifiers use refuses constraints on SPIFFE names themselves; that an authority speaks only for its own
    /// domain is what every verifier of SPIFFE checks.)
    pub(super) fn make(
        tenant: &Tenant,
        domain: &TrustDomain,
        plan: Plan,
        known: &[Self],
        now: Timestamp,
        sealer: &Sealer,
        random: &dyn Random,
    ) -> Result<(CertificateId, Self), RootError> {
        let id = CertificateId::new(now, random);
        let ends = plan.signs_from.saturating_add(LIFE);
        // The library makes keys of ECDSA with the system's own generator.
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("{domain} {id}"));
        params.subject_alt_names = vec![SanType::URI(domain.issuer().try_into()?)];
        params.serial_number = Some(serial(random));
        (params.not_before, params.not_after) = (moment(now)?, moment(ends)?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_string())],
            excluded_subtrees: vec![
                GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
                GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
            ],
        });
        let certificate = params.self_signed(&key)?;
        let name = sealed_name(id).map_err(|_| RootError::Kept)?;
        let sealed = sealer.seal(&Secret::new(key.serialize_pem()), tenant, &name, random)?;
        let made = Self {
            id,
            domain: domain.to_string(),
            sequence: known.iter().map(Self::sequence).max().unwrap_or_default() + 1,
            certificate: STANDARD.encode(certificate.der()),
            key: STANDARD.encode(sealed),
            signs_from: plan.signs_from,
            ends,
        };
        Ok((id, made))
    }

    pub(super) fn is_of(&self, domain: &TrustDomain) -> bool {
        self.domain == domain.as_str()
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The certificate. What was kept is what was made, so that it is readable; unreadable, it verifies nothing.
    pub(super) fn der(&self) -> Vec<u8> {
        STANDARD.decode(&self.certificate).unwrap_or_default()
    }

    /// The authority, ready to sign.
    pub(super) fn open(
        &self,
        tenant: &Tenant,
        sealer: &Sealer,
    ) -> Result<Issuer<'static, KeyPair>, RootError> {
        let sealed = STANDARD.decode(&self.key).map_err(|_| RootError::Kept)?;
        let name = sealed_name(self.id).map_err(|_| RootError::Kept)?;
        let pem = sealer.open(&sealed, tenant, &name)?;
        let key = KeyPair::from_pem(pem.expose())?;
        Ok(Issuer::from_ca_cert_der(&self.der().into(), key)?)
    }

    fn signs(&self, now: Timestamp) -> bool {
        // Nothing that it signs outlives it.
        self.signs_from <= now && now.saturating_add(LIFE_MAX) <= self.ends
    }
}

/// The authorities that are not over.
pub(super) async fn known(
    rows: &dyn Rows,
    tenant: &Tenant,
    now: Timestamp,
) -> Result<Vec<Held<Root>>, StoreError> {
    let rows = rows.rows(tenant, RowKind::CertificateAuthority, "", KNOWN_MAX).await?;
    rows.into_iter().filter(|row| row.expires.is_none_or(|end| now < end)).map(Held::read).collect()
}

/// The authority that signs: the latest of those that may.
pub(super) fn signer(roots: &[Root], now: Timestamp) -> Option<&Root> {
    roots.iter().filter(|root| root.signs(now)).max_by_key(|root| (root.signs_from, root.sequence))
}

/// Whether it is time for a new one, and when that may sign.
pub(super) fn due(roots: &[Root], now: Timestamp) -> Option<Plan> {
    if signer(roots, now).is_none() {
        return Some(Plan { signs_from: now });
    }
    let last = roots.iter().map(|root| root.ends).max().unwrap_or_default();
    (last.saturating_since(now) < LIFE / 3).then(|| Plan { signs_from: now.saturating_add(AHEAD) })
}
