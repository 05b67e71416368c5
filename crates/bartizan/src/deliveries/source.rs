//! Batches out of one tenant's sealed logs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bartizan_base::{Clock, Text, Timestamp};
use bartizan_deliver::{Batch, FilePositions, Position, Positions, Progress, Source, SourceError, Want};
use bartizan_export::{ExportError, Exporter, Format, Placed, Said};
use bartizan_model::Tenant;
use bartizan_query::{Facts, Query};
use bartizan_record::{Feed, FeedLog};
use bytes::Bytes;

/// How many entries a batch covers at the most: one OTLP request.
pub(super) const RECORDS_MAX: u32 = 256;
/// How long a batch is made at the most, in bytes, unless one record alone is longer.
const BYTES_SOFT: usize = 512 << 10;
/// How long it may be. Above the other bound, so that a range that was tried is still made after the format has changed.
pub(super) const BYTES_MAX: usize = 8 << 20;
/// How old the first record of a quarter's log is when the log before is taken for complete.
const SETTLED: Duration = Duration::from_secs(60);

/// What an entry was held against: the log, the last entry of the range and the size of the checkpoint.
type Held = (Position, u64);

/// One tenant's records, those that a query asks for, in one format.
#[derive(Debug)]
pub(super) struct FeedSource {
    pub(super) feed: Feed,
    pub(super) tenant: Tenant,
    pub(super) format: Format,
    pub(super) query: Option<Query>,
    /// Whether one line stands for itself: OTLP over HTTP.
    pub(super) single: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) held: Arc<Mutex<Option<Held>>>,
}

/// The progress of a delivery, and beside it the checkpoint that its batch under way was held against: a batch that comes again
/// after a crash is the same to the byte.
#[derive(Debug)]
pub(super) struct Places {
    path: PathBuf,
    progress: FilePositions,
    /// `done` is the place behind the last entry of the checkpoint, `trying` the end of the range.
    checkpoint: FilePositions,
    held: Arc<Mutex<Option<Held>>>,
}

fn failed(error: impl std::fmt::Display) -> SourceError {
    SourceError(Text::lossy(&error.to_string()))
}

impl FeedSource {
    /// The tenant's logs with something in them, the oldest first.
    pub(super) fn logs(&self) -> Vec<FeedLog> {
        let mut logs = self.feed.logs();
        logs.retain(|log| log.tenant == self.tenant && log.size > 0);
        logs
    }

    /// Where it would go on if everything up to now were done.
    pub(super) fn end(&self) -> Option<Position> {
        let last = self.logs().pop()?;
        Some(Position { index: last.size.checked_sub(1)?, origin: last.origin })
    }

    /// Whether the log begins long enough ago that nothing is added to the one before.
    async fn settled(&self, log: &FeedLog) -> Result<bool, SourceError> {
        let first = self.feed.entries(&log.origin, 0, 1).await.map_err(failed)?.pop().unwrap_or_default();
        let began = Facts::read(&first, None).map_or(Timestamp::from_micros(0), |(record, _)| record.time_us);
        Ok(self.clock.now().saturating_since(began) >= SETTLED)
    }

    fn is_asked_for(&self, placed: &Placed) -> bool {
        let (Some(query), Said::Record(record)) = (&self.query, placed.said()) else { return true };
        let facts = Facts::read(placed.text().as_bytes(), Some((&placed.origin, placed.index)));
        facts.map_or(true, |(_, facts)| query.matches(&facts, record.time_us))
    }

    /// The entries as one body, and how many of them are in it.
    fn render(&self, entries: &[Placed]) -> Result<(Bytes, u32), ExportError> {
        let mut out = Exporter::new(self.format, Vec::new())?;
        let mut records = 0_u32;
        for placed in entries.iter().filter(|placed| self.is_asked_for(placed)) {
            out.write(placed)?;
            records = records.saturating_add(1);
        }
        let mut body = out.finish()?;
        if self.single && body.last() == Some(&b'\n') {
            body.pop();
        }
        Ok((Bytes::from(body), records))
    }

    const fn media_type(&self) -> &'static str {
        if self.single { "application/json" } else { self.format.media_type() }
    }
}

/// The log and the index of the entry right behind `after`, and whether that begins a new log behind an older one. None if there is
/// nothing yet.
fn behind<'a>(
    logs: &'a [FeedLog],
    after: Option<&Position>,
) -> Result<Option<(&'a FeedLog, u64, bool)>, SourceError> {
    let Some(after) = after else { return Ok(logs.first().map(|log| (log, 0, false))) };
    let mut rest = logs.iter().skip_while(|log| log.origin != after.origin);
    let log = rest.next().ok_or_else(|| failed(format_args!("there is no log `{}` here", after.origin)))?;
    match after.index.checked_add(1) {
        Some(next) if next < log.size => Ok(Some((log, next, false))),
        Some(next) if next == log.size => Ok(rest.next().map(|log| (log, 0, true))),
        _ => Err(failed(format_args!("the log `{}` is shorter than what was delivered of it", log.origin))),
    }
}

