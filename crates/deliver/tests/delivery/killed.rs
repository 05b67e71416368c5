//! A courier that is killed. The page cache survives, so this shows the order of things, not the disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bartizan_deliver::{
    Backoff, Config, Courier, DELIVERY_ID, DeadLetters, FileConfig, FilePositions, FileSink, Parts, Sink,
};
use bartizan_rt::{Shutdown, SystemClock, SystemRandom};

use crate::server::{Server, status};
use crate::world::{Log, batch, eventually, numbers};

/// Where the child delivers: set for the child only.
const FOLDER: &str = "BARTIZAN_DELIVER_KILL_TEST_FOLDER";
/// To which server; to files if there is none.
const URL: &str = "BARTIZAN_DELIVER_KILL_TEST_URL";
const MANY: u64 = 1 << 40;
const RECORDS_MAX: u32 = 20;

fn courier(folder: &Path, url: Option<String>) -> Courier {
    let clock = Arc::new(SystemClock::new());
    let sink: Arc<dyn Sink> = match url {
        Some(url) => Arc::new(crate::http::sink(url)),
        None => {
            let config = FileConfig {
                folder: folder.join("out"),
                prefix: "records".parse().unwrap(),
                bytes_max: 16 << 10,
                age_max: Duration::from_secs(3_600),
            };
            Arc::new(FileSink::open(config, clock.clone()).unwrap())
        }
    };
    let parts = Parts {
        source: Arc::new(Log { size: MANY, ..Log::default() }),
        sink,
        positions: Arc::new(FilePositions::new(folder.join("position.json"))),
        letters: DeadLetters::new(folder.join("dead"), 10),
        clock,
        random: Arc::new(SystemRandom::new()),
    };
    let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(10) };
    Courier::new(
        parts,
        Config { records_max: RECORDS_MAX, backoff, ..Config::default() },
        Shutdown::default(),
    )
}

#[tokio::test]
#[ignore = "the child of the tests below: delivers until it is killed"]
async fn child_delivers_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let url = std::env::var_os(URL).map(|url| url.into_string().unwrap());
    courier(&PathBuf::from(folder), url).run().await;
}

fn child(folder: &Path, url: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "killed::child_delivers_until_killed", "--ignored"]).env(FOLDER, folder);
    if let Some(url) = url {
        command.env(URL, url);
    }
    command.stdout(Stdio::null()).spawn().unwrap()
}

fn kill(mut child: Child) {
    assert!(child.try_wait().unwrap().is_none(), "the child is alive until it is killed");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn written(folder: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(folder.join("out")).into_iter().flatten().map(|e| e.unwrap().path());
    let mut files: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect();
    files.sort();
    files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn a_killed_courier_loses_no_line_and_repeats_at_most_its_last_batch() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = 8;
    let mut before = 0;
    for round in 0..rounds {
        let child = child(folder.path(), None);
        eventually(|| (written(folder.path()).len() > before + 4_000 + 777 * round).then_some(()));
        kill(child);
        before = written(folder.path()).len();
        if round % 2 == 1 {
            // As if the machine had torn the last line: it was synced or its position is not stored, but a torn one is not kept.
            let mut files: Vec<_> =
                std::fs::read_dir(folder.path().join("out")).unwrap().map(|e| e.unwrap().path()).collect();
            files.retain(|p| p.extension().is_some_and(|e| e == "jsonl"));
            files.sort();
            let last = files.last().unwrap();
            let torn = [std::fs::read(last).unwrap(), b"{\"n\":1,\"to".to_vec()].concat();
            std::fs::write(last, torn).unwrap();
        }
    }
    let child = child(folder.path(), None);
    eventually(|| (written(folder.path()).len() > before + 4_000).then_some(()));
    kill(child);
    let mut whole = written(folder.path());
    whole.truncate(whole.iter().rposition(|b| *b == b'\n').unwrap() + 1);
    let all = numbers(&whole);
    let mut next = 0;
    let mut repeats = 0;
    for n in all {
        if n < next {
            assert!(next - n <= u64::from(RECORDS_MAX), "{n} again after {next}");
            repeats += 1;
            next = n;
        }
        assert_eq!(n, next, "nothing is left out");
        next += 1;
    }
    assert!(repeats <= rounds, "{repeats} repeats after {rounds} kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_courier_repeats_a_batch_under_its_id_so_that_the_receiver_can_drop_it() {
    let server = Server::start(|_| status(200)).await;
    let folder = tempfile::tempdir().unwrap();
    let url = server.url("/in");
    for round in 0..8_usize {
        let before = server.received.lock().unwrap().len();
        let child = child(folder.path(), Some(&url));
        tokio::task::block_in_place(|| {
            eventually(|| (server.received.lock().unwrap().len() > before + 20 + 3 * round).then_some(()));
            kill(child);
        });
    }
    let mut ids = BTreeSet::new();
    let mut next = 0;
    for request in server.received() {
        let numbers = numbers(request.body());
        let (first, last) = (numbers[0], *numbers.last().unwrap());
        let id = request.headers()[DELIVERY_ID].to_str().unwrap().to_owned();
        assert_eq!(id, batch(first, last).id().to_string());
        if ids.insert(id) {
            assert_eq!(first, next, "a batch that is new begins where the last one ended");
            next = last + 1;
        } else {
            assert_eq!(last + 1, next, "only the last batch comes again");
        }
    }
}
