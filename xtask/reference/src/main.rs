//! Reference pages, written from the code that they describe. Without `--check` writes them; with it says which are not current.

#![expect(clippy::print_stdout, reason = "a developer's tool that talks to a terminal")]

mod records;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode as ProcessExit;

use bartizan_cli::ExitCode;
use bartizan_decide::facts::{CONTEXT, PolicyFact, RECORDS, TYPES};
use bartizan_model::{Action, ReasonCode};

/// What went wrong, in words.
type Failure = String;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map_or_else(PathBuf::new, Path::to_owned)
}

fn main() -> ProcessExit {
    match run(std::env::args().nth(1).as_deref() == Some("--check")) {
        Ok(()) => ProcessExit::SUCCESS,
        Err(failure) => {
            println!("error: {failure}");
            ProcessExit::FAILURE
        }
    }
}

/// Writes the pages, or says which are not current.
fn run(check: bool) -> Result<(), Failure> {
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
        ("policy-facts.md", policy_facts()),
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

fn policy_facts() -> String {
    const HEAD: &str = "| fact | type | unit | from | oldest | means |\n|---|---|---|---|---|---|\n";
    let row = |out: &mut String, fact: &PolicyFact| {
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let optional = if fact.optional { "?" } else { "" };
        let age = fact.age_max_s.map_or_else(|| "-".to_owned(), |s| format!("{s} s"));
        let later = if fact.later { " Not supplied yet: always absent." } else { "" };
        let (name, kind, unit, from) = (fact.name, fact.kind, dash(fact.unit), fact.source.name());
        writeln!(
            out,
            "| `{name}`{optional} | `{kind}` | {unit} | {from} | {age} | {}{later} |",
            fact.meaning
        )
        .unwrap_or_default();
    };
    let mut out = format!(
        "# Facts of policies\n{NOTE}\nA `?` marks what can be absent: rules guard it with `has`, and what needs it is denied without it. What is older than \
         `oldest` is absent and noted in the evidence as stale. How bundles add words of their own: [vocabulary](../vocabulary.md).\n\n\
         ## `context`\n\n{HEAD}"
    );
    CONTEXT.iter().for_each(|fact| row(&mut out, fact));
    for (name, facts) in RECORDS {
        write!(out, "\n### `{name}`\n\n{HEAD}").unwrap_or_default();
        facts.iter().for_each(|fact| row(&mut out, fact));
    }
    out.push_str("\n## Types\n");
    for kind in TYPES {
        write!(out, "\n### `{}`\n\n{}", kind.name, kind.meaning).unwrap_or_default();
        if !kind.within.is_empty() {
            let within: Vec<String> = kind.within.iter().map(|name| format!("`{name}`")).collect();
            write!(out, " In {}.", within.join(", ")).unwrap_or_default();
        }
        out.push('\n');
        if !kind.facts.is_empty() {
            write!(out, "\n{HEAD}").unwrap_or_default();
            kind.facts.iter().copied().flatten().for_each(|fact| row(&mut out, fact));
        }
    }
    out
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
    let row = |method, path, action, meaning| format!("| {method} | `{path}` | `{action}` | {meaning} |");
    let routes = bartizan_api::ROUTES.iter().map(|r| row(r.method, r.path, r.action, r.meaning));
    let mounted = bartizan_api::MOUNTED.iter().flat_map(|(_, table)| *table);
    let mounted = mounted.map(|d| row(d.method, d.path, d.action, d.meaning));
    page("Control API", "| method | path | action | does |", routes.chain(mounted))
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
