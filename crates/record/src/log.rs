//! One tenant's sealed log of one quarter: the tree, its files, its checkpoint.
//!
//! Order of sealing (Sunlight's lesson): bundles and tiles durable, then the checkpoint signed, then compared and
//! swapped in the lock store, then published. Loading means verifying: the files must give the root that the lock store
//! remembers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bartizan_base::Digest;
use bartizan_ledger::{
    Checkpoint, NoteSigner, Receipt as ProofReceipt, RightEdge, Tile, bundle_entries, encode_bundle,
    inclusion_proof, root_of, tiles_for,
};
use bartizan_model::record::Record;

const FULL: usize = 256;

/// Why a log cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files are not the ones the lock store remembers.
    #[error(
        "the log {origin} is not the one that was signed last ({size} entries): history was lost or rolled back. \
         Restore the log folder from a copy of at least that size, or start a new installation that names this one"
    )]
    Rollback {
        /// The log.
        origin: String,
        /// The size the lock store remembers.
        size: u64,
    },
    /// There is a checkpoint but the lock store remembers none.
    #[error(
        "the log {0} has a checkpoint that the state database does not remember: is this its state database?"
    )]
    Foreign(String),
}

/// One tenant's log of one quarter.
#[derive(Debug)]
pub struct SealedLog {
    folder: PathBuf,
    signer: NoteSigner,
    edge: RightEdge,
    /// Per level, the index of the tile that is filling and its hashes.
    levels: Vec<(u64, Vec<Digest>)>,
    /// The entries of the bundle that is filling.
    bundle: Vec<Vec<u8>>,
    /// What the lock store confirmed last, and what was tried since.
    pub(crate) confirmed: Option<(u64, Digest)>,
    pub(crate) attempted: Option<(u64, Digest)>,
}

impl SealedLog {
    /// Opens the log in `folder`, which must be the one that `locked` (size and root) was signed for.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(folder: &Path, signer: NoteSigner, locked: Option<(u64, Digest)>) -> Result<Self, LogError> {
        let mut log = Self {
            folder: folder.to_owned(),
            signer,
            edge: RightEdge::new(),
            levels: Vec::new(),
            bundle: Vec::new(),
            confirmed: locked,
            attempted: None,
        };
        let Some((size, root)) = locked else {
            return if folder.join("checkpoint").exists() {
                Err(LogError::Foreign(log.origin()))
            } else {
                Ok(log)
            };
        };
        let rollback = || LogError::Rollback { origin: log.signer.verifier().name().to_owned(), size };
        let mut edge = RightEdge::new();
        let mut levels: Vec<(u64, Vec<Digest>)> = Vec::new();
        for tile in tiles_for(size) {
            let bytes = read_tile(folder, tile).map_err(|_| rollback())?;
            let Some(level) = tile.level else {
                let entries = bundle_entries(&bytes).ok_or_else(rollback)?;
                if usize::from(tile.width) < FULL {
                    log.bundle = entries.iter().take(tile.width.into()).map(|e| e.to_vec()).collect();
                    if log.bundle.len() < usize::from(tile.width) {
                        return Err(rollback());
                    }
                }
                continue;
            };
            let hashes: Vec<Digest> = bytes
                .chunks_exact(32)
                .take(tile.width.into())
                .filter_map(|c| Some(Digest::from_bytes(c.try_into().ok()?)))
                .collect();
            if level == 0 {
                hashes.iter().for_each(|h| edge.append(*h));
            }
            if levels.len() == usize::from(level) {
                levels.push((0, Vec::new()));
            }
            if let Some(place) = levels.get_mut(usize::from(level)) {
                *place =
                    if hashes.len() == FULL { (tile.index + 1, Vec::new()) } else { (tile.index, hashes) };
            }
        }
        if edge.size() != size || edge.root() != root {
            return Err(rollback());
        }
        log.edge = edge;
        log.levels = levels;
        // A crash between the lock store and publishing leaves an older checkpoint behind: signing is deterministic.
        log.publish()?;
        Ok(log)
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> String {
        self.signer.verifier().name().to_owned()
    }

    /// Size and root with everything appended.
    #[must_use]
    pub fn head(&self) -> (u64, Digest) {
        (self.edge.size(), self.edge.root())
    }

    /// Appends entries and makes bundles and tiles durable.
    pub(crate) fn append(&mut self, entries: &[(std::sync::Arc<[u8]>, Digest)]) -> Result<(), LogError> {
        let mut touched = BTreeSet::new();
        for (entry, leaf) in entries {
            let index = self.edge.size() / FULL as u64;
            self.edge.append(*leaf);
            self.bundle.push(entry.to_vec());
            if self.bundle.len() == FULL {
                let full = std::mem::take(&mut self.bundle);
                self.write_bundle(index, &full, &mut touched)?;
            }
            self.add_hash(0, *leaf, &mut touched)?;
        }
        if !self.bundle.is_empty() {
            self.write_bundle(self.edge.size() / FULL as u64, &self.bundle, &mut touched)?;
        }
        for (level, (index, hashes)) in self.levels.iter().enumerate() {
            if !hashes.is_empty() {
                self.write_tile(level, *index, hashes, &mut touched)?;
            }
        }
        for folder in touched {
            File::open(&folder)
                .and_then(|f| f.sync_all())
                .map_err(|source| LogError::Io { path: folder, source })?;
        }
        Ok(())
    }

