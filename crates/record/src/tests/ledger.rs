//! Reading what is recorded, and proving it.

use super::*;
use crate::{Disk as _, Ended, Place, ReadError, RealDisk};
use bartizan_ledger::{Receipt, VerifierKey};
use bartizan_model::record::{End, System};

async fn days_work(recorder: &Recorder, tenant: &Tenant, from: u64, to: u64) {
    let asks = (from..to).map(|n| async move {
        let intent = intend(recorder, parts_of(tenant.clone(), n)).await.unwrap();
        intent.begin().finish(Ended::new(End::Done));
    });
    futures_util::future::join_all(asks).await;
}

#[tokio::test]
async fn a_decision_is_found_fresh_sealed_and_after_a_restart() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    let house = Tenant::default_tenant();
    let running = intend(&recorder, parts(1)).await.unwrap().begin();
    recorder.refused(&refused(2)).await.unwrap();
    let read = reader(&recorder, house.clone(), 900).await;
    let fresh = recorder.find(&read, id(1)).await.unwrap().unwrap();
    assert!(matches!(&fresh.record.body, Body::Intent(i) if i.id == id(1)));
    assert_eq!((fresh.outcome, fresh.sealed), (None, None));
    running.finish(Ended::new(End::Done));
    recorder.system(System::Initialised).await.unwrap();
    recorder.seal_now().await.unwrap();
    let place = Some(Place { origin: "log.example/default/2026q4".into(), index: 1 });
    let sealed = recorder.find(&read, id(1)).await.unwrap().unwrap();
    assert_eq!((&sealed.sealed, sealed.outcome.is_some()), (&place, true));
    assert_eq!(recorder.find(&read, id(3)).await.unwrap(), None);
    drop(read);
    recorder.close().await;

    let again = open(&disk.rebooted()).await;
    let read = reader(&again, house, 901).await;
    let old = again.find(&read, id(1)).await.unwrap().unwrap();
    assert_eq!((&old, &old.sealed), (&sealed, &place));
    assert!(again.find(&read, id(2)).await.unwrap().unwrap().outcome.is_none());
    assert_eq!(again.find(&read, id(3)).await.unwrap(), None);
}

#[tokio::test]
async fn decisions_are_found_in_a_long_log_also_when_the_clock_went_back() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = open_at(&disk, &clock).await.unwrap();
    let house = Tenant::default_tenant();
    for round in 0..6 {
        clock.set_wall(start().saturating_add(Duration::from_secs(60 * round)));
        days_work(&recorder, &house, round * 100, round * 100 + 100).await;
    }
    // Recorded an hour before its own id was made.
    clock.set_wall(Timestamp::from_secs(start().as_secs() - 3_600));
    drop(intend(&recorder, parts(5_000)).await.unwrap());
    recorder.close().await;
    clock.set_wall(start());
    let again = open_at(&disk.rebooted(), &clock).await.unwrap();
    let read = reader(&again, house, 9_999).await;
    for n in [0, 1, 99, 100, 250, 599, 5_000] {
        let found = again.find(&read, id(n)).await.unwrap().unwrap_or_else(|| panic!("{n}"));
        assert!(matches!(&found.record.body, Body::Intent(i) if i.id == id(n)));
        assert!(matches!(&found.outcome.unwrap().body, Body::Outcome(o) if o.of == id(n)));
    }
    assert_eq!(again.find(&read, id(700)).await.unwrap(), None);
}

#[tokio::test]
async fn the_latest_decisions_come_newest_first_from_memory_and_log() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = open_at(&disk, &clock).await.unwrap();
    let house = Tenant::default_tenant();
    for n in 0..300 {
        drop(intend(&recorder, parts(n)).await.unwrap());
    }
    recorder.close().await;
    let again = open_at(&disk.rebooted(), &clock).await.unwrap();
    drop(intend(&again, parts(300)).await.unwrap());
    let read = reader(&again, house, 301).await;
    let ids = |records: Vec<Record>| -> Vec<DecisionId> {
        let of = |r: &Record| match &r.body {
            Body::Intent(i) => i.id,
            other => panic!("{other:?}"),
        };
        records.iter().map(of).collect()
    };
    for sealing in [false, true] {
        if sealing {
            again.seal_now().await.unwrap();
        }
        for limit in [0, 1, 2, 3, 280, 1_000] {
            let expected: Vec<_> = (0..=301).rev().map(id).take(limit).collect();
            assert_eq!(ids(again.latest(&read, limit).await.unwrap()), expected, "{limit} {sealing}");
        }
    }
}

