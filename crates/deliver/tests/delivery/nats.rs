//! Batches to `nats-server`, a foreign program.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use bartizan_deliver::{DeliverError, NatsConfig, NatsLogin, NatsSink, Sink as _, SubjectError};
use bartizan_secret::Secret;
use rustls::pki_types::CertificateDer;

use crate::world::{Program, batch, free_port, upstreams};

const TOKEN: &str = "a-token-that-nobody-may-see";

fn server(folder: &Path, port: u16, more: &[&str]) -> Program {
    let (folder, port_text) = (folder.to_str().unwrap(), port.to_string());
    let basic = ["-js", "-sd", folder, "-a", "127.0.0.1", "-p", &port_text, "--auth", TOKEN];
    Program::start("nats-server", "nats-server", &[&basic[..], more].concat(), port)
}

fn config(port: u16) -> NatsConfig {
    NatsConfig {
        host: "localhost".into(),
        port,
        tls: false,
        allow_private: true,
        subject: "audit.records".into(),
        login: NatsLogin::Token(Secret::new(TOKEN.into())),
    }
}

fn sink(config: NatsConfig, roots: Vec<CertificateDer<'static>>) -> NatsSink {
    NatsSink::new(config, upstreams(roots)).unwrap()
}

/// A stream that takes the subject up.
async fn stream(port: u16) -> stream::Stream {
    let options = async_nats::ConnectOptions::new().token(TOKEN.into());
    let client = options.connect(format!("nats://127.0.0.1:{port}")).await.unwrap();
    let config = stream::Config {
        name: "AUDIT".into(),
        subjects: vec!["audit.>".into()],
        duplicate_window: Duration::from_secs(120),
        ..stream::Config::default()
    };
    jetstream::new(client).get_or_create_stream(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_comes_twice_is_in_the_stream_once() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _server = server(folder.path(), port, &[]);
    let mut stream = stream(port).await;
    for _ in 0..2 {
        // Anew, as after a restart.
        let sink = sink(config(port), Vec::new());
        sink.deliver(&batch(0, 9)).await.unwrap();
        sink.deliver(&batch(0, 9)).await.unwrap();
    }
    sink(config(port), Vec::new()).deliver(&batch(10, 19)).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 2);
    let message = stream.get_raw_message(1).await.unwrap();
    assert_eq!(message.payload, batch(0, 9).body);
    assert_eq!(message.headers.get("Nats-Msg-Id").unwrap().as_str(), batch(0, 9).id().to_string());
    assert_eq!(message.headers.get("Content-Type").unwrap().as_str(), "application/x-ndjson");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_stream_or_a_server_batches_wait_and_a_batch_too_long_is_refused() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut first = server(folder.path(), port, &[]);
    let sink = sink(config(port), Vec::new());
    let waits = async |what: &str| {
        let answer = sink.deliver(&batch(0, 0)).await;
        assert!(matches!(answer, Err(DeliverError::Retry { .. })), "{what}: {answer:?}");
    };
    waits("no stream").await;
    let kept = stream(port).await;
    sink.deliver(&batch(0, 0)).await.unwrap();
    assert!(matches!(sink.deliver(&batch(0, 20_000)).await, Err(DeliverError::Refused { .. })));
    first.kill();
    waits("killed").await;
    waits("still gone").await;
    let _second = server(folder.path(), port, &[]);
    sink.deliver(&batch(1, 1)).await.unwrap();
    drop(kept);
    assert_eq!(stream(port).await.info().await.unwrap().state.messages, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_login_waits_and_no_error_shows_it() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _server = server(folder.path(), port, &[]);
    let wrong = "a-wrong-token-that-nobody-may-see";
    let login = NatsLogin::Password { user: "gate".into(), password: Secret::new(wrong.into()) };
    for login in [NatsLogin::Anonymous, NatsLogin::Token(Secret::new(wrong.into())), login] {
        let sink = sink(NatsConfig { login, ..config(port) }, Vec::new());
        let error = sink.deliver(&batch(0, 0)).await.unwrap_err();
        assert!(matches!(error, DeliverError::Retry { .. }));
        assert!(!format!("{sink:?} {error:?} {error}").contains("nobody-may-see"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_demanded_and_the_certificate_checked() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|n| folder.path().join(n));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let _server = server(folder.path(), port, &["--tls", "--tlscert", certificate, "--tlskey", key]);
    let config = NatsConfig { tls: true, ..config(port) };
    let error = sink(config.clone(), Vec::new()).deliver(&batch(0, 0)).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    // There is no stream, so what is heard comes from JetStream, through TLS.
    let error = sink(config, vec![made.cert.der().clone()]).deliver(&batch(0, 0)).await.unwrap_err();
    assert!(error.to_string().contains("no stream"), "{error}");

    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _plain = server(folder.path(), port, &[]);
    let config = NatsConfig { tls: true, ..self::config(port) };
    assert!(
        sink(config, Vec::new()).deliver(&batch(0, 0)).await.is_err(),
        "a server without TLS is not spoken to"
    );
}

#[tokio::test]
async fn the_egress_guard_stands_before_the_server_and_wildcards_are_no_subject() {
    let guarded = sink(NatsConfig { allow_private: false, ..config(4_222) }, Vec::new());
    let error = guarded.deliver(&batch(0, 0)).await.unwrap_err();
    assert!(error.to_string().contains("not one that calls may go to"), "{error}");
    for bad in ["", "a..b", "a.*", ">", "a b", "a\r\nPUB x"] {
        let config = NatsConfig { subject: bad.into(), ..config(4_222) };
        assert_eq!(NatsSink::new(config, upstreams(Vec::new())).unwrap_err(), SubjectError, "{bad}");
    }
}
