//! Batches to an HTTP server that checks what it gets and misbehaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use bartizan_base::Timestamp;
use bartizan_base::random::SeededRandom;
use bartizan_base::time::ManualClock;
use bartizan_deliver::{
    Backoff, Config, Courier, DELIVERY_ID, DeadLetters, DeliverError, FilePositions, HttpConfig,
    HttpConfigError, HttpSink, Parts, SIGNATURE, Sink as _, TIMESTAMP,
};
use bartizan_rt::Tasks;
use bartizan_secret::Secret;
use bytes::Bytes;
use http::Response;

use crate::server::{Act, Received, Server, spawn, status};
use crate::world::{Log, at, batch, numbers, upstreams};

pub(crate) const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";
const NOW: u64 = 1_795_161_600;

fn config(url: String) -> HttpConfig {
    HttpConfig { url, secret: Secret::new(SECRET.to_vec()), allow_private: true }
}

pub(crate) fn sink(url: String) -> HttpSink {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(NOW)));
    HttpSink::new(&config(url), upstreams(Vec::new()), clock).unwrap()
}

/// What a careful receiver does.
pub(crate) fn verified(request: &Received) -> bool {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Some(hex) = header(SIGNATURE).strip_prefix("v1=") else { return false };
    let tag: Result<Vec<u8>, _> =
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(hex.get(i..i + 2).unwrap_or("!"), 16)).collect();
    let signed = [header(TIMESTAMP).as_bytes(), b".", request.body()].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    tag.is_ok_and(|tag| hmac::verify(&key, &signed, &tag).is_ok())
}

#[tokio::test]
async fn a_batch_arrives_signed_and_named_and_any_change_shows() {
    let server = Server::start(|request| status(if verified(request) { 204 } else { 401 })).await;
    sink(server.url("/in")).deliver(&batch(0, 4)).await.unwrap();
    let request = server.received().remove(0);
    assert_eq!(request.headers()[DELIVERY_ID], batch(0, 4).id().to_string());
    assert_eq!(request.headers()[TIMESTAMP], NOW.to_string());
    assert_eq!(request.headers()["content-type"], "application/x-ndjson");
    assert_eq!(numbers(request.body()), [0, 1, 2, 3, 4]);
    let mut other_time = request.clone();
    other_time.headers_mut().insert(TIMESTAMP, (NOW + 1).into());
    let other_body = request.map(|body| [&body[..], b"x"].concat().into());
    assert!(!verified(&other_time) && !verified(&other_body));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(|_| status(200)).await;
    let to = elsewhere.url("/in");
    let server = Server::start(move |_| {
        let answer = Response::builder().status(307).header("location", &to).body(Bytes::new());
        Act::Answer(answer.unwrap())
    })
    .await;
    let error = sink(server.url("/in")).deliver(&batch(0, 0)).await.unwrap_err();
    assert!(matches!(&error, DeliverError::Retry { cause, .. } if cause.to_string().contains("307")));
    assert_eq!((server.received().len(), elsewhere.received().len()), (1, 0));
}

#[tokio::test]
async fn an_answer_without_end_a_broken_one_and_none_are_left() {
    let server = Server::start(|request| match request.uri().path() {
        "/endless" => Act::Endless,
        "/hang" => Act::Hang,
        _ => Act::Break,
    })
    .await;
    for path in ["/endless", "/break"] {
        let error = sink(server.url(path)).deliver(&batch(0, 0)).await.unwrap_err();
        assert!(matches!(error, DeliverError::Retry { .. }), "{path}: {error}");
    }
    let sink = sink(server.url("/hang"));
    let batch = batch(0, 0);
    let error =
        tokio::time::timeout(Duration::from_secs(20), sink.deliver(&batch)).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
}

#[tokio::test]
async fn the_egress_guard_stands_before_the_receiver_and_no_error_shows_the_secret() {
    let server = Server::start(|_| status(200)).await;
    let port = server.address.port();
    let clock = Arc::new(ManualClock::default());
    for url in [
        format!("https://127.0.0.1:{port}/in"),
        format!("https://localhost:{port}/in"),
        format!("http://127.0.0.1:{port}/in"),
        "https://169.254.169.254/latest".to_owned(),
        format!("https://2130706433:{port}/in"),
    ] {
        let config = HttpConfig { allow_private: false, ..config(url.clone()) };
        let sink = HttpSink::new(&config, upstreams(Vec::new()), clock.clone()).unwrap();
        let error = sink.deliver(&batch(0, 0)).await.unwrap_err();
        let forbidden =
            ["not acceptable", "not one that calls may go to"].iter().any(|t| error.to_string().contains(t));
        assert!(forbidden, "{url}: {error}");
        let shown = format!("{config:?} {sink:?} {error:?} {error}");
        assert!(!shown.contains("thirty-two") && !shown.contains("97, 32"), "{shown}");
    }
    assert!(server.received().is_empty());
}

#[test]
fn a_short_secret_and_an_address_with_a_query_are_not_configured() {
    let make =
        |config: &HttpConfig| HttpSink::new(config, upstreams(Vec::new()), Arc::new(ManualClock::default()));
    let short = HttpConfig { secret: Secret::new(vec![1; 31]), ..config("https://siem.example/in".into()) };
    assert!(matches!(make(&short), Err(HttpConfigError::ShortSecret)));
    for bad in ["", "/in", "https://siem.example/in?key=secret"] {
        assert!(matches!(make(&config(bad.into())), Err(HttpConfigError::Address)), "{bad}");
    }
}

#[tokio::test]
async fn through_every_fault_a_courier_delivers_everything_in_order_and_parks_what_is_refused() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let faulty = match count.fetch_add(1, Ordering::SeqCst) {
            1 => Act::Break,
            2 => status(503),
            4 => Act::Endless,
            5 => Act::Hang,
            6 => status(302),
            _ if numbers(request.body()).contains(&20) => status(422),
            _ => status(200),
        };
        if verified(request) { faulty } else { status(401) }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let letters = DeadLetters::new(folder.path().join("dead"), 10);
    let parts = Parts {
        source: Arc::new(Log { size: 60, ..Log::default() }),
        sink: Arc::new(sink(server.url("/in"))),
        positions: Arc::new(FilePositions::new(folder.path().join("position.json"))),
        letters: letters.clone(),
        clock: Arc::new(ManualClock::default()),
        random: Arc::new(SeededRandom::new(1)),
    };
    let config = Config {
        records_max: 9,
        patience: Duration::from_millis(300),
        idle: Duration::from_millis(5),
        backoff: Backoff { first: Duration::from_millis(2), max: Duration::from_millis(20) },
        ..Config::default()
    };
    let tasks = Tasks::new();
    let courier = Courier::new(parts, config, tasks.shutdown().clone());
    let pulse = courier.pulse();
    spawn(courier.run());
    let whole = async {
        while pulse.health().done != Some(at(59)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), whole).await.unwrap();
    tasks.shutdown().request();
    let mut seen = Vec::new();
    for request in server.received() {
        let numbers = numbers(request.body());
        if seen.last() != Some(&numbers) {
            seen.push(numbers);
        }
    }
    assert!(seen.into_iter().flatten().eq(0..60), "each batch again until it is taken, and then the next");
    let parked = letters.list().await.unwrap();
    assert_eq!(parked.len(), 1);
    assert!((parked[0].first.index..=parked[0].last.index).contains(&20));
    assert_eq!((pulse.health().dead_letters, pulse.health().behind), (1, 0));
}
