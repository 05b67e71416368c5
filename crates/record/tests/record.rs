//! Durability as an enemy would try it: failing disks, torn tails, restarts, floods.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bartizan_base::random::SeededRandom;
use bartizan_base::time::ManualClock;
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_decide::{Bundle, CompiledBundle, Door, Entities, Permit, Refused, Snapshot, Verdict};
use bartizan_identify::{Caller, Directory, Identified, Identifier, KeyEntry, Presented};
use bartizan_ledger::VerifierKey;
use bartizan_model::action::ReadLedger;
use bartizan_model::directory::{PrincipalSpec, Spec};
use bartizan_model::record::{Body, End, System, VerdictKind};
use bartizan_model::{
    Action, Ask, AskFacts, DecisionId, Document, EntityRef, KeyId, Label, NodeId, Principal, PrincipalId,
    PrincipalKind, ReasonCode, Situation, Target, Tenant,
};
use bartizan_record::{Config, Disk, Ended, RealDisk, RecordError, Recorder, SegmentFile};
use bartizan_secret::{ApiKey, Secret};
use bartizan_store::{Checkpoints, MemoryStore};

const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

fn config(folder: &Path) -> Config {
    Config {
        folder: folder.to_owned(),
        node: NodeId::from_parts(NOW, [1; 10]),
        segment_bytes: 16 * 1024,
        queue_max: 1_000,
        origin: "example.org/log".to_owned(),
        seed: Secret::new([7; 32]),
        version: "test".to_owned(),
    }
}

async fn open(folder: &Path, checkpoints: &Arc<MemoryStore>, disk: Arc<dyn Disk>) -> Recorder {
    let clock = Arc::new(ManualClock::at(NOW));
    Recorder::open(config(folder), clock, disk, checkpoints.clone() as Arc<dyn Checkpoints>).await.unwrap()
}

fn alice() -> Caller {
    let key = ApiKey::generate(&SeededRandom::new(1));
    let id = PrincipalId::from_parts(NOW, [1; 10]);
    let name = Name::literal("alice");
    let entry = KeyEntry {
        id: KeyId::from_parts(NOW, [1; 10]),
        tenant: Tenant::default_tenant(),
        digest: key.digest(),
        principal: Principal { kind: PrincipalKind::User, name: name.clone(), id },
        scopes: None,
        created: NOW,
        expires: NOW.saturating_add(Duration::from_secs(3_600)),
        revoked: None,
    };
    let document = Document { name, principal: Some(id), spec: Spec::User(PrincipalSpec::default()) };
    let directory = Directory::build(
        1,
        [(Tenant::default_tenant(), document)].into_iter(),
        [entry].into_iter(),
        std::iter::empty(),
    );
    let header = format!("Bearer {}", key.text().expose());
    let presented = Presented::from_headers([header.as_bytes()].into_iter(), std::iter::empty()).unwrap();
    match Identifier::new().identify(&directory, &presented, NOW) {
        Identified::Caller(caller) => *caller,
        other => panic!("{other:?}"),
    }
}

