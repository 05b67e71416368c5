//! Sealed entries for what the house itself makes of its ledger: the index, deliveries, mirrors. Nobody's ask stands
//! behind it; whatever comes of it is shown to people under asks of their own, or goes where an administrator's recorded
//! change has sent it.

use std::sync::{Arc, PoisonError};

use bartizan_ledger::Tile;
use bartizan_model::Tenant;

use crate::read::LogFile;
use crate::recorder::{Inner, Recorder};
use crate::seal::blocking;
use crate::sealed::{ReadError, SealedLog};

/// Reads every published log. Cheap to clone.
#[derive(Clone)]
pub struct Feed(Arc<Inner>);

/// A published log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedLog {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its name.
    pub origin: Arc<str>,
    /// Its folder below `log/`.
    pub folder: String,
    /// How many entries it holds.
    pub size: u64,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Feed")
    }
}

impl Recorder {
    /// The feed of everything that is sealed.
    #[must_use]
    pub fn feed(&self) -> Feed {
        Feed(self.inner.clone())
    }
}

impl Feed {
    /// The published logs, by tenant and then the oldest first.
    #[must_use]
    pub fn logs(&self) -> Vec<FeedLog> {
        let published = self.0.published.lock().unwrap_or_else(PoisonError::into_inner);
        let log = |(id, log): (&crate::period::LogId, &SealedLog)| {
            let origin = id.origin(&self.0.core.origin);
            let folder = id.folder(std::path::Path::new("")).to_string_lossy().into_owned();
            FeedLog { tenant: id.tenant.clone(), origin, folder, size: log.size }
        };
        published.iter().filter(|(_, log)| log.removed.is_none()).map(log).collect()
    }

    fn log(&self, origin: &str) -> Option<SealedLog> {
        let published = self.0.published.lock().unwrap_or_else(PoisonError::into_inner);
        published
            .iter()
            .find(|(id, _)| *id.origin(&self.0.core.origin) == *origin)
            .map(|(_, log)| log.clone())
    }

    /// Entries of the log `origin` from `from` on, at most `limit` and not beyond the published size, each held against
    /// the tree.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn entries(&self, origin: &str, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        let Some(log) = self.log(origin) else { return Ok(Vec::new()) };
        blocking(move || log.entries(from, limit)).await.map_err(|_| ReadError::Closed)?
    }

    /// The same where blocking is allowed.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entry_now(&self, origin: &str, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        self.log(origin).map_or(Ok(None), |log| log.entry(index))
    }

    /// A file of the log `origin`, by its path in the log's folder; none beyond the published size.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn file(&self, origin: &str, path: &str) -> Result<Option<LogFile>, ReadError> {
        let Some(log) = self.log(origin) else { return Ok(None) };
        log.published_file(path).await
    }
}

impl SealedLog {
    /// Entries from `from` on, at most `limit`.
    pub(crate) fn entries(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        let mut out = Vec::new();
        for bundle in from / 256..self.bundles() {
            let skip = usize::try_from(from.saturating_sub(bundle * 256)).unwrap_or(usize::MAX);
            let rest = limit.saturating_sub(out.len());
            if rest == 0 {
                break;
            }
            out.extend(self.bundle(bundle)?.into_iter().skip(skip).take(rest));
        }
        Ok(out)
    }

    /// The checkpoint, or a tile or bundle that is covered by it.
    pub(crate) async fn published_file(self, path: &str) -> Result<Option<LogFile>, ReadError> {
        if path == "checkpoint" {
            return Ok(Some(LogFile::Checkpoint(self.checkpoint)));
        }
        let Ok(tile) = path.parse::<Tile>() else { return Ok(None) };
        // Files beyond the published size may be there already; they are nobody's yet.
        if Tile::at(tile.level, tile.index, self.size).is_none_or(|now| now.width < tile.width) {
            return Ok(None);
        }
        let bytes = blocking(move || self.file(tile)).await.map_err(|_| ReadError::Closed)??;
        Ok(bytes.map(LogFile::Tile))
    }
}
