//! Where rows come from.

use sqlparser::ast::{
    Ident, Join as ParsedJoin, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor,
    TableWithJoins,
};
use sqlparser::tokenizer::Span;

use bartizan_model::SqlType;

use crate::guard::nothing;
use crate::names::Rules;
use crate::refusal::{Refusal, Why};
use crate::resolve::scope::{Held, Scope, Source};
use crate::resolve::{Answer, Resolver};
use crate::tree::{Expr, From, Join, Origins};

/// The parts of a name, if it has no others than names.
pub(super) fn parts(name: &ObjectName) -> Answer<Vec<Ident>> {
    let part = |part: &sqlparser::ast::ObjectNamePart| part.as_ident().cloned();
    let parts: Option<Vec<Ident>> = name.0.iter().map(part).collect();
    parts.ok_or_else(|| Why::NotAllowed("such a name").into())
}

impl Resolver<'_> {
    /// One item of `FROM`, with the sources that it makes.
    pub(super) fn from(
        &mut self,
        item: &TableWithJoins,
        outer: Option<&Scope<'_>>,
    ) -> Answer<(From, Vec<Source>)> {
        let TableWithJoins { relation, joins } = item;
        let (mut from, mut sources) = self.deeper(|r| r.factor(relation, outer))?;
        for join in joins {
            let ParsedJoin { relation, global, join_operator } = join;
            if *global {
                return Err(Why::NotAllowed("a global join").into());
            }
            let (right, more) = self.deeper(|r| r.factor(relation, outer))?;
            sources.extend(more);
            distinct(&sources)?;
            let (kind, constraint) = joined(join_operator)?;
            let on = match (constraint, kind) {
                (JoinConstraint::None, Join::Cross) => None,
                (JoinConstraint::On(on), kind) if kind != Join::Cross => {
                    Some(self.expr(on, &Scope { sources: &sources, outer })?)
                }
                (JoinConstraint::Using(_), _) => {
                    return Err(Why::NotAllowed("`USING`: write the condition with `ON`").into());
                }
                (JoinConstraint::Natural, _) => {
                    return Err(Why::NotAllowed("`NATURAL`: write the condition with `ON`").into());
                }
                _ => return Err(Why::NotAllowed("a join of this kind without or with a condition").into()),
            };
            from = From::Join { left: Box::new(from), right: Box::new(right), kind, on };
        }
        Ok((from, sources))
    }

    fn factor(&mut self, factor: &TableFactor, outer: Option<&Scope<'_>>) -> Answer<(From, Vec<Source>)> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                self.relation(&parts(name)?, alias.as_ref())
            }
            TableFactor::Table { name, args: Some(_), .. } => {
                let span = name.0.first().and_then(|p| p.as_ident()).map_or_else(Span::empty, |p| p.span);
                Err(Refusal::at(Why::NotAllowed("a function as a table"), span))
            }
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                let alias = self.alias(alias.as_ref())?;
                // What is beside it cannot be seen from within, only what is around the whole selection; not even that is let in.
                let (query, outputs) = self.query(subquery, None)?;
                let source = self.next_source()?;
                let from = From::Query { query: Box::new(query), source };
                Ok((from, vec![Source::given(alias, source, outputs)]))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.from(table_with_joins, outer),
            TableFactor::Derived { .. } => Err(Why::NotAllowed("`LATERAL` or a sample").into()),
            TableFactor::Table { .. } => Err(Why::NotAllowed("a table with options").into()),
            _ => Err(Why::NotAllowed("a source other than tables and queries").into()),
        }
    }

    /// A declared table, or a query that was named first.
    fn relation(&mut self, parts: &[Ident], alias: Option<&TableAlias>) -> Answer<(From, Vec<Source>)> {
        let alias = self.alias(alias)?;
        if let [only] = parts {
            let folded = self.rules.folded(only)?;
            if let Some(named) = self.with.iter().rev().find(|named| named.name == folded).cloned() {
                let source = self.next_source()?;
                let from = From::With { name: named.number, source };
                return Ok((from, vec![Source::given(alias.or(Some(folded)), source, named.outputs)]));
            }
        }
        let (schema, table) = self.table(parts)?;
        let source = self.next_source()?;
        self.tables.insert(table.clone());
        let route = self.route.tables.get(&table);
        let held = |column: &bartizan_model::database_route::ColumnRoute| {
            let origin = (table.clone(), column.name.clone());
            let (expr, origins) = if column.hidden {
                (nothing(self.there(column.kind)), Origins::new())
            } else {
                (Expr::Column { source, name: column.name.clone() }, [origin.clone()].into())
            };
            Held {
                name: Some(self.rules.declared(&column.name)),
                shown: column.name.to_string(),
                expr,
                origins,
                declared: Some(origin),
            }
        };
        let columns = route.into_iter().flat_map(|route| &route.columns).map(held).collect();
        let own = (self.rules.declared(&schema), self.rules.declared(&table));
        let (schema_name, name) = match alias {
            Some(alias) => (None, alias),
            None => (Some(own.0), own.1),
        };
        let found = Source { schema: schema_name, name: Some(name), columns };
        Ok((From::Table { schema, table, source }, vec![found]))
    }

    /// A type as this database has it.
    fn there(&self, kind: SqlType) -> SqlType {
        match (self.rules, kind) {
            (Rules::Sqlite, SqlType::Integer | SqlType::Number | SqlType::Decimal) | (Rules::Postgres, _) => {
                kind
            }
            (Rules::Sqlite, _) => SqlType::Text,
        }
    }

    fn alias(&self, alias: Option<&TableAlias>) -> Answer<Option<String>> {
        let Some(TableAlias { explicit: _, name, columns, at }) = alias else { return Ok(None) };
        if !columns.is_empty() || at.is_some() {
            return Err(Refusal::at(Why::NotAllowed("an alias with columns"), name.span));
        }
        self.rules.folded(name).map(Some)
    }
}

/// Two sources of one name: nothing could say which is meant.
pub(super) fn distinct(sources: &[Source]) -> Answer<()> {
    for (at, source) in sources.iter().enumerate() {
        let Some(name) = &source.name else { continue };
        let same = |other: &Source| other.name.as_ref() == Some(name);
        if sources.iter().skip(at + 1).any(same) {
            return Err(Why::Ambiguous(crate::refusal::shown(name)).into());
        }
    }
    Ok(())
}

fn joined(operator: &JoinOperator) -> Answer<(Join, &JoinConstraint)> {
    Ok(match operator {
        JoinOperator::Join(on) | JoinOperator::Inner(on) => (Join::Inner, on),
        JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (Join::Left, on),
        JoinOperator::Right(on) | JoinOperator::RightOuter(on) => (Join::Right, on),
        JoinOperator::FullOuter(on) => (Join::Full, on),
        JoinOperator::CrossJoin(on) => (Join::Cross, on),
        _ => return Err(Why::NotAllowed("a join of this kind").into()),
    })
}
