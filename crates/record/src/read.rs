//! Reading the ledger. Every question demands a recorded intent to read, and answers about its tenant only.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::action::ReadLedger;
use bartizan_model::record::{Body, Record};
use bartizan_model::{DecisionId, Tenant};

use crate::intent::IntentRecorded;
use crate::period::{LogId, Period, tenant_of};
use crate::queue::About;
use crate::recorder::Recorder;
use crate::seal::blocking;
use crate::sealed::{ReadError, SealedLog};
use crate::tail::{Batch, Written};

/// How much earlier than its id a decision can have been recorded: clocks jump.
pub(crate) const CLOCK_SLACK: Duration = Duration::from_secs(5);
/// Bundles looked through for one decision at the most, about a million records.
pub(crate) const BUNDLES_MAX: usize = 4_096;

/// A recorded decision with how it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The intent or refusal.
    pub record: Record,
    /// Where it is sealed; absent while it is only in the write-ahead log.
    pub sealed: Option<Place>,
    /// How it ended, if it has; also absent when it ended more than about a million records later.
    pub outcome: Option<Record>,
}

/// A place in a sealed log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The log's name.
    pub origin: Arc<str>,
    /// The entry's index.
    pub index: u64,
}

/// A proof that one entry is in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The text of a `.tlog-proof` file (C2SP), with the signed checkpoint.
    pub text: String,
    /// The entry that it proves.
    pub entry: Vec<u8>,
}

/// What a published log says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// The log's name.
    pub origin: Arc<str>,
    /// How many entries it holds.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// The signed checkpoint.
    pub checkpoint: Arc<str>,
    /// The key that verifies it, in its text form.
    pub verifier: Arc<str>,
}

/// A file of a published log, as tlog-tiles (C2SP) serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// The signed checkpoint, which changes.
    Checkpoint(Arc<str>),
    /// A tile or bundle, which never does.
    Tile(Vec<u8>),
}

type Log = (Arc<str>, SealedLog);

