//! Every name is looked up, by us and once; what is found is written down.

mod call;
mod expr;
mod from;
mod query;
mod scope;

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::Name;
use bartizan_model::DatabaseRouteSpec;
use sqlparser::ast::{Expr as Parsed, Ident, Query as ParsedQuery};
use sqlparser::tokenizer::Span;

pub(crate) use scope::Output;

use crate::guard::{Parameter, Read, Values};
use crate::names::Rules;
use crate::refusal::{Refusal, Why, shown};
use crate::resolve::scope::Named;
use crate::tree::{Expr, Origin, Origins, Query};

/// How deep expressions and queries nest.
const DEPTH_MAX: usize = 64;
/// Signs in a row, as in `a AND b AND c`.
pub(crate) const CHAIN_MAX: usize = 250;
/// Tables and queries that rows come from, all together.
const SOURCES_MAX: u32 = 24;
/// Outputs of one query.
pub(crate) const OUTPUTS_MAX: usize = 256;

type Answer<T> = Result<T, Refusal>;

/// What is found out while a statement is read.
pub(crate) struct Resolver<'a> {
    rules: Rules,
    route: &'a DatabaseRouteSpec,
    values: &'a Values,
    /// Names of the parameters in the order in which they are bound.
    bound: Vec<&'a str>,
    sources: u32,
    names: u32,
    depth: usize,
    /// Queries that are named where the resolver is.
    with: Vec<Named>,
    tables: BTreeSet<Name>,
    reads: BTreeMap<Origin, Read>,
}

/// Tables, columns and bound values of a whole statement.
type Found = (BTreeSet<Name>, BTreeMap<Origin, Read>, Vec<Parameter>);

impl<'a> Resolver<'a> {
    pub(crate) const fn new(rules: Rules, route: &'a DatabaseRouteSpec, values: &'a Values) -> Self {
        Self {
            rules,
            route,
            values,
            bound: Vec::new(),
            sources: 0,
            names: 0,
            depth: 0,
            with: Vec::new(),
            tables: BTreeSet::new(),
            reads: BTreeMap::new(),
        }
    }

    pub(crate) fn statement(&mut self, query: &ParsedQuery) -> Answer<(Query, Vec<Output>)> {
        self.query(query, None)
    }

    /// What was found, once the whole statement was read.
    pub(crate) fn finish(self) -> Answer<Found> {
        let unused = self.values.keys().find(|name| !self.bound.contains(&name.as_str()));
        if let Some(unused) = unused {
            return Err(Why::Parameter(shown(unused)).into());
        }
        let value = |name: &&str| self.values.get(*name).map(|(_, value)| value.clone());
        let values = self.bound.iter().filter_map(value).collect();
        Ok((self.tables, self.reads, values))
    }

    /// One step deeper, and back.
    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Answer<T>) -> Answer<T> {
        if self.depth >= DEPTH_MAX {
            return Err(Why::TooLarge("nested too deeply").into());
        }
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        done
    }

    fn next_source(&mut self) -> Answer<u32> {
        if self.sources >= SOURCES_MAX {
            return Err(Why::TooLarge("more than 24 tables and subqueries").into());
        }
        self.sources += 1;
        Ok(self.sources)
    }

    fn next_name(&mut self) -> u32 {
        self.names += 1;
        self.names
    }

    /// The values of these columns show otherwise than by being given out.
    fn computed(&mut self, origins: &Origins) {
        for origin in origins {
            self.reads.entry(origin.clone()).or_default().computed = true;
        }
    }

    /// A value that is bound.
    fn parameter(&mut self, written: &str, span: Span) -> Answer<Expr> {
        let refused = |name: &str| Err(Refusal::at(Why::Parameter(shown(name)), span));
        let Some(name) = written.strip_prefix(':') else { return refused(written) };
        let Some((known, (kind, _))) = self.values.get_key_value(name) else { return refused(name) };
        let at = self.bound.iter().position(|bound| bound == known).unwrap_or_else(|| {
            self.bound.push(known);
            self.bound.len() - 1
        });
        let place = u32::try_from(at + 1).unwrap_or(u32::MAX);
        Ok(Expr::Parameter { place, kind: *kind })
    }
}

/// Where an expression is, as far as that is told without looking at all of it.
fn place(expr: &Parsed) -> Span {
    let mut next = expr;
    for _ in 0..16 {
        next = match next {
            Parsed::Identifier(Ident { span, .. }) => return *span,
            Parsed::CompoundIdentifier(parts) => return parts.first().map_or_else(Span::empty, |p| p.span),
            Parsed::Value(value) => return value.span,
            Parsed::Function(function) => {
                let first = function.name.0.first().and_then(|part| part.as_ident());
                return first.map_or_else(Span::empty, |part| part.span);
            }
            Parsed::Nested(of)
            | Parsed::Cast { expr: of, .. }
            | Parsed::UnaryOp { expr: of, .. }
            | Parsed::BinaryOp { left: of, .. }
            | Parsed::Collate { expr: of, .. }
            | Parsed::AnyOp { left: of, .. }
            | Parsed::AllOp { left: of, .. }
            | Parsed::AtTimeZone { timestamp: of, .. }
            | Parsed::SimilarTo { expr: of, .. }
            | Parsed::CompoundFieldAccess { root: of, .. } => of,
            _ => return Span::empty(),
        };
    }
    Span::empty()
}
