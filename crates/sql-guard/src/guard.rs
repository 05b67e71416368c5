//! From a text to a statement that may be run.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::Name;
use bartizan_model::DatabaseRouteSpec;
use bartizan_model::database_route::SqlType;
use sqlparser::ast::{Query as Parsed, Statement as Given};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::look::Looked;
use crate::names::Rules;
use crate::print::{Placeholders, Seen, print};
use crate::refusal::{Refusal, Why, shown};
use crate::resolve::{Output, Resolver};
use crate::tree::{Expr, Origins, Query};

/// Bytes of a statement.
const TEXT_MAX: usize = 32 << 10;
/// Words and signs of a statement.
const TOKENS_MAX: usize = 6_000;
/// How deep the parser goes.
const PARSER_DEPTH_MAX: usize = 40;
/// Bytes of a statement as it is printed.
const PRINTED_MAX: usize = 512 << 10;
/// Parameters of a statement.
const PARAMETERS_MAX: usize = 64;

/// A value that is bound, never pasted.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// Nothing.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A floating point number.
    Number(f64),
    /// A text; of every other type, too, for the database to read.
    Text(String),
    /// Whole numbers, for PostgreSQL alone.
    Integers(Vec<i64>),
    /// Texts, for PostgreSQL alone.
    Texts(Vec<String>),
}

/// Values of parameters by their names, with their types.
pub type Values = BTreeMap<String, (SqlType, Parameter)>;

/// How a column is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Whether anything is computed, compared, grouped or ordered with it, so that something of its values shows otherwise than by being
    /// given out.
    pub computed: bool,
}

/// An output of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// What whoever asked called it.
    pub name: String,
    /// The declared columns whose values it gives out as they are.
    pub origins: Origins,
}

/// Which rows of a table a statement sees.
#[derive(Clone, Debug, PartialEq)]
pub struct RowsOf {
    /// A condition of our own making over one row, whose columns are called `"r"."COLUMN"`. Its placeholders go on after the values that
    /// the statement has by then.
    pub condition: String,
    /// Their values.
    pub values: Vec<Parameter>,
    /// The columns that it looks at.
    pub reads: BTreeSet<Name>,
}

/// What a condition of [`RowsOf`] calls the row.
pub const ROW: &str = "r";

/// A statement that may be run, if whoever asks may read what it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    rules: Rules,
    query: Query,
    /// What it gives.
    pub columns: Vec<Column>,
    /// The tables that it reads.
    pub tables: BTreeSet<Name>,
    /// The columns that it reads, by table and own name.
    pub reads: BTreeMap<(Name, Name), Read>,
    /// The values that are bound, in their order.
    pub values: Vec<Parameter>,
    rows: BTreeMap<Name, RowsOf>,
}

impl Statement {
    /// What it says.
    #[must_use]
    pub const fn tree(&self) -> &Query {
        &self.query
    }

    /// The same statement, seeing some rows of `table` alone, wherever it names that table. They are all that it can join, count or
    /// compare: each mention of the table is written as a query of these rows, within which nothing of the statement stands.
    ///
    /// # Errors
    /// When it gets too long.
    pub fn seeing(mut self, table: &Name, rows: RowsOf) -> Result<Self, Refusal> {
        self.values.extend(rows.values.iter().cloned());
        self.rows.insert(table.clone(), rows);
        self.bounded()
    }

    /// The number that the next placeholder has.
    #[must_use]
    pub const fn next_placeholder(&self) -> usize {
        self.values.len().saturating_add(1)
    }

    /// The columns that are looked at to tell which rows are seen, by table. They are not [read](Self::reads): nothing of the statement
    /// sees them.
    pub fn looked_at(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.rows.iter().flat_map(|(table, rows)| rows.reads.iter().map(move |column| (table, column)))
    }

    fn bounded(self) -> Result<Self, Refusal> {
        if self.text().len() > PRINTED_MAX {
            return Err(Why::TooLarge("longer than 512 KiB with every name written out").into());
        }
        Ok(self)
    }

    fn printed(&self, query: &Query) -> String {
        if self.rows.is_empty() {
            return print(self.rules, Placeholders::Numbered, &Seen::default(), query);
        }
        let Looked { used, calm } = Looked::at(self.rules, query);
        print(
            self.rules,
            Placeholders::Numbered,
            &Seen { rows: Some(&self.rows), used, fenced: !calm },
            query,
        )
    }

    /// The statement as it is written for the database.
    #[must_use]
    pub fn text(&self) -> String {
        self.printed(&self.query)
    }

