//! A tenant's logs copied to a bucket: tiles and bundles first, created and never overwritten, then the checkpoint over them. A
//! reader of the copy never sees a checkpoint whose tiles are not there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::Clock;
use bartizan_deliver::{Bucket, Cause, Health, Mirror, MirrorError, Position};
use bartizan_ledger::tiles_added;
use bartizan_model::Tenant;
use bartizan_record::{Feed, FeedLog, LogFile};
use bartizan_rt::Shutdown;
use bytes::Bytes;

/// Keeps the copy up until the end is asked for.
#[derive(Debug)]
pub(super) struct Mirroring {
    pub(super) feed: Feed,
    pub(super) tenant: Tenant,
    pub(super) bucket: Bucket,
    pub(super) every: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) health: Arc<Mutex<Health>>,
    pub(super) shutdown: Shutdown,
}

/// What a checkpoint says, unverified: it is our own, or was before it went to the bucket.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    size: u64,
    root: String,
}

impl Head {
    fn read(note: &[u8], origin: &str) -> Option<Self> {
        let mut lines = std::str::from_utf8(note).ok()?.lines();
        lines.next().filter(|line| *line == origin)?;
        Some(Self { size: lines.next()?.parse().ok()?, root: lines.next()?.to_owned() })
    }
}

impl Mirroring {
    pub(super) async fn run(self) {
        let mut open = None;
        while !self.shutdown.is_requested() {
            tokio::select! {
                // What was copied stays; the next round goes on from the checkpoint there.
                () = self.shutdown.requested() => return,
                result = self.round(&mut open) => self.tell(result),
            }
            tokio::select! {
                () = self.shutdown.requested() => return,
                () = tokio::time::sleep(self.every) => {}
            }
        }
    }

    fn tell(&self, result: Result<(), Cause>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                health.failures_in_a_row = 0;
                health.failing = None;
            }
            Err(cause) => {
                tracing::warn!(%cause, "a mirror could not be brought up to date");
                health.failures = health.failures.saturating_add(1);
                health.failures_in_a_row = health.failures_in_a_row.saturating_add(1);
                health.failing = Some(cause);
            }
        }
    }

    async fn round(&self, open: &mut Option<Mirror>) -> Result<(), Cause> {
        let mirror = match open {
            Some(mirror) => mirror,
            None => open.insert(Mirror::open(self.bucket.clone()).await.map_err(Cause::new)?),
        };
        let logs: Vec<FeedLog> =
            self.feed.logs().into_iter().filter(|log| log.tenant == self.tenant && log.size > 0).collect();
        let mut result = Ok(());
        let mut missing = 0_u64;
        for log in &logs {
            // One log that cannot be copied does not hold up the others.
            match self.copy(mirror, log).await {
                Ok(()) => {}
                Err((cause, behind)) => {
                    missing = missing.saturating_add(behind);
                    result = Err(cause);
                }
            }
        }
        self.health.lock().unwrap_or_else(PoisonError::into_inner).behind = missing;
        result
    }

    /// Copies what is new of one log. An error tells how many entries are missing there.
    async fn copy(&self, mirror: &Mirror, log: &FeedLog) -> Result<(), (Cause, u64)> {
        let origin = &*log.origin;
        let path = format!("{origin}/checkpoint");
        let unknown = |cause: Cause| (cause, log.size);
        let Ok(Some(LogFile::Checkpoint(note))) = self.feed.file(origin, "checkpoint").await else {
            return Err(unknown(Cause::new("the log's own checkpoint cannot be read")));
        };
        let odd = || Cause::new(format_args!("`{path}` is no checkpoint of this log"));
        let here = Head::read(note.as_bytes(), origin).ok_or_else(|| unknown(odd()))?;
        let found = mirror.read(&path).await.map_err(|e| unknown(Cause::new(e)))?;
        let (before, version) = match found {
            None => (None, None),
            Some((bytes, _)) if bytes == note.as_bytes() => return Ok(()),
            Some((bytes, version)) => {
                (Some(Head::read(&bytes, origin).ok_or_else(|| unknown(odd()))?), Some(version))
            }
        };
        let size = before.as_ref().map_or(0, |head| head.size);
        let missing = here.size.saturating_sub(size);
        let failed = |error: MirrorError| (Cause::new(error), missing);
        if before
            .is_some_and(|head| head.size > here.size || (head.size == here.size && head.root != here.root))
        {
            return Err(failed(MirrorError::Diverged { path }));
        }
        for tile in tiles_added(size, here.size) {
            let name = tile.path();
            let bytes = match self.feed.file(origin, &name).await {
                Ok(Some(LogFile::Tile(bytes))) => Bytes::from(bytes),
                // The log has grown since: its partial tiles have given way to full ones, and so has this checkpoint.
                Ok(_) => return Err((Cause::new("the log has grown meanwhile"), missing)),
                Err(error) => return Err((Cause::new(error), missing)),
            };
            mirror.put_new(&format!("{origin}/{name}"), bytes).await.map_err(failed)?;
        }
        mirror.advance(&path, Bytes::from(note.to_string()), version).await.map_err(failed)?;
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.batches = health.batches.saturating_add(1);
        health.records = health.records.saturating_add(missing);
        health.last_success = Some(self.clock.now());
        health.done = here.size.checked_sub(1).map(|index| Position { origin: log.origin.clone(), index });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_of_its_own_log_or_none() {
        let note = b"log.example/a\n12\nAAAA\n\n\xe2\x80\x94 x y\n";
        assert_eq!(Head::read(note, "log.example/a"), Some(Head { size: 12, root: "AAAA".into() }));
        for (note, origin) in
            [(&note[..], "log.example/b"), (b"log.example/a\n-1\nAAAA\n", "log.example/a"), (b"", "")]
        {
            assert_eq!(Head::read(note, origin), None);
        }
    }
}
