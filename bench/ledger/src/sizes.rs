//! Drives the log from size to size: what a record, the memory and a start cost at each.

use std::fs;
use std::path::Path;

use bartizan_bench::Error;
use bartizan_bench::report::{Cases, Comparison, Value};

use crate::appends::settle;
use crate::effort::Effort;
use crate::growth::{Built, Grown, Restart};
use crate::task::{Task, in_process};

/// Flat is what costs the same as in the smallest log.
pub const COMPARISON: Comparison = Comparison { baseline: "log_10k", further: &[], added: None };

/// What was measured at every size.
pub fn drive(effort: &Effort, work: &Path) -> Result<Cases, Error> {
    let folder = work.join("growth");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut results = Vec::new();
    for (phase, (size, name)) in (0..).zip(effort.sizes) {
        eprintln!("{name}: {size} records");
        results.push(((*name).to_owned(), at(phase, *size, effort, &folder)?));
    }
    fs::remove_dir_all(&folder)?;
    Ok(results)
}

fn at(phase: u64, size: u64, effort: &Effort, folder: &Path) -> Result<Vec<Value>, Error> {
    let built: Built = in_process(&Task::Build { phase, size }, folder)?;
    let mut grown: Vec<Grown> = Vec::new();
    for _ in 0..effort.size_rounds {
        settle()?;
        grown.push(in_process(&Task::Grown { phase, records: effort.size_records }, folder)?);
    }
    let _: u64 = in_process(&Task::Crash { phase, records: effort.tail }, folder)?;
    let mut restarts: Vec<Restart> = Vec::new();
    for round in 1..=effort.size_rounds {
        settle()?;
        restarts.push(in_process(&Task::Restart { phase, last: round == effort.size_rounds }, folder)?);
    }
    let found = restarts.last().map_or(0, |last| last.found);
    if found < effort.tail {
        return Err(
            format!("{} records were acknowledged before the crash, {found} found", effort.tail).into()
        );
    }
    let mut values = Vec::new();
    let mut add = |metric: &str, unit, rounds: Vec<f64>| {
        values.push(Value::median(metric.to_owned(), rounds, unit));
    };
    let of = |part: fn(&Grown) -> f64| grown.iter().map(part).collect();
    let at_start = |part: fn(&Restart) -> f64| restarts.iter().map(part).collect();
    add("built_per_second", "1/s", vec![built.leaves as f64 / built.seconds]);
    add("append_cpu", "us", of(|g| g.cpu_us));
    if let Some(written) = grown.iter().map(|g| g.written_bytes).collect() {
        add("append_written", "B", written);
    }
    add("memory_idle", "MiB", of(|g| g.memory_idle_mib));
    add("memory_after", "MiB", of(|g| g.memory_after_mib));
    add("restart_sealed", "", at_start(|r| r.sealed as f64));
    add("restart_ready", "ms", at_start(|r| r.ready_ms));
    add("restart_memory", "MiB", at_start(|r| r.memory_mib));
    add("restart_memory_peak", "MiB", at_start(|r| r.memory_peak_mib));
    Ok(values)
}
