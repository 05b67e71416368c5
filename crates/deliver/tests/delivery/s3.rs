//! Batches and a mirror in S3-compatible stores: a small one of our own that misbehaves, and, started by `tests/outside/deliver.py`,
//! a foreign one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bartizan_deliver::{
    Bucket, DeliverError, Mirror, MirrorError, Put, S3Config, S3Error, S3Sink, Sink as _,
};
use bartizan_secret::Secret;
use bytes::Bytes;
use http::{Method, Response};

use crate::server::{Act, Received, Server, status};
use crate::world::{batch, upstreams};

const KEY: &str = "a-key-that-nobody-may-see";

fn bucket(endpoint: &str, prefix: &str) -> Bucket {
    let config = S3Config {
        endpoint: Some(endpoint.to_owned()),
        region: "eu-central-1".into(),
        bucket: "ledger".into(),
        prefix: prefix.into(),
        access_key_id: "gate".into(),
        secret_access_key: Secret::new(KEY.into()),
        allow_private: true,
    };
    let bucket = Bucket::new(&config, upstreams(Vec::new())).unwrap();
    assert!(!format!("{config:?} {bucket:?}").contains(KEY));
    bucket
}

/// What a store does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Faults {
    /// Conditions of writes that it passes over.
    ignores: Option<&'static str>,
}

/// A store in memory. `lose` makes it do the next write and then break off.
async fn store(faults: Faults, lose: Arc<AtomicBool>) -> Server {
    let objects = Mutex::new(BTreeMap::<String, (u64, Bytes)>::new());
    Server::start(move |request: &Received| {
        let mut objects = objects.lock().unwrap();
        let path = request.uri().path().to_owned();
        let there = objects.get(&path).cloned();
        let tag = |n: u64| format!("\"{n}\"");
        if request.method() == Method::GET {
            return there.map_or_else(
                || status(404),
                |(n, bytes)| {
                    let answer = Response::builder()
                        .header("etag", tag(n))
                        .header("content-length", bytes.len())
                        .header("last-modified", "Fri, 20 Nov 2026 08:00:00 GMT");
                    Act::Answer(answer.body(bytes).unwrap())
                },
            );
        }
        let condition = |name| request.headers().get(name).filter(|_| faults.ignores != Some(name));
        let held = condition("if-none-match").is_none_or(|_| there.is_none())
            && condition("if-match").is_none_or(|t| there.as_ref().is_some_and(|(n, _)| *t == tag(*n)));
        if !held {
            return status(412);
        }
        let number = there.map_or(1, |(n, _)| n + 1);
        objects.insert(path, (number, request.body().clone()));
        if lose.swap(false, Ordering::SeqCst) {
            return Act::Break;
        }
        Act::Answer(Response::builder().header("etag", tag(number)).body(Bytes::new()).unwrap())
    })
    .await
}

