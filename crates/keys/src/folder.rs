//! The key folder: files that only the service user can read.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bartizan_base::Random;
use bartizan_secret::Secret;
use zeroize::Zeroizing;

/// A folder of keys, each a file of 32 random bytes.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    path: PathBuf,
}

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The folder or file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than the service user could read it.
    #[error("{path}: others can read it (mode {mode:o}); run `chmod go-rwx {path}`")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It does not hold 32 bytes.
    #[error("{0}: is not a key of 32 bytes; restore it from a copy")]
    Length(PathBuf),
}

impl KeyFolder {
    /// Opens the folder, creating it where it is absent.
    ///
    /// # Errors
    /// When it cannot be created or others can read it.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        if !path.exists() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
        }
        check_mode(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The key called `name`, made where it is absent.
    ///
    /// # Errors
    /// When it cannot be read or made, is open to others, or damaged.
    pub fn key(&self, name: &str, random: &dyn Random) -> Result<Secret<[u8; 32]>, KeyError> {
        let path = self.path.join(name);
        let io = |source| KeyError::Io { path: path.clone(), source };
        if !path.exists() {
            let mut key = Zeroizing::new([0_u8; 32]);
            random.fill(&mut *key);
            let temporary = path.with_extension("new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)
                .map_err(io)?;
            file.write_all(&*key).and_then(|()| file.sync_all()).map_err(io)?;
            fs::rename(&temporary, &path).map_err(io)?;
            fs::File::open(&self.path).and_then(|f| f.sync_all()).map_err(io)?;
        }
        check_mode(&path)?;
        let bytes = Zeroizing::new(fs::read(&path).map_err(io)?);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Length(path))?;
        Ok(Secret::new(key))
    }
}

fn check_mode(path: &Path) -> Result<(), KeyError> {
    let mode =
        fs::metadata(path).map_err(|source| KeyError::Io { path: path.to_owned(), source })?.mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyError::Open { path: path.to_owned(), mode }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_made_once_and_open_or_cut_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let keys = KeyFolder::open(&path).unwrap();
        let first = keys.key("log", &SeededRandom::new(1)).unwrap();
        assert!(first == keys.key("log", &SeededRandom::new(2)).unwrap());
        let file = path.join("log");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(keys.key("log", &SeededRandom::new(1)), Err(KeyError::Open { mode: 0o644, .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, [1; 31]).unwrap();
        assert!(matches!(keys.key("log", &SeededRandom::new(1)), Err(KeyError::Length(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(KeyFolder::open(&path), Err(KeyError::Open { .. })));
    }
}
