//! Where keys lie on the embedded default: a folder that the service user alone may enter.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bartizan_base::Random;
use bartizan_secret::Secret;
use zeroize::Zeroizing;

use crate::printed;
use crate::seal::Sealer;

const LOG_SEED: &str = "log.ed25519";
const WITNESS_SEED: &str = "witness.ed25519";
const POLICY_SEED: &str = "policy.ed25519";
const KEK: &str = "kek.aes256";
const KEY_LEN: usize = 32;

/// A folder of keys, mode 0700, whose files have mode 0600 and hold 32 raw bytes each. A key is written once and never
/// overwritten.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    path: PathBuf,
}

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFolderError {
    /// Others than the owner may read or write it.
    #[error("`{}` has mode {mode:03o}; keys must be the owner's alone: chmod {wanted:03o}", path.display())]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be at most.
        wanted: u32,
    },
    /// Something else stands where a key or the folder should: a link, a device, a file of another owner.
    #[error("`{}` is not {wanted}", path.display())]
    NotPlain {
        /// What stands there.
        path: PathBuf,
        /// What should.
        wanted: &'static str,
    },
    /// The file has another length than a key: cut, or not a key.
    #[error("`{}` does not hold a key: it has {len} bytes and a key has 32", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// There is a key already; it is never overwritten.
    #[error("`{}` exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The machine refused.
    #[error("`{}` cannot be used", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the machine said.
        #[source]
        source: io::Error,
    },
}

