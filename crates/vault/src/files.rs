//! The payload files: `vault/xx/NAME`, where the name is the SHA-256 of the sealed content and `xx` its first two digits.
//! They are written in `vault/tmp/` first.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bartizan_base::{Digest, Random};

use crate::error::file;
use crate::{VaultError, schema};

#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

/// A file without a name of its own yet; removed unless it is kept.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    pub(crate) file: File,
}

// === impl Files ===

impl Files {
    /// Opens the folder and removes what was being written when the last process ended.
    pub(crate) fn open(root: &Path) -> Result<Self, VaultError> {
        let temporary = root.join("tmp");
        make(root).and_then(|()| make(&temporary)).map_err(file(root))?;
        for entry in fs::read_dir(&temporary).map_err(file(&temporary))? {
            let path = entry.map_err(file(&temporary))?.path();
            schema::wipe(&path).and_then(|()| fs::remove_file(&path)).map_err(file(&path))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// A new file to write to.
    pub(crate) fn temporary(&self, random: &dyn Random) -> Result<Temporary, VaultError> {
        let mut name = [0; 16];
        random.fill(&mut name);
        let path = self.root.join("tmp").join(format!("{:032x}", u128::from_be_bytes(name)));
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = open.map_err(file(&path))?;
        Ok(Temporary { path, file })
    }

    /// Gives a file, whose content is durable, its name; durable on return.
    pub(crate) fn keep(&self, temporary: &Temporary, name: Digest) -> Result<(), VaultError> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        make(folder)
            .and_then(|()| fs::rename(&temporary.path, &path))
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(file(&path))
    }

    /// Opens a file to read it; `None` when there is none.
    pub(crate) fn read(&self, name: Digest) -> Result<Option<File>, VaultError> {
        let path = self.path(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file(&path)(error)),
        }
    }

    /// Overwrites a file, if it is there.
    pub(crate) fn wipe(&self, name: Digest) -> Result<(), VaultError> {
        absent_is_fine(&self.path(name), schema::wipe)
    }

    /// Removes a file, if it is there; durable on return.
    pub(crate) fn remove(&self, name: Digest) -> Result<(), VaultError> {
        absent_is_fine(&self.path(name), |path| {
            fs::remove_file(path)?;
            File::open(path.parent().unwrap_or(&self.root))?.sync_all()
        })
    }

    /// Calls `visit` with the name of every file that is kept.
    pub(crate) fn each(
        &self,
        mut visit: impl FnMut(Digest) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        for folder in list(&self.root)? {
            if folder.is_dir() {
                for path in list(&folder)? {
                    // Names that are no digests are none of ours; those in `tmp` are no digests.
                    let name =
                        path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
                    if let Some(name) = name
                        && self.path(name) == path
                    {
                        visit(name)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self, name: Digest) -> PathBuf {
        let name = name.to_string();
        self.root.join(name.get(..2).unwrap_or_default()).join(name)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After `keep` there is nothing of that name; otherwise the next start removes what cannot be removed now.
        let _ = fs::remove_file(&self.path);
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, VaultError> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(file(folder))
}

/// Makes a folder for the service user alone, durably.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).create(folder)?;
    match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

fn absent_is_fine(path: &Path, act: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), VaultError> {
    match act(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
