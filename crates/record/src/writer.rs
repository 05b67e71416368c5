//! The writer: one thread that owns the order. It takes whatever waits, writes it once, syncs once, and only then
//! acknowledges: group commit by natural batching, without a timer.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Digest, Timestamp};
use bartizan_ledger::leaf_hash;
use bartizan_model::{DecisionId, NodeId, Tenant};
use tokio::sync::oneshot;

use crate::intent::{Receipt, RecordError};
use crate::recorder::Stats;
use crate::segment::{self, Disk, HEADER_LEN, SegmentFile};

/// Records written at once at the most.
const BATCH_MAX: usize = 1_024;

/// A record on its way: encoded but for its sequence number, which the writer gives.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) tenant: Tenant,
    pub(crate) time: Timestamp,
    /// The bytes before and after the sequence number.
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
    pub(crate) mark: Mark,
    pub(crate) reply: Option<oneshot::Sender<Result<Receipt, RecordError>>>,
}

/// What a record means for open intents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    Opens(DecisionId),
    Closes(DecisionId),
    Neither,
}

/// A durable record that is not sealed yet.
#[derive(Clone, Debug)]
pub(crate) struct Unsealed {
    pub(crate) seq: u64,
    pub(crate) tenant: Tenant,
    pub(crate) time: Timestamp,
    pub(crate) entry: Arc<[u8]>,
    pub(crate) leaf: Digest,
}

/// What writer and sealer share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) unsealed: Mutex<VecDeque<Unsealed>>,
    /// Intents without an outcome, by the number of their record: what their segments are kept for.
    pub(crate) open: Mutex<BTreeMap<DecisionId, u64>>,
    pub(crate) stats: Stats,
}

pub(crate) struct Writer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: PathBuf,
    pub(crate) node: NodeId,
    pub(crate) segment_bytes: u64,
    pub(crate) next_seq: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) current: Option<Current>,
}

pub(crate) struct Current {
    file: Box<dyn SegmentFile>,
    at: u64,
}

impl Writer {
    /// Writes until every sender is gone or the disk fails; after a failure every record is refused, for good.
    pub(crate) fn run(mut self, drafts: &Receiver<Draft>) {
        let mut failed: Option<RecordError> = None;
        while let Ok(first) = drafts.recv() {
            let mut batch = vec![first];
            batch.extend(drafts.try_iter().take(BATCH_MAX - 1));
            self.shared.stats.queue.fetch_sub(batch.len() as u64, Ordering::Relaxed);
            let result = match &failed {
                Some(error) => Err(error.clone()),
                None => self.write(&batch),
            };
            match result {
                Ok(written) => self.acknowledge(batch, written),
                Err(error) => {
                    if matches!(error, RecordError::Failed(_)) && failed.is_none() {
                        tracing::error!(%error, "the write-ahead log failed; nothing more is recorded, so nothing more is permitted");
                        self.shared.stats.failed.store(true, Ordering::Release);
                        failed = Some(error.clone());
                    }
                    for reply in batch.into_iter().filter_map(|d| d.reply) {
                        // The one who waited may have gone; then there is nobody to tell.
                        reply.send(Err(error.clone())).unwrap_or_default();
                    }
                }
            }
        }
    }

    fn write(&mut self, batch: &[Draft]) -> Result<Vec<Unsealed>, RecordError> {
        let mut frames = Vec::with_capacity(batch.len() * 1_024);
        let mut written = Vec::with_capacity(batch.len());
        for (seq, draft) in (self.next_seq..).zip(batch) {
            let mut entry = Vec::with_capacity(draft.before.len() + draft.after.len() + 20);
            entry.extend_from_slice(&draft.before);
            entry.extend_from_slice(seq.to_string().as_bytes());
            entry.extend_from_slice(&draft.after);
            segment::frame(&mut frames, seq, &entry);
            let leaf = leaf_hash(&entry);
            written.push(Unsealed {
                seq,
                tenant: draft.tenant.clone(),
                time: draft.time,
                entry: entry.into(),
                leaf,
            });
        }
        let length = frames.len() as u64;
        if self.current.as_ref().is_none_or(|c| c.at + length > self.segment_bytes) {
            self.current = None;
            // Nothing of the batch is written yet, so a full disk here costs nothing: the next batch tries again.
            let bytes = self.segment_bytes.max(HEADER_LEN as u64 + length);
            let path = segment::path_of(&self.folder, self.next_seq);
            let mut file = self.disk.create(&path, bytes).map_err(|e| RecordError::NoRoom(e.to_string()))?;
            file.write_at(&segment::header(self.node, self.next_seq), 0).map_err(failed)?;
            self.current = Some(Current { file, at: HEADER_LEN as u64 });
        }
        let Some(current) = &mut self.current else { return Err(RecordError::Closed) };
        current.file.write_at(&frames, current.at).map_err(failed)?;
        current.file.sync().map_err(failed)?;
        current.at += length;
        self.next_seq += batch.len() as u64;
        let stats = &self.shared.stats;
        stats.records.fetch_add(batch.len() as u64, Ordering::Relaxed);
        stats.syncs.fetch_add(1, Ordering::Relaxed);
        stats.bytes.fetch_add(length, Ordering::Relaxed);
        Ok(written)
    }

    fn acknowledge(&self, batch: Vec<Draft>, written: Vec<Unsealed>) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (draft, record) in batch.iter().zip(&written) {
            match draft.mark {
                Mark::Opens(id) => drop(open.insert(id, record.seq)),
                Mark::Closes(id) => drop(open.remove(&id)),
                Mark::Neither => {}
            }
        }
        drop(open);
        let receipts: Vec<Receipt> = written
            .iter()
            .map(|r| Receipt { tenant: r.tenant.clone(), node: self.node, seq: r.seq, leaf: r.leaf })
            .collect();
        self.shared.unsealed.lock().unwrap_or_else(PoisonError::into_inner).extend(written);
        for (draft, receipt) in batch.into_iter().zip(receipts) {
            if let Some(reply) = draft.reply {
                // The one who waited may have gone; the record stands all the same.
                reply.send(Ok(receipt)).unwrap_or_default();
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err calls")]
fn failed(error: std::io::Error) -> RecordError {
    RecordError::Failed(error.to_string())
}
