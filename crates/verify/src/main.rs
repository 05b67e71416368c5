//! `bartizan-verify`: verifies a log folder offline.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use bartizan_ledger::VerifierKey;
use clap::Parser;

/// Verifies a log folder offline: signature, every entry, every tile, the root.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The folder with `checkpoint` and `tile/`.
    folder: PathBuf,
    /// The log's verifier key.
    #[arg(long, value_name = "VKEY")]
    key: String,
    /// An older checkpoint that the log must extend.
    #[arg(long, value_name = "FILE")]
    old: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let usage = error.use_stderr();
            // Nowhere left to say that even this could not be written.
            error.print().unwrap_or_default();
            return if usage { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let mut err = std::io::stderr();
    let Ok(key) = args.key.parse::<VerifierKey>() else {
        writeln!(err, "error: `--key` is not a verifier key: expected `name+id+base64`").unwrap_or_default();
        return ExitCode::from(64);
    };
    let old = match args.old.as_ref().map(std::fs::read).transpose() {
        Ok(old) => old,
        Err(error) => {
            writeln!(err, "error: `--old`: {error}").unwrap_or_default();
            return ExitCode::from(64);
        }
    };
    let report = bartizan_verify::verify_directory(&args.folder, &key, old.as_deref());
    let mut out = std::io::stdout();
    for check in &report.checks {
        writeln!(out, "{} {}", if check.ok { "ok  " } else { "FAIL" }, check.what).unwrap_or_default();
    }
    if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
