//! Qdrant, by its HTTP API.

use bartizan_base::Name;
use bartizan_filter::{Columns, Filter, Pushdown, Refused, Strictness, qdrant};
use bartizan_model::CorpusRouteSpec;
use http::Method;
use serde_json::{Value, json};

use crate::grammar::{Grammar, Search, key};
use crate::row::{Access, Entry, Row, Style};
use crate::seal::Seals;
use crate::step::Step;

/// The words for a collection.
pub(crate) struct Qdrant<'r> {
    pub(crate) route: &'r CorpusRouteSpec,
    pub(crate) base: String,
    pub(crate) vector: Option<&'r Name>,
    pub(crate) columns: Columns,
}

impl Qdrant<'_> {
    /// With `wait`, a change is answered once searches see it.
    fn filtered(&self, verb: &str, filter: &Filter, mut body: Value) -> Result<Pushdown<Step>, Refused> {
        Ok(match qdrant(filter, &self.columns, Strictness::Exact)? {
            Pushdown::Never => Pushdown::Never,
            Pushdown::Query { query, complete } => {
                if let Some(members) = body.as_object_mut() {
                    members.insert("filter".to_owned(), query);
                }
                let query = Step::json(Method::POST, format!("{}/{verb}", self.base), &body);
                Pushdown::Query { query, complete }
            }
        })
    }
}

impl Grammar for Qdrant<'_> {
    fn search(&self, search: &Search<'_>) -> Result<Pushdown<Step>, Refused> {
        let mut body = json!({"query": search.vector, "limit": search.limit, "with_payload": true});
        if let Some((members, name)) = body.as_object_mut().zip(self.vector) {
            members.insert("using".to_owned(), json!(name));
        }
        self.filtered("query", search.filter, body)
    }

    fn look(&self, place: &Filter, limit: u32) -> Result<Pushdown<Step>, Refused> {
        self.filtered("scroll", place, json!({"limit": limit, "with_payload": true, "with_vector": false}))
    }

    fn remove(&self, place: &Filter) -> Result<Pushdown<Step>, Refused> {
        self.filtered("delete?wait=true", place, json!({}))
    }

    fn add(&self, access: &Access, entries: &[Entry], seals: &Seals<'_>) -> Step {
        let point = |entry: &Entry| {
            let vector = match self.vector {
                None => json!(entry.vector),
                Some(name) => json!({ name.as_str(): entry.vector }),
            };
            let id = uuid(&key(seals, access, entry).to_string());
            json!({"id": id, "vector": vector, "payload": entry.fields(access, seals, self.route)})
        };
        let points: Vec<Value> = entries.iter().map(point).collect();
        Step::json(Method::PUT, format!("{}?wait=true", self.base), &json!({ "points": points }))
    }

    fn rewrite(
        &self,
        place: &Filter,
        _: &[String],
        access: &Access,
        seals: &Seals<'_>,
    ) -> Result<Pushdown<Step>, Refused> {
        // What is not named stays, so what is gone is named as null.
        let fields = access.sealed(seals, (Style::Payload, true));
        self.filtered("payload?wait=true", place, json!({ "payload": fields }))
    }

    fn rows(&self, answer: &Value) -> Option<(Vec<Row>, u64)> {
        let found = answer.get("result")?.get("points")?.as_array()?;
        let read = |point: &Value| {
            Row::read(
                point.get("payload")?.as_object()?,
                point.get("score").and_then(Value::as_f64),
                self.route,
            )
        };
        let rows: Vec<Row> = found.iter().filter_map(read).collect();
        let none = found.len().saturating_sub(rows.len());
        Some((rows, none as u64))
    }

    fn done(&self, answer: &Value) -> bool {
        answer.pointer("/result/status").and_then(Value::as_str) == Some("completed")
    }
}

/// The first 128 bits of a digest as a UUID of one's own making (RFC 9562, version 8): Qdrant takes nothing else but numbers.
fn uuid(digits: &str) -> String {
    let mut out = String::new();
    for (place, digit) in digits.chars().take(32).enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(match place {
            12 => '8',
            // The variant: the two highest bits are 10.
            16 => char::from_digit(8 + digit.to_digit(4).unwrap_or(0), 16).unwrap_or('8'),
            _ => digit,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::uuid;

    #[test]
    fn a_digest_becomes_a_uuid_of_version_8() {
        let of = uuid("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(of, "e3b0c442-98fc-8c14-8afb-f4c8996fb924");
    }
}
