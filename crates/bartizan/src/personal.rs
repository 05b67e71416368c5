//! Commands about personal data: subjects, the vault, what was kept of a decision.

use std::fs;
use std::io;

use bartizan_cli::{ExitCode, Global, Output, SubjectCommand, Table, VaultCommand};
use serde_json::{Value, json};

use crate::commands::{Failure, show, text};
use crate::recover::{refused, stopped};

/// The path of somebody: `user/alice` as it is, a pseudonym as a principal.
fn path(subject: &str) -> Result<String, Failure> {
    if subject.starts_with("prn_") && !subject.contains('/') {
        return Ok(format!("/api/v1/subjects/principal/{subject}"));
    }
    let known = subject.split_once('/').filter(|(kind, name)| {
        ["user", "agent", "workload"].contains(kind) && !name.is_empty() && !name.contains('/')
    });
    known.map(|_| format!("/api/v1/subjects/{subject}")).ok_or_else(|| {
        Failure::usage(format!("`{subject}`: expected user/NAME, agent/NAME, workload/NAME or prn_…"))
    })
}

pub(crate) fn subject(global: &Global, command: &SubjectCommand) -> Result<ExitCode, Failure> {
    match command {
        SubjectCommand::Erase { subject, basis } => {
            let to = format!("{}/erase", path(subject)?);
            show(global, "POST", &to, Some(&json!({"basis": basis})), |v| {
                format!(
                    "Erased: {} values and {} payloads, recorded without a name as {}.\nWhat proves whose it was, kept nowhere else: {}",
                    v.pointer("/items").unwrap_or(&Value::Null),
                    v.pointer("/payloads").unwrap_or(&Value::Null),
                    text(v, "/erasure"),
                    text(v, "/opening")
                )
            })
        }
        SubjectCommand::Hold { subject, name, basis } => {
            let to = format!("{}/holds/{name}", path(subject)?);
            show(global, "PUT", &to, Some(&json!({"basis": basis})), |_| format!("held: {name}"))
        }
        SubjectCommand::Release { subject, name } => {
            let to = format!("{}/holds/{name}", path(subject)?);
            show(global, "DELETE", &to, None, |_| format!("released: {name}"))
        }
        SubjectCommand::Holds { subject } => {
            let to = format!("{}/holds", path(subject)?);
            let fields = [("name", "/name"), ("placed", "/placed"), ("basis", "/basis")];
            show(global, "GET", &to, None, |v| Table::of(v, &fields).to_string())
        }
    }
}

pub(crate) fn content(global: &Global, id: &str) -> Result<ExitCode, Failure> {
    show(global, "GET", &format!("/api/v1/decisions/{id}/content"), None, |v| {
        let mut out = String::new();
        let circumstances = v.pointer("/circumstances").and_then(Value::as_object);
        for (name, field) in circumstances.into_iter().flatten() {
            out.push_str(&format!("{name} ({}): {}\n", text(field, "/state"), text(field, "/value")));
        }
        for name in ["prompt", "output"] {
            if let Some(payload) = v.get(name).filter(|payload| !payload.is_null()) {
                out.push_str(&format!("{name} ({}):\n{}\n", text(payload, "/state"), text(payload, "/text")));
            }
        }
        out
    })
}

pub(crate) fn vault(global: &Global, command: VaultCommand) -> Result<ExitCode, Failure> {
    match command {
        // The list itself, in either form: it is for a file.
        VaultCommand::Erasures => show(global, "GET", "/api/v1/erasures", None, ToString::to_string),
        VaultCommand::Reapply { data_folder, file } => {
            let bytes = fs::read(&file).map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
            let erasures = serde_json::from_slice(&bytes).map_err(|e| {
                Failure::new(
                    ExitCode::Invalid,
                    format!("{}: not a list of `vault erasures`: {e}", file.display()),
                )
            })?;
            stopped(global, data_folder, async |control| {
                let new = control.reapply_erasures(erasures).await.map_err(|problem| refused(&problem))?;
                Output::new(global.output, io::stdout()).value(&json!({"erasures": new}), |_| {
                    format!("{new} erasures were new to this vault and are done again")
                })?;
                Ok(())
            })
        }
    }
}
