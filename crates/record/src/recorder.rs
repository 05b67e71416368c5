//! The recorder: what the rest of the house speaks to.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Clock, Digest, Name, Timestamp, json};
use bartizan_decide::{Permit, Refused};
use bartizan_ledger::NoteSigner;
use bartizan_model::action::ReadLedger;
use bartizan_model::record::{Body, End, Intent, Outcome, Record, Refusal, System, VERSION};
use bartizan_model::{DecisionId, NodeId, Operation, Target, Tenant, record};
use bartizan_secret::Secret;
use bartizan_store::Checkpoints;
use chrono::{DateTime, Datelike as _};
use tokio::sync::oneshot;

use crate::flood::Floods;
use crate::intent::{IntentRecorded, Receipt, RecordError, Running};
use crate::log::{LogError, SealedLog, Search};
use crate::segment::{self, Damage, Disk};
use crate::writer::{Draft, Mark, Shared, Unsealed, Writer};

/// How a recorder is opened.
#[derive(Debug)]
pub struct Config {
    /// The data folder: `wal/` and `log/` lie below it.
    pub folder: PathBuf,
    /// Which node this is, for the life of the data folder.
    pub node: NodeId,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Records that may wait for the disk.
    pub queue_max: u64,
    /// What the names of the logs begin with: a URL without scheme.
    pub origin: String,
    /// The Ed25519 private key that signs checkpoints.
    pub seed: Secret<[u8; 32]>,
    /// This program's version, for the record of its start.
    pub version: String,
}

/// Writes the ledger. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    clock: Arc<dyn Clock>,
    checkpoints: Arc<dyn Checkpoints>,
    drafts: Mutex<Option<mpsc::Sender<Draft>>>,
    shared: Arc<Shared>,
    floods: Mutex<Floods>,
    logs: Arc<Mutex<BTreeMap<(Tenant, String), SealedLog>>>,
    sealing: tokio::sync::Mutex<()>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("node", &self.inner.config.node).finish_non_exhaustive()
    }
}

/// An entry with its hash.
type Leaf = (Arc<[u8]>, Digest);

/// What the recorder counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// Records made durable.
    pub records: AtomicU64,
    /// Syncs that made them so.
    pub syncs: AtomicU64,
    /// Bytes written.
    pub bytes: AtomicU64,
    /// Records waiting.
    pub queue: AtomicU64,
    /// Records refused because too many were waiting.
    pub refused: AtomicU64,
    /// Entries sealed since the start.
    pub sealed: AtomicU64,
    /// Whether the disk has failed for good.
    pub failed: AtomicBool,
}

/// Why the recorder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder or file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A segment of the write-ahead log is damaged in the middle.
    #[error(
        "{0}: damaged before its end; this is not a crash's torn tail. Restore the file from a second copy, or move the folder \
         `wal` away to go on with what is sealed: the gap will show in the ledger"
    )]
    Damaged(PathBuf),
    /// Segments do not follow each other.
    #[error("{0}: the segment before it is missing or cut")]
    Gap(PathBuf),
    /// A sealed log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The lock store does not answer.
    #[error("the state database does not answer")]
    Checkpoints(#[from] bartizan_store::StoreError),
    /// The log's name cannot be a key name.
    #[error("`{0}` cannot name a log")]
    Origin(String),
}

/// A recorded decision with how it ended.
#[derive(Clone, Debug)]
pub struct Found {
    /// The intent or refusal.
    pub record: Record,
    /// How it ended, if it has.
    pub outcome: Option<Record>,
    /// Where it is sealed: origin and index; absent while it is only in the write-ahead log.
    pub sealed: Option<(String, u64)>,
}

