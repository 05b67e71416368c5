//! Files for the next segments of the write-ahead log.
//!
//! Writing over a file that is there costs a flush of the device; making one and removing another costs many, and those of
//! the records wait behind them. So a few segments whose records are all sealed are kept, under names that no start
//! reads, and written over with zeroes before one becomes the next segment: what a segment held before is gone, durably,
//! before it has a name again.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};
use crate::segment;

/// Freed segments that are kept at the most.
const FREED_MAX: usize = 4;

/// The file of a segment that was made ahead and has no number yet.
const NEW: &str = "spare.new";

/// Whether a file is of no use to a start: half-made, or a freed segment.
pub(crate) fn is_left_over(name: &str) -> bool {
    name.ends_with(".new") || name.ends_with(".old")
}

/// What the sealer frees and the writer uses again.
#[derive(Debug, Default)]
pub(crate) struct Freed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Segments of the usual size that this process has made, by their first number.
    usual: BTreeSet<u64>,
    /// Freed ones, durably under names that are not read.
    files: Vec<PathBuf>,
}

impl Freed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment that begins with `first` has the usual size.
    pub(crate) fn is_usual(&self, first: u64) {
        self.state().usual.insert(first);
    }

    /// Frees the segment that begins with `first`: durably no segment on return, and kept if there is room for it.
    pub(crate) fn free(&self, disk: &dyn Disk, folder: &Path, first: u64) -> io::Result<()> {
        let path = segment::path_of(folder, first);
        let kept = path.with_extension("old");
        let wanted = {
            let mut state = self.state();
            state.usual.remove(&first) && state.files.len() < FREED_MAX
        };
        // What cannot get another name can still go, also if one of two disks has given it one already.
        let renamed = wanted && disk.rename(&path, &kept).is_ok();
        if !renamed {
            disk.remove(&path)?;
        }
        disk.sync_dir(folder)?;
        if renamed {
            self.state().files.push(kept);
        }
        Ok(())
    }

    fn take(&self) -> Option<PathBuf> {
        self.state().files.pop()
    }
}

/// A file for the next segment, zeroes only; durable once it was synced.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) size: u64,
}

impl Spare {
    /// A freed file written over with zeroes, or a new one.
    pub(crate) fn usual(disk: &dyn Disk, folder: &Path, freed: &Freed, size: u64) -> io::Result<Self> {
        if let Some(path) = freed.take() {
            match filled(disk, disk.open(&path), path.clone(), size) {
                Ok(spare) => return Ok(spare),
                Err(error) => tracing::debug!(%error, "a freed segment is not used again"),
            }
        }
        Self::new(disk, folder.join(NEW), size)
    }

    /// A new file of `size` bytes.
    pub(crate) fn new(disk: &dyn Disk, path: PathBuf, size: u64) -> io::Result<Self> {
        filled(disk, disk.create(&path), path, size)
    }
}

/// The file with zeroes; it is removed if they cannot be written.
fn filled(
    disk: &dyn Disk,
    file: io::Result<Box<dyn DiskFile>>,
    path: PathBuf,
    size: u64,
) -> io::Result<Spare> {
    let zeroed = file.and_then(|mut file| file.zero(0, size).map(|()| file));
    match zeroed {
        Ok(file) => Ok(Spare { path, file, size }),
        Err(error) => {
            // If that fails, the next attempt or the next start overwrites or removes it.
            if let Err(error) = disk.remove(&path) {
                tracing::debug!(%error, "a half-made segment stays");
            }
            Err(error)
        }
    }
}
