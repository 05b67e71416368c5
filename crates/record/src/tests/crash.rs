//! INV-ACK over crash states: a disk may lose any part of what was not synced, at any point; what was acknowledged is in
//! the ledger afterwards, numbers have no gap, and no log ever has two roots for one size.

use super::*;
use std::collections::{BTreeSet, HashMap, HashSet};

use crate::Ended;
use crate::core::Core;
use crate::queue::{About, Ack, Draft};
use crate::sim::Op;
use bartizan_base::Random as _;
use bartizan_base::random::SeededRandom;
use bartizan_model::record::{End, System};
use tokio::sync::oneshot;

/// Every size of every log that the lock store was told, with its one root.
fn roots(disks: &[&SimDisk], known: &HashMap<(String, u64), Digest>) -> HashMap<(String, u64), Digest> {
    let mut out = known.clone();
    for (log, (size, root)) in disks.iter().flat_map(|d| d.swaps()) {
        let before = *out.entry((log.clone(), size)).or_insert(root);
        assert_eq!(before, root, "INV-ACK: two roots for size {size} of {log}");
    }
    out
}

/// Opens a crashed disk, and holds what it finds against what was acknowledged.
async fn recovers(
    disk: &SimDisk,
    acked: &BTreeMap<u64, Digest>,
    known: &HashMap<(String, u64), Digest>,
    what: &str,
) {
    let once = match open_at(disk, &clock()).await {
        Ok(recorder) => recorder,
        Err(error) => panic!("{what}: a crash must not keep the recorder from starting: {error}"),
    };
    drop(intend(&once, parts(9_000)).await.unwrap());
    once.seal_now().await.unwrap();
    let known = roots(&[disk], known);
    check(disk, acked, what);
    once.close().await;
    // A second start finds nothing to mend.
    let again = disk.rebooted();
    let before = sealed(&again).len();
    let twice = open_at(&again, &clock()).await.unwrap();
    twice.close().await;
    roots(&[disk, &again], &known);
    check(&again, acked, what);
    let news: Vec<_> = sealed(&again).into_values().skip(before).collect();
    let unfinished = news.iter().filter(|r| matches!(&r.body, Body::System(System::TailCut { .. }))).count();
    assert_eq!(unfinished, 0, "{what}: nothing is torn after an orderly end");
    let outcomes = sealed(&again);
    let [intents, _, ends, _] = count(&outcomes);
    assert_eq!(intents, ends, "{what}: every intent has one outcome");
}

pub(super) fn check(disk: &SimDisk, acked: &BTreeMap<u64, Digest>, what: &str) {
    let mut leaves = BTreeMap::new();
    for folder in folders(disk) {
        for entry in entries(disk, &folder) {
            let record: Record = serde_json::from_slice(&entry).unwrap();
            assert!(leaves.insert(record.seq, leaf_hash(&entry)).is_none(), "{what}: one number twice");
        }
    }
    assert!(leaves.keys().copied().eq(1..=leaves.len() as u64), "{what}: a gap in {:?}", leaves.keys());
    for (seq, leaf) in acked {
        assert_eq!(leaves.get(seq), Some(leaf), "{what}: INV-ACK: record {seq} was acknowledged");
    }
}

fn folders(disk: &SimDisk) -> BTreeSet<PathBuf> {
    let checkpoints = disk.files().into_keys().filter(|p| p.ends_with("checkpoint"));
    checkpoints.map(|p| p.parent().unwrap().to_owned()).collect()
}

/// Crashes at every point of a disk's history and recovers from each different state that this can leave.
pub(super) async fn explore(disk: &SimDisk) -> usize {
    let ops = disk.ops();
    let (mut acked, mut seen) = (BTreeMap::new(), HashSet::new());
    for count in 0..=ops.len() {
        if let Some(Op::Acked { seq, leaf }) = count.checked_sub(1).map(|i| &ops[i]) {
            acked.insert(*seq, *leaf);
        }
        for (pattern, crashed) in disk.crashes(count).into_iter().enumerate() {
            let known = roots(&[&crashed], &HashMap::new());
            let state = Digest::of(format!("{:?}{:?}{acked:?}", crashed.files(), crashed.swaps()).as_bytes());
            if seen.insert(state) {
                recovers(&crashed, &acked, &known, &format!("after {count}, pattern {pattern}")).await;
            }
        }
    }
    seen.len()
}

/// Whether it is the name of a freed segment.
fn is_freed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "old")
}

