//! Removing a log of a past period: never the wrong one, never half, never without a record of it.

use super::insider::Credulous;
use super::*;
use crate::sim::Fault;
use crate::{LogError, ReadError, RemoveError};
use bartizan_base::time::ManualClock;
use bartizan_ledger::Checkpoint;
use bartizan_model::action::ChangeState;
use bartizan_model::record::System;

const PERIOD: &str = "2026q4";
const KEEP: Duration = Duration::from_secs(30 * 86_400);

/// 2027-04-20: the second quarter after [`start`].
fn later() -> Timestamp {
    Timestamp::parse_rfc3339("2027-04-20T08:00:00Z").unwrap()
}

async fn leave(recorder: &Recorder, of: Tenant, n: u64) -> IntentRecorded<ChangeState> {
    recorder.intend_parts(parts_of(of, n), Target::House).await.unwrap()
}

/// A house that worked in the fourth quarter of 2026, enough for full tiles, and wakes up two quarters later.
async fn old_house(disk: &SimDisk, clock: &Arc<ManualClock>) -> Recorder {
    let recorder = open_at(disk, clock).await.unwrap();
    let asks = (0..300).map(|n| intend(&recorder, parts(n)));
    futures_util::future::join_all(asks).await.into_iter().for_each(|intent| drop(intent.unwrap()));
    drop(intend(&recorder, parts_of(tenant("acme"), 500)).await.unwrap());
    recorder.seal_now().await.unwrap();
    recorder.tell_operator().await.unwrap();
    recorder.close().await;
    clock.set_wall(later());
    open_at(disk, clock).await.unwrap()
}

async fn remove(recorder: &Recorder, of: Tenant, n: u64) -> Result<(), RemoveError> {
    let intent = leave(recorder, of, n).await;
    let closed = recorder.closed_log(&intent, PERIOD, KEEP)?;
    recorder.remove_log(&intent, &closed).await
}

fn left(disk: &SimDisk, folder: &Path) -> Vec<String> {
    let files = disk.files().into_keys().filter(|path| path.starts_with(folder));
    files.map(|path| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned()).collect()
}

fn removals(disk: &SimDisk) -> Vec<(String, u64, Digest)> {
    let entries = entries(disk, Path::new("/data/log/operator/all"));
    let records = entries.iter().map(|e| serde_json::from_slice::<Record>(e).unwrap());
    let removed = |r: Record| match r.body {
        Body::System(System::Removed { origin, size, root, .. }) => Some((origin, size, root)),
        _ => None,
    };
    records.filter_map(removed).collect()
}

#[tokio::test]
async fn a_removed_period_leaves_its_last_checkpoint_and_a_record_in_the_operators_log() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = old_house(&disk, &clock).await;
    let house = Tenant::default_tenant();
    let intent = leave(&recorder, house.clone(), 1_000).await;
    let closed = recorder.closed_log(&intent, PERIOD, KEEP).unwrap();
    assert_eq!((&*closed.origin, closed.name.as_str()), ("log.example/default/2026q4", "default/2026q4"));
    assert_eq!(recorder.named_in(&closed).await.unwrap(), [who().subject].into());
    recorder.remove_log(&intent, &closed).await.unwrap();
    assert_eq!(left(&disk, &default_log()), ["checkpoint", "key.vkey", "removed"]);
    let key = closed.verifier.parse().unwrap();
    let last = Checkpoint::open(&disk.files()[&default_log().join("checkpoint")], &key).unwrap();
    assert_eq!(removals(&disk), [(closed.origin.to_string(), last.size, last.root)]);
    recorder.close().await;

    // Its end stays known and every question about it has a clear answer, also after a restart; all else goes on.
    for round in 0..2_u64 {
        let recorder = open_at(&disk.rebooted(), &clock).await.unwrap();
        let read = reader(&recorder, house.clone(), 2_000 + round).await;
        let gone = |error: ReadError| assert!(matches!(error, ReadError::Removed(o) if *o == *closed.origin));
        gone(recorder.find(&read, id(7)).await.unwrap_err());
        gone(recorder.entries(&read, &closed.origin, 0, 10).await.unwrap_err());
        gone(recorder.proof_in(&read, "default", PERIOD, 0).await.unwrap_err());
        gone(recorder.log_file(&read, "default", PERIOD, "tile/0/000").await.unwrap_err());
        let note = recorder.log_file(&read, "default", PERIOD, "checkpoint").await.unwrap().unwrap();
        assert_eq!(note, crate::LogFile::Checkpoint(closed.checkpoint.clone()));
        assert!(
            recorder
                .heads(&read)
                .unwrap()
                .iter()
                .any(|head| head.origin == closed.origin && head.size == last.size)
        );
        assert!(recorder.feed().logs().iter().all(|log| log.origin != closed.origin));
        drop(intend(&recorder, parts(3_000 + round)).await.unwrap());
        assert!(!recorder.latest(&read, 1_000).await.unwrap().is_empty());
        let theirs = reader(&recorder, tenant("acme"), 4_000 + round).await;
        assert!(
            recorder.find(&theirs, id(500)).await.unwrap().is_some(),
            "another tenant's log is untouched"
        );
        let again = remove(&recorder, house.clone(), 5_000 + round).await.unwrap_err();
        assert!(matches!(again, RemoveError::Removed(_)), "{again}");
        recorder.seal_now().await.unwrap();
        recorder.tell_operator().await.unwrap();
        recorder.close().await;
    }
}

