//! Measures two doors in one run: tool calls (MCP), and proxies that ask (Envoy's `ext_authz`), each beside the way without
//! the door and beside others; one after the other, on the same core and with the same requests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bartizan_bench::bartizan::{self, Credential};
use bartizan_bench::client::post;
use bartizan_bench::credentials::Issuer;
use bartizan_bench::load::Ask;
use bartizan_bench::measure::{self, Effort};
use bartizan_bench::process::{free_address, pin_self};
use bartizan_bench::report::{Comparison, Value};
use bartizan_bench::rivals::{self, Asked, Envoy, Gateway, Protocol, Setting};
use bartizan_bench::{Error, MCP_TEXT_BYTES, MCP_TOOL, report};
use serde_json::json;

const USAGE: &str = "\
usage: doors --python VENV --bartizan BINARY --work FOLDER --results FOLDER [--only CASE,CASE] [--quick]";

/// A table of its own each: what is measured, in its order, and what it is compared with.
struct Table {
    name: &'static str,
    cases: &'static [&'static str],
    comparison: Comparison,
}

/// A tool call is held against the bare proxy, against the least that recording costs, and against the nearest rivals.
const TABLES: [Table; 2] = [
    Table {
        name: "tools",
        cases: &[
            "direct",
            "bare",
            "bare_journal",
            "envoy_token",
            "litellm",
            "bartizan_token",
            "bartizan_key",
        ],
        comparison: Comparison {
            baseline: "bare",
            further: &["bare_journal", "envoy_token"],
            added: Some(("direct", &["c1"])),
        },
    },
    // Envoy and whom it asks share a core, as the gateways have one each.
    Table {
        name: "mesh",
        cases: &[
            "direct",
            "envoy",
            "envoy_token",
            "asks_yes_http",
            "bartizan_asked_http",
            "bartizan_asked_grpc",
        ],
        comparison: Comparison {
            baseline: "asks_yes_http",
            further: &["envoy_token"],
            added: Some(("direct", &["c1"])),
        },
    },
];

struct Arguments {
    python: PathBuf,
    bartizan: PathBuf,
    work: PathBuf,
    results: PathBuf,
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
        let (binaries, python) = (&binaries, &arguments.python);
        Ok(Setting { folder, binaries, python, upstream, jwks: &jwks, token: &token })
    };
    let _behind = rivals::model(&setting(arguments.work.join("behind"))?)?;

    let mut failed = Vec::new();
    for Table { name, cases, comparison } in &TABLES {
        let mut results: Vec<(String, Vec<Value>)> = Vec::new();
        for case in *cases {
            let full = format!("{name}.{case}");
            if !arguments.only.as_ref().is_none_or(|only| only.contains(&full)) {
                continue;
            }
            eprintln!("measuring {full}");
            let setting = setting(arguments.work.join(&full))?;
            match one(name, case, &setting, arguments).await {
                Ok(values) => results.push(((*case).to_owned(), values)),
                Err(error) => {
                    eprintln!("{full}: {error} ({})", setting.folder.display());
                    failed.push(full);
                }
            }
        }
        let rows = report::rows(&results, comparison);
        report::write(&arguments.results.join(format!("{name}.json")), &report::machine(), &rows)?;
        println!("{}", report::table(&rows, comparison));
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join(", ")).into()) }
}

