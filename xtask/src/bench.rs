//! `cargo xtask bench gateway | ledger | decide | identity | revoke | doors`: builds what is measured, installs what it is measured beside, and
//! measures.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, root};

/// The server that decisions are measured beside.
const CERBOS: &str = "cerbos@0.51.0";
/// What masking is measured beside, in Python, without the language models that it would load.
const PRESIDIO: &[&str] = &["presidio-analyzer==2.2.360"];
/// What the recognisers of it need.
const PRESIDIO_NEEDS: &[&str] = &["regex", "pyyaml", "tldextract", "phonenumbers", "pydantic"];

/// The provider that the token endpoint is measured beside.
const OIDC_PROVIDER: &str = "oidc-provider@9.13.3";
/// The cases of the token endpoint.
const ENDPOINT_CASES: &[&str] = &["signature", "oidc_provider", "token_endpoint", "token_endpoint_flooded"];

/// Measures the gateways; `flags` go to the measuring program (`--quick`, `--only CASE,CASE`). A run of all cases writes
/// `bench/results/gateway.json`, any other one stays under `target/`.
pub(crate) fn gateway(flags: &[&str]) -> Result<(), Failure> {
    let root = root();
    let target = root.join("target/bench");
    run(cargo().args(["build", "--release", "--locked", "--package", "bartizan"]).current_dir(&root))?;
    build(&root, &target, "bartizan-bench")?;
    let python = rivals(&root)?;
    let results = results(&root, &target, flags)?;
    run(Command::new(target.join("release/gateway"))
        .arg("--python")
        .arg(&python)
        .arg("--bartizan")
        .arg(root.join("target/release/bartizan"))
        .arg("--work")
        .arg(target.join("gateway"))
        .arg("--results")
        .arg(results.join("gateway.json"))
        .args(flags))
}

/// Measures the ledger beside a bare file and databases; `flags` as for [`gateway`]. A run of all cases writes
/// `bench/results/ledger.json`.
pub(crate) fn ledger(flags: &[&str]) -> Result<(), Failure> {
    let root = root();
    let target = root.join("target/bench");
    build(&root, &target, "bartizan-bench-ledger")?;
    let results = results(&root, &target, flags)?;
    run(Command::new(target.join("release/ledger"))
        .arg("--work")
        .arg(target.join("ledger"))
        .arg("--results")
        .arg(results.join("ledger.json"))
        .args(flags))
}

/// Measures decisions beside other engines; `flags` as for [`gateway`]. A run of all cases writes
/// `bench/results/decide.json`.
pub(crate) fn decide(flags: &[&str]) -> Result<(), Failure> {
    let root = root();
    let target = root.join("target/bench");
    build(&root, &target, "bartizan-bench-decide")?;
    let cerbos = cerbos(&target)?;
    let results = results(&root, &target, flags)?;
    run(Command::new(target.join("release/decide"))
        .arg("--work")
        .arg(target.join("decide"))
        .arg("--cerbos")
        .arg(&cerbos)
        .arg("--results")
        .arg(results.join("decide.json"))
        .args(flags))
}

/// Measures verifying tokens beside another library, and the token endpoint beside another provider; `flags` as for
/// [`gateway`]. A full run writes `bench/results/tokens.json` and `bench/results/authority.json`.
pub(crate) fn identity(flags: &[&str]) -> Result<(), Failure> {
    let root = root();
    let target = root.join("target/bench");
    let results = results(&root, &target, flags)?;
    // Both have cases of their own: those that are named belong to one of them.
    let only = flags.iter().position(|flag| *flag == "--only").and_then(|at| flags.get(at + 1));
    let endpoint = only.map(|only| only.split(',').any(|case| ENDPOINT_CASES.contains(&case)));
    if endpoint != Some(true) {
        build(&root, &target, "bartizan-bench-tokens")?;
        let tokens = results.join("tokens.json");
        run(Command::new(target.join("release/tokens")).arg("--results").arg(tokens).args(flags))?;
    }
    if endpoint != Some(false) {
        build(&root, &target, "bartizan-bench-authority")?;
        let provider = oidc_provider(&root, &target)?;
        run(Command::new(target.join("release/authority"))
            .arg("--work")
            .arg(target.join("authority"))
            .arg("--provider")
            .arg(&provider)
            .arg("--results")
            .arg(results.join("authority.json"))
            .args(flags))?;
    }
    Ok(())
}

/// The provider that the token endpoint is measured beside, with the script that sets it up next to it.
fn oidc_provider(root: &Path, target: &Path) -> Result<PathBuf, Failure> {
    let folder = target.join("oidc-provider");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    if !folder.join("node_modules/oidc-provider").exists() {
        run(Command::new("npm")
            .args(["install", "--silent", "--no-save", "--prefix"])
            .arg(&folder)
            .arg(OIDC_PROVIDER))?;
    }
    let script = folder.join("provider.mjs");
    std::fs::copy(root.join("bench/authority/provider.mjs"), &script)
        .map_err(|e| format!("{}: {e}", script.display()))?;
    Ok(folder)
}

