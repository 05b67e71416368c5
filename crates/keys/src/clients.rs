//! The certificates that clients show at a listener: those of named authorities, which the handshake itself verifies, and those of
//! workloads, of which it verifies only that the client holds the key. Who issued a workload's is looked up with every request:
//! the keys of trust domains come and go while connections stay.

use std::path::Path;
use std::sync::Arc;

use bartizan_identify::spiffe::claimed_workload;
use bartizan_identify::{PeerCertificate, WorkloadCertificate};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use crate::tls::{TlsError, handshake_signatures, unreadable};

/// What a client has shown and proven in the handshake of its connection.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Its certificate, where an authority that the listener trusts has issued it.
    pub certificate: Option<PeerCertificate>,
    /// Its certificates, where the first names a workload and the listener takes such.
    pub workload: Option<WorkloadCertificate>,
}

#[derive(Debug)]
pub(crate) struct Clients {
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    workloads: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    /// Clients may show certificates of the `authorities` in a PEM file, and with `workloads` those that name a workload.
    pub(crate) fn new(
        authorities: Option<&Path>,
        workloads: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let verifier = |path: &Path| {
            let mut roots = RootCertStore::empty();
            for root in CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(unreadable(path, "certificates of authorities in PEM"))?
            {
                roots.add(root).map_err(TlsError::Unusable)?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(|error| TlsError::Authorities(Box::new(error)))
        };
        let authorities = authorities.map(verifier).transpose()?;
        Ok(Self { authorities, workloads, algorithms: provider.signature_verification_algorithms })
    }

    /// Asked once for a connection: which of the two ways the handshake went.
    pub(crate) fn shown(&self, chain: &[CertificateDer<'_>]) -> Shown {
        let Some((end, between)) = chain.split_first() else { return Shown::default() };
        let verified = |authorities: &Arc<dyn ClientCertVerifier>| {
            authorities.verify_client_cert(end, between, UnixTime::now()).is_ok()
        };
        let of_authority = self.authorities.as_ref().is_some_and(verified);
        Shown {
            certificate: of_authority.then(|| PeerCertificate::of_connection(end)),
            workload: self.workloads.then(|| WorkloadCertificate::of_connection(chain)).flatten(),
        }
    }

    const fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Hints would keep those from showing theirs whose trust domain is not named.
        self.authorities.as_ref().filter(|_| !self.workloads).map_or(&[], |by| by.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let unknown = || Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        let verified = self
            .authorities
            .as_ref()
            .map_or_else(unknown, |authorities| authorities.verify_client_cert(end, between, now));
        let names_workload = || {
            let chain: Vec<CertificateDer<'_>> =
                std::iter::once(end).chain(between).map(|der| CertificateDer::from(&**der)).collect();
            claimed_workload(&chain).is_some()
        };
        verified.or_else(|error| {
            if self.workloads && names_workload() { Ok(ClientCertVerified::assertion()) } else { Err(error) }
        })
    }

    handshake_signatures!();
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose, SanType,
    };
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn certificate(name: &str, by: &Authority) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone()
    }

    /// Whether the handshake takes a certificate, and as what it is passed on.
    fn meet(clients: &Clients, end: &CertificateDer<'_>) -> (bool, bool, bool) {
        let taken = clients.verify_client_cert(end, &[], UnixTime::now()).is_ok();
        let shown = clients.shown(std::slice::from_ref(end));
        (taken, shown.certificate.is_some(), shown.workload.is_some())
    }

    #[test]
    fn attack_33_a_workload_is_passed_on_as_a_claim_and_only_a_named_authority_makes_a_certificate_of_it() {
        const API: &str = "spiffe://acme.example/api";
        let (ours, other) = (authority(), authority());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients.pem");
        fs::write(&path, ours.pem()).unwrap();
        let clients = |authorities: Option<&Path>, workloads| {
            Clients::new(authorities, workloads, &Arc::new(default_provider())).unwrap()
        };
        let plain = "https://app.example/";
        let neither = (false, false, false);
        let both = clients(Some(&path), true);
        assert_eq!(meet(&both, &certificate(API, &ours)), (true, true, true));
        assert_eq!(meet(&both, &certificate(API, &other)), (true, false, true));
        assert_eq!(meet(&both, &certificate(plain, &ours)), (true, true, false));
        assert_eq!(meet(&both, &certificate(plain, &other)), neither);
        let authorities = clients(Some(&path), false);
        assert_eq!(meet(&authorities, &certificate(API, &ours)), (true, true, false));
        assert_eq!(meet(&authorities, &certificate(API, &other)), neither);
        let workloads = clients(None, true);
        assert_eq!(meet(&workloads, &certificate(API, &ours)), (true, false, true));
        assert_eq!(meet(&workloads, &certificate(plain, &ours)), neither);
        assert_eq!(meet(&workloads, &CertificateDer::from(vec![0; 64])), neither);
        assert!(!both.client_auth_mandatory() && both.root_hint_subjects().is_empty());
    }
}
