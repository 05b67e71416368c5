//! Sealing: what is durable in the write-ahead log is appended to its tenant's tree.
//!
//! The order matters: bundles and tiles durable, checkpoint signed, compared and swapped in the lock store, published;
//! only then do segments go. Wherever it breaks off, the next attempt or the next start goes on; what the lock store holds
//! is always covered by durable files, and it never holds two roots for one size. How far a log is sealed is read
//! off its own last record, so there is no second truth about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_ledger::NoteSigner;
use bartizan_model::record::Record;
use bartizan_secret::Secret;
use bartizan_store::Checkpoints;

use crate::core::Core;
use crate::disk::Disk;
use crate::log::{Log, LogError, TreeHead};
use crate::operator::{Told, stands, told_last};
use crate::period::{LogId, Period, tenant_of};
use crate::recover::{OpenError, Recovered, earliest};
use crate::sealed::{ReadError, SealedLog};
use crate::segment;
use crate::tail::{Batch, Written};

/// Records sealed in one go at the most.
const RECORDS_MAX: usize = 65_536;

/// The logs as readers see them.
pub(crate) type Published = Arc<Mutex<BTreeMap<LogId, SealedLog>>>;

/// Seals the records of one node. Used by one task at a time.
#[derive(Debug)]
pub(crate) struct Sealer {
    pub(crate) core: Arc<Core>,
    pub(crate) disk: Arc<dyn Disk>,
    /// The disk of the write-ahead log: the same one, or two.
    pub(crate) wal_disk: Arc<dyn Disk>,
    pub(crate) wal: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) seed: Secret<[u8; 32]>,
    pub(crate) checkpoints: Arc<dyn Checkpoints>,
    pub(crate) published: Published,
    pub(crate) logs: BTreeMap<LogId, Log>,
}

/// Runs work that waits for the disk where it blocks nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OpenError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| OpenError::Thread)
}

impl Sealer {
    /// Opens every log that is there, and those that the recovered records belong to; gives the records that are not
    /// sealed yet, and what the operator's log was told.
    pub(crate) async fn begin(&mut self, recovered: &Recovered) -> Result<(Vec<Written>, Told), OpenError> {
        let (disk, folder) = (self.disk.clone(), self.folder.clone());
        let mut ids = blocking(move || log_ids(&*disk, &folder)).await??;
        ids.extend(recovered.records.iter().map(|r| LogId::of(&r.tenant, r.time)));
        // The log that this start will be told in: a folder that was lost whole shows at once.
        ids.push(LogId::of(&bartizan_model::Tenant::default_tenant(), self.core.clock.now()));
        ids.sort();
        ids.dedup();
        for id in ids {
            if self.open_removed(&id).await? {
                continue;
            }
            let log = self.open(&id).await?;
            self.logs.insert(id, log);
        }
        self.publish_all().await?;
        self.check(recovered)?;
        self.check_removed().await?;
        let told = self.check_told().await?;
        let is_sealed = |r: &&Written| {
            let id = LogId::of(&r.tenant, r.time);
            let in_removed = self.removal(&id).is_some_and(|removal| r.seq <= removal.last_seq);
            in_removed || self.logs.get(&self.home(id)).is_some_and(|l| r.seq <= l.last_seq())
        };
        Ok((recovered.records.iter().filter(|r| !is_sealed(r)).cloned().collect(), told))
    }

