//! Listeners with a certificate.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::*;

struct Caller {
    address: SocketAddr,
    root: CertificateDer<'static>,
}

impl Caller {
    /// Shakes hands; gives the connection with the protocol that was agreed on.
    fn connect(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> std::io::Result<(StreamOwned<ClientConnection, TcpStream>, Option<String>)> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("house.example").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(self.address)?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let agreed = stream.conn.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned());
        Ok((stream, agreed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_planes_speak_tls_1_3_with_http_1_and_2_and_nothing_in_the_clear() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["house.example".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let settings = [
        ("listeners.tls_certificate", file("cert.pem", made.cert.pem())),
        ("listeners.tls_key", file("key.pem", made.signing_key.serialize_pem())),
    ];
    let config = config(&folder.path().join("data"), &settings);
    found(&config, "1/1").await.unwrap();
    let node = Node::start(&config).await.unwrap();
    for address in [node.data, node.control] {
        let caller = Caller { address, root: made.cert.der().clone() };
        blocking(move || {
            let modern = [&rustls::version::TLS13];
            let (_, agreed) = caller.connect(&modern, &["h2", "http/1.1"]).unwrap();
            assert_eq!(agreed.as_deref(), Some("h2"));
            let (mut stream, agreed) = caller.connect(&modern, &["http/1.1"]).unwrap();
            assert_eq!(agreed.as_deref(), Some("http/1.1"));
            stream
                .write_all(b"GET /v1/models HTTP/1.1\r\nhost: house.example\r\nconnection: close\r\n\r\n")
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("credential_missing"), "{answer}");
            assert!(caller.connect(&[&rustls::version::TLS12], &[]).is_err(), "an old version was accepted");
            let mut plain = TcpStream::connect(caller.address).unwrap();
            plain.write_all(b"GET /v1/models HTTP/1.1\r\nhost: house.example\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            // Closed or reset: both are no answer.
            plain.read_to_end(&mut answer).unwrap_or_default();
            assert!(!answer.starts_with(b"HTTP"), "answered in the clear");
        })
        .await;
    }
    node.stop().await;
}
