//! Measures decisions beside other engines, on the same rules, entities and asks.

mod apart;
mod cedar;
mod cerbos;
mod ours;
mod rivals;
mod timing;
mod workload;

use std::path::PathBuf;
use std::sync::Arc;

use bartizan_bench::Error;
use bartizan_bench::report::{self, Cases, Comparison, Value};
use bartizan_decide::{Door, Snapshot};

use timing::Times;
use workload::{Size, World};

const USAGE: &str = "usage: decide --work FOLDER --results FILE [--cerbos FILE] [--only CASE,CASE] [--quick]";
const CASES: &[&str] = &["cedar", "bartizan", "bartizan_scoped", "regorus", "casbin", "cerbos", "apart"];
const COMPARISON: Comparison =
    Comparison { baseline: "cedar", further: &["regorus", "casbin", "cerbos"], added: None };

/// Rules and entities of the worlds, and asks in each.
pub struct Effort {
    pub rules: &'static [usize],
    pub entities: &'static [usize],
    pub asks: usize,
    pub quick: bool,
}

const FULL: Effort = Effort {
    rules: &[10, 100, 1_000, 10_000],
    entities: &[1_000, 100_000, 1_000_000],
    asks: 4_000,
    quick: false,
};
const QUICK: Effort = Effort { rules: &[100, 10_000], entities: &[100_000], asks: 1_000, quick: true };

struct Arguments {
    work: PathBuf,
    results: PathBuf,
    cerbos: Option<PathBuf>,
    only: Option<Vec<String>>,
    effort: Effort,
}

fn main() -> Result<(), Error> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["memory", entities] => {
            println!("{}", apart::memory(entities.parse()?)?);
            Ok(())
        }
        ["rounds", rules, entities, rounds] => rounds_of(rules.parse()?, entities.parse()?, rounds.parse()?),
        ["compile", rules, rounds] => compilations(rules.parse()?, rounds.parse()?),
        flags => drive(&arguments(flags)?),
    }
}

/// Nothing but decisions, for a profiler: `decide rounds RULES ENTITIES ROUNDS`.
fn rounds_of(rules: usize, entities: usize, rounds: usize) -> Result<(), Error> {
    for unscoped in [true, false] {
        let world = World::new(Size { rules, entities, unscoped });
        let snapshot = Snapshot::new(Some(ours::bundle(world.cedar())?), Arc::new(ours::entities(&world)?));
        let requests = ours::requests(&world, &world.asks(1_000))?;
        let door = Door::model_calls();
        let ask = |request: &ours::Request| drop(ours::decide(&snapshot, request, &door, false));
        requests.iter().for_each(ask);
        let all: Vec<&ours::Request> = requests.iter().cycle().take(rounds).collect();
        let times = Times::of(&all, 0, |request| ask(request));
        println!(
            "unscoped {unscoped}: p50 {:.2} us, processor {:.2} us",
            times.quantile_us(0.5),
            times.cpu_us()
        );
    }
    Ok(())
}

/// Nothing but compilations, for a profiler: `decide compile RULES ROUNDS`.
fn compilations(rules: usize, rounds: usize) -> Result<(), Error> {
    let cedar = World::new(Size { rules, entities: 100_000, unscoped: true }).cedar();
    let first = ours::bundle(cedar.clone())?;
    let changed = apart::with_ten_changed(&cedar);
    let cold = Times::of(&vec![(); rounds], 0, |()| drop(ours::bundle(cedar.clone())));
    let ten = Times::of(&vec![(); rounds], 0, |()| {
        drop(ours::bundle_beside(changed.clone(), std::slice::from_ref(&first)))
    });
    println!("cold {:.1} ms, ten changed {:.1} ms", cold.quantile_us(0.5) / 1e3, ten.quantile_us(0.5) / 1e3);
    Ok(())
}

