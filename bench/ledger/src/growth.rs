//! What a record and a start cost as the log grows.
//!
//! Ten million records through the write-ahead log would take most of the run, so the log is brought to its size by the
//! ledger core's [`Appender`]: records of 1 KiB as an earlier node would have written them, into the same bundles and tiles,
//! their head swapped into the state database. The recorder then opens that log as its own, since it is, and everything
//! measured goes through the recorder's public ways.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bartizan_base::json::canonical;
use bartizan_base::{Clock, Timestamp};
use bartizan_bench::Error;
use bartizan_bench::process::{Medium, Processes};
use bartizan_ledger::{Appender, Tile, TileSource};
use bartizan_model::{DecisionId, NodeId};
use bartizan_rt::SystemClock;
use bartizan_store::Checkpoints as _;
use bartizan_store_sqlite::SqliteStore;
use serde::{Deserialize, Serialize};

use crate::appends::settle;
use crate::engine::{Engine as _, Ledger, ORIGIN, Way, new_node};
use crate::house::{House, padded, record};
use crate::integrate::processor_us;
use crate::load::counted;

/// All phases lie in this quarter, so that they grow one log.
const LOG: &str = "default/2026q4";
/// 2026-10-01T00:00:00Z.
const QUARTER: Timestamp = Timestamp::from_secs(1_790_812_800);
/// Between two phases. A node that is made days after the last record of others need not look for its own among them.
const PHASE: Duration = Duration::from_secs(10 * 86_400);
/// Entries whose files are written at once.
const CHECKPOINT: u64 = 65_536;
const WRITERS: u64 = 256;

/// A clock that begins within a phase.
#[derive(Debug)]
struct PhaseClock {
    start: Timestamp,
    machine: SystemClock,
}

impl PhaseClock {
    fn of(phase: u64) -> Arc<dyn Clock> {
        let start = beginning(phase).saturating_add(PHASE / 2);
        Arc::new(Self { start, machine: SystemClock::new() })
    }
}

impl Clock for PhaseClock {
    fn now(&self) -> Timestamp {
        self.start.saturating_add(Duration::from_micros(self.monotonic_us()))
    }

    fn monotonic_us(&self) -> u64 {
        self.machine.monotonic_us()
    }
}

fn beginning(phase: u64) -> Timestamp {
    QUARTER.saturating_add(Duration::from_secs(phase * PHASE.as_secs()))
}

/// The files of a log.
struct Files(PathBuf);

impl TileSource for Files {
    type Error = std::io::Error;

