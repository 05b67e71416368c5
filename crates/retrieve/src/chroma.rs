//! Chroma, by version 2 of its HTTP API.

use bartizan_filter::{Columns, Filter, Pushdown, Refused, Strictness, chroma};
use bartizan_model::CorpusRouteSpec;
use http::Method;
use serde_json::{Map, Value, json};

use crate::grammar::{Grammar, Search, key};
use crate::layout::BODY;
use crate::row::{Access, Entry, Row, Style};
use crate::seal::Seals;
use crate::step::Step;

/// The words for a collection.
pub(crate) struct Chroma<'r> {
    pub(crate) route: &'r CorpusRouteSpec,
    pub(crate) base: String,
    pub(crate) columns: Columns,
}

impl Chroma<'_> {
    fn post(&self, verb: &str, body: &Value) -> Step {
        Step::json(Method::POST, format!("{}/{verb}", self.base), body)
    }

    fn filtered(
        &self,
        verb: &str,
        filter: &Filter,
        mut body: Map<String, Value>,
    ) -> Result<Pushdown<Step>, Refused> {
        Ok(match chroma(filter, &self.columns, Strictness::Exact)? {
            Pushdown::Never => Pushdown::Never,
            Pushdown::Query { query, complete } => {
                if let Some(query) = query {
                    body.insert("where".to_owned(), query);
                }
                Pushdown::Query { query: self.post(verb, &Value::Object(body)), complete }
            }
        })
    }
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Grammar for Chroma<'_> {
    fn search(&self, search: &Search<'_>) -> Result<Pushdown<Step>, Refused> {
        let body = object([
            ("query_embeddings", json!([search.vector])),
            ("n_results", json!(search.limit)),
            ("include", json!(["documents", "metadatas", "distances"])),
        ]);
        self.filtered("query", search.filter, body)
    }

    fn look(&self, place: &Filter, limit: u32) -> Result<Pushdown<Step>, Refused> {
        let body = object([("limit", json!(limit)), ("include", json!(["documents", "metadatas"]))]);
        self.filtered("get", place, body)
    }

    fn remove(&self, place: &Filter) -> Result<Pushdown<Step>, Refused> {
        self.filtered("delete", place, Map::new())
    }

    fn add(&self, access: &Access, entries: &[Entry], seals: &Seals<'_>) -> Step {
        let (mut ids, mut vectors, mut texts, mut told) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let mut fields = entry.fields(access, seals, self.route);
            texts.push(fields.remove(BODY).unwrap_or_default());
            ids.push(key(seals, access, entry).to_string());
            vectors.push(json!(entry.vector));
            told.push(Value::Object(fields));
        }
        let body = json!({"ids": ids, "embeddings": vectors, "documents": texts, "metadatas": told});
        self.post("upsert", &body)
    }

    fn rewrite(
        &self,
        _: &Filter,
        keys: &[String],
        access: &Access,
        seals: &Seals<'_>,
    ) -> Result<Pushdown<Step>, Refused> {
        if keys.is_empty() {
            return Ok(Pushdown::Never);
        }
        // What is not named stays, so what is gone is named as null.
        let fields = access.sealed(seals, (Style::Payload, true));
        let told: Vec<_> = keys.iter().map(|_| fields.clone()).collect();
        let query = self.post("update", &json!({"ids": keys, "metadatas": told}));
        Ok(Pushdown::Query { query, complete: true })
    }

    fn rows(&self, answer: &Value) -> Option<(Vec<Row>, u64)> {
        // A search answers with one list for each of its vectors, and there was one.
        let of = |name: &str| {
            let list = answer.get(name)?.as_array()?;
            match list.first() {
                Some(Value::Array(inner)) => Some(inner),
                _ => Some(list),
            }
        };
        let (ids, texts, told) = (of("ids")?, of("documents")?, of("metadatas")?);
        let near = answer.get("distances").filter(|d| !d.is_null()).and_then(|_| of("distances"));
        let read = |(n, id): (usize, &Value)| {
            let mut fields = told.get(n)?.as_object()?.clone();
            fields.insert(BODY.to_owned(), texts.get(n)?.clone());
            let mut row = Row::read(&fields, near.and_then(|near| near.get(n)?.as_f64()), self.route)?;
            row.key = Some(id.as_str()?.to_owned());
            Some(row)
        };
        let rows: Vec<Row> = ids.iter().enumerate().filter_map(read).collect();
        let none = ids.len().saturating_sub(rows.len());
        Some((rows, none as u64))
    }

    fn done(&self, _: &Value) -> bool {
        // Its status says all there is; writes are answered once they are in its log, which searches read as well.
        true
    }
}
