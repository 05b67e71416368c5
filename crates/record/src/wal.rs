//! The write-ahead log as one thread writes it: whatever waits is written at once, synced once, and only then
//! acknowledged. Group commit by natural batching, without a timer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use bartizan_base::Digest;

use crate::core::Core;
use crate::disk::{Disk, DiskFile, is_full};
use crate::intent::{Promised, Receipt, RecordError, Running, Signing};
use crate::period::Origins;
use crate::queue::{About, Ack, Draft};
use crate::sector;
use crate::segment::{self, Head, Mark, Open};
use crate::spare::Spare;
use crate::tail::{Batch, Entry, Written};

/// Bytes of entries that are written at once; a batch ends behind the record that passes it.
const BATCH_BYTES: usize = 1 << 20;

/// Smaller segments are made when they are needed: their zeroes are written as fast as a thread is started.
const SPARE_FROM: u64 = 1 << 20;

/// The end of the write-ahead log.
#[derive(Debug)]
pub(crate) struct Wal {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: PathBuf,
    pub(crate) core: Arc<Core>,
    pub(crate) segment_bytes: u64,
    pub(crate) next_seq: u64,
    /// The leaf hash of the last record.
    pub(crate) last_leaf: Digest,
    /// Intents without outcome.
    pub(crate) open: Open,
    /// The segment that is filling. A new one begins with every start.
    pub(crate) current: Option<Current>,
    /// The next segment, prepared while the present one fills: writing its zeroes takes longer than many batches.
    pub(crate) preparing: Option<JoinHandle<io::Result<Spare>>>,
    /// The one that was prepared and has waited for a batch that fits.
    pub(crate) spare: Option<Spare>,
    /// What is written: the same memory for every batch.
    pub(crate) sectors: Vec<u8>,
    /// Signs what was acknowledged.
    pub(crate) signing: Arc<Signing>,
    pub(crate) origins: Origins,
    /// Outcomes that found no room; they have nobody who would send them again.
    pub(crate) waiting: Vec<Draft>,
}

#[derive(Debug)]
pub(crate) struct Current {
    file: Box<dyn DiskFile>,
    at: u64,
    size: u64,
    mark: Mark,
}

/// Why a batch is not durable.
#[derive(Debug)]
enum WalError {
    /// There is no room for a segment. Nothing was written, so it can be tried again.
    NoRoom(io::Error),
    /// The disk failed. What was written is in an unknown state, so nothing can ever be acknowledged again.
    Failed(io::Error),
}

/// Refuses whatever comes once the writer is gone, also if it went by a panic.
struct LastOne(Arc<Core>);

impl Drop for LastOne {
    fn drop(&mut self) {
        self.0.queue.end(RecordError::Failed("the writer has ended".to_owned()));
        let reason = self.0.queue.ended().unwrap_or(RecordError::Closed);
        for draft in self.0.queue.drain() {
            draft.ack.refuse(reason.clone());
        }
    }
}

impl Wal {
    /// Writes until the queue ends or the disk fails.
    pub(crate) fn run(mut self) {
        let last = LastOne(self.core.clone());
        // Two vectors, in turns: one fills while the other is written.
        let mut empty = Vec::new();
        while let Some(mut drafts) = self.core.queue.pull(std::mem::take(&mut empty)) {
            if !self.waiting.is_empty() {
                drafts.splice(..0, self.waiting.drain(..));
            }
            let pause = self.core.pause();
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
            if !self.commit(&mut drafts) {
                break;
            }
            empty = drafts;
        }
        for draft in self.waiting.drain(..) {
            draft.ack.refuse(RecordError::NoRoom);
        }
        if let Some(Err(_)) = self.preparing.take().map(JoinHandle::join) {
            tracing::debug!("the thread that prepared a segment panicked");
        }
        drop(last);
    }

    /// Makes drafts durable and tells those who wait; says whether the writer can go on.
    fn commit(&mut self, drafts: &mut Vec<Draft>) -> bool {
        while !drafts.is_empty() {
            let mut bytes = 0;
            let fits = |draft: &&Draft| {
                let fits = bytes < BATCH_BYTES;
                bytes += draft.encoded.len();
                fits
            };
            let count = drafts.iter().take(segment::BATCH_MAX).take_while(fits).count();
            match self.append(drafts.get(..count).unwrap_or_default()) {
                Ok(written) => self.acknowledge(drafts.drain(..count), &written),
                Err(WalError::NoRoom(error)) => {
                    tracing::warn!(%error, "no room for the write-ahead log");
                    for draft in drafts.drain(..) {
                        if matches!(draft.ack, Ack::Outcome(_)) {
                            self.waiting.push(draft);
                        } else {
                            draft.ack.refuse(RecordError::NoRoom);
                        }
                    }
                    return true;
                }
                Err(WalError::Failed(error)) => {
                    tracing::error!(%error, "the write-ahead log failed; nothing is recorded or permitted any more");
                    let error = RecordError::Failed(error.to_string());
                    self.core.queue.end(error.clone());
                    drafts.drain(..).for_each(|draft| draft.ack.refuse(error.clone()));
                    return false;
                }
            }
        }
        true
    }

