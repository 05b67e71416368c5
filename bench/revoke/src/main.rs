//! Measures revocations under load, in one process and across two with PostgreSQL, one of them suspended; and changes of the
//! state by many writers, and in a directory of many people.

mod directory;
mod node;
mod postgres;
mod rounds;
mod rows;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bartizan_bench::Error;
use bartizan_bench::process::{Program, free_address};
use bartizan_bench::report::{self, Comparison, Value};

use crate::node::{Admin, Node};
use crate::postgres::Server;

const USAGE: &str =
    "usage: revoke --bartizan FILE --model FILE --work FOLDER --results FILE [--only CASE,CASE] [--quick]";
const CASES: [&str; 8] = [
    "one",
    "two",
    "two_silent",
    "changes_sqlite",
    "changes_postgres",
    "people_100",
    "people_10000",
    "people_100000",
];
const COMPARISON: Comparison = Comparison { baseline: "one", further: &[], added: None };

struct Arguments {
    bartizan: PathBuf,
    model: PathBuf,
    work: PathBuf,
    results: PathBuf,
    only: Option<Vec<String>>,
    quick: bool,
}

fn main() -> Result<(), Error> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let arguments = arguments(&given.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut cases = Vec::new();
    let mut failed = Vec::new();
    for case in CASES {
        if arguments.only.as_ref().is_some_and(|only| !only.iter().any(|name| name == case)) {
            continue;
        }
        eprintln!("{case}");
        match measure(case, &arguments) {
            Ok(values) => cases.push((case.to_owned(), values)),
            Err(error) => {
                eprintln!("{case}: {error}");
                failed.push(case);
            }
        }
    }
    let rows = report::rows(&cases, &COMPARISON);
    println!("{}", report::table(&rows, &COMPARISON));
    let mut machine = report::machine();
    machine.insert("postgres", postgres::version().unwrap_or_default());
    report::write(&arguments.results, &machine, &rows)?;
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join(", ")).into()) }
}

fn measure(case: &str, arguments: &Arguments) -> Result<Vec<Value>, Error> {
    let folder = arguments.work.join(case);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let window = Duration::from_secs(if arguments.quick { 2 } else { 10 });
    let rounds = |full: u32| if arguments.quick { full / 10 } else { full };
    match case {
        "changes_sqlite" => rows::sqlite(&folder, window),
        "changes_postgres" => rows::postgres(&Server::start(&folder)?, window),
        "people_100" => directory(arguments, &folder, 100, rounds(200)),
        "people_10000" => directory(arguments, &folder, 10_000, rounds(200)),
        "people_100000" => directory(arguments, &folder, 100_000, rounds(100)),
        "one" => revoke(arguments, &folder, None, rounds(200), false),
        _ => {
            let server = Server::start(&folder)?;
            let silent = case == "two_silent";
            revoke(arguments, &folder, Some(&server), rounds(if silent { 100 } else { 200 }), silent)
        }
    }
}

fn directory(
    arguments: &Arguments,
    folder: &Path,
    people: usize,
    rounds: u32,
) -> Result<Vec<Value>, Error> {
    let claim = node::found(&arguments.bartizan, folder, None)?;
    let node = Node::start(&arguments.bartizan, folder, None)?;
    // Nobody calls a model.
    let admin = Admin::furnish(node.control, &claim, free_address()?)?;
    directory::changes(&admin, &node, people, rounds)
}

fn revoke(
    arguments: &Arguments,
    folder: &Path,
    server: Option<&Server>,
    rounds: u32,
    silent: bool,
) -> Result<Vec<Value>, Error> {
    let address = free_address()?;
    let model = [arguments.model.display().to_string(), "--listen".to_owned(), address.to_string()];
    let _model = Program::start(None, &model, &[], &folder.join("model.log"))?;
    let url = server.map(|server| server.database("house")).transpose()?;
    let claim = node::found(&arguments.bartizan, folder, url.as_deref())?;
    let mut nodes = vec![Node::start(&arguments.bartizan, folder, url.as_deref())?];
    if url.is_some() {
        let other = node::beside(folder, "other")?;
        nodes.push(Node::start(&arguments.bartizan, &other, url.as_deref())?);
    }
    let first = nodes.first().ok_or("there is no node")?;
    let admin = Admin::furnish(first.control, &claim, address)?;
    // The first is not measured: everything is cold.
    rounds::drive(&admin, &nodes, 3, false)?;
    Ok(rounds::drive(&admin, &nodes, rounds, silent)?.values())
}

fn arguments(flags: &[&str]) -> Result<Arguments, Error> {
    let (mut paths, mut only, mut quick) = ([const { None }; 4], None, false);
    let mut given = flags.iter();
    while let Some(flag) = given.next() {
        let mut value = || given.next().copied().ok_or(USAGE);
        let place = match *flag {
            "--bartizan" => 0,
            "--model" => 1,
            "--work" => 2,
            "--results" => 3,
            "--only" => {
                only = Some(value()?.split(',').map(str::to_owned).collect::<Vec<_>>());
                continue;
            }
            "--quick" => {
                quick = true;
                continue;
            }
            _ => return Err(USAGE.into()),
        };
        if let Some(path) = paths.get_mut(place) {
            *path = Some(PathBuf::from(value()?));
        }
    }
    if let Some(unknown) = only.iter().flatten().find(|name| !CASES.contains(&name.as_str())) {
        return Err(format!("there is no case {unknown}; there are {}", CASES.join(", ")).into());
    }
    let [bartizan, model, work, results] = paths.map(|path| path.ok_or(USAGE));
    let work = work?;
    fs::create_dir_all(&work)?;
    // A server that runs as somebody else must find it too.
    let work = work.canonicalize()?;
    Ok(Arguments { bartizan: bartizan?, model: model?, work, results: results?, only, quick })
}
