//! One tenant's sealed log of one quarter: the tree, its files, its checkpoint.
//!
//! Nothing that was written is ever changed: a bundle or tile that is there already must be equal, otherwise somebody has
//! rewritten history and the log refuses to go on.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bartizan_base::Digest;
use bartizan_ledger::{Appender, Checkpoint, File, NoteSigner, ResumeError, leaf_hash};

use crate::disk::{Disk, Several, temporary, write_whole};
use crate::sealed::{ReadError, SealedLog, Tiles};
use crate::tail::Written;

/// Size and root of a tree.
pub(crate) type TreeHead = (u64, Digest);

/// Why a log cannot be opened or sealed.
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
    /// The files are not the ones that the lock store remembers.
    #[error(
        "the log {origin} is not the one that was signed last ({size} entries): its history was lost, rolled back or \
         changed. Restore its folder from a copy of at least that size; if there is none, begin a new installation whose \
         first entry names this log"
    )]
    Rollback {
        /// The log.
        origin: String,
        /// The size that the lock store remembers.
        size: u64,
    },
    /// A witness has cosigned what this log is not an extension of.
    #[error(
        "the witness {witness} knows {origin} with {knows}: this house was put back to an earlier state, its lock store \
         with it, or its ledger was rewritten. Restore the later state; if it is lost, begin a new installation whose first \
         entry names this log; if the witness is at fault, take it out of the witness policy"
    )]
    Witnessed {
        /// The log.
        origin: String,
        /// What the witness knows.
        knows: String,
        /// Its name.
        witness: String,
    },
    /// A log says that it was removed, and the operator's log does not.
    #[error(
        "the log {0} is marked as removed, but the operator's log holds no record of that: put its folder back from a copy or \
         from the archive"
    )]
    NotRemoved(String),
    /// There is a checkpoint, but the lock store remembers none.
    #[error(
        "the log {0} has a checkpoint that the state database does not remember: connect the state database that belongs \
         to this data folder, or restore it"
    )]
    Foreign(String),
    /// A file of the log is there already and says something else.
    #[error("{0}: is there already with other contents; the log will not be forked")]
    Diverged(PathBuf),
    /// Somebody else has sealed the log meanwhile.
    #[error("the log {0} was sealed by somebody else: two processes write one log")]
    Taken(String),
    /// The log's name cannot name a key.
    #[error("`{0}` cannot name a log: no spaces, no `+`")]
    Name(String),
}