impl Recorder {
    /// Finds a decision by its id.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn find(
        &self,
        intent: &IntentRecorded<ReadLedger>,
        id: DecisionId,
    ) -> Result<Option<Found>, ReadError> {
        let tenant = self.reader(intent)?;
        let (decision, outcome) = self.recent(tenant, id);
        if let Some(decision) = decision {
            let outcome = outcome.and_then(|w| read(&w.entry));
            let sealed =
                decision.index.get().map(|&index| Place { origin: self.origin_of(&decision), index });
            return Ok(read(&decision.entry).map(|record| Found { record, sealed, outcome }));
        }
        let earliest = Timestamp::from_micros(
            id.timestamp().as_micros().saturating_sub(u64::try_from(CLOCK_SLACK.as_micros()).unwrap_or(0)),
        );
        let logs = self.logs(tenant, Some(Period::of(earliest)));
        let (logs, removed): (Vec<Log>, Vec<Log>) = logs.into_iter().partition(|(_, l)| l.removed.is_none());
        let found = blocking(move || search(&logs, id, earliest)).await.map_err(|_| ReadError::Closed)??;
        if found.is_none()
            && outcome.is_none()
            && let Some((_, removed)) = removed.first()
        {
            // It may have been there.
            removed.is_here()?;
        }
        Ok(found.map(|found| match outcome.and_then(|w| read(&w.entry)) {
            Some(newer) => Found { outcome: Some(newer), ..found },
            None => found,
        }))
    }

    /// The latest decisions, the newest first, at most `limit`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn latest(
        &self,
        intent: &IntentRecorded<ReadLedger>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let tenant = self.reader(intent)?;
        let (mut out, oldest) = {
            let batches = self.inner.core.tail().newest();
            let mut oldest = None;
            let mut out = Vec::new();
            for written in newest(&batches).filter(|w| w.tenant == *tenant) {
                if out.len() >= limit {
                    break;
                }
                oldest = Some(written.seq);
                if matches!(written.about, About::Intent(_) | About::Refusal(_)) {
                    out.extend(read(&written.entry));
                }
            }
            (out, oldest)
        };
        let (logs, node) = (self.logs(tenant, None), self.inner.core.node);
        blocking(move || {
            for (_, log) in logs.iter().rev().filter(|(_, log)| log.removed.is_none()) {
                for bundle in (0..log.bundles()).rev() {
                    if out.len() >= limit {
                        return Ok(out);
                    }
                    let records = log.records_with(bundle, b"")?;
                    let is_new = |r: &Record| r.node != node || oldest.is_none_or(|oldest| r.seq < oldest);
                    let rest = limit - out.len();
                    out.extend(
                        records
                            .into_iter()
                            .rev()
                            .map(|(_, record)| record)
                            .filter(|r| matches!(r.body, Body::Intent(_) | Body::Refusal(_)) && is_new(r))
                            .take(rest),
                    );
                }
            }
            Ok(out)
        })
        .await
        .map_err(|_| ReadError::Closed)?
    }

    /// Entries of the log `origin` from `from` on, at most `limit` and not beyond the published size; none for another
    /// tenant's log.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn entries(
        &self,
        intent: &IntentRecorded<ReadLedger>,
        origin: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let Some((_, log)) = self.log(self.reader(intent)?, origin) else { return Ok(Vec::new()) };
        blocking(move || log.entries(from, limit)).await.map_err(|_| ReadError::Closed)?
    }

    /// The proof that a decision is in the ledger; none when there is no such decision or it is not sealed yet.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn proof(
        &self,
        intent: &IntentRecorded<ReadLedger>,
        id: DecisionId,
    ) -> Result<Option<Proof>, ReadError> {
        let Some(place) = self.find(intent, id).await?.and_then(|found| found.sealed) else {
            return Ok(None);
        };
        self.proof_at(intent, &place).await
    }

    /// The proof that the entry at `place` is in the ledger; none beyond the published size and for another tenant's log.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn proof_at(
        &self,
        intent: &IntentRecorded<ReadLedger>,
        place: &Place,
    ) -> Result<Option<Proof>, ReadError> {
        let Some((_, log)) = self.log(self.reader(intent)?, &place.origin) else { return Ok(None) };
        prove(log, place.index).await
    }

    /// A file of the log whose folder is `log/FOLDER/PERIOD`, by its path in it; none beyond the published size, and none of
    /// another tenant's logs. The people of the first tenant run the house: they may read the operator's log too.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn log_file(
        &self,
        intent: &IntentRecorded<ReadLedger>,
        folder: &str,
        period: &str,
        path: &str,
    ) -> Result<Option<LogFile>, ReadError> {
        let Some(log) = self.log_in(self.reader(intent)?, folder, period) else { return Ok(None) };
        log.published_file(path).await
    }

    /// The proof that the entry `index` of the log in `log/FOLDER/PERIOD` is in it; none as for [`Recorder::log_file`].
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn proof_in(
        &self,
        intent: &IntentRecorded<ReadLedger>,
        folder: &str,
        period: &str,
        index: u64,
    ) -> Result<Option<Proof>, ReadError> {
        let Some(log) = self.log_in(self.reader(intent)?, folder, period) else { return Ok(None) };
        prove(log, index).await
    }

    /// The log whose folder is `log/FOLDER/PERIOD`, if `reader` may read it.
    fn log_in(&self, reader: &Tenant, folder: &str, period: &str) -> Option<SealedLog> {
        let id = LogId { tenant: tenant_of(folder)?, period: Period::parse(period)? };
        let is_operators = id.tenant == Tenant::operator() && *reader == Tenant::default_tenant();
        if id.tenant != *reader && !is_operators {
            return None;
        }
        self.inner.published.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The published logs, the oldest first.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn heads(&self, intent: &IntentRecorded<ReadLedger>) -> Result<Vec<LogHead>, ReadError> {
        let logs = self.logs(self.reader(intent)?, None);
        Ok(logs
            .into_iter()
            .map(|(origin, log)| LogHead {
                origin,
                size: log.size,
                root: log.root,
                checkpoint: log.checkpoint,
                verifier: log.verifier,
            })
            .collect())
    }

    /// Whose ledger may be read.
    fn reader<'a>(&self, intent: &'a IntentRecorded<ReadLedger>) -> Result<&'a Tenant, ReadError> {
        if self.inner.core.clock.now() < intent.expires() {
            Ok(intent.tenant())
        } else {
            Err(ReadError::PermitExpired)
        }
    }

    /// A decision's record and outcome, as far as they are in memory.
    fn recent(&self, tenant: &Tenant, id: DecisionId) -> (Option<Written>, Option<Written>) {
        let batches = self.inner.core.tail().newest();
        let (mut decision, mut outcome) = (None, None);
        for written in newest(&batches).filter(|w| w.decision() == Some(id) && w.tenant == *tenant) {
            let place = if matches!(written.about, About::Outcome(_)) { &mut outcome } else { &mut decision };
            place.get_or_insert_with(|| written.clone());
        }
        (decision, outcome)
    }

    fn origin_of(&self, written: &Written) -> Arc<str> {
        let id = LogId::of(&written.tenant, written.time);
        let published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner);
        crate::remove::home(&published, id).origin(&self.inner.core.origin)
    }

    /// A tenant's published logs from a period on, the oldest first.
    fn logs(&self, tenant: &Tenant, from: Option<Period>) -> Vec<Log> {
        let published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner);
        published
            .iter()
            .filter(|(id, _)| id.tenant == *tenant && from.is_none_or(|from| id.period >= from))
            .map(|(id, log)| (id.origin(&self.inner.core.origin), log.clone()))
            .collect()
    }

    fn log(&self, tenant: &Tenant, origin: &str) -> Option<Log> {
        self.logs(tenant, None).into_iter().find(|(name, _)| **name == *origin)
    }
}

