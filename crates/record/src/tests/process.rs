//! A process that is killed while it writes. The page cache survives, so this shows the wiring, not the disk.

use super::*;
use crate::{Ended, RealDisk};
use bartizan_base::Random as _;
use bartizan_model::record::{End, System};
use bartizan_rt::{SystemClock, SystemRandom};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

/// Where the child writes: set for the child only.
const FOLDER: &str = "BARTIZAN_RECORD_KILL_TEST_FOLDER";

fn real_config(folder: &Path) -> Config {
    Config { folder: folder.to_owned(), segment_bytes: 1 << 16, ..config() }
}

/// The lock store of the killed process would be the state database; here a log that has never been locked is enough, so
/// the child does not seal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the test below: writes until it is killed"]
async fn child_writes_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let _lock = crate::DataFolder::lock(&folder).unwrap();
    let lock = Arc::new(SimDisk::default());
    let recorder =
        Recorder::open(real_config(&folder), Arc::new(SystemClock::new()), Arc::new(RealDisk), lock)
            .await
            .unwrap();
    let writers = (0..8).map(|_| {
        let recorder = recorder.clone();
        async move {
            let random = SystemRandom::new();
            loop {
                let mut bytes = [0; 10];
                random.fill(&mut bytes);
                let parts = PermitParts { id: DecisionId::from_parts(start(), bytes), ..parts(0) };
                let intent = intend(&recorder, parts).await.unwrap();
                let line = format!("acked {} {}\n", intent.receipt().seq, intent.receipt().leaf);
                std::io::stdout().write_all(line.as_bytes()).unwrap();
                intent.begin().finish(Ended::new(End::Done));
            }
        }
    });
    futures_util::future::join_all(writers).await;
}

#[tokio::test]
async fn inv_ack_a_killed_process_loses_nothing_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut acked: BTreeMap<u64, Digest> = BTreeMap::new();
    for round in 0..3_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::process::child_writes_until_killed", "--ignored", "--nocapture"])
            .env(FOLDER, &data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        for line in lines {
            let line = line.unwrap();
            if let Some((seq, leaf)) = line.strip_prefix("acked ").and_then(|rest| rest.split_once(' '))
                && let (Ok(seq), Ok(leaf)) = (seq.parse(), leaf.parse())
            {
                acked.insert(seq, leaf);
                count += 1;
                if count == 1 {
                    let second = crate::DataFolder::lock(&data);
                    assert!(matches!(second, Err(crate::LockError::Taken(_))), "a second process is refused");
                }
                if count == 300 + 50 * round {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(count >= 300, "{count}");
    }
    // What is known of the three lives, against one sealing at the end.
    let recorder =
        Recorder::open(real_config(&data), clock(), Arc::new(RealDisk), Arc::new(SimDisk::default()))
            .await
            .unwrap();
    recorder.system(System::Initialised).await.unwrap();
    recorder.seal_now().await.unwrap();
    let read = reader(&recorder, Tenant::default_tenant(), 1).await;
    let origin = recorder.heads(&read).unwrap().remove(0).origin;
    let entries = recorder.entries(&read, &origin, 0, usize::MAX).await.unwrap();
    let found: BTreeMap<u64, Digest> = entries
        .iter()
        .map(|entry| (serde_json::from_slice::<Record>(entry).unwrap().seq, leaf_hash(entry)))
        .collect();
    assert!(found.keys().copied().eq(1..=found.len() as u64), "no gap");
    for (seq, leaf) in &acked {
        assert_eq!(found.get(seq), Some(leaf), "INV-ACK: record {seq}");
    }
    let records =
        entries.iter().map(|e| serde_json::from_slice::<Record>(e).unwrap()).map(|r| (r.seq, r)).collect();
    let [intents, _, outcomes, _] = count(&records);
    assert_eq!(intents, outcomes, "each intent has one outcome");
}
