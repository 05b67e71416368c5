//! One running process a data folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::disk::{Disk as _, RealDisk};

/// A data folder that this process has for itself, as long as this value lives. The system gives the lock up when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Held open: the lock goes with it.
    _lock: File,
}

/// Why a data folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{0}: another process is using this data folder; stop it first, or talk to its control listener instead"
    )]
    Taken(PathBuf),
    /// The folder or its file `lock` cannot be made or opened.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataFolder {
    /// Takes the folder, which is made if it is not there, or refuses at once if another process has it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn lock(path: &Path) -> Result<Self, LockError> {
        let file = path.join("lock");
        let io = |source| LockError::Io { path: file.clone(), source };
        RealDisk.create_dir_all(path).map_err(io)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(LockError::Taken(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataFolder::lock(&path).unwrap();
        assert_eq!(first.path(), path);
        let refused = DataFolder::lock(&path).unwrap_err();
        assert!(matches!(&refused, LockError::Taken(p) if *p == path));
        assert!(refused.to_string().contains("another process"));
        drop(first);
        DataFolder::lock(&path).unwrap();
    }
}
