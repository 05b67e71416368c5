//! `bartizan-simulated-model`: the simulation as a program.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use bartizan_simulated_model::{Options, spawn};
use clap::Parser;

/// A simulated model for development and tests: speaks the APIs of several providers and knows nothing.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8099")]
    listen: SocketAddr,
    /// Milliseconds before every answer.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Milliseconds between two pieces of a stream.
    #[arg(long, default_value_t = 0)]
    gap_ms: u64,
    /// Characters in a piece of a stream.
    #[arg(long, default_value_t = 6)]
    piece: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let options =
        Options { latency_ms: args.latency_ms, gap_ms: args.gap_ms, piece: args.piece, require_key: None };
    match spawn(args.listen, options).await {
        Ok(address) => {
            writeln!(std::io::stdout(), "simulated model on http://{address}").unwrap_or_default();
            std::future::pending().await
        }
        Err(error) => {
            writeln!(std::io::stderr(), "error: cannot listen on {}: {error}", args.listen)
                .unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}
