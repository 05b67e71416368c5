//! Commands about the ledger: most work offline on a log's folder, the others ask the running node.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bartizan_base::Clock as _;
use bartizan_cli::{Client, ExitCode, Global, LogCommand, Output, Table};
use bartizan_ledger::{Policy, VerifierKey};
use bartizan_rt::SystemClock;
use serde_json::{Value, json};

use crate::archived::{ArchiveError, archive};
use crate::commands::{Failure, client, show, text};
use crate::offline::{LogFolder, LogFolderError};

pub(crate) fn run(global: &Global, command: LogCommand) -> Result<ExitCode, Failure> {
    match command {
        LogCommand::Verify { folder, key, old, policy } => {
            let (key, policy) = (verifier_key(&key)?, trust_policy(policy.as_deref())?);
            let old = old
                .map(|path| fs::read(&path).map_err(|e| Failure::usage(format!("{}: {e}", path.display()))))
                .transpose()?;
            let (old, policy) = (old.as_deref(), policy.as_ref());
            let demand = bartizan_verify::Demand { key: &key, old, policy, growing: false };
            let report = bartizan_verify::verify_log(&folder, &demand);
            told_result(global, &report, report.ok)
        }
        LogCommand::Check { proof, entry, key, policy } => {
            let (key, policy) = (verifier_key(&key)?, trust_policy(policy.as_deref())?);
            let report = bartizan_verify::verify_receipt_under(&proof, &entry, &key, policy.as_ref());
            told_result(global, &report, report.ok)
        }
        LogCommand::Promise { header, key, log } => {
            let report = bartizan_verify::verify_promise(&header, &verifier_key(&key)?, log.as_deref());
            told_result(global, &report, report.ok)
        }
        LogCommand::Search { query, view, oldest, limit, cursor } => {
            let mut body = search(&query, view.as_deref(), oldest);
            body.insert("limit".to_owned(), limit.into());
            body.extend(cursor.map(|c| ("cursor".to_owned(), c.into())));
            show(global, "POST", "/api/v1/log/search", Some(&Value::Object(body)), found_lines)
        }
        LogCommand::Export { format, query, view, out } => {
            export(&client(global)?, &format, search(&query, view.as_deref(), true), out.as_deref())
        }
        LogCommand::Compare { a, b, key } => {
            let comparison = bartizan_verify::compare(&a, &b, &verifier_key(&key)?);
            told_result(global, &comparison, comparison.ok)
        }
        LogCommand::Monitor { folder, state, key, policy, shared_nodes } => {
            let (key, policy) = (verifier_key(&key)?, trust_policy(policy.as_deref())?);
            let (policy, now) = (policy.as_ref(), SystemClock::new().now());
            let watch = bartizan_verify::Watch { key: &key, state: &state, policy, shared_nodes, now };
            let report = bartizan_verify::monitor(&folder, &watch);
            told_result(global, &report, report.ok)
        }
        LogCommand::Archive { folder, to, key } => {
            let key = verifier_key(&key)?;
            let report =
                archive(&folder, &to, &key, SystemClock::new().now()).map_err(|error| match error {
                    ArchiveError::Arguments(what) => Failure::usage(what),
                    ArchiveError::Io(..) => Failure::of(ExitCode::Failed, &error),
                })?;
            told_result(global, &report, report.ok)
        }
        LogCommand::Remove { period } => {
            show(global, "DELETE", &format!("/api/v1/log/{period}"), None, |removed| {
                let (origin, archive) = (text(removed, "/origin"), text(removed, "/archive"));
                let size = removed.pointer("/size").map_or_else(String::new, Value::to_string);
                format!("removed: {origin}, {size} entries; archived in {archive}")
            })
        }
        LogCommand::Show { folder, from, limit } => {
            let mut out = io::stdout();
            let shown = LogFolder::new(folder).write(from, limit, &mut out);
            shown.map_err(|e| Failure::of(ExitCode::Failed, &e))?;
            Ok(ExitCode::Ok)
        }
        LogCommand::Tail { folder, limit, follow } => {
            let (folder, mut out) = (LogFolder::new(folder), io::stdout());
            let failed = |e: LogFolderError| Failure::of(ExitCode::Failed, &e);
            let mut next = folder.size().map_err(failed)?.saturating_sub(limit);
            loop {
                next = folder.write(next, u64::MAX, &mut out).map_err(failed)?;
                if !follow {
                    return Ok(ExitCode::Ok);
                }
                out.flush()?;
                std::thread::sleep(Duration::from_millis(500));
            }
        }
        LogCommand::Checkpoint => show(global, "GET", "/api/v1/checkpoints", None, |v| {
            Table::of(v, &[("log", "/0"), ("size", "/1"), ("root", "/2")]).to_string()
        }),
        LogCommand::Proof { id, entry, witnessed } => {
            let kind = if witnessed { "/witnessed" } else { "" };
            let value = client(global)?.call("GET", &format!("/api/v1/decisions/{id}/proof{kind}"), None)?;
            if let Some(path) = entry {
                fs::write(&path, text(&value, "/entry"))?;
            }
            Output::new(global.output, io::stdout()).value(&value, |v| text(v, "/proof").to_owned())?;
            Ok(ExitCode::Ok)
        }
    }
}