impl Recorder {
    /// Opens the recorder: verifies what is sealed, recovers the write-ahead log, tells what a crash left open.
    ///
    /// # Errors
    /// [`OpenError`]; each says what can be done.
    pub async fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
        checkpoints: Arc<dyn Checkpoints>,
    ) -> Result<Self, OpenError> {
        let wal = config.folder.join("wal");
        fs::create_dir_all(&wal).map_err(|source| OpenError::Io { path: wal.clone(), source })?;
        let mut logs = BTreeMap::new();
        for (tenant, period, folder) in log_folders(&config.folder.join("log")) {
            let log = open_log(&config, &tenant, &period, &folder, &*checkpoints).await?;
            logs.insert((tenant, period), log);
        }
        let recovered = recover(&wal, &config)?;
        let sealed = sealed_up_to(&logs, config.node);
        let shared = Arc::new(Shared::default());
        let (open, unsealed) = recovered.split(&sealed);
        *shared.unsealed.lock().unwrap_or_else(PoisonError::into_inner) = unsealed.into();
        let last_sealed = sealed.values().copied().max().unwrap_or(0);
        let writer = Writer {
            disk,
            folder: wal,
            node: config.node,
            segment_bytes: config.segment_bytes,
            next_seq: recovered.last_seq.max(last_sealed) + 1,
            shared: shared.clone(),
            current: None,
        };
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("bartizan-wal".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|source| OpenError::Io { path: config.folder.clone(), source })?;
        let version = config.version.clone();
        let recorder = Self {
            inner: Arc::new(Inner {
                config,
                clock,
                checkpoints,
                drafts: Mutex::new(Some(sender)),
                shared,
                floods: Mutex::default(),
                logs: Arc::new(Mutex::new(logs)),
                sealing: tokio::sync::Mutex::default(),
                writer: Mutex::new(Some(thread)),
            }),
        };
        recorder.tell_recovery(version, recovered.torn, open).await;
        Ok(recorder)
    }

    async fn tell_recovery(&self, version: String, torn: u64, open: Vec<(Tenant, DecisionId)>) {
        let mut told = vec![System::Started { version }];
        if torn > 0 {
            told.push(System::TailCut { bytes: torn });
        }
        for event in told {
            if let Err(error) = self.system(event).await {
                tracing::error!(%error, "the start could not be recorded");
            }
        }
        for (tenant, of) in open {
            let outcome = Outcome {
                of,
                end: End::Unknown,
                status: None,
                bytes: 0,
                input_tokens: None,
                output_tokens: None,
                redacted: 0,
                took_us: 0,
            };
            self.outcome(&tenant, outcome);
        }
    }

    /// Records a permitted ask and its target. The effect may begin with what is returned.
    ///
    /// # Errors
    /// When it could not be made durable, or the permit has run out: then nothing may happen.
    pub async fn intend<O: Operation>(
        &self,
        permit: Permit<O>,
        target: Target,
    ) -> Result<IntentRecorded<O>, RecordError> {
        let parts = permit.spend();
        let now = self.inner.clock.now();
        if now >= parts.expires {
            return Err(RecordError::PermitExpired);
        }
        let began_us = self.inner.clock.monotonic_us();
        let intent = Intent {
            id: parts.id,
            who: parts.who,
            what: parts.what,
            grounds: parts.grounds,
            obligations: parts.obligations.clone(),
            target: target.clone(),
        };
        let receipt = self.write(&parts.tenant, now, Body::Intent(intent), Mark::Opens(parts.id)).await?;
        Ok(IntentRecorded {
            tenant: parts.tenant,
            target,
            obligations: parts.obligations,
            expires: parts.expires,
            running: Running { decision: parts.id, receipt, began_us, recorder: Some(self.clone()) },
            operation: PhantomData,
        })
    }

    /// Records a refusal. One of a flood of equal ones is counted instead, and has no receipt of its own.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn refused(&self, refused: &Refused) -> Result<Option<Receipt>, RecordError> {
        let now = self.inner.clock.now();
        let refusal = Refusal {
            id: refused.id,
            who: refused.who.clone(),
            what: refused.what.clone(),
            verdict: refused.verdict,
            reasons: refused.reasons.clone(),
            offers: refused.offers.clone(),
            grounds: refused.grounds.clone(),
            repeated: 0,
        };
        let admitted = self.inner.floods.lock().unwrap_or_else(PoisonError::into_inner).admit(
            &refused.tenant,
            &refusal,
            now,
        );
        if !admitted {
            return Ok(None);
        }
        self.write(&refused.tenant, now, Body::Refusal(refusal), Mark::Neither).await.map(Some)
    }

    /// Records what the house has to say about itself, in the first tenant's log.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn system(&self, event: System) -> Result<Receipt, RecordError> {
        self.write(&Tenant::default_tenant(), self.inner.clock.now(), Body::System(event), Mark::Neither)
            .await
    }

    /// Records how something ended, without waiting: its intent has reserved the room.
    pub(crate) fn outcome(&self, tenant: &Tenant, outcome: Outcome) {
        let mark = Mark::Closes(outcome.of);
        if let Err(error) =
            self.enqueue(tenant, self.inner.clock.now(), Body::Outcome(outcome), mark, None, false)
        {
            tracing::error!(%error, "an outcome could not be recorded; the next start will tell it as unknown");
        }
    }

    pub(crate) fn monotonic_us(&self) -> u64 {
        self.inner.clock.monotonic_us()
    }

    /// What the recorder counts.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.inner.shared.stats
    }

    async fn write(
        &self,
        tenant: &Tenant,
        now: Timestamp,
        body: Body,
        mark: Mark,
    ) -> Result<Receipt, RecordError> {
        let (reply, written) = oneshot::channel();
        self.enqueue(tenant, now, body, mark, Some(reply), true)?;
        written.await.unwrap_or(Err(RecordError::Closed))
    }

    fn enqueue(
        &self,
        tenant: &Tenant,
        time: Timestamp,
        body: Body,
        mark: Mark,
        reply: Option<oneshot::Sender<Result<Receipt, RecordError>>>,
        bounded: bool,
    ) -> Result<(), RecordError> {
        let stats = self.stats();
        if bounded && stats.queue.load(Ordering::Relaxed) >= self.inner.config.queue_max {
            stats.refused.fetch_add(1, Ordering::Relaxed);
            return Err(RecordError::QueueFull);
        }
        let (before, after) = self.encode(tenant, time, body)?;
        let draft = Draft { tenant: tenant.clone(), time, before, after, mark, reply };
        let sender = self.inner.drafts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stats.queue.fetch_add(1, Ordering::Relaxed);
        sender.and_then(|s| s.send(draft).ok()).ok_or_else(|| {
            stats.queue.fetch_sub(1, Ordering::Relaxed);
            RecordError::Closed
        })
    }

    /// The canonical form, split where the sequence number goes. A number that no record has marks the place: quotes
    /// inside texts are escaped, so the member cannot be imitated.
    fn encode(
        &self,
        tenant: &Tenant,
        time: Timestamp,
        body: Body,
    ) -> Result<(Vec<u8>, Vec<u8>), RecordError> {
        const PLACE: u64 = (1 << 53) - 1;
        let record = Record {
            v: VERSION,
            tenant: tenant.clone(),
            node: self.inner.config.node,
            seq: PLACE,
            time_us: time,
            body,
        };
        let mut bytes = json::canonical(&record).map_err(|e| RecordError::Failed(e.to_string()))?;
        let marker = format!("\"seq\":{PLACE}");
        let at = memchr::memmem::rfind(&bytes, marker.as_bytes()).ok_or(RecordError::TooLarge)?;
        if bytes.len() > record::ENCODED_MAX {
            return Err(RecordError::TooLarge);
        }
        let after = bytes.split_off(at + marker.len());
        bytes.truncate(at + "\"seq\":".len());
        Ok((bytes, after))
    }

    // --- sealing ---------------------------------------------------------------------------------------------------

    /// Seals what is durable: appends it to the trees, signs, swaps, publishes; then frees segments nobody needs.
    ///
    /// # Errors
    /// When a file or the lock store fails; nothing is lost, the next call goes on.
    pub async fn seal_now(&self) -> Result<(), OpenError> {
        let _one = self.inner.sealing.lock().await;
        self.count_floods(false).await;
        let batch: Vec<Unsealed> = self
            .inner
            .shared
            .unsealed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect();
        let mut by_log: BTreeMap<(Tenant, String), Vec<Leaf>> = BTreeMap::new();
        for record in &batch {
            by_log
                .entry((record.tenant.clone(), period(record.time)))
                .or_default()
                .push((record.entry.clone(), record.leaf));
        }
        for ((tenant, name), entries) in by_log {
            self.seal_log(&tenant, &name, entries).await?;
        }
        let mut unsealed = self.inner.shared.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        unsealed.drain(..batch.len());
        drop(unsealed);
        self.stats().sealed.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if let Some(last) = batch.last() {
            self.free_segments(last.seq);
        }
        Ok(())
    }

    async fn seal_log(
        &self,
        tenant: &Tenant,
        name: &str,
        entries: Vec<(Arc<[u8]>, Digest)>,
    ) -> Result<(), OpenError> {
        let id = (tenant.clone(), name.to_owned());
        if !self.logs().contains_key(&id) {
            let folder = self.inner.config.folder.join("log").join(tenant.0.as_str()).join(name);
            let log = open_log(&self.inner.config, tenant, name, &folder, &*self.inner.checkpoints).await?;
            self.logs().insert(id.clone(), log);
        }
        let logs = self.inner.logs.clone();
        let key = id.clone();
        let appended = tokio::task::spawn_blocking(move || {
            let mut logs = logs.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(log) = logs.get_mut(&key) else { return Ok(None) };
            // After a failure the same entries come again: those that are in the tree already are passed over.
            let size = log.confirmed.map_or(0, |(size, _)| size);
            let already = usize::try_from(log.head().0.saturating_sub(size)).unwrap_or(usize::MAX);
            log.append(entries.get(already..).unwrap_or_default())
                .map(|()| Some((log.origin(), log.confirmed, log.head())))
        })
        .await
        .unwrap_or(Ok(None));
        let appended = appended.inspect_err(|_| {
            // The tree in memory is ahead of its files: the next attempt begins with what is on the disk.
            drop(self.logs().remove(&id));
        })?;
        let Some((origin, confirmed, head)) = appended else { return Ok(()) };
        self.confirm(&id, &origin, confirmed, head).await
    }

    async fn confirm(
        &self,
        id: &(Tenant, String),
        origin: &str,
        confirmed: Option<(u64, Digest)>,
        head: (u64, Digest),
    ) -> Result<(), OpenError> {
        let attempted = self.logs().get_mut(id).and_then(|log| log.attempted.replace(head));
        let mut swapped = self.inner.checkpoints.swap(origin, confirmed, head).await?;
        if !swapped {
            // An earlier attempt may have been applied although its answer was lost.
            let latest = self.inner.checkpoints.latest(origin).await?;
            if latest == attempted && latest.is_some() {
                swapped = self.inner.checkpoints.swap(origin, latest, head).await?;
            }
        }
        if !swapped {
            return Err(LogError::Rollback { origin: origin.to_owned(), size: head.0 }.into());
        }
        if let Some(log) = self.logs().get_mut(id) {
            log.confirmed = Some(head);
            log.publish()?;
        }
        Ok(())
    }

    async fn count_floods(&self, all: bool) {
        let now = self.inner.clock.now();
        let counted = self.inner.floods.lock().unwrap_or_else(PoisonError::into_inner).close(now, all);
        for (tenant, refusal) in counted {
            if let Err(error) = self.write(&tenant, now, Body::Refusal(refusal), Mark::Neither).await {
                tracing::error!(%error, "a count of refusals could not be recorded");
            }
        }
    }

    /// Removes segments whose records are all sealed and whose intents have all ended, but never the last one.
    fn free_segments(&self, sealed: u64) {
        let open =
            self.inner.shared.open.lock().unwrap_or_else(PoisonError::into_inner).values().copied().min();
        let keep_from = open.unwrap_or(u64::MAX).min(sealed);
        let Ok(segments) = segment::list(&self.inner.config.folder.join("wal")) else { return };
        for pair in segments.windows(2) {
            let [(_, path), (next, _)] = pair else { continue };
            if *next <= keep_from
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!(%error, path = %path.display(), "a sealed segment could not be removed");
            }
        }
    }

    fn logs(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Tenant, String), SealedLog>> {
        self.inner.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends: counts open floods, says so, seals, and waits for the writer.
    pub async fn close(&self) {
        self.count_floods(true).await;
        if let Err(error) = self.system(System::Stopped).await {
            tracing::warn!(%error, "the end could not be recorded");
        }
        if let Err(error) = self.seal_now().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the last records stay in the write-ahead log, unsealed"
            );
        }
        drop(self.inner.drafts.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && tokio::task::spawn_blocking(move || writer.join()).await.is_err()
        {
            tracing::error!("the writer did not end in order");
        }
    }

    // --- reading ---------------------------------------------------------------------------------------------------

    /// Finds a recorded decision of the intent's tenant and how it ended.
    #[must_use]
    pub fn find(&self, intent: &IntentRecorded<ReadLedger>, id: DecisionId) -> Option<Found> {
        let tenant = intent.tenant();
        let mut outcome = None;
        for record in self.unsealed_records(tenant).into_iter().rev() {
            match &record.body {
                Body::Outcome(o) if o.of == id => outcome = Some(record),
                body if decision_of(body) == Some(id) => {
                    return Some(Found { record, outcome, sealed: None });
                }
                _ => {}
            }
        }
        // Ids carry the time they were made; nothing about them is recorded earlier, give or take a jumping clock.
        let horizon = id.timestamp().as_micros().saturating_sub(60_000_000);
        let logs = self.logs();
        for ((_, _), log) in logs.iter().filter(|((t, _), _)| t == tenant).rev() {
            let found = log.search_back(2, |record| match &record.body {
                _ if record.time_us.as_micros() < horizon => Search::Stop,
                Body::Outcome(o) if o.of == id => Search::Take,
                body if decision_of(body) == Some(id) => Search::Take,
                _ => Search::Skip,
            });
            for (index, record) in found {
                if matches!(record.body, Body::Outcome(_)) {
                    outcome = Some(record);
                } else {
                    return Some(Found { record, outcome, sealed: Some((log.origin(), index)) });
                }
            }
        }
        None
    }

    /// The latest decisions of the intent's tenant, newest first, at most `limit`.
    #[must_use]
    pub fn latest(&self, intent: &IntentRecorded<ReadLedger>, limit: usize) -> Vec<Record> {
        let tenant = intent.tenant();
        let mut out: Vec<Record> = self
            .unsealed_records(tenant)
            .into_iter()
            .rev()
            .filter(|r| decision_of(&r.body).is_some())
            .take(limit)
            .collect();
        let logs = self.logs();
        for (_, log) in logs.iter().filter(|((t, _), _)| t == tenant).rev() {
            let rest = limit - out.len();
            if rest == 0 {
                break;
            }
            let wanted =
                |r: &Record| if decision_of(&r.body).is_some() { Search::Take } else { Search::Skip };
            out.extend(log.search_back(rest, wanted).into_iter().map(|(_, r)| r));
        }
        out
    }

    /// The proof that a decision of the intent's tenant is in the ledger, as a `.tlog-proof` file with the entry; none
    /// while it is not sealed or when there is no such decision.
    #[must_use]
    pub fn proof(&self, intent: &IntentRecorded<ReadLedger>, id: DecisionId) -> Option<(String, Vec<u8>)> {
        let (origin, index) = self.find(intent, id)?.sealed?;
        let logs = self.logs();
        let log = logs.values().find(|log| log.origin() == origin)?;
        Some((log.proof(index)?.text(), log.entry(index)?))
    }

    /// The published checkpoints of the intent's tenant, newest last.
    #[must_use]
    pub fn checkpoints(&self, intent: &IntentRecorded<ReadLedger>) -> Vec<(String, u64, Digest)> {
        let logs = self.logs();
        logs.iter()
            .filter(|((t, _), _)| t == intent.tenant())
            .filter_map(|(_, log)| log.confirmed.map(|(size, root)| (log.origin(), size, root)))
            .collect()
    }

    fn unsealed_records(&self, tenant: &Tenant) -> Vec<Record> {
        let unsealed = self.inner.shared.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        unsealed
            .iter()
            .filter(|r| r.tenant == *tenant)
            .filter_map(|r| serde_json::from_slice(&r.entry).ok())
            .collect()
    }
}

