//! Removing a log of a past period from the node.
//!
//! The order matters: the operator's log is told the last checkpoint; that the log is removed is recorded there, durable and
//! sealed; a mark is laid beside the checkpoint; only then do the tiles go. Wherever it breaks off, either the log is whole
//! or the mark is there and the record behind it: a start believes no mark without one, and no log that is gone without a
//! mark.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Timestamp, json};
use bartizan_ledger::{Checkpoint, VerifierKey};
use bartizan_model::action::ChangeState;
use bartizan_model::record::{Body, Record, System};
use bartizan_model::{PrincipalId, Tenant};
use serde::{Deserialize, Serialize};

use crate::disk::write_whole;
use crate::intent::{IntentRecorded, RecordError};
use crate::log::{LogError, TreeHead};
use crate::operator::told_within;
use crate::period::{LogId, Period};
use crate::recorder::Recorder;
use crate::recover::OpenError;
use crate::seal::{Sealer, blocking, into_open};
use crate::sealed::{ReadError, SealedLog};

/// The file that says that the rest of a log was removed.
const MARK: &str = "removed";

/// What the mark of a removed log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Removal {
    /// Which entry of the operator's log records it.
    pub(crate) index: u64,
    /// The number of the last record of this node in the log.
    pub(crate) last_seq: u64,
}

/// A log of a past period that could be removed.
#[derive(Clone, Debug)]
pub struct ClosedLog {
    /// Its name.
    pub origin: Arc<str>,
    /// Its folder below `log/`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The key that verifies it, in its text form.
    pub verifier: Arc<str>,
    /// Its last checkpoint.
    pub checkpoint: Arc<str>,
    /// How many entries it holds.
    pub size: u64,
    id: LogId,
    head: TreeHead,
    log: SealedLog,
}

/// Why a log is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is no such log of that tenant.
    #[error("there is no log of that period")]
    Absent,
    /// Its period is not over, or was over too short a time ago.
    #[error("the period {period} may be removed from {from} on")]
    TooEarly {
        /// Which.
        period: String,
        /// From when on.
        from: Timestamp,
    },
    /// It is for ever: the operator's log.
    #[error("this log has no end")]
    Endless,
    /// It was removed already.
    #[error("{0} was removed already")]
    Removed(String),
    /// It has changed since it was looked at, or the operator's log was not told its end yet.
    #[error("{0} is still being sealed; ask again in a minute")]
    Unsettled(String),
    /// Witnesses are to cosign the operator's log, and no quorum of them has done so since it was told the log's end: a
    /// removal now could hide what nobody outside ever saw.
    #[error(
        "no quorum of witnesses has cosigned the end of {0} yet; they are asked every minute, and \
         `bartizan_record_unwitnessed_seconds` tells for how long none has answered"
    )]
    Unwitnessed(String),
    /// The intent to remove has run out.
    #[error("the permit to remove has run out")]
    PermitExpired,
    /// The removal could not be recorded; nothing was removed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Sealing failed, or the files could not be removed: where it is marked as removed already, the next start goes on.
    #[error(transparent)]
    Log(#[from] OpenError),
}

