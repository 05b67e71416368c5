//! OpenSearch with its k-NN fields, by its HTTP API.

use bartizan_filter::{Columns, Filter, Pushdown, Refused, Strictness, opensearch};
use bartizan_model::CorpusRouteSpec;
use http::Method;
use serde_json::{Value, json};

use crate::grammar::{Grammar, Search, key};
use crate::layout::EMBEDDING;
use crate::row::{Access, Entry, Row, Style};
use crate::seal::Seals;
use crate::step::Step;

/// The words for an index.
pub(crate) struct OpenSearch<'r> {
    pub(crate) route: &'r CorpusRouteSpec,
    pub(crate) base: String,
    pub(crate) columns: Columns,
}

impl OpenSearch<'_> {
    fn filtered(
        &self,
        verb: &str,
        filter: &Filter,
        body: impl FnOnce(Value) -> Value,
    ) -> Result<Pushdown<Step>, Refused> {
        Ok(match opensearch(filter, &self.columns, Strictness::Exact)? {
            Pushdown::Never => Pushdown::Never,
            Pushdown::Query { query, complete } => {
                let query = Step::json(Method::POST, format!("{}/{verb}", self.base), &body(query));
                Pushdown::Query { query, complete }
            }
        })
    }
}

impl Grammar for OpenSearch<'_> {
    fn search(&self, search: &Search<'_>) -> Result<Pushdown<Step>, Refused> {
        let (vector, size) = (search.vector, search.limit);
        // Within the vector query, so that it is applied while neighbours are looked for (engines Lucene and Faiss).
        self.filtered("_search", search.filter, |filter| {
            json!({
                "size": size,
                "query": {"knn": {EMBEDDING: {"vector": vector, "k": size, "filter": filter}}},
                "_source": {"excludes": [EMBEDDING]},
                "track_total_hits": false,
            })
        })
    }

    fn look(&self, place: &Filter, limit: u32) -> Result<Pushdown<Step>, Refused> {
        self.filtered("_search", place, |filter| {
            json!({
                "size": limit,
                "query": filter,
                "_source": {"excludes": [EMBEDDING]},
                "track_total_hits": false,
            })
        })
    }

    fn remove(&self, place: &Filter) -> Result<Pushdown<Step>, Refused> {
        self.filtered("_delete_by_query?refresh=true", place, |filter| json!({ "query": filter }))
    }

    fn add(&self, access: &Access, entries: &[Entry], seals: &Seals<'_>) -> Step {
        let mut body = String::new();
        for entry in entries {
            let mut fields = entry.fields(access, seals, self.route);
            fields.insert(EMBEDDING.to_owned(), json!(entry.vector));
            let act = json!({"index": {"_id": key(seals, access, entry)}});
            body.push_str(&format!("{act}\n{}\n", Value::Object(fields)));
        }
        Step::Http {
            method: Method::POST,
            path: format!("{}/_bulk?refresh=true", self.base),
            body: body.into(),
            media: "application/x-ndjson",
        }
    }

    fn rewrite(
        &self,
        place: &Filter,
        _: &[String],
        access: &Access,
        seals: &Seals<'_>,
    ) -> Result<Pushdown<Step>, Refused> {
        let fields = access.sealed(seals, (Style::Payload, true));
        self.filtered("_update_by_query?refresh=true", place, |filter| {
            // The text of the script is always the same, so it is compiled once.
            json!({
                "query": filter,
                "script": {"lang": "painless", "source": "ctx._source.putAll(params.access)", "params": {"access": fields}},
            })
        })
    }

    fn rows(&self, answer: &Value) -> Option<(Vec<Row>, u64)> {
        let timed_out = answer.get("timed_out").and_then(Value::as_bool);
        if timed_out != Some(false) {
            return None;
        }
        let found = answer.get("hits")?.get("hits")?.as_array()?;
        let read = |hit: &Value| {
            Row::read(hit.get("_source")?.as_object()?, hit.get("_score").and_then(Value::as_f64), self.route)
        };
        let rows: Vec<Row> = found.iter().filter_map(read).collect();
        let none = found.len().saturating_sub(rows.len());
        Some((rows, none as u64))
    }

    fn done(&self, answer: &Value) -> bool {
        let errors = answer.get("errors").and_then(Value::as_bool);
        let failures = answer.get("failures").and_then(Value::as_array).map(|all| !all.is_empty());
        let timed_out = answer.get("timed_out").and_then(Value::as_bool).unwrap_or(false);
        errors.or(failures) == Some(false) && !timed_out
    }
}
