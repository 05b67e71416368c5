//! `bartizan tool`: what servers of tools offer, and what of it is approved.

use bartizan_cli::{ExitCode, Global, Table, ToolCommand};
use serde_json::{Map, Value, json};

use crate::commands::{Failure, client, show, text};

pub(crate) fn run(global: &Global, command: ToolCommand) -> Result<ExitCode, Failure> {
    match command {
        ToolCommand::List { server } => show(global, "GET", &path(&server), None, table),
        ToolCommand::Approve { server, names, all } => {
            let offered = client(global)?.call("GET", &path(&server), None)?;
            let offered: Map<String, Value> = offered
                .as_array()
                .into_iter()
                .flatten()
                .filter(|one| text(one, "/standing") != "unusable")
                .filter_map(|one| Some((text(one, "/name").to_owned(), one.get("digest")?.clone())))
                .collect();
            let tools = if all { offered } else { chosen(&names, &offered)? };
            let body = json!({"tools": tools});
            show(global, "POST", &format!("{}/approve", path(&server)), Some(&body), table)
        }
    }
}

/// The digests of what is named: as somebody has looked at it, or as it is now.
fn chosen(names: &[String], offered: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let one = |given: &String| {
        if let Some((name, digest)) = given.split_once('=') {
            return Ok((name.to_owned(), json!(digest)));
        }
        let digest = offered.get(given).cloned();
        let digest = digest.ok_or_else(|| Failure::usage(format!("the server offers no `{given}`")));
        digest.map(|digest| (given.clone(), digest))
    };
    names.iter().map(one).collect()
}

fn path(server: &str) -> String {
    format!("/api/v1/tools/{server}")
}

fn table(value: &Value) -> String {
    let fields = [
        ("name", "/name"),
        ("standing", "/standing"),
        ("digest", "/digest"),
        ("approved", "/approved"),
        ("description", "/definition/description"),
    ];
    Table::of(value, &fields).to_string()
}
