//! The whole check: installs what is missing, then runs every step and says how long each took.

use std::process::Command;
use std::time::Instant;

use crate::{Failure, root};

struct Step {
    name: &'static str,
    command: &'static str,
}

/// One choice of features for the whole workspace in every step: another choice builds most of it a second time, which
/// costs minutes and gigabytes.
const STEPS: &[Step] = &[
    Step { name: "formatted", command: "cargo fmt --all --check" },
    Step {
        name: "clippy",
        command: "cargo clippy --quiet --workspace --all-features --all-targets --locked -- -D warnings",
    },
    Step {
        name: "documentation",
        command: "cargo doc --quiet --workspace --all-features --no-deps --locked",
    },
    Step { name: "tests", command: "cargo test --workspace --all-features --locked" },
    Step { name: "binaries", command: "cargo build --quiet --workspace --all-features --locked" },
    Step { name: "the story", command: "target/debug/bartizan demo --once" },
    Step { name: "filters in foreign vector stores", command: "python3 tests/outside/filters.py" },
    Step { name: "corpora on real stores", command: "python3 tests/outside/retrieve.py" },
    Step { name: "a foreign object store", command: "python3 tests/outside/deliver.py" },
    Step {
        name: "official client libraries and foreign log verifiers",
        command: "python3 tests/outside/run.py",
    },
    Step { name: "foreign OAuth clients", command: "python3 tests/outside/oauth.py" },
    // With the packages that the step before installed.
    Step {
        name: "as a client of foreign authorization servers",
        command: "python3 tests/outside/connections.py",
    },
    Step {
        name: "foreign MCP clients and a real server of tools",
        command: "python3 tests/outside/tools.py",
    },
    // They are not built here; that they could be is told by the lock file.
    Step {
        name: "versions of the measurements",
        command: "cargo tree --quiet --locked --depth 0 --manifest-path bench/Cargo.toml",
    },
    Step { name: "as it is built by default", command: "cargo check --quiet --package bartizan --locked" },
];

/// Packages of the system that the steps need, by the program each one brings.
const SYSTEM: &[(&str, &[&str])] = &[
    ("cc", &["gcc", "libc6-dev"]),
    ("python3", &["python3", "python3-venv"]),
    ("npm", &["nodejs", "npm"]),
    ("initdb", &["postgresql"]),
    ("strace", &["strace"]),
    ("bwrap", &["bubblewrap"]),
    ("rsyslogd", &["rsyslog"]),
    ("cvc5", &["cvc5"]),
    ("nats-server", &["nats-server"]),
    ("chromium", &["chromium"]),
    ("nginx", &["nginx-light"]),
];

#[expect(clippy::disallowed_methods, reason = "a developer's tool that tells how long its steps take")]
pub(crate) fn run() -> Result<(), Failure> {
    install()?;
    let mut told = Vec::new();
    for step in STEPS {
        println!("\n=== {}: {}", step.name, step.command);
        let began = Instant::now();
        let (program, arguments) = step.command.split_once(' ').ok_or("a step without a command")?;
        let mut command = Command::new(program);
        command.args(arguments.split(' ')).current_dir(root()).env("RUSTDOCFLAGS", "-D warnings");
        // What nobody edits is built once: the state of incremental builds only takes room.
        command.env("CARGO_INCREMENTAL", "0");
        let status = command.status().map_err(|e| format!("{program}: {e}"))?;
        told.push(format!("{:>6.1} s  {}", began.elapsed().as_secs_f64(), step.name));
        if !status.success() {
            return Err(format!("the step `{}` failed", step.name));
        }
    }
    println!("\n=== all steps passed\n{}", told.join("\n"));
    Ok(())
}

/// The long runs of the ledger's fault tests: every system call of a day fails once, and a thousand random days crash.
pub(crate) fn faults() -> Result<(), Failure> {
    install()?;
    let calls = "inv_ack_every_system_call_of_a_day_fails_once";
    let days = "inv_ack_a_thousand_random_days_recover_from_random_crashes";
    let arguments = ["test", "--locked", "-p", "bartizan-record", "--lib", "--", "--ignored", calls, days];
    let status = Command::new("cargo").args(arguments).current_dir(root()).status();
    match status.map_err(|e| format!("cargo: {e}"))?.success() {
        true => Ok(()),
        false => Err("something acknowledged was lost".to_owned()),
    }
}

fn install() -> Result<(), Failure> {
    let runs =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    // Debian keeps PostgreSQL's own programs off the path, a folder for every version.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let kept: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    let present = |program: &str| match program {
        "rsyslogd" | "nginx" => Command::new(program).arg("-v").output().is_ok_and(|o| o.status.success()),
        "initdb" => kept.iter().any(|folder| folder.join(program).exists()),
        program => runs(program),
    };
    let missing: Vec<&str> = SYSTEM
        .iter()
        .filter(|(program, _)| !present(program))
        .flat_map(|(_, packages)| *packages)
        .copied()
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let root_user = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0"));
    let list = missing.join(" ");
    if !root_user {
        return Err(format!("missing programs; install them with: apt-get install -y {list}"));
    }
    for arguments in [vec!["update"], [vec!["install", "-y", "--no-install-recommends"], missing].concat()] {
        let status =
            Command::new("apt-get").args(&arguments).status().map_err(|e| format!("apt-get: {e}"))?;
        if !status.success() {
            return Err(format!("apt-get {} failed; install by hand: {list}", arguments.join(" ")));
        }
    }
    Ok(())
}
