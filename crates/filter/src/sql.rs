//! Conditions in SQL: a text with placeholders, and the values for them. No value is ever part of the text.

use crate::columns::{Column, Columns};
use crate::lower::{Notation, Op, compile};
use crate::plan::{Pushdown, Refused, Strictness};
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::tree::{Filter, Tree};

/// SQLite refuses expressions more than 1,000 deep, and a chain of `OR` is as deep as it is long.
const SQLITE_TESTS_MAX: usize = 900;

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
    let mut compiled = compile(filter, columns, strictness, &mut Notes { dialect })?;
    if dialect == Dialect::Sqlite {
        compiled = compiled.within(SQLITE_TESTS_MAX, "SQLite")?;
    }
    Ok(match compiled {
        Pushdown::Never => Pushdown::Never,
        Pushdown::Query { query, complete } => {
            let mut writer = Writer { dialect, first, text: String::new(), values: Vec::new() };
            writer.write(&query);
            Pushdown::Query { query: Sql { text: writer.text, values: writer.values }, complete }
        }
    })
}

/// One test: its text with [`HOLE`] for every value, and the values in that order. Placeholders are numbered only when the whole
/// condition is written, because not every test becomes part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Part {
    text: String,
    values: Vec<SqlValue>,
}

/// Stands for a value. Texts of tests hold no zero byte otherwise: names of columns cannot.
const HOLE: char = '\0';

/// The values of one test, in the order in which they stand in its text.
#[derive(Debug, Default)]
pub(crate) struct Values(Vec<SqlValue>);

impl Values {
    /// Takes up a value; what is returned stands for it in the text.
    pub(crate) fn bind(&mut self, value: SqlValue) -> String {
        self.0.push(value);
        HOLE.to_string()
    }
}

struct Notes {
    dialect: Dialect,
}

impl Notation for Notes {
    type Part = Part;

    fn test(&mut self, column: &Column, op: &Op<'_>) -> Result<Tree<Part>, String> {
        let mut values = Values::default();
        let text = match self.dialect {
            Dialect::PostgreSql => Postgres(&mut values).test(column, op)?,
            Dialect::Sqlite => Sqlite(&mut values).test(column, op)?,
        };
        Ok(Tree::Leaf(Part { text, values: values.0 }))
    }
}

/// The name as an identifier: each part in quotes. Names hold no quotes ([`Column::new`]).
pub(crate) fn quoted(name: &str) -> String {
    let parts: Vec<_> = name.split('.').map(|part| format!("\"{part}\"")).collect();
    parts.join(".")
}

struct Writer {
    dialect: Dialect,
    first: usize,
    text: String,
    values: Vec<SqlValue>,
}

impl Writer {
    fn write(&mut self, tree: &Tree<Part>) {
        let (parts, sign) = match tree {
            // SQLite knows the words since 3.23.
            Tree::Always => return self.text.push_str("TRUE"),
            Tree::Never => return self.text.push_str("FALSE"),
            Tree::Leaf(part) => return self.part(part),
            Tree::All(parts) => (parts, " AND "),
            Tree::Any(parts) => (parts, " OR "),
        };
        self.text.push('(');
        for (place, part) in parts.iter().enumerate() {
            if place > 0 {
                self.text.push_str(sign);
            }
            self.write(part);
        }
        self.text.push(')');
    }

    fn part(&mut self, part: &Part) {
        let mut values = part.values.iter();
        for (place, text) in part.text.split(HOLE).enumerate() {
            if place > 0
                && let Some(value) = values.next()
            {
                self.place(value);
            }
            self.text.push_str(text);
        }
    }

    /// A placeholder; equal values share one.
    fn place(&mut self, value: &SqlValue) {
        let place = self.values.iter().position(|known| known == value).unwrap_or_else(|| {
            self.values.push(value.clone());
            self.values.len().saturating_sub(1)
        });
        let sign = match self.dialect {
            Dialect::PostgreSql => '$',
            Dialect::Sqlite => '?',
        };
        self.text.push_str(&format!("{sign}{}", self.first.saturating_add(place)));
    }
}
