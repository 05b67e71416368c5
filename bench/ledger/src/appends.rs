//! Appends a second and the time to the acknowledgement, case beside case.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bartizan_base::Clock as _;
use bartizan_bench::Error;
use bartizan_bench::process::Medium;
use bartizan_bench::report::{Cases, Comparison, Value};
use bartizan_rt::SystemClock;

use crate::effort::Effort;
use crate::engine::{BareFile, Engine, Ledger, Postgres, Sqlite, Way, new_node};
use crate::house::House;
use crate::load::{self, Load, Round};
use crate::task::{Task, in_process};

/// Every case, in the order of the table; neighbours are measured right after each other.
pub const CASES: &[&str] =
    &["bare_file", "bartizan", "bartizan_intents", "sqlite", "postgres", "postgres_batched"];

/// How many append at the same time.
pub const WRITERS: &[u64] = &[1, 32, 256];

pub const COMPARISON: Comparison =
    Comparison { baseline: "bare_file", further: &["sqlite", "postgres", "postgres_batched"], added: None };

/// Permits made beforehand for each second of a round, for one writer and for many.
const STOCK: [u64; 2] = [12_000, 50_000];

/// One round of one case, in this process. The folder may hold what an earlier round of the case left behind.
pub async fn measure(case: &str, load: Load, folder: &Path) -> Result<Round, Error> {
    let medium = Medium::of(folder);
    let medium = medium.as_ref();
    match case {
        "bare_file" => one(BareFile::start(folder)?, load, medium).await,
        "sqlite" => one(Sqlite::start(folder)?, load, medium).await,
        "postgres" => one(Postgres::start(folder, load.writers).await?, load, medium).await,
        "postgres_batched" => one(Postgres::start_batched(folder).await?, load, medium).await,
        "bartizan" | "bartizan_intents" => {
            let clock = Arc::new(SystemClock::new());
            let (house, node) = (House::new(clock.now())?, new_node(&*clock));
            let way = if case == "bartizan" {
                Way::refusals(&house, &*clock, node)?
            } else {
                let each_second = if load.writers == 1 { STOCK[0] } else { STOCK[1] };
                let stock = load.duration().as_secs_f64() * each_second as f64;
                Way::intents(house, &*clock, stock as u64)?
            };
            let ledger = Ledger::open(&folder.join("data"), clock, node, way).await?;
            ledger.seal_every_second();
            one(ledger, load, medium).await
        }
        _ => Err(format!("there is no case {case}").into()),
    }
}

async fn one<E: Engine>(engine: E, load: Load, medium: Option<&Medium>) -> Result<Round, Error> {
    let engine = Arc::new(engine);
    let (round, acknowledged) = load::closed(&engine, load, medium).await?;
    engine.check(acknowledged).await?;
    Ok(round)
}

/// All rounds of all cases that are wanted: in every round, every case at every number of writers, back and forth. Gives
/// what was measured, and the cases that failed.
pub fn drive(
    wanted: &[&'static str],
    effort: &Effort,
    work: &Path,
) -> Result<(Cases, Vec<&'static str>), Error> {
    let mut rounds: BTreeMap<(&str, u64), Vec<Round>> = BTreeMap::new();
    let mut failed = Vec::new();
    for round in 1..=effort.rounds {
        for writers in WRITERS {
            let mut order = wanted.to_vec();
            if round % 2 == 0 {
                order.reverse();
            }
            for case in order {
                if failed.contains(&case) {
                    continue;
                }
                eprintln!("round {round} of {}: {case}, {writers} writers", effort.rounds);
                let load = Load { writers: *writers, warm_up: effort.warm_up, window: effort.window };
                match fresh(case, load, work) {
                    Ok(brought) => rounds.entry((case, *writers)).or_default().push(brought),
                    Err(error) => {
                        eprintln!("{case}: {error}");
                        failed.push(case);
                    }
                }
            }
        }
    }
    if work.join(OVER).exists() {
        fs::remove_dir_all(work.join(OVER))?;
    }
    let mut results = Vec::new();
    // What a case that failed has left is for whoever looks into it.
    for case in wanted.iter().filter(|case| !failed.contains(case)) {
        fs::remove_dir_all(work.join(case))?;
        results.push(((*case).to_owned(), values(case, &rounds)));
    }
    Ok((results, failed))
}

/// A round in a process of its own and, but for the cluster of PostgreSQL, in a folder of its own.
fn fresh(case: &str, load: Load, work: &Path) -> Result<Round, Error> {
    let folder = work.join(case);
    if folder.exists() && !folder.join("cluster").exists() {
        put_away(&folder, &work.join(OVER))?;
    }
    fs::create_dir_all(&folder)?;
    settle()?;
    in_process(&Task::Appends { case: case.to_owned(), load }, &folder)
}

/// Where folders of rounds that are over wait for the end.
const OVER: &str = "over";

/// Empties the files of a round that is over, but removes none of them yet: for a minute ext4 does not use the inode of a
/// removed file again, and every file that is created meanwhile is looked for past all of those. That would be charged to
/// whoever creates files next.
fn put_away(folder: &Path, over: &Path) -> Result<(), Error> {
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                fs::OpenOptions::new().write(true).open(path)?.set_len(0)?;
            }
        }
    }
    fs::create_dir_all(over)?;
    let number = fs::read_dir(over)?.count();
    Ok(fs::rename(folder, over.join(number.to_string()))?)
}

