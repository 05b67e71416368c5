//! Conditions in SQL: a text with placeholders, and the values for them. No value is ever part of the text.

use crate::columns::{Column, Columns};
use crate::lower::{Notation, Op, compile};
use crate::plan::{Pushdown, Refused, Strictness};
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::tree::{Filter, Tree};

/// A dialect of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL 14 and later, also with `pgvector`. Placeholders are `$1`, `$2` …
    PostgreSql,
    /// SQLite 3.38 and later, with JSON. Placeholders are `?1`, `?2` …
    Sqlite,
}

/// A value for a placeholder. Its type in PostgreSQL is in the text: `bool`, `int8`, `text`, `int8[]`, `text[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlValue {
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A text; in SQLite also lists, as JSON.
    Text(String),
    /// Whole numbers, in PostgreSQL alone.
    Ints(Vec<i64>),
    /// Texts, in PostgreSQL alone.
    Texts(Vec<String>),
}

/// A condition for a `WHERE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sql {
    /// The condition, to be put in brackets beside others.
    pub text: String,
    /// The values, in the order of the placeholders.
    pub values: Vec<SqlValue>,
}

/// Compiles `filter` for a table with these columns. `first` is the number of the first placeholder, so that the condition can stand
/// beside one that has placeholders of its own.
///
/// # Errors
/// [`Refused`], with every part that SQL cannot be asked.
pub fn sql(
    filter: &Filter,
    columns: &Columns,
    dialect: Dialect,
    first: usize,
    strictness: Strictness,
) -> Result<Pushdown<Sql>, Refused> {
    let mut writer = Writer { dialect, values: Vec::new(), first };
    let compiled = compile(filter, columns, strictness, &mut writer)?;
    Ok(match compiled {
        Pushdown::Never => Pushdown::Never,
        Pushdown::Query { query, complete } => {
            let mut text = String::new();
            write(&query, &mut text);
            Pushdown::Query { query: Sql { text, values: writer.values }, complete }
        }
    })
}

/// Takes up values and hands out placeholders.
pub(crate) struct Writer {
    dialect: Dialect,
    values: Vec<SqlValue>,
    first: usize,
}

impl Writer {
    /// A placeholder for `value`.
    pub(crate) fn bind(&mut self, value: SqlValue) -> String {
        let place = match self.values.iter().position(|known| *known == value) {
            Some(place) => place,
            None => {
                self.values.push(value);
                self.values.len().saturating_sub(1)
            }
        };
        let sign = match self.dialect {
            Dialect::PostgreSql => '$',
            Dialect::Sqlite => '?',
        };
        format!("{sign}{}", self.first.saturating_add(place))
    }
}

impl Notation for Writer {
    type Part = String;

    fn test(&mut self, column: &Column, op: &Op<'_>) -> Result<Tree<String>, String> {
        let part = match self.dialect {
            Dialect::PostgreSql => Postgres(self).test(column, op)?,
            Dialect::Sqlite => Sqlite(self).test(column, op)?,
        };
        Ok(Tree::Leaf(part))
    }
}

/// The name as an identifier: each part in quotes. Names hold no quotes ([`Column::new`]).
pub(crate) fn quoted(name: &str) -> String {
    let parts: Vec<_> = name.split('.').map(|part| format!("\"{part}\"")).collect();
    parts.join(".")
}

fn write(tree: &Tree<String>, out: &mut String) {
    let (parts, sign) = match tree {
        // SQLite knows the words since 3.23.
        Tree::Always => return out.push_str("TRUE"),
        Tree::Never => return out.push_str("FALSE"),
        Tree::Leaf(part) => return out.push_str(part),
        Tree::All(parts) => (parts, " AND "),
        Tree::Any(parts) => (parts, " OR "),
    };
    out.push('(');
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            out.push_str(sign);
        }
        write(part, out);
    }
    out.push(')');
}
