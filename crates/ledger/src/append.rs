//! Growing a log: entries in, files out.

use std::mem;

use bartizan_base::Digest;

use crate::bundle::{EntryTooLong, encode_entry, entries};
use crate::source::{ReadError, Source, read_hashes, read_or_full};
use crate::tile::{Bundle, Resource, TILE_WIDTH, Tile, hashes_at};
use crate::tree::{RightEdge, empty_root, fold_right, leaf_hash, root_of};

/// The right side of a growing log: its partial tiles and its partial bundle, and the files not yet taken.
///
/// Entries go in by [`Appender::append`]; [`Appender::take_files`] then gives what must be written, durably and
/// before a checkpoint of [`Appender::size`] and [`Appender::root`] is signed.
#[derive(Clone, Debug, Default)]
pub struct Appender {
    size: u64,
    /// The size at the last `take_files`: what changed since must be written.
    taken: u64,
    /// Per level the hashes of its partial tile; fewer than 256 each.
    levels: Vec<Vec<Digest>>,
    /// The partial bundle's bytes.
    bundle: Vec<u8>,
    /// Full tiles and bundles since the last `take_files`.
    full: Vec<File>,
}

/// A file to be written. Its content follows from its path and the log's entries alone, so writing it again does no
/// harm, and a file of that name with other content is a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path under the log's prefix.
    pub resource: Resource,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Why a log cannot be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError<E> {
    /// A file is missing or unusable.
    #[error(transparent)]
    Read(#[from] ReadError<E>),
    /// The entries of the last bundle are not those that the tile of leaf hashes commits to.
    #[error("the entries of `{0}` differ from their leaf hashes")]
    Entries(Resource),
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

    /// Continues the log that a checkpoint describes from its files. Reads one tile a level and one bundle, and
    /// checks all of it against `root`.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub fn resume<S: Source>(size: u64, root: &Digest, source: &S) -> Result<Self, ResumeError<S::Error>> {
        let mut log = Self { size, taken: size, ..Self::default() };
        for (level, hashes) in (0..).map_while(|level| Some((level, hashes_at(level, size)?))) {
            let partial = Tile::at(level, hashes / u64::from(TILE_WIDTH), size);
            log.levels.push(match partial {
                Some(tile) => read_hashes(source, tile)?,
                None => Vec::new(),
            });
        }
        if log.root() != *root {
            return Err(ResumeError::Root);
        }
        if let Some(bundle) = Bundle::at(size / u64::from(TILE_WIDTH), size) {
            log.resume_bundle(bundle, source)?;
        }
        Ok(log)
    }

    fn resume_bundle<S: Source>(&mut self, bundle: Bundle, source: &S) -> Result<(), ResumeError<S::Error>> {
        let resource = Resource::Entries(bundle);
        let bytes = read_or_full(source, resource)?;
        let leaves = self.levels.first().map(Vec::as_slice).unwrap_or_default();
        let mut found = entries(&bytes);
        for leaf in leaves {
            let entry = found.next().and_then(Result::ok).ok_or(ReadError::Malformed(resource))?;
            if leaf_hash(entry) != *leaf || encode_entry(&mut self.bundle, entry).is_err() {
                return Err(ResumeError::Entries(resource));
            }
        }
        Ok(())
    }

    /// Appends an entry and returns its leaf hash. Its index is [`Appender::size`] before the call.
    ///
    /// # Errors
    /// [`EntryTooLong`]; the log is left as it was.
    pub fn append(&mut self, entry: &[u8]) -> Result<Digest, EntryTooLong> {
        encode_entry(&mut self.bundle, entry)?;
        let index = self.size / u64::from(TILE_WIDTH);
        self.size += 1;
        if let Some(bundle) = Bundle::at(index, self.size).filter(|bundle| bundle.is_full()) {
            let bytes = mem::take(&mut self.bundle);
            self.full.push(File { resource: Resource::Entries(bundle), bytes });
        }
        let leaf = leaf_hash(entry);
        self.append_hash(0, leaf);
        Ok(leaf)
    }

    fn append_hash(&mut self, level: u8, hash: Digest) {
        if self.levels.len() <= usize::from(level) {
            self.levels.push(Vec::new());
        }
        let Some(hashes) = self.levels.get_mut(usize::from(level)) else { return };
        hashes.push(hash);
        if hashes.len() < usize::from(TILE_WIDTH) {
            return;
        }
        let hashes = mem::take(hashes);
        let index =
            hashes_at(level, self.size).and_then(|count| (count / u64::from(TILE_WIDTH)).checked_sub(1));
        if let Some(tile) = index.and_then(|index| Tile::at(level, index, self.size)) {
            self.full.push(File { resource: Resource::Tile(tile), bytes: concat(&hashes) });
        }
        self.append_hash(level + 1, root_of(&hashes));
    }

    /// How many entries the log has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root over all entries (RFC 6962).
    #[must_use]
    pub fn root(&self) -> Digest {
        let subtrees = self.levels.iter().rev().flat_map(|hashes| {
            let mut edge = RightEdge::new();
            edge.extend(hashes.iter().copied());
            edge.into_subtrees()
        });
        fold_right(subtrees.collect::<Vec<_>>().into_iter()).unwrap_or_else(empty_root)
    }

    /// The files that the log at its present size has and had not when they were last taken: full ones in the order
    /// in which they filled, then the partial ones.
    pub fn take_files(&mut self) -> Vec<File> {
        let mut files = mem::take(&mut self.full);
        let (taken, size) = (mem::replace(&mut self.taken, self.size), self.size);
        for bundle in Bundle::added(taken, size).filter(|bundle| !bundle.is_full()) {
            files.push(File { resource: Resource::Entries(bundle), bytes: self.bundle.clone() });
        }
        for tile in Tile::added(taken, size).filter(|tile| !tile.is_full()) {
            let hashes = self.levels.get(usize::from(tile.level())).map(Vec::as_slice).unwrap_or_default();
            files.push(File { resource: Resource::Tile(tile), bytes: concat(hashes) });
        }
        files
    }
}

fn concat(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}
