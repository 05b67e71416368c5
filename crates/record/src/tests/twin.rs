//! A second copy of the write-ahead log: losing either loses nothing.

use super::crash::check;
use super::*;
use crate::sim::{Fault, Op};
use crate::{Copy, Disk as _, Ended};
use bartizan_model::record::End;
use std::collections::HashSet;

const FIRST: &str = "/data/wal";
const SECOND: &str = "/second";

/// Both copies on one simulated disk, so that a crash can leave any part of either.
async fn open_twin(disk: &SimDisk) -> Result<Recorder, OpenError> {
    let copy = Copy { disk: Arc::new(disk.clone()), folder: PathBuf::from(SECOND) };
    let config = Config { copy: Some(copy), segment_bytes: 3_072, ..config() };
    Recorder::open(config, clock(), Arc::new(disk.clone()), Arc::new(disk.clone())).await
}

fn without(disk: &SimDisk, folder: &str) -> SimDisk {
    let lost = disk.rebooted();
    drop(lost.remove_dir_all(Path::new(folder)));
    lost.rebooted()
}

fn segments(disk: &SimDisk, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let below = |(path, bytes): (PathBuf, Vec<u8>)| Some((path.strip_prefix(folder).ok()?.to_owned(), bytes));
    disk.files().into_iter().filter_map(below).collect()
}

#[tokio::test]
async fn inv_ack_every_crash_recovers_from_either_copy_alone() {
    let disk = SimDisk::default();
    let recorder = open_twin(&disk).await.unwrap();
    for n in 0..8 {
        let intent = intend(&recorder, parts(n)).await.unwrap();
        disk.acked(intent.receipt().seq, intent.receipt().leaf);
        if n % 2 == 0 {
            intent.begin().finish(Ended::new(End::Done));
        } else {
            std::mem::forget(intent);
        }
        if n >= 2 {
            recorder.seal_now().await.unwrap();
        }
    }
    assert!(super::crash::used_again(&disk) > 1, "on both");
    let ops = disk.ops();
    let (mut acked, mut seen) = (BTreeMap::new(), HashSet::new());
    for count in 0..=ops.len() {
        if let Some(Op::Acked { seq, leaf }) = count.checked_sub(1).map(|i| &ops[i]) {
            acked.insert(*seq, *leaf);
        }
        for crashed in disk.crashes(count) {
            for lost in ["", FIRST, SECOND] {
                let left = without(&crashed, if lost.is_empty() { "/none" } else { lost });
                let state = Digest::of(format!("{:?}{:?}{acked:?}", left.files(), left.swaps()).as_bytes());
                if !seen.insert(state) {
                    continue;
                }
                let what = format!("after {count}, without `{lost}`");
                let again = open_twin(&left).await.unwrap_or_else(|e| panic!("{what}: {e}"));
                again.seal_now().await.unwrap();
                check(&left, &acked, &what);
                again.close().await;
                assert_eq!(segments(&left, FIRST), segments(&left, SECOND), "{what}");
            }
        }
    }
    assert!(seen.len() > 300, "{} states", seen.len());
}

#[tokio::test]
async fn a_damaged_first_copy_is_mended_from_the_second() {
    let disk = SimDisk::default();
    let recorder = open_twin(&disk).await.unwrap();
    for n in 0..40 {
        drop(intend(&recorder, parts(n)).await.unwrap());
    }
    let mut acked = BTreeMap::new();
    let last = intend(&recorder, parts(40)).await.unwrap();
    acked.insert(last.receipt().seq, last.receipt().leaf);
    std::mem::forget((last, recorder));
    let broken = disk.rebooted();
    let first = segments(&broken, FIRST).into_keys().next().unwrap();
    broken.tamper(&Path::new(FIRST).join(first), |bytes| bytes[700] ^= 1);
    let again = open_twin(&broken).await.unwrap();
    again.close().await;
    check(&broken, &acked, "mended");
}

#[tokio::test]
async fn a_copy_that_fails_stops_the_recorder_as_the_first_would() {
    let disk = SimDisk::default();
    let recorder = open_twin(&disk).await.unwrap();
    drop(intend(&recorder, parts(1)).await.unwrap());
    // The second copy is written first.
    disk.fail(Fault::Write);
    assert!(intend(&recorder, parts(2)).await.is_err());
    assert!(matches!(recorder.failure(), Some(RecordError::Failed(_))));
}

#[tokio::test]
async fn a_copy_of_another_node_or_of_another_history_is_refused_and_left_alone() {
    let disk = SimDisk::default();
    let recorder = open_twin(&disk).await.unwrap();
    drop(intend(&recorder, parts(1)).await.unwrap());
    recorder.close().await;

    let elsewhere = SimDisk::default();
    let other =
        Config { node: NodeId::from_parts(start(), [8; 10]), folder: PathBuf::from("/other"), ..config() };
    let foreign = Recorder::open(other, clock(), Arc::new(elsewhere.clone()), Arc::new(elsewhere.clone()));
    foreign.await.unwrap().close().await;
    let before = segments(&elsewhere, "/other/wal");
    let copy = Copy { disk: Arc::new(elsewhere.clone()), folder: PathBuf::from("/other/wal") };
    let config = Config { copy: Some(copy), ..config() };
    let again = disk.rebooted();
    let refused = Recorder::open(config, clock(), Arc::new(again.clone()), Arc::new(again)).await;
    assert!(refused.unwrap_err().to_string().contains("another node"));
    assert_eq!(segments(&elsewhere, "/other/wal"), before);

    // The same node and numbers, but another past.
    let fork = SimDisk::default();
    let forked = open(&fork).await;
    drop(intend(&forked, parts(77)).await.unwrap());
    forked.close().await;
    let copy = Copy { disk: Arc::new(fork.clone()), folder: PathBuf::from(FIRST) };
    let config = Config { copy: Some(copy), ..super::config() };
    let again = disk.rebooted();
    let refused = Recorder::open(config, clock(), Arc::new(again.clone()), Arc::new(again)).await;
    assert!(refused.unwrap_err().to_string().contains("other records"));
}
