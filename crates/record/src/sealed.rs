//! Reading a sealed log: entries, searches, proofs. Whatever is given out was held against the tree's hashes.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bartizan_base::{Digest, Timestamp};
use bartizan_ledger::{ENTRIES_PER_BUNDLE, Receipt, Tile, TileSource, bundle_entries, root_of};
use bartizan_model::record::Record;

use crate::disk::Disk;
use crate::log::entries_fit;
use crate::remove::Removal;

/// Why the ledger could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not fit the tree: it was changed or cut.
    #[error("{0}: does not fit the tree; run the offline verifier")]
    Damaged(PathBuf),
    /// The log was archived and removed from this node.
    #[error("{0}: was archived and removed from this node; its last checkpoint is what is kept here")]
    Removed(String),
    /// The intent to read has run out.
    #[error("the permit to read has run out")]
    PermitExpired,
    /// The process is ending.
    #[error("the recorder is closed")]
    Closed,
}

/// A log as it was published at one size. It stays readable while the log grows.
#[derive(Clone, Debug)]
pub(crate) struct SealedLog {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: PathBuf,
    pub(crate) size: u64,
    pub(crate) root: Digest,
    /// The signed checkpoint.
    pub(crate) checkpoint: Arc<str>,
    /// The text of the key that verifies it.
    pub(crate) verifier: Arc<str>,
    /// The size and checkpoint that a quorum of witnesses has cosigned last; only of the operator's log.
    pub(crate) witnessed: Option<(u64, Arc<str>)>,
    /// Where its removal stands, if it was removed: then nothing but the checkpoint is there.
    pub(crate) removed: Option<Removal>,
}

/// A record with its place in the log.
pub(crate) type Placed = (u64, Record);

impl SealedLog {
    /// How many bundles there are, the last of which may be partial.
    pub(crate) const fn bundles(&self) -> u64 {
        self.size.div_ceil(ENTRIES_PER_BUNDLE)
    }

    /// The hashes at `level` in the tile `index`, as many as the tree of this size has.
    pub(crate) fn hashes(&self, level: u8, index: u64) -> Result<Vec<Digest>, ReadError> {
        let at_level = self.size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let (path, bytes, width) = self.resource(Some(level), index, at_level)?;
        let hashes: Vec<Digest> = bytes
            .chunks_exact(32)
            .take(width)
            .filter_map(|hash| Some(Digest::from_bytes(hash.try_into().ok()?)))
            .collect();
        if hashes.len() == width && width > 0 { Ok(hashes) } else { Err(ReadError::Damaged(path)) }
    }

