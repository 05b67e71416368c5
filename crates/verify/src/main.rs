//! `bartizan-verify`: verifies a log, or one receipt, offline.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bartizan_ledger::{NOTE_MAX, VerifierKey};
use bartizan_verify::{Report, verify_directory, verify_growing_directory, verify_receipt};
use clap::{Parser, Subcommand, ValueEnum};

/// Wrong arguments (`EX_USAGE`).
const USAGE: u8 = 64;

/// Verifies a log, or a receipt of one entry, offline. Exit code 0 only if everything holds.
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
        /// The log is being written: files beyond its checkpoint are no fault.
        #[arg(long)]
        growing: bool,
        /// How to tell the result.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// A receipt (`.tlog-proof`): that one entry is in the log.
    Receipt {
        /// The receipt.
        file: PathBuf,
        /// The entry, byte for byte.
        #[arg(long, value_name = "FILE")]
        entry: PathBuf,
        /// The log's verifier key: `name+id+base64`.
        #[arg(long, value_name = "VKEY")]
        key: VerifierKey,
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
    let (report, output) = match run(args.command) {
        Ok(done) => done,
        Err(error) => {
            writeln!(io::stderr(), "error: `--old`: {error}").unwrap_or_default();
            return ExitCode::from(USAGE);
        }
    };
    match tell(&report, output) {
        // Whoever closed the pipe has seen enough; the exit code still tells the truth.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Ok(()) | Err(_) if report.ok => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

fn run(command: Command) -> io::Result<(Report, Output)> {
    Ok(match command {
        Command::Log { folder, key, old, growing, output } => {
            let old = old.map(|path| read_note(&path)).transpose()?;
            let verify = if growing { verify_growing_directory } else { verify_directory };
            (verify(&folder, &key, old.as_deref()), output)
        }
        Command::Receipt { file, entry, key, output } => (verify_receipt(&file, &entry, &key), output),
    })
}

/// Reads no more than shows that a note is too long.
fn read_note(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(NOTE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn tell(report: &Report, output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Text => write!(out, "{report}"),
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)
        }
    }
}