    /// The same, giving at most `rows` rows. Each value comes as JSON text of at most `characters` characters where the database is
    /// PostgreSQL, which knows its own types best.
    #[must_use]
    pub fn executed(&self, rows: u32, characters: u32) -> String {
        let mut query = self.query.clone();
        if query.limit.is_none() {
            query.limit = Some(Expr::Number(rows.to_string()));
        }
        let inner = self.printed(&query);
        if self.rules == Rules::Sqlite {
            return inner;
        }
        let outputs = (1..=self.columns.len()).map(|at| {
            format!("pg_catalog.\"left\"(CAST(pg_catalog.to_json(\"q\".\"c{at}\") AS text), {characters}) AS \"c{at}\"")
        });
        format!("SELECT {} FROM ({inner}) AS \"q\"", outputs.collect::<Vec<_>>().join(", "))
    }

    /// The statement as [`analyse`] reads it again, with parameters called `p1`, `p2` …
    #[cfg(test)]
    pub(crate) fn readable(&self) -> String {
        print(self.rules, Placeholders::Named, &Seen::default(), &self.query)
    }
}

pub(crate) const fn rules(route: &DatabaseRouteSpec) -> Rules {
    if route.is_postgres() { Rules::Postgres } else { Rules::Sqlite }
}

/// Reads a statement that is to be run by `route`, with `values` for its parameters.
///
/// # Errors
/// When it is not one query that is surely understood, over what is declared and allowed.
pub fn analyse(route: &DatabaseRouteSpec, sql: &str, values: &Values) -> Result<Statement, Refusal> {
    if values.len() > PARAMETERS_MAX {
        return Err(Why::TooLarge("more than 64 parameters").into());
    }
    let rules = rules(route);
    let parsed = parse(rules, sql)?;
    let mut resolver = Resolver::new(rules, route, values);
    let (query, outputs) = resolver.statement(&parsed)?;
    let columns = outputs.into_iter().map(|Output { shown, origins, .. }| Column { name: shown, origins });
    let columns = columns.collect();
    let (tables, reads, values) = resolver.finish()?;
    Statement { rules, query, columns, tables, reads, values, rows: BTreeMap::new() }.bounded()
}

fn parse(rules: Rules, sql: &str) -> Result<Parsed, Refusal> {
    if sql.len() > TEXT_MAX {
        return Err(Why::TooLarge("longer than 32 KiB").into());
    }
    if sql.contains('\0') {
        return Err(Why::Syntax("it holds a character of code 0".to_owned()).into());
    }
    let dialect: &dyn Dialect = match rules {
        Rules::Postgres => &PostgreSqlDialect {},
        Rules::Sqlite => &SQLiteDialect {},
    };
    let syntax = |error: ParserError| -> Refusal {
        match error {
            ParserError::RecursionLimitExceeded => Why::TooLarge("nested too deeply").into(),
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                Why::Syntax(text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect())
                    .into()
            }
        }
    };
    let tokens = Tokenizer::new(dialect, sql).tokenize_with_location().map_err(|e| syntax(e.into()))?;
    if tokens.len() > TOKENS_MAX {
        return Err(Why::TooLarge("more than 6,000 words and signs").into());
    }
    // Something behind the first statement, also if the parser would pass over it.
    let meant = |token: &&sqlparser::tokenizer::TokenWithSpan| {
        !matches!(token.token, Token::Whitespace(_) | Token::EOF)
    };
    let last = tokens.iter().rev().find(meant).map(|token| token.span);
    let stray = tokens.iter().filter(meant).find(|t| t.token == Token::SemiColon && Some(t.span) != last);
    if let Some(stray) = stray {
        return Err(Refusal::at(Why::NotOne, stray.span));
    }
    let mut parser =
        Parser::new(dialect).with_recursion_limit(PARSER_DEPTH_MAX).with_tokens_with_locations(tokens);
    let mut statements = parser.parse_statements().map_err(syntax)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(Given::Query(query)), true) => Ok(*query),
        (Some(_), true) => Err(Why::NotAQuery.into()),
        _ => Err(Why::NotOne.into()),
    }
}

/// What of a route would never work: functions nobody knows, templates that are refused.
///
/// # Errors
/// The place in the route, and why.
pub fn check_route(route: &DatabaseRouteSpec) -> Result<(), String> {
    let postgres = route.is_postgres();
    if let Some(name) = route.functions.iter().find(|name| !crate::is_known_function(postgres, name.as_str()))
    {
        return Err(format!("`functions`: `{}` is none that a route may allow", shown(name.as_str())));
    }
    for (name, template) in &route.templates {
        let values =
            template.parameters.iter().map(|(name, kind)| (name.to_string(), (*kind, Parameter::Null)));
        analyse(route, template.sql.as_str(), &values.collect())
            .map_err(|refusal| format!("template `{name}`: {refusal}"))?;
    }
    Ok(())
}

/// What a hidden column gives.
pub(crate) fn nothing(kind: SqlType) -> Expr {
    Expr::Cast { of: Box::new(Expr::Null), kind }
}