#[tokio::test]
async fn every_proof_verifies_and_proves_its_entry_only() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    let house = Tenant::default_tenant();
    days_work(&recorder, &house, 0, 200).await;
    recorder.system(System::Initialised).await.unwrap();
    recorder.seal_now().await.unwrap();
    let read = reader(&recorder, house, 900).await;
    let head = recorder.heads(&read).unwrap().remove(0);
    let key: VerifierKey = head.verifier.parse().unwrap();
    assert!(head.size > 256);
    let all = entries(&disk, &default_log());
    assert_eq!(recorder.entries(&read, &head.origin, 0, usize::MAX).await.unwrap(), all);
    assert_eq!(recorder.entries(&read, &head.origin, 250, 10).await.unwrap(), all[250..260]);
    for index in 0..head.size {
        let place = Place { origin: head.origin.clone(), index };
        let proof = recorder.proof_at(&read, &place).await.unwrap().unwrap();
        assert_eq!(proof.entry, all[usize::try_from(index).unwrap()]);
        let receipt = Receipt::parse(&proof.text).unwrap();
        assert_eq!(receipt.verify(leaf_hash(&proof.entry), &key).unwrap().size, head.size);
        assert!(receipt.verify(leaf_hash(b"forged"), &key).is_err());
    }
    let beyond = Place { origin: head.origin.clone(), index: head.size };
    assert_eq!(recorder.proof_at(&read, &beyond).await.unwrap(), None);
    let found = recorder.proof(&read, id(77)).await.unwrap().unwrap();
    assert!(String::from_utf8(found.entry).unwrap().contains(&id(77).to_string()));
    assert_eq!(recorder.proof(&read, id(900)).await.unwrap(), None, "not sealed yet");
}

#[tokio::test]
async fn inv_tenant_logs_are_apart_and_a_reader_sees_its_own_only() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    let (acme, evil) = (tenant("acme"), tenant("../default"));
    days_work(&recorder, &acme, 0, 5).await;
    days_work(&recorder, &evil, 10, 13).await;
    drop(intend(&recorder, parts(20)).await.unwrap());
    recorder.system(System::Initialised).await.unwrap();
    recorder.seal_now().await.unwrap();
    for (folder, name) in [("default", "default"), ("acme", "acme"), ("%2E.%2Fdefault", "../default")] {
        let entries = entries(&disk, &PathBuf::from(format!("/data/log/{folder}/2026q4")));
        assert!(!entries.is_empty());
        for entry in entries {
            assert_eq!(serde_json::from_slice::<Record>(&entry).unwrap().tenant.0.as_str(), name);
        }
    }
    let read = reader(&recorder, acme.clone(), 900).await;
    assert_eq!(recorder.find(&read, id(10)).await.unwrap(), None);
    assert_eq!(recorder.find(&read, id(20)).await.unwrap(), None);
    assert!(recorder.latest(&read, 100).await.unwrap().iter().all(|r| r.tenant == acme));
    let heads = recorder.heads(&read).unwrap();
    assert_eq!(heads.iter().map(|h| &*h.origin).collect::<Vec<_>>(), ["log.example/acme/2026q4"]);
    let foreign = Place { origin: "log.example/default/2026q4".into(), index: 0 };
    assert_eq!(recorder.proof_at(&read, &foreign).await.unwrap(), None);
    assert!(recorder.entries(&read, &foreign.origin, 0, 10).await.unwrap().is_empty());
    assert_eq!(recorder.sealed_sizes()[&acme], 10);
}

