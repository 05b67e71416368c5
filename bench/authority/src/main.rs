//! Measures the token endpoint beside oidc-provider, each pinned to one core with the load on the other: tokens for a second of
//! processor time, and latencies; the latter also while passwords are guessed at. Persistence differs, and is part of the results: ours records every token durably before it
//! is given and keeps refresh families in SQLite; theirs keeps everything in memory.

mod house;
mod load;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bartizan_bench::Error;
use bartizan_bench::credentials::signatures_per_second;
use bartizan_bench::load::quantile_us;
use bartizan_bench::process::{GATEWAY_CORE, Program, free_address, pin_self};
use bartizan_bench::report::{self, Comparison, Value};

use crate::load::{Endpoint, Way, closed};

const USAGE: &str =
    "usage: authority --work FOLDER --provider FOLDER --results FILE [--only CASE,CASE] [--quick]";
const CASES: [&str; 4] = [SIGNATURE, "oidc_provider", "token_endpoint", FLOODED];
/// One core that signs tokens and does nothing else: the physical bound.
const SIGNATURE: &str = "signature";
/// The token endpoint while passwords are guessed at.
const FLOODED: &str = "token_endpoint_flooded";
/// Passwords that are tried at a time in the last case.
const FLOOD: usize = 64;
const COMPARISON: Comparison = Comparison { baseline: "oidc_provider", further: &[], added: None };
/// Connections of the rounds.
const CONNECTIONS: [usize; 2] = [1, 32];
/// Logins that are refreshed in turn: as many as keep each below the 16 refreshes in 45 seconds that a house lets one have.
const LOGINS: usize = 16_000;

struct Arguments {
    work: PathBuf,
    provider: PathBuf,
    results: PathBuf,
    only: Option<Vec<String>>,
    window: Duration,
    rounds: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn drive(arguments: &Arguments) -> Result<(), Error> {
    pin_self()?;
    let mut results = Vec::new();
    for case in CASES {
        if arguments.only.as_ref().is_none_or(|only| only.iter().any(|name| name == case)) {
            eprintln!("{case}");
            results.push((case.to_owned(), measured(arguments, case).await?));
        }
    }
    let mut machine = report::machine();
    machine.insert(
        "token_endpoint_persistence",
        "each token recorded durably (write-ahead log, fdatasync) before it is given; families in SQLite"
            .to_owned(),
    );
    machine.insert("oidc_provider_persistence", "none: in memory".to_owned());
    let rows = report::rows(&results, &COMPARISON);
    println!("{}", report::table(&rows, &COMPARISON));
    report::write(&arguments.results, &machine, &rows)
}

async fn measured(arguments: &Arguments, case: &str) -> Result<Vec<Value>, Error> {
    if case == SIGNATURE {
        let rates: Result<_, _> =
            (0..arguments.rounds).map(|_| signatures_per_second(arguments.window)).collect();
        return Ok(vec![Value::median("signatures_per_cpu_second".to_owned(), rates?, "1/s")]);
    }
    let folder = arguments.work.join(case);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let address = free_address()?;
    let ready = folder.join("ready.json");
    let (mut program, told) = start(arguments, case, address, &folder, &ready)?;
    let mut endpoint = Endpoint::read(address, &told)?;
    let hashes = Hashes::begin(folder.join("hashes"));
    let mut values = Vec::new();
    for way in Way::ALL {
        for connections in CONNECTIONS {
            let (mut rates, mut medians, mut tails) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..arguments.rounds {
                // What is not measured warms up.
                (_, endpoint) = closed(&endpoint, way, connections, arguments.window / 4).await?;
                let before = program.cpu_s();
                let (round, next) = closed(&endpoint, way, connections, arguments.window).await?;
                endpoint = next;
                rates.push(round.tokens as f64 / (program.cpu_s() - before).max(0.01));
                medians.extend(quantile_us(&round.latency, 0.5));
                tails.extend(quantile_us(&round.latency, 0.99));
            }
            let name = format!("{}_c{connections}", way.name());
            // The processor time of a house that is flooded is that of the guessers.
            if case != FLOODED {
                values.push(Value::median(format!("tokens_per_cpu_second_{name}"), rates, "1/s"));
            }
            values.push(Value::median(format!("latency_p50_{name}"), medians, "us"));
            values.push(Value::median(format!("latency_p99_{name}"), tails, "us"));
        }
    }
    if case == FLOODED {
        values.push(Value::new("password_hashes_per_second".to_owned(), Some(hashes.per_second()?), "1/s"));
    }
    if !program.runs() {
        return Err(format!("{case} ended; see its log in {}", folder.display()).into());
    }
    Ok(values)
}

/// How many passwords the house has hashed, as it says in a file.
struct Hashes {
    file: PathBuf,
    since: Instant,
    before: f64,
}

impl Hashes {
    fn begin(file: PathBuf) -> Self {
        let before = Self::read(&file).unwrap_or(0.0);
        Self { file, since: Instant::now(), before }
    }