impl Recorder {
    /// The log of `period` of the intent's tenant, if it was over `keep` ago and is sealed to its end.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub fn closed_log(
        &self,
        intent: &IntentRecorded<ChangeState>,
        period: &str,
        keep: Duration,
    ) -> Result<ClosedLog, RemoveError> {
        let core = &self.inner.core;
        let now = core.clock.now();
        if now >= intent.expires() {
            return Err(RemoveError::PermitExpired);
        }
        let period = Period::parse(period).ok_or(RemoveError::Absent)?;
        let id = LogId { tenant: intent.tenant().clone(), period };
        let over = period.end().ok_or(RemoveError::Endless)?;
        let from = over.saturating_add(keep);
        if now < from {
            return Err(RemoveError::TooEarly { period: period.to_string(), from });
        }
        let published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner);
        let log = published.get(&id).cloned().ok_or(RemoveError::Absent)?;
        let origin = id.origin(&core.origin);
        if log.removed.is_some() {
            return Err(RemoveError::Removed(origin.to_string()));
        }
        Ok(ClosedLog {
            origin,
            name: id.folder(Path::new("")).to_string_lossy().into_owned(),
            folder: log.folder.clone(),
            verifier: log.verifier.clone(),
            checkpoint: log.checkpoint.clone(),
            size: log.size,
            head: (log.size, log.root),
            id,
            log,
        })
    }

    /// Everybody whose pseudonym stands anywhere in the log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn named_in(&self, closed: &ClosedLog) -> Result<BTreeSet<PrincipalId>, ReadError> {
        let log = closed.log.clone();
        blocking(move || {
            let mut out = BTreeSet::new();
            for bundle in 0..log.bundles() {
                log.bundle(bundle)?.iter().for_each(|entry| out.extend(pseudonyms(entry)));
            }
            Ok(out)
        })
        .await
        .map_err(|_| ReadError::Closed)?
    }

    /// Removes the log, whose archive the caller has verified since [`Recorder::closed_log`] began this: its last checkpoint
    /// stays, and the operator's log says so.
    ///
    /// # Errors
    /// [`RemoveError`]; before the removal is recorded, nothing was removed. [`RemoveError::Unwitnessed`] where witnesses are
    /// configured ([`Config::witnessed`](crate::Config::witnessed)) and have not cosigned that checkpoint yet.
    pub async fn remove_log(
        &self,
        intent: &IntentRecorded<ChangeState>,
        closed: &ClosedLog,
    ) -> Result<(), RemoveError> {
        if *intent.tenant() != closed.id.tenant {
            return Err(RemoveError::Absent);
        }
        let unsettled = || RemoveError::Unsettled(closed.origin.to_string());
        self.seal_now().await?;
        self.tell_operator().await?;
        if self.inner.told.lock().await.get(&*closed.origin) != Some(&closed.head) {
            return Err(unsettled());
        }
        if self.inner.core.witnessed && !self.is_witnessed(closed).await? {
            return Err(RemoveError::Unwitnessed(closed.origin.to_string()));
        }
        let (size, root) = closed.head;
        let origin = closed.origin.to_string();
        let event = System::Removed { origin, size, root, of: intent.decision() };
        let leaf = self.write(&Tenant::operator(), Body::System(event)).await?.leaf;
        self.seal_now().await?;
        // From here on nothing is sealed until it is done.
        let mut sealer = self.inner.sealer.lock().await;
        let operator = {
            let published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner);
            published.get(&LogId::operator()).cloned()
        };
        let recorded = blocking(move || operator.map(|log| find_leaf(&log, leaf)).transpose()).await?;
        let index = recorded.map_err(into_open)?.flatten().ok_or_else(unsettled)?;
        let is_same = |log: &crate::log::Log| log.head() == closed.head && log.confirmed == Some(closed.head);
        let last_seq = match sealer.logs.get(&closed.id) {
            Some(log) if is_same(log) => log.last_seq(),
            _ => return Err(unsettled()),
        };
        let removal = Removal { index, last_seq };
        let (disk, folder) = (sealer.disk.clone(), closed.folder.clone());
        blocking(move || {
            let io = |source| OpenError::Io { path: folder.clone(), source };
            let mark = json::canonical(&removal).map_err(|e| io(io::Error::other(e)))?;
            write_whole(&*disk, &folder, &[(folder.join(MARK), mark)]).map_err(io)?;
            disk.sync_dir(&folder).map_err(io)
        })
        .await??;
        // Records of that period that are still to come, should the clock go back, are sealed into the next.
        sealer.logs.remove(&closed.id);
        {
            let mut published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(log) = published.get_mut(&closed.id) {
                log.removed = Some(removal);
            }
        }
        let (disk, folder) = (sealer.disk.clone(), closed.folder.clone());
        blocking(move || {
            drop_tiles(&*disk, &folder).map_err(|source| OpenError::Io { path: folder.clone(), source })
        })
        .await??;
        Ok(())
    }

    /// Whether what a quorum of witnesses has cosigned last of the operator's log tells the end of this one.
    async fn is_witnessed(&self, closed: &ClosedLog) -> Result<bool, OpenError> {
        let operator = {
            let published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner);
            published.get(&LogId::operator()).cloned()
        };
        let Some((operator, (size, _))) = operator.and_then(|o| o.witnessed.clone().map(|w| (o, w))) else {
            return Ok(false);
        };
        let (origin, head) = (closed.origin.clone(), closed.head);
        let told = blocking(move || told_within(&operator, size, &origin)).await?;
        Ok(told.map_err(into_open)? == Some(head))
    }
}

impl Sealer {
    /// Where a record of the log `id` is sealed.
    pub(crate) fn home(&self, id: LogId) -> LogId {
        home(&self.published.lock().unwrap_or_else(PoisonError::into_inner), id)
    }