/// Records, the newest first, of batches that come in this order.
fn newest(batches: &[Batch]) -> impl Iterator<Item = &Written> {
    batches.iter().flat_map(|batch| batch.iter().rev())
}

async fn prove(log: SealedLog, index: u64) -> Result<Option<Proof>, ReadError> {
    let work = move || {
        let Some(entry) = log.entry(index)? else { return Ok(None) };
        Ok(Some(Proof { text: log.proof(index)?.text(), entry }))
    };
    blocking(work).await.map_err(|_| ReadError::Closed)?
}

fn read(entry: &[u8]) -> Option<Record> {
    serde_json::from_slice(entry).ok()
}

/// Looks for a decision from the moment its id was made, and if time has gone back, from the end.
fn search(logs: &[Log], id: DecisionId, earliest: Timestamp) -> Result<Option<Found>, ReadError> {
    let mut forward = Vec::new();
    for (place, (_, log)) in logs.iter().enumerate() {
        let from = log.bundle_from(earliest)?;
        forward.extend((from..log.bundles()).take(BUNDLES_MAX).map(|bundle| (place, bundle)));
    }
    forward.truncate(BUNDLES_MAX);
    if let Some(found) = search_in(logs, id, forward)? {
        return Ok(Some(found));
    }
    let mut last: Vec<(usize, u64)> = Vec::new();
    for (place, (_, log)) in logs.iter().enumerate().rev() {
        last.extend((0..log.bundles()).rev().map(|bundle| (place, bundle)).take(BUNDLES_MAX - last.len()));
    }
    last.reverse();
    search_in(logs, id, last)
}

/// Looks for a decision and then for its outcome in bundles in their order.
fn search_in(logs: &[Log], id: DecisionId, bundles: Vec<(usize, u64)>) -> Result<Option<Found>, ReadError> {
    let text = id.to_string();
    let mut found: Option<Found> = None;
    for (place, bundle) in bundles {
        let Some((origin, log)) = logs.get(place) else { continue };
        for (index, record) in log.records_with(bundle, text.as_bytes())? {
            match (&record.body, &mut found) {
                (Body::Intent(intent), None) if intent.id == id => {
                    let sealed = Some(Place { origin: origin.clone(), index });
                    found = Some(Found { record, sealed, outcome: None });
                }
                (Body::Refusal(refusal), None) if refusal.id == id => {
                    let sealed = Some(Place { origin: origin.clone(), index });
                    return Ok(Some(Found { record, sealed, outcome: None }));
                }
                (Body::Outcome(outcome), Some(found)) if outcome.of == id => {
                    return Ok(Some(Found { outcome: Some(record), ..found.clone() }));
                }
                _ => {}
            }
        }
    }
    Ok(found)
}