/// Whatever an earlier measurement left to be written is written before the next one begins.
pub fn settle() -> Result<(), Error> {
    let status = Command::new("sync").status()?;
    if status.success() { Ok(()) } else { Err("`sync` failed".into()) }
}

fn values(case: &str, rounds: &BTreeMap<(&str, u64), Vec<Round>>) -> Vec<Value> {
    let mut out = Vec::new();
    for writers in WRITERS {
        let Some(rounds) = rounds.get(&(case, *writers)) else { continue };
        let mut add = |metric: &str, unit, of: &dyn Fn(&Round) -> Option<f64>| {
            if let Some(numbers) = rounds.iter().map(of).collect::<Option<Vec<_>>>() {
                out.push(Value::median(format!("{metric}_w{writers}"), numbers, unit));
            }
        };
        add("appends_per_second", "1/s", &|r| Some(r.per_second));
        add("ack_p50", "us", &|r| Some(r.ack_p50_us));
        add("ack_p99", "us", &|r| Some(r.ack_p99_us));
        add("append_cpu", "us", &|r| Some(r.cpu_us));
        add("append_server_cpu", "us", &|r| r.server_cpu_us);
        add("appends_per_flush", "", &|r| r.per_sync);
        add("append_written", "B", &|r| r.written_bytes);
        add("appends_per_device_flush", "", &|r| r.per_device_flush);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn embedded_cases_measure_and_find_their_records_again() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        for case in ["bare_file", "bartizan", "bartizan_intents", "sqlite"] {
            let folder = tempfile::tempdir().unwrap();
            let load =
                Load { writers: 8, warm_up: Duration::from_millis(20), window: Duration::from_millis(150) };
            let round = runtime.block_on(measure(case, load, folder.path())).unwrap();
            assert!(round.per_second > 1.0 && round.ack_p50_us <= round.ack_p99_us, "{case}: {round:?}");
            assert!(round.per_sync.is_some_and(|n| n >= 1.0), "{case}: {round:?}");
            // Where the temporary folder is on a device at all.
            assert!(round.written_bytes.is_none_or(|n| n >= 1_000.0), "{case}: {round:?}");
        }
    }

    #[test]
    fn a_round_that_is_over_keeps_its_files_but_not_its_bytes() {
        let work = tempfile::tempdir().unwrap();
        for round in 0..2 {
            let folder = work.path().join("case");
            fs::create_dir_all(folder.join("log/tile")).unwrap();
            fs::write(folder.join("log/tile/000"), b"bytes").unwrap();
            put_away(&folder, &work.path().join(OVER)).unwrap();
            assert!(!folder.exists());
            let kept = work.path().join(OVER).join(round.to_string()).join("log/tile/000");
            assert_eq!(fs::metadata(kept).unwrap().len(), 0);
        }
    }

    #[test]
    fn every_number_of_writers_has_its_rows_and_what_is_unknown_has_none() {
        let round = |per_second| Round {
            per_second,
            ack_p50_us: 1.0,
            ack_p99_us: 2.0,
            cpu_us: 3.0,
            server_cpu_us: None,
            per_sync: Some(5.0),
            written_bytes: None,
            per_device_flush: None,
        };
        let rounds = BTreeMap::from([
            (("sqlite", 1), vec![round(3.0), round(1.0), round(2.0)]),
            (("sqlite", 256), vec![round(7.0)]),
        ]);
        let values = values("sqlite", &rounds);
        let of = |metric: &str| values.iter().find(|v| v.metric == metric).and_then(|v| v.value);
        assert_eq!([of("appends_per_second_w1"), of("appends_per_second_w256")], [Some(2.0), Some(7.0)]);
        assert_eq!([of("append_server_cpu_w1"), of("ack_p50_w32")], [None, None]);
    }
}