#[tokio::test]
async fn what_is_open_too_young_not_ones_own_or_endless_is_never_removed() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = open_at(&disk, &clock).await.unwrap();
    drop(intend(&recorder, parts(1)).await.unwrap());
    recorder.seal_now().await.unwrap();
    let house = Tenant::default_tenant();
    let ask = |n| leave(&recorder, house.clone(), n);
    let refused =
        |intent: &IntentRecorded<ChangeState>, period| recorder.closed_log(intent, period, KEEP).unwrap_err();
    assert!(matches!(refused(&ask(10).await, PERIOD), RemoveError::TooEarly { .. }), "the open period");
    clock.set_wall(Timestamp::parse_rfc3339("2027-01-30T23:59:59Z").unwrap());
    let early = refused(&ask(11).await, PERIOD);
    assert_eq!(early.to_string(), "the period 2026q4 may be removed from 2027-01-31T00:00:00.000Z on");
    clock.set_wall(later());
    assert!(matches!(refused(&ask(12).await, "all"), RemoveError::Endless));
    for absent in ["2026q3", "2026q5", "../2026q4", "2026q4/"] {
        assert!(matches!(refused(&ask(13).await, absent), RemoveError::Absent), "{absent}");
    }
    let theirs = leave(&recorder, tenant("acme"), 14).await;
    assert!(matches!(refused(&theirs, PERIOD), RemoveError::Absent));
    // Another tenant's leave does not remove what one has looked up.
    let closed = recorder.closed_log(&ask(15).await, PERIOD, KEEP).unwrap();
    assert!(matches!(recorder.remove_log(&theirs, &closed).await, Err(RemoveError::Absent)));
    let short = crate::tests::parts_of(house.clone(), 16);
    let short = PermitParts { expires: later().saturating_add(Duration::from_secs(5)), ..short };
    let short: IntentRecorded<ChangeState> = recorder.intend_parts(short, Target::House).await.unwrap();
    clock.set_wall(later().saturating_add(Duration::from_secs(6)));
    assert!(matches!(refused(&short, PERIOD), RemoveError::PermitExpired));
    assert!(left(&disk, &default_log()).len() > 3);
    recorder.close().await;
}

#[tokio::test]
async fn a_log_that_went_on_since_it_was_looked_at_is_not_removed() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = old_house(&disk, &clock).await;
    let intent = leave(&recorder, Tenant::default_tenant(), 1_000).await;
    let closed = recorder.closed_log(&intent, PERIOD, KEEP).unwrap();
    // The clock goes back for a moment, and a record of the old period comes in.
    clock.set_wall(start());
    drop(intend(&recorder, parts(1_001)).await.unwrap());
    clock.set_wall(later());
    let refused = recorder.remove_log(&intent, &closed).await.unwrap_err();
    assert!(matches!(refused, RemoveError::Unsettled(_)), "{refused}");
    assert!(removals(&disk).is_empty());
    let read = reader(&recorder, Tenant::default_tenant(), 1_002).await;
    assert!(recorder.find(&read, id(7)).await.unwrap().is_some());
    recorder.close().await;
}

