//! PostgreSQL with the extension `vector`.

use bartizan_base::Name;
use bartizan_filter::{Columns, Dialect, Filter, Pushdown, Refused, Sql, SqlValue, Strictness, sql};
use bartizan_model::{CorpusRouteSpec, Metric};
use serde_json::{Map, Value, json};

use crate::grammar::{Grammar, Search, key};
use crate::layout::{
    ACCESS_SEAL, BODY, CHUNK, COLLECTION, CONTENT_SEAL, EMBEDDING, ID, NEEDED, OPTIONAL, SETS, SYNCED,
    TENANT, metadata,
};
use crate::row::{Access, Entry, Row, Style};
use crate::seal::Seals;
use crate::step::{Statement, Step};

/// The words for a table.
pub(crate) struct Pgvector<'r> {
    pub(crate) route: &'r CorpusRouteSpec,
    pub(crate) table: &'r Name,
    pub(crate) columns: Columns,
}

/// A vector as `vector` reads it.
fn written(vector: &[f32]) -> SqlValue {
    let numbers: Vec<String> = vector.iter().map(ToString::to_string).collect();
    SqlValue::Text(format!("[{}]", numbers.join(",")))
}

impl Pgvector<'_> {
    fn table(&self) -> String {
        let parts: Vec<String> = self.table.split('.').map(|part| format!("\"{part}\"")).collect();
        parts.join(".")
    }

    /// A row as one JSON object, so that it is read like those of every other store.
    fn row(&self) -> String {
        let own = [ID, TENANT, COLLECTION, CHUNK, BODY, SYNCED, CONTENT_SEAL, ACCESS_SEAL];
        let fields = own.iter().chain(&NEEDED).chain(&SETS).chain(&OPTIONAL).map(ToString::to_string);
        let told = self.route.metadata.keys().map(|name| metadata(name));
        // Functions take at most 100 arguments.
        let parts: Vec<String> = fields.chain(told).map(|name| format!("'{name}', \"{name}\"")).collect();
        let objects: Vec<String> =
            parts.chunks(40).map(|some| format!("jsonb_build_object({})", some.join(", "))).collect();
        objects.join(" || ")
    }

    fn condition(&self, filter: &Filter, first: usize) -> Result<Option<Sql>, Refused> {
        Ok(match sql(filter, &self.columns, Dialect::PostgreSql, first, Strictness::Exact)? {
            Pushdown::Never => None,
            Pushdown::Query { query, .. } => Some(query),
        })
    }

    fn asked(&self, reads: bool, made: Option<Statement>) -> Pushdown<Step> {
        made.map_or(Pushdown::Never, |statement| Pushdown::Query {
            query: Step::Sql { statements: vec![statement], reads },
            complete: true,
        })
    }
}