    /// Whether every log begins with what the operator's log was told about it.
    async fn check_told(&self) -> Result<Told, OpenError> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(operator) = published.get(&LogId::operator()).cloned() else { return Ok(Told::new()) };
        let logs: BTreeMap<String, SealedLog> =
            published.into_iter().map(|(id, log)| (id.origin(&self.core.origin).to_string(), log)).collect();
        let operators = LogId::operator().origin(&self.core.origin);
        blocking(move || {
            let is_sought =
                |(o, log): &(&String, &SealedLog)| o.as_str() != &*operators && log.removed.is_none();
            let origins: Vec<String> = logs.iter().filter(is_sought).map(|(o, _)| o.clone()).collect();
            let mut told = told_last(&operator, &origins).map_err(into_open)?;
            // What was removed has come no further than was told before.
            let removed = logs.iter().filter(|(_, log)| log.removed.is_some());
            told.extend(removed.map(|(origin, log)| (origin.clone(), (log.size, log.root))));
            for (origin, head) in &told {
                match logs.get(origin) {
                    Some(log) => stands(log, origin, *head)?,
                    // One that was removed is known by the record of its removal.
                    None => return Err(LogError::Rollback { origin: origin.clone(), size: head.0 }.into()),
                }
            }
            Ok(told)
        })
        .await?
    }

    /// Whether the write-ahead log is the one that the sealed logs were made of.
    fn check(&self, recovered: &Recovered) -> Result<(), OpenError> {
        let sealed = self.logs.values().map(Log::last_seq).max().unwrap_or(0);
        if recovered.last_seq < sealed {
            return Err(OpenError::Behind { last: recovered.last_seq, sealed });
        }
        if recovered.any && recovered.first_seq > sealed + 1 {
            let path = segment::path_of(&self.wal, recovered.first_seq);
            return Err(OpenError::Gap { path, expected: sealed + 1, found: recovered.first_seq });
        }
        Ok(())
    }

    /// Seals what is durable by now.
    pub(crate) async fn seal(&mut self) -> Result<(), OpenError> {
        let result = self.seal_all().await;
        if let Err(OpenError::Log(error)) = &result
            && error.is_final()
        {
            // Whatever would be recorded from now on could never be sealed.
            self.core.queue.end(crate::intent::RecordError::Failed(error.to_string()));
        }
        result
    }

    /// What becomes durable meanwhile is for the next time: otherwise a steady load would be sealed record by record,
    /// without end, and every seal costs flushes of the device.
    async fn seal_all(&mut self) -> Result<(), OpenError> {
        let end = self.core.tail().last_seq();
        loop {
            let batches: Arc<[Batch]> = self.core.tail().unsealed(RECORDS_MAX, end).into();
            let Some(last) = batches.last().and_then(|batch| batch.last()).map(|record| record.seq) else {
                break;
            };
            let (by_log, count) = sort(&batches, |id| self.home(id));
            for (id, picked) in by_log {
                self.seal_log(&id, &batches, picked).await?;
            }
            self.core.sealed_up_to(last);
            self.core.stats.sealed.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
            self.free_segments(last).await?;
        }
        self.publish_all().await
    }

    /// Seals the picked records into their log.
    async fn seal_log(
        &mut self,
        id: &LogId,
        batches: &Arc<[Batch]>,
        picked: Vec<Pick>,
    ) -> Result<(), OpenError> {
        // While it is worked on, the log is not in the map: whatever breaks this off, it is opened again from its files.
        let mut log = match self.logs.remove(id) {
            Some(log) => log,
            None => self.open(id).await?,
        };
        if let Err(error) = self.resolve(&mut log).await {
            self.logs.insert(id.clone(), log);
            return Err(error);
        }
        let sealed_before = log.last_seq();
        let (mut log, picked, first) = {
            let batches = batches.clone();
            blocking(move || {
                let first = log.append(records(&batches, &picked));
                (log, picked, first)
            })
            .await?
        };
        let first = first?;
        let swapped = self.swap(&mut log).await;
        let (log, published) = blocking(move || {
            // Only what the lock store holds is published, however the swap went.
            let published = log.publish();
            (log, published)
        })
        .await?;
        self.logs.insert(id.clone(), log);
        swapped?;
        self.show(id, published?);
        for (place, record) in (first..).zip(records(batches, &picked).filter(|r| r.seq > sealed_before)) {
            // Known already only if it is the same.
            record.index.get_or_init(|| place);
        }
        Ok(())
    }

    /// Finds out what the lock store holds, if its last answer was lost.
    async fn resolve(&self, log: &mut Log) -> Result<(), OpenError> {
        let Some(attempted) = log.attempted else { return Ok(()) };
        let latest = self.checkpoints.latest(log.origin()).await?;
        if latest == Some(attempted) {
            log.confirmed = latest;
        } else if latest != log.confirmed {
            return Err(LogError::Taken(log.origin().to_owned()).into());
        }
        log.attempted = None;
        Ok(())
    }

    async fn swap(&self, log: &mut Log) -> Result<(), OpenError> {
        let head: TreeHead = log.head();
        if log.confirmed == Some(head) || head.0 == 0 {
            return Ok(());
        }
        log.attempted = Some(head);
        if self.checkpoints.swap(log.origin(), log.confirmed, head).await? {
            log.confirmed = Some(head);
            log.attempted = None;
            return Ok(());
        }
        self.resolve(log).await?;
        // The lock store says it was not swapped and yet holds what it held before.
        if log.confirmed == Some(head) {
            Ok(())
        } else {
            Err(LogError::Taken(log.origin().to_owned()).into())
        }
    }

    async fn open(&self, id: &LogId) -> Result<Log, OpenError> {
        let origin = id.origin(&self.core.origin);
        let signer = NoteSigner::from_seed(&origin, self.seed.expose())
            .map_err(|_| LogError::Name(origin.to_string()))?;
        let confirmed = self.checkpoints.latest(&origin).await?;
        let (disk, folder, node) = (self.disk.clone(), id.folder(&self.folder), self.core.node);
        blocking(move || {
            let mut log = Log::open(disk, folder, signer, confirmed)?;
            if let Some(head) = confirmed {
                let last = last_of(&log.sealed_at(head), node).map_err(into_open)?;
                log.continue_after(last);
            }
            Ok(log)
        })
        .await?
    }

    /// Publishes what the lock store holds and no checkpoint says yet.
    async fn publish_all(&mut self) -> Result<(), OpenError> {
        for (id, mut log) in std::mem::take(&mut self.logs) {
            let (log, published) = blocking(move || {
                let published = log.publish();
                (log, published)
            })
            .await?;
            self.logs.insert(id.clone(), log);
            self.show(&id, published?);
        }
        Ok(())
    }

    fn show(&self, id: &LogId, published: Option<SealedLog>) {
        if let Some(mut sealed) = published {
            let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
            sealed.witnessed = published.get(id).and_then(|log| log.witnessed.clone());
            published.insert(id.clone(), sealed);
        }
    }

    /// Frees the segments whose records are all sealed, but never the last one: it says where the numbers go on.
    async fn free_segments(&self, sealed: u64) -> Result<(), OpenError> {
        let (disk, wal, core) = (self.wal_disk.clone(), self.wal.clone(), self.core.clone());
        blocking(move || {
            let io = |source| OpenError::Io { path: wal.clone(), source };
            let names = disk.list(&wal).map_err(io)?;
            let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
            firsts.sort_unstable();
            if !matches!(*firsts, [_, next, ..] if next <= sealed + 1) {
                return Ok(());
            }
            // The writer may have named the last one just now: that must outlive a crash before another one goes.
            disk.sync_dir(&wal).map_err(io)?;
            for pair in firsts.windows(2) {
                if let [first, next] = pair
                    && *next <= sealed + 1
                {
                    // One by one, so that a crash never leaves a gap.
                    core.freed.free(&*disk, &wal, *first).map_err(io)?;
                }
            }
            Ok(())
        })
        .await?
    }
}