/// The decision a record is about, for intents and refusals.
const fn decision_of(body: &Body) -> Option<DecisionId> {
    match body {
        Body::Intent(intent) => Some(intent.id),
        Body::Refusal(refusal) => Some(refusal.id),
        Body::Outcome(_) | Body::System(_) => None,
    }
}

/// The quarter of a moment, such as `2026q4`.
fn period(time: Timestamp) -> String {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    DateTime::from_timestamp_micros(micros)
        .map_or_else(|| "0000q1".to_owned(), |t| format!("{:04}q{}", t.year(), t.month0() / 3 + 1))
}

async fn open_log(
    config: &Config,
    tenant: &Tenant,
    period: &str,
    folder: &Path,
    checkpoints: &dyn Checkpoints,
) -> Result<SealedLog, OpenError> {
    let origin = format!("{}/{tenant}/{period}", config.origin);
    let signer = NoteSigner::from_seed(&origin, config.seed.expose())
        .map_err(|_| OpenError::Origin(origin.clone()))?;
    let locked = checkpoints.latest(&origin).await?;
    Ok(SealedLog::open(folder, signer, locked)?)
}

/// The log folders there are, in the order of tenant and period.
fn log_folders(root: &Path) -> Vec<(Tenant, String, PathBuf)> {
    let children = |path: &Path| -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .filter_map(|e| Some((e.file_name().into_string().ok()?, e.path())))
            .filter(|(_, p)| p.is_dir())
            .collect()
    };
    let mut out = Vec::new();
    for (tenant, folder) in children(root) {
        let Ok(name) = tenant.parse::<Name>() else { continue };
        out.extend(children(&folder).into_iter().map(|(period, path)| (Tenant(name.clone()), period, path)));
    }
    out.sort();
    out
}

