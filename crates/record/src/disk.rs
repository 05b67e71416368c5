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

    /// Creates files somewhere below `folder`, or empties those that are there, and writes them; what they hold is durable
    /// on return, their names after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// When the disk fails, as for [`DiskFile::sync_data`], or is full.
    fn write_files(&self, _folder: &Path, files: &[(PathBuf, &[u8])]) -> io::Result<()> {
        // A long backlog must not need as many open files as it has tiles.
        for some in files.chunks(64) {
            let mut open = Vec::with_capacity(some.len());
            for (path, bytes) in some {
                let mut file = self.create(path)?;
                file.write_at(bytes, 0)?;
                open.push(file);
            }
            open.iter_mut().try_for_each(|file| file.sync_data())?;
        }
        Ok(())
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
    let temporary = |path: &Path| path.with_extension("new");
    let under: Vec<_> = files.iter().map(|(path, bytes)| (temporary(path), bytes.as_slice())).collect();
    disk.write_files(folder, &under)?;
    for ((path, _), (under, _)) in files.iter().zip(&under) {
        disk.rename(under, path)?;
    }
    Ok(())
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

    /// Many small files cost a flush of the device each; the file system as a whole costs one. Since Linux 5.8 an error of
    /// any of them is told there, to whoever had the file system open when it happened.
    fn write_files(&self, folder: &Path, files: &[(PathBuf, &[u8])]) -> io::Result<()> {
        const MANY: usize = 8;
        let whole = if files.len() < MANY { None } else { Some(File::open(folder)?) };
        let mut open = Vec::new();
        for (path, bytes) in files {
            let mut file = self.create(path)?;
            file.write_at(bytes, 0)?;
            if whole.is_none() {
                open.push(file);
            }
        }
        match whole {
            Some(whole) => Ok(rustix::fs::syncfs(whole)?),
            None => open.iter_mut().try_for_each(|file| file.sync_data()),
        }
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?.sync_all()
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
