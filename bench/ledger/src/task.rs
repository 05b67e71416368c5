//! Every measurement is a process of its own, so that none inherits another's memory, threads or open files. The driver
//! starts this program again with a task and reads one line of JSON.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bartizan_bench::Error;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::appends;
use crate::growth;
use crate::integrate;
use crate::load::Load;

/// What a process is to measure.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    /// One case of [`appends::CASES`] in an empty folder.
    Appends { case: String, load: Load },
    /// The ledger's core, without a disk.
    Integrate { each: Duration },
    /// Brings a log to a size.
    Build { phase: u64, size: u64 },
    /// Appends to a large log and tells the cost.
    Grown { phase: u64, records: u64 },
    /// Appends without sealing and waits to be killed.
    Crash { phase: u64, records: u64 },
    /// Starts after the crash; seals what it found if it is the last time.
    Restart { phase: u64, last: bool },
}

impl Task {
    /// Whether the process waits to be killed once it has told its result: what is left then is what a crash leaves.
    fn ends_by_crash(&self) -> bool {
        matches!(self, Self::Crash { .. } | Self::Restart { last: false, .. })
    }
}

/// Does the task in a process of its own.
pub fn in_process<T: DeserializeOwned>(task: &Task, folder: &Path) -> Result<T, Error> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("task")
        .arg(folder)
        .arg(serde_json::to_string(task)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
    if task.ends_by_crash() && !line.is_empty() {
        child.kill()?;
        child.wait()?;
    } else if !child.wait()?.success() {
        return Err(format!("{task:?} failed").into());
    }
    read.transpose()?;
    Ok(serde_json::from_str(&line)?)
}

/// Does the task in this process and prints its result.
pub fn run(task: &Task, folder: &Path) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match task {
        Task::Appends { case, load } => print(&runtime.block_on(appends::measure(case, *load, folder))?),
        Task::Integrate { each } => print(&integrate::measure(*each)?),
        Task::Build { phase, size } => print(&runtime.block_on(growth::build(folder, *phase, *size))?),
        Task::Grown { phase, records } => print(&runtime.block_on(growth::grown(folder, *phase, *records))?),
        Task::Crash { phase, records } => {
            let open = runtime.block_on(growth::crash(folder, *phase, *records))?;
            print(records)?;
            wait_for_the_end();
            drop(open);
            Ok(())
        }
        Task::Restart { phase, last } => {
            let (restart, open) = runtime.block_on(growth::restart(folder, *phase, *last))?;
            print(&restart)?;
            if task.ends_by_crash() {
                wait_for_the_end();
            }
            drop(open);
            Ok(())
        }
    }
}

fn print<T: Serialize>(result: &T) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(result)?)?;
    Ok(out.flush()?)
}

/// Also ends when the driver is gone: it holds the other end.
fn wait_for_the_end() {
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
}
