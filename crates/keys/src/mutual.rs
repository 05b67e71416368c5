//! Mutual TLS between our own processes: each shows a certificate of the house's authority, and lets in, or believes, only the
//! workloads that it was told of. Names of hosts mean nothing here: who somebody is, their SPIFFE identity says.
//!
//! Certificates live an hour, so the files are looked at again every few seconds; what cannot be read leaves what was read
//! before in its place, until that has run out. Sessions are never resumed: a resumed one would outlive the certificate.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use bartizan_base::Clock;
use bartizan_identify::spiffe::{Purpose, TrustBundle, TrustBundles, TrustDomain, verify_x509};
use bartizan_model::SubjectPattern;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use crate::tls::{ServerTls, TlsError, handshake_signatures, unreadable};

/// How long what was read is used without looking at the files again, in microseconds.
const LOOK_AGAIN_US: u64 = 5_000_000;

/// Where a process finds what it shows and whom it believes.
#[derive(Clone, Debug)]
pub struct MutualFiles {
    /// Its own certificate, in PEM.
    pub certificate: PathBuf,
    /// The private key to it, in PEM.
    pub key: PathBuf,
    /// The authorities of the trust domain, in PEM.
    pub trust: PathBuf,
    /// Whose authorities they are.
    pub domain: TrustDomain,
    /// Which workloads may be at the other end, such as `spiffe://house.example/workload/witness-*`; none for nobody.
    pub peers: Vec<SubjectPattern>,
}

/// A process's side of mutual TLS, version 1.3 only.
#[derive(Clone, Debug)]
pub struct MutualTls(Arc<Files>);

impl MutualTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file that does not hold what it should.
    pub fn open(files: MutualFiles, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let read = Read::from(&files, &provider, clock.monotonic_us())?;
        Ok(Self(Arc::new(Files { files, provider, clock, read: RwLock::new(Arc::new(read)) })))
    }

    /// A listener that lets in nobody without a certificate.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn server(&self) -> Result<ServerTls, TlsError> {
        let mut config = ServerConfig::builder_with_provider(self.0.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Unusable)?
            .with_client_cert_verifier(self.0.clone())
            .with_cert_resolver(self.0.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(ServerTls::of(config))
    }

    /// The side of whoever connects.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn client(&self) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_provider(self.0.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Unusable)?
            .dangerous()
            .with_custom_certificate_verifier(self.0.clone())
            .with_client_cert_resolver(self.0.clone());
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[derive(Debug)]
struct Files {
    files: MutualFiles,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    read: RwLock<Arc<Read>>,
}

#[derive(Debug)]
struct Read {
    own: Arc<CertifiedKey>,
    bundles: TrustBundles,
    stamps: [Option<SystemTime>; 3],
    looked_us: u64,
}

impl Read {
    fn from(files: &MutualFiles, provider: &CryptoProvider, looked_us: u64) -> Result<Self, TlsError> {
        // Before the files themselves: what is written in between is read next time.
        let stamps = stamps(files);
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(unreadable(&files.key, "a private key in PEM"))?;
        let own = CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Unusable)?;
        let bundle = TrustBundle::of_authorities(files.domain.clone(), certificates(&files.trust)?);
        let bundle = bundle.map_err(|_| {
            let missing = rustls::pki_types::pem::Error::NoItemsFound;
            unreadable(&files.trust, "certificates of authorities in PEM")(missing)
        })?;
        Ok(Self { own: Arc::new(own), bundles: [bundle].into_iter().collect(), stamps, looked_us })
    }
}

fn stamps(files: &MutualFiles) -> [Option<SystemTime>; 3] {
    [&files.certificate, &files.key, &files.trust]
        .map(|path| std::fs::metadata(path).and_then(|about| about.modified()).ok())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .and_then(
            |all| if all.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound) } else { Ok(all) },
        )
        .map_err(unreadable(path, "certificates in PEM"))
}

impl Files {
    fn current(&self) -> Arc<Read> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.clock.monotonic_us();
        if now.saturating_sub(read.looked_us) < LOOK_AGAIN_US {
            return read;
        }
        let next = if stamps(&self.files) == read.stamps {
            let Read { own, bundles, stamps, .. } = &*read;
            Read { own: own.clone(), bundles: bundles.clone(), stamps: *stamps, looked_us: now }
        } else {
            match Read::from(&self.files, &self.provider, now) {
                Ok(next) => next,
                Err(error) => {
                    // Perhaps only half of it is written yet.
                    tracing::warn!(error = &error as &dyn std::error::Error, "a certificate was not taken");
                    return read;
                }
            }
        };
        let next = Arc::new(next);
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        next
    }

    /// Whether the other end is one that we were told of.
    fn check(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        purpose: Purpose,
    ) -> Result<(), Error> {
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(end).chain(between).map(|der| CertificateDer::from(&**der)).collect();
        let svid =
            verify_x509(&chain, &self.current().bundles, purpose, self.clock.now()).map_err(|error| {
                tracing::info!(%error, "the other end of a connection was refused");
                Error::InvalidCertificate(CertificateError::UnknownIssuer)
            })?;
        if self.files.peers.iter().any(|peer| peer.matches(svid.id.as_str())) {
            return Ok(());
        }
        tracing::info!(id = %svid.id, "the other end of a connection is not one of those named");
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().own.clone())
    }
}

impl ResolvesClientCert for Files {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current().own.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Files {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end, between, Purpose::Client).map(|()| ClientCertVerified::assertion())
    }

    handshake_signatures!();
}

impl ServerCertVerifier for Files {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end, between, Purpose::Server).map(|()| ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

#[cfg(test)]
mod tests;
