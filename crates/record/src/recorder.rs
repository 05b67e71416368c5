//! The recorder: what the rest of the house speaks to.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Clock, Digest};
use bartizan_decide::{Permit, PermitParts, Refused};
use bartizan_ledger::NoteSigner;
use bartizan_model::record::{Body, End, Kept, Outcome, System};
use bartizan_model::{NodeId, Operation, Target, Tenant};
use bartizan_rt::Shutdown;
use bartizan_secret::Secret;
use bartizan_store::Checkpoints;
use tokio::sync::oneshot;

use crate::core::{Core, Stats};
use crate::disk::Disk;
use crate::encode::Encoded;
use crate::flood::{Admission, Floods, Hashes};
use crate::intent::{IntentRecorded, Receipt, RecordError, Running, Signing};
use crate::log::{LogError, TreeHead};
use crate::operator::Told;
use crate::period::{LogId, Origins};
use crate::queue::{About, Ack};
use crate::recover::{OpenError, Recovered, recover};
use crate::seal::{Published, Sealer, blocking};
use crate::sealed::SealedLog;
use crate::segment;
use crate::told::{ToldIntent, ToldRefusal};
use crate::twin::{Copy, TwinDisk, reconcile};
use crate::wal::Wal;

/// How a recorder is opened.
#[derive(Debug)]
pub struct Config {
    /// The data folder: `wal/` and `log/` lie below it. Locked by the caller, see [`crate::DataFolder`].
    pub folder: PathBuf,
    /// Which node this is, for the life of the data folder.
    pub node: NodeId,
    /// What the names of the logs begin with: a URL without scheme.
    pub origin: String,
    /// The Ed25519 private key that signs checkpoints.
    pub seed: Secret<[u8; 32]>,
    /// This program's version, for the record of its start.
    pub version: String,
    /// Where a second copy of the write-ahead log is written, if anywhere: nothing counts before it is on both.
    pub copy: Option<Copy>,
    /// Bytes of a segment of the write-ahead log.
    pub segment_bytes: u64,
    /// Records that may wait for the disk, outcomes not counted.
    pub queue_max: usize,
    /// Intents whose effect may be running at the same time; each has the room for its outcome reserved.
    pub running_max: usize,
    /// Bytes of entries that may wait in memory to be sealed.
    pub unsealed_bytes_max: u64,
    /// Whether witnesses cosign the operator's log: then no log is removed before a quorum has cosigned its end.
    pub witnessed: bool,
}

impl Config {
    /// The usual bounds: segments of 64 MiB, 8,192 waiting, 65,536 running, 256 MiB unsealed; without witnesses.
    #[must_use]
    pub const fn new(
        folder: PathBuf,
        node: NodeId,
        origin: String,
        seed: Secret<[u8; 32]>,
        version: String,
    ) -> Self {
        Self {
            folder,
            node,
            origin,
            seed,
            version,
            copy: None,
            segment_bytes: 64 << 20,
            queue_max: 8_192,
            running_max: 65_536,
            unsealed_bytes_max: 256 << 20,
            witnessed: false,
        }
    }
}

