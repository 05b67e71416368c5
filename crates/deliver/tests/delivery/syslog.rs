//! Messages to `rsyslogd`, a foreign program, and to receivers of our own that misbehave or speak TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bartizan_deliver::{Batch, DeliverError, Header, Sink as _, SyslogConfig, SyslogSink, Transport};
use bartizan_model::delivery::SyslogFacility;
use bytes::Bytes;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::server::spawn;
use crate::world::{Program, at, batch, eventually, free_port, numbers, upstreams};

fn config(port: u16, transport: Transport) -> SyslogConfig {
    SyslogConfig {
        host: "localhost".into(),
        port,
        transport,
        allow_private: true,
        header: Header::new(SyslogFacility::Audit, "gate-1.example", None).unwrap(),
        message_max: 8_192,
    }
}

fn sink(port: u16, transport: Transport) -> SyslogSink {
    SyslogSink::new(config(port, transport), upstreams(Vec::new()))
}

/// An `rsyslogd` that writes what it understood of each message, over TCP and UDP on the same port.
fn rsyslogd(folder: &Path, port: u16) -> Program {
    let written = r#"template(name="parsed" type="list") {
  property(name="syslogfacility") constant(value="|") property(name="syslogseverity") constant(value="|")
  property(name="timereported" dateFormat="rfc3339") constant(value="|") property(name="hostname") constant(value="|")
  property(name="app-name") constant(value="|") property(name="msgid") constant(value="|")
  property(name="structured-data") constant(value="|") property(name="msg") constant(value="\n")
}"#;
    let folder = folder.to_str().unwrap();
    let text = format!(
        "global(workDirectory=\"{folder}\" maxMessageSize=\"64k\")\nmodule(load=\"imtcp\")\nmodule(load=\"imudp\")\n{written}\n\
         input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\ninput(type=\"imudp\" port=\"{port}\" address=\"127.0.0.1\")\n\
         action(type=\"omfile\" file=\"{folder}/got\" template=\"parsed\")\n"
    );
    let file = format!("{folder}/rsyslog.conf");
    std::fs::write(&file, text).unwrap();
    let process = format!("{folder}/pid");
    Program::start("rsyslogd", "rsyslog", &["-n", "-f", &file, "-i", &process], port)
}

fn got(folder: &Path, count: usize) -> Vec<Vec<String>> {
    let text = eventually(|| {
        let text = std::fs::read_to_string(folder.join("got")).unwrap_or_default();
        (text.lines().filter(|l| l.starts_with("13|")).count() >= count).then_some(text)
    });
    let ours = text.lines().filter(|l| l.starts_with("13|"));
    ours.map(|l| l.splitn(8, '|').map(ToOwned::to_owned).collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rsyslogd_understands_every_field_over_tcp_and_udp() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let _server = rsyslogd(folder.path(), port);
        let batch = batch(40, 44);
        sink(port, transport).deliver(&batch).await.unwrap();
        let got = got(folder.path(), 5);
        assert_eq!(got.len(), 5, "{transport:?}");
        for (n, fields) in (40..).zip(got) {
            assert_eq!(
                fields[..6],
                ["13", "4", "2026-11-20T08:00:00.123Z", "gate-1.example", "bartizan", "refusal"]
            );
            let data = format!(
                "[bartizan@32473 batch=\"{}\" origin=\"log.example/default/2026q4\" tenant=\"a\\]b\" seq=\"{n}\" index=\"{n}\"]",
                batch.id()
            );
            assert_eq!(fields[6], data);
            assert_eq!(numbers(fields[7].as_bytes()), [n], "the text is the record, whole");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rsyslogd_takes_events_in_cef_and_a_batch_that_is_no_lines_is_refused() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let _server = rsyslogd(folder.path(), port);
    let event = "CEF:0|Bartizan|Bartizan|1|refusal|deny: model:invoke|5|rt=1795161600123 cat=refusal\n";
    let of = |media_type| Batch::new(at(1), at(1), media_type, Bytes::from(event), 1).unwrap();
    sink(port, Transport::Tcp).deliver(&of(Batch::TEXT_LINES)).await.unwrap();
    let got = got(folder.path(), 1);
    assert!(got[0][7].contains("CEF:0|Bartizan|Bartizan|1|refusal|deny: model:invoke|5|"), "{got:?}");
    let refused = sink(port, Transport::Tcp).deliver(&of("application/vnd.apache.parquet")).await;
    assert!(matches!(refused, Err(DeliverError::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rsyslogd_that_is_gone_makes_batches_wait_and_takes_them_once_it_is_back() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut server = rsyslogd(folder.path(), port);
    let sink = sink(port, Transport::Tcp);
    sink.deliver(&batch(0, 199)).await.unwrap();
    server.kill();
    assert!(matches!(sink.deliver(&batch(200, 200)).await, Err(DeliverError::Retry { .. })));
    std::fs::remove_file(folder.path().join("pid")).unwrap();
    let _server = rsyslogd(folder.path(), port);
    sink.deliver(&batch(200, 200)).await.unwrap();
    eventually(|| {
        let text = std::fs::read_to_string(folder.path().join("got")).unwrap_or_default();
        text.contains("seq=\"200\"").then_some(())
    });
}

/// A listener of our own, which does `serve` to the first connection.
async fn listener<F: Future<Output = ()> + Send>(
    serve: impl FnOnce(tokio::net::TcpStream) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn(async move { serve(listener.accept().await.unwrap().0).await });
    port
}

#[tokio::test]
async fn a_receiver_that_breaks_off_with_some_of_it_unread_has_not_got_it() {
    let port = listener(|mut stream| async move {
        let mut some = [0; 10];
        stream.read_exact(&mut some).await.unwrap();
    })
    .await;
    let error = sink(port, Transport::Tcp).deliver(&batch(0, 99)).await.unwrap_err();
    assert!(
        matches!(&error, DeliverError::Retry { cause, .. } if cause.to_string().contains("broke")),
        "{error}"
    );
}

#[tokio::test]
async fn a_receiver_that_reads_but_never_closes_has_not_got_it() {
    let port = listener(|mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        std::future::pending().await
    })
    .await;
    let sink = sink(port, Transport::Tcp);
    let batch = batch(0, 9);
    let waited = tokio::time::timeout(Duration::from_millis(300), sink.deliver(&batch)).await;
    assert!(waited.is_err(), "it does not count as delivered: {waited:?}");
}

#[tokio::test]
async fn a_receiver_that_talks_without_end_is_left() {
    let port = listener(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let (mut all, noise) = (Vec::new(), [b'x'; 512]);
        let talk = async { while write.write_all(&noise).await.is_ok() {} };
        let _ = tokio::join!(read.read_to_end(&mut all), talk);
    })
    .await;
    let error = sink(port, Transport::Tcp).deliver(&batch(0, 9)).await.unwrap_err();
    assert!(matches!(error, DeliverError::Retry { .. }), "{error}");
}

fn tls(name: &str) -> (TlsAcceptor, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), certificate)
}

/// Reads octet-counted messages, strictly.
fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|b| *b == b' ').unwrap();
        let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        assert!(!bytes.starts_with(b"0"), "a length has no leading zero");
        frames.push(bytes[space + 1..space + 1 + length].to_vec());
        bytes = &bytes[space + 1 + length..];
    }
    frames
}

