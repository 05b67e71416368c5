//! Disks and lock stores that fail, fill up, lie or were tampered with.

use super::*;
use crate::Ended;
use crate::sim::{Fault, Op};
use crate::tests::crash::explore;
use bartizan_model::record::{End, System};
use bartizan_store::Checkpoints as _;

async fn fill(recorder: &Recorder, disk: &SimDisk, from: u64, to: u64) {
    for n in from..to {
        let intent = intend(recorder, parts(n)).await.unwrap();
        disk.acked(intent.receipt().seq, intent.receipt().leaf);
        intent.begin().finish(Ended::new(End::Done));
    }
}

async fn why_not_open(disk: &SimDisk) -> OpenError {
    open_at(disk, &clock()).await.expect_err("must be refused")
}

#[tokio::test]
async fn inv_deny_a_failing_disk_stops_everything_and_is_not_tried_again() {
    for fault in [Fault::Sync, Fault::Write] {
        let disk = SimDisk::default();
        let recorder = open(&disk).await;
        fill(&recorder, &disk, 0, 2).await;
        recorder.system(System::Initialised).await.unwrap();
        disk.fail(fault);
        let error = intend(&recorder, parts(10)).await.unwrap_err();
        assert_eq!(
            (error.reason(), error),
            (ReasonCode::RecordUnavailable, RecordError::Failed("simulated EIO".to_owned()))
        );
        let before = disk.ops().len();
        assert!(matches!(intend(&recorder, parts(11)).await, Err(RecordError::Failed(_))));
        assert!(matches!(recorder.refused(&refused(12)).await, Err(RecordError::Failed(_))));
        assert!(matches!(recorder.failure(), Some(RecordError::Failed(_))));
        assert_eq!(disk.ops().len(), before, "nothing is tried again on that file");
        recorder.close().await;
    }
}

#[tokio::test]
async fn inv_ack_pages_that_a_failed_sync_forgot_are_written_again() {
    // The process ends, the machine goes on: what was written is still readable but was never synced.
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    fill(&recorder, &disk, 0, 2).await;
    recorder.system(System::Initialised).await.unwrap();
    disk.fail(Fault::Sync);
    intend(&recorder, parts(10)).await.unwrap_err();
    drop(recorder);
    let recorder = open(&disk).await;
    fill(&recorder, &disk, 20, 22).await;
    recorder.seal_now().await.unwrap();
    fill(&recorder, &disk, 30, 31).await;
    recorder.close().await;
    assert!(disk.ops().iter().any(|op| matches!(op, Op::SyncFailed { .. })));
    assert!(
        sealed(&disk).values().any(|r| matches!(&r.body, Body::Intent(i) if i.id == id(10))),
        "superset of acks"
    );
    assert!(explore(&disk).await > 60);
}

#[tokio::test]
async fn inv_deny_a_full_disk_refuses_and_recovers_by_itself() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    let running = intend(&recorder, parts(0)).await.unwrap().begin();
    disk.set_full(true);
    let mut written = 1;
    let refusal = loop {
        match intend(&recorder, parts(written)).await {
            Ok(intent) => std::mem::forget(intent),
            Err(error) => break error,
        }
        written += 1;
        assert!(written < 50, "the segment has an end");
    };
    assert_eq!((refusal.reason(), refusal), (ReasonCode::RecordUnavailable, RecordError::NoRoom));
    // An outcome has nobody who would try again: it waits.
    running.finish(Ended::new(End::Done));
    assert_eq!(recorder.refused(&refused(60)).await, Err(RecordError::NoRoom));
    assert!(recorder.seal_now().await.is_err(), "sealing needs room too");
    assert_eq!(recorder.failure(), None);
    disk.set_full(false);
    recorder.seal_now().await.unwrap();
    recorder.refused(&refused(61)).await.unwrap();
    recorder.close().await;
    let records = sealed(&disk);
    assert_eq!(records.len() as u64, written + 4, "intents, outcome, refusal, start and end");
    assert!(records.keys().copied().eq(1..=records.len() as u64));
    assert!(
        records.values().any(|r| matches!(&r.body, Body::Outcome(o) if o.of == id(0) && o.end == End::Done))
    );
}

