//! Finding things in the ledger: an index a tenant, made of what is sealed and thrown away whenever it does not fit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Clock, Timestamp};
use bartizan_index::{Cursor, Index, IndexError, Order, Page, Place, Search};
use bartizan_model::Tenant;
use bartizan_query::Query;
use bartizan_record::{Feed, FeedLog};

/// Entries that are taken in at once.
const BATCH: usize = 4_096;
/// How long a search may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The indexes of all tenants.
#[derive(Debug)]
pub struct Archive {
    feed: Feed,
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    open: Mutex<BTreeMap<Tenant, Arc<Index>>>,
}

impl Archive {
    /// The archive of what `feed` gives, with its indexes in `folder`.
    #[must_use]
    pub fn new(feed: Feed, folder: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { feed, folder, clock, open: Mutex::default() }
    }

    /// Takes in what was sealed since the last call.
    ///
    /// # Errors
    /// When a log cannot be read or an index not be written; the next call goes on.
    pub async fn follow(&self) -> Result<(), IndexError> {
        for log in self.feed.logs() {
            let index = self.index(&log.tenant).await?;
            let Err(error) = self.take_in(&index, &log).await else { continue };
            if !matches!(error, IndexError::Unusable(_) | IndexError::Gap { .. }) {
                return Err(error);
            }
            tracing::warn!(%error, tenant = %log.tenant, "the index does not fit and is made anew");
            drop(index);
            self.open().remove(&log.tenant);
            blocking({
                let (path, tenant, clock) = self.place(&log.tenant);
                move || Index::rebuild(&path, tenant, clock)
            })
            .await?;
        }
        Ok(())
    }

    async fn take_in(&self, index: &Arc<Index>, log: &FeedLog) -> Result<(), IndexError> {
        loop {
            let (own, origin) = (index.clone(), log.origin.clone());
            let from = blocking(move || own.position(&origin)).await?;
            if from >= log.size {
                return Ok(());
            }
            let entries = self.feed.entries(&log.origin, from, BATCH).await;
            let entries = entries.map_err(|error| IndexError::Log(Box::new(error)))?;
            if entries.is_empty() {
                return Ok(());
            }
            let (own, origin) = (index.clone(), log.origin.clone());
            // Nobody waits for it, and on few cores it would stand in the way of those who wait.
            bartizan_rt::background("bartizan-index", move || {
                let slices: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
                own.ingest(&origin, from, &slices)
            })
            .await
            .map_err(|error| IndexError::Unavailable(Box::new(error)))??;
        }
    }

    /// Answers a question about the tenant's sealed entries, up to those that were indexed last.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn search(
        &self,
        tenant: &Tenant,
        query: Query,
        order: Order,
        limit: usize,
        cursor: Option<Cursor>,
        now: Timestamp,
    ) -> Result<Page, IndexError> {
        let (index, feed) = (self.index(tenant).await?, self.feed.clone());
        blocking(move || {
            let entries = |places: &[Place]| {
                places
                    .iter()
                    .map(|place| feed.entry_now(&place.origin, place.index))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(Into::into)
            };
            let search =
                Search { query: &query, order, limit, cursor: cursor.as_ref(), now, time_max: PATIENCE };
            index.search(&search, &entries)
        })
        .await
    }

    /// Forgets what is indexed of the tenant: a log was removed, and nothing of its words may stay. The others are taken in
    /// again by the calls of [`Archive::follow`] that come.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub async fn forget(&self, tenant: &Tenant) -> Result<(), IndexError> {
        let index = self.index(tenant).await?;
        blocking(move || index.clear()).await
    }

    /// How many entries of each of the tenant's logs are sealed.
    #[must_use]
    pub fn sizes(&self, tenant: &Tenant) -> BTreeMap<Arc<str>, u64> {
        let logs = self.feed.logs().into_iter().filter(|log| log.tenant == *tenant);
        logs.map(|log| (log.origin, log.size)).collect()
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<Tenant, Arc<Index>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a tenant's index lies. The name is a digest: tenants' names may hold what paths may not.
    fn place(&self, tenant: &Tenant) -> (PathBuf, Tenant, Arc<dyn Clock>) {
        let name = bartizan_base::Digest::of(tenant.0.as_bytes()).to_string();
        (self.folder.join(format!("{name}.db")), tenant.clone(), self.clock.clone())
    }

    async fn index(&self, tenant: &Tenant) -> Result<Arc<Index>, IndexError> {
        if let Some(index) = self.open().get(tenant) {
            return Ok(index.clone());
        }
        let (path, owner, clock) = self.place(tenant);
        let folder = self.folder.clone();
        let index = blocking(move || {
            std::fs::create_dir_all(&folder).map_err(|e| IndexError::Unavailable(Box::new(e)))?;
            match Index::open(&path, owner.clone(), clock.clone()) {
                Err(IndexError::Unusable(why)) => {
                    tracing::warn!(why, tenant = %owner, "the index cannot be used and is made anew");
                    Index::rebuild(&path, owner, clock)
                }
                opened => opened,
            }
        })
        .await?;
        Ok(self.open().entry(tenant.clone()).or_insert(Arc::new(index)).clone())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(IndexError::Unavailable(Box::new(error))),
    }
}