impl KeyFolder {
    /// Makes the folder; one that is there already must be as [`KeyFolder::open`] wants it.
    ///
    /// # Errors
    /// As [`KeyFolder::open`].
    pub fn create(path: &Path) -> Result<Self, KeyFolderError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => sync_parent(path).map_err(io_error(path))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error(path)(error)),
        }
        Self::open(path)
    }

    /// Opens a folder that is there. Never makes one: a new key where an old one is expected would be a loss
    /// discovered late.
    ///
    /// # Errors
    /// `TooOpen` when others than the owner may enter, `NotPlain` when it is a link or no folder, `Io` when it is absent.
    pub fn open(path: &Path) -> Result<Self, KeyFolderError> {
        let metadata = fs::symlink_metadata(path).map_err(io_error(path))?;
        if !metadata.is_dir() {
            return Err(KeyFolderError::NotPlain { path: path.to_owned(), wanted: "a folder" });
        }
        narrow(path, &metadata, 0o700)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Makes the seed of the Ed25519 key (RFC 8032) that signs checkpoints.
    ///
    /// # Errors
    /// `Exists` when there is one; `Io` when it cannot be written.
    pub fn create_log_seed(&self, random: &dyn Random) -> Result<Secret<[u8; 32]>, KeyFolderError> {
        self.create_key(LOG_SEED, random)
    }

    /// The seed of the Ed25519 key that signs checkpoints.
    ///
    /// # Errors
    /// When it is absent, too open, or not a key.
    pub fn log_seed(&self) -> Result<Secret<[u8; 32]>, KeyFolderError> {
        self.read_key(LOG_SEED)
    }

    /// The seed of the Ed25519 key that cosigns other houses' checkpoints; made at the first start of a witness.
    ///
    /// # Errors
    /// When it cannot be written, is too open, or is not a key.
    pub fn witness_seed(&self, random: &dyn Random) -> Result<Secret<[u8; 32]>, KeyFolderError> {
        match self.create_key(WITNESS_SEED, random) {
            Err(KeyFolderError::Exists { .. }) => self.read_key(WITNESS_SEED),
            made => made,
        }
    }

    /// Makes the seed of the Ed25519 key that signs policy.
    ///
    /// # Errors
    /// `Exists` when there is one; `Io` when it cannot be written.
    pub fn create_policy_seed(&self, random: &dyn Random) -> Result<Secret<[u8; 32]>, KeyFolderError> {
        self.create_key(POLICY_SEED, random)
    }

    /// The seed of the Ed25519 key that signs policy. All nodes of an installation have the same.
    ///
    /// # Errors
    /// When it is absent, too open, or not a key.
    pub fn policy_seed(&self) -> Result<Secret<[u8; 32]>, KeyFolderError> {
        self.read_key(POLICY_SEED)
    }

    /// Makes the key-encryption key and gives the sealer that uses it.
    ///
    /// # Errors
    /// `Exists` when there is one; `Io` when it cannot be written.
    pub fn create_sealer(&self, random: &dyn Random) -> Result<Sealer, KeyFolderError> {
        self.create_key(KEK, random).map(Sealer::new)
    }

    /// The sealer with the folder's key-encryption key.
    ///
    /// # Errors
    /// When the key is absent, too open, or not a key.
    pub fn sealer(&self) -> Result<Sealer, KeyFolderError> {
        self.read_key(KEK).map(Sealer::new)
    }

    /// Written aside, synced, then linked to its name: the name never stands for half a key, and linking, unlike
    /// renaming, never replaces one.
    fn create_key(&self, name: &str, random: &dyn Random) -> Result<Secret<[u8; 32]>, KeyFolderError> {
        let key = printed::generate(random);
        let path = self.path.join(name);
        let mut suffix = [0; 8];
        random.fill(&mut suffix);
        let aside = self.path.join(format!(".{name}.{:016x}", u64::from_be_bytes(suffix)));
        let written = write_synced(&aside, key.expose()).and_then(|()| fs::hard_link(&aside, &path));
        let removed = fs::remove_file(&aside);
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(KeyFolderError::Exists { path });
            }
            Err(error) => return Err(io_error(&path)(error)),
        }
        removed.and_then(|()| File::open(&self.path)?.sync_all()).map_err(io_error(&path))?;
        Ok(key)
    }

    fn read_key(&self, name: &str) -> Result<Secret<[u8; 32]>, KeyFolderError> {
        let path = self.path.join(name);
        // No link is followed: nobody but the owner can put one into the folder, and the owner has no reason to.
        let named = fs::symlink_metadata(&path).map_err(io_error(&path))?;
        let folder = fs::symlink_metadata(&self.path).map_err(io_error(&self.path))?;
        if !named.is_file() || named.uid() != folder.uid() {
            return Err(KeyFolderError::NotPlain { path, wanted: "a plain file of the folder's owner" });
        }
        narrow(&path, &named, 0o600)?;
        if named.len() != KEY_LEN as u64 {
            return Err(KeyFolderError::NotAKey { path, len: named.len() });
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        File::open(&path).and_then(|mut file| file.read_exact(&mut *key)).map_err(io_error(&path))?;
        Ok(Secret::new(*key))
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A new folder is durable once the one above it is.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn narrow(path: &Path, metadata: &Metadata, wanted: u32) -> Result<(), KeyFolderError> {
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & !wanted & 0o777 == 0 {
        return Ok(());
    }
    Err(KeyFolderError::TooOpen { path: path.to_owned(), mode, wanted })
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> KeyFolderError {
    let path = path.to_owned();
    move |source| KeyFolderError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    use super::*;
    use bartizan_base::random::SeededRandom;

    fn folder() -> (tempfile::TempDir, KeyFolder) {
        let parent = tempfile::tempdir().unwrap();
        let keys = KeyFolder::create(&parent.path().join("keys")).unwrap();
        (parent, keys)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn keys_are_kept_for_the_owner_alone_and_read_back() {
        let (_parent, keys) = folder();
        let random = SeededRandom::new(1);
        let seed = keys.create_log_seed(&random).unwrap();
        keys.create_sealer(&random).unwrap();
        let again = KeyFolder::open(&keys.path).unwrap();
        assert!(again.log_seed().unwrap() == seed);
        again.sealer().unwrap();
        assert_eq!(fs::metadata(&keys.path).unwrap().permissions().mode() & 0o777, 0o700);
        let files: Vec<_> = fs::read_dir(&keys.path).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 2, "nothing is left aside: {files:?}");
        for file in files {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let (_parent, keys) = folder();
        let random = SeededRandom::new(1);
        let seed = keys.create_log_seed(&random).unwrap();
        assert!(matches!(keys.create_log_seed(&random), Err(KeyFolderError::Exists { .. })));
        assert!(keys.log_seed().unwrap() == seed);
        assert_eq!(fs::read_dir(&keys.path).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let (_parent, keys) = folder();
        for mode in [0o750, 0o701, 0o777, 0o720] {
            chmod(&keys.path, mode);
            let error = KeyFolder::open(&keys.path).unwrap_err();
            assert!(error.to_string().contains("chmod 700"), "{error}");
            assert!(KeyFolder::create(&keys.path).is_err());
        }
        chmod(&keys.path, 0o500);
        KeyFolder::open(&keys.path).unwrap();
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let (_parent, keys) = folder();
        keys.create_log_seed(&SeededRandom::new(1)).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o700] {
            chmod(&keys.path.join(LOG_SEED), mode);
            let error = keys.log_seed().unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        chmod(&keys.path.join(LOG_SEED), 0o400);
        keys.log_seed().unwrap();
    }

    #[test]
    fn a_truncated_long_or_missing_key_is_refused() {
        let (_parent, keys) = folder();
        let path = keys.path.join(LOG_SEED);
        assert!(matches!(keys.log_seed(), Err(KeyFolderError::Io { .. })));
        assert!(matches!(KeyFolder::open(&keys.path.join("missing")), Err(KeyFolderError::Io { .. })));
        keys.create_log_seed(&SeededRandom::new(1)).unwrap();
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..31], &[], &[whole.as_slice(), b"\n"].concat()] {
            fs::write(&path, bytes).unwrap();
            assert!(matches!(keys.log_seed(), Err(KeyFolderError::NotAKey { .. })), "{}", bytes.len());
        }
    }

    #[test]
    fn a_link_in_place_of_a_key_or_folder_is_refused() {
        let (parent, keys) = folder();
        keys.create_log_seed(&SeededRandom::new(1)).unwrap();
        symlink(keys.path.join(LOG_SEED), keys.path.join(KEK)).unwrap();
        assert!(matches!(keys.sealer(), Err(KeyFolderError::NotPlain { .. })));
        let link = parent.path().join("link");
        symlink(&keys.path, &link).unwrap();
        assert!(matches!(KeyFolder::open(&link), Err(KeyFolderError::NotPlain { .. })));
        assert!(matches!(KeyFolder::create(&link), Err(KeyFolderError::NotPlain { .. })));
    }
}