#[tokio::test]
async fn over_tls_the_certificate_is_checked_and_frames_are_exact() {
    let (acceptor, certificate) = tls("localhost");
    let (got, mut get) = tokio::sync::mpsc::channel(1);
    let port = listener(|stream| async move {
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.shutdown().await.unwrap();
        got.send(all).await.unwrap();
    })
    .await;
    let sink = SyslogSink::new(config(port, Transport::Tls), upstreams(vec![certificate]));
    sink.deliver(&batch(0, 2)).await.unwrap();
    let frames = frames(&get.recv().await.unwrap());
    assert_eq!(frames.len(), 3);
    for (n, frame) in (0..).zip(frames) {
        assert!(frame.starts_with(b"<108>1 2026-11-20T08:00:00.123Z gate-1.example bartizan - refusal ["));
        let text = frame.iter().rposition(|b| *b == b'{').unwrap();
        assert_eq!(numbers(&frame[text..]), [n]);
    }
}

#[tokio::test]
async fn over_tls_a_stranger_gets_nothing() {
    for (name, trusted) in [("localhost", false), ("other.example", true)] {
        let (acceptor, certificate) = tls(name);
        let (got, mut get) = tokio::sync::mpsc::channel(1);
        let port = listener(|stream| async move {
            let said = match acceptor.accept(stream).await {
                Ok(mut stream) => stream.read_u8().await.is_ok(),
                Err(_) => false,
            };
            got.send(said).await.unwrap();
        })
        .await;
        let roots = if trusted { vec![certificate] } else { Vec::new() };
        let sink = SyslogSink::new(config(port, Transport::Tls), upstreams(roots));
        assert!(matches!(sink.deliver(&batch(0, 0)).await, Err(DeliverError::Retry { .. })), "{name}");
        assert_eq!(get.recv().await, Some(false), "{name}");
    }
}

#[tokio::test]
async fn the_egress_guard_stands_before_every_transport() {
    for transport in [Transport::Tcp, Transport::Tls, Transport::Udp] {
        let config = SyslogConfig { allow_private: false, ..config(514, transport) };
        let error = SyslogSink::new(config, upstreams(Vec::new())).deliver(&batch(0, 0)).await.unwrap_err();
        assert!(error.to_string().contains("not one that calls may go to"), "{error}");
    }
}