#[tokio::test]
async fn sealing_goes_on_whatever_became_of_a_lost_swap() {
    for fault in [Fault::SwapLost, Fault::SwapAnswerLost] {
        for more in [false, true] {
            let disk = SimDisk::default();
            let recorder = open(&disk).await;
            fill(&recorder, &disk, 0, 3).await;
            recorder.seal_now().await.unwrap();
            fill(&recorder, &disk, 3, 5).await;
            disk.fail(fault);
            assert!(matches!(recorder.seal_now().await, Err(OpenError::Checkpoints(_))));
            assert_eq!(count(&sealed(&disk))[0], 3, "nothing is published that is not known to be locked");
            if more {
                fill(&recorder, &disk, 5, 7).await;
            }
            recorder.seal_now().await.unwrap();
            assert_eq!(count(&sealed(&disk))[0], if more { 7 } else { 5 });
            recorder.close().await;
            if !more {
                assert!(explore(&disk).await > 60);
            }
        }
    }
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_told() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    recorder.system(System::Recovered { what: "x".repeat(2_000) }).await.unwrap();
    let write = disk.ops().iter().rposition(|op| matches!(op, Op::Write { .. })).unwrap();
    let mut cut = 0;
    for crashed in disk.crashes(write + 1) {
        let recorder = open(&crashed).await;
        recorder.close().await;
        for record in sealed(&crashed).values() {
            if let Body::System(System::TailCut { bytes }) = record.body {
                assert!((1..2_600).contains(&bytes));
                cut += 1;
            }
        }
    }
    assert!(cut > 3, "{cut}");
}

#[tokio::test]
async fn every_flipped_bit_of_the_write_ahead_log_is_refused_or_harmless() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    fill(&recorder, &disk, 0, 6).await;
    recorder.system(System::Initialised).await.unwrap();
    let segments: Vec<PathBuf> = disk.files().into_keys().filter(|p| p.starts_with("/data/wal")).collect();
    assert!(segments.len() > 1);
    let (mut refused, mut harmless) = (0, 0);
    for path in segments {
        let length = disk.files()[&path].len();
        for at in (0..length).step_by(7) {
            let flipped = disk.rebooted();
            flipped.tamper(&path, |bytes| bytes[at] ^= 1 << (at % 8));
            match open_at(&flipped, &clock()).await {
                Err(error) => {
                    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
                    assert!(error.to_string().contains("second copy"), "names the way out");
                    refused += 1;
                }
                Ok(recorder) => {
                    recorder.close().await;
                    let records = sealed(&flipped);
                    assert_eq!(count(&records)[..3], [6, 0, 6], "byte {at} of {}", path.display());
                    harmless += 1;
                }
            }
        }
    }
    assert!(refused > 500 && harmless > 10, "{refused} refused, {harmless} harmless");
}

#[tokio::test]
async fn a_missing_or_foreign_write_ahead_log_is_refused_with_the_way_out() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    recorder.seal_now().await.unwrap();
    fill(&recorder, &disk, 0, 12).await;
    recorder.system(System::Initialised).await.unwrap();
    let segments: Vec<PathBuf> = disk.files().into_keys().filter(|p| p.starts_with("/data/wal")).collect();
    assert!(segments.len() > 2);
    let remove = |paths: &[PathBuf]| {
        let disk = disk.rebooted();
        paths.iter().for_each(|path| crate::Disk::remove(&disk, path).unwrap());
        disk
    };
    assert!(matches!(why_not_open(&remove(&segments[1..2])).await, OpenError::Gap { .. }));
    assert!(matches!(why_not_open(&remove(&segments[..1])).await, OpenError::Gap { expected: 2, .. }));
    let gone = why_not_open(&remove(&segments)).await;
    assert!(matches!(gone, OpenError::Behind { last: 0, sealed: 1 }));
    assert!(gone.to_string().contains("new node id"), "{gone}");
    // Swapped contents: each whole, but not in its place.
    let swapped = disk.rebooted();
    let (one, two) = (disk.files()[&segments[0]].clone(), disk.files()[&segments[1]].clone());
    swapped.tamper(&segments[0], |bytes| *bytes = two);
    swapped.tamper(&segments[1], |bytes| *bytes = one);
    assert!(matches!(why_not_open(&swapped).await, OpenError::Damaged { .. }));
    // Another node's log.
    let other = NodeId::from_parts(start(), [8; 10]);
    let disk = disk.rebooted();
    let config = Config { node: other, ..config() };
    let refused = Recorder::open(config, clock(), Arc::new(disk.clone()), Arc::new(disk.clone())).await;
    assert!(matches!(refused, Err(OpenError::Damaged { .. })));
}

