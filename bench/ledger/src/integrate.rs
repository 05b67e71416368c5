//! What the ledger's core does with entries, on one core, without a disk.

use std::time::{Duration, Instant};

use bartizan_base::Digest;
use bartizan_bench::Error;
use bartizan_bench::report::Value;
use bartizan_ledger::{Appender, RightEdge, leaf_hash};
use serde::{Deserialize, Serialize};

use crate::engine::RECORD_BYTES;

/// Entries between two checkpoints.
const CHECKPOINT: u64 = 65_536;
/// Entries after which full files are taken.
const WRITTEN_EARLY: u64 = 2_048;

/// Leaves a second.
#[derive(Debug, Serialize, Deserialize)]
pub struct Integrated {
    /// Entries of 1 KiB: hashed, appended, and the files of every checkpoint taken.
    entries: f64,
    /// Leaf hashes given: the right edge of the tree alone.
    hashes: f64,
    /// What SHA-256 over such entries allows at the most.
    hashing: f64,
}

impl Integrated {
    pub fn values(rounds: &[Self]) -> Vec<Value> {
        let of = |metric: &str, of: &dyn Fn(&Self) -> f64| {
            Value::median(metric.to_owned(), rounds.iter().map(of).collect(), "1/s")
        };
        vec![
            of("leaves_per_second_entries", &|r| r.entries),
            of("leaves_per_second_hashes", &|r| r.hashes),
            of("leaf_hashes_per_second", &|r| r.hashing),
        ]
    }
}

/// Measures each part for about `each`.
pub fn measure(each: Duration) -> Result<Integrated, Error> {
    let mut entry = vec![b'x'; RECORD_BYTES];
    let mut log = Appender::new();
    let mut taken = 0;
    let entries = per_second(each, |number| {
        number_into(&mut entry, number);
        let appended = log.append(&entry).is_ok();
        if log.size().is_multiple_of(WRITTEN_EARLY) {
            // As the recorder does: full files are written while they are warm.
            taken += log.take_full().len() as u64;
        }
        if appended && log.size().is_multiple_of(CHECKPOINT) {
            std::hint::black_box(log.root());
            taken += log.take_files().len() as u64;
        }
        appended
    })?;
    // Every full bundle has been taken, and its tile.
    if taken < log.size() / CHECKPOINT * CHECKPOINT / 256 * 2 {
        return Err("the log has not given its files".into());
    }
    let mut edge = RightEdge::new();
    let mut leaf = [0; 32];
    let hashes = per_second(each, |number| {
        number_into(&mut leaf, number);
        edge.append(Digest::from_bytes(leaf));
        true
    })?;
    std::hint::black_box(edge.root());
    let hashing = per_second(each, |number| {
        number_into(&mut entry, number);
        std::hint::black_box(leaf_hash(&entry));
        true
    })?;
    Ok(Integrated { entries, hashes, hashing })
}

fn number_into(bytes: &mut [u8], number: u64) {
    if let Some(place) = bytes.first_chunk_mut::<8>() {
        *place = number.to_be_bytes();
    }
}

/// How often `work` is done a second, by the processor time it takes: one core, whoever else runs.
fn per_second(each: Duration, mut work: impl FnMut(u64) -> bool) -> Result<f64, Error> {
    let (end, before) = (Instant::now() + each, processor_us());
    let mut number = 0;
    while Instant::now() < end {
        for _ in 0..1_024 {
            if !work(number) {
                return Err("an entry was not taken".into());
            }
            number += 1;
        }
    }
    Ok(number as f64 * 1e6 / (processor_us() - before))
}

/// Microseconds of processor time of this process so far.
pub fn processor_us() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_integrated_faster_than_it_is_hashed() {
        let measured = measure(Duration::from_millis(150)).unwrap();
        assert!(measured.entries > 0.0 && measured.entries < measured.hashing * 1.3, "{measured:?}");
        assert!(measured.hashes > measured.entries, "{measured:?}");
    }
}
