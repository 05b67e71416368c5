//! Files for the next segments of the write-ahead log.
//!
//! Writing over a file that is there costs a flush of the device; making one, filling it with zeroes and removing another
//! costs many, and those of the records wait behind them. So a few segments whose records are all sealed are kept, under
//! names that no start reads, until one becomes the next segment as it is: what it held before tells itself from what is
//! written to it (`segment.rs`).

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

    /// Whether there is one.
    pub(crate) fn any(&self) -> bool {
        !self.state().files.is_empty()
    }

    fn take(&self) -> Option<PathBuf> {
        self.state().files.pop()
    }
}

/// A file for the next segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) size: u64,
}

impl Spare {
    /// A freed segment of `size` bytes, as it is; none if there is none.
    pub(crate) fn freed(disk: &dyn Disk, freed: &Freed, size: u64) -> Option<Self> {
        let path = freed.take()?;
        match disk.open(&path) {
            Ok(file) => Some(Self { path, file, size }),
            Err(error) => {
                tracing::debug!(%error, "a freed segment is not used again");
                None
            }
        }
    }

    /// A new file of the usual size, for the segment after this one.
    pub(crate) fn ahead(disk: &dyn Disk, folder: &Path, size: u64) -> io::Result<Self> {
        let mut spare = Self::new(disk, folder.join(NEW), size)?;
        spare.file.sync_data()?;
        Ok(spare)
    }

    /// A new file of `size` zeroes, durable once it was synced; it is removed if they cannot be written.
    pub(crate) fn new(disk: &dyn Disk, path: PathBuf, size: u64) -> io::Result<Self> {
        let zeroed = disk.create(&path).and_then(|mut file| file.zero(0, size).map(|()| file));
        match zeroed {
            Ok(file) => Ok(Self { path, file, size }),
            Err(error) => {
                // If that fails, the next attempt or the next start overwrites or removes it.
                if let Err(error) = disk.remove(&path) {
                    tracing::debug!(%error, "a half-made segment stays");
                }
                Err(error)
            }
        }
    }
}