#[async_trait]
impl Source for FeedSource {
    async fn next(&self, want: &Want) -> Result<Option<Batch>, SourceError> {
        let logs = self.logs();
        let Some((log, first, turns)) = behind(&logs, want.after.as_ref())? else { return Ok(None) };
        if turns && want.until.is_none() && !self.settled(log).await? {
            return Ok(None);
        }
        let wanted = match &want.until {
            Some(until) => until.index.saturating_add(1).saturating_sub(first),
            None => log.size.saturating_sub(first).min(want.records_max.into()),
        };
        let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(1 << 16);
        let entries = self.feed.entries(&log.origin, first, count).await.map_err(failed)?;
        if entries.is_empty() || entries.len() != count {
            return Err(failed(format_args!("the log `{}` has lost entries", log.origin)));
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let size = match (&want.until, held) {
            (Some(until), Some((end, size))) if *until == end => size,
            _ => log.size,
        };
        let placed: Vec<Placed> = (first..)
            .zip(&entries)
            .map(|(index, entry)| Placed::read(log.origin.clone(), index, size, entry))
            .collect();
        let mut length = placed.len();
        loop {
            let part = placed.get(..length).unwrap_or_default();
            let (body, records) = self.render(part).map_err(failed)?;
            if want.until.is_none() && body.len() > BYTES_SOFT && length > 1 {
                length /= 2;
                continue;
            }
            let at = |index| Position { origin: log.origin.clone(), index };
            let last = at(part.last().map_or(first, |placed| placed.index));
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((last.clone(), size));
            let batch = Batch::new(at(first), last, self.media_type(), body, records);
            return batch.map(Some).map_err(failed);
        }
    }

    async fn behind(&self, after: Option<&Position>) -> Result<u64, SourceError> {
        let logs = self.logs();
        let Some(after) = after else { return Ok(logs.iter().map(|log| log.size).sum()) };
        let rest = logs.iter().skip_while(|log| log.origin != after.origin).map(|log| log.size);
        Ok(rest.sum::<u64>().saturating_sub(after.index.saturating_add(1)))
    }
}

impl Places {
    /// What is kept in `folder`.
    pub(super) fn new(folder: &Path, held: Arc<Mutex<Option<Held>>>) -> Self {
        let path = folder.join("position.json");
        Self {
            progress: FilePositions::new(&path),
            path,
            checkpoint: FilePositions::new(folder.join("checkpoint.json")),
            held,
        }
    }

    /// Begins behind `end` if it never began.
    pub(super) async fn begin(&self, end: Option<Position>) -> io::Result<()> {
        // Also where nothing is sealed yet a file is made, or a later start would begin at a later `now`.
        if !self.path.try_exists()? {
            self.progress.store(&Progress { done: end, trying: None }).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Positions for Places {
    async fn load(&self) -> io::Result<Progress> {
        if let Progress { done: Some(behind), trying: Some(end) } = self.checkpoint.load().await? {
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((end, behind.index));
        }
        self.progress.load().await
    }

    async fn store(&self, progress: &Progress) -> io::Result<()> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(trying), Some((end, size))) = (&progress.trying, held)
            && *trying == end
        {
            let behind = Position { origin: end.origin.clone(), index: size };
            self.checkpoint.store(&Progress { done: Some(behind), trying: Some(end) }).await?;
        }
        self.progress.store(progress).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(period: &str, size: u64) -> FeedLog {
        FeedLog {
            tenant: Tenant::default_tenant(),
            origin: format!("log.example/{period}").into(),
            folder: period.to_owned(),
            size,
        }
    }

    fn at(period: &str, index: u64) -> Position {
        Position { origin: format!("log.example/{period}").into(), index }
    }

    #[test]
    fn what_comes_next_is_the_entry_behind_or_the_next_log_and_never_a_gap() {
        let logs = [log("2026q3", 10), log("2026q4", 5)];
        let next = |after: Option<Position>| {
            behind(&logs, after.as_ref())
                .map(|found| found.map(|(log, at, turns)| (log.folder.clone(), at, turns)))
        };
        assert_eq!(next(None).unwrap(), Some(("2026q3".into(), 0, false)));
        assert_eq!(next(Some(at("2026q3", 8))).unwrap(), Some(("2026q3".into(), 9, false)));
        assert_eq!(next(Some(at("2026q3", 9))).unwrap(), Some(("2026q4".into(), 0, true)));
        assert_eq!(next(Some(at("2026q4", 4))).unwrap(), None);
        // A log that was put back or taken away is told, not passed over.
        for lost in [at("2026q4", 5), at("2026q4", u64::MAX), at("2026q2", 0)] {
            assert!(next(Some(lost)).is_err());
        }
        assert_eq!(behind(&[], None).unwrap(), None);
    }

    #[tokio::test]
    async fn the_checkpoint_of_a_batch_under_way_survives() {
        let folder = tempfile::tempdir().unwrap();
        let held = Arc::new(Mutex::new(Some((at("2026q4", 7), 12))));
        let places = Places::new(folder.path(), held);
        places.begin(Some(at("2026q4", 3))).await.unwrap();
        places.begin(Some(at("2026q4", 9))).await.unwrap();
        let begun = Progress { done: Some(at("2026q4", 3)), trying: None };
        assert_eq!(places.load().await.unwrap(), begun, "it begins once");
        let empty = tempfile::tempdir().unwrap();
        let early = Places::new(empty.path(), Arc::default());
        early.begin(None).await.unwrap();
        early.begin(Some(at("2026q4", 9))).await.unwrap();
        assert_eq!(early.load().await.unwrap(), Progress::default(), "it began before the first entry");
        let trying = Progress { trying: Some(at("2026q4", 7)), ..begun };
        places.store(&trying).await.unwrap();

        let held = Arc::default();
        let again = Places::new(folder.path(), Arc::clone(&held));
        assert_eq!(again.load().await.unwrap(), trying);
        assert_eq!(*held.lock().unwrap(), Some((at("2026q4", 7), 12)));
    }
}
