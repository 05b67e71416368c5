//! Growing a log: entries in, files out.

use std::mem;

use bartizan_base::Digest;

use crate::source::{ReadError, TileSource, read_hashes, read_or_full};
use crate::tile::{ENTRIES_PER_BUNDLE, Tile, bundle_entries, count_at, encode_bundle, tiles_added};
use crate::tree::{RightEdge, leaf_hash, root_of_peaks};

/// Items of a full tile or bundle.
const FULL: usize = 256;
/// How many levels of tiles the largest tree has.
const LEVELS: u8 = 8;

/// The right side of a growing log: its partial tiles and its partial bundle, and the files not yet taken.
///
/// Entries go in by [`Appender::append`]; [`Appender::take_files`] then gives what must be written, durably and before a
/// checkpoint of [`Appender::size`] and [`Appender::root`] is signed.
#[derive(Clone, Debug, Default)]
pub struct Appender {
    size: u64,
    /// The size at the last `take_files`: what changed since must be written.
    taken: u64,
    levels: Vec<Level>,
    /// The bytes of the partial bundle.
    bundle: Vec<u8>,
    /// Full tiles and bundles since the last `take_files`.
    full: Vec<File>,
}

/// The partial tile of a level: fewer than 256 hashes, and the tree over them, which is a part of the log's tree.
#[derive(Clone, Debug, Default)]
struct Level {
    hashes: Vec<Digest>,
    edge: RightEdge,
}

impl Level {
    fn push(&mut self, hash: Digest) {
        self.hashes.push(hash);
        self.edge.append(hash);
    }
}

/// A file to be written. Its content follows from its path and the log's entries alone, so writing it again does no
/// harm, and a file of that name with other content is a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What it is; its path is that of the tile.
    pub tile: Tile,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The entry is longer than [`ENTRY_MAX`](crate::ENTRY_MAX).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry has at most 65,535 bytes")]
pub struct EntryTooLong;

/// Why a log cannot be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError<E> {
    /// A file is missing or unusable.
    #[error(transparent)]
    Read(#[from] ReadError<E>),
    /// The entries of the last bundle are not those that the tile of leaf hashes commits to.
    #[error("the entries of the last bundle differ from their leaf hashes")]
    Entries,
    /// The tiles do not give the root they should.
    #[error("the tiles give another root than the checkpoint's")]
    Root,
}

impl Appender {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues the log of `size` entries under `root` from its files. Reads one tile a level and one bundle, and
    /// checks all of it against `root`.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub fn resume<S: TileSource>(
        size: u64,
        root: &Digest,
        source: &S,
    ) -> Result<Self, ResumeError<S::Error>> {
        let mut log = Self { size, taken: size, ..Self::default() };
        for level in 0..LEVELS {
            let mut partial = Level::default();
            if let Some(tile) = last_partial(Some(level), size) {
                read_hashes(source, tile)?.into_iter().for_each(|hash| partial.push(hash));
            }
            log.levels.push(partial);
        }
        if log.root() != *root {
            return Err(ResumeError::Root);
        }
        if let Some(bundle) = last_partial(None, size) {
            let bytes = read_or_full(source, bundle)?;
            let mut entries = bundle_entries(&bytes).ok_or(ReadError::Malformed(bundle))?;
            entries.truncate(bundle.width.into());
            if !entries.iter().map(|entry| leaf_hash(entry)).eq(log
                .levels
                .first()
                .into_iter()
                .flat_map(|level| level.hashes.iter().copied()))
            {
                return Err(ResumeError::Entries);
            }
            log.bundle = encode_bundle(entries).unwrap_or_default();
        }
        Ok(log)
    }

    /// Appends an entry and returns its leaf hash. Its index is [`Appender::size`] before the call.
    ///
    /// # Errors
    /// [`EntryTooLong`]; the log is left as it was.
    pub fn append(&mut self, entry: &[u8]) -> Result<Digest, EntryTooLong> {
        let leaf = leaf_hash(entry);
        self.append_hashed(entry, leaf)?;
        Ok(leaf)
    }

    /// Appends an entry whose leaf hash the caller has computed already.
    ///
    /// # Errors
    /// [`EntryTooLong`]; the log is left as it was.
    pub fn append_hashed(&mut self, entry: &[u8], leaf: Digest) -> Result<(), EntryTooLong> {
        let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong)?;
        if self.bundle.is_empty() {
            // Entries of one log are of one size, more or less.
            self.bundle.reserve(usize::from(length).saturating_add(2).saturating_mul(FULL));
        }
        self.bundle.extend_from_slice(&length.to_be_bytes());
        self.bundle.extend_from_slice(entry);
        self.size += 1;
        if let Some(tile) = self.just_filled(None) {
            let bytes = mem::take(&mut self.bundle);
            self.full.push(File { tile, bytes });
        }
        self.append_hash(0, leaf);
        Ok(())
    }

    fn append_hash(&mut self, level: u8, hash: Digest) {
        if self.levels.len() <= usize::from(level) {
            self.levels.push(Level::default());
        }
        let filled = self.just_filled(Some(level));
        let Some(partial) = self.levels.get_mut(usize::from(level)) else { return };
        partial.push(hash);
        if let Some(tile) = filled {
            let Level { hashes, edge } = mem::take(partial);
            self.full.push(File { tile, bytes: concat(&hashes) });
            self.append_hash(level + 1, edge.root());
        }
    }

    /// The tile or bundle of a level that the last item has filled.
    fn just_filled(&self, level: Option<u8>) -> Option<Tile> {
        let last = count_at(level, self.size()).checked_sub(1)?;
        let tile = Tile::at(level, last / ENTRIES_PER_BUNDLE, self.size())?;
        tile.is_full().then_some(tile)
    }

    /// How many entries the log has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root over all entries (RFC 6962).
    #[must_use]
    pub fn root(&self) -> Digest {
        root_of_peaks(self.levels.iter().flat_map(|level| level.edge.peaks()))
    }

    /// The full tiles and bundles since the last time: whoever writes them as they fill holds few of them in memory. They are
    /// not among those that [`Appender::take_files`] gives later.
    pub fn take_full(&mut self) -> Vec<File> {
        mem::take(&mut self.full)
    }

    /// The files that the log at its present size has and had not when they were last taken: full ones in the order in
    /// which they filled, then the partial ones.
    pub fn take_files(&mut self) -> Vec<File> {
        let mut files = mem::take(&mut self.full);
        let (taken, size) = (self.taken, self.size());
        self.taken = size;
        for tile in tiles_added(taken, size).filter(|tile| !tile.is_full()) {
            let bytes = match tile.level {
                None => self.bundle.clone(),
                Some(level) => self
                    .levels
                    .get(usize::from(level))
                    .map(|partial| concat(&partial.hashes))
                    .unwrap_or_default(),
            };
            files.push(File { tile, bytes });
        }
        files
    }
}

/// The partial tile or bundle at the end of a level; nothing where all are full.
fn last_partial(level: Option<u8>, size: u64) -> Option<Tile> {
    Tile::at(level, count_at(level, size) / ENTRIES_PER_BUNDLE, size)
}

fn concat(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}
