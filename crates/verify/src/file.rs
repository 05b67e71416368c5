//! Reading files that somebody else may have laid there.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use bartizan_ledger::{ENTRIES_PER_BUNDLE, ENTRY_MAX, Tile};

use crate::report::{Fault, Reason};

/// Reads the plain file `name` under `folder`, at most `max` bytes of it. Links are not followed, and pipes not opened:
/// nothing must make the verifier wait or read elsewhere.
pub(crate) fn read(folder: &Path, name: &str, max: u64) -> Result<Vec<u8>, Fault> {
    read_plain(&folder.join(name), max).map_err(|error| told(name, error))
}

/// Reads a tile or bundle, or the full one that has replaced it; says which.
pub(crate) fn read_tile(folder: &Path, tile: Tile) -> Result<(Tile, Vec<u8>), Fault> {
    match read(folder, &tile.path(), length_max(tile)) {
        Err(fault) if fault.reason == Reason::Missing && !tile.is_full() => {
            read(folder, &tile.full().path(), length_max(tile))
                .map(|bytes| (tile.full(), bytes))
                .map_err(|_| fault)
        }
        result => result.map(|bytes| (tile, bytes)),
    }
}

const fn length_max(tile: Tile) -> u64 {
    match tile.level {
        Some(_) => ENTRIES_PER_BUNDLE * 32,
        None => ENTRIES_PER_BUNDLE * (2 + ENTRY_MAX as u64),
    }
}

/// Reads a file that the user has named, whatever it is, at most `max` bytes of it.
pub(crate) fn read_given(path: &Path, max: u64) -> Result<Vec<u8>, Fault> {
    read_at_most(path, max).map_err(|error| told(&path.display().to_string(), error))
}

enum Unread {
    Refused(Reason),
    Io(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn told(name: &str, error: Unread) -> Fault {
    match error {
        Unread::Refused(reason) => Fault::new(name, reason),
        Unread::Io(error) if error.kind() == io::ErrorKind::NotFound => Fault::new(name, Reason::Missing),
        Unread::Io(error) => Fault::new(name, Reason::Unreadable).because(error),
    }
}

fn read_plain(path: &Path, max: u64) -> Result<Vec<u8>, Unread> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(Unread::Refused(Reason::NotAFile));
    }
    read_at_most(path, max)
}

fn read_at_most(path: &Path, max: u64) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max { Err(Unread::Refused(Reason::TooLong)) } else { Ok(bytes) }
}
