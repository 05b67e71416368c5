//! What the write-ahead log holds at a start, and whether it can be believed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bartizan_base::{Digest, Timestamp};
use bartizan_model::NodeId;
use bartizan_model::record::{Body, Record};

use crate::disk::Disk;
use crate::log::LogError;
use crate::queue::About;
use crate::sector;
use crate::segment::{self, Damage, Frame, Open};
use crate::spare::is_left_over;
use crate::tail::{Entry, Written};

/// Why the recorder cannot be opened. Each says the way out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder or file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A segment is damaged, and not by a crash.
    #[error(
        "{path}: {what}, and no crash explains it. Restore the file from a second copy; without one, move the folder \
         `wal` away and start this data folder under a new node id: what was not sealed is lost, and the ledger shows \
         that the old node's numbers end"
    )]
    Damaged {
        /// Which segment.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A segment is missing.
    #[error(
        "{path}: begins with record {found}, but record {expected} should follow; a segment is missing. Restore it from a \
         second copy; without one, move the folder `wal` away and start this data folder under a new node id"
    )]
    Gap {
        /// The segment behind the gap.
        path: PathBuf,
        /// The record that should stand there.
        expected: u64,
        /// The record that does.
        found: u64,
    },
    /// The write-ahead log ends before what was sealed from it.
    #[error(
        "the write-ahead log ends at record {last}, but record {sealed} of this node is sealed already: the disk has lost \
         what it had confirmed. Restore the folder `wal` from a second copy; without one, move it away and start this \
         data folder under a new node id"
    )]
    Behind {
        /// The last record of the write-ahead log.
        last: u64,
        /// The last sealed record.
        sealed: u64,
    },
    /// A sealed log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The lock store does not answer.
    #[error("the state database does not answer: {0}")]
    Checkpoints(#[from] bartizan_store::StoreError),
    /// The writer's thread could not be started, or a task was ended.
    #[error("the process is ending or has no threads left")]
    Thread,
}

/// What the write-ahead log holds.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Every record still there, sealed or not.
    pub(crate) records: Vec<Written>,
    /// The number of the last record; 0 for none.
    pub(crate) last_seq: u64,
    pub(crate) last_leaf: Option<Digest>,
    /// Intents without an outcome.
    pub(crate) open: Open,
    /// Bytes that were cut off the end.
    pub(crate) torn: u64,
    /// Whether there is any segment.
    pub(crate) any: bool,
    /// The number that the first segment begins with.
    pub(crate) first_seq: u64,
}

fn at(path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path: path.clone(), source }
}

/// Reads the write-ahead log of `node`, cuts what a crash left unfinished, and makes durable again what it found.
pub(crate) fn recover(disk: &dyn Disk, folder: &Path, node: NodeId) -> Result<Recovered, OpenError> {
    disk.create_dir_all(folder).map_err(at(folder))?;
    for name in disk.list(folder).map_err(at(folder))? {
        if is_left_over(&name) {
            disk.remove(&folder.join(name)).map_err(at(folder))?;
        }
    }
    read_all(disk, folder, node, settle)
}

/// Reads the write-ahead log of `node` and changes nothing.
pub(crate) fn look(disk: &dyn Disk, folder: &Path, node: NodeId) -> Result<Recovered, OpenError> {
    read_all(disk, folder, node, |_, _, _| Ok(()))
}

fn read_all(disk: &dyn Disk, folder: &Path, node: NodeId, settle: Settle) -> Result<Recovered, OpenError> {
    let names = disk.list(folder).map_err(at(folder))?;
    let mut segments: Vec<(u64, PathBuf)> =
        names.iter().filter_map(|name| Some((segment::first_of(name)?, folder.join(name)))).collect();
    segments.sort();
    let mut out = Recovered { any: !segments.is_empty(), ..Recovered::default() };
    let count = segments.len();
    for (place, (first, path)) in segments.into_iter().enumerate() {
        let last = (place + 1 == count).then_some(settle);
        out.add_segment(disk, first, &path, node, last)?;
    }
    Ok(out)
}

/// What is done with the end of the last segment.
type Settle = fn(&dyn Disk, &Path, &segment::Scan) -> io::Result<()>;

