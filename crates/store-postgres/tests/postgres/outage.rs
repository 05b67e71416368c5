//! A server that goes away, hangs and comes back; and one that is reached by TLS. Servers of their own: others must not
//! be disturbed.

#![expect(clippy::unwrap_used, reason = "what the tests share may fail like a test")]

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_secret::Secret;
use bartizan_store::conformance::TestWarrant;
use bartizan_store::{Checkpoints as _, ClaimRow, Founding, Store, StoreError};
use bartizan_store_postgres::{AddressError, OpenError, PostgresStore};
use bartizan_testkit::postgres::Server;

/// What no answer may exceed.
const BOUND: Duration = Duration::from_secs(3);

async fn open(url: String) -> Result<PostgresStore, OpenError> {
    tokio::time::timeout(BOUND, PostgresStore::open(&Secret::new(url))).await.unwrap()
}

async fn revision(store: &PostgresStore) -> Result<u64, StoreError> {
    tokio::time::timeout(BOUND, Store::<TestWarrant>::revision(store)).await.unwrap()
}

#[tokio::test]
async fn a_stopped_server_is_unavailable_in_time_and_the_store_recovers_by_itself() {
    let server = Server::start();
    let store = open(server.create_database()).await.unwrap();
    let founding = Founding {
        recovery: (1, vec!["key".to_owned()]),
        claim: ClaimRow { digest: Digest::of(b"claim"), expires: Timestamp::MAX },
        documents: Vec::new(),
        bundle: None,
    };
    Store::<TestWarrant>::found(&store, founding).await.unwrap();
    for round in 0..2 {
        server.stop();
        for _ in 0..3 {
            let answer = revision(&store).await;
            assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        }
        let swap = store.swap("log", None, (1, Digest::of(b"r")));
        let swapped = tokio::time::timeout(BOUND, swap).await.unwrap();
        assert!(matches!(swapped, Err(StoreError::Unavailable(_))), "{swapped:?}");
        server.start_again();
        assert_eq!(revision(&store).await.unwrap(), 1, "round {round}");
    }
    assert!(store.swap("log", None, (1, Digest::of(b"r"))).await.unwrap());
}

#[tokio::test]
async fn a_connection_that_hangs_is_given_up_in_time_and_replaced() {
    let server = Server::start();
    let store = open(server.create_database()).await.unwrap();
    assert_eq!(revision(&store).await.unwrap(), 0);
    let process =
        server.psql("postgres", "select pid from pg_stat_activity where application_name = 'bartizan'");
    server.signal(&process, "STOP");
    let answer = revision(&store).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    // The hanging connection is not asked again.
    assert_eq!(revision(&store).await.unwrap(), 0);
    server.signal(&process, "CONT");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_unavailable_in_time() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    for mode in ["disable", "require"] {
        let opened = open(format!("postgres://u@localhost:{port}/d?sslmode={mode}")).await;
        assert!(matches!(opened, Err(OpenError::Store(StoreError::Unavailable(_)))), "{opened:?}");
    }
}

/// A certificate for `localhost` by an authority of its own, as PEM: authority, certificate, key.
fn certificate() -> [String; 3] {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new([]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let signed =
        rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    [authority_certificate.pem(), signed.pem(), key.serialize_pem()]
}

#[tokio::test]
async fn tls_is_verified_by_authority_and_name() {
    let server = Server::start();
    let [authority, certificate_pem, key] = certificate();
    let folder = tempfile::tempdir().unwrap();
    let [ours, foreign] = ["ours.pem", "foreign.pem"].map(|name| folder.path().join(name));
    std::fs::write(&ours, authority).unwrap();
    std::fs::write(&foreign, &certificate()[0]).unwrap();
    let (certificate_file, key_file) =
        (server.file("server.pem", &certificate_pem), server.file("server.key", &key));
    server.stop();
    server.configure(&format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'",
        certificate_file.display(),
        key_file.display()
    ));
    server.start_again();
    let url = server.create_database().replace("127.0.0.1", "localhost");
    for mode in ["require", "verify-full"] {
        let trusted = open(format!("{url}?sslmode={mode}&sslrootcert={}", ours.display())).await.unwrap();
        assert_eq!(revision(&trusted).await.unwrap(), 0);
    }
    let protected = "select count(*) > 0 from pg_stat_ssl join pg_stat_activity using (pid) \
                     where ssl and application_name = 'bartizan'";
    let _held = open(format!("{url}?sslmode=require&sslrootcert={}", ours.display())).await.unwrap();
    assert_eq!(server.psql("postgres", protected), "t");

    let by_address = url.replace("localhost", "127.0.0.1");
    for bad in [
        // Another authority; the well-known ones; a name that the certificate does not hold.
        format!("{url}?sslmode=require&sslrootcert={}", foreign.display()),
        format!("{url}?sslmode=require"),
        format!("{by_address}?sslmode=require&sslrootcert={}", ours.display()),
        format!("{url}?sslmode=require&sslrootcert=/missing.pem"),
    ] {
        let opened = open(bad).await;
        assert!(matches!(opened, Err(OpenError::Store(StoreError::Unavailable(_)))), "{opened:?}");
    }
    let weak = open(format!("{url}?sslmode=prefer")).await;
    assert!(matches!(weak, Err(OpenError::Address(AddressError::Mode))), "{weak:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_when_tls_is_asked_for() {
    let server = Server::start();
    let url = server.create_database().replace("127.0.0.1", "localhost");
    let opened = open(format!("{url}?sslmode=require")).await;
    assert!(matches!(opened, Err(OpenError::Store(StoreError::Unavailable(_)))), "{opened:?}");
}
