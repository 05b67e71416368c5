//! What lies in a log's folder: only what belongs there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bartizan_ledger::{Tile, VerifierKey};

use crate::file;
use crate::report::{Check, Fault, Faults, Reason};

/// No path of a log has more parts.
const DEPTH_MAX: usize = 12;

/// Where a writer puts its verifier key, for whoever takes the folder along.
const KEY_FILE: &str = "key.vkey";

/// What a walk through the folder has found. Only the last file of each level is kept, so that memory does not grow with
/// the log.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    faults: Faults,
    files: u64,
    unfinished: u64,
    /// The last tile of each level, or the last bundle.
    last: BTreeMap<Option<u8>, Tile>,
}

impl Survey {
    /// Walks through `folder`. Done before the checkpoint is read: a log that grows meanwhile does not show files beyond
    /// a checkpoint that covers them.
    pub(crate) fn of(folder: &Path, key: &VerifierKey) -> Self {
        let mut survey = Self::default();
        survey.walk(folder, "", key, 0);
        survey
    }

    fn walk(&mut self, root: &Path, prefix: &str, key: &VerifierKey, depth: usize) {
        let listing = match fs::read_dir(root.join(prefix)) {
            Ok(listing) => listing,
            Err(error) => return self.faults.add(Fault::new(prefix, Reason::Unreadable).because(error)),
        };
        for item in listing {
            let item = match item {
                Ok(item) => item,
                Err(error) => {
                    self.faults.add(Fault::new(prefix, Reason::Unreadable).because(error));
                    continue;
                }
            };
            let name = item.file_name();
            let path =
                format!("{prefix}{}{}", if prefix.is_empty() { "" } else { "/" }, name.to_string_lossy());
            match item.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH_MAX && name.to_str().is_some() => {
                    self.walk(root, &path, key, depth + 1);
                }
                Ok(kind) if kind.is_file() => self.note(root, path, key),
                Ok(_) => self.faults.add(Fault::new(path, Reason::NotAFile)),
                Err(error) => self.faults.add(Fault::new(path, Reason::Unreadable).because(error)),
            }
        }
    }

    fn note(&mut self, root: &Path, path: String, key: &VerifierKey) {
        self.files += 1;
        if let Ok(tile) = path.parse::<Tile>() {
            let last = self.last.entry(tile.level).or_insert(tile);
            *last = tile.max(*last);
        } else if path.strip_suffix(".new").is_some_and(is_name_of_log) {
            self.unfinished += 1;
        } else if path == KEY_FILE {
            let expected = key.to_string();
            match file::read(root, KEY_FILE, 1 << 16) {
                Ok(found) if found.trim_ascii() == expected.as_bytes() => {}
                Ok(_) => self.faults.add(Fault::new(path, Reason::OtherKey)),
                Err(fault) => self.faults.add(fault),
            }
        } else if path != "checkpoint" {
            self.faults.add(Fault::new(path, Reason::Extra));
        }
    }

    /// Judges what was found against the size that the checkpoint tells. `growing`: the log is being written, so that
    /// there may be more than that.
    pub(crate) fn judge(mut self, size: u64, growing: bool, notes: &mut Vec<String>) -> Check {
        for tile in self.last.values() {
            if Tile::at(tile.level, tile.index, size).is_some_and(|now| now.width >= tile.width) {
                continue;
            }
            if growing {
                notes.push(format!(
                    "{} lies beyond the checkpoint; it will be covered by the next",
                    tile.path()
                ));
            } else {
                self.faults.add(Fault::new(tile.path(), Reason::Beyond));
            }
        }
        if self.unfinished > 0 {
            notes.push(format!(
                "{} files ending in `.new` were never finished by the writer",
                self.unfinished
            ));
        }
        Check::new("folder", format!("{} files", self.files), self.faults)
    }
}

fn is_name_of_log(name: &str) -> bool {
    name == "checkpoint" || name == "key" || name.parse::<Tile>().is_ok()
}
