//! Answering queries, page by page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_model::record::Record;
use bartizan_query::{Facts, Query};
use rusqlite::{Connection, params_from_iter};

use crate::compile::Sql;
use crate::cursor::{Cursor, CursorError, Key, Pin, question};
use crate::error::{IndexError, LogFailure};
use crate::index::{Index, log_id};

/// The most rows of a page.
pub const LIMIT_MAX: usize = 1_000;

/// After how many of its steps SQLite looks at the clock: some tens of microseconds.
const STEPS: i32 = 1_000;

/// What the index asks of the ledger.
pub trait Entries {
    /// The entries at `places`, in that order; none for one that is not there. They must have been held against the
    /// tree: what is given out here is what the searcher gets to see.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn entries(&self, places: &[Place]) -> Result<Vec<Option<Vec<u8>>>, LogFailure>;
}

impl<F: Fn(&[Place]) -> Result<Vec<Option<Vec<u8>>>, LogFailure>> Entries for F {
    fn entries(&self, places: &[Place]) -> Result<Vec<Option<Vec<u8>>>, LogFailure> {
        self(places)
    }
}

/// A place in a sealed log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The log's name.
    pub origin: Arc<str>,
    /// The entry's index.
    pub index: u64,
}

/// Which entries come first. Those of one moment have an order too, the same in every index of the same logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The latest.
    #[default]
    Newest,
    /// The earliest.
    Oldest,
}

impl Order {
    /// The name in requests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
        }
    }
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// What is asked for.
    pub query: &'a Query,
    /// What comes first.
    pub order: Order,
    /// How many rows a page has, 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// Which page; none for a first page over all that is indexed now.
    pub cursor: Option<&'a Cursor>,
    /// The moment of the question; of no meaning with a cursor, which has its own.
    pub now: Timestamp,
    /// How long the answer may take.
    pub time_max: Duration,
}

/// A part of an answer. There is no total: counting is as long as reading everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// What was found, in the order that was asked for.
    pub rows: Vec<Row>,
    /// This page: asked for by it, it comes again as it is now, for ever.
    pub here: Cursor,
    /// The page after this one, if there is more to look at.
    pub next: Option<Cursor>,
    /// How many entries the index named that the log does not bear out. More than none: the index is damaged or not of
    /// this log, and should be rebuilt.
    pub unconfirmed: u64,
}

/// An entry that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it is sealed.
    pub place: Place,
    /// What it says.
    pub record: Record,
    /// The entry as it stands in the log.
    pub entry: Vec<u8>,
}

impl Index {
    /// Answers a question. Whatever is found was read from the `log` and held against the query.
    ///
    /// # Errors
    /// `Cursor` for a cursor of another question; `Behind` while the index has not reached what the cursor's pages are
    /// made of; `QueryTooSlow` beyond the time; `Unusable` for a damaged index; `Log` when the log cannot be read.
    pub fn search(&self, search: &Search<'_>, log: &dyn Entries) -> Result<Page, IndexError> {
        let time_max = u64::try_from(search.time_max.as_micros()).unwrap_or(u64::MAX);
        let (clock, start) = (Arc::clone(&self.clock), self.clock.monotonic_us());
        let too_late = move || clock.monotonic_us().saturating_sub(start) > time_max;
        let mut connection = self.reader()?;
        connection.progress_handler(STEPS, Some(too_late.clone()))?;
        let page = self.answer(&mut connection, search, log, &too_late);
        if !matches!(page, Err(IndexError::Unusable(_) | IndexError::Unavailable(_))) {
            connection.progress_handler(0, None::<fn() -> bool>)?;
            self.keep_reader(connection);
        }
        page
    }

    fn answer(
        &self,
        connection: &mut Connection,
        search: &Search<'_>,
        log: &dyn Entries,
        too_late: &dyn Fn() -> bool,
    ) -> Result<Page, IndexError> {
        // One snapshot for everything: sizes and rows fit each other.
        let snapshot = connection.transaction()?;
        let logs = Logs::of(&snapshot)?;
        let here = self.pin(search, &logs)?;
        let limit = search.limit.clamp(1, LIMIT_MAX);
        let (mut rows, mut unconfirmed, mut after) = (Vec::new(), 0, here.after);
        let next = loop {
            if too_late() {
                return Err(IndexError::QueryTooSlow);
            }
            let wanted = limit - rows.len();
            let sql = statement(search, &here, after, &logs, wanted + 1);
            let mut candidates = Vec::with_capacity(wanted + 1);
            let mut statement = snapshot.prepare(&sql.text)?;
            for key in statement.query_map(params_from_iter(sql.parameters), |row| {
                Ok(Key(row.get(0)?, row.get(1)?, row.get(2)?))
            })? {
                candidates.push(key?);
            }
            // One more than wanted tells whether there is more.
            let more = candidates.len() > wanted;
            candidates.truncate(wanted);
            after = candidates.last().copied().or(after);
            let named = candidates.len();
            let confirmed = self.confirmed(search, &here, &logs, &candidates, log)?;
            unconfirmed += u64::try_from(named - confirmed.len()).unwrap_or(u64::MAX);
            rows.extend(confirmed);
            if !more || rows.len() >= limit {
                break more.then_some(Cursor(Pin { after, ..here.clone() }));
            }
        };
        Ok(Page { rows, here: Cursor(here), next, unconfirmed })
    }

