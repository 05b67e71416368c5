//! Files that are nobody else's business: readable by their owner alone, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bartizan_secret::Secret;

/// The longest file, in bytes.
const BYTES_MAX: u64 = 256 << 10;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// Others may read or change it.
    #[error("{} can be used by others (mode {mode:o})", path.display())]
    Exposed {
        /// Which file or folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// It does not hold what it should.
    #[error("{}: {message}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong. Never what stands in it.
        message: String,
    },
    /// The system said no.
    #[error("{}: {source}", path.display())]
    System {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl PrivateError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed { path, wanted, .. } => {
                Some(format!("`chmod {wanted:o} {}`, if nobody else has touched it", path.display()))
            }
            Self::Content { .. } => Some("correct it, or remove it and log in again".to_owned()),
            Self::System { .. } => None,
        }
    }

    pub(crate) fn content(path: &Path, message: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), message: message.into() }
    }
}

fn system(path: &Path) -> impl FnOnce(io::Error) -> PrivateError {
    move |source| PrivateError::System { path: path.to_owned(), source }
}

/// Reads a file; none if there is no such file.
///
/// # Errors
/// When others may read or change it, or put another one in its place.
pub(crate) fn read(path: &Path) -> Result<Option<Secret<String>>, PrivateError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(system(path)(error)),
    };
    if let Some(folder) = path.parent() {
        let mode = fs::metadata(folder).map_err(system(folder))?.permissions().mode();
        check(folder, mode, 0o022, 0o700)?;
    }
    // Of the file that is open, not of whatever has the name by now.
    check(path, file.metadata().map_err(system(path))?.permissions().mode(), 0o077, 0o600)?;
    let mut text = String::new();
    let read = file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(system(path))?;
    let text = Secret::new(text);
    if u64::try_from(read).unwrap_or(u64::MAX) > BYTES_MAX {
        return Err(PrivateError::content(path, "it is too long"));
    }
    Ok(Some(text))
}

fn check(path: &Path, mode: u32, never: u32, wanted: u32) -> Result<(), PrivateError> {
    if mode & never == 0 {
        return Ok(());
    }
    Err(PrivateError::Exposed { path: path.to_owned(), mode: mode & 0o777, wanted })
}

/// Puts a file in the place of another one, whole or not at all; whoever writes the same one holds its [`lock`].
///
/// # Errors
/// When it cannot be written; the old one is then still there.
pub(crate) fn write(path: &Path, text: &Secret<String>) -> Result<(), PrivateError> {
    make_folder(path)?;
    let new = path.with_extension("new");
    // What a writer left that has died may have other permissions.
    remove(&new)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(text.expose().as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path));
    written.map_err(system(path))?;
    // Also the new name is there after a crash: a refresh token is good once.
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(system(folder))
}

/// Removes a file, and says whether it was there.
///
/// # Errors
/// When it is there and cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<bool, PrivateError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(system(path)(error)),
    }
}

/// Waits until no other process works on the file; until the answer is dropped, none does. The lock is a file beside it, because
/// the file itself is replaced.
///
/// # Errors
/// When the lock cannot be made.
pub(crate) fn lock(path: &Path) -> Result<File, PrivateError> {
    make_folder(path)?;
    let beside = path.with_extension("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&beside);
    let file = file.map_err(system(&beside))?;
    file.lock().map_err(system(&beside))?;
    Ok(file)
}

fn make_folder(path: &Path) -> Result<(), PrivateError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(system(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn what_is_written_is_its_owners_alone_and_replaces_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        assert!(read(&path).unwrap().is_none());
        write(&path, &secret("one")).unwrap();
        // A writer that died left its half behind, open to everybody.
        fs::write(path.with_extension("new"), "half").unwrap();
        fs::set_permissions(path.with_extension("new"), fs::Permissions::from_mode(0o666)).unwrap();
        write(&path, &secret("two")).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().expose(), "two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(!path.with_extension("new").exists());
        assert!(remove(&path).unwrap() && !remove(&path).unwrap());
    }

    #[test]
    fn what_others_can_read_or_replace_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        write(&path, &secret("one")).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777] {
            set(&path, mode);
            let refused = read(&path).unwrap_err();
            assert!(matches!(refused, PrivateError::Exposed { .. }), "{mode:o}");
            assert!(refused.hint().unwrap().starts_with("`chmod 600 "), "{refused}");
        }
        set(&path, 0o600);
        for mode in [0o770, 0o707, 0o1777] {
            set(path.parent().unwrap(), mode);
            assert!(matches!(read(&path), Err(PrivateError::Exposed { wanted: 0o700, .. })), "{mode:o}");
        }
        set(path.parent().unwrap(), 0o755);
        assert!(read(&path).unwrap().is_some());
    }

    #[test]
    fn one_at_a_time_has_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.json");
        let held = lock(&path).unwrap();
        let other = OpenOptions::new().write(true).open(path.with_extension("lock")).unwrap();
        assert!(other.try_lock().is_err());
        drop(held);
        other.try_lock().unwrap();
    }
}
