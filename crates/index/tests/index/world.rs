//! Logs in memory, and indexes of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bartizan_base::time::ManualClock;
use bartizan_base::{Clock, Digest, Timestamp};
use bartizan_index::{Cursor, Entries, Index, IndexError, LogFailure, Order, Page, Place, Row, Search};
use bartizan_model::Tenant;
use bartizan_query::{Facts, Query, samples};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

/// Sealed logs by origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logs(pub(crate) BTreeMap<String, Vec<Vec<u8>>>);

impl Entries for Logs {
    fn entries(&self, places: &[Place]) -> Result<Vec<Option<Vec<u8>>>, LogFailure> {
        let entry =
            |place: &Place| self.0.get(&*place.origin)?.get(usize::try_from(place.index).ok()?).cloned();
        Ok(places.iter().map(entry).collect())
    }
}

impl Logs {
    pub(crate) fn two(a: Vec<Vec<u8>>, b: Vec<Vec<u8>>) -> Self {
        Self([("log/a".to_owned(), a), ("log/b".to_owned(), b)].into())
    }

    /// The same logs every time.
    pub(crate) fn sample(entries: usize) -> Self {
        let log = || vec(samples::entry(), entries);
        let (a, b) = (log(), log()).new_tree(&mut TestRunner::deterministic()).unwrap().current();
        Self::two(a, b)
    }

    pub(crate) fn add(&mut self, origin: &str, entries: &[Vec<u8>]) {
        self.0.entry(origin.to_owned()).or_default().extend_from_slice(entries);
    }

    /// Brings the index up to date, `batch` entries at a time.
    pub(crate) fn fill(&self, index: &Index, batch: usize) {
        for origin in self.0.keys() {
            self.fill_log(index, origin, batch);
        }
    }

    pub(crate) fn fill_log(&self, index: &Index, origin: &str, batch: usize) {
        let log = self.0.get(origin).unwrap();
        loop {
            let first = index.position(origin).unwrap();
            let rest = log.get(usize::try_from(first).unwrap()..).unwrap();
            if rest.is_empty() {
                break;
            }
            let entries: Vec<_> = rest.iter().take(batch).map(Vec::as_slice).collect();
            index.ingest(origin, first, &entries).unwrap();
        }
    }

    /// What a linear scan by the meaning of the query finds, in the order of pages.
    pub(crate) fn scan(&self, query: &Query, order: Order, now: Timestamp) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        for (origin, log) in &self.0 {
            for (index, entry) in (0_u64..).zip(log) {
                let Ok((record, facts)) = Facts::read(entry, Some((origin, index))) else { continue };
                if query.matches(&facts, now) {
                    found.push((record.time_us, Digest::of(origin.as_bytes()), index, origin.clone()));
                }
            }
        }
        found.sort();
        if order == Order::Newest {
            found.reverse();
        }
        found.into_iter().map(|(_, _, index, origin)| (origin, index)).collect()
    }
}

/// A place for one index.
pub(crate) struct World {
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("index.db")
    }

    pub(crate) fn open(&self) -> Result<Index, IndexError> {
        Index::open(&self.path(), Tenant::default_tenant(), Arc::new(ManualClock::default()))
    }

    pub(crate) fn rebuild(&self) -> Index {
        Index::rebuild(&self.path(), Tenant::default_tenant(), Arc::new(ManualClock::default())).unwrap()
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_micros(samples::NOW_US)
}

pub(crate) fn query(text: &str) -> Query {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(crate) fn first<'a>(query: &'a Query, order: Order, limit: usize) -> Search<'a> {
    Search { query, order, limit, cursor: None, now: now(), time_max: Duration::from_secs(60) }
}

/// All pages from `search` on.
pub(crate) fn pages(index: &Index, logs: &Logs, search: &Search<'_>) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    let mut cursor: Option<Cursor> = search.cursor.cloned();
    loop {
        // Cursors go through their text, as they do between requests.
        cursor = cursor.map(|cursor| cursor.to_string().parse().unwrap());
        // The moment of later requests is another one, and must not matter.
        let now = search.now.saturating_add(Duration::from_secs(pages.len() as u64 * 7_777));
        let page = index.search(&Search { cursor: cursor.as_ref(), now, ..*search }, logs).unwrap();
        cursor.clone_from(&page.next);
        pages.push(page);
        if cursor.is_none() {
            return pages;
        }
    }
}

pub(crate) fn places(pages: &[Page]) -> Vec<(String, u64)> {
    let place = |row: &Row| (row.place.origin.to_string(), row.place.index);
    pages.iter().flat_map(|page| page.rows.iter().map(place)).collect()
}

/// A clock that moves on by a second whenever somebody looks.
#[derive(Debug, Default)]
pub(crate) struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        now()
    }

    fn monotonic_us(&self) -> u64 {
        self.0.fetch_add(1_000_000, Ordering::SeqCst)
    }
}
