//! `bartizan decision replay`: one decision bit for bit, or many under a draft.

use std::fs;
use std::io;
use std::path::Path;

use bartizan_cli::{ExitCode, Global, Output};
use bartizan_control::Material;
use serde_json::{Value, json};

use crate::commands::{Failure, client, text};
use crate::policy_commands::{bundle, items, number, window};

/// Decides one recorded decision again; with `save` also takes along what it follows from.
pub(crate) fn one(global: &Global, id: &str, save: Option<&Path>) -> Result<ExitCode, Failure> {
    let client = client(global)?;
    if let Some(path) = save {
        let material = client.call("GET", &format!("/api/v1/decisions/{id}/material"), None)?;
        let bytes = serde_json::to_vec_pretty(&material).unwrap_or_default();
        fs::write(path, bytes).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    }
    let value = client.call("GET", &format!("/api/v1/decisions/{id}/replay"), None)?;
    told(global, &value)
}

/// Decides a decision again from what was saved of it. Needs no server, and trusts none.
pub(crate) fn saved(global: &Global, path: &Path) -> Result<ExitCode, Failure> {
    let bytes = fs::read(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    let material: Material = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::new(ExitCode::Invalid, format!("not from `decision replay --save`: {e}")))?;
    let value = match material.replay() {
        Ok((recorded, differences)) => json!({
            "decision": recorded.id, "same": differences.is_empty(), "differences": differences,
            "verdict": recorded.outcome.verdict, "rules": recorded.outcome.grounds.rules,
            "policy": recorded.outcome.grounds.policy
        }),
        Err(why) => json!({"not_replayable": why}),
    };
    told(global, &value)
}

fn told(global: &Global, value: &Value) -> Result<ExitCode, Failure> {
    Output::new(global.output, io::stdout()).value(value, |v| {
        if let Some(why) = v.pointer("/not_replayable").and_then(Value::as_str) {
            return format!("not replayable: {why}");
        }
        let rules: Vec<_> = items(v, "/rules").filter_map(Value::as_str).collect();
        let mut out =
            format!("{} by [{}], bundle {}\n", text(v, "/verdict"), rules.join(", "), text(v, "/policy"));
        match v.pointer("/same").and_then(Value::as_bool) {
            Some(true) => out.push_str("the same again: verdict, rules, obligations and every digest"),
            _ => {
                out.push_str("NOT THE SAME AGAIN. Something that decides has changed, or a record lies:\n");
                items(v, "/differences")
                    .filter_map(Value::as_str)
                    .for_each(|d| out.push_str(&format!("  {d}\n")));
            }
        }
        out
    })?;
    Ok(ended(value))
}

/// Explains one recorded decision.
pub(crate) fn explain(global: &Global, id: &str) -> Result<ExitCode, Failure> {
    let value = client(global)?.call("GET", &format!("/api/v1/decisions/{id}/explanation"), None)?;
    Output::new(global.output, io::stdout()).value(&value, |v| {
        let list = |pointer| items(v, pointer).filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        let mut out = format!("{id} at {}, bundle {}\n", text(v, "/at"), text(v, "/policy"));
        if let Some(why) = v.pointer("/not_replayable").and_then(Value::as_str) {
            let (verdict, reasons, rules) = (text(v, "/verdict"), list("/reasons"), list("/rules"));
            out.push_str(&format!(
                "on record: {verdict} [{reasons}] by [{rules}]\nno more can be told: {why}\n"
            ));
        }
        if v.pointer("/same").and_then(Value::as_bool) == Some(false) {
            out.push_str("NOT THE SAME AGAIN. What follows is what comes out now, not what is on record:\n");
            items(v, "/differences")
                .filter_map(Value::as_str)
                .for_each(|d| out.push_str(&format!("  {d}\n")));
        }
        out.push_str(v.pointer("/text").and_then(Value::as_str).unwrap_or_default());
        out.trim_end().to_owned()
    })?;
    Ok(ended(&value))
}

/// How a decision that was made again ends a command.
fn ended(value: &Value) -> ExitCode {
    match value.pointer("/same").and_then(Value::as_bool) {
        Some(true) => ExitCode::Ok,
        Some(false) => ExitCode::Denied,
        None => ExitCode::Failed,
    }
}

/// Decides recorded decisions again under a draft.
pub(crate) fn under(
    global: &Global,
    folder: &Path,
    since: &str,
    limit: Option<u64>,
) -> Result<ExitCode, Failure> {
    let body = json!({"files": bundle(folder)?.files, "since_s": window(since)?, "limit": limit});
    let value = client(global)?.call("POST", "/api/v1/decisions/replay", Some(&body))?;
    Output::new(global.output, io::stdout()).value(&value, |v| preview(v).trim_end().to_owned())?;
    Ok(if number(&value, "/flips") == 0 { ExitCode::Ok } else { ExitCode::Denied })
}

/// What becomes of recorded decisions, for people.
pub(crate) fn preview(value: &Value) -> String {
    let mut out = format!(
        "{} decisions since {}: {} unchanged, {} come out otherwise\n",
        number(value, "/decisions"),
        text(value, "/since"),
        number(value, "/unchanged"),
        number(value, "/flips")
    );
    out.push_str(&groups(value));
    for subject in items(value, "/subjects") {
        let id = text(subject, "/subject");
        let who = subject.pointer("/name").and_then(Value::as_str).unwrap_or(id);
        let (loses, gains) = (number(subject, "/loses"), number(subject, "/gains"));
        out.push_str(&format!("  {who}: loses {loses}, gains {gains}\n"));
    }
    for (why, count) in value.pointer("/not_replayable").and_then(Value::as_object).into_iter().flatten() {
        out.push_str(&format!("  not replayable, {why}: {count}\n"));
    }
    if value.pointer("/truncated").and_then(Value::as_bool) == Some(true) {
        out.push_str("  there are more; raise `--limit`\n");
    }
    out
}

/// Flips by the rules that make them.
pub(crate) fn groups(value: &Value) -> String {
    let mut out = String::new();
    for group in items(value, "/groups") {
        let list = |pointer| items(group, pointer).filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        out.push_str(&format!(
            "  {} → {} by [{}]: {}, such as {}\n",
            text(group, "/from"),
            text(group, "/to"),
            list("/rules"),
            number(group, "/count"),
            list("/examples")
        ));
    }
    out
}
