//! Declared things and upstreams, on the command line.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use bartizan_cli::{ExitCode, Global, ResourceCommand, Table, UpstreamCommand};
use bartizan_wire::api::operations_of;
use serde_json::{Value, json};

use crate::commands::{Failure, client, show};

const RESOURCE_FIELDS: &[(&str, &str)] =
    &[("kind", "/spec/kind"), ("name", "/name"), ("revision", "/revision")];

pub(crate) fn run(global: &Global, command: ResourceCommand) -> Result<ExitCode, Failure> {
    match command {
        ResourceCommand::Apply { file } => {
            let body = read_documents(&file)?;
            show(global, "POST", "/api/v1/resources", Some(&body), |v| {
                Table::of(v, RESOURCE_FIELDS).to_string()
            })
        }
        ResourceCommand::FromOpenapi { file, name, upstream, only } => {
            from_openapi(&file, (&name, &upstream), &only)
        }
        ResourceCommand::List { kind } => {
            let path =
                kind.map_or_else(|| "/api/v1/resources".to_owned(), |k| format!("/api/v1/resources/{k}"));
            show(global, "GET", &path, None, |v| Table::of(v, RESOURCE_FIELDS).to_string())
        }
        ResourceCommand::Delete { kind, name } => {
            show(global, "DELETE", &format!("/api/v1/resources/{kind}/{name}"), None, |_| {
                format!("removed {kind} {name}")
            })
        }
    }
}

/// The route of an external API, out of its description; what is not in it goes to standard error.
fn from_openapi(file: &Path, (name, upstream): (&str, &str), only: &[String]) -> Result<ExitCode, Failure> {
    let text = fs::read(file).map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    let invalid = |text: String| Failure::new(ExitCode::Invalid, format!("{}: {text}", file.display()));
    let (mut operations, left) = operations_of(&text).map_err(|error| invalid(error.to_string()))?;
    if let Some(unknown) = only.iter().find(|name| !operations.iter().any(|o| *o.name == ***name)) {
        return Err(invalid(format!("there is no operation `{unknown}` that can be brokered")));
    }
    operations.retain(|operation| only.is_empty() || only.iter().any(|name| *operation.name == **name));
    for left in left {
        writeln!(io::stderr(), "left out: {left}")?;
    }
    let spec = json!({"kind": "api_route", "upstream": upstream, "operations": operations});
    let documents = json!([{"name": name, "spec": spec}]);
    let pretty = serde_json::to_string_pretty(&documents).map_err(|error| invalid(error.to_string()))?;
    io::stdout().write_all(pretty.as_bytes())?;
    io::stdout().write_all(b"\n")?;
    Ok(ExitCode::Ok)
}

/// The documents of a file: `[[resource]]` tables in TOML, or an array in JSON.
fn read_documents(file: &Path) -> Result<Value, Failure> {
    let text = fs::read_to_string(file).map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    let invalid = |e: String| Failure::new(ExitCode::Invalid, format!("{}: {e}", file.display()));
    if file.extension().is_some_and(|e| e == "json") {
        return serde_json::from_str(&text).map_err(|e| invalid(e.to_string()));
    }
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| invalid(e.to_string()))?;
    let documents = table.get("resource").ok_or_else(|| invalid("no `[[resource]]` table".to_owned()))?;
    serde_json::to_value(documents).map_err(|e| invalid(e.to_string()))
}

pub(crate) fn upstream(global: &Global, command: UpstreamCommand) -> Result<ExitCode, Failure> {
    match command {
        UpstreamCommand::Add { name, url, x_api_key, allow_private, credential_stdin } => {
            if credential_stdin {
                let mut credential = String::new();
                io::stdin().read_to_string(&mut credential)?;
                client(global)?.call(
                    "PUT",
                    &format!("/api/v1/credentials/{name}"),
                    Some(&json!({"credential": credential.trim()})),
                )?;
            }
            let credential = if credential_stdin { json!(name) } else { Value::Null };
            let auth = if x_api_key { "x_api_key" } else { "bearer" };
            let spec = json!({"kind": "upstream", "base_url": url, "allow_private": allow_private, "auth": auth, "credential": credential});
            show(global, "POST", "/api/v1/resources", Some(&json!([{"name": name, "spec": spec}])), |v| {
                Table::of(v, RESOURCE_FIELDS).to_string()
            })
        }
        UpstreamCommand::Test { name } => {
            show(global, "POST", &format!("/api/v1/upstreams/{name}/test"), None, |v| {
                format!(
                    "answered with status {} after {} µs",
                    v.pointer("/status").unwrap_or(&Value::Null),
                    v.pointer("/took_us").unwrap_or(&Value::Null)
                )
            })
        }
    }
}