#[tokio::test]
async fn where_witnesses_are_configured_no_period_goes_before_they_have_cosigned_its_end() {
    let (disk, clock) = (SimDisk::default(), clock());
    old_house(&disk, &clock).await.close().await;
    let open = async |disk: &SimDisk| {
        let config = Config { witnessed: true, ..config() };
        Recorder::open(config, clock.clone(), Arc::new(disk.clone()), Arc::new(disk.clone())).await.unwrap()
    };
    let house = Tenant::default_tenant;
    let witness = Arc::new(Credulous::new("w.example", 9));
    let all = [witness as Arc<dyn crate::Witness>];
    let refused = async |recorder: &Recorder, n| {
        let error = remove(recorder, house(), n).await.unwrap_err();
        assert!(
            matches!(&error, RemoveError::Unwitnessed(o) if o == "log.example/default/2026q4"),
            "{error}"
        );
    };

    let recorder = open(&disk).await;
    refused(&recorder, 1_000).await;
    // That one witness has cosigned is not that enough have: a quorum is for a policy to judge.
    let round = recorder.witness_round(&all).await.unwrap();
    refused(&recorder, 1_001).await;
    recorder.note_witnessed(&round);
    // The clock goes back for a moment and the period grows: what was cosigned is not its end any more.
    clock.set_wall(start());
    recorder.refused(&super::refused(1_002)).await.unwrap();
    clock.set_wall(later());
    recorder.seal_now().await.unwrap();
    refused(&recorder, 1_003).await;
    recorder.close().await;

    // Nor does a process know what an earlier one was shown.
    let recorder = open(&disk).await;
    refused(&recorder, 1_004).await;
    assert!(removals(&disk).is_empty());
    let read = reader(&recorder, house(), 1_005).await;
    assert!(recorder.find(&read, id(7)).await.unwrap().is_some(), "nothing was removed");
    recorder.seal_now().await.unwrap();
    recorder.note_witnessed(&recorder.witness_round(&all).await.unwrap());
    remove(&recorder, house(), 1_006).await.unwrap();
    assert_eq!(left(&disk, &default_log()), ["checkpoint", "key.vkey", "removed"]);
    recorder.close().await;
}

#[tokio::test]
async fn a_record_of_a_removed_period_is_sealed_into_the_next_one_that_is_there() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = old_house(&disk, &clock).await;
    remove(&recorder, Tenant::default_tenant(), 1_000).await.unwrap();
    clock.set_wall(start());
    drop(intend(&recorder, parts(1_001)).await.unwrap());
    recorder.seal_now().await.unwrap();
    let read = reader(&recorder, Tenant::default_tenant(), 1_002).await;
    let found = recorder.find(&read, id(1_001)).await.unwrap().unwrap();
    assert_eq!(&*found.sealed.unwrap().origin, "log.example/default/2027q1");
    clock.set_wall(later());
    recorder.close().await;
    // A start does not take it for unsealed, nor for lost.
    let again = disk.rebooted();
    let recorder = open_at(&again, &clock).await.unwrap();
    recorder.seal_now().await.unwrap();
    recorder.close().await;
    let twice = entries(&again, Path::new("/data/log/default/2027q1"));
    assert_eq!(twice.iter().collect::<std::collections::BTreeSet<_>>().len(), twice.len());
    let records: std::collections::BTreeSet<u64> =
        twice.iter().map(|e| serde_json::from_slice::<Record>(e).unwrap().seq).collect();
    assert_eq!(records.len(), twice.len());
}

