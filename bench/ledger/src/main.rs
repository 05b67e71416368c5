//! Measures the ledger beside a bare file, SQLite and PostgreSQL, in one run on one file system.

mod appends;
mod effort;
mod engine;
mod growth;
mod house;
mod integrate;
mod load;
mod sizes;
mod task;

use std::fs;
use std::path::{Path, PathBuf};

use bartizan_bench::report::{Cases, Comparison};
use bartizan_bench::{Error, report};

use crate::effort::Effort;
use crate::integrate::Integrated;
use crate::task::Task;

const USAGE: &str = "usage: ledger --work FOLDER --results FILE [--only CASE,CASE] [--quick]";

/// Beside the cases of appends: the core without a disk, and the log at several sizes.
const FURTHER_CASES: &[&str] = &["integrate", "growth"];

struct Arguments {
    work: PathBuf,
    results: PathBuf,
    only: Option<Vec<String>>,
    effort: Effort,
}

impl Arguments {
    fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == case))
    }
}

fn main() -> Result<(), Error> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["task", folder, task] => task::run(&serde_json::from_str(task)?, Path::new(folder)),
        flags => drive(&arguments(flags)?),
    }
}

fn drive(arguments: &Arguments) -> Result<(), Error> {
    let mut rows = Vec::new();
    let mut told = |results: &Cases, comparison: &Comparison| {
        let own = report::rows(results, comparison);
        if !own.is_empty() {
            println!("{}", report::table(&own, comparison));
        }
        rows.extend(own);
    };
    let mut failed = Vec::new();
    let wanted: Vec<_> = appends::CASES.iter().copied().filter(|case| arguments.wants(case)).collect();
    if !wanted.is_empty() {
        let (results, without) = appends::drive(&wanted, &arguments.effort, &arguments.work)?;
        told(&results, &appends::COMPARISON);
        failed.extend(without);
    }
    for case in FURTHER_CASES.iter().copied().filter(|case| arguments.wants(case)) {
        let measured = match case {
            "integrate" => integrated(arguments).map(|results| (results, appends::COMPARISON)),
            _ => sizes::drive(&arguments.effort, &arguments.work).map(|results| (results, sizes::COMPARISON)),
        };
        match measured {
            Ok((results, comparison)) => told(&results, &comparison),
            Err(error) => {
                eprintln!("{case}: {error}");
                failed.push(case);
            }
        }
    }
    let mut machine = report::machine();
    machine.insert("sqlite", engine::sqlite_version().to_owned());
    machine.insert("postgres", engine::postgres_version().unwrap_or_default());
    machine.insert("file_system", file_system(&arguments.work));
    report::write(&arguments.results, &machine, &rows)?;
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join(", ")).into()) }
}

fn integrated(arguments: &Arguments) -> Result<Cases, Error> {
    eprintln!("integrate");
    let task = Task::Integrate { each: arguments.effort.integrate };
    let rounds: Result<Vec<Integrated>, Error> =
        (0..arguments.effort.size_rounds).map(|_| task::in_process(&task, &arguments.work)).collect();
    Ok(vec![("integrate".to_owned(), Integrated::values(&rounds?))])
}

/// What everything was written to.
fn file_system(folder: &Path) -> String {
    let told = std::process::Command::new("df").args(["--output=fstype,source"]).arg(folder).output();
    let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    told.lines().nth(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

fn arguments(flags: &[&str]) -> Result<Arguments, Error> {
    let (mut work, mut results, mut only, mut effort) = (None, None, None, Effort::FULL);
    let mut given = flags.iter();
    while let Some(flag) = given.next() {
        let mut value = || given.next().copied().ok_or(USAGE);
        match *flag {
            "--work" => work = Some(PathBuf::from(value()?)),
            "--results" => results = Some(PathBuf::from(value()?)),
            "--only" => only = Some(value()?.split(',').map(str::to_owned).collect::<Vec<_>>()),
            "--quick" => effort = Effort::QUICK,
            _ => return Err(USAGE.into()),
        }
    }
    let known = || appends::CASES.iter().chain(FURTHER_CASES).copied();
    if let Some(unknown) = only.iter().flatten().find(|name| known().all(|case| case != name.as_str())) {
        let known: Vec<_> = known().collect();
        return Err(format!("there is no case {unknown}; there are {}", known.join(", ")).into());
    }
    let work = work.ok_or(USAGE)?;
    fs::create_dir_all(&work)?;
    // A server that is started elsewhere must find it too.
    Ok(Arguments { work: work.canonicalize()?, results: results.ok_or(USAGE)?, only, effort })
}