/// For each tenant, the highest sequence number of `node` that its logs hold.
fn sealed_up_to(logs: &BTreeMap<(Tenant, String), SealedLog>, node: NodeId) -> BTreeMap<Tenant, u64> {
    let mut out = BTreeMap::new();
    for ((tenant, _), log) in logs {
        let last = log.search_back(1, |r| if r.node == node { Search::Take } else { Search::Skip });
        if let Some((_, record)) = last.first() {
            let place: &mut u64 = out.entry(tenant.clone()).or_default();
            *place = record.seq.max(*place);
        }
    }
    out
}

/// What the write-ahead log held.
struct Recovered {
    records: Vec<(u64, Vec<u8>, Record)>,
    last_seq: u64,
    torn: u64,
}

impl Recovered {
    /// Intents without outcome, and the records that are not sealed yet.
    fn split(&self, sealed: &BTreeMap<Tenant, u64>) -> (Vec<(Tenant, DecisionId)>, Vec<Unsealed>) {
        let mut open = BTreeMap::new();
        let mut unsealed = Vec::new();
        for (seq, entry, record) in &self.records {
            match &record.body {
                Body::Intent(intent) => drop(open.insert(intent.id, record.tenant.clone())),
                Body::Outcome(outcome) => drop(open.remove(&outcome.of)),
                Body::Refusal(_) | Body::System(_) => {}
            }
            if sealed.get(&record.tenant).is_none_or(|last| seq > last) {
                unsealed.push(Unsealed {
                    seq: *seq,
                    tenant: record.tenant.clone(),
                    time: record.time_us,
                    entry: entry.clone().into(),
                    leaf: bartizan_ledger::leaf_hash(entry),
                });
            }
        }
        (open.into_iter().map(|(id, tenant)| (tenant, id)).collect(), unsealed)
    }
}