    /// What the mark of a removed log says; none for one that is there.
    pub(crate) fn removal(&self, id: &LogId) -> Option<Removal> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).get(id).and_then(|log| log.removed)
    }

    /// Opens a log of which only the checkpoint is left, if that is so. It must be what the lock store holds.
    pub(crate) async fn open_removed(&self, id: &LogId) -> Result<bool, OpenError> {
        let origin = id.origin(&self.core.origin);
        let (disk, folder) = (self.disk.clone(), id.folder(&self.folder));
        let read = {
            let folder = folder.clone();
            let read = move |name: &str| match disk.read(&folder.join(name)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(OpenError::Io { path: folder.join(name), source }),
            };
            blocking(move || Ok::<_, OpenError>((read(MARK)?, read("checkpoint")?))).await??
        };
        let (Some(mark), checkpoint) = read else { return Ok(false) };
        let wrong = || LogError::NotRemoved(origin.to_string());
        let removal: Removal = serde_json::from_slice(&mark).map_err(|_| wrong())?;
        let (size, root) = self.checkpoints.latest(&origin).await?.ok_or_else(wrong)?;
        let verifier: VerifierKey = bartizan_ledger::NoteSigner::from_seed(&origin, self.seed.expose())
            .map_err(|_| wrong())?
            .verifier()
            .clone();
        let opened = Checkpoint::open(&checkpoint.unwrap_or_default(), &verifier).map_err(|_| wrong())?;
        if (opened.size, opened.root) != (size, root) {
            return Err(wrong().into());
        }
        let note = {
            let (disk, path) = (self.disk.clone(), folder.join("checkpoint"));
            let bytes = blocking(move || disk.read(&path).map_err(|source| OpenError::Io { path, source }));
            String::from_utf8(bytes.await??).map_err(|_| wrong())?
        };
        let log = SealedLog {
            disk: self.disk.clone(),
            folder,
            size,
            root,
            checkpoint: note.into(),
            verifier: verifier.to_string().into(),
            witnessed: None,
            removed: Some(removal),
        };
        self.published.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), log);
        Ok(true)
    }

    /// Whether the operator's log records the removal of every log that is marked as removed; what a crash has left of
    /// their tiles goes.
    pub(crate) async fn check_removed(&self) -> Result<(), OpenError> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(operator) = published.get(&LogId::operator()).cloned() else {
            return match published.iter().find(|(_, log)| log.removed.is_some()) {
                Some((id, _)) => Err(LogError::NotRemoved(id.origin(&self.core.origin).to_string()).into()),
                None => Ok(()),
            };
        };
        for (id, log) in published {
            let Some(Removal { index, .. }) = log.removed else { continue };
            let (origin, operator) = (id.origin(&self.core.origin).to_string(), operator.clone());
            let disk = self.disk.clone();
            blocking(move || {
                let entry = operator.entry(index).map_err(into_open)?;
                let record = entry.and_then(|entry| serde_json::from_slice::<Record>(&entry).ok());
                match record.map(|record| record.body) {
                    Some(Body::System(System::Removed { origin: of, size, root, .. }))
                        if (of == origin) && (size, root) == (log.size, log.root) => {}
                    _ => return Err(OpenError::from(LogError::NotRemoved(origin))),
                }
                let io = |source| OpenError::Io { path: log.folder.clone(), source };
                drop_tiles(&*disk, &log.folder).map_err(io)
            })
            .await??;
        }
        Ok(())
    }
}

/// Where a record of the log `id` is sealed: into the next of its tenant that was not removed.
pub(crate) fn home(published: &BTreeMap<LogId, SealedLog>, mut id: LogId) -> LogId {
    while published.get(&id).is_some_and(|log| log.removed.is_some()) {
        let Some(period) = id.period.next() else { break };
        id.period = period;
    }
    id
}

fn drop_tiles(disk: &dyn crate::disk::Disk, folder: &Path) -> io::Result<()> {
    match disk.remove_dir_all(&folder.join("tile")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => disk.sync_dir(folder),
    }
}

/// The place of a leaf in a log, looked for from its end.
fn find_leaf(log: &SealedLog, leaf: Digest) -> Result<Option<u64>, ReadError> {
    for tile in (0..log.bundles()).rev() {
        if let Some(at) = log.hashes(0, tile)?.iter().rposition(|hash| *hash == leaf) {
            return Ok(Some(tile * bartizan_ledger::ENTRIES_PER_BUNDLE + at as u64));
        }
    }
    Ok(None)
}

/// Every pseudonym in an entry, wherever it stands.
fn pseudonyms(entry: &[u8]) -> impl Iterator<Item = PrincipalId> {
    const BEGINNING: &[u8] = b"\"prn_";
    memchr::memmem::find_iter(entry, BEGINNING).filter_map(|at| {
        let rest = entry.get(at + 1..)?;
        let end = memchr::memchr(b'"', rest)?;
        str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
    })
}