    fn add_hash(
        &mut self,
        level: usize,
        hash: Digest,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), LogError> {
        if self.levels.len() == level {
            self.levels.push((0, Vec::new()));
        }
        let Some((index, hashes)) = self.levels.get_mut(level) else { return Ok(()) };
        hashes.push(hash);
        if hashes.len() < FULL {
            return Ok(());
        }
        let (at, full) = (*index, std::mem::take(hashes));
        *index += 1;
        self.write_tile(level, at, &full, touched)?;
        self.add_hash(level + 1, root_of(&full), touched)
    }

    fn write_bundle(
        &self,
        index: u64,
        entries: &[Vec<u8>],
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), LogError> {
        let tile = Tile { level: None, index, width: u16::try_from(entries.len()).unwrap_or(u16::MAX) };
        // The recorder refuses longer entries before they are written.
        let bytes = encode_bundle(entries.iter().map(Vec::as_slice)).unwrap_or_default();
        self.write(tile, &bytes, touched)
    }

    fn write_tile(
        &self,
        level: usize,
        index: u64,
        hashes: &[Digest],
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), LogError> {
        let width = u16::try_from(hashes.len()).unwrap_or(u16::MAX);
        let tile = Tile { level: u8::try_from(level).ok(), index, width };
        let bytes: Vec<u8> = hashes.iter().flat_map(|h| *h.as_bytes()).collect();
        self.write(tile, &bytes, touched)
    }

    fn write(&self, tile: Tile, bytes: &[u8], touched: &mut BTreeSet<PathBuf>) -> Result<(), LogError> {
        let path = self.folder.join(tile.path());
        let io = |source| LogError::Io { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io)?;
            touched.extend(
                path.ancestors().skip(1).take_while(|p| p.starts_with(&self.folder)).map(Path::to_owned),
            );
        }
        write_durably(&path, bytes).map_err(io)?;
        if usize::from(tile.width) == FULL {
            // The full one replaces every partial one of its place (tlog-tiles allows it).
            let partials = self.folder.join(format!("{}.p", tile.path()));
            if partials.exists() {
                fs::remove_dir_all(&partials).map_err(io)?;
                touched.remove(&partials);
            }
        }
        Ok(())
    }

    /// Publishes the checkpoint of what the lock store confirmed.
    pub(crate) fn publish(&self) -> Result<(), LogError> {
        let Some((size, root)) = self.confirmed else { return Ok(()) };
        let path = self.folder.join("checkpoint");
        let io = |source| LogError::Io { path: path.clone(), source };
        fs::create_dir_all(&self.folder).map_err(io)?;
        let note = Checkpoint { origin: self.origin(), size, root }.sign(&self.signer);
        write_durably(&path, note.as_bytes()).map_err(io)?;
        let key = self.folder.join("key.vkey");
        if !key.exists() {
            write_durably(&key, format!("{}\n", self.signer.verifier()).as_bytes()).map_err(io)?;
        }
        crate::segment::sync_folder(&path).map_err(io)
    }

    /// The entry at `index` among the confirmed ones.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<Vec<u8>> {
        self.bundle_at(index / FULL as u64)?.into_iter().nth(usize::try_from(index % FULL as u64).ok()?)
    }

    fn bundle_at(&self, index: u64) -> Option<Vec<Vec<u8>>> {
        let size = self.confirmed.map_or(0, |(size, _)| size);
        let width = size.checked_sub(index * FULL as u64).filter(|w| *w > 0)?.min(FULL as u64);
        let tile = Tile { level: None, index, width: u16::try_from(width).ok()? };
        let bytes = read_tile(&self.folder, tile).ok()?;
        Some(bundle_entries(&bytes)?.into_iter().take(usize::from(tile.width)).map(<[u8]>::to_vec).collect())
    }

    /// Looks from the end of the log backwards for records that `wanted` accepts, at most `limit` of them.
    pub(crate) fn search_back(
        &self,
        limit: usize,
        mut wanted: impl FnMut(&Record) -> Search,
    ) -> Vec<(u64, Record)> {
        let mut out = Vec::new();
        let size = self.confirmed.map_or(0, |(size, _)| size);
        for index in (0..size.div_ceil(FULL as u64)).rev() {
            let entries = self.bundle_at(index).unwrap_or_default();
            for (offset, entry) in entries.iter().enumerate().rev() {
                let at = index * FULL as u64 + offset as u64;
                let Ok(record) = serde_json::from_slice::<Record>(entry) else { continue };
                match wanted(&record) {
                    Search::Take => out.push((at, record)),
                    Search::Skip => {}
                    Search::Stop => return out,
                }
                if out.len() >= limit {
                    return out;
                }
            }
        }
        out
    }

    /// The proof that the entry at `index` is in the log, against the confirmed checkpoint.
    pub(crate) fn proof(&self, index: u64) -> Option<ProofReceipt> {
        let (size, root) = self.confirmed?;
        let mut leaves = Vec::new();
        for tile in tiles_for(size).into_iter().filter(|t| t.level == Some(0)) {
            let bytes = read_tile(&self.folder, tile).ok()?;
            leaves.extend(
                bytes
                    .chunks_exact(32)
                    .take(tile.width.into())
                    .filter_map(|c| Some(Digest::from_bytes(c.try_into().ok()?))),
            );
        }
        let proof = inclusion_proof(&leaves, usize::try_from(index).ok()?).ok()?;
        Some(ProofReceipt {
            index,
            proof,
            checkpoint: Checkpoint { origin: self.origin(), size, root }.sign(&self.signer),
        })
    }
}

/// What to do with a record met in a search.
pub(crate) enum Search {
    Take,
    Skip,
    Stop,
}

fn read_tile(folder: &Path, tile: Tile) -> io::Result<Vec<u8>> {
    let path = folder.join(tile.path());
    if path.exists() { fs::read(path) } else { fs::read(folder.join(Tile { width: 256, ..tile }.path())) }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
