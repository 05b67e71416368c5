//! Which rows of a statement's tables its caller may see: what is left of policy once everything but the row is known, put into the
//! statement itself.

use std::collections::BTreeSet;

use bartizan_base::Name;
use bartizan_decide::RecordsQuestion;
use bartizan_filter::{BadName, Column, Columns, Dialect, Filter, Kind, Pushdown, SqlValue, Strictness, sql};
use bartizan_identify::Caller;
use bartizan_model::database_route::{RowAttribute, RowKind, RowRoute};
use bartizan_model::{AskFacts, DatabaseRouteSpec, EntityRef, Obligations, Problem, ReasonCode, Situation};
use bartizan_sql_guard::{Parameter, ROW, RowsOf, Statement};

use crate::scrub::DOOR;
use crate::world::TenantWorld;

/// By what rows are told apart.
pub(super) struct Seeing<'a> {
    pub(super) tenant: &'a TenantWorld,
    pub(super) caller: &'a Caller,
    pub(super) situation: &'a Situation,
    pub(super) facts: &'a AskFacts,
    pub(super) database: &'a Name,
    pub(super) route: &'a DatabaseRouteSpec,
    /// What is applied to all that the statement gives out.
    pub(super) applied: &'a Obligations,
}

impl Seeing<'_> {
    /// The statement over those rows alone that its caller may see, in every table on whose rows policy decides.
    ///
    /// What cannot be asked of the database is never left out: rows of a statement are joined and counted before anybody could look
    /// at them one by one.
    ///
    /// # Errors
    /// When the rows cannot be told apart in the database.
    pub(super) fn narrow(&self, statement: Statement) -> Result<Statement, Problem> {
        let guarded = |table: &Name| Some((table.clone(), self.route.tables.get(table)?.row.as_ref()?));
        let tables: Vec<(Name, &RowRoute)> = statement.tables.iter().filter_map(guarded).collect();
        tables.into_iter().try_fold(statement, |statement, (table, row)| {
            let rows = self.rows(&table, row, statement.next_placeholder()).map_err(|why| {
                tracing::warn!(database = %self.database, %table, why, "rows of a table cannot be told apart in the database");
                let detail = format!("which rows of `{table}` you may read cannot be asked of the database");
                Problem::with_detail(ReasonCode::RowsUndecidable, detail)
            })?;
            let refused = |refusal: bartizan_sql_guard::Refusal| {
                Problem::with_detail(ReasonCode::StatementRefused, refusal.to_string())
            };
            statement.seeing(&table, rows).map_err(refused)
        })
    }

    /// The rows of one table, with placeholders from `first` on.
    fn rows(&self, table: &Name, row: &RowRoute, first: usize) -> Result<RowsOf, String> {
        let asset = DatabaseRouteSpec::table_asset(self.database, table).ok_or("its name is too long")?;
        let question = RecordsQuestion {
            caller: self.caller,
            kind: &row.kind,
            action: row.action.as_str(),
            table: &EntityRef::new(Name::literal("Table"), asset),
            facts: self.facts,
            situation: self.situation,
            applied: self.applied,
        };
        let policy = self.tenant.policy_for(self.caller);
        let filter = policy.filter_records(&question, &DOOR).map_err(|error| error.to_string())?;
        rows_of(&filter, row, self.route.is_postgres(), first)
    }
}

/// A filter as a condition of the statement.
fn rows_of(filter: &Filter, row: &RowRoute, postgres: bool, first: usize) -> Result<RowsOf, String> {
    let columns = columns(row).map_err(|error| error.to_string())?;
    let dialect = if postgres { Dialect::PostgreSql } else { Dialect::Sqlite };
    let compiled = sql(filter, &columns, dialect, first, Strictness::Exact)
        .map_err(|refused| refused.because.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    Ok(match compiled {
        Pushdown::Never => {
            RowsOf { condition: "FALSE".to_owned(), values: Vec::new(), reads: BTreeSet::new() }
        }
        Pushdown::Query { query, .. } => RowsOf {
            condition: query.text,
            values: query.values.into_iter().map(parameter).collect(),
            reads: row.columns().cloned().collect(),
        },
    })
}

fn columns(row: &RowRoute) -> Result<Columns, BadName> {
    let column = |name: &Name, kind| Column::new(&format!("{ROW}.{name}"), kind);
    let mut columns = Columns::none();
    if let Some(id) = &row.id {
        columns = columns.id(column(id, Kind::EntityOf(row.kind.as_name().to_string()))?);
    }
    for (attribute, RowAttribute { column: name, kind, of, set, optional }) in &row.attributes {
        let kind = match (kind, of) {
            (RowKind::Boolean, _) => Kind::Bool,
            (RowKind::Integer, _) => Kind::Long,
            (RowKind::Text, _) => Kind::Text,
            (RowKind::Entity, None) => Kind::Entity,
            (RowKind::Entity, Some(of)) => Kind::EntityOf(of.as_name().to_string()),
            (RowKind::Milliseconds, _) => Kind::Milliseconds,
            (RowKind::Timestamp, _) => Kind::Timestamp,
            (RowKind::Numeric, _) => Kind::Numeric,
        };
        let mut column = column(name, kind)?;
        if *set {
            column = column.set();
        }
        if *optional {
            column = column.missing_is_absent();
        }
        columns = columns.attribute(attribute, column);
    }
    Ok(columns)
}

fn parameter(value: SqlValue) -> Parameter {
    match value {
        SqlValue::Bool(value) => Parameter::Boolean(value),
        SqlValue::Int(value) => Parameter::Integer(value),
        SqlValue::Text(value) => Parameter::Text(value),
        SqlValue::Ints(values) => Parameter::Integers(values),
        SqlValue::Texts(values) => Parameter::Texts(values),
    }
}
