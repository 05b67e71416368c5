//! `bartizan-verify`: verifies a log, or one receipt, offline; compares two views of a log; watches one over time.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use bartizan_base::Timestamp;
use bartizan_ledger::{NOTE_MAX, POLICY_MAX, Policy, VerifierKey};
use bartizan_verify::{Demand, Watch, compare, monitor, verify_log, verify_promise, verify_receipt_under};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Wrong arguments (`EX_USAGE`).
const USAGE: u8 = 64;

/// Verifies a log, or a receipt of one entry, offline. Exit code 0 only if everything holds, 1 if not.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A log folder: signature, every entry, every tile, the root, and that nothing else lies there.
    Log {
        /// The folder with `checkpoint` and `tile/`.
        folder: PathBuf,
        /// The log's verifier key: `name+id+base64`.
        #[arg(long, value_name = "VKEY")]
        key: VerifierKey,
        /// An older checkpoint that the log must extend.
        #[arg(long, value_name = "FILE")]
        old: Option<PathBuf>,
        /// Who must have cosigned the checkpoint (a `tlog-policy`).
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// The log is being written: files beyond its checkpoint are no fault.
        #[arg(long)]
        growing: bool,
        /// How to tell the result.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// A receipt (`.tlog-proof`): that one entry is in the log; a witnessed one: that it was in the log that witnesses cosigned.
    Receipt {
        /// The receipt.
        file: PathBuf,
        /// The entry, byte for byte.
        #[arg(long, value_name = "FILE")]
        entry: PathBuf,
        /// The log's verifier key: `name+id+base64`.
        #[arg(long, value_name = "VKEY")]
        key: VerifierKey,
        /// Who must have cosigned the checkpoint (a `tlog-policy`); for a witnessed receipt, that of the log of logs.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// How to tell the result.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// The header `bartizan-receipt` of an answer: that its record was promised, and is in the log.
    Promise {
        /// The header's value.
        header: String,
        /// The log's verifier key: `name+id+base64`.
        #[arg(long, value_name = "VKEY")]
        key: VerifierKey,
        /// The log's folder, to see whether the promise was kept.
        #[arg(long, value_name = "DIR")]
        log: Option<PathBuf>,
        /// How to tell the result.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Two views of one log: the same or one the other's continuation, or the proof that there are two histories.
    ///
    /// With `--output json` the result holds both signed checkpoints, the first entry that differs and the proofs, for
    /// others to check.
    Compare {
        /// The earlier view: a log folder, or the file of a signed checkpoint.
        a: PathBuf,
        /// The later view. Of two sizes, the view of more entries must be a folder.
        b: PathBuf,
        /// The log's verifier key: `name+id+base64`.
        #[arg(long, value_name = "VKEY")]
        key: VerifierKey,
        /// How to tell the result.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// What a log has become since the last run: one history, every new entry, no number missing, no intent without outcome.
    Monitor {
        /// The folder with `checkpoint` and `tile/`.
        folder: PathBuf,
        /// Where to remember what was verified. Without it the log could be rolled back or rewritten between two runs.
        #[arg(long, value_name = "FILE")]
        state: PathBuf,
        /// The log's verifier key: `name+id+base64`.
        #[arg(long, value_name = "VKEY")]
        key: VerifierKey,
        /// Who must have cosigned the checkpoint (a `tlog-policy`).
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// The nodes write further logs, such as those of other tenants: their numbers may skip in this one.
        #[arg(long)]
        shared_nodes: bool,
        /// How to tell the result.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// A line for each check.
    Text,
    /// One JSON object.
    Json,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let usage = error.use_stderr();
            // Nowhere left to say that even this could not be written.
            error.print().unwrap_or_default();
            return if usage { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(args.command) {
        Ok(code) => code,
        Err(error) => {
            writeln!(io::stderr(), "error: {error}").unwrap_or_default();
            ExitCode::from(USAGE)
        }
    }
}

/// Runs a command. An error is one of its arguments.
fn run(command: Command) -> Result<ExitCode, String> {
    Ok(match command {
        Command::Log { folder, key, old, policy, growing, output } => {
            let old = old.map(|path| read_note(&path).map_err(|e| format!("`--old`: {e}"))).transpose()?;
            let policy = read_policy(policy.as_deref())?;
            let demand = Demand { key: &key, old: old.as_deref(), policy: policy.as_ref(), growing };
            let report = verify_log(&folder, &demand);
            tell(&report, report.ok, output)
        }
        Command::Receipt { file, entry, key, policy, output } => {
            let policy = read_policy(policy.as_deref())?;
            let report = verify_receipt_under(&file, &entry, &key, policy.as_ref());
            tell(&report, report.ok, output)
        }
        Command::Promise { header, key, log, output } => {
            let report = verify_promise(&header, &key, log.as_deref());
            tell(&report, report.ok, output)
        }
        Command::Compare { a, b, key, output } => {
            let comparison = compare(&a, &b, &key);
            tell(&comparison, comparison.ok, output)
        }
        Command::Monitor { folder, state, key, policy, shared_nodes, output } => {
            let policy = read_policy(policy.as_deref())?;
            let (policy, now) = (policy.as_ref(), now());
            let report = monitor(&folder, &Watch { key: &key, state: &state, policy, shared_nodes, now });
            tell(&report, report.ok, output)
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "a program of its own: it links no clock of the writer")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Reads no more than shows that a note is too long.
fn read_note(path: &Path) -> io::Result<Vec<u8>> {
    read(path, NOTE_MAX)
}

fn read_policy(path: Option<&Path>) -> Result<Option<Policy>, String> {
    let Some(path) = path else { return Ok(None) };
    let bytes = read(path, POLICY_MAX).map_err(|error| format!("`--policy`: {error}"))?;
    Policy::parse(&bytes).map(Some).map_err(|error| format!("`--policy`: {error}"))
}

/// Reads at most one byte more than `max`.
fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn tell(result: &(impl Display + Serialize), ok: bool, output: Output) -> ExitCode {
    match print(result, output) {
        // Whoever closed the pipe has seen enough; the exit code still tells the truth.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Ok(()) | Err(_) if ok => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

fn print(result: &(impl Display + Serialize), output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Text => write!(out, "{result}"),
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, result)?;
            writeln!(out)
        }
    }
}