#[tokio::test]
async fn the_way_out_of_a_lost_write_ahead_log_works() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    fill(&recorder, &disk, 0, 4).await;
    recorder.close().await;
    let before = sealed(&disk).len();
    let lost = disk.rebooted();
    let wal: Vec<PathBuf> = disk.files().into_keys().filter(|p| p.starts_with("/data/wal")).collect();
    wal.iter().for_each(|path| crate::Disk::remove(&lost, path).unwrap());
    assert!(matches!(why_not_open(&lost).await, OpenError::Behind { .. }));
    let config = Config { node: NodeId::from_parts(start(), [8; 10]), ..config() };
    let recorder =
        Recorder::open(config, clock(), Arc::new(lost.clone()), Arc::new(lost.clone())).await.unwrap();
    intend(&recorder, parts(50)).await.unwrap().begin().finish(Ended::new(End::Done));
    recorder.close().await;
    assert_eq!(entries(&lost, &default_log()).len(), before + 4);
}

#[tokio::test]
async fn a_log_that_was_rolled_back_or_changed_is_refused_with_the_way_out() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    fill(&recorder, &disk, 0, 3).await;
    recorder.seal_now().await.unwrap();
    let early = disk.rebooted();
    fill(&recorder, &disk, 3, 6).await;
    recorder.close().await;

    // The log folder and the write-ahead log of yesterday, with the lock store of today.
    for (log, (size, root)) in disk.swaps().into_iter().skip(early.swaps().len()) {
        let old = early.latest(&log).await.unwrap();
        assert!(early.swap(&log, old, (size, root)).await.unwrap());
    }
    let refused = why_not_open(&early.rebooted()).await;
    assert!(matches!(refused, OpenError::Log(crate::LogError::Rollback { .. })), "{refused}");
    assert!(refused.to_string().contains("Restore its folder"), "{refused}");

    // Single files gone, cut or changed.
    let log = disk.files().into_keys().filter(|p| p.starts_with("/data/log") && !p.ends_with("checkpoint"));
    let head = disk.latest("log.example/default/2026q4").await.unwrap().unwrap().0;
    let last: Vec<PathBuf> = log.filter(|p| p.ends_with(head.to_string())).collect();
    assert_eq!(last.len(), 2, "the last tile and the last bundle");
    for path in &last {
        let gone = disk.rebooted();
        crate::Disk::remove(&gone, path).unwrap();
        assert!(matches!(why_not_open(&gone).await, OpenError::Log(crate::LogError::Rollback { .. })));
        for at in (0..disk.files()[path].len()).step_by(11) {
            let changed = disk.rebooted();
            changed.tamper(path, |bytes| bytes[at] ^= 4);
            assert!(matches!(why_not_open(&changed).await, OpenError::Log(crate::LogError::Rollback { .. })));
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_the_lock_store_does_not_remember_is_refused() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    recorder.close().await;
    let forgetful = SimDisk::default();
    let disk = Arc::new(disk.rebooted());
    let refused = Recorder::open(config(), clock(), disk, Arc::new(forgetful)).await;
    assert!(matches!(refused, Err(OpenError::Log(crate::LogError::Foreign(_)))));
}

#[tokio::test]
async fn inv_ack_two_writers_of_one_log_do_not_fork_it() {
    let (one, two) = (SimDisk::default(), SimDisk::default());
    let lock = Arc::new(SimDisk::default());
    let first = Recorder::open(config(), clock(), Arc::new(one), lock.clone()).await.unwrap();
    let second = Recorder::open(config(), clock(), Arc::new(two.clone()), lock.clone()).await.unwrap();
    drop(intend(&first, parts(1)).await.unwrap());
    drop(intend(&second, parts(2)).await.unwrap());
    first.seal_now().await.unwrap();
    let swaps = lock.swaps().len();
    let refused = second.seal_now().await.unwrap_err();
    assert!(matches!(refused, OpenError::Log(crate::LogError::Taken(_))), "{refused}");
    assert!(matches!(intend(&second, parts(3)).await, Err(RecordError::Failed(_))), "it stops");
    assert!(!two.files().keys().any(|p| p.ends_with("checkpoint")), "the loser publishes nothing");
    assert_eq!(lock.swaps().len(), swaps);
}

#[tokio::test]
async fn inv_ack_files_that_say_something_else_are_never_overwritten() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    recorder.seal_now().await.unwrap();
    // Where the next bundle will be written, somebody has put another one.
    let path = default_log().join("tile/entries/000.p/3");
    crate::disk::write_whole(&disk, Path::new(""), &[(path.clone(), b"another history".to_vec())]).unwrap();
    recorder.system(System::Initialised).await.unwrap();
    recorder.system(System::Initialised).await.unwrap();
    let refused = recorder.seal_now().await.unwrap_err();
    assert!(matches!(refused, OpenError::Log(crate::LogError::Diverged(p)) if p == path));
    assert!(matches!(recorder.failure(), Some(RecordError::Failed(_))), "it stops");
    assert_eq!(disk.files()[&path], b"another history");
    assert_eq!(disk.swaps().len(), 1);
}