#[tokio::test]
async fn a_store_that_passes_conditions_over_is_not_used() {
    for name in ["if-none-match", "if-match"] {
        let server = store(Faults { ignores: Some(name) }, Arc::default()).await;
        let error = Mirror::open(bucket(&server.url(""), "tiles")).await.unwrap_err();
        assert!(matches!(&error, S3Error::Unconditional(n) if n.eq_ignore_ascii_case(name)), "{error}");
        assert!(S3Sink::open(bucket(&server.url(""), "tiles")).await.is_err());
    }
    let server = store(Faults::default(), Arc::default()).await;
    for _ in 0..2 {
        Mirror::open(bucket(&server.url(""), "tiles")).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_that_was_made_but_not_answered_is_found_made() {
    let lose = Arc::new(AtomicBool::new(false));
    let server = store(Faults::default(), lose.clone()).await;
    let bucket = bucket(&server.url(""), "");
    let (mirror, sink) = (Mirror::open(bucket.clone()).await.unwrap(), S3Sink::open(bucket).await.unwrap());
    let tile = Bytes::from_static(&[7; 8_192]);

    lose.store(true, Ordering::SeqCst);
    assert!(matches!(mirror.put_new("tile/0/000", tile.clone()).await, Err(MirrorError::Store(_))));
    assert_eq!(mirror.put_new("tile/0/000", tile.clone()).await.unwrap(), Put::AlreadyThere);
    let other = mirror.put_new("tile/0/000", Bytes::from_static(&[8; 8_192])).await;
    assert!(matches!(other, Err(MirrorError::Diverged { .. })), "{other:?}");
    assert_eq!(mirror.read("tile/0/000").await.unwrap().unwrap().0, tile);

    lose.store(true, Ordering::SeqCst);
    assert!(matches!(sink.deliver(&batch(0, 9)).await, Err(DeliverError::Retry { .. })));
    sink.deliver(&batch(0, 9)).await.unwrap();

    let one = mirror.advance("checkpoint", "1".into(), None).await.unwrap();
    lose.store(true, Ordering::SeqCst);
    assert!(matches!(
        mirror.advance("checkpoint", "2".into(), Some(one.clone())).await,
        Err(MirrorError::Store(_))
    ));
    let two = mirror.advance("checkpoint", "2".into(), Some(one)).await.unwrap();
    assert_eq!(mirror.read("checkpoint").await.unwrap(), Some(("2".into(), two)));
}

#[tokio::test]
async fn a_store_that_fails_redirects_or_answers_without_end_makes_a_batch_wait() {
    for path in ["500", "503", "403", "307", "endless", "break"] {
        let server = Server::start(move |_| match path {
            "endless" => Act::Endless,
            "break" => Act::Break,
            code => status(code.parse().unwrap()),
        })
        .await;
        let error = S3Sink::open(bucket(&server.url(""), "x")).await.unwrap_err();
        assert!(matches!(error, S3Error::Store(_)), "{path}: {error}");
        assert!(!format!("{error:?}").contains(KEY));
    }
}

/// Where the foreign store is, with the bucket `ledger` in it.
fn foreign() -> String {
    std::env::var_os("BARTIZAN_TEST_S3")
        .expect("`python3 tests/outside/deliver.py` starts the store and runs this test")
        .into_string()
        .unwrap()
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: `python3 tests/outside/deliver.py`"]
async fn foreign_store_tiles_are_created_once_and_a_different_one_is_a_divergence() {
    let mirror = Mirror::open(bucket(&foreign(), "log.example/default/2026q4")).await.unwrap();
    let (tile, other) = (Bytes::from_static(&[7; 8_192]), Bytes::from_static(&[8; 8_192]));
    assert_eq!(mirror.put_new("tile/0/x001/234", tile.clone()).await.unwrap(), Put::Created);
    assert_eq!(mirror.put_new("tile/0/x001/234", tile.clone()).await.unwrap(), Put::AlreadyThere);
    let diverged = mirror.put_new("tile/0/x001/234", other).await;
    assert!(matches!(diverged, Err(MirrorError::Diverged { path }) if path == "tile/0/x001/234"));
    assert_eq!(mirror.read("tile/0/x001/234").await.unwrap().unwrap().0, tile);
    assert_eq!(mirror.put_new("tile/0/000.p/7", Bytes::new()).await.unwrap(), Put::Created);
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: `python3 tests/outside/deliver.py`"]
async fn foreign_store_of_two_that_move_the_checkpoint_one_wins() {
    let mirror = Mirror::open(bucket(&foreign(), "two")).await.unwrap();
    assert_eq!(mirror.read("checkpoint").await.unwrap(), None);
    let one = mirror.advance("checkpoint", "one".into(), None).await.unwrap();
    assert!(matches!(mirror.advance("checkpoint", "new".into(), None).await, Err(MirrorError::Moved { .. })));
    let two = mirror.advance("checkpoint", "two".into(), Some(one.clone())).await.unwrap();
    assert_ne!(one, two);
    assert!(matches!(
        mirror.advance("checkpoint", "2".into(), Some(one)).await,
        Err(MirrorError::Moved { .. })
    ));
    assert_eq!(mirror.read("checkpoint").await.unwrap(), Some(("two".into(), two.clone())));
    let attempts =
        (0..8).map(|n| mirror.advance("checkpoint", format!("three {n}").into(), Some(two.clone())));
    let won = futures_util::future::join_all(attempts).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
}

#[tokio::test]
#[ignore = "needs an S3-compatible store: `python3 tests/outside/deliver.py`"]
async fn foreign_store_a_batch_that_comes_twice_is_there_once() {
    let bucket = bucket(&foreign(), "batches");
    let (sink, mirror) = (S3Sink::open(bucket.clone()).await.unwrap(), Mirror::open(bucket).await.unwrap());
    for _ in 0..2 {
        sink.deliver(&batch(10, 19)).await.unwrap();
    }
    let name = "log.example/default/2026q4/00000000000000000010-00000000000000000019.jsonl";
    assert_eq!(mirror.read(name).await.unwrap().unwrap().0, batch(10, 19).body);
    let mut other = batch(10, 19);
    other.body = Bytes::from_static(b"{}\n");
    assert!(matches!(sink.deliver(&other).await, Err(DeliverError::Refused { .. })));
}
