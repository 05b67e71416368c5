//! The latest revision that this node has decided on, beside its ledger: a state database that was put back to an earlier one has
//! forgotten revocations, and must not be decided on unnoticed, also after a restart.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Where it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Watermark(PathBuf);

impl Watermark {
    /// The one of a data folder.
    pub(crate) fn of(folder: &Path) -> Self {
        Self(folder.join("revision"))
    }

    /// The revision known here; none before the first start, or where the file was removed on purpose or is torn.
    pub(crate) fn known(&self) -> Option<u64> {
        fs::read_to_string(&self.0).ok()?.trim().parse().ok()
    }

    /// Where an operator finds it.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Keeps a revision. After a crash of the machine an earlier one may be there, which only makes for less notice.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn note(&self, revision: u64) -> io::Result<()> {
        let new = self.0.with_extension("new");
        fs::File::create(&new)?.write_all(revision.to_string().as_bytes())?;
        fs::rename(new, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_last_is_known_and_a_torn_file_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mark = Watermark::of(folder.path());
        assert_eq!(mark.known(), None);
        mark.note(7).unwrap();
        mark.note(12).unwrap();
        assert_eq!(mark.known(), Some(12));
        fs::write(mark.path(), "1x").unwrap();
        assert_eq!(mark.known(), None);
    }
}
