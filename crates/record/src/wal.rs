//! The write-ahead log as one thread writes it: whatever waits is written at once, synced once, and only then
//! acknowledged. Group commit by natural batching, without a timer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

use bartizan_base::Digest;
use bartizan_ledger::{NoteSigner, SignedBatch, leaf_hash};

use crate::core::Core;
use crate::disk::{Disk, DiskFile, is_full};
use crate::intent::{Receipt, RecordError, Running};
use crate::queue::{About, Ack, Draft};
use crate::segment::{self, Head, Open};
use crate::tail::Written;

/// Bytes of entries that are written at once; a batch ends behind the record that passes it.
const BATCH_BYTES: usize = 1 << 20;

/// The file of a segment that has no number yet. Recovery removes it, like every `.new`.
const SPARE: &str = "spare.new";

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
    pub(crate) spare: Option<JoinHandle<io::Result<Box<dyn DiskFile>>>>,
    /// Signs what is acknowledged.
    pub(crate) promises: NoteSigner,
    /// Outcomes that found no room; they have nobody who would send them again.
    pub(crate) waiting: Vec<Draft>,
}

#[derive(Debug)]
pub(crate) struct Current {
    file: Box<dyn DiskFile>,
    at: u64,
    size: u64,
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
        while let Some(batch) = self.core.queue.pull() {
            let batch: Vec<Draft> = self.waiting.drain(..).chain(batch).collect();
            if !self.commit(batch) {
                break;
            }
        }
        for draft in self.waiting.drain(..) {
            draft.ack.refuse(RecordError::NoRoom);
        }
        if let Some(Err(_)) = self.spare.take().map(JoinHandle::join) {
            tracing::debug!("the thread that prepared a segment panicked");
        }
        drop(last);
    }

    /// Makes drafts durable and tells those who wait; says whether the writer can go on.
    fn commit(&mut self, drafts: Vec<Draft>) -> bool {
        let mut rest = drafts.into_iter().peekable();
        while rest.peek().is_some() {
            let mut bytes = 0;
            let mut batch = Vec::new();
            while let Some(draft) = rest.next_if(|_| bytes < BATCH_BYTES && batch.len() < segment::BATCH_MAX)
            {
                bytes += draft.encoded.len();
                batch.push(draft);
            }
            match self.append(&batch) {
                Ok(written) => self.acknowledge(batch, written),
                Err(WalError::NoRoom(error)) => {
                    tracing::warn!(%error, "no room for the write-ahead log");
                    for draft in batch.into_iter().chain(rest) {
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
                    batch.into_iter().chain(rest).for_each(|draft| draft.ack.refuse(error.clone()));
                    return false;
                }
            }
        }
        true
    }

    /// Writes one batch and syncs it.
    fn append(&mut self, batch: &[Draft]) -> Result<Vec<Written>, WalError> {
        let mut frames = Vec::with_capacity(batch.len() * 1_024);
        let mut written = Vec::with_capacity(batch.len());
        for ((seq, place), draft) in (self.next_seq..).zip(0..).zip(batch) {
            let entry = draft.encoded.numbered(seq);
            let leaf = leaf_hash(&entry);
            segment::push_frame(&mut frames, seq, place, &leaf, &entry);
            written.push(Written {
                seq,
                tenant: draft.tenant.clone(),
                time: draft.time,
                about: draft.about,
                entry: entry.into(),
                leaf,
                index: None,
            });
        }
        let length = frames.len() as u64;
        let began = self.core.clock.monotonic_us();
        if self.current.as_ref().is_none_or(|current| current.at + length > current.size) {
            let new = self.next_segment(length);
            self.current =
                Some(new.map_err(|e| if is_full(&e) { WalError::NoRoom(e) } else { WalError::Failed(e) })?);
        }
        let Some(current) = &mut self.current else {
            return Err(WalError::Failed(io::Error::other("there is no segment")));
        };
        // The room is there, so even a full disk is a failure here.
        current.file.write_at(&frames, current.at).map_err(WalError::Failed)?;
        current.file.sync_data().map_err(WalError::Failed)?;
        current.at += length;
        let half_full = current.at > current.size / 2;
        self.next_seq += batch.len() as u64;
        self.last_leaf = written.last().map_or(self.last_leaf, |w| w.leaf);
        for record in &written {
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
        if half_full && self.spare.is_none() && self.segment_bytes >= SPARE_FROM {
            self.prepare_spare();
        }
        Ok(written)
    }

    fn acknowledge(&self, batch: Vec<Draft>, written: Vec<Written>) {
        let leaves = written.iter().map(|w| w.leaf).collect();
        let Some(signed) = SignedBatch::sign(&self.core.origin, leaves, &self.promises) else { return };
        let signed = Arc::new(signed);
        let receipts: Vec<Receipt> = written
            .iter()
            .enumerate()
            .map(|(place, w)| self.core.receipt(w, (signed.clone(), place)))
            .collect();
        self.core.tail().extend(written);
        for (draft, receipt) in batch.into_iter().zip(receipts) {
            // The one who waited may have gone; the record stands all the same.
            match draft.ack {
                Ack::Begin { began_us, slot, reply } => {
                    if let About::Intent(decision) = draft.about {
                        drop(reply.send(Ok(Running { decision, receipt, began_us, slot: Some(slot) })));
                    }
                }
                Ack::One(reply) => drop(reply.send(Ok(receipt))),
                Ack::Many(shared) => drop(shared.send_replace(Some(Ok(receipt)))),
                Ack::Outcome(slot) => drop(slot),
            }
        }
    }

    /// Begins to write the zeroes of the next segment, in a thread that ends with it.
    fn prepare_spare(&mut self) {
        let (disk, path, size) = (self.disk.clone(), self.folder.join(SPARE), self.segment_bytes);
        let prepare = move || {
            let made = disk.create(&path).and_then(|mut file| {
                file.zero(0, size)?;
                file.sync_data()?;
                Ok(file)
            });
            made.inspect_err(|_| give_back(&*disk, &path))
        };
        // Without a thread, or without room, the segment is made when it is needed.
        self.spare = std::thread::Builder::new().name("bartizan-wal-spare".to_owned()).spawn(prepare).ok();
    }

    /// Makes a segment with its head, filled with zeroes, durable before it has its name; with room for `length` bytes.
    fn next_segment(&mut self, length: u64) -> io::Result<Current> {
        let head = Head {
            node: self.core.node,
            first: self.next_seq,
            previous: self.last_leaf,
            open: self.open.clone(),
        };
        let path = segment::path_of(&self.folder, head.first);
        let head = head.encode();
        let at = head.len() as u64;
        let spare = self.spare.take().and_then(|thread| thread.join().ok()?.ok());
        let (temporary, mut file, size) = match spare.filter(|_| at + length <= self.segment_bytes) {
            Some(file) => (self.folder.join(SPARE), file, self.segment_bytes),
            None => {
                let temporary = path.with_extension("new");
                let size = self.segment_bytes.max(at + length);
                let file = self.disk.create(&temporary).and_then(|mut file| {
                    file.zero(0, size)?;
                    Ok(file)
                });
                (temporary.clone(), file.inspect_err(|_| give_back(&*self.disk, &temporary))?, size)
            }
        };
        file.write_at(&head, 0)?;
        file.sync_data()?;
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(&self.folder)?;
        Ok(Current { file, at, size })
    }
}

/// Removes a half-made file. If that fails, the next attempt or the next start overwrites or removes it.
fn give_back(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.remove(path) {
        tracing::debug!(%error, "a half-made segment stays");
    }
}