#[tokio::test]
async fn a_leave_to_read_that_ran_out_reads_nothing() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = open_at(&disk, &clock).await.unwrap();
    let soon = start().saturating_add(Duration::from_secs(30));
    let parts = PermitParts { expires: soon, ..parts(1) };
    let read = recorder.intend_parts::<ReadLedger>(parts, Target::House).await.unwrap();
    recorder.latest(&read, 1).await.unwrap();
    clock.advance(Duration::from_secs(30));
    assert!(matches!(recorder.latest(&read, 1).await, Err(ReadError::PermitExpired)));
    assert!(matches!(recorder.find(&read, id(1)).await, Err(ReadError::PermitExpired)));
    assert!(matches!(recorder.heads(&read), Err(ReadError::PermitExpired)));
}

#[tokio::test]
async fn a_changed_entry_is_not_given_out() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    days_work(&recorder, &Tenant::default_tenant(), 0, 150).await;
    recorder.system(System::Initialised).await.unwrap();
    recorder.seal_now().await.unwrap();
    let read = reader(&recorder, Tenant::default_tenant(), 900).await;
    let origin = "log.example/default/2026q4";
    recorder.entries(&read, origin, 0, 1).await.unwrap();
    disk.tamper(&default_log().join("tile/entries/000"), |bytes| bytes[500] ^= 1);
    assert!(matches!(recorder.entries(&read, origin, 0, 1).await, Err(ReadError::Damaged(_))));
    assert!(recorder.entries(&read, origin, 256, 1).await.is_ok());
}

#[tokio::test]
async fn the_offline_verifier_accepts_every_state_of_a_growing_log() {
    let folder = tempfile::tempdir().unwrap();
    let lock = Arc::new(SimDisk::default());
    let config = || Config { folder: folder.path().join("data"), segment_bytes: 1 << 16, ..config() };
    let log = folder.path().join("data/log/default/2026q4");
    let key: VerifierKey = verifier("log.example/default/2026q4").parse().unwrap();
    let key_file = || String::from_utf8(RealDisk.read(&log.join("key.vkey")).unwrap()).unwrap();
    let mut old: Option<Vec<u8>> = None;
    let mut ids = 0;
    for add in [1, 100, 27, 1, 200] {
        let recorder = Recorder::open(config(), clock(), Arc::new(RealDisk), lock.clone()).await.unwrap();
        days_work(&recorder, &Tenant::default_tenant(), ids, ids + add).await;
        ids += add;
        recorder.system(System::Initialised).await.unwrap();
        recorder.seal_now().await.unwrap();
        let report = bartizan_verify::verify_directory(&log, &key, old.as_deref());
        assert!(report.ok, "{report:?}");
        assert!(report.size >= 2 * ids);
        assert_eq!(key_file().trim_end(), key.to_string());
        // A monitor finds every number and every outcome, across restarts of the writer.
        let watch = bartizan_verify::Watch {
            key: &key,
            state: &folder.path().join("state"),
            policy: None,
            shared_nodes: false,
            now: start().saturating_add(Duration::from_secs(365 * 86_400)),
        };
        let report = bartizan_verify::monitor(&log, &watch);
        assert!(report.ok && !report.to_string().contains("no outcome"), "{report}");
        old = Some(RealDisk.read(&log.join("checkpoint")).unwrap());
        recorder.close().await;
    }
    assert!(!log.join("tile/0/000.p").exists() && !log.join("tile/entries/000.p").exists());
    let mut segments = RealDisk.list(&folder.path().join("data/wal")).unwrap();
    segments.retain(|name| name.ends_with(".seg"));
    assert_eq!(segments.len(), 1, "sealed segments are gone");
}

#[tokio::test]
async fn a_seal_ends_although_records_keep_coming() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    let writing = async {
        loop {
            recorder.system(System::Initialised).await.unwrap();
        }
    };
    let sealing = async {
        for seal in 1..=20 {
            // Something to seal, and more of it meanwhile.
            recorder.system(System::Initialised).await.unwrap();
            recorder.seal_now().await.unwrap();
            assert_eq!(disk.swaps().len(), seal, "one step a seal");
        }
    };
    tokio::select! {
        () = sealing => {}
        () = writing => {}
    }
    recorder.close().await;
}
