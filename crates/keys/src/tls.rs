//! The certificate a listener shows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bartizan_identify::PeerCertificate;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;

use crate::clients::{Clients, Shown};

/// How the signatures of a handshake are checked, as both kinds of verifiers say it: by the algorithms of `self`.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls12_signature(message, cert, dss, self.algorithms())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls13_signature(message, cert, dss, self.algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms().supported_schemes()
        }
    };
}
pub(crate) use handshake_signatures;

/// A listener's side of TLS: version 1.3 only (RFC 8446), HTTP/2 and HTTP/1.1 by ALPN (RFC 7301).
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    clients: Option<Arc<Clients>>,
}

/// Why the certificate or key cannot be used. The message never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is absent, unreadable, or not PEM (RFC 7468) of the expected kind.
    #[error("`{}` does not hold {wanted}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What the reader said.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate is not valid, or the key is not the certificate's.
    #[error("the certificate cannot be used with the key")]
    Unusable(#[source] rustls::Error),
    /// The certificates of `clients` are none of authorities.
    #[error("the authorities of client certificates cannot be used")]
    Authorities(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The error of a file that does not hold what it should.
pub(crate) fn unreadable(
    path: &Path,
    wanted: &'static str,
) -> impl FnOnce(rustls::pki_types::pem::Error) -> TlsError + use<> {
    let path = path.to_owned();
    move |source| TlsError::File { path, wanted, source }
}

impl ServerTls {
    /// Reads a certificate chain, the server's own first, and its private key (PKCS#8, SEC 1 or PKCS#1) from PEM files.
    ///
    /// # Errors
    /// [`TlsError`] names the file, or says that key and certificate do not belong together.
    pub fn from_pem_files(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::with_clients(certificates, key, None, false)
    }

    /// The same. Where `clients` names a PEM file of authorities, clients may show a certificate (mutual TLS, RFC 8705): one that
    /// is not of these authorities or not of now ends the handshake, none is nobody's. With `workloads` they may also show one that
    /// names a workload, whoever issued it: [`ServerTls::shown`] tells them apart.
    ///
    /// # Errors
    /// [`TlsError`] names the file, or says what does not belong together.
    pub fn with_clients(
        certificates: &Path,
        key: &Path,
        clients: Option<&Path>,
        workloads: bool,
    ) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .and_then(|chain| {
                if chain.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound) } else { Ok(chain) }
            })
            .map_err(unreadable(certificates, "a certificate chain in PEM"))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key, "a private key in PEM"))?;
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Unusable)?;
        let clients = if clients.is_some() || workloads {
            Some(Arc::new(Clients::new(clients, workloads, &provider)?))
        } else {
            None
        };
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(clients.clone()),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), clients })
    }

    /// A listener's side that was put together elsewhere, and lets in only whom it has verified.
    pub(crate) fn of(config: ServerConfig) -> Self {
        Self { config: Arc::new(config), clients: None }
    }

    /// What a client has proven that has shown `chain` in a handshake of this listener.
    #[must_use]
    pub fn shown(&self, chain: &[CertificateDer<'_>]) -> Shown {
        match &self.clients {
            Some(clients) => clients.shown(chain),
            None => Shown {
                certificate: chain.first().map(|end| PeerCertificate::of_connection(end)),
                workload: None,
            },
        }
    }

    /// What a TLS acceptor takes.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;

    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::version::TLS12;
    use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConnection};

    struct Files {
        folder: tempfile::TempDir,
        certificate: CertificateDer<'static>,
    }

    impl Files {
        fn new() -> Self {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
            fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
            Self { folder, certificate: made.cert.der().clone() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn load(&self) -> Result<ServerTls, TlsError> {
            ServerTls::from_pem_files(&self.path("cert.pem"), &self.path("key.pem"))
        }
    }

    /// Shakes hands in memory and says what was agreed.
    fn handshake(
        files: &Files,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Result<(Option<ProtocolVersion>, Option<Vec<u8>>), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(files.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = ServerConnection::new(files.load().unwrap().config()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut io::Cursor::new(wire)).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut io::Cursor::new(wire)).unwrap();
            client.process_new_packets()?;
        }
        Ok((client.protocol_version(), client.alpn_protocol().map(<[u8]>::to_vec)))
    }

    #[test]
    fn a_listener_speaks_tls_1_3_and_prefers_http_2() {
        let agreed = handshake(&Files::new(), &[&TLS13, &TLS12]).unwrap();
        assert_eq!(agreed, (Some(ProtocolVersion::TLSv1_3), Some(b"h2".to_vec())));
    }

    #[test]
    fn a_client_of_tls_1_2_is_refused() {
        assert!(matches!(handshake(&Files::new(), &[&TLS12]), Err(rustls::Error::PeerIncompatible(_))));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (files, other) = (Files::new(), Files::new());
        fs::copy(other.path("key.pem"), files.path("key.pem")).unwrap();
        assert!(matches!(files.load(), Err(TlsError::Unusable(_))));
    }

    #[test]
    fn files_that_are_missing_empty_or_swapped_are_named() {
        let files = Files::new();
        let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
        fs::write(files.path("empty.pem"), "").unwrap();
        for (one, two, named) in [
            (&files.path("missing.pem"), &key, "missing.pem"),
            (&certificate, &files.path("missing.pem"), "missing.pem"),
            (&files.path("empty.pem"), &key, "empty.pem"),
            (&certificate, &files.path("empty.pem"), "empty.pem"),
            (&key, &key, "key.pem"),
            (&certificate, &certificate, "cert.pem"),
        ] {
            let error = ServerTls::from_pem_files(one, two).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