async fn one(
    table: &str,
    case: &str,
    setting: &Setting<'_>,
    arguments: &Arguments,
) -> Result<Vec<Value>, Error> {
    let binary = &arguments.bartizan;
    // What Envoy asks runs as long as the case.
    let mut asked = None;
    let mut gateway = match (table, case) {
        (_, "direct") => rivals::direct(setting),
        (_, "bare") => rivals::bare(setting, false)?,
        (_, "bare_journal") => rivals::bare(setting, true)?,
        (_, "envoy") => rivals::envoy(setting, Envoy::Nothing)?,
        (_, "envoy_token") => rivals::envoy(setting, Envoy::Token)?,
        (_, "litellm") => rivals::litellm(setting)?,
        ("tools", "bartizan_token") => bartizan::with_tools(setting, binary, Credential::Token)?,
        ("tools", "bartizan_key") => bartizan::with_tools(setting, binary, Credential::Key)?,
        ("mesh", "asks_yes_http") => {
            let (yes, at) = rivals::yes(setting)?;
            asked = Some(yes);
            rivals::envoy(setting, Envoy::Asking(Asked { at, by: Protocol::Http }))?
        }
        ("mesh", "bartizan_asked_http" | "bartizan_asked_grpc") => {
            let (house, at) = bartizan::behind_proxies(setting, binary, Credential::Token)?;
            asked = house.program;
            let by = if case.ends_with("grpc") { Protocol::Grpc } else { Protocol::Http };
            rivals::envoy(setting, Envoy::Asking(Asked { at, by }))?
        }
        _ => return Err(format!("there is no case {table}.{case}").into()),
    };
    gateway.beside.extend(asked);
    let ask = match table {
        "tools" => tool_call(&gateway, case),
        _ => request(&gateway),
    };
    measure::calls(&mut gateway, &ask, arguments.effort).await
}

/// A call of the one tool, as a client sends it that has said its hello.
fn tool_call(gateway: &Gateway, case: &str) -> Ask {
    let (path, tool) = match case {
        "litellm" => ("/mcp/", format!("bench-{MCP_TOOL}")),
        name if name.starts_with("bartizan") => ("/mcp/bench", MCP_TOOL.to_owned()),
        // Where the rule of Envoy lets it.
        _ => ("/v1/mcp", MCP_TOOL.to_owned()),
    };
    let text =
        "Summarise in one sentence what changed between the two last quarters, and name the cost centre.";
    let call = json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {"text": text}},
    });
    let mut headers = gateway.headers.clone();
    headers.push(("accept".into(), "application/json, text/event-stream".into()));
    headers.push(("mcp-protocol-version".into(), "2025-06-18".into()));
    Ask {
        address: gateway.address,
        request: Arc::from(post(path, &headers, &call.to_string())),
        events: 0,
        bytes: MCP_TEXT_BYTES,
    }
}

/// A request of a service that knows nothing of all this.
fn request(gateway: &Gateway) -> Ask {
    let order = json!({"article": "4711", "pieces": 3, "note": "Leave it with the porter, please."});
    let request = post("/v1/orders", &gateway.headers, &order.to_string());
    Ask { address: gateway.address, request: Arc::from(request), events: 0, bytes: 0 }
}

fn arguments() -> Result<Arguments, Error> {
    let (mut python, mut work, mut results, mut bartizan, mut only) = (None, None, None, None, None);
    let mut effort = Effort::FULL;
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let mut value = || given.next().ok_or(USAGE);
        match flag.as_str() {
            "--python" => python = Some(PathBuf::from(value()?)),
            "--bartizan" => bartizan = Some(PathBuf::from(value()?)),
            "--work" => work = Some(PathBuf::from(value()?)),
            "--results" => results = Some(PathBuf::from(value()?)),
            "--only" => only = Some(value()?.split(',').map(str::to_owned).collect::<Vec<_>>()),
            "--quick" => effort = Effort::QUICK,
            _ => return Err(USAGE.into()),
        }
    }
    let known = |name: &&String| {
        TABLES.iter().any(|table| table.cases.iter().any(|case| format!("{}.{case}", table.name) == **name))
    };
    if let Some(unknown) = only.iter().flatten().find(|name| !known(name)) {
        return Err(format!("there is no case {unknown}; they are called TABLE.CASE").into());
    }
    Ok(Arguments {
        python: python.ok_or(USAGE)?,
        bartizan: bartizan.ok_or(USAGE)?,
        work: work.ok_or(USAGE)?,
        results: results.ok_or(USAGE)?,
        only,
        effort,
    })
}
