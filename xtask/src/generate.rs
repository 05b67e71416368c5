//! Reference pages, written from the code that they describe.

use std::fmt::Write as _;
use std::fs;

use bartizan_cli::ExitCode;
use bartizan_model::{Action, ReasonCode};

use crate::{Failure, records, root};

/// Writes the pages, or says which are not current.
pub(crate) fn run(check: bool) -> Result<(), Failure> {
    let pages = [
        ("reason-codes.md", reason_codes()),
        ("actions.md", actions()),
        ("configuration.md", configuration()),
        ("control-api.md", control_api()),
        ("openapi.json", format!("{:#}\n", bartizan_api::openapi())),
        ("decision-openapi.json", format!("{:#}\n", bartizan_gateway::decision_openapi())),
        ("metrics.md", metrics()),
        ("cli.md", cli()),
        ("ids.md", ids()),
        ("query.md", format!("# Query language\n{NOTE}\n{}", bartizan_query::reference_page())),
        ("records.md", records::page(NOTE)),
        ("record.schema.json", format!("{:#}\n", records::schema())),
    ];
    let mut stale = Vec::new();
    for (name, text) in pages {
        let path = root().join("docs/reference").join(name);
        let same = fs::read_to_string(&path).is_ok_and(|present| present == text);
        if check && !same {
            stale.push(name);
        } else if !same {
            fs::create_dir_all(root().join("docs/reference")).map_err(|e| e.to_string())?;
            fs::write(&path, text).map_err(|e| e.to_string())?;
        }
    }
    if stale.is_empty() {
        Ok(())
    } else {
        Err(format!("not current: {}; run `cargo xtask generate`", stale.join(", ")))
    }
}

const NOTE: &str = "\nGenerated from the code by `cargo xtask generate`; do not edit.\n";

fn page(title: &str, head: &str, rows: impl Iterator<Item = String>) -> String {
    let columns = head.matches('|').count() - 1;
    let mut out = format!("# {title}\n{NOTE}\n{head}\n|{}\n", "---|".repeat(columns));
    rows.for_each(|row| out.push_str(&(row + "\n")));
    out
}

fn reason_codes() -> String {
    page(
        "Reason codes",
        "| code | HTTP | means | way forward |",
        ReasonCode::ALL.iter().map(|r| {
            format!("| `{}` | {} | {} | {} |", r.code(), r.status(), r.meaning().trim(), r.way_forward())
        }),
    )
}

fn actions() -> String {
    page(
        "Actions",
        "| action | resource | means |",
        Action::ALL
            .iter()
            .map(|a| format!("| `{}` | {} | {} |", a.name(), a.resource_type(), a.meaning().trim())),
    )
}

fn configuration() -> String {
    page(
        "Configuration",
        "| setting | variable | default | means |",
        bartizan::config::SETTINGS.iter().map(|s| {
            let default = if s.default.is_empty() { "-".to_owned() } else { format!("`{}`", s.default) };
            format!("| `{}` | `{}` | {default} | {} |", s.path, s.variable(), s.meaning)
        }),
    )
}

fn control_api() -> String {
    page(
        "Control API",
        "| method | path | action | does |",
        bartizan_api::ROUTES
            .iter()
            .map(|r| format!("| {} | `{}` | `{}` | {} |", r.method, r.path, r.action, r.meaning)),
    )
}

fn metrics() -> String {
    page(
        "Metrics",
        "| metric | kind | means |",
        bartizan::metrics_reference()
            .into_iter()
            .map(|(name, kind, help)| format!("| `{name}` | {kind} | {help} |")),
    )
}

fn ids() -> String {
    page(
        "Identifiers",
        "| prefix | names |",
        bartizan_base::id::kinds::ALL.iter().map(|(prefix, kind)| format!("| `{prefix}_` | {kind} |")),
    )
}

fn cli() -> String {
    let mut out = format!("# Command line\n{NOTE}\n");
    describe(&mut out, &bartizan_cli::command(), "");
    out.push_str("## Exit codes\n\n| code | means |\n|---|---|\n");
    for code in ExitCode::ALL {
        writeln!(out, "| {} | {} |", code.number(), code.meaning()).unwrap_or_default();
    }
    out
}

fn describe(out: &mut String, command: &bartizan_cli::ClapCommand, above: &str) {
    let name = format!("{above} {}", command.get_name()).trim().to_owned();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    write!(out, "## `{name}`\n\n{about}\n\n").unwrap_or_default();
    for argument in command.get_arguments().filter(|a| !matches!(a.get_id().as_str(), "help" | "version")) {
        let flag = argument
            .get_long()
            .map_or_else(|| format!("<{}>", argument.get_id().as_str().to_uppercase()), |l| format!("--{l}"));
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(out, "- `{flag}`: {help}").unwrap_or_default();
    }
    if command.get_arguments().next().is_some() {
        out.push('\n');
    }
    for sub in command.get_subcommands() {
        describe(out, sub, &name);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_pages_are_current() {
        assert_eq!(super::run(true), Ok(()));
    }
}