    fn read(&self, tile: Tile) -> Result<Option<Vec<u8>>, Self::Error> {
        match fs::read(self.0.join(tile.path())) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Files {
    fn write(&self, log: &mut Appender, made: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
        for file in log.take_files() {
            let path = self.0.join(file.tile.path());
            if let Some(parent) = path.parent()
                && made.insert(parent.to_owned())
            {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, file.bytes)?;
        }
        Ok(())
    }
}

/// Records of an earlier node that differ in their numbers only.
struct Template {
    entry: Vec<u8>,
    /// Where the number stands.
    at: usize,
}

/// The first number, so that all have as many digits.
const FIRST: u64 = 1_000_000_000;

impl Template {
    fn of(phase: u64) -> Result<Self, Error> {
        let time = beginning(phase);
        let node = NodeId::from_parts(time, [9; 10]);
        let refused = House::new(time)?.refused(time, DecisionId::from_parts(time, [3; 10]))?;
        let entry = canonical(&record(&padded(refused, node)?, node, FIRST))?;
        let marker = format!("\"seq\":{FIRST}");
        let at = entry.windows(marker.len()).position(|window| window == marker.as_bytes());
        let at = at.ok_or("a record has no number")? + "\"seq\":".len();
        Ok(Self { entry, at })
    }

    fn numbered(&mut self, number: u64) -> Result<&[u8], Error> {
        let digits = (FIRST + number).to_string();
        let place = self.entry.get_mut(self.at..self.at + digits.len()).ok_or("a record is too short")?;
        place.copy_from_slice(digits.as_bytes());
        Ok(&self.entry)
    }
}

/// How a log was brought to its size.
#[derive(Debug, Serialize, Deserialize)]
pub struct Built {
    pub leaves: u64,
    pub seconds: f64,
}

/// Brings the log in `folder` to `size` entries.
pub async fn build(folder: &Path, phase: u64, size: u64) -> Result<Built, Error> {
    let began = Instant::now();
    fs::create_dir_all(folder)?;
    let store = SqliteStore::open(&folder.join("state.db"))?;
    let (origin, files) = (format!("{ORIGIN}/{LOG}"), Files(folder.join("log").join(LOG)));
    let head = store.latest(&origin).await?;
    let mut log = match head {
        Some((size, root)) => Appender::resume(size, &root, &files)?,
        None => Appender::new(),
    };
    let (from, mut made, mut template) = (log.size(), BTreeSet::new(), Template::of(phase)?);
    while log.size() < size {
        log.append(template.numbered(log.size())?)?;
        if log.size().is_multiple_of(CHECKPOINT) {
            files.write(&mut log, &mut made)?;
        }
    }
    files.write(&mut log, &mut made)?;
    settle()?;
    let new = (log.size(), log.root());
    if head != Some(new) && !store.swap(&origin, head, new).await? {
        return Err("somebody else grows the log".into());
    }
    Ok(Built { leaves: log.size() - from, seconds: began.elapsed().as_secs_f64() })
}

/// What appending to a large log cost.
#[derive(Debug, Serialize, Deserialize)]
pub struct Grown {
    /// Microseconds of processor time for one record, sealed.
    pub cpu_us: f64,
    /// Bytes that the device wrote for one record, where it tells: write-ahead log, bundles, tiles, checkpoint.
    pub written_bytes: Option<f64>,
    /// Mebibytes held right after the start, and with everything sealed.
    pub memory_idle_mib: f64,
    pub memory_after_mib: f64,
}

/// Appends `records` to the log in `folder` and seals them, as a new node.
pub async fn grown(folder: &Path, phase: u64, records: u64) -> Result<Grown, Error> {
    let ledger = Arc::new(new_recorder(folder, phase).await?);
    let own = Processes::own();
    let memory_idle_mib = own.memory_mib();
    // The first segment of the write-ahead log is laid out with the first record.
    counted(&ledger, WRITERS, WRITERS).await?;
    let size = ledger.seal().await?;
    let medium = Medium::of(folder);
    let written = || medium.as_ref().and_then(Medium::written).map(|written| written.bytes);
    settle()?;
    let (cpu, before) = (processor_us(), written());
    counted(&ledger, WRITERS, records).await?;
    let grown = ledger.seal().await?;
    let cpu = processor_us() - cpu;
    settle()?;
    let written = before.zip(written()).map(|(before, after)| (after - before) as f64);
    if grown != size + records {
        return Err(format!("{records} records were acknowledged, {} are sealed", grown - size).into());
    }
    let memory_after_mib = own.memory_mib();
    ledger.check(records).await?;
    Ok(Grown {
        cpu_us: cpu / records as f64,
        written_bytes: written.map(|bytes| bytes / records as f64),
        memory_idle_mib,
        memory_after_mib,
    })
}

/// Appends `records` as a new node and seals none of them.
pub async fn crash(folder: &Path, phase: u64, records: u64) -> Result<Arc<Ledger>, Error> {
    let ledger = Arc::new(new_recorder(folder, phase).await?);
    counted(&ledger, WRITERS, records).await?;
    Ok(ledger)
}

/// A start after a crash.
#[derive(Debug, Serialize, Deserialize)]
pub struct Restart {
    /// Milliseconds from the first look at the folder until a record can be taken and one is durable.
    pub ready_ms: f64,
    /// Mebibytes held when ready, and at the most until then.
    pub memory_mib: f64,
    pub memory_peak_mib: f64,
    /// Entries that were sealed before.
    pub sealed: u64,
    /// Entries that were sealed of what the crash had left, if that was asked for.
    pub found: u64,
}

/// Starts again as the node that crashed; seals what it finds if it is the `last` time.
pub async fn restart(folder: &Path, phase: u64, last: bool) -> Result<(Restart, Ledger), Error> {
    let clock = PhaseClock::of(phase);
    let node = fs::read_to_string(folder.join("node"))?.parse::<NodeId>()?;
    let way = refusals(&clock, node)?;
    let began = Instant::now();
    let ledger = Ledger::open(folder, clock, node, way).await?;
    let ready_ms = began.elapsed().as_secs_f64() * 1e3;
    let own = Processes::own();
    let (memory_mib, memory_peak_mib) = (own.memory_mib(), own.memory_peak_mib());
    let sealed = ledger.sealed();
    let found = if last { ledger.seal().await? - sealed } else { 0 };
    Ok((Restart { ready_ms, memory_mib, memory_peak_mib, sealed, found }, ledger))
}

/// A recorder of a new node, which has no write-ahead log yet, on the log that is there.
async fn new_recorder(folder: &Path, phase: u64) -> Result<Ledger, Error> {
    let wal = folder.join("wal");
    if wal.exists() {
        fs::remove_dir_all(wal)?;
    }
    let clock = PhaseClock::of(phase);
    let node = new_node(&*clock);
    fs::write(folder.join("node"), node.to_string())?;
    let way = refusals(&clock, node)?;
    Ledger::open(folder, clock, node, way).await
}

fn refusals(clock: &Arc<dyn Clock>, node: NodeId) -> Result<Way, Error> {
    Way::refusals(&House::new(clock.now())?, &**clock, node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_ledger::{bundle_entries, leaf_hash, root_of};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    #[test]
    fn recorder_goes_on_with_a_log_that_was_built_and_every_entry_hashes_to_its_root() {
        let (runtime, folder) = (runtime(), tempfile::tempdir().unwrap());
        let folder = folder.path();
        for (phase, size) in [(0, 1_000), (1, 2_500)] {
            let built = runtime.block_on(build(folder, phase, size)).unwrap();
            assert!(built.leaves <= size && built.leaves > 0);
            let grown = runtime.block_on(grown(folder, phase, 300)).unwrap();
            assert!(grown.cpu_us > 0.0, "{grown:?}");
            // Every record is written twice, into the write-ahead log and into its bundle.
            assert!(grown.written_bytes.is_none_or(|bytes| bytes > 2_048.0), "{grown:?}");
        }
        // Each visit left its records and those of its start, its warming up and its end.
        let store = SqliteStore::open(&folder.join("state.db")).unwrap();
        let head = runtime.block_on(store.latest(&format!("{ORIGIN}/{LOG}"))).unwrap().unwrap();
        assert_eq!(head.0, 2_500 + 300 + WRITERS + 2);
        let files = Files(folder.join("log").join(LOG));
        let mut leaves = Vec::new();
        for tile in bartizan_ledger::tiles_for(head.0).into_iter().filter(|tile| tile.level.is_none()) {
            let bytes = files.read(tile).unwrap().unwrap();
            leaves.extend(bundle_entries(&bytes).unwrap().into_iter().map(leaf_hash));
        }
        assert_eq!(root_of(&leaves), head.1);
    }

    #[test]
    fn a_tail_that_was_acknowledged_is_found_and_sealed_after_the_crash() {
        let (runtime, folder) = (runtime(), tempfile::tempdir().unwrap());
        let folder = folder.path();
        runtime.block_on(async {
            build(folder, 0, 700).await.unwrap();
            // Never closed: what a killed process leaves.
            drop(crash(folder, 0, 400).await.unwrap());
            let (again, open) = restart(folder, 0, false).await.unwrap();
            assert_eq!((again.sealed, again.found), (700, 0));
            drop(open);
            let (last, _open) = restart(folder, 0, true).await.unwrap();
            // Three starts are told besides.
            assert_eq!((last.sealed, last.found), (700, 403));
        });
    }

    #[test]
    fn built_records_differ_in_their_numbers_only() {
        let mut template = Template::of(0).unwrap();
        let first = template.numbered(0).unwrap().to_vec();
        let last = template.numbered(9_999_999).unwrap().to_vec();
        assert_eq!(first.len(), last.len());
        for (entry, seq) in [(first, FIRST), (last, FIRST + 9_999_999)] {
            let record: bartizan_model::record::Record = serde_json::from_slice(&entry).unwrap();
            assert_eq!((record.seq, canonical(&record).unwrap()), (seq, entry));
        }
    }
}