    /// Writes one batch and syncs it.
    fn append(&mut self, batch: &[Draft]) -> Result<Batch, WalError> {
        let length_max: usize = batch.iter().map(|draft| segment::frame_bytes(draft.encoded.len())).sum();
        let room = sector::bytes_for(length_max) as u64;
        let began = self.core.clock.monotonic_us();
        if self.current.as_ref().is_none_or(|current| current.at + room > current.size) {
            let new = self.next_segment(room);
            self.current =
                Some(new.map_err(|e| if is_full(&e) { WalError::NoRoom(e) } else { WalError::Failed(e) })?);
        }
        let Some(current) = &mut self.current else {
            return Err(WalError::Failed(io::Error::other("there is no segment")));
        };
        let mut frames = Vec::with_capacity(length_max);
        let mut placed = Vec::with_capacity(batch.len());
        for ((seq, place), draft) in (self.next_seq..).zip(0..).zip(batch) {
            let write = |out: &mut Vec<u8>| draft.encoded.write(seq, out);
            placed.push(segment::push_frame(&mut frames, current.mark, seq, place, write));
        }
        self.sectors.clear();
        sector::lay(&mut self.sectors, self.next_seq, &frames);
        let length = self.sectors.len() as u64;
        // The room is there, so even a full disk is a failure here.
        current.file.write_at(&self.sectors, current.at).map_err(WalError::Failed)?;
        current.file.sync_data().map_err(WalError::Failed)?;
        current.at += length;
        let half_full = current.at > current.size / 2;
        let frames = Arc::new(frames);
        let written: Batch = (self.next_seq..)
            .zip(batch)
            .zip(placed)
            .map(|((seq, draft), (at, leaf))| Written {
                seq,
                tenant: draft.tenant.clone(),
                time: draft.time,
                about: draft.about,
                entry: Entry::new(frames.clone(), at),
                leaf,
                index: OnceLock::new(),
            })
            .collect();
        self.next_seq += batch.len() as u64;
        self.last_leaf = written.last().map_or(self.last_leaf, |w| w.leaf);
        for record in &*written {
            match record.about {
                About::Intent(id) => drop(self.open.insert(id, record.tenant.clone())),
                About::Outcome(id) => drop(self.open.remove(&id)),
                About::Refusal(_) | About::System => {}
            }
        }
        let stats = &self.core.stats;
        stats.sync_us.store(self.core.clock.monotonic_us().saturating_sub(began), Relaxed);
        stats.syncs.fetch_add(1, Relaxed);
        stats.records.fetch_add(batch.len() as u64, Relaxed);
        stats.bytes.fetch_add(length, Relaxed);
        if half_full && self.segment_bytes >= SPARE_FROM {
            self.prepare();
        }
        Ok(written)
    }

    fn acknowledge(&mut self, drafts: impl Iterator<Item = Draft>, written: &Batch) {
        let promised =
            Arc::new(Promised::new(written.iter().map(|w| w.leaf).collect(), self.signing.clone()));
        self.core.add(written.clone());
        for (place, (draft, written)) in drafts.zip(written.iter()).enumerate() {
            let receipt = Receipt {
                origin: self.origins.of(&written.tenant, written.time, &self.core.origin),
                tenant: draft.tenant,
                node: self.core.node,
                seq: written.seq,
                leaf: written.leaf,
                batch: (promised.clone(), place),
            };
            // The one who waited may have gone; the record stands all the same.
            match draft.ack {
                Ack::Begin { began_us, slot, reply } => {
                    if let About::Intent(decision) = draft.about {
                        drop(reply.send(Ok(Running { decision, receipt, began_us, slot: Some(slot) })));
                    }
                }
                Ack::One(reply) => drop(reply.send(Ok(receipt))),
                Ack::Many(first) => first.tell(Ok(receipt)),
                Ack::Outcome(slot) => drop(slot),
            }
        }
    }

    /// Begins to make the file of the next segment, if there is none yet, in a thread that ends with it.
    fn prepare(&mut self) {
        if self.preparing.is_some() || self.spare.is_some() || self.core.freed.any() {
            return;
        }
        let (disk, folder, size) = (self.disk.clone(), self.folder.clone(), self.segment_bytes);
        let prepare = move || Spare::ahead(&*disk, &folder, size);
        // Without a thread, or without room, the segment is made when it is needed.
        self.preparing =
            std::thread::Builder::new().name("bartizan-wal-spare".to_owned()).spawn(prepare).ok();
    }

    /// Makes a segment with room for `length` bytes behind its head, which is durable before the segment has its name.
    fn next_segment(&mut self, length: u64) -> io::Result<Current> {
        let head = Head {
            node: self.core.node,
            first: self.next_seq,
            previous: self.last_leaf,
            open: self.open.clone(),
        };
        let path = segment::path_of(&self.folder, head.first);
        let first = head.first;
        let (head, mark) = head.encode();
        let at = head.len() as u64;
        let mut spare = self.file_for(&path, at + length)?;
        spare.file.write_at(&head, 0)?;
        // What it was filled with is durable with the head.
        spare.file.sync_data()?;
        self.disk.rename(&spare.path, &path)?;
        self.disk.sync_dir(&self.folder)?;
        if spare.size == self.segment_bytes {
            self.core.freed.is_usual(first);
        }
        Ok(Current { file: spare.file, at, size: spare.size, mark })
    }
    /// A file of at least `size` bytes: the one that was prepared, a freed one, or a new one.
    fn file_for(&mut self, path: &Path, size: u64) -> io::Result<Spare> {
        let usual = self.segment_bytes;
        if size > usual {
            let size = size.next_multiple_of(sector::SECTOR as u64);
            return Spare::new(&*self.disk, path.with_extension("new"), size);
        }
        if let Some(thread) = self.preparing.take() {
            self.spare = thread.join().ok().and_then(Result::ok);
        }
        match self.spare.take().or_else(|| Spare::freed(&*self.disk, &self.core.freed, usual)) {
            Some(spare) => Ok(spare),
            None => Spare::new(&*self.disk, path.with_extension("new"), usual),
        }
    }
}
