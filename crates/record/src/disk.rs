//! The disk as the recorder sees it, so that tests can crash it and make it fail.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A disk of files and folders.
///
/// Contract: what [`DiskFile::sync_data`] and [`Disk::sync_dir`] answered `Ok` to survives a crash of process and
/// machine. Before that, any part of it may be lost: single sectors of a file, single names of a folder. Replacing a name
/// by [`Disk::rename`] is atomic.
pub trait Disk: Debug + Send + Sync {
    /// Creates a file, or empties the one that is there. Its name is durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// When the disk fails or is full.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to change it in place.
    ///
    /// # Errors
    /// When there is none, or the disk fails.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The whole of a file.
    ///
    /// # Errors
    /// When there is none, or the disk fails.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a folder, sorted; none where there is no folder.
    ///
    /// # Errors
    /// When the disk fails.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Gives a file another name, replacing the one that has it. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// When the disk fails.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// When there is none, or the disk fails.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder with those above it; durable on return.
    ///
    /// # Errors
    /// When the disk fails or is full.
    fn create_dir_all(&self, folder: &Path) -> io::Result<()>;

    /// Removes a folder and what is in it.
    ///
    /// # Errors
    /// When there is none, or the disk fails.
    fn remove_dir_all(&self, folder: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// When the disk fails.
    fn sync_dir(&self, folder: &Path) -> io::Result<()>;

    /// Begins to write several files somewhere below `folder`.
    ///
    /// # Errors
    /// When the disk fails.
    fn several(&self, _folder: &Path) -> io::Result<Box<dyn Several + '_>> {
        Ok(Box::new(OneByOne { disk: self, open: Vec::new() }))
    }
}

/// Files that are written together.
pub trait Several: Debug + Send {
    /// Creates a file, or empties the one that is there, and writes it.
    ///
    /// # Errors
    /// When the disk fails or is full.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable; the names are after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// When the disk fails, as for [`DiskFile::sync_data`].
    fn sync(&mut self) -> io::Result<()>;
}

/// Each file synced for itself.
#[derive(Debug)]
struct OneByOne<'a, D: ?Sized> {
    disk: &'a D,
    open: Vec<Box<dyn DiskFile>>,
}

impl<D: Disk + ?Sized> Several for OneByOne<'_, D> {
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // A long backlog must not need as many open files as it has tiles.
        const OPEN_MAX: usize = 64;
        if self.open.len() >= OPEN_MAX {
            self.sync()?;
        }
        let mut file = self.disk.create(path)?;
        file.write_at(bytes, 0)?;
        self.open.push(file);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.open.drain(..).try_for_each(|mut file| file.sync_data())
    }
}

/// An open file.
pub trait DiskFile: Debug + Send {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// When the disk fails or is full.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// When the disk fails. What was written since the last sync is then in an unknown state, also if a later sync
    /// succeeds.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Writes zeroes from `from` up to `to`: real ones, not a hole, so that the room is there and later syncs change no
    /// metadata.
    ///
    /// # Errors
    /// When the disk fails or is full.
    fn zero(&mut self, from: u64, to: u64) -> io::Result<()> {
        const PIECE: u64 = 1 << 20;
        let zeroes = vec![0; usize::try_from(PIECE.min(to.saturating_sub(from))).unwrap_or_default()];
        let mut at = from;
        while at < to {
            let length = (to - at).min(PIECE);
            let piece = usize::try_from(length).ok().and_then(|l| zeroes.get(..l)).unwrap_or_default();
            self.write_at(piece, at)?;
            at += length;
        }
        Ok(())
    }
}

/// Writes whole files below `folder` durably under other names first, then gives them their own; the names are durable
/// after [`Disk::sync_dir`].
pub(crate) fn write_whole(disk: &dyn Disk, folder: &Path, files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
    let mut several = disk.several(folder)?;
    for (path, bytes) in files {
        several.write(&temporary(path), bytes)?;
    }
    several.sync()?;
    files.iter().try_for_each(|(path, _)| disk.rename(&temporary(path), path))
}

/// The name under which a file is written before it has its own.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Whether there was no room, so that trying again later can help.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The machine's disk. Files are for the service user alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().write(true).open(path)?)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.create_dir_all(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        folder.parent().map_or(Ok(()), |parent| self.sync_dir(parent))
    }

    fn remove_dir_all(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir_all(folder)
    }

    fn several(&self, folder: &Path) -> io::Result<Box<dyn Several + '_>> {
        Ok(Box::new(RealFiles { folder: File::open(or_here(folder))?, open: Vec::new(), many: false }))
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        File::open(or_here(folder))?.sync_all()
    }
}

/// The folder as it can be opened.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Files of one file system. Many small ones cost a flush of the device each; the file system as a whole costs one.
#[derive(Debug)]
struct RealFiles {
    /// Since Linux 5.8 an error of any file is told to whoever had its file system open when it happened.
    folder: File,
    open: Vec<Box<dyn DiskFile>>,
    /// Whether there are too many to be synced for themselves.
    many: bool,
}

impl Several for RealFiles {
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        const MANY: usize = 8;
        let mut file = RealDisk.create(path)?;
        file.write_at(bytes, 0)?;
        self.open.push(file);
        if self.many || self.open.len() >= MANY {
            self.many = true;
            self.open.clear();
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.many) {
            return Ok(rustix::fs::syncfs(&self.folder)?);
        }
        self.open.drain(..).try_for_each(|mut file| file.sync_data())
    }
}

impl DiskFile for RealFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}
