//! Commands that need no server: checking and testing bundles, verifying logs, explaining codes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bartizan_decide::Bundle;
use bartizan_ledger::{ENTRIES_PER_BUNDLE, Tile, bundle_entries};

/// The part of a bundle folder that says what no rules may ever permit. It is no part of the bundle.
const INVARIANTS: &str = "invariants/";

/// Reads a bundle folder: every `.cedar`, `.cedarschema` and `.toml` file below it, but no invariants.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn read_bundle(folder: &Path) -> io::Result<Bundle> {
    let mut files = read_files(folder)?;
    files.retain(|name, _| !name.starts_with(INVARIANTS));
    Ok(Bundle { files })
}

/// Reads the invariants of a bundle folder: `invariants/*.cedar`.
///
/// # Errors
/// When a file cannot be read.
#[cfg(feature = "proofs")]
pub(crate) fn read_invariants(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut files = read_files(folder)?;
    files.retain(|name, _| name.starts_with(INVARIANTS) && name.ends_with(".cedar"));
    Ok(files)
}

fn read_files(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut queue = vec![folder.to_owned()];
    while let Some(next) = queue.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                queue.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            if [".cedar", ".cedarschema", ".toml"].iter().any(|end| name.ends_with(end)) {
                files.insert(name, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(files)
}

/// The folder of one log, as its files say: nothing is verified here.
#[derive(Debug)]
pub(crate) struct LogFolder(PathBuf);

/// Why a log folder could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogFolderError {
    /// A file of it.
    #[error("{0}")]
    File(String, #[source] io::Error),
    /// A file is not what its name says.
    #[error("{0} is damaged; `bartizan log verify` tells more")]
    Damaged(String),
    /// The entries could not be written out.
    #[error("the output could not be written")]
    Output(#[from] io::Error),
}

impl LogFolder {
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn file(&self, name: &str) -> Result<Vec<u8>, LogFolderError> {
        let path = self.0.join(name);
        fs::read(&path).map_err(|e| LogFolderError::File(path.display().to_string(), e))
    }

    /// How many entries the checkpoint counts.
    pub(crate) fn size(&self) -> Result<u64, LogFolderError> {
        let note = self.file("checkpoint")?;
        let size = str::from_utf8(&note).ok().and_then(|text| text.lines().nth(1)?.parse().ok());
        size.ok_or_else(|| LogFolderError::Damaged("checkpoint".to_owned()))
    }

    /// Writes up to `limit` entries from the entry `from` on, a line each; returns the one to go on with.
    pub(crate) fn write(&self, from: u64, limit: u64, out: &mut impl Write) -> Result<u64, LogFolderError> {
        let end = self.size()?.min(from.saturating_add(limit));
        let mut next = from;
        while next < end {
            let index = next / ENTRIES_PER_BUNDLE;
            let start = index * ENTRIES_PER_BUNDLE;
            let bytes = self.bundle(index)?;
            let entries =
                bundle_entries(&bytes).ok_or_else(|| LogFolderError::Damaged(format!("bundle {index}")))?;
            let wanted = (start..end).zip(&entries).filter(|(at, _)| *at >= from);
            for (_, entry) in wanted {
                out.write_all(entry)?;
                out.write_all(b"\n")?;
            }
            let after = end.min(start + ENTRIES_PER_BUNDLE);
            if start + (entries.len() as u64) < after {
                return Err(LogFolderError::Damaged(format!("bundle {index}")));
            }
            next = after;
        }
        Ok(next)
    }

    /// A bundle as the log has it now. A partial one can be gone a moment later, when the log has grown: then the next.
    fn bundle(&self, index: u64) -> Result<Vec<u8>, LogFolderError> {
        let mut size = self.size()?;
        loop {
            let tile = Tile::at(None, index, size)
                .ok_or_else(|| LogFolderError::Damaged("checkpoint".to_owned()))?;
            match (self.file(&tile.path()), self.file(&tile.full().path())) {
                (Ok(bytes), _) | (Err(_), Ok(bytes)) => return Ok(bytes),
                (Err(error), Err(_)) => {
                    let grown = self.size()?;
                    if grown == size {
                        return Err(error);
                    }
                    size = grown;
                }
            }
        }
    }
}

/// Reads a duration such as `90s`, `15m`, `12h` or `30d`, in seconds.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_or_refused() {
        assert_eq!(
            (seconds("30d"), seconds("90s"), seconds("12h")),
            (Some(2_592_000), Some(90), Some(43_200))
        );
        for bad in ["", "30", "d", "0d", "-1d", "1y", "99999999999999999999d", "1é"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
