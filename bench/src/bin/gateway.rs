//! Measures every gateway in one run, one after the other, on the same core and with the same requests.

use std::fs;
use std::path::{Path, PathBuf};

use bartizan_bench::bartizan::{self, Credential};
use bartizan_bench::credentials::Issuer;
use bartizan_bench::measure::{self, Effort};
use bartizan_bench::process::{free_address, pin_self};
use bartizan_bench::report::{Comparison, Value};
use bartizan_bench::rivals::{self, Envoy, Gateway, Setting};
use bartizan_bench::{Error, report};

const USAGE: &str = "\
usage: gateway --python VENV --work FOLDER --results FILE [--bartizan BINARY] [--only CASE,CASE] [--quick]";

/// Every case, in the order of the table.
const CASES: &[&str] = &[
    "direct",
    "bare",
    "bare_journal",
    "envoy",
    "envoy_token",
    "envoy_token_cached",
    "litellm",
    "bartizan_token",
    "bartizan_key",
];

/// Bartizan is also held against the least that recording costs, and against its nearest rival. Some latencies are also
/// given as what the gateway adds to the direct way.
const COMPARISON: Comparison = Comparison {
    baseline: "bare",
    further: &["bare_journal", "envoy_token"],
    added: Some(("direct", &["c1", "open_1k"])),
};

struct Arguments {
    python: PathBuf,
    work: PathBuf,
    results: PathBuf,
    bartizan: Option<PathBuf>,
    only: Option<Vec<String>>,
    effort: Effort,
}

fn main() -> Result<(), Error> {
    let arguments = arguments()?;
    // Before there are threads, so that all of them are on the load's core.
    pin_self()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<(), Error> {
    let binaries = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
    let issuer = Issuer::new()?;
    let (jwks, token) = (issuer.jwks(), issuer.token()?);
    let upstream = free_address()?;
    let setting = |folder: PathBuf| -> Result<Setting<'_>, Error> {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Setting {
            folder,
            binaries: &binaries,
            python: &arguments.python,
            upstream,
            jwks: &jwks,
            token: &token,
        })
    };
    let _model = rivals::model(&setting(arguments.work.join("model"))?)?;

    let mut results: Vec<(String, Vec<Value>)> = Vec::new();
    let mut failed = Vec::new();
    for case in CASES {
        let wanted = arguments.only.as_ref().is_none_or(|only| only.iter().any(|name| name == case));
        if !wanted || case.starts_with("bartizan") && arguments.bartizan.is_none() {
            continue;
        }
        eprintln!("measuring {case}");
        let setting = setting(arguments.work.join(case))?;
        match one(case, &setting, arguments).await {
            Ok(values) => results.push(((*case).to_owned(), values)),
            Err(error) => {
                eprintln!("{case}: {error} ({})", setting.folder.display());
                failed.push(*case);
            }
        }
    }
    let rows = report::rows(&results, &COMPARISON);
    report::write(&arguments.results, &report::machine(), &rows)?;
    print!("{}", report::table(&rows, &COMPARISON));
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join(", ")).into()) }
}

async fn one(case: &str, setting: &Setting<'_>, arguments: &Arguments) -> Result<Vec<Value>, Error> {
    let binary = || arguments.bartizan.as_deref().ok_or("no binary of Bartizan was given");
    let mut gateway: Gateway = match case {
        "direct" => rivals::direct(setting),
        "bare" => rivals::bare(setting, false)?,
        "bare_journal" => rivals::bare(setting, true)?,
        "envoy" => rivals::envoy(setting, Envoy::Nothing)?,
        "envoy_token" => rivals::envoy(setting, Envoy::Token)?,
        "envoy_token_cached" => rivals::envoy(setting, Envoy::TokenCached)?,
        "litellm" => rivals::litellm(setting)?,
        "bartizan_token" => bartizan::start(setting, binary()?, Credential::Token)?,
        "bartizan_key" => bartizan::start(setting, binary()?, Credential::Key)?,
        _ => return Err(format!("there is no case {case}").into()),
    };
    measure::all(&mut gateway, arguments.effort).await
}

fn arguments() -> Result<Arguments, Error> {
    let (mut python, mut work, mut results, mut bartizan, mut only) = (None, None, None, None, None);
    let mut effort = Effort::FULL;
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let mut value = || given.next().ok_or(USAGE);
        match flag.as_str() {
            "--python" => python = Some(PathBuf::from(value()?)),
            "--work" => work = Some(PathBuf::from(value()?)),
            "--results" => results = Some(PathBuf::from(value()?)),
            "--bartizan" => bartizan = Some(PathBuf::from(value()?)),
            "--only" => only = Some(value()?.split(',').map(str::to_owned).collect::<Vec<_>>()),
            "--quick" => effort = Effort::QUICK,
            _ => return Err(USAGE.into()),
        }
    }
    if let Some(unknown) = only.iter().flatten().find(|name| !CASES.contains(&name.as_str())) {
        return Err(format!("there is no case {unknown}; there are {}", CASES.join(", ")).into());
    }
    Ok(Arguments {
        python: python.ok_or(USAGE)?,
        work: work.ok_or(USAGE)?,
        results: results.ok_or(USAGE)?,
        bartizan,
        only,
        effort,
    })
}