/// Measures revocations across nodes and changes of the state; `flags` as for [`gateway`]. A run of all cases writes
/// `bench/results/revoke.json`.
pub(crate) fn revoke(flags: &[&str]) -> Result<(), Failure> {
    let root = root();
    let target = root.join("target/bench");
    let packages =
        ["build", "--release", "--locked", "--package", "bartizan", "--package", "bartizan-simulated-model"];
    run(cargo().args(packages).current_dir(&root))?;
    build(&root, &target, "bartizan-bench-revoke")?;
    let results = results(&root, &target, flags)?;
    run(Command::new(target.join("release/revoke"))
        .arg("--bartizan")
        .arg(root.join("target/release/bartizan"))
        .arg("--model")
        .arg(root.join("target/release/bartizan-simulated-model"))
        .arg("--work")
        .arg(target.join("revoke"))
        .arg("--results")
        .arg(results.join("revoke.json"))
        .args(flags))
}

/// Measures what stands at the doors: tool calls and proxies that ask, beside others; and masking beside regular expressions
/// and Presidio's pattern recognisers; and policy on rows of databases. `flags` as for [`gateway`]. A run of all cases writes
/// `bench/results/tools.json`, `mesh.json`, `mask.json` and `pushdown.json`. Cases of the first two are called `tools.CASE` and
/// `mesh.CASE`; the last is the case `pushdown`.
pub(crate) fn doors(flags: &[&str]) -> Result<(), Failure> {
    let root = root();
    let target = root.join("target/bench");
    let results = results(&root, &target, flags)?;
    pushdown(&root, &target, &results, flags)?;
    let only = flags.iter().position(|flag| *flag == "--only").and_then(|at| flags.get(at + 1));
    let asks = |case: &str| case.starts_with("tools.") || case.starts_with("mesh.");
    if only.is_none_or(|cases| cases.split(',').any(asks)) {
        run(cargo().args(["build", "--release", "--locked", "--package", "bartizan"]).current_dir(&root))?;
        build(&root, &target, "bartizan-bench")?;
        let mut doors = Command::new(target.join("release/doors"));
        doors.arg("--python").arg(rivals(&root)?);
        doors.arg("--bartizan").arg(root.join("target/release/bartizan"));
        run(doors.arg("--work").arg(target.join("doors")).arg("--results").arg(&results).args(flags))?;
    }
    let masks = |case: &str| !asks(case) && case != "pushdown";
    if only.is_none_or(|cases| cases.split(',').any(masks)) {
        build(&root, &target, "bartizan-bench-mask")?;
        let mut mask = Command::new(target.join("release/mask"));
        mask.arg("--results").arg(results.join("mask.json")).args(flags);
        run(mask.arg("--python").arg(presidio(&root)?))?;
    }
    Ok(())
}

/// Policy on rows of a database, beside filters by hand and decisions row by row: the case `pushdown` of the doors, which writes
/// `pushdown.json`.
fn pushdown(root: &Path, target: &Path, results: &Path, flags: &[&str]) -> Result<(), Failure> {
    let only = flags.iter().position(|flag| *flag == "--only").and_then(|at| flags.get(at + 1));
    if only.is_some_and(|cases| cases.split(',').all(|case| case != "pushdown")) {
        return Ok(());
    }
    build(root, target, "bartizan-bench-pushdown")?;
    let mut pushdown = Command::new(target.join("release/pushdown"));
    pushdown.arg("--results").arg(results.join("pushdown.json"));
    run(pushdown.args(flags.iter().filter(|flag| **flag == "--quick")))
}

/// The virtual environment with Presidio's analyser, without spaCy.
fn presidio(root: &Path) -> Result<PathBuf, Failure> {
    let folder = root.join("target/bench/presidio");
    let python = folder.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let pip = || {
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            pip
        };
        run(pip().arg("--no-deps").args(PRESIDIO))?;
        run(pip().args(PRESIDIO_NEEDS))?;
    }
    Ok(python)
}

/// The Cerbos server out of its npm package, without the script that would start it as a child of its own.
fn cerbos(target: &Path) -> Result<PathBuf, Failure> {
    let folder = target.join("cerbos");
    let program = folder.join("node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64");
    if !program.exists() {
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        run(Command::new("npm")
            .args(["install", "--silent", "--no-save", "--prefix"])
            .arg(&folder)
            .arg(CERBOS))?;
    }
    Ok(program)
}

/// Builds a package of the measurements' own workspace.
fn build(root: &Path, target: &Path, package: &str) -> Result<(), Failure> {
    let build = ["build", "--release", "--locked", "--manifest-path", "bench/Cargo.toml", "--target-dir"];
    run(cargo().args(build).arg(target).args(["--package", package]).current_dir(root))
}

/// The folder for results: only a whole run may replace what is published.
fn results(root: &Path, target: &Path, flags: &[&str]) -> Result<PathBuf, Failure> {
    let results = if flags.is_empty() { root.join("bench/results") } else { target.to_owned() };
    std::fs::create_dir_all(&results).map_err(|e| format!("{}: {e}", results.display()))?;
    Ok(results)
}

/// The virtual environment with Envoy and LiteLLM, in the versions of `bench/requirements.txt`.
fn rivals(root: &Path) -> Result<PathBuf, Failure> {
    let folder = root.join("target/bench/venv");
    if !folder.join("bin/python").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    run(Command::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(root.join("bench/requirements.txt")))?;
    Ok(folder)
}

fn cargo() -> Command {
    Command::new(env!("CARGO"))
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|e| format!("{name}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}