impl Grammar for Pgvector<'_> {
    fn search(&self, search: &Search<'_>) -> Result<Pushdown<Step>, Refused> {
        let sign = match self.route.metric {
            Metric::Cosine => "<=>",
            Metric::Euclidean => "<->",
            Metric::InnerProduct => "<#>",
        };
        let statement = self.condition(search.filter, 2)?.map(|condition| {
            let Sql { text, values } = condition;
            let near = format!("\"{EMBEDDING}\" {sign} ($1::text)::vector");
            let (row, table, limit) = (self.row(), self.table(), search.limit);
            Statement {
                text: format!(
                    "SELECT {row} AS row, ({near})::float8 AS score FROM {table} WHERE ({text}) ORDER BY {near} LIMIT {limit}"
                ),
                values: std::iter::once(written(search.vector)).chain(values).collect(),
            }
        });
        Ok(match statement {
            None => Pushdown::Never,
            Some(statement) => {
                // An index of vectors is walked on until enough rows match, not just once.
                let walk = "SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('ivfflat.iterative_scan', 'relaxed_order', true)";
                let walk = Statement { text: walk.to_owned(), values: Vec::new() };
                Pushdown::Query {
                    query: Step::Sql { statements: vec![walk, statement], reads: true },
                    complete: true,
                }
            }
        })
    }

    fn look(&self, place: &Filter, limit: u32) -> Result<Pushdown<Step>, Refused> {
        let made = self.condition(place, 1)?.map(|Sql { text, values }| {
            let (row, table) = (self.row(), self.table());
            let text = format!(
                "SELECT {row} AS row, NULL::float8 AS score FROM {table} WHERE ({text}) LIMIT {limit}"
            );
            Statement { text, values }
        });
        Ok(self.asked(true, made))
    }

    fn remove(&self, place: &Filter) -> Result<Pushdown<Step>, Refused> {
        let made = self.condition(place, 1)?.map(|Sql { text, values }| Statement {
            text: format!("DELETE FROM {} WHERE ({text})", self.table()),
            values,
        });
        Ok(self.asked(false, made))
    }

    fn add(&self, access: &Access, entries: &[Entry], seals: &Seals<'_>) -> Step {
        let one = |entry: &Entry| {
            let mut fields = entry.fields(access, seals, self.route);
            fields.insert("key".to_owned(), json!(key(seals, access, entry)));
            let mut values = vec![written(&entry.vector)];
            let (mut names, mut places) =
                (vec![format!("\"{EMBEDDING}\"")], vec!["($1::text)::vector".to_owned()]);
            for (name, value) in &fields {
                let Some(value) = parameter(value) else { continue };
                values.push(value.0);
                names.push(format!("\"{name}\""));
                places.push(format!("${}::{}", values.len(), value.1));
            }
            let text =
                format!("INSERT INTO {} ({}) VALUES ({})", self.table(), names.join(", "), places.join(", "));
            Statement { text, values }
        };
        Step::Sql { statements: entries.iter().map(one).collect(), reads: false }
    }

    fn rewrite(
        &self,
        place: &Filter,
        _: &[String],
        access: &Access,
        seals: &Seals<'_>,
    ) -> Result<Pushdown<Step>, Refused> {
        let (mut values, mut sets) = (Vec::new(), Vec::new());
        for (name, value) in &access.sealed(seals, (Style::Table, false)) {
            match parameter(value) {
                Some((value, kind)) => {
                    values.push(value);
                    sets.push(format!("\"{name}\" = ${}::{kind}", values.len()));
                }
                None => sets.push(format!("\"{name}\" = NULL")),
            }
        }
        let first = values.len().saturating_add(1);
        let made = self.condition(place, first)?.map(|condition| Statement {
            text: format!("UPDATE {} SET {} WHERE ({})", self.table(), sets.join(", "), condition.text),
            values: values.into_iter().chain(condition.values).collect(),
        });
        Ok(self.asked(false, made))
    }

    fn rows(&self, answer: &Value) -> Option<(Vec<Row>, u64)> {
        let found = answer.as_array()?;
        let read = |one: &Value| {
            let fields: &Map<String, Value> = one.get("row")?.as_object()?;
            Row::read(fields, one.get("score").and_then(Value::as_f64), self.route)
        };
        let rows: Vec<Row> = found.iter().filter_map(read).collect();
        let none = found.len().saturating_sub(rows.len());
        Some((rows, none as u64))
    }

    fn done(&self, answer: &Value) -> bool {
        // A transaction that was committed.
        answer.is_array()
    }
}

/// A value as a parameter, with its type; none for null.
fn parameter(value: &Value) -> Option<(SqlValue, &'static str)> {
    Some(match value {
        Value::Bool(flag) => (SqlValue::Bool(*flag), "bool"),
        Value::Number(number) => (SqlValue::Int(number.as_i64()?), "int8"),
        Value::String(text) => (SqlValue::Text(text.clone()), "text"),
        Value::Array(items) => {
            let texts = items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
            (SqlValue::Texts(texts), "text[]")
        }
        Value::Null | Value::Object(_) => return None,
    })
}
