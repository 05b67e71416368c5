//! What is run, and what comes of it.

use std::collections::BTreeSet;

use bartizan_base::{Digest, Name, json};
use bartizan_model::ReasonCode;
use bartizan_model::database_route::QueryLimits;
use bartizan_record::Running;
use bartizan_sql_guard::{Parameter, Statement};
use serde_json::{Value, json};

/// In whose name a statement runs, as row security sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whose house: `bartizan.tenant`.
    pub tenant: String,
    /// Who is responsible: `bartizan.subject`.
    pub subject: String,
    /// What they are, `user` or `agent`: `bartizan.subject_kind`.
    pub kind: String,
    /// Groups they are in, directly or not: `bartizan.groups`, as a JSON array.
    pub groups: BTreeSet<String>,
    /// Who was in between, outermost first, each `kind/name`: `bartizan.actors`, as a JSON array.
    pub actors: Vec<String>,
}

impl Identity {
    /// The settings in which a database sees it.
    pub(crate) fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("bartizan.tenant", self.tenant.clone()),
            ("bartizan.subject", self.subject.clone()),
            ("bartizan.subject_kind", self.kind.clone()),
            ("bartizan.groups", json!(self.groups).to_string()),
            ("bartizan.actors", json!(self.actors).to_string()),
        ]
    }
}

/// A statement that is to be run.
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) text: String,
    /// The statement without what makes JSON of its values: only its types are asked for.
    pub(crate) inner: String,
    pub(crate) values: Vec<Parameter>,
    pub(crate) identity: Identity,
    pub(crate) limits: QueryLimits,
    pub(crate) columns: usize,
    /// Tables and columns that it reads, by their own names.
    pub(crate) reads: BTreeSet<(Name, Name)>,
    /// Tables and columns that are looked at to tell which rows it sees.
    pub(crate) looked_at: BTreeSet<(Name, Name)>,
    pub(crate) tables: BTreeSet<Name>,
}

impl Run {
    /// `statement`, to be run within `limits` in somebody's name.
    #[must_use]
    pub fn new(statement: &Statement, identity: Identity, limits: QueryLimits) -> Self {
        // One row more than is given shows that there are more.
        let rows = limits.rows.saturating_add(1);
        Self {
            text: statement.executed(rows, limits.bytes.saturating_add(1)),
            inner: statement.text(),
            values: statement.values.clone(),
            identity,
            limits,
            columns: statement.columns.len(),
            reads: statement.reads.keys().cloned().collect(),
            looked_at: statement.looked_at().map(|(table, column)| (table.clone(), column.clone())).collect(),
            tables: statement.tables.clone(),
        }
    }

    /// What it is recorded by: a digest of the text as it is executed, its values and the identity.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let values: Vec<Value> = self.values.iter().map(as_json).collect();
        let whole = json!({"identity": self.identity.settings(), "sql": self.text, "values": values});
        // Texts and numbers always have a canonical form.
        Digest::of(&json::canonical(&whole).unwrap_or_default())
    }
}

fn as_json(value: &Parameter) -> Value {
    match value {
        Parameter::Null => Value::Null,
        Parameter::Boolean(value) => json!(value),
        // As text: JSON's canonical form keeps whole numbers only below 2^53.
        Parameter::Integer(value) => json!({"integer": value.to_string()}),
        Parameter::Number(value) => json!({"number": value.to_string()}),
        Parameter::Text(value) => json!(value),
        Parameter::Integers(values) => {
            json!({"integers": values.iter().map(ToString::to_string).collect::<Vec<_>>()})
        }
        Parameter::Texts(values) => json!(values),
    }
}

/// What a statement gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The type of each column, as the database calls it.
    pub types: Vec<String>,
    /// The values.
    pub rows: Vec<Vec<Value>>,
    /// Whether there was more than the limits let through.
    pub truncated: bool,
    /// Bytes of the values.
    pub bytes: u64,
}

/// What a statement gave, and the effect, to be told how it ended.
#[derive(Debug)]
pub struct Answered {
    /// What.
    pub rows: Rows,
    /// The effect.
    pub running: Running,
}

/// Nothing came back.
#[derive(Debug)]
pub struct Failed {
    /// Why, as far as the caller may know.
    pub reason: ReasonCode,
    /// What of the statement's own text is wrong, where the database said so without looking at data: never more than a word of a
    /// closed list.
    pub hint: Option<&'static str>,
    /// The effect.
    pub running: Running,
}

/// Why nothing came back; the detail is in the log by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: ReasonCode,
    pub(crate) hint: Option<&'static str>,
}

impl From<ReasonCode> for Failure {
    fn from(reason: ReasonCode) -> Self {
        Self { reason, hint: None }
    }
}
