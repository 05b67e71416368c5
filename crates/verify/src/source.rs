//! The tiles of a folder, for proofs over it.

use std::path::Path;

use bartizan_base::Digest;
use bartizan_ledger::{
    Checkpoint, ENTRIES_PER_BUNDLE, Tile, TileSource, bundle_entries, empty_root, encode_bundle,
    prove_consistency, root_at, verify_consistency,
};

use crate::directory::CHECKPOINT;
use crate::file;
use crate::report::{Fault, Reason};

/// A log folder whose checkpoint tells of `size` entries. Nothing it reads is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FolderSource<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) size: u64,
}

impl FolderSource<'_> {
    /// The hash of the entry `index`, which is below the size, as its tile has it.
    pub(crate) fn leaf(&self, index: u64) -> Result<Digest, Fault> {
        let tile = Tile::at(Some(0), index / ENTRIES_PER_BUNDLE, self.size);
        let tile = tile.ok_or_else(|| Fault::new("tile", Reason::Missing))?;
        let bytes = self.read(tile)?.ok_or_else(|| Fault::new(tile.path(), Reason::Missing))?;
        let place = usize::try_from(index % ENTRIES_PER_BUNDLE).unwrap_or(usize::MAX);
        let hashes = tile.hashes(&bytes);
        let leaf = hashes.and_then(|hashes| hashes.get(place).copied());
        leaf.ok_or_else(|| Fault::new(tile.path(), Reason::Tile).at(index))
    }

    fn file(&self, tile: Tile) -> Result<Option<Vec<u8>>, Fault> {
        match file::read_tile(self.folder, tile) {
            Ok((_, bytes)) => Ok(Some(bytes)),
            Err(fault) if fault.reason == Reason::Missing => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

impl TileSource for FolderSource<'_> {
    type Error = Fault;

    /// The tile or bundle; a partial one that is gone is the beginning of what has replaced it.
    fn read(&self, tile: Tile) -> Result<Option<Vec<u8>>, Fault> {
        let mut found = self.file(tile)?;
        let now = Tile::at(tile.level, tile.index, self.size).filter(|now| now.width > tile.width);
        if let (None, Some(now)) = (&found, now) {
            found = self.file(now)?;
        }
        let width = usize::from(tile.width);
        Ok(found.map(|mut bytes| {
            if tile.level.is_some() {
                bytes.truncate(32 * width);
                return bytes;
            }
            let first = bundle_entries(&bytes).filter(|entries| entries.len() > width);
            let first = first.and_then(|entries| encode_bundle(entries.into_iter().take(width)));
            first.unwrap_or(bytes)
        }))
    }
}

/// How a log stands to an earlier checkpoint of it, by its tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    /// The root that the log says it had at the earlier size.
    pub(crate) root_then: Digest,
    /// Proves that the log's own checkpoint commits to `root_then`.
    pub(crate) proof: Vec<Digest>,
}

impl Relation {
    /// Works it out for the log of `now` and an earlier size. The tiles are believed only as far as they lead to the
    /// signed root.
    pub(crate) fn of(source: &FolderSource<'_>, now: &Checkpoint, then: u64) -> Result<Self, Fault> {
        if then == now.size {
            return Ok(Self { root_then: now.root, proof: Vec::new() });
        }
        if then == 0 {
            return Ok(Self { root_then: empty_root(), proof: Vec::new() });
        }
        let root_then = root_at(source, now.size, then).map_err(Fault::of_prove)?;
        let proof = prove_consistency(source, then, now.size).map_err(Fault::of_prove)?;
        match verify_consistency((then, root_then), (now.size, now.root), &proof) {
            Ok(()) => Ok(Self { root_then, proof }),
            Err(_) => Err(Fault::new(CHECKPOINT, Reason::TileRoot)),
        }
    }
}