    /// What the pages of this question are made of.
    fn pin(&self, search: &Search<'_>, logs: &Logs) -> Result<Pin, IndexError> {
        let question = question(&self.tenant, search.order, search.query);
        let Some(Cursor(pin)) = search.cursor else {
            let sizes = logs.0.values().map(|(origin, size)| (origin.to_string(), *size)).collect();
            return Ok(Pin { question, now_us: search.now, sizes, after: None });
        };
        if pin.question != question {
            return Err(CursorError::OtherQuestion.into());
        }
        for (origin, needed) in &pin.sizes {
            let size = logs.0.get(&log_id(origin)).map_or(0, |(_, size)| *size);
            if size < *needed {
                return Err(IndexError::Behind { origin: origin.clone(), size, needed: *needed });
            }
        }
        Ok(pin.clone())
    }

    /// Reads the candidates from the log, and leaves out what the log does not bear out.
    fn confirmed(
        &self,
        search: &Search<'_>,
        pin: &Pin,
        logs: &Logs,
        candidates: &[Key],
        log: &dyn Entries,
    ) -> Result<Vec<Row>, IndexError> {
        let places: Vec<Place> = candidates
            .iter()
            .filter_map(|Key(_, log, index)| {
                Some(Place { origin: Arc::clone(&logs.0.get(log)?.0), index: *index })
            })
            .collect();
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let entries = log.entries(&places).map_err(IndexError::Log)?;
        let mut rows = Vec::with_capacity(places.len());
        for (place, entry) in places.into_iter().zip(entries) {
            let Some(entry) = entry else { continue };
            let Ok((record, facts)) = Facts::read(&entry, Some((&place.origin, place.index))) else {
                continue;
            };
            if record.tenant == self.tenant && search.query.matches(&facts, pin.now_us) {
                rows.push(Row { place, record, entry });
            }
        }
        Ok(rows)
    }
}

/// The logs of a snapshot, by number: name and size.
struct Logs(BTreeMap<i64, (Arc<str>, u64)>);

impl Logs {
    fn of(snapshot: &Connection) -> Result<Self, IndexError> {
        let mut statement = snapshot.prepare_cached("select id, origin, size from logs")?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, (Arc::from(row.get::<_, String>(1)?), row.get(2)?))))?;
        Ok(Self(rows.collect::<Result<_, _>>()?))
    }
}

/// The keys of at most `limit` entries after `after`.
fn statement(search: &Search<'_>, pin: &Pin, after: Option<Key>, logs: &Logs, limit: usize) -> Sql {
    let mut sql = Sql::of(search.query, pin.now_us);
    sql.text.insert_str(0, "select e.time_us, e.log, e.idx from entries e where ");
    let mut newer = Vec::new();
    for (log, (origin, size)) in &logs.0 {
        match pin.sizes.get(&**origin) {
            Some(pinned) if pinned == size => {}
            Some(pinned) => {
                sql.push_with(" and not (e.log = ", *log);
                sql.push_with(" and e.idx >= ", i64::try_from(*pinned).unwrap_or(i64::MAX));
                sql.push(")");
            }
            None => newer.push(*log),
        }
    }
    for (place, log) in newer.iter().enumerate() {
        sql.push_with(if place == 0 { " and e.log not in (" } else { ", " }, *log);
    }
    sql.push(if newer.is_empty() { "" } else { ")" });
    let (operator, direction) = match search.order {
        Order::Newest => ("<", "desc"),
        Order::Oldest => (">", "asc"),
    };
    if let Some(Key(time, log, index)) = after {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        sql.push(" and (e.time_us, e.log, e.idx) ");
        sql.push(operator);
        sql.push_with(" (", signed(time));
        sql.push_with(", ", log);
        sql.push_with(", ", signed(index));
        sql.push(")");
    }
    sql.push(&format!(" order by e.time_us {direction}, e.log {direction}, e.idx {direction}"));
    sql.push_with(" limit ", i64::try_from(limit).unwrap_or(i64::MAX));
    sql
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::time::ManualClock;
    use bartizan_model::Tenant;

    /// How SQLite goes about the second page of a query.
    fn plan(query: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.db");
        let index = Index::open(&path, Tenant::default_tenant(), Arc::new(ManualClock::default())).unwrap();
        let query: Query = query.parse().unwrap();
        let (order, now) = (Order::Newest, Timestamp::from_secs(1_795_000_000));
        let search = Search { query: &query, order, limit: 50, cursor: None, now, time_max: Duration::MAX };
        let connection = index.reader().unwrap();
        let logs = Logs::of(&connection).unwrap();
        let pin = index.pin(&search, &logs).unwrap();
        let sql = statement(&search, &pin, Some(Key(1, 2, 3)), &logs, 51);
        let mut explain = connection.prepare(&format!("explain query plan {}", sql.text)).unwrap();
        let lines =
            explain.query_map(params_from_iter(sql.parameters), |row| row.get::<_, String>(3)).unwrap();
        lines.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn pages_are_read_off_an_index_in_their_order() {
        for (query, index) in [
            ("", "by_time"),
            ("since:24h", "by_time"),
            ("bytes>100k -kind:refusal", "by_time"),
            ("kind:refusal since:24h", "by_kind"),
            ("kind:refusal subject:prn_01990000000070008000000000000001 since:7d", "by_subject"),
            ("action:model:invoke key:key_01990000000070008000000000000001", "by_key"),
            ("verdict:deny resource:gpt-4o", "by_resource"),
            ("event:started", "by_event"),
            ("decision:dec_01990000000070008000000000000001", "by_decision"),
        ] {
            let plan = plan(query);
            assert!(plan.contains(&format!("INDEX {index} (")), "{query}: {plan}");
            assert!(!plan.contains("TEMP B-TREE FOR ORDER BY"), "{query}: {plan}");
        }
    }

    #[test]
    fn telling_words_and_rules_are_looked_up_first() {
        for query in ["\"red zone\"", "rule:no-weekends kind:refusal", "reason:custom:red-zone"] {
            let plan = plan(query);
            assert!(plan.contains("SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"), "{query}: {plan}");
        }
    }
}
