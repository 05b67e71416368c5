//! Every system call of one working day fails once, or is where the process is killed (after Tessera's tests): what was
//! acknowledged is in the ledger, or the recorder says before it starts again why it cannot be.

use super::*;
use crate::log::TreeHead;
use crate::{Ended, RealDisk};
use bartizan_model::record::{End, System};
use bartizan_store::{Checkpoints, StoreError};
use futures_util::future::BoxFuture;
use std::fs;
use std::io::Write as _;
use std::process::Command;

const FOLDER: &str = "BARTIZAN_RECORD_FAULT_TEST_FOLDER";

/// A lock store in one file a log, durable as the state database is.
#[derive(Debug)]
struct FileLock(PathBuf);

impl FileLock {
    fn path(&self, log: &str) -> PathBuf {
        self.0.join(log.replace('/', "_"))
    }

    fn read(&self, log: &str) -> Option<TreeHead> {
        let text = fs::read_to_string(self.path(log)).ok()?;
        let (size, root) = text.trim().split_once(' ')?;
        Some((size.parse().ok()?, root.parse().ok()?))
    }
}

impl Checkpoints for FileLock {
    fn latest(&self, log: &str) -> BoxFuture<'_, Result<Option<TreeHead>, StoreError>> {
        let found = self.read(log);
        Box::pin(async move { Ok(found) })
    }

    fn swap(
        &self,
        log: &str,
        old: Option<TreeHead>,
        new: TreeHead,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let done = if self.read(log) == old {
            let text = format!("{} {}\n", new.0, new.1).into_bytes();
            crate::disk::write_whole(&RealDisk, &self.0, &[(self.path(log), text)])
                .and_then(|()| crate::Disk::sync_dir(&RealDisk, &self.0))
                .map(|()| true)
                .map_err(|error| StoreError::Unavailable(error.into()))
        } else {
            Ok(false)
        };
        Box::pin(async move { done })
    }
}

async fn open_in(folder: &Path) -> Result<Recorder, OpenError> {
    let lock = folder.join("lock-store");
    fs::create_dir_all(&lock).unwrap();
    let config = Config { folder: folder.join("data"), segment_bytes: 1 << 12, ..config() };
    Recorder::open(config, clock(), Arc::new(RealDisk), Arc::new(FileLock(lock))).await
}

#[tokio::test]
#[ignore = "the child of the tests below: one day with two seals"]
async fn child_works_one_day() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let Ok(recorder) = open_in(Path::new(&folder)).await else { return };
    for n in 0..6 {
        if let Ok(intent) = intend(&recorder, parts(n)).await {
            let line = format!("acked {} {}\n", intent.receipt().seq, intent.receipt().leaf);
            drop(std::io::stdout().write_all(line.as_bytes()));
            intent.begin().finish(Ended::new(End::Done));
        }
        if n % 3 == 2 {
            drop(recorder.seal_now().await);
            drop(recorder.tell_operator().await);
        }
    }
    recorder.close().await;
}

/// Runs the child under `strace` with `inject`, and gives what it acknowledged.
fn run(folder: &Path, trace: Option<&Path>, inject: Option<&str>) -> BTreeMap<u64, Digest> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qqq"]);
    match (trace, inject) {
        (Some(file), _) => command.arg("-o").arg(file),
        (None, Some(inject)) => command.args(["-o", "/dev/null", "-e", inject]),
        (None, None) => panic!("nothing to do"),
    };
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "tests::syscalls::child_works_one_day", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("this test needs the program `strace`, of the package of that name");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let acked = text.lines().filter_map(|line| line.split_once("acked ")?.1.split_once(' '));
    acked.filter_map(|(seq, leaf)| Some((seq.parse().ok()?, leaf.parse().ok()?))).collect()
}

/// Opens what is left, on a machine that works, and holds it against what was acknowledged.
async fn holds(folder: &Path, acked: &BTreeMap<u64, Digest>, what: &str) {
    let recorder = match open_in(folder).await {
        Ok(recorder) => recorder,
        Err(error) => {
            panic!("{what}: a fault that is over must not keep the recorder from starting: {error}")
        }
    };
    recorder.system(System::Initialised).await.unwrap();
    recorder.seal_now().await.unwrap();
    let read = reader(&recorder, Tenant::default_tenant(), 999).await;
    let head = recorder.heads(&read).unwrap().remove(0);
    let size = usize::try_from(head.size).unwrap();
    let entries = recorder.entries(&read, &head.origin, 0, size).await.unwrap();
    let mut seen = BTreeMap::new();
    for entry in &entries {
        let record: Record = serde_json::from_slice(entry).unwrap();
        assert!(seen.insert(record.seq, leaf_hash(entry)).is_none(), "{what}: one number twice");
    }
    for (seq, leaf) in acked {
        assert_eq!(seen.get(seq), Some(leaf), "{what}: INV-ACK: record {seq} was acknowledged");
    }
    drop(read);
    recorder.close().await;
    let log = folder.join("data/log/default/2026q4");
    let key: bartizan_ledger::VerifierKey =
        fs::read_to_string(log.join("key.vkey")).unwrap().trim().parse().unwrap();
    let report = bartizan_verify::verify_directory(&log, &key, None);
    assert!(report.ok, "{what}: {report}");
}

/// How often a day makes each call.
fn calls() -> BTreeMap<String, usize> {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let acked = run(folder.path(), Some(&trace), None);
    assert_eq!(acked.len(), 6, "without a fault everything is acknowledged");
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(&trace).unwrap().lines() {
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
        if let Some((name, _)) = call.split_once('(') {
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

/// What is done to which calls.
const FAULTS: &[(&str, &str)] = &[
    ("pwrite64", "error=EIO"),
    ("pwrite64", "error=ENOSPC"),
    ("pwrite64", "signal=KILL"),
    ("fdatasync", "error=EIO"),
    ("fdatasync", "signal=KILL"),
    ("fsync", "error=EIO"),
    ("fsync", "signal=KILL"),
    ("rename", "error=EIO"),
    ("rename", "signal=KILL"),
    ("openat", "error=EIO"),
    ("openat", "error=EMFILE"),
    ("mkdir", "error=ENOSPC"),
    ("unlink", "error=EIO"),
];

async fn every_call_fails_once(step: usize) -> usize {
    let counts = calls();
    let mut runs = 0;
    for (call, fault) in FAULTS {
        for when in (1..=counts.get(*call).copied().unwrap_or(0)).step_by(step) {
            let folder = tempfile::tempdir().unwrap();
            let inject = format!("inject={call}:{fault}:when={when}");
            let acked = run(folder.path(), None, Some(&inject));
            holds(folder.path(), &acked, &inject).await;
            runs += 1;
        }
    }
    runs
}

#[tokio::test]
async fn inv_ack_some_system_calls_of_a_day_fail_once_and_nothing_acknowledged_is_lost() {
    let runs = every_call_fails_once(17).await;
    assert!(runs >= 15, "{runs}");
}

#[tokio::test]
#[ignore = "minutes; `cargo xtask faults`"]
async fn inv_ack_every_system_call_of_a_day_fails_once_and_nothing_acknowledged_is_lost() {
    let runs = every_call_fails_once(1).await;
    assert!(runs >= 300, "{runs}");
}
