//! A disk in memory that remembers the order of everything, so that a test can crash it at every point and in every way
//! the contract of [`Disk`] allows; and a lock store that shares its history.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bartizan_base::Digest;
use bartizan_store::{Checkpoints, StoreError};
use futures_util::future::BoxFuture;

use crate::disk::{Disk, DiskFile};
use crate::log::TreeHead;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Something that happened, in order.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create {
        path: PathBuf,
        file: usize,
    },
    Write {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Sync {
        file: usize,
    },
    /// A sync failed, and with it what it should have written was forgotten.
    SyncFailed {
        file: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        file: usize,
    },
    Remove {
        path: PathBuf,
    },
    RemoveDir {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
    Swap {
        log: String,
        head: TreeHead,
    },
    /// Somebody was told that the record with this number and leaf hash is durable.
    Acked {
        seq: u64,
        leaf: Digest,
    },
}

impl Op {
    /// The folder whose names it changes.
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Create { path, .. }
            | Self::Rename { to: path, .. }
            | Self::Remove { path }
            | Self::RemoveDir { path } => path.parent(),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Image {
    files: Vec<Vec<u8>>,
    names: BTreeMap<PathBuf, usize>,
    swaps: Vec<(String, TreeHead)>,
}

impl Image {
    fn write(&mut self, file: usize, at: usize, bytes: &[u8]) {
        if self.files.len() <= file {
            self.files.resize(file + 1, Vec::new());
        }
        let content = &mut self.files[file];
        if content.len() < at + bytes.len() {
            content.resize(at + bytes.len(), 0);
        }
        content[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Whether nothing else was written there.
    fn is_zero(&self, file: usize, range: std::ops::Range<usize>) -> bool {
        let content = self.files.get(file).map_or(&[][..], Vec::as_slice);
        range.into_iter().all(|at| content.get(at).is_none_or(|byte| *byte == 0))
    }

    fn rename(&mut self, op: &Op) {
        match op {
            Op::Create { path, file } => {
                self.names.insert(path.clone(), *file);
            }
            Op::Rename { from, to, file } => {
                if self.names.get(from) == Some(file) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *file);
            }
            Op::Remove { path } => {
                self.names.remove(path);
            }
            Op::RemoveDir { path } => self.names.retain(|name, _| !name.starts_with(path)),
            _ => {}
        }
    }
}

/// Ways to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next sync of a file fails and forgets what it should have written.
    Sync,
    /// The next write fails and writes nothing.
    Write,
    /// The next write of a file whose path holds this fails and writes nothing.
    WriteOf(&'static str),
    /// The next write of such a file is done, and yet said to have failed.
    WriteOfDone(&'static str),
    /// The next sync of such a file fails and forgets what it should have written.
    SyncOf(&'static str),
    /// The next file is not given a name that ends in this.
    RenameTo(&'static str),
    /// The next swap is applied, but its answer is lost.
    SwapAnswerLost,
    /// The next swap is not applied, and fails.
    SwapLost,
}

#[derive(Debug, Default)]
struct State {
    /// What the disk held at its beginning.
    base: Image,
    /// What programs see: everything done so far.
    now: Image,
    ops: Vec<Op>,
    /// No file can grow.
    full: bool,
    faults: Vec<Fault>,
}

/// The disk. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl State {
    fn fails(&mut self, fault: Fault) -> bool {
        let place = self.faults.iter().position(|f| *f == fault);
        place.map(|at| self.faults.remove(at)).is_some()
    }

    /// Whether a fault of this kind waits for the file, by a part of its path.
    fn fails_at(&mut self, file: usize, kind: fn(&'static str) -> Fault) -> bool {
        let path = self.now.names.iter().find(|(_, found)| **found == file).map(|(path, _)| path.clone());
        let path = path.unwrap_or_default().to_string_lossy().into_owned();
        let parts = self.faults.iter().filter_map(|fault| match fault {
            Fault::WriteOf(part) | Fault::WriteOfDone(part) | Fault::SyncOf(part) => Some(*part),
            Fault::Sync | Fault::Write | Fault::RenameTo(_) | Fault::SwapAnswerLost | Fault::SwapLost => None,
        });
        let waiting = parts.filter(|part| path.contains(part)).map(kind).find(|f| self.faults.contains(f));
        waiting.is_some_and(|fault| self.fails(fault))
    }

    fn did(&mut self, op: Op) {
        match &op {
            Op::Write { file, at, bytes } => self.now.write(*file, *at, bytes),
            Op::Swap { log, head } => self.now.swaps.push((log.clone(), *head)),
            _ => self.now.rename(&op),
        }
        self.ops.push(op);
    }
}

/// What of an unfinished past can be lost alone.
#[derive(Debug)]
enum Loose {
    Sector { file: usize, at: usize, bytes: Vec<u8> },
    Name(Op),
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// How many faults wait for their chance.
    pub(crate) fn faults_left(&self) -> usize {
        self.state().faults.len()
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    pub(crate) fn acked(&self, seq: u64, leaf: Digest) {
        self.state().did(Op::Acked { seq, leaf });
    }

    pub(crate) fn ops(&self) -> Vec<Op> {
        self.state().ops.clone()
    }

    /// Every head that the lock store was ever told.
    pub(crate) fn swaps(&self) -> Vec<(String, TreeHead)> {
        self.state().now.swaps.clone()
    }

    /// Changes a byte behind everybody's back.
    pub(crate) fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.now.names[path];
        change(&mut state.now.files[file]);
    }

    /// Makes the lock store forget a log, as somebody who writes to its database could.
    pub(crate) fn forget_swaps(&self, log: &str) {
        let mut state = self.state();
        state.now.swaps.retain(|(name, _)| name != log);
    }

    /// Every file with its content.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let content = |file: usize| state.now.files.get(file).cloned().unwrap_or_default();
        state.now.names.iter().map(|(name, file)| (name.clone(), content(*file))).collect()
    }

    /// The disk as it is, with nothing unfinished: after an orderly end, or the end of the process alone.
    pub(crate) fn rebooted(&self) -> Self {
        let now = self.state().now.clone();
        Self(Arc::new(Mutex::new(State { base: now.clone(), now, ..State::default() })))
    }

    /// What is certain after the first `count` operations, and what may be lost.
    fn past(&self, count: usize) -> (Image, Vec<Loose>) {
        let state = self.state();
        let mut image = state.base.clone();
        let mut writes: Vec<(usize, usize, Vec<u8>)> = Vec::new();
        let mut names: Vec<Op> = Vec::new();
        for op in state.ops.iter().take(count) {
            match op {
                Op::Write { file, at, bytes } => writes.push((*file, *at, bytes.clone())),
                Op::Sync { file } | Op::SyncFailed { file } => {
                    writes.retain(|(f, at, bytes)| {
                        if f == file && matches!(op, Op::Sync { .. }) {
                            image.write(*f, *at, bytes);
                        }
                        f != file
                    });
                }
                Op::SyncDir { path } => names.retain(|op| {
                    let settled = op.folder() == Some(path);
                    if settled {
                        image.rename(op);
                    }
                    !settled
                }),
                Op::Swap { log, head } => image.swaps.push((log.clone(), *head)),
                Op::Acked { .. } => {}
                name => names.push(name.clone()),
            }
        }
        let mut loose: Vec<Loose> = Vec::new();
        for (file, at, bytes) in writes {
            let mut from = at;
            while from < at + bytes.len() {
                let to = ((from / SECTOR + 1) * SECTOR).min(at + bytes.len());
                let piece = bytes[from - at..to - at].to_vec();
                let overlaps = |loose: &Loose| matches!(loose, Loose::Sector { file: f, at, bytes } if *f == file && *at < to && from < at + bytes.len());
                if piece.iter().all(|b| *b == 0)
                    && image.is_zero(file, from..to)
                    && !loose.iter().any(overlaps)
                {
                    // Whether zeroes are written where there are some is the same.
                    image.write(file, from, &piece);
                } else {
                    loose.push(Loose::Sector { file, at: from, bytes: piece });
                }
                from = to;
            }
        }
        loose.extend(names.into_iter().map(Loose::Name));
        (image, loose)
    }

    /// The states in which a crash right after the first `count` operations can leave the disk: every one while few things
    /// are unfinished, otherwise the ones at the borders and some between.
    pub(crate) fn crashes(&self, count: usize) -> Vec<Self> {
        let (image, loose) = self.past(count);
        let n = loose.len();
        let mut patterns: Vec<Vec<bool>> = Vec::new();
        if n <= 4 {
            patterns.extend((0..1_u32 << n).map(|bits| (0..n).map(|i| bits >> i & 1 == 1).collect()));
        } else {
            patterns.push(vec![false; n]);
            patterns.push(vec![true; n]);
            for i in 0..n {
                patterns.push((0..n).map(|j| j != i).collect());
                patterns.push((0..n).map(|j| j == i).collect());
            }
            for seed in 0..6_u64 {
                let bits = Digest::of_parts(&[&seed.to_be_bytes(), &(count as u64).to_be_bytes()]);
                patterns.push((0..n).map(|i| bits.as_bytes()[i / 8 % 32] >> (i % 8) & 1 == 1).collect());
            }
        }
        patterns
            .into_iter()
            .map(|kept| {
                let mut now = image.clone();
                for (loose, _) in loose.iter().zip(kept).filter(|(_, kept)| *kept) {
                    match loose {
                        Loose::Sector { file, at, bytes } => now.write(*file, *at, bytes),
                        Loose::Name(op) => now.rename(op),
                    }
                }
                Self(Arc::new(Mutex::new(State { base: now.clone(), now, ..State::default() })))
            })
            .collect()
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let file = state.now.files.len();
        state.now.files.push(Vec::new());
        state.did(Op::Create { path: path.to_owned(), file });
        Ok(Box::new(SimFile { disk: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = *self.state().now.names.get(path).ok_or_else(not_found)?;
        Ok(Box::new(SimFile { disk: self.clone(), file }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let file = *state.now.names.get(path).ok_or_else(not_found)?;
        Ok(state.now.files.get(file).cloned().unwrap_or_default())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let below = state.now.names.keys().filter_map(|name| name.strip_prefix(folder).ok());
        let mut names: Vec<String> = below
            .filter_map(|rest| Some(rest.components().next()?.as_os_str().to_str()?.to_owned()))
            .collect();
        names.dedup();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let name = to.to_string_lossy().into_owned();
        let refused = |fault: &Fault| matches!(fault, Fault::RenameTo(end) if name.ends_with(end));
        if let Some(fault) = state.faults.iter().find(|fault| refused(fault)).copied() {
            state.fails(fault);
            return Err(io::Error::other("simulated EIO"));
        }
        let file = *state.now.names.get(from).ok_or_else(not_found)?;
        state.did(Op::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.now.names.get(path).ok_or_else(not_found)?;
        state.did(Op::Remove { path: path.to_owned() });
        Ok(())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        // Folders are durable on return and so leave no trace here: a name says the folders it is in.
        Ok(())
    }

    fn remove_dir_all(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.now.names.keys().any(|name| name.starts_with(folder)) {
            return Err(not_found());
        }
        state.did(Op::RemoveDir { path: folder.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.state().did(Op::SyncDir { path: folder.to_owned() });
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let at = usize::try_from(offset).unwrap();
        if state.fails(Fault::Write) || state.fails_at(self.file, Fault::WriteOf) {
            return Err(io::Error::other("simulated EIO"));
        }
        if state.full && at + bytes.len() > state.now.files[self.file].len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.did(Op::Write { file: self.file, at, bytes: bytes.to_vec() });
        if state.fails_at(self.file, Fault::WriteOfDone) {
            return Err(io::Error::other("simulated EIO"));
        }
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.fails(Fault::Sync) || state.fails_at(self.file, Fault::SyncOf) {
            state.did(Op::SyncFailed { file: self.file });
            return Err(io::Error::other("simulated EIO"));
        }
        state.did(Op::Sync { file: self.file });
        Ok(())
    }
}

/// The lock store is durable at once: it is another disk.
impl Checkpoints for SimDisk {
    fn latest(&self, log: &str) -> BoxFuture<'_, Result<Option<TreeHead>, StoreError>> {
        let found = self.state().now.swaps.iter().rev().find(|(name, _)| name == log).map(|(_, head)| *head);
        Box::pin(async move { Ok(found) })
    }

    fn swap(
        &self,
        log: &str,
        old: Option<TreeHead>,
        new: TreeHead,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut state = self.state();
        let lost = || StoreError::Unavailable("simulated".into());
        let present = state.now.swaps.iter().rev().find(|(name, _)| name == log).map(|(_, head)| *head);
        let result = if state.fails(Fault::SwapLost) {
            Err(lost())
        } else if present != old {
            Ok(false)
        } else {
            state.did(Op::Swap { log: log.to_owned(), head: new });
            if state.fails(Fault::SwapAnswerLost) { Err(lost()) } else { Ok(true) }
        };
        Box::pin(async move { result })
    }
}