/// How often a freed segment has become the next one.
pub(super) fn used_again(disk: &SimDisk) -> usize {
    let again = |op: &&Op| matches!(op, Op::Rename { from, to, .. } if is_freed(from) && !is_freed(to));
    disk.ops().iter().filter(again).count()
}

#[tokio::test]
async fn inv_ack_every_crash_of_segments_that_are_used_again_and_again_recovers() {
    for segment_bytes in [2_048, 4_096] {
        let (disk, clock) = (SimDisk::default(), clock());
        let config = Config { segment_bytes, ..config() };
        let (one, lock) = (Arc::new(disk.clone()), Arc::new(disk.clone()));
        let recorder = Recorder::open(config, clock.clone(), one, lock).await.unwrap();
        for n in 0..16 {
            // The clock goes back; numbers do not.
            clock.set_wall(Timestamp::from_secs(1_795_161_600 - n * 60));
            if n % 5 == 4 {
                write_batch(&recorder, &disk, 3).await;
            } else {
                let what = "x".repeat(usize::try_from(100 + n % 3 * 350).unwrap());
                let receipt = recorder.system(System::Recovered { what }).await.unwrap();
                disk.acked(receipt.seq, receipt.leaf);
            }
            if n % 2 == 1 {
                recorder.seal_now().await.unwrap();
            }
        }
        assert!(used_again(&disk) >= 3, "{}", used_again(&disk));
        // Whatever an earlier use has left is still there, behind what was written since.
        let files = disk.files();
        let last = files.iter().rfind(|(path, _)| path.extension().is_some_and(|e| e == "seg")).unwrap();
        let first = crate::segment::first_of(last.0.file_name().unwrap().to_str().unwrap()).unwrap();
        let stale = last.1.as_chunks::<512>().0.iter().filter(|sector| {
            matches!(crate::sector::read(sector), crate::sector::Sector::Written { stamp, .. } if stamp < first)
        });
        assert!(stale.count() > 0, "nothing is left of earlier uses of {}", last.0.display());
        let states = explore(&disk).await;
        assert!(states > 200, "{states} states");
    }
}

#[tokio::test]
async fn inv_ack_every_crash_of_a_working_day_recovers() {
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = open_at(&disk, &clock).await.unwrap();
    for n in 0..6 {
        let tenant = tenant(if n % 3 == 2 { "acme" } else { "default" });
        let intent = intend(&recorder, parts_of(tenant, n)).await.unwrap();
        disk.acked(intent.receipt().seq, intent.receipt().leaf);
        if n % 2 == 0 {
            intent.begin().finish(Ended::new(End::Done));
        } else {
            // Left open until the process dies: keeps its outcome owed over segments.
            std::mem::forget(intent);
        }
        if n == 2 {
            recorder.seal_now().await.unwrap();
        }
    }
    let receipt = recorder.refused(&refused(50)).await.unwrap();
    disk.acked(receipt.seq, receipt.leaf);
    recorder.seal_now().await.unwrap();
    let receipt = recorder.system(System::Initialised).await.unwrap();
    disk.acked(receipt.seq, receipt.leaf);
    // The seal freed segments: everything that is needed is still there.
    assert!(
        disk.ops().iter().any(|op| matches!(op, Op::Rename { to, .. } if is_freed(to))),
        "segments are freed"
    );
    let states = explore(&disk).await;
    assert!(states > 100, "{states} states");
}

#[tokio::test]
async fn inv_ack_every_crash_of_the_recovery_itself_recovers() {
    let first = SimDisk::default();
    let recorder = open(&first).await;
    let receipt = recorder.system(System::Initialised).await.unwrap();
    first.acked(receipt.seq, receipt.leaf);
    write_batch(&recorder, &first, 4).await;
    // A crash in the middle of the last batch: some of its sectors are there.
    let ops = first.ops();
    let last_sync = ops.iter().rposition(|op| matches!(op, Op::Sync { .. })).unwrap();
    let torn: Vec<SimDisk> = first.crashes(last_sync);
    assert!(torn.len() > 3);
    let mut states = 0;
    for disk in torn {
        let recorder = open(&disk).await;
        drop(intend(&recorder, parts(70)).await.unwrap());
        states += explore(&disk).await;
    }
    assert!(states > 100, "{states} states");
}

