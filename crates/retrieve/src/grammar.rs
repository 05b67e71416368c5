//! What every store is asked, in its own words.

use bartizan_base::Name;
use bartizan_filter::{Check, Filter, Pushdown, Refused, Relation, Tree, Value};
use bartizan_model::{CorpusRouteSpec, CorpusStore, Tenant};
use serde_json::Value as Json;

use crate::chroma::Chroma;
use crate::language::test;
use crate::layout::{COLLECTION, ID, SYNCED, TENANT};
use crate::opensearch::OpenSearch;
use crate::pgvector::Pgvector;
use crate::qdrant::Qdrant;
use crate::row::{Access, Entry, Row};
use crate::seal::Seals;
use crate::step::Step;

/// A search.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// What rows must match, all of it: place, policy, the caller's own filter.
    pub filter: &'a Filter,
    /// What they are to be near to.
    pub vector: &'a [f32],
    /// The most rows.
    pub limit: u32,
}

/// The words of one store for one corpus. Pure: nothing is sent.
pub trait Grammar {
    /// The nearest rows that match, the nearest first. The filter is part of the search and not applied to what it found.
    ///
    /// # Errors
    /// [`Refused`], with every part of the filter that the store cannot be asked.
    fn search(&self, search: &Search<'_>) -> Result<Pushdown<Step>, Refused>;

    /// Rows that match, in no order.
    ///
    /// # Errors
    /// As [`Grammar::search`].
    fn look(&self, place: &Filter, limit: u32) -> Result<Pushdown<Step>, Refused>;

    /// Removes what matches. When it is answered, no search finds it any more.
    ///
    /// # Errors
    /// As [`Grammar::search`].
    fn remove(&self, place: &Filter) -> Result<Pushdown<Step>, Refused>;

    /// Adds passages of a document that has none.
    fn add(&self, access: &Access, entries: &[Entry], seals: &Seals<'_>) -> Step;

    /// Writes a new access list to what matches; `keys` are those of the rows, as [`Grammar::rows`] gave them.
    ///
    /// # Errors
    /// As [`Grammar::search`].
    fn rewrite(
        &self,
        place: &Filter,
        keys: &[String],
        access: &Access,
        seals: &Seals<'_>,
    ) -> Result<Pushdown<Step>, Refused>;

    /// The rows of an answer, with how many of them are none. None where the answer is not one of the store.
    fn rows(&self, answer: &Json) -> Option<(Vec<Row>, u64)>;

    /// Whether an answer to a change says that all of it was done.
    fn done(&self, answer: &Json) -> bool;
}

/// The words for a corpus; none where the route names fields that no column can have.
#[must_use]
pub fn grammar<'r>(route: &'r CorpusRouteSpec) -> Option<Box<dyn Grammar + Send + Sync + 'r>> {
    let columns = crate::layout::columns(route).ok()?;
    Some(match &route.store {
        CorpusStore::Pgvector { table, .. } => Box::new(Pgvector { route, table, columns }),
        CorpusStore::Chroma { tenant, database, collection, .. } => {
            let base = format!("/api/v2/tenants/{tenant}/databases/{database}/collections/{collection}");
            Box::new(Chroma { route, base, columns })
        }
        CorpusStore::Qdrant { collection, vector, .. } => Box::new(Qdrant {
            route,
            base: format!("/collections/{collection}/points"),
            vector: vector.as_ref(),
            columns,
        }),
        CorpusStore::Opensearch { index, .. } => {
            Box::new(OpenSearch { route, base: format!("/{index}"), columns })
        }
    })
}

/// The rows of a collection of a tenant whose access lists are at least this fresh. Every search is within one of these.
#[must_use]
pub fn place(tenant: &Tenant, collection: &Name, synced_min_ms: u64) -> Filter {
    let fresh = i64::try_from(synced_min_ms).unwrap_or(i64::MAX);
    Tree::all([
        is(TENANT, &tenant.0),
        is(COLLECTION, collection),
        test(SYNCED, Check::Order(Relation::GreaterOrEqual, Value::Long(fresh))),
    ])
}

/// The rows of one document; with `synced_max_ms` only those whose access list is no newer.
#[must_use]
pub fn at(tenant: &Tenant, collection: &Name, id: &Name, synced_max_ms: Option<u64>) -> Filter {
    let older = synced_max_ms.map(|most| {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        test(SYNCED, Check::Order(Relation::LessOrEqual, Value::Long(most)))
    });
    let own = [is(TENANT, &tenant.0), is(COLLECTION, collection), is(ID, id)];
    Tree::all(own.into_iter().chain(older))
}

fn is(field: &str, text: &str) -> Filter {
    test(field, Check::In(vec![Value::Text(text.to_owned())]))
}

/// The key of a row in stores that take one: the same for the same passage, and nobody else's.
pub(crate) fn key(seals: &Seals<'_>, access: &Access, entry: &Entry) -> bartizan_base::Digest {
    let collection = access.collection().map(Name::as_str).unwrap_or_default();
    let number = entry.passage.chunk.to_string();
    let parts = [seals.tenant().0.as_str(), collection, access.id.as_str(), &number];
    // Names hold no line feed.
    bartizan_base::Digest::of(parts.join("\n").as_bytes())
}