fn permit(n: u8) -> Permit<ReadLedger> {
    let text = r#"@id("all") permit (principal, action, resource);"#;
    let bundle = Bundle { files: [("p.cedar".to_owned(), text.to_owned())].into() };
    let document = Document {
        name: Name::literal("alice"),
        principal: Some(PrincipalId::from_parts(NOW, [1; 10])),
        spec: Spec::User(PrincipalSpec::default()),
    };
    let snapshot = Snapshot::new(
        Some(Arc::new(CompiledBundle::compile(&bundle).unwrap())),
        Arc::new(Entities::build(&[document]).unwrap()),
    );
    let ask = Ask::new(
        DecisionId::from_parts(NOW, [n; 10]),
        Action::LedgerRead,
        EntityRef::system(),
        AskFacts::default(),
        Digest::of(b""),
    );
    let situation = Situation { now: NOW, network: None, purpose: None, session: Label::bottom() };
    match snapshot.decide(&alice(), ask, &situation, &Door::none()).verdict {
        Verdict::Permit(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn refusal(tenant: &str) -> Refused {
    let caller = Caller::anonymous(Tenant(tenant.parse().unwrap()));
    Refused {
        id: DecisionId::from_parts(NOW, [9; 10]),
        tenant: caller.tenant().clone(),
        who: caller.who(),
        what: None,
        verdict: VerdictKind::Deny,
        reasons: vec![ReasonCode::CredentialMissing],
        offers: Vec::new(),
        grounds: None,
        discoverable: true,
    }
}

fn verify(folder: &Path, tenant: &str) -> bartizan_verify::Report {
    let period = std::fs::read_dir(folder.join("log").join(tenant)).unwrap().next().unwrap().unwrap().path();
    let key: VerifierKey = std::fs::read_to_string(period.join("key.vkey")).unwrap().trim().parse().unwrap();
    bartizan_verify::verify_directory(&period, &key, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_ack_what_was_acknowledged_is_in_the_ledger_after_a_process_that_just_ended() {
    let (folder, checkpoints) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let mut acknowledged = 0;
    for round in 1..=3 {
        // Dropped without an end, as a killed process would be: nothing was sealed, nothing said goodbye.
        let recorder = open(folder.path(), &checkpoints, Arc::new(RealDisk)).await;
        for n in 0..50 {
            recorder.intend(permit(n), Target::House).await.unwrap().begin().finish(Ended::default());
            acknowledged += 1;
        }
        if round == 2 {
            recorder.seal_now().await.unwrap();
        }
    }
    let recorder = open(folder.path(), &checkpoints, Arc::new(RealDisk)).await;
    recorder.close().await;
    let report = verify(folder.path(), "default");
    assert!(report.ok && report.size >= acknowledged, "{report:?}");
    // The node's numbers follow each other without a gap.
    let entries = entries(folder.path());
    let numbers: Vec<u64> = entries.iter().map(|r| r.seq).collect();
    assert_eq!(numbers, (1..=entries.len() as u64).collect::<Vec<_>>());
}

fn entries(folder: &Path) -> Vec<bartizan_model::record::Record> {
    let period = std::fs::read_dir(folder.join("log/default")).unwrap().next().unwrap().unwrap().path();
    let size = verify(folder, "default").size;
    let mut out = Vec::new();
    for tile in bartizan_ledger::tiles_for(size).into_iter().filter(|t| t.level.is_none()) {
        let bytes = std::fs::read(period.join(tile.path())).unwrap();
        out.extend(
            bartizan_ledger::bundle_entries(&bytes)
                .unwrap()
                .iter()
                .map(|e| serde_json::from_slice(e).unwrap()),
        );
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_without_an_outcome_is_told_at_the_next_start_and_a_dropped_one_as_abandoned() {
    let (folder, checkpoints) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let recorder = open(folder.path(), &checkpoints, Arc::new(RealDisk)).await;
    drop(recorder.intend(permit(1), Target::House).await.unwrap().begin());
    // A crash swallows what was about to be told: the effect is forgotten, not dropped.
    std::mem::forget(recorder.intend(permit(2), Target::House).await.unwrap().begin());
    recorder.seal_now().await.unwrap();
    drop(recorder);
    let recorder = open(folder.path(), &checkpoints, Arc::new(RealDisk)).await;
    recorder.close().await;
    let ends: Vec<(DecisionId, End)> = entries(folder.path())
        .into_iter()
        .filter_map(|r| match r.body {
            Body::Outcome(outcome) => Some((outcome.of, outcome.end)),
            _ => None,
        })
        .collect();
    let of = |n| DecisionId::from_parts(NOW, [n; 10]);
    assert_eq!(ends, [(of(1), End::Abandoned), (of(2), End::Unknown)]);
}

/// A disk whose `fails`-th call of a kind fails.
#[derive(Debug)]
struct Failing {
    sync_at: u32,
    create_at: u32,
    syncs: Arc<AtomicU32>,
    creates: AtomicU32,
}

#[derive(Debug)]
struct FailingFile(Box<dyn SegmentFile>, u32, Arc<AtomicU32>);

impl Disk for Failing {
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn SegmentFile>> {
        if self.creates.fetch_add(1, Ordering::SeqCst) + 1 == self.create_at {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(Box::new(FailingFile(RealDisk.create(path, bytes)?, self.sync_at, self.syncs.clone())))
    }
}

impl SegmentFile for FailingFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.2.fetch_add(1, Ordering::SeqCst) + 1 >= self.1 {
            return Err(io::Error::other("injected"));
        }
        self.0.sync()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_deny_a_failed_sync_ends_recording_for_good() {
    let (folder, checkpoints) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let disk = Failing { sync_at: 3, create_at: 0, syncs: Arc::default(), creates: AtomicU32::new(0) };
    let recorder = open(folder.path(), &checkpoints, Arc::new(disk)).await;
    assert!(recorder.intend(permit(1), Target::House).await.is_ok_and(|i| {
        std::mem::forget(i);
        true
    }));
    for n in 2..5 {
        let error = recorder.intend(permit(n), Target::House).await.unwrap_err();
        assert!(matches!(error, RecordError::Failed(_)), "{error}");
        assert_eq!(error.reason(), ReasonCode::RecordUnavailable);
    }
    assert!(recorder.stats().failed.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_deny_a_full_disk_refuses_and_recovers_by_itself() {
    let (folder, checkpoints) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let disk = Failing { sync_at: u32::MAX, create_at: 2, syncs: Arc::default(), creates: AtomicU32::new(0) };
    let recorder = open(folder.path(), &checkpoints, Arc::new(disk)).await;
    let mut refused = 0;
    for n in 0..100 {
        match recorder.intend(permit(n), Target::House).await {
            Ok(intent) => intent.begin().finish(Ended::default()),
            Err(error) => {
                assert!(matches!(error, RecordError::NoRoom(_)), "{error}");
                refused += 1;
            }
        }
    }
    assert!((1..=2).contains(&refused), "{refused}");
    recorder.close().await;
    assert!(verify(folder.path(), "default").ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_and_told_and_damage_in_the_middle_is_refused() {
    let (folder, checkpoints) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let recorder = open(folder.path(), &checkpoints, Arc::new(RealDisk)).await;
    for n in 0..3 {
        std::mem::forget(recorder.intend(permit(n), Target::House).await.unwrap());
    }
    drop(recorder);
    let segment = std::fs::read_dir(folder.path().join("wal")).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&segment).unwrap();
    let end = good.iter().rposition(|b| *b != 0).unwrap();
    let mut damaged = good.clone();
    *damaged.get_mut(200).unwrap() ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let refused = Recorder::open(
        config(folder.path()),
        clock,
        Arc::new(RealDisk),
        checkpoints.clone() as Arc<dyn Checkpoints>,
    )
    .await;
    assert!(refused.is_err_and(|e| e.to_string().contains("damaged")));
    let mut torn = good;
    torn.get_mut(end - 20..).unwrap().fill(0);
    std::fs::write(&segment, &torn).unwrap();
    let recorder = open(folder.path(), &checkpoints, Arc::new(RealDisk)).await;
    recorder.close().await;
    let told = entries(folder.path()).iter().any(|r| matches!(r.body, Body::System(System::TailCut { .. })));
    assert!(told && verify(folder.path(), "default").ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_end_is_refused_at_the_start() {
    let (folder, checkpoints) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let recorder = open(folder.path(), &checkpoints, Arc::new(RealDisk)).await;
    recorder.close().await;
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), copy.path());
    let recorder = open(folder.path(), &checkpoints, Arc::new(RealDisk)).await;
    recorder.close().await;
    // The older copy is put back, as a restored snapshot would be; the lock store remembers more.
    let clock = Arc::new(ManualClock::at(NOW));
    let refused =
        Recorder::open(config(copy.path()), clock, Arc::new(RealDisk), checkpoints as Arc<dyn Checkpoints>)
            .await;
    assert!(refused.is_err_and(|e| e.to_string().contains("rolled back")));
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target)
        } else {
            std::fs::copy(&path, &target).map(drop).unwrap()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_equal_refusals_is_counted_and_inv_tenant_each_tenant_has_its_own_log() {
    let (folder, checkpoints) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::default()));
    let recorder = open(folder.path(), &checkpoints, Arc::new(RealDisk)).await;
    let mut receipts = 0;
    for _ in 0..100 {
        receipts += u64::from(recorder.refused(&refusal("default")).await.unwrap().is_some());
    }
    recorder.refused(&refusal("other")).await.unwrap();
    recorder.close().await;
    assert_eq!(receipts, 20);
    let written: Vec<u64> = entries(folder.path())
        .into_iter()
        .filter_map(|r| {
            assert_eq!(r.tenant, Tenant::default_tenant());
            match r.body {
                Body::Refusal(refusal) => Some(refusal.repeated),
                _ => None,
            }
        })
        .collect();
    assert_eq!((written.len(), written.iter().sum::<u64>()), (21, 80));
    assert_eq!(verify(folder.path(), "other").size, 1);
}
