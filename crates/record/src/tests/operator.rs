//! The operator's log of logs, and promises.

use super::*;
use crate::sim::Fault;
use bartizan_ledger::{NoteSigner, Promise};
use bartizan_model::record::System;

fn told(disk: &SimDisk) -> Vec<(String, u64)> {
    let entries = entries(disk, Path::new("/data/log/operator/all"));
    let records = entries.iter().map(|e| serde_json::from_slice::<Record>(e).unwrap());
    records
        .filter_map(|r| match r.body {
            Body::System(System::Checkpoint { origin, size, .. }) => Some((origin, size)),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn the_operators_log_tells_how_far_every_other_log_has_come_and_only_news() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    drop(intend(&recorder, parts(1)).await.unwrap());
    drop(intend(&recorder, parts_of(tenant("acme"), 2)).await.unwrap());
    recorder.seal_now().await.unwrap();
    recorder.tell_operator().await.unwrap();
    recorder.tell_operator().await.unwrap();
    recorder.seal_now().await.unwrap();
    let sizes =
        |name: &str| told(&disk).iter().filter(|(o, _)| o == name).map(|(_, n)| *n).collect::<Vec<_>>();
    assert_eq!(sizes("log.example/acme/2026q4").len(), 1);
    // Its own log grows by being told, and is not told of.
    assert!(sizes("log.example/operator/all").is_empty());
    let before = told(&disk).len();
    recorder.close().await;
    let again = open(&disk.rebooted()).await;
    again.tell_operator().await.unwrap();
    again.seal_now().await.unwrap();
    // What was told before a restart is not told again; only the house's own log has grown meanwhile.
    assert_eq!(told(&disk).len(), before);
    again.close().await;
}

#[tokio::test]
async fn a_log_that_was_rolled_back_with_its_lock_store_stands_against_the_operators_log() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    drop(intend(&recorder, parts(1)).await.unwrap());
    recorder.close().await;
    let early = disk.rebooted();
    let recorder = open(&disk).await;
    drop(intend(&recorder, parts(2)).await.unwrap());
    recorder.seal_now().await.unwrap();
    recorder.tell_operator().await.unwrap();
    recorder.close().await;
    // The house's log and its lock go back; the operator's log and the write-ahead log stay.
    let forged = early.rebooted();
    crate::Disk::remove_dir_all(&forged, Path::new("/data/wal")).unwrap();
    for (path, bytes) in disk.files() {
        if path.starts_with("/data/log/operator") || path.starts_with("/data/wal") {
            let mut file = crate::Disk::create(&forged, &path).unwrap();
            file.write_at(&bytes, 0).unwrap();
        }
    }
    for (log, head) in disk.swaps().into_iter().filter(|(log, _)| log.contains("operator")) {
        let latest = bartizan_store::Checkpoints::latest(&forged, &log).await.unwrap();
        bartizan_store::Checkpoints::swap(&forged, &log, latest, head).await.unwrap();
    }
    let refused = open_at(&forged, &clock()).await.unwrap_err();
    assert!(refused.to_string().contains("rolled back"), "{refused}");

    // A log that is gone as a whole is missed too.
    let gone = disk.rebooted();
    crate::Disk::remove_dir_all(&gone, &default_log()).unwrap();
    assert!(open_at(&gone, &clock()).await.is_err());
}

#[tokio::test]
async fn telling_that_failed_is_told_by_the_next_call() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    recorder.seal_now().await.unwrap();
    disk.fail(Fault::Write);
    assert!(recorder.tell_operator().await.is_err());
    let again = open(&disk.rebooted()).await;
    again.seal_now().await.unwrap();
    again.tell_operator().await.unwrap();
    again.close().await;
}

#[tokio::test]
async fn every_acknowledged_record_carries_a_signed_promise_that_names_its_leaf() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    let asks = (0..20).map(|n| intend(&recorder, parts(n)));
    let intents = futures_util::future::join_all(asks).await;
    let key = NoteSigner::from_seed("log.example/default/2026q4", &[5; 32]).unwrap();
    for intent in intents {
        let intent = intent.unwrap();
        let header = intent.receipt().to_string();
        let parts: Vec<&str> = header.splitn(5, ';').collect();
        let promise: Promise = parts[4].parse().unwrap();
        let leaf: Digest = parts[3].parse().unwrap();
        promise.verify(leaf, "log.example", key.verifier()).unwrap();
        assert!(promise.verify(Digest::of(b"another"), "log.example", key.verifier()).is_err());
        assert!(header.len() < 700, "{}", header.len());
    }
    recorder.close().await;
}
