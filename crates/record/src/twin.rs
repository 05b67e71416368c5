//! The write-ahead log on two disks at once, so that losing one loses nothing that was acknowledged.
//!
//! Whatever is written, named or removed on the first is on the second before it counts; if either fails, both do. What was
//! acknowledged is on both, so a start may take either: it takes the one that holds more and makes the other equal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bartizan_model::NodeId;

use crate::disk::{Disk, DiskFile, write_whole};
use crate::recover::{OpenError, Recovered, look};
use crate::segment;
use crate::spare::is_left_over;

/// Where the second copy lies.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// The folder of its segments, on another device or host than the first.
    pub folder: PathBuf,
}

/// Two disks that are written as one: everything below `folder`.
#[derive(Debug)]
pub(crate) struct TwinDisk {
    first: Arc<dyn Disk>,
    folder: PathBuf,
    second: Copy,
}

#[derive(Debug)]
struct TwinFile {
    first: Box<dyn DiskFile>,
    second: Box<dyn DiskFile>,
}

impl TwinDisk {
    pub(crate) fn new(first: Arc<dyn Disk>, folder: PathBuf, second: Copy) -> Self {
        Self { first, folder, second }
    }

    fn there(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.folder).map_or_else(|_| path.to_owned(), |rest| self.second.folder.join(rest))
    }
}

/// Does both, the second in a thread of its own: their flushes take as long as the slower one.
fn both(
    first: impl FnOnce() -> io::Result<()>,
    second: impl FnOnce() -> io::Result<()> + Send,
) -> io::Result<()> {
    std::thread::scope(|scope| {
        let second =
            std::thread::Builder::new().name("bartizan-wal-copy".to_owned()).spawn_scoped(scope, second)?;
        let first = first();
        second.join().unwrap_or_else(|_| Err(io::Error::other("the writer of the second copy panicked")))?;
        first
    })
}

impl Disk for TwinDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let (first, second) = (self.first.create(path)?, self.second.disk.create(&self.there(path))?);
        Ok(Box::new(TwinFile { first, second }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let (first, second) = (self.first.open(path)?, self.second.disk.open(&self.there(path))?);
        Ok(Box::new(TwinFile { first, second }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.first.read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.first.list(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.second.disk.rename(&self.there(from), &self.there(to))?;
        self.first.rename(from, to)
    }

    /// The first goes first: a crash in between leaves the second with more, never with less.
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.first.remove(path)?;
        match self.second.disk.remove(&self.there(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.second.disk.create_dir_all(&self.there(folder))?;
        self.first.create_dir_all(folder)
    }

    fn remove_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.first.remove_dir_all(folder)?;
        self.second.disk.remove_dir_all(&self.there(folder))
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        both(|| self.first.sync_dir(folder), || self.second.disk.sync_dir(&self.there(folder)))
    }
}

impl DiskFile for TwinFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.second.write_at(bytes, offset)?;
        self.first.write_at(bytes, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let Self { first, second } = self;
        both(|| first.sync_data(), || second.sync_data())
    }
}

/// Makes both copies equal before a start: the one that holds more is right, for every acknowledged record is on both.
/// Gives the folder that was written, if one had to be.
pub(crate) fn reconcile(
    first: &dyn Disk,
    folder: &Path,
    second: &Copy,
    node: NodeId,
) -> Result<Option<PathBuf>, OpenError> {
    refuse_foreign(second, node)?;
    let (here, there) = (look(first, folder, node), look(&*second.disk, &second.folder, node));
    let take_second = match (&here, &there) {
        (Ok(here), Ok(there)) => {
            same_history(here, there, &second.folder)?;
            there.last_seq > here.last_seq
        }
        (Err(_), Ok(there)) => there.any,
        (_, Err(_)) => false,
    };
    if !take_second {
        here?;
        return mirror(first, folder, &*second.disk, &second.folder);
    }
    mirror(&*second.disk, &second.folder, first, folder)
}

/// A folder that another node writes to is never overwritten.
fn refuse_foreign(second: &Copy, node: NodeId) -> Result<(), OpenError> {
    let names = second.disk.list(&second.folder).unwrap_or_default();
    for path in names.iter().filter(|n| segment::first_of(n).is_some()).map(|n| second.folder.join(n)) {
        if second.disk.read(&path).is_ok_and(|bytes| segment::Head::is_foreign(&bytes, node)) {
            let what = "belongs to another node; every node needs a folder of its own for its second copy";
            return Err(OpenError::Damaged { path, what: what.to_owned() });
        }
    }
    Ok(())
}

fn same_history(here: &Recovered, there: &Recovered, folder: &Path) -> Result<(), OpenError> {
    let differs = here.records.iter().any(|record| {
        let first = there.records.first().map_or(u64::MAX, |r| r.seq);
        let place = record.seq.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| there.records.get(place)).is_some_and(|other| other.leaf != record.leaf)
    });
    if differs {
        let what = "holds other records than the first copy under the same numbers".to_owned();
        return Err(OpenError::Damaged { path: folder.to_owned(), what });
    }
    Ok(())
}

/// Makes the segments below `to` those below `from`. Broken off, the next start finds `to` with less and does it again.
fn mirror(
    source: &dyn Disk,
    from: &Path,
    target: &dyn Disk,
    to: &Path,
) -> Result<Option<PathBuf>, OpenError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    target.create_dir_all(to).map_err(at(to))?;
    let (wanted, left_over): (Vec<String>, Vec<String>) =
        source.list(from).map_err(at(from))?.into_iter().partition(|name| segment::first_of(name).is_some());
    for name in left_over.into_iter().filter(|name| is_left_over(name)) {
        source.remove(&from.join(&name)).map_err(at(from))?;
    }
    let mut changed = false;
    for name in target.list(to).map_err(at(to))?.into_iter().filter(|name| !wanted.contains(name)) {
        target.remove(&to.join(&name)).map_err(at(to))?;
        changed |= segment::first_of(&name).is_some();
    }
    for name in wanted {
        let bytes = source.read(&from.join(&name)).map_err(at(from))?;
        if target.read(&to.join(&name)).is_ok_and(|there| there == bytes) {
            continue;
        }
        write_whole(target, to, &[(to.join(&name), bytes)]).map_err(at(to))?;
        changed = true;
    }
    target.sync_dir(to).map_err(at(to))?;
    Ok(changed.then(|| to.to_owned()))
}