fn recover(wal: &Path, config: &Config) -> Result<Recovered, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let mut out = Recovered { records: Vec::new(), last_seq: 0, torn: 0 };
    let segments = segment::list(wal).map_err(io(wal))?;
    let mut expected = None;
    let count = segments.len();
    for (place, (first, path)) in segments.into_iter().enumerate() {
        if expected.is_some_and(|e| e != first) {
            return Err(OpenError::Gap(path));
        }
        let bytes = fs::read(&path).map_err(io(&path))?;
        let scan = segment::scan(&bytes, config.node, first)
            .map_err(|(Damage::Header | Damage::Middle(_))| OpenError::Damaged(path.clone()))?;
        if scan.torn > 0 && place + 1 < count {
            return Err(OpenError::Damaged(path));
        }
        out.torn += scan.torn;
        expected = Some(first + scan.entries.len() as u64);
        out.last_seq = out.last_seq.max(expected.unwrap_or(1) - 1);
        if scan.entries.is_empty() {
            // Never used, or only torn: its name would be needed again.
            fs::remove_file(&path).map_err(io(&path))?;
            continue;
        }
        if scan.torn > 0 {
            cut(&path, &bytes, scan.torn).map_err(io(&path))?;
        }
        for (seq, entry) in scan.entries {
            let record = serde_json::from_slice(&entry).map_err(|_| OpenError::Damaged(path.clone()))?;
            out.records.push((seq, entry, record));
        }
    }
    Ok(out)
}

/// Zeroes the torn tail, so that a later start does not meet it again in front of newer segments.
fn cut(path: &Path, bytes: &[u8], torn: u64) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at as u64 + 1);
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&vec![0; usize::try_from(torn).unwrap_or(0)], used.saturating_sub(torn))?;
    file.sync_all()
}