/// The body of a search.
fn search(query: &str, view: Option<&str>, oldest: bool) -> serde_json::Map<String, Value> {
    let mut body = serde_json::Map::new();
    if !query.trim().is_empty() {
        body.insert("query".to_owned(), query.into());
    }
    body.extend(view.map(|view| ("view".to_owned(), view.into())));
    body.insert("first".to_owned(), if oldest { "oldest" } else { "newest" }.into());
    body
}

/// A line an entry, for people: when, what, who, about what, why, where.
fn found_lines(value: &Value) -> String {
    let mut out = String::new();
    for found in value.pointer("/entries").and_then(Value::as_array).into_iter().flatten() {
        let entry: Value = serde_json::from_str(text(found, "/entry")).unwrap_or(Value::Null);
        let time =
            entry.pointer("/time_us").and_then(Value::as_u64).map(bartizan_base::Timestamp::from_micros);
        let reasons =
            entry.pointer("/reasons").and_then(Value::as_array).map_or_else(String::new, |reasons| {
                let codes: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
                format!(" ({})", codes.join(", "))
            });
        let what = ["/kind", "/verdict", "/event", "/what/action", "/what/resource/name", "/end/how"];
        let what: Vec<&str> = what.iter().map(|p| text(&entry, p)).filter(|t| *t != "-").collect();
        let time = time.map_or_else(String::new, |t| t.to_string());
        let (who, index) = (text(&entry, "/who/subject"), found.pointer("/index").map(Value::to_string));
        out.push_str(&format!(
            "{time}  {}{reasons}  {who}  #{}\n",
            what.join(" "),
            index.unwrap_or_default()
        ));
    }
    if let Some(next) = value.pointer("/next").and_then(Value::as_str) {
        out.push_str(&format!("\nmore: --cursor {next}"));
    }
    out.trim_end().to_owned()
}

/// Takes entries along, 10,000 a request.
fn export(
    client: &Client,
    format: &str,
    mut search: serde_json::Map<String, Value>,
    out: Option<&Path>,
) -> Result<ExitCode, Failure> {
    if format == "parquet" && out.is_none() {
        return Err(Failure::usage("Parquet is no text: name a file with --out".to_owned()));
    }
    let mut written = 0_u32;
    loop {
        let body = json!({"format": format, "search": search});
        let (bytes, next) = client.bytes("/api/v1/log/export", &body, "bartizan-next")?;
        written += 1;
        match out {
            None => io::stdout().write_all(&bytes)?,
            Some(path) if written == 1 => fs::write(path, &bytes)?,
            Some(path) if format == "parquet" => {
                let mut name = path.as_os_str().to_owned();
                name.push(format!(".{written}"));
                fs::write(PathBuf::from(name), &bytes)?;
            }
            Some(path) => fs::OpenOptions::new().append(true).open(path)?.write_all(&bytes)?,
        }
        match next {
            Some(next) => drop(search.insert("cursor".to_owned(), next.into())),
            None => return Ok(ExitCode::Ok),
        }
    }
}

fn verifier_key(text: &str) -> Result<VerifierKey, Failure> {
    text.trim().parse().map_err(|e| Failure::usage(format!("--key: {e}")))
}

fn trust_policy(path: Option<&Path>) -> Result<Option<Policy>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let bytes = fs::read(path).map_err(|e| wrong(&e))?;
    Policy::parse(&bytes).map(Some).map_err(|e| wrong(&e))
}

fn told_result(
    global: &Global,
    result: &(impl std::fmt::Display + serde::Serialize),
    ok: bool,
) -> Result<ExitCode, Failure> {
    let value = serde_json::to_value(result).unwrap_or(Value::Null);
    Output::new(global.output, io::stdout()).value(&value, |_| result.to_string())?;
    Ok(if ok { ExitCode::Ok } else { ExitCode::Failed })
}