    fn read(file: &Path) -> Result<f64, Error> {
        Ok(std::fs::read_to_string(file)?.trim().parse()?)
    }

    fn per_second(&self) -> Result<f64, Error> {
        let hashed = Self::read(&self.file)? - self.before;
        if hashed <= 0.0 {
            return Err("nobody guessed at passwords".into());
        }
        Ok(hashed / self.since.elapsed().as_secs_f64())
    }
}

fn start(
    arguments: &Arguments,
    case: &str,
    address: SocketAddr,
    folder: &Path,
    ready: &Path,
) -> Result<(Program, serde_json::Value), Error> {
    let logins = LOGINS.to_string();
    let text = |path: &Path| path.display().to_string();
    let command = match case {
        "token_endpoint" | FLOODED => vec![
            text(&std::env::current_exe()?),
            "serve".to_owned(),
            address.to_string(),
            // Apart from its log, which is a file: the house has a folder of that name.
            text(&folder.join("house")),
            text(ready),
            logins,
            (if case == FLOODED { FLOOD } else { 0 }).to_string(),
        ],
        _ => vec![
            "node".to_owned(),
            text(&arguments.provider.join("provider.mjs")),
            address.port().to_string(),
            text(ready),
            logins,
        ],
    };
    let mut program = Program::start(Some(GATEWAY_CORE), &command, &[], &folder.join("log"))?;
    let limit = Instant::now() + Duration::from_secs(300);
    loop {
        if let Some(told) = std::fs::read(ready).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok((program, told));
        }
        if Instant::now() > limit || !program.runs() {
            return Err(format!("{case} does not come up; see {}", folder.join("log").display()).into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn main() -> Result<(), Error> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", address, folder, ready, logins, flood] => house::serve(
            address.parse()?,
            Path::new(folder),
            Path::new(ready),
            logins.parse()?,
            flood.parse()?,
        ),
        flags => drive(&arguments(flags)?),
    }
}

fn arguments(flags: &[&str]) -> Result<Arguments, Error> {
    let (mut work, mut provider, mut results, mut only) = (None, None, None, None);
    let (mut window, mut rounds) = (Duration::from_secs(4), 3);
    let mut given = flags.iter();
    while let Some(flag) = given.next() {
        let mut value = || given.next().copied().ok_or(USAGE);
        match *flag {
            "--work" => work = Some(PathBuf::from(value()?)),
            "--provider" => provider = Some(PathBuf::from(value()?)),
            "--results" => results = Some(PathBuf::from(value()?)),
            "--only" => only = Some(value()?.split(',').map(str::to_owned).collect::<Vec<_>>()),
            "--quick" => (window, rounds) = (Duration::from_secs(1), 1),
            _ => return Err(USAGE.into()),
        }
    }
    if let Some(unknown) = only.iter().flatten().find(|name| !CASES.contains(&name.as_str())) {
        return Err(format!("there is no case {unknown}; there are {}", CASES.join(", ")).into());
    }
    Ok(Arguments {
        work: work.ok_or(USAGE)?,
        provider: provider.ok_or(USAGE)?,
        results: results.ok_or(USAGE)?,
        only,
        window,
        rounds,
    })
}