/// Where a record is: the place of its batch, and its own in there.
type Pick = (usize, usize);

/// Sorts records by their logs, each in the order of its records; also counts them. `home` says where the records of a log
/// that was removed go.
fn sort(batches: &[Batch], home: impl Fn(LogId) -> LogId) -> (BTreeMap<LogId, Vec<Pick>>, u64) {
    let mut by_log: BTreeMap<LogId, Vec<Pick>> = BTreeMap::new();
    let mut count = 0;
    // Neighbours mostly belong to one log; no quarter ends within a day.
    let day = |record: &Written| record.time.as_secs() / 86_400;
    let same = |a: &Written, b: &Written| day(a) == day(b) && a.tenant == b.tenant;
    for (at, batch) in batches.iter().enumerate() {
        let mut place = 0;
        for run in batch.chunk_by(same) {
            if let Some(record) = run.first() {
                let picked = by_log.entry(home(LogId::of(&record.tenant, record.time))).or_default();
                picked.extend((place..place + run.len()).map(|place| (at, place)));
            }
            place += run.len();
        }
        count += batch.len() as u64;
    }
    (by_log, count)
}

fn records<'a>(batches: &'a [Batch], picked: &'a [Pick]) -> impl Iterator<Item = &'a Written> {
    picked.iter().filter_map(|(batch, place)| batches.get(*batch)?.get(*place))
}

pub(crate) fn into_open(error: ReadError) -> OpenError {
    match error {
        ReadError::Io { path, source } => OpenError::Io { path, source },
        ReadError::Damaged(path) => LogError::Diverged(path).into(),
        ReadError::Removed(origin) => LogError::NotRemoved(origin).into(),
        ReadError::PermitExpired | ReadError::Closed => OpenError::Thread,
    }
}

/// The logs that have a folder.
fn log_ids(disk: &dyn Disk, folder: &Path) -> Result<Vec<LogId>, OpenError> {
    let io = |source| OpenError::Io { path: folder.to_owned(), source };
    let mut out = Vec::new();
    for name in disk.list(folder).map_err(io)? {
        let Some(tenant) = tenant_of(&name) else { continue };
        for period in disk.list(&folder.join(name)).map_err(io)? {
            out.extend(Period::parse(&period).map(|period| LogId { tenant: tenant.clone(), period }));
        }
    }
    Ok(out)
}

/// The number of the last record of `node` in a log; 0 for none.
fn last_of(log: &SealedLog, node: bartizan_model::NodeId) -> Result<u64, ReadError> {
    for bundle in (0..log.bundles()).rev() {
        let mut too_old = false;
        for entry in log.bundle(bundle)?.iter().rev() {
            let Ok(record) = serde_json::from_slice::<Record>(entry) else { continue };
            if record.node == node {
                return Ok(record.seq);
            }
            too_old = record.time_us < earliest(node);
        }
        if too_old {
            break;
        }
    }
    Ok(0)
}
