//! From a text to a statement that may be run.

use std::collections::BTreeMap;

use bartizan_base::Name;
use bartizan_model::DatabaseRouteSpec;
use bartizan_model::database_route::SqlType;
use sqlparser::ast::{Query as Parsed, Statement as Given};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::names::Rules;
use crate::print::{Placeholders, print};
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

/// A statement that may be run, if whoever asks may read what it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    rules: Rules,
    query: Query,
    /// What it gives.
    pub columns: Vec<Column>,
    /// The tables that it reads.
    pub tables: std::collections::BTreeSet<Name>,
    /// The columns that it reads, by table and own name.
    pub reads: BTreeMap<(Name, Name), Read>,
    /// The values that are bound, in their order.
    pub values: Vec<Parameter>,
}

impl Statement {
    /// What it says.
    #[must_use]
    pub const fn tree(&self) -> &Query {
        &self.query
    }

    /// The statement as it is written for the database.
    #[must_use]
    pub fn text(&self) -> String {
        print(self.rules, Placeholders::Numbered, &self.query)
    }

    /// The same, giving at most `rows` rows. Each value comes as JSON text of at most `characters` characters where the database is
    /// PostgreSQL, which knows its own types best.
    #[must_use]
    pub fn executed(&self, rows: u32, characters: u32) -> String {
        let mut query = self.query.clone();
        if query.limit.is_none() {
            query.limit = Some(Expr::Number(rows.to_string()));
        }
        let inner = print(self.rules, Placeholders::Numbered, &query);
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
        print(self.rules, Placeholders::Named, &self.query)
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
    let statement = Statement { rules, query, columns, tables, reads, values };
    if statement.text().len() > PRINTED_MAX {
        return Err(Why::TooLarge("longer than 512 KiB with every name written out").into());
    }
    Ok(statement)
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