/// What must come of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Nothing more is recorded, and the next start finds everything acknowledged.
    Stops,
    /// The next attempt goes on.
    GoesOn,
}

/// Each place of the way from the queue to the published checkpoint, failing before and after what it does (after
/// Sunlight's table).
const TABLE: &[(Fault, Then)] = &[
    (Fault::WriteOf("/wal/"), Then::Stops),
    (Fault::WriteOfDone("/wal/"), Then::Stops),
    (Fault::SyncOf("/wal/"), Then::Stops),
    (Fault::WriteOf("/tile/entries/"), Then::GoesOn),
    (Fault::WriteOfDone("/tile/entries/"), Then::GoesOn),
    (Fault::SyncOf("/tile/entries/"), Then::GoesOn),
    (Fault::WriteOf("/tile/0/"), Then::GoesOn),
    (Fault::WriteOfDone("/tile/0/"), Then::GoesOn),
    (Fault::SyncOf("/tile/0/"), Then::GoesOn),
    (Fault::SwapLost, Then::GoesOn),
    (Fault::SwapAnswerLost, Then::GoesOn),
    (Fault::WriteOf("/checkpoint"), Then::GoesOn),
    (Fault::WriteOfDone("/checkpoint"), Then::GoesOn),
    (Fault::SyncOf("/checkpoint"), Then::GoesOn),
];

#[tokio::test]
async fn inv_ack_a_segment_that_cannot_be_used_again_stops_or_is_removed() {
    let table = [
        (Fault::WriteOf(".old"), Then::Stops),
        (Fault::WriteOfDone(".old"), Then::Stops),
        (Fault::SyncOf(".old"), Then::Stops),
        (Fault::RenameTo(".old"), Then::GoesOn),
    ];
    for (fault, then) in table {
        let disk = SimDisk::default();
        let recorder = open(&disk).await;
        let mut acked = BTreeMap::new();
        disk.fail(fault);
        for n in 0..40 {
            let Ok(intent) = intend(&recorder, parts(n)).await else { break };
            acked.insert(intent.receipt().seq, intent.receipt().leaf);
            drop(intent);
            drop(recorder.seal_now().await);
        }
        assert_eq!(disk.faults_left(), 0, "{fault:?} had no chance");
        let went = if recorder.failure().is_some() { Then::Stops } else { Then::GoesOn };
        assert_eq!(went, then, "{fault:?}: {:?}", recorder.failure());
        recorder.close().await;
        let rebooted = disk.rebooted();
        let again = open(&rebooted).await;
        again.seal_now().await.unwrap();
        super::crash::check(&rebooted, &acked, &format!("{fault:?}"));
        again.close().await;
    }
}

#[tokio::test]
async fn inv_ack_every_place_fails_before_and_after_and_stops_or_goes_on_as_the_table_says() {
    for (fault, then) in TABLE {
        let disk = SimDisk::default();
        let recorder = open(&disk).await;
        let mut acked = BTreeMap::new();
        for n in 0..3 {
            let intent = intend(&recorder, parts(n)).await.unwrap();
            acked.insert(intent.receipt().seq, intent.receipt().leaf);
        }
        recorder.seal_now().await.unwrap();
        disk.fail(*fault);
        let fourth = intend(&recorder, parts(4)).await;
        if let Ok(intent) = &fourth {
            acked.insert(intent.receipt().seq, intent.receipt().leaf);
        }
        drop(fourth);
        let sealed_now = recorder.seal_now().await;
        assert_eq!(disk.faults_left(), 0, "{fault:?} had no chance");
        let went = if recorder.failure().is_some() { Then::Stops } else { Then::GoesOn };
        assert_eq!(went, *then, "{fault:?}: {:?}", recorder.failure());
        if *then == Then::GoesOn {
            // What was waited for was told as failed, or had succeeded all the same; the next attempt is whole.
            recorder.seal_now().await.unwrap_or_else(|e| panic!("{fault:?}: {e}, after {sealed_now:?}"));
            super::crash::check(&disk, &acked, &format!("{fault:?}"));
        }
        recorder.close().await;
        let again = open(&disk.rebooted()).await;
        again.close().await;
        let rebooted = disk.rebooted();
        let again = open(&rebooted).await;
        again.seal_now().await.unwrap();
        super::crash::check(&rebooted, &acked, &format!("{fault:?}, after a start"));
        again.close().await;
    }
}