impl Recovered {
    fn add_segment(
        &mut self,
        disk: &dyn Disk,
        first: u64,
        path: &Path,
        node: NodeId,
        last: Option<Settle>,
    ) -> Result<(), OpenError> {
        let damaged = |what: Damage| OpenError::Damaged { path: path.to_owned(), what: what.to_string() };
        let bytes = disk.read(path).map_err(at(path))?;
        let scan = segment::scan(&bytes, node).map_err(damaged)?;
        if scan.head.first != first || (scan.torn.is_some() && last.is_none()) {
            return Err(damaged(Damage::Head));
        }
        match self.last_leaf {
            None => {
                self.first_seq = first;
                self.open = scan.head.open.clone();
                self.last_seq = first.saturating_sub(1);
            }
            Some(_) if self.last_seq + 1 != first => {
                let expected = self.last_seq + 1;
                return Err(OpenError::Gap { path: path.to_owned(), expected, found: first });
            }
            Some(leaf) if leaf != scan.head.previous => return Err(damaged(Damage::Head)),
            Some(_) => {}
        }
        self.last_leaf = Some(scan.frames.last().map_or(scan.head.previous, |f| f.leaf));
        for frame in &scan.frames {
            let written =
                read_frame(&scan.content, frame, node).ok_or_else(|| damaged(Damage::Frame(frame.seq)))?;
            match written.about {
                About::Intent(id) => drop(self.open.insert(id, written.tenant.clone())),
                About::Outcome(id) => drop(self.open.remove(&id)),
                About::Refusal(_) | About::System => {}
            }
            self.last_seq = frame.seq;
            self.records.push(written);
        }
        if let Some(settle) = last {
            self.torn = scan.torn.as_ref().map_or(0, |t| t.len() as u64);
            settle(disk, path, &scan).map_err(at(path))?;
        }
        Ok(())
    }
}

/// Makes the end of the last segment durable as it was read, without what is torn.
///
/// Its last batch may have been read from memory although a sync of it had failed or had never come; a later sync alone
/// would not write it again. So it is written again. Earlier batches were synced before the last one was written.
fn settle(disk: &dyn Disk, path: &Path, scan: &segment::Scan) -> io::Result<()> {
    if scan.last.is_none() && scan.torn.is_none() {
        return Ok(());
    }
    let mut file = disk.open(path)?;
    let mut again = Vec::new();
    let mut at = 0;
    if let Some(last) = &scan.last {
        sector::lay(&mut again, last.first, scan.content.get(last.content.clone()).unwrap_or_default());
        at = last.at as u64;
    }
    if let Some(torn) = &scan.torn {
        // Durable before the sector is written in which the last whole record ends: behind a batch that is whole again,
        // nothing more of it would be explained.
        file.zero((torn.start as u64).max(at + again.len() as u64), torn.end as u64)?;
        file.sync_data()?;
    }
    file.write_at(&again, at)?;
    file.sync_data()
}

fn read_frame(content: &[u8], frame: &Frame, node: NodeId) -> Option<Written> {
    let entry = content.get(frame.entry.clone())?;
    let record: Record = serde_json::from_slice(entry).ok()?;
    (record.seq == frame.seq && record.node == node).then(|| Written {
        seq: frame.seq,
        time: record.time_us,
        about: about(&record.body),
        tenant: record.tenant,
        entry: Entry::new(Arc::new(entry.to_vec()), 0..entry.len()),
        leaf: frame.leaf,
        index: OnceLock::new(),
    })
}

/// Which decision a record's body belongs to.
pub(crate) const fn about(body: &Body) -> About {
    match body {
        Body::Intent(intent) => About::Intent(intent.id),
        Body::Refusal(refusal) => About::Refusal(refusal.id),
        Body::Outcome(outcome) => About::Outcome(outcome.of),
        Body::System(_) => About::System,
    }
}

/// The earliest moment at which a record of `node` can have been made, give or take a clock that jumps.
pub(crate) fn earliest(node: NodeId) -> Timestamp {
    const DAY_US: u64 = 86_400_000_000;
    Timestamp::from_micros(node.timestamp().as_micros().saturating_sub(DAY_US))
}