#[tokio::test]
async fn a_crash_or_a_fault_anywhere_in_a_removal_leaves_the_log_whole_or_gone_with_its_record() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = old_house(&disk, &clock).await;
    recorder.seal_now().await.unwrap();
    let before = disk.ops().len();
    remove(&recorder, Tenant::default_tenant(), 1_000).await.unwrap();
    let (mut whole, mut gone) = (0, 0);
    for count in before..=disk.ops().len() {
        for (pattern, crashed) in disk.crashes(count).into_iter().enumerate() {
            let what = format!("after {count}, pattern {pattern}");
            let once = match open_at(&crashed, &clock).await {
                Ok(recorder) => recorder,
                Err(error) => panic!("{what}: {error}"),
            };
            let read = reader(&once, Tenant::default_tenant(), 2_000).await;
            match once.find(&read, id(7)).await {
                Ok(found) => {
                    whole += 1;
                    assert!(found.is_some(), "{what}");
                    assert!(entries(&crashed, &default_log()).len() > 300, "{what}");
                    remove(&once, Tenant::default_tenant(), 2_001).await.unwrap();
                }
                Err(ReadError::Removed(_)) => gone += 1,
                Err(error) => panic!("{what}: {error}"),
            }
            assert_eq!(left(&crashed, &default_log()), ["checkpoint", "key.vkey", "removed"], "{what}");
            once.close().await;
            assert!(!removals(&crashed).is_empty(), "{what}");
            drop(open_at(&crashed.rebooted(), &clock).await.unwrap());
        }
    }
    assert!(whole > 5 && gone > 5, "{whole} {gone}");
    drop(recorder);

    for fault in [Fault::Write, Fault::Sync] {
        let (disk, clock) = (SimDisk::default(), super::clock());
        let recorder = old_house(&disk, &clock).await;
        let intent = leave(&recorder, Tenant::default_tenant(), 1_000).await;
        let closed = recorder.closed_log(&intent, PERIOD, KEEP).unwrap();
        disk.fail(fault);
        assert!(recorder.remove_log(&intent, &closed).await.is_err());
        assert!(left(&disk, &default_log()).len() > 3, "what is not recorded is not removed");
    }
}

#[tokio::test]
async fn a_period_that_is_gone_without_a_record_of_its_removal_keeps_the_house_from_starting() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = old_house(&disk, &clock).await;
    recorder.seal_now().await.unwrap();
    recorder.close().await;
    let acme = Path::new("/data/log/acme/2026q4");
    let refused = |error: OpenError| match error {
        OpenError::Log(LogError::NotRemoved(origin) | LogError::Rollback { origin, .. }) => origin,
        other => panic!("{other}"),
    };
    let plant = |disk: &SimDisk, path: PathBuf, text: &[u8]| {
        let mut file = crate::Disk::create(disk, &path).unwrap();
        file.write_at(text, 0).unwrap();
    };
    // The tiles alone, the folder as a whole, and the tiles with a mark that nothing stands behind.
    for case in 0..4 {
        let forged = disk.rebooted();
        match case {
            0 => crate::Disk::remove_dir_all(&forged, &default_log().join("tile")).unwrap(),
            1 => crate::Disk::remove_dir_all(&forged, &default_log()).unwrap(),
            _ => {
                crate::Disk::remove_dir_all(&forged, &default_log().join("tile")).unwrap();
                let mark = if case == 2 { r#"{"index":0,"last_seq":1}"# } else { "{}" };
                plant(&forged, default_log().join("removed"), mark.as_bytes());
            }
        }
        let error = open_at(&forged, &clock).await.err().unwrap_or_else(|| panic!("{case} starts"));
        assert_eq!(refused(error), "log.example/default/2026q4", "{case}");
    }
    // The record of another log's removal stands behind nobody else's mark.
    let recorder = open_at(&disk, &clock).await.unwrap();
    remove(&recorder, tenant("acme"), 1_000).await.unwrap();
    recorder.close().await;
    let forged = disk.rebooted();
    let mark = forged.files()[&acme.join("removed")].clone();
    crate::Disk::remove_dir_all(&forged, &default_log().join("tile")).unwrap();
    plant(&forged, default_log().join("removed"), &mark);
    assert_eq!(refused(open_at(&forged, &clock).await.unwrap_err()), "log.example/default/2026q4");
    // Nor does a mark excuse another last checkpoint than the lock store holds.
    let forged = disk.rebooted();
    let other =
        Checkpoint { origin: "log.example/acme/2026q4".to_owned(), size: 1, root: Digest::of(b"other") };
    let signer = bartizan_ledger::NoteSigner::from_seed("log.example/acme/2026q4", &[5; 32]).unwrap();
    forged.tamper(&acme.join("checkpoint"), |bytes| *bytes = other.sign(&signer).into_bytes());
    assert_eq!(refused(open_at(&forged, &clock).await.unwrap_err()), "log.example/acme/2026q4");
}
