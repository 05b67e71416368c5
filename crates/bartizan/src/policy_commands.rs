//! `bartizan policy`: bundles planned, put in force, tried, rolled back, signed.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bartizan_base::Name;
use bartizan_cli::{Client, ClientError, ExitCode, Global, Output, ShadowCommand};
use bartizan_decide::Bundle;
use bartizan_keys::{AuthorKey, PolicySignatureError, PrintedError};
use bartizan_model::Tenant;
use bartizan_rt::SystemRandom;
use bartizan_secret::Secret;
use serde_json::{Map, Value, json};

use crate::commands::{Failure, client, show, text};
use crate::offline::{read_bundle, seconds};

pub(crate) fn bundle(folder: &Path) -> Result<Bundle, Failure> {
    read_bundle(folder).map_err(|e| Failure::usage(format!("{}: {e}", folder.display())))
}

fn present(client: &Client) -> Result<u64, Failure> {
    match client.call("GET", "/api/v1/policy", None) {
        Ok(value) => Ok(number(&value, "/version")),
        Err(ClientError::Refused { status: 404, .. }) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
}

fn signatures(files: &[PathBuf]) -> Result<Vec<String>, Failure> {
    files.iter().map(|path| Ok(read(path)?.trim().to_owned())).collect()
}

fn in_force(value: &Value) -> String {
    let mut out =
        format!("in force: version {}, digest {}", number(value, "/version"), text(value, "/digest"));
    if let Some(version) = value.pointer("/restores").and_then(Value::as_u64) {
        out.push_str(&format!("\n  returned to version {version}"));
    }
    if let Some(candidate) = value.pointer("/candidate").filter(|c| !c.is_null()) {
        out.push_str(&format!("\n  beside it: {}", candidate_text(candidate)));
    }
    out
}

fn candidate_text(candidate: &Value) -> String {
    let digest = text(candidate, "/digest");
    match candidate.pointer("/shadow_permille").and_then(Value::as_u64) {
        Some(permille) => format!("{digest}, shadowing {permille} of 1000 decisions"),
        None => {
            let groups: Vec<_> = items(candidate, "/groups").filter_map(Value::as_str).collect();
            let groups =
                if groups.is_empty() { String::new() } else { format!(" and {}", groups.join(", ")) };
            format!("{digest}, in force for {} of 100 callers{groups}", number(candidate, "/percent"))
        }
    }
}

/// Puts a bundle in force: of a folder, of a plan's file, or of a folder by the digest of its plan.
pub(crate) fn apply(
    global: &Global,
    folder: Option<&Path>,
    plan: Option<&str>,
    signed: &[PathBuf],
) -> Result<ExitCode, Failure> {
    let client = client(global)?;
    let file = plan.map(Path::new).filter(|path| path.is_file());
    let mut body = match (file, folder) {
        (Some(path), None) => {
            let plan: Value = serde_json::from_str(&read(path)?).map_err(|e| {
                Failure::new(ExitCode::Invalid, format!("not a plan of `policy plan --out`: {e}"))
            })?;
            json!({"files": plan.pointer("/files"), "expect": plan.pointer("/base"), "plan": plan.pointer("/plan")})
        }
        (None, Some(folder)) => {
            let mut body = json!({"files": bundle(folder)?.files, "expect": present(&client)?});
            if let (Some(digest), Some(body)) = (plan, body.as_object_mut()) {
                body.insert("plan".to_owned(), digest.into());
            }
            body
        }
        (Some(_), Some(_)) => {
            return Err(Failure::usage("the file of a plan holds its bundle; leave the folder out"));
        }
        (None, None) => return Err(Failure::usage("name a folder, or a plan's file with `--plan`")),
    };
    if let Some(body) = body.as_object_mut().filter(|_| !signed.is_empty()) {
        body.insert("signatures".to_owned(), json!(signatures(signed)?));
    }
    let value = client.call("PUT", "/api/v1/policy", Some(&body))?;
    Output::new(global.output, io::stdout()).value(&value, in_force)?;
    Ok(ExitCode::Ok)
}

pub(crate) fn plan(
    global: &Global,
    folder: &Path,
    since: Option<&str>,
    prove: Option<&str>,
    out: Option<&Path>,
) -> Result<ExitCode, Failure> {
    let files = bundle(folder)?.files;
    let mut body = json!({"files": files});
    let prove = prove.map(|limit| if limit == "0s" { Ok(0) } else { window(limit) }).transpose()?;
    if let Some(body) = body.as_object_mut() {
        if let Some(since) = since {
            body.insert("since_s".to_owned(), window(since)?.into());
        }
        if let Some(limit) = prove {
            body.insert("prove_s".to_owned(), limit.into());
        }
    }
    let value = client(global)?.call("POST", "/api/v1/policy/plan", Some(&body))?;
    if let Some(out) = out {
        let mut whole = value.as_object().cloned().unwrap_or_else(Map::new);
        whole.insert("files".to_owned(), json!(files));
        let bytes = serde_json::to_vec_pretty(&whole).unwrap_or_default();
        fs::write(out, bytes).map_err(|e| Failure::usage(format!("{}: {e}", out.display())))?;
    }
    Output::new(global.output, io::stdout()).value(&value, planned)?;
    Ok(ExitCode::Ok)
}

pub(crate) fn window(since: &str) -> Result<u64, Failure> {
    seconds(since)
        .ok_or_else(|| Failure::usage(format!("`{since}` is not a duration; write such as `7d` or `12h`")))
}

fn planned(value: &Value) -> String {
    let mut out = format!(
        "plan {}\n  on version {}, bundle {}\n",
        text(value, "/plan"),
        number(value, "/base"),
        text(value, "/bundle")
    );
    for rule in items(value, "/difference/rules") {
        let sign = match text(rule, "/became") {
            "added" => "+",
            "removed" => "-",
            _ => "~",
        };
        let (id, effect, widens) = (text(rule, "/id"), text(rule, "/effect"), text(rule, "/widens"));
        out.push_str(&format!("  {sign} {id} ({effect}), widens: {widens}\n"));
    }
    for schema in items(value, "/difference/schemas").filter_map(Value::as_str) {
        out.push_str(&format!("  ~ {schema}: another vocabulary\n"));
    }
    if let Some(zone) = value.pointer("/difference/zone").filter(|z| !z.is_null()) {
        out.push_str(&format!("  ~ time zone: {} instead of {}\n", text(zone, "/1"), text(zone, "/0")));
    }
    let nothing =
        items(value, "/difference/rules").chain(items(value, "/difference/schemas")).next().is_none();
    if nothing {
        out.push_str("  no rule and no schema changes\n");
    }
    out.push_str(&format!("  widens as a whole: {}\n", text(value, "/difference/widens")));
    if let Some(proof) = value.pointer("/proof").filter(|p| !p.is_null()) {
        out.push_str(&proven(proof));
    }
    out.push_str(&format!(
        "  tests: {} run, {} failed\n",
        number(value, "/tests/run"),
        items(value, "/tests/failed").count()
    ));
    for failed in items(value, "/tests/failed").filter_map(Value::as_str) {
        out.push_str(&format!("    {failed}\n"));
    }
    for why in items(value, "/refused").filter_map(Value::as_str) {
        out.push_str(&format!("  would be refused: {why}\n"));
    }
    if let Some(replay) = value.pointer("/replay").filter(|r| !r.is_null()) {
        out.push_str(&crate::replay_commands::preview(replay));
    }
    if let Some(why) = value.pointer("/replay_absent").and_then(Value::as_str) {
        out.push_str(&format!("  recorded decisions: not shown: {why}\n"));
    }
    out.trim_end().to_owned()
}

/// What the solver says.
fn proven(proof: &Value) -> String {
    let detail = text(proof, "/detail");
    let mut out = match text(proof, "/outcome") {
        "proven" => "  proof: nothing new is permitted\n".to_owned(),
        "refuted" => "  proof: something new is permitted\n".to_owned(),
        "unavailable" => format!("  proof: unavailable: {detail}\n"),
        _ => format!("  proof: not proven: {detail}\n"),
    };
    for permit in items(proof, "/new_permits") {
        if let Some(rule) = permit.pointer("/rule").and_then(Value::as_str) {
            out.push_str(&format!("    by `{rule}`:\n"));
        }
        indented(&mut out, text(permit, "/words"));
        match permit.pointer("/test").and_then(Value::as_str) {
            Some(test) => {
                out.push_str("      As a policy test, for a file in `tests/`:\n\n");
                indented(&mut out, test);
            }
            None => out.push_str(&format!("      no policy test: {}\n", text(permit, "/untold"))),
        }
    }
    for rule in items(proof, "/not_looked_at").filter_map(Value::as_str) {
        out.push_str(&format!("    `{rule}`: not looked at to the end; `--prove 45s` takes longer\n"));
    }
    for remark in items(proof, "/remarks").filter_map(Value::as_str) {
        out.push_str(&format!("    note: {remark}\n"));
    }
    out
}

fn indented(out: &mut String, text: &str) {
    for line in text.lines() {
        out.push_str(&format!("      {line}\n"));
    }
}

pub(crate) fn rollback(global: &Global, to: u64) -> Result<ExitCode, Failure> {
    show(global, "POST", "/api/v1/policy/rollback", Some(&json!({"to": to})), in_force)
}

fn candidate(
    global: &Global,
    mut body: Value,
    folder: Option<&Path>,
    signed: &[PathBuf],
) -> Result<ExitCode, Failure> {
    if let Some(members) = body.as_object_mut() {
        if let Some(folder) = folder {
            members.insert("files".to_owned(), json!(bundle(folder)?.files));
        }
        if !signed.is_empty() {
            members.insert("signatures".to_owned(), json!(signatures(signed)?));
        }
    }
    show(global, "PUT", "/api/v1/policy/candidate", Some(&body), in_force)
}

pub(crate) fn shadow(global: &Global, command: &ShadowCommand) -> Result<ExitCode, Failure> {
    match command {
        ShadowCommand::Start { folder, permille, signature } => {
            candidate(global, json!({"shadow_permille": permille}), Some(folder), signature)
        }
        ShadowCommand::Status => show(global, "GET", "/api/v1/policy/candidate", None, trial),
        ShadowCommand::Stop => show(global, "DELETE", "/api/v1/policy/candidate", None, in_force),
    }
}

pub(crate) fn rollout(
    global: &Global,
    folder: Option<&Path>,
    percent: Option<u8>,
    groups: &[String],
    abort: bool,
    signed: &[PathBuf],
) -> Result<ExitCode, Failure> {
    if abort {
        return show(global, "DELETE", "/api/v1/policy/candidate", None, in_force);
    }
    let Some(percent) = percent.or_else(|| (!groups.is_empty()).then_some(0)) else {
        return Err(Failure::usage("say `--percent`, `--group` or `--abort`"));
    };
    candidate(global, json!({"percent": percent, "groups": groups}), folder, signed)
}

fn trial(value: &Value) -> String {
    let Some(candidate) = value.pointer("/candidate").filter(|c| !c.is_null()) else {
        return "there is no candidate".to_owned();
    };
    let mut out = format!(
        "{}\n  compared {}, of which {} come out otherwise; {} not compared for want of time, {} failed\n",
        candidate_text(candidate),
        number(value, "/compared"),
        number(value, "/flips"),
        number(value, "/dropped"),
        number(value, "/failed")
    );
    out.push_str(&crate::replay_commands::groups(value));
    out.trim_end().to_owned()
}

/// An author's key, on standard output once.
pub(crate) fn key(global: &Global) -> Result<ExitCode, Failure> {
    let failed = |e: PolicySignatureError| Failure::new(ExitCode::Failed, e.to_string());
    let key = AuthorKey::generate(&SystemRandom::new()).map_err(failed)?;
    let public = key.public().map_err(failed)?.to_string();
    let value = json!({"public": public, "private": key.text().expose()});
    Output::new(global.output, io::stdout()).value(&value, |_| {
        format!(
            "Public, for the setting `policy.signers` of every node:\n\n  {public}\n\nPrivate, shown once; for its author alone:\n\n  {}",
            key.text().expose()
        )
    })?;
    Ok(ExitCode::Ok)
}

/// Signs a bundle with the key on standard input. Needs no server.
pub(crate) fn sign(folder: &Path, base: u64, tenant: &str) -> Result<ExitCode, Failure> {
    let tenant: Name = tenant.parse().map_err(|e| Failure::usage(format!("`{tenant}`: {e}")))?;
    let bundle = bundle(folder)?;
    let mut key = String::new();
    io::stdin().read_to_string(&mut key)?;
    let key = Secret::new(key);
    let key: AuthorKey =
        key.expose().trim().parse().map_err(|e: PrintedError| Failure::usage(e.to_string()))?;
    let signature = key
        .sign(&Tenant(tenant), base, bundle.digest())
        .map_err(|e| Failure::new(ExitCode::Failed, e.to_string()))?;
    writeln!(io::stdout(), "{}", String::from(signature))?;
    Ok(ExitCode::Ok)
}