    /// The entries of the bundle `index`, held against their hashes.
    pub(crate) fn bundle(&self, index: u64) -> Result<Vec<Vec<u8>>, ReadError> {
        let (path, bytes, width) = self.resource(None, index, self.size)?;
        let hashes = self.hashes(0, index)?;
        let mut entries = bundle_entries(&bytes).ok_or_else(|| ReadError::Damaged(path.clone()))?;
        entries.truncate(width);
        if !entries_fit(&entries, &hashes) {
            return Err(ReadError::Damaged(path));
        }
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// A tile or bundle in a row of `count`. Where the partial one is gone, the full one begins with it.
    fn resource(
        &self,
        level: Option<u8>,
        index: u64,
        count: u64,
    ) -> Result<(PathBuf, Vec<u8>, usize), ReadError> {
        let width = count.saturating_sub(index.saturating_mul(ENTRIES_PER_BUNDLE)).min(ENTRIES_PER_BUNDLE);
        let width = u16::try_from(width).unwrap_or(0);
        self.is_here()?;
        let mut path = self.folder.join(Tile { level, index, width }.path());
        let mut read = self.disk.read(&path);
        if matches!(&read, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            path = self.folder.join(Tile { level, index, width: 256 }.path());
            read = self.disk.read(&path);
        }
        let bytes = read.map_err(|source| ReadError::Io { path: path.clone(), source })?;
        Ok((path, bytes, usize::from(width)))
    }

    /// The proof that this log extends the one of `old` entries (RFC 6962, 2.1.2).
    pub(crate) fn consistency_from(&self, old: u64) -> Result<Vec<Digest>, ReadError> {
        bartizan_ledger::prove_consistency(&Tiles(self), old, self.size)
            .map_err(|_| ReadError::Damaged(self.folder.join("tile")))
    }

    /// The checkpoint with the house's own signature only.
    pub(crate) fn checkpoint_alone(&self) -> String {
        let (text, signatures) = self.checkpoint.rsplit_once("\n\n").unwrap_or((&self.checkpoint, ""));
        format!("{text}\n\n{}\n", signatures.lines().next().unwrap_or_default())
    }

    /// A tile or bundle as it lies on the disk; none where it is not, or not any more.
    pub(crate) fn file(&self, tile: Tile) -> Result<Option<Vec<u8>>, ReadError> {
        self.is_here()?;
        let path = self.folder.join(tile.path());
        match self.disk.read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }

    /// The entry at `index`; none beyond the size.
    pub(crate) fn entry(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        if index >= self.size {
            return Ok(None);
        }
        let offset = usize::try_from(index % ENTRIES_PER_BUNDLE).unwrap_or(usize::MAX);
        Ok(self.bundle(index / ENTRIES_PER_BUNDLE)?.into_iter().nth(offset))
    }

    /// The records of a bundle that hold `text` anywhere, with their places.
    pub(crate) fn records_with(&self, bundle: u64, text: &[u8]) -> Result<Vec<Placed>, ReadError> {
        let mut out = Vec::new();
        for (index, entry) in (bundle * ENTRIES_PER_BUNDLE..).zip(self.bundle(bundle)?) {
            if memchr::memmem::find(&entry, text).is_some()
                && let Ok(record) = serde_json::from_slice(&entry)
            {
                out.push((index, record));
            }
        }
        Ok(out)
    }

    /// The first bundle that may hold something recorded at `time` or later, if time never went back.
    pub(crate) fn bundle_from(&self, time: Timestamp) -> Result<u64, ReadError> {
        let (mut low, mut high) = (0, self.bundles());
        // The last bundle that begins before `time` is the first to look into.
        while low < high {
            let middle = low + (high - low) / 2;
            let first = self.bundle(middle)?.into_iter().next().unwrap_or_default();
            let begins = serde_json::from_slice::<Record>(&first).map_or(Timestamp::MAX, |r| r.time_us);
            if begins < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.saturating_sub(1))
    }

    /// Refuses what was removed.
    pub(crate) fn is_here(&self) -> Result<(), ReadError> {
        let origin = || self.checkpoint.lines().next().unwrap_or_default().to_owned();
        if self.removed.is_none() { Ok(()) } else { Err(ReadError::Removed(origin())) }
    }

    /// The root that the log had when it held `size` entries.
    pub(crate) fn root_at(&self, size: u64) -> Result<Digest, ReadError> {
        if size == self.size {
            return Ok(self.root);
        }
        if size == 0 {
            return Ok(bartizan_ledger::empty_root());
        }
        Prover { log: self, tiles: HashMap::new() }.root(0, size)
    }

    /// The proof that the entry at `index` is in the log, against its checkpoint.
    pub(crate) fn proof(&self, index: u64) -> Result<Receipt, ReadError> {
        let proof = self.proof_within(index, self.size)?;
        Ok(Receipt { index, proof, checkpoint: self.checkpoint.to_string(), extra: None })
    }

    /// The hashes that prove that the entry at `index` was in the log when it held `size` entries.
    pub(crate) fn proof_within(&self, index: u64, size: u64) -> Result<Vec<Digest>, ReadError> {
        let mut proof = Vec::new();
        Prover { log: self, tiles: HashMap::new() }.path(index, 0, size, &mut proof)?;
        Ok(proof)
    }
}

/// The log's files for those who read them by themselves.
pub(crate) struct Tiles<'a>(pub(crate) &'a SealedLog);

impl TileSource for Tiles<'_> {
    type Error = ReadError;

    fn read(&self, tile: Tile) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.file(tile)
    }
}

/// Works out proofs from tiles: reads a few tiles a level, never the whole tree.
struct Prover<'a> {
    log: &'a SealedLog,
    tiles: HashMap<(u8, u64), Vec<Digest>>,
}

impl Prover<'_> {
    /// PATH of RFC 6962, 2.1.1 for the leaf `index` within the `count` leaves from `start` on.
    fn path(&mut self, index: u64, start: u64, count: u64, out: &mut Vec<Digest>) -> Result<(), ReadError> {
        if count <= 1 {
            return Ok(());
        }
        let left = count.next_power_of_two() / 2;
        let (inside, sibling) = if index < start + left {
            ((start, left), (start + left, count - left))
        } else {
            ((start + left, count - left), (start, left))
        };
        self.path(index, inside.0, inside.1, out)?;
        out.push(self.root(sibling.0, sibling.1)?);
        Ok(())
    }

    /// MTH over the `count` leaves from `start` on, which is a multiple of the greatest power of two in `count`.
    fn root(&mut self, start: u64, count: u64) -> Result<Digest, ReadError> {
        if !count.is_power_of_two() {
            let left = count.next_power_of_two() / 2;
            let (left, right) = (self.root(start, left)?, self.root(start + left, count - left)?);
            return Ok(bartizan_ledger::node_hash(&left, &right));
        }
        let height = count.trailing_zeros();
        let level = u8::try_from(height / 8).unwrap_or(u8::MAX);
        let first = start.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let (tile, offset) = (first / ENTRIES_PER_BUNDLE, first % ENTRIES_PER_BUNDLE);
        if !self.tiles.contains_key(&(level, tile)) {
            let hashes = self.log.hashes(level, tile)?;
            self.tiles.insert((level, tile), hashes);
        }
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.tiles
            .get(&(level, tile))
            .and_then(|hashes| hashes.get(offset..)?.get(..1 << (height % 8)))
            .map(root_of)
            .ok_or_else(|| ReadError::Damaged(self.log.folder.join("tile")))
    }
}