fn drive(arguments: &Arguments) -> Result<(), Error> {
    let mut cases: Cases = Vec::new();
    let effort = &arguments.effort;
    for case in CASES
        .iter()
        .copied()
        .filter(|case| arguments.only.as_ref().is_none_or(|only| only.iter().any(|o| o == case)))
    {
        eprintln!("{case}");
        let values = match case {
            "cedar" => cedar::drive(effort),
            "bartizan" => decisions(effort, true),
            "bartizan_scoped" => decisions(effort, false),
            "regorus" => rivals::regorus(effort),
            "casbin" => rivals::casbin(effort),
            "cerbos" => cerbos::drive(effort, arguments.cerbos.as_deref(), &arguments.work),
            _ => apart::drive(effort),
        };
        match values {
            Ok(values) if case == "apart" => cases.push(("bartizan_apart".to_owned(), values)),
            Ok(values) => cases.push((case.to_owned(), values)),
            Err(error) => eprintln!("{case}: {error}"),
        }
    }
    let rows = report::rows(&cases, &COMPARISON);
    println!("{}", report::table(&rows, &COMPARISON));
    report::write(&arguments.results, &report::machine(), &rows)
}

/// Names of sizes as they stand in metrics.
pub fn short(n: usize) -> String {
    match n {
        1_000_000.. => format!("{}m", n / 1_000_000),
        1_000.. => format!("{}k", n / 1_000),
        _ => n.to_string(),
    }
}

/// Our decisions at every size. Each ask is another one; those of the first round only warm the code.
fn decisions(effort: &Effort, unscoped: bool) -> Result<Vec<Value>, Error> {
    let mut values = Vec::new();
    for &entities in effort.entities {
        for &rules in effort.rules {
            // A small world cannot have so many roles.
            if rules * 3 / 10 * 2 > entities {
                continue;
            }
            let world = World::new(Size { rules, entities, unscoped });
            let store = Arc::new(ours::entities(&world)?);
            let snapshot = Snapshot::new(Some(ours::bundle(world.cedar())?), store);
            let asks = world.asks(effort.asks * 2);
            let requests = ours::requests(&world, &asks)?;
            let door = Door::model_calls();
            let (warm, measured) = requests.split_at(effort.asks);
            let mut permitted = 0;
            let mut failed = None;
            let mut ask = |request: &ours::Request| match ours::decide(&snapshot, request, &door, false) {
                Ok(decision) => permitted += usize::from(ours::permits(&decision)),
                Err(error) => failed = Some(error),
            };
            warm.iter().for_each(&mut ask);
            let times = Times::of(measured, 0, &mut ask);
            if let Some(error) = failed {
                return Err(error);
            }
            // A sample against the whole set, so that nothing fast and wrong is measured.
            for request in measured.iter().step_by(measured.len() / 20) {
                let (fast, whole) = (
                    ours::decide(&snapshot, request, &door, false)?,
                    ours::decide(&snapshot, request, &door, true)?,
                );
                if ours::permits(&fast) != ours::permits(&whole)
                    || fast.evidence.permits != whole.evidence.permits
                {
                    return Err(format!("the index differs: {:?} {:?}", fast.evidence, whole.evidence).into());
                }
            }
            let name = format!("decide_{}_{}", short(rules), short(entities));
            let (p50, cpu) = (times.quantile_us(0.5), times.cpu_us());
            eprintln!(
                "  {name}: p50 {p50:.2} us, processor {cpu:.2} us, {permitted} of {} permitted",
                requests.len()
            );
            values.extend(times.values(&name));
        }
    }
    Ok(values)
}

fn arguments(flags: &[&str]) -> Result<Arguments, Error> {
    let (mut work, mut results, mut cerbos, mut only, mut effort) = (None, None, None, None, FULL);
    let mut given = flags.iter();
    while let Some(flag) = given.next() {
        let mut value = || given.next().copied().ok_or(USAGE);
        match *flag {
            "--work" => work = Some(PathBuf::from(value()?)),
            "--results" => results = Some(PathBuf::from(value()?)),
            "--cerbos" => cerbos = Some(PathBuf::from(value()?)),
            "--only" => only = Some(value()?.split(',').map(str::to_owned).collect::<Vec<_>>()),
            "--quick" => effort = QUICK,
            _ => return Err(USAGE.into()),
        }
    }
    if let Some(unknown) = only.iter().flatten().find(|name| CASES.iter().all(|case| case != name)) {
        return Err(format!("there is no case {unknown}; there are {}", CASES.join(", ")).into());
    }
    let work = work.ok_or(USAGE)?;
    std::fs::create_dir_all(&work)?;
    Ok(Arguments { work, results: results.ok_or(USAGE)?, cerbos, only, effort })
}
