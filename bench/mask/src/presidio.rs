//! Presidio's pattern recognisers, in a Python process of their own: without its language models, which find names.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use bartizan_bench::Error;

/// Millions of bytes a second, once per round.
pub fn measure(python: &Path, text: &str, rounds: usize) -> Result<Vec<f64>, Error> {
    let mut child = Command::new(python)
        .args(["-c", include_str!("presidio.py"), &rounds.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err("Presidio's recognisers did not run".into());
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(|line| Ok(line.trim().parse::<f64>()?)).collect()
}
