//! Tasks of the repository: `cargo xtask ci | check-floors | check-supply | check-emitters | tidy | generate [--check] |
//! faults | bench gateway | bench ledger | bench decide | bench identity | bench revoke | bench doors`.

#![expect(clippy::print_stdout, reason = "a developer's tool that talks to a terminal")]

mod bench;
mod ci;
mod emitters;
mod floors;
mod supply;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What went wrong, in words.
type Failure = String;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// The pages are written by a program that knows the product.
fn generate(arguments: &[&str]) -> Result<(), Failure> {
    let program = ["run", "--quiet", "--locked", "--package", "reference", "--"];
    let status = Command::new("cargo").args(program).args(arguments).current_dir(root()).status();
    match status.map_err(|e| format!("cargo: {e}"))?.success() {
        true => Ok(()),
        false => Err("the reference pages are not current".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["ci"] => ci::run(),
        ["check-floors"] => floors::check(),
        ["check-supply"] => supply::check(),
        ["check-emitters"] => emitters::check(),
        ["tidy"] => tidy::check(),
        ["generate"] => generate(&[]),
        ["generate", "--check"] => generate(&["--check"]),
        ["faults"] => ci::faults(),
        ["bench", "gateway", flags @ ..] => bench::gateway(flags),
        ["bench", "ledger", flags @ ..] => bench::ledger(flags),
        ["bench", "decide", flags @ ..] => bench::decide(flags),
        ["bench", "identity", flags @ ..] => bench::identity(flags),
        ["bench", "revoke", flags @ ..] => bench::revoke(flags),
        ["bench", "doors", flags @ ..] => bench::doors(flags),
        _ => {
            Err("usage: cargo xtask ci | check-floors | check-supply | check-emitters | tidy | generate [--check] | faults | \
                  bench gateway | ledger | decide | identity | revoke | doors [--quick] [--only CASE,CASE]"
                .to_owned())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