impl LogError {
    /// Whether going on could fork the log, so that nothing may be recorded any more.
    pub(crate) const fn is_final(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

/// Entries after which full files are written, before all of them are synced.
const WRITTEN_EARLY: u64 = 8 * bartizan_ledger::ENTRIES_PER_BUNDLE;

/// Files that were written but are not durable, and have not their names yet.
#[derive(Debug)]
struct Laid<'a> {
    several: Box<dyn Several + 'a>,
    absent: Vec<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    signer: NoteSigner,
    appender: Appender,
    /// The number of the last record of this node in the tree.
    last_seq: u64,
    /// What the lock store holds.
    pub(crate) confirmed: Option<TreeHead>,
    /// What the lock store may hold: its answer was lost.
    pub(crate) attempted: Option<TreeHead>,
    /// What the checkpoint file says.
    published: Option<TreeHead>,
    /// Folders whose own names are known to be durable.
    settled: BTreeSet<PathBuf>,
    /// Folders of partial tiles that full ones have replaced.
    replaced: Vec<PathBuf>,
}

impl Log {
    /// Opens the log in `folder`, which must be the one that the lock store holds: `confirmed`.
    ///
    /// Reads the right edge only; that every older entry is what it was is for the offline verifier to say.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        signer: NoteSigner,
        confirmed: Option<TreeHead>,
    ) -> Result<Self, LogError> {
        let mut log = Self {
            disk,
            folder,
            signer,
            appender: Appender::new(),
            last_seq: 0,
            confirmed,
            attempted: None,
            published: None,
            settled: BTreeSet::new(),
            replaced: Vec::new(),
        };
        let Some((size, root)) = confirmed else {
            return match log.disk.read(&log.folder.join("checkpoint")) {
                Ok(_) => Err(LogError::Foreign(log.origin().to_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(log),
                Err(source) => Err(LogError::Io { path: log.folder.join("checkpoint"), source }),
            };
        };
        log.load(size, root).map_err(|error| match error {
            ReadError::Io { path, source } if source.kind() != io::ErrorKind::NotFound => {
                LogError::Io { path, source }
            }
            _ => LogError::Rollback { origin: log.origin().to_owned(), size },
        })?;
        Ok(log)
    }

    fn load(&mut self, size: u64, root: Digest) -> Result<(), ReadError> {
        let sealed = self.sealed_at((size, root));
        self.appender = Appender::resume(size, &root, &Tiles(&sealed)).map_err(|error| match error {
            ResumeError::Read(bartizan_ledger::ReadError::Source(_, error)) => error,
            ResumeError::Read(_) | ResumeError::Entries | ResumeError::Root => {
                ReadError::Damaged(self.folder.join("tile"))
            }
        })?;
        Ok(())
    }

    /// The log's name.
    pub(crate) fn origin(&self) -> &str {
        self.signer.verifier().name()
    }

    /// Size and root with everything appended.
    pub(crate) fn head(&self) -> TreeHead {
        (self.appender.size(), self.appender.root())
    }

    /// The log as readers see it when its head is `head`.
    pub(crate) fn sealed_at(&self, (size, root): TreeHead) -> SealedLog {
        SealedLog {
            disk: self.disk.clone(),
            folder: self.folder.clone(),
            size,
            root,
            checkpoint: self.checkpoint((size, root)).into(),
            verifier: self.signer.verifier().to_string().into(),
            witnessed: None,
            removed: None,
        }
    }

    /// Sets the number of the last record of this node.
    pub(crate) const fn continue_after(&mut self, seq: u64) {
        self.last_seq = seq;
    }

    /// The number of the last record of this node in the tree.
    pub(crate) const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    fn checkpoint(&self, (size, root): TreeHead) -> String {
        Checkpoint { origin: self.origin().to_owned(), size, root }.sign(&self.signer)
    }

    /// Appends records that are not in the tree yet and makes bundles and tiles durable. Gives the place of the first that
    /// was appended; the others follow it.
    ///
    /// After an error the tree in memory is ahead of its files: the log must be opened again.
    pub(crate) fn append<'a>(&mut self, records: impl Iterator<Item = &'a Written>) -> Result<u64, LogError> {
        let first = self.appender.size();
        let last_seq = self.last_seq;
        let disk = self.disk.clone();
        let mut laid = None;
        for record in records.filter(|r| r.seq > last_seq) {
            // Longer entries than a bundle can hold were refused before they were written.
            self.appender.append_hashed(&record.entry, record.leaf).map_err(|error| LogError::Io {
                path: self.folder.clone(),
                source: io::Error::other(error),
            })?;
            self.last_seq = record.seq;
            if self.appender.size().is_multiple_of(WRITTEN_EARLY) {
                // While they are still in the processor's memory, and so that a backlog is not held there a second time.
                let files = self.appender.take_full();
                self.lay(&*disk, files, &mut laid)?;
            }
        }
        if self.appender.size() == first {
            return Ok(first);
        }
        let files = self.appender.take_files();
        self.lay(&*disk, files, &mut laid)?;
        if let Some(laid) = laid {
            self.name(laid)?;
        }
        Ok(first)
    }

    /// Writes files under the names that they have before they are durable.
    fn lay<'d>(
        &mut self,
        disk: &'d dyn Disk,
        files: Vec<File>,
        laid: &mut Option<Laid<'d>>,
    ) -> Result<(), LogError> {
        for File { tile, bytes } in files {
            let path = self.folder.join(tile.path());
            let io = |source| LogError::Io { path: path.clone(), source };
            let laid = match laid {
                Some(laid) => laid,
                None => {
                    disk.create_dir_all(&self.folder).map_err(io)?;
                    let several = disk.several(&self.folder).map_err(io)?;
                    laid.insert(Laid { several, absent: Vec::new(), folders: BTreeSet::new() })
                }
            };
            let parent = path.parent().unwrap_or(&self.folder);
            match disk.read(&path) {
                // Written by an attempt that did not come to its end.
                Ok(there) if there == bytes => {}
                Ok(_) => return Err(LogError::Diverged(path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if !laid.folders.contains(parent) {
                        disk.create_dir_all(parent).map_err(io)?;
                    }
                    laid.several.write(&temporary(&path), &bytes).map_err(io)?;
                    laid.absent.push(path.clone());
                }
                Err(error) => return Err(io(error)),
            }
            if !laid.folders.contains(parent) {
                laid.folders.insert(parent.to_owned());
            }
            if tile.is_full() {
                self.replaced.push(path.with_extension("p"));
            }
        }
        Ok(())
    }

    /// Makes what was laid down durable, and then gives it its names, durably.
    fn name(&mut self, Laid { mut several, absent, folders }: Laid<'_>) -> Result<(), LogError> {
        let failed = |source| LogError::Io { path: self.folder.join("tile"), source };
        if !absent.is_empty() {
            several.sync().map_err(failed)?;
        }
        absent.iter().try_for_each(|path| self.disk.rename(&temporary(path), path)).map_err(failed)?;
        for folder in folders {
            self.sync(&folder)?;
        }
        Ok(())
    }

    /// Makes the names in a folder durable, and once the names of the folder and those above it.
    fn sync(&mut self, folder: &Path) -> Result<(), LogError> {
        let io = |path: &Path, source| LogError::Io { path: path.to_owned(), source };
        self.disk.sync_dir(folder).map_err(|e| io(folder, e))?;
        if self.settled.insert(folder.to_owned()) {
            // `log/TENANT/PERIOD` and everything below.
            let highest = self.folder.ancestors().nth(2).unwrap_or(&self.folder);
            for above in folder.ancestors().skip(1).take_while(|p| p.starts_with(highest)) {
                self.disk.sync_dir(above).map_err(|e| io(above, e))?;
            }
        }
        Ok(())
    }

    /// Publishes the checkpoint of what the lock store holds, and removes what full tiles have replaced; gives the log as
    /// readers see it from now on.
    pub(crate) fn publish(&mut self) -> Result<Option<SealedLog>, LogError> {
        let Some(head) = self.confirmed.filter(|head| self.published != Some(*head)) else { return Ok(None) };
        let path = self.folder.join("checkpoint");
        let io = |source| LogError::Io { path: path.clone(), source };
        let sealed = self.sealed_at(head);
        self.disk.create_dir_all(&self.folder).map_err(io)?;
        if self.published.is_none() {
            // For whoever verifies on this machine; whoever does not trust it brings the key along.
            let key = (self.folder.join("key.vkey"), format!("{}\n", sealed.verifier).into_bytes());
            write_whole(&*self.disk, &self.folder, &[key]).map_err(io)?;
        }
        let checkpoint = (path.clone(), sealed.checkpoint.as_bytes().to_vec());
        write_whole(&*self.disk, &self.folder, &[checkpoint]).map_err(io)?;
        self.sync(&self.folder.clone())?;
        self.published = Some(head);
        for partials in self.replaced.drain(..) {
            // Not there when the tile was filled at once; tried by name, since what is left behind does no harm.
            match self.disk.remove_dir_all(&partials) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::debug!(%error, path = %partials.display(), "partial tiles stay");
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Some(sealed))
    }
}

/// Whether the entries of a bundle are those whose hashes a tile keeps.
pub(crate) fn entries_fit(entries: &[&[u8]], hashes: &[Digest]) -> bool {
    entries.len() == hashes.len() && entries.iter().zip(hashes).all(|(entry, hash)| leaf_hash(entry) == *hash)
}