/// Writes the ledger, and reads it to those whose intent to read is recorded. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) published: Published,
    floods: Mutex<Floods>,
    /// Those of `floods`.
    hashes: Hashes,
    pub(crate) sealer: tokio::sync::Mutex<Sealer>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// What the operator's log was told.
    pub(crate) told: tokio::sync::Mutex<Told>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What waits is still written; the thread ends by itself.
        self.core.queue.end(RecordError::Closed);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("node", &self.inner.core.node).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Opens the recorder: holds the sealed logs against the lock store, recovers the write-ahead log, tells what a crash
    /// left open, and begins to write.
    ///
    /// # Errors
    /// [`OpenError`]; each says the way out.
    pub async fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
        checkpoints: Arc<dyn Checkpoints>,
    ) -> Result<Self, OpenError> {
        let core = Arc::new(Core::new(&config, clock));
        // Promises are signed with the key of the logs; a name that cannot be a key's is told of here, before anything.
        let signer = NoteSigner::from_seed(&config.origin, config.seed.expose())
            .map_err(|_| LogError::Name(config.origin.clone()))?;
        let (wal, node) = (config.folder.join("wal"), config.node);
        let mut wal_disk = disk.clone();
        if let Some(copy) = config.copy {
            let (first, folder, second) = (disk.clone(), wal.clone(), copy.clone());
            if let Some(written) = blocking(move || reconcile(&*first, &folder, &second, node)).await?? {
                tracing::warn!(folder = %written.display(), "this copy of the write-ahead log was made equal to the other");
            }
            wal_disk = Arc::new(TwinDisk::new(disk.clone(), wal.clone(), copy));
        }
        let recovered = {
            let (disk, wal) = (wal_disk.clone(), wal.clone());
            blocking(move || recover(&*disk, &wal, node)).await??
        };
        let published = Published::default();
        let mut sealer = Sealer {
            core: core.clone(),
            disk,
            wal_disk: wal_disk.clone(),
            wal: wal.clone(),
            folder: config.folder.join("log"),
            seed: config.seed,
            checkpoints,
            published: published.clone(),
            logs: BTreeMap::new(),
        };
        let (unsealed, told) = sealer.begin(&recovered).await?;
        for batch in unsealed.chunks(segment::BATCH_MAX) {
            core.add(batch.into());
        }
        let writer = Wal {
            disk: wal_disk,
            folder: wal,
            core: core.clone(),
            segment_bytes: config.segment_bytes,
            next_seq: recovered.last_seq + 1,
            last_leaf: recovered.last_leaf.unwrap_or(Digest::from_bytes([0; 32])),
            open: recovered.open.clone(),
            current: None,
            preparing: None,
            spare: None,
            sectors: Vec::new(),
            signing: Arc::new(Signing { signer, family: config.origin }),
            origins: Origins::default(),
            waiting: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("bartizan-wal".to_owned())
            .spawn(move || writer.run())
            .map_err(|_| OpenError::Thread)?;
        let hashes = Hashes::default();
        let recorder = Self {
            inner: Arc::new(Inner {
                core,
                published,
                floods: Mutex::new(Floods::new(hashes.clone())),
                hashes,
                sealer: tokio::sync::Mutex::new(sealer),
                writer: Mutex::new(Some(thread)),
                told: tokio::sync::Mutex::new(told),
            }),
        };
        if recorder.inner.core.is_behind() {
            // Otherwise not even the start could be recorded.
            recorder.seal_now().await?;
        }
        recorder.tell_start(config.version, recovered).await;
        Ok(recorder)
    }

    async fn tell_start(&self, version: String, recovered: Recovered) {
        let cut = (recovered.torn > 0).then_some(System::TailCut { bytes: recovered.torn });
        for event in cut.into_iter().chain([System::Started { version }]) {
            if let Err(error) = self.system(event).await {
                tracing::error!(%error, "the start could not be recorded");
            }
        }
        for (tenant, of) in recovered.open.into_iter().map(|(id, tenant)| (tenant, id)) {
            let outcome = Outcome {
                of,
                end: End::Unknown,
                status: None,
                bytes: 0,
                input_tokens: None,
                output_tokens: None,
                redacted: 0,
                took_us: 0,
                kept: None,
                given: None,
            };
            self.inner.core.submit_outcome(&tenant, outcome, self.inner.core.reserve_always());
        }
    }

    /// Spends a permit: records it with the target of its effect. The effect may begin with what is returned.
    ///
    /// Whoever stops waiting for this leaves a record with the outcome `Abandoned`.
    ///
    /// # Errors
    /// When it could not be made durable, or the permit has run out: then nothing may happen.
    pub async fn intend<O: Operation>(
        &self,
        permit: Permit<O>,
        target: Target,
    ) -> Result<IntentRecorded<O>, RecordError> {
        self.intend_keeping(permit, target, None).await
    }

    /// The same, with what was kept of the call in the vault.
    ///
    /// # Errors
    /// As for [`Recorder::intend`].
    pub async fn intend_keeping<O: Operation>(
        &self,
        permit: Permit<O>,
        target: Target,
        kept: Option<Kept>,
    ) -> Result<IntentRecorded<O>, RecordError> {
        self.intend_all(permit.spend(), target, kept).await
    }

    #[cfg(test)]
    pub(crate) async fn intend_parts<O: Operation>(
        &self,
        parts: PermitParts,
        target: Target,
    ) -> Result<IntentRecorded<O>, RecordError> {
        self.intend_all(parts, target, None).await
    }

    async fn intend_all<O: Operation>(
        &self,
        parts: PermitParts,
        target: Target,
        kept: Option<Kept>,
    ) -> Result<IntentRecorded<O>, RecordError> {
        let core = &self.inner.core;
        let now = core.clock.now();
        if now >= parts.expires {
            return Err(RecordError::PermitExpired);
        }
        if !parts.uses.is_empty() {
            return Err(RecordError::Uncounted);
        }
        let (reply, running) = oneshot::channel::<Result<Running, RecordError>>();
        let ack = Ack::Begin { began_us: core.clock.monotonic_us(), slot: core.reserve()?, reply };
        core.submit_told(&parts.tenant, now, About::Intent(parts.id), ack, |head| {
            Encoded::of(&ToldIntent::of(head, &parts, &target, kept.as_ref()))
        })?;
        let running = running.await.unwrap_or(Err(RecordError::Closed))?;
        Ok(IntentRecorded {
            tenant: parts.tenant,
            target,
            obligations: parts.obligations,
            expires: parts.expires,
            running,
            operation: PhantomData,
        })
    }

    /// Records a refusal, durable on return.
    ///
    /// More than twenty equal ones (of the same subject and key, for the same reason, on the same resource) within a second
    /// are counted, and one record tells their number soon after; a crash before that loses the count. Each of those gets
    /// the receipt of the first of its kind.
    ///
    /// # Errors
    /// When it could not be made durable. The answer is no all the same.
    pub async fn refused(&self, refused: &Refused) -> Result<Receipt, RecordError> {
        self.refused_once(refused).await.map(|(receipt, _)| receipt)
    }

    /// The same, with whether it has a record of its own: not one of many that are counted together.
    ///
    /// # Errors
    /// As for [`Recorder::refused`].
    pub async fn refused_once(&self, refused: &Refused) -> Result<(Receipt, bool), RecordError> {
        let now = self.inner.core.clock.now();
        // Outside of the lock, which all refusals go through.
        let hash = self.inner.hashes.of(refused);
        let admission = self.floods().admit(hash, refused, now);
        let own = !matches!(admission, Admission::Counted(_));
        let submit = |ack| {
            self.inner.core.submit_told(&refused.tenant, now, About::Refusal(refused.id), ack, |head| {
                Encoded::of(&ToldRefusal::of(head, refused))
            })
        };
        let told = match admission {
            Admission::Write => {
                let (reply, told) = oneshot::channel();
                submit(Ack::One(reply))?;
                told
            }
            Admission::First(first) => {
                let told = first.ask();
                if let Err(error) = submit(Ack::Many(first.clone())) {
                    // Those who were counted meanwhile wait for this.
                    first.tell(Err(error));
                }
                told
            }
            Admission::Counted(told) => {
                self.stats().coalesced.fetch_add(1, Relaxed);
                told
            }
        };
        let receipt = told.await.unwrap_or(Err(RecordError::Closed))?;
        Ok((receipt, own))
    }

    /// Records what the house has to say about itself, in the first tenant's log.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn system(&self, event: System) -> Result<Receipt, RecordError> {
        self.system_of(&Tenant::default_tenant(), event).await
    }

    /// The same in the log of the tenant that it is about.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn system_of(&self, tenant: &Tenant, event: System) -> Result<Receipt, RecordError> {
        self.write(tenant, Body::System(event)).await
    }

    pub(crate) async fn write(&self, tenant: &Tenant, body: Body) -> Result<Receipt, RecordError> {
        let (reply, written) = oneshot::channel();
        let core = &self.inner.core;
        core.submit(tenant, core.clock.now(), &body, Ack::One(reply))?;
        written.await.unwrap_or(Err(RecordError::Closed))
    }

    /// What the recorder counts.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.inner.core.stats
    }

    /// How many records wait for the disk.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.inner.core.queue.depth()
    }

    /// Why nothing can be recorded any more, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<RecordError> {
        self.inner.core.queue.ended()
    }

    /// How many entries each tenant's published logs hold.
    #[must_use]
    pub fn sealed_sizes(&self) -> BTreeMap<Tenant, u64> {
        let mut out = BTreeMap::new();
        for (id, log) in self.inner.published.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *out.entry(id.tenant.clone()).or_default() += log.size;
        }
        out
    }

    /// The published logs with their names and heads.
    pub(crate) fn published_heads(&self) -> Vec<(LogId, Arc<str>, TreeHead)> {
        let published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner);
        let head = |(id, log): (&LogId, &SealedLog)| {
            (id.clone(), id.origin(&self.inner.core.origin), (log.size, log.root))
        };
        published.iter().map(head).collect()
    }

    fn floods(&self) -> std::sync::MutexGuard<'_, Floods> {
        self.inner.floods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what was counted of floods that are over.
    async fn count_floods(&self, all: bool) {
        let now = self.inner.core.clock.now();
        let counted = self.floods().close(now, all);
        for (tenant, refusal) in counted {
            if let Err(error) = self.write(&tenant, Body::Refusal(refusal.clone())).await {
                tracing::warn!(%error, "a count of refusals could not be recorded yet");
                self.floods().reopen(&tenant, &refusal, now, error);
            }
        }
    }

    // --- sealing -----------------------------------------------------------------------------------------------------

    /// Seals every `interval`, and without a rest while much waits for it, until the end is asked for.
    pub async fn seal_every(&self, interval: Duration, shutdown: &Shutdown) {
        let mut failed = false;
        loop {
            let rest = if self.inner.core.is_pressed() && !failed { Duration::ZERO } else { interval };
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(rest) => {}
            }
            let result = self.seal_now().await;
            failed = result.is_err();
            if let Err(error) = result {
                tracing::error!(%error, "sealing failed; what is durable is sealed by a later attempt");
            }
        }
    }

    /// Seals what is durable by now.
    ///
    /// # Errors
    /// When a file or the lock store fails; nothing is lost, the next call goes on. When going on could fork a log, the
    /// recorder stops recording for good.
    pub async fn seal_now(&self) -> Result<(), OpenError> {
        let mut sealer = self.inner.sealer.lock().await;
        self.count_floods(false).await;
        // Outcomes that found no room have nobody else who would try again.
        self.inner.core.queue.nudge();
        sealer.seal().await
    }

    /// Ends: takes no new asks, counts floods, says so, seals, and waits for the writer. Outcomes are taken until the
    /// end; later ones are told as unknown by the next start.
    pub async fn close(&self) {
        self.count_floods(true).await;
        let core = &self.inner.core;
        core.queue.begin_closing();
        let (reply, written) = oneshot::channel();
        let last = core.draft(
            &Tenant::default_tenant(),
            core.clock.now(),
            &Body::System(System::Stopped),
            Ack::One(reply),
        );
        let stopped = match last.and_then(|draft| core.queue.push_last(draft)) {
            Ok(()) => written.await.unwrap_or(Err(RecordError::Closed)).map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = stopped {
            tracing::warn!(%error, "the end could not be recorded");
        }
        if let Err(error) = self.inner.sealer.lock().await.seal().await {
            tracing::warn!(%error, "the last records stay in the write-ahead log, unsealed");
        }
        core.queue.end(RecordError::Closed);
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && !matches!(tokio::task::spawn_blocking(move || writer.join()).await, Ok(Ok(())))
        {
            tracing::error!("the writer did not end in order");
        }
    }
}