/// Writes several records that become one batch, and waits for all of them.
async fn write_batch(recorder: &Recorder, disk: &SimDisk, size: usize) {
    let core: &Arc<Core> = &recorder.inner.core;
    let (drafts, told): (Vec<Draft>, Vec<_>) = (0..size)
        .map(|n| {
            let (reply, told) = oneshot::channel();
            let event = System::Recovered { what: "x".repeat(200 * n) };
            let tenant = Tenant::default_tenant();
            let draft = core.draft(&tenant, core.clock.now(), &Body::System(event), Ack::One(reply)).unwrap();
            assert_eq!(draft.about, About::System);
            (draft, told)
        })
        .unzip();
    core.queue.push_together(drafts);
    for told in told {
        let receipt = told.await.unwrap().unwrap();
        disk.acked(receipt.seq, receipt.leaf);
    }
}

#[tokio::test]
async fn inv_ack_every_crash_inside_of_batches_recovers() {
    let disk = SimDisk::default();
    let recorder = open(&disk).await;
    for size in [3, 1, 6] {
        write_batch(&recorder, &disk, size).await;
    }
    let states = explore(&disk).await;
    assert!(states > 40, "{states} states");
}

#[tokio::test]
async fn inv_ack_a_segment_that_was_prepared_ahead_recovers_from_every_crash() {
    let disk = SimDisk::default();
    let config = Config { segment_bytes: 1 << 20, ..config() };
    let recorder =
        Recorder::open(config, clock(), Arc::new(disk.clone()), Arc::new(disk.clone())).await.unwrap();
    for n in 0..80 {
        let receipt = recorder.system(System::Recovered { what: "x".repeat(16_000) }).await.unwrap();
        disk.acked(receipt.seq, receipt.leaf);
        if n == 70 {
            recorder.seal_now().await.unwrap();
        }
    }
    let ops = disk.ops();
    let is_spare = |op: &Op| matches!(op, Op::Rename { from, .. } if from.ends_with("spare.new"));
    let used = ops.iter().position(is_spare).expect("the second segment was prepared");
    let mut acked = BTreeMap::new();
    for count in 0..=ops.len() {
        if let Some(Op::Acked { seq, leaf }) = count.checked_sub(1).map(|i| &ops[i]) {
            acked.insert(*seq, *leaf);
        }
        if (used - 3..used + 4).contains(&count) || count == ops.len() {
            for crashed in disk.crashes(count).into_iter().step_by(7) {
                recovers(&crashed, &acked, &HashMap::new(), &format!("after {count}")).await;
            }
        }
    }
}

#[tokio::test]
async fn inv_ack_random_days_recover_from_random_crashes() {
    let mut again = 0;
    for seed in 0..6 {
        again += random_day(seed).await;
    }
    assert!(again > 0, "no segment was used again");
}

#[tokio::test]
#[ignore = "a thousand seeds; `cargo xtask faults`"]
async fn inv_ack_a_thousand_random_days_recover_from_random_crashes() {
    for seed in 1_000..2_000 {
        random_day(seed).await;
    }
}

/// A day of random work, crashed at random points, each recovered from.
///
/// Gives how often a segment was used again.
async fn random_day(seed: u64) -> usize {
    let random = SeededRandom::new(seed);
    let byte = move || {
        let mut out = [0];
        random.fill(&mut out);
        out[0]
    };
    let (disk, clock) = (SimDisk::default(), clock());
    let recorder = open_at(&disk, &clock).await.unwrap();
    let mut running = Vec::new();
    for n in 0..24 {
        match byte() % 8 {
            0..=3 => {
                let tenant = tenant(["default", "acme", "../acme"][usize::from(byte() % 3)]);
                let intent = intend(&recorder, parts_of(tenant, n)).await.unwrap();
                disk.acked(intent.receipt().seq, intent.receipt().leaf);
                running.push(intent.begin());
            }
            4 => drop(running.pop()),
            5 => recorder.seal_now().await.unwrap(),
            6 => {
                // Into another quarter and back: a clock that jumps sorts records into other logs.
                let other = Timestamp::from_secs(1_795_161_600 - u64::from(byte() % 2) * 60 * 86_400);
                clock.set_wall(other);
            }
            _ => write_batch(&recorder, &disk, usize::from(byte() % 4)).await,
        }
    }
    running.into_iter().for_each(std::mem::forget);
    let ops = disk.ops();
    let mut acked = BTreeMap::new();
    for count in 0..=ops.len() {
        if let Some(Op::Acked { seq, leaf }) = count.checked_sub(1).map(|i| &ops[i]) {
            acked.insert(*seq, *leaf);
        }
        if byte() % 4 == 0 {
            let crashes = disk.crashes(count);
            let crashed = &crashes[usize::from(byte()) % crashes.len()];
            let known = roots(&[crashed], &HashMap::new());
            recovers(crashed, &acked, &known, &format!("seed {seed} after {count}")).await;
        }
    }
    used_again(&disk)
}
