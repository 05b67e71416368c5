//! What names mean at a place.

use bartizan_base::Name;
use sqlparser::ast::Ident;

use crate::names::written;
use crate::refusal::{Refusal, Why};
use crate::resolve::{Answer, Resolver};
use crate::tree::{Expr, Origin, Origins};

/// What a query gives.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// What it is called, as it is shown.
    pub(crate) shown: String,
    /// The same, as it is compared; none where it has no name.
    pub(crate) name: Option<String>,
    /// The declared columns whose values it gives as they are.
    pub(crate) origins: Origins,
}

/// A query that was named first.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) outputs: Vec<Output>,
}

/// A column of a source.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) name: Option<String>,
    pub(crate) shown: String,
    pub(crate) expr: Expr,
    pub(crate) origins: Origins,
    /// The declared column that naming it reads.
    pub(crate) declared: Option<Origin>,
}

/// Where rows come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Of a table that has no other name: its schema.
    pub(crate) schema: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) columns: Vec<Held>,
}

impl Source {
    /// A query as a source.
    pub(crate) fn given(name: Option<String>, source: u32, outputs: Vec<Output>) -> Self {
        let held = |(at, output): (usize, Output)| Held {
            name: output.name,
            shown: output.shown,
            expr: Expr::Given { source, place: u32::try_from(at + 1).unwrap_or(u32::MAX) },
            origins: output.origins,
            declared: None,
        };
        Self { schema: None, name, columns: outputs.into_iter().enumerate().map(held).collect() }
    }

    pub(crate) fn is_called(&self, schema: Option<&str>, name: &str) -> bool {
        self.name.as_deref() == Some(name) && (schema.is_none() || self.schema.as_deref() == schema)
    }
}

/// The sources that can be named, and those around them.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'s> {
    pub(crate) sources: &'s [Source],
    pub(crate) outer: Option<&'s Scope<'s>>,
}

/// One column, none, or several.
enum Found<'s> {
    One(&'s Held),
    None,
    Several,
}

impl Scope<'_> {
    fn find(&self, of: Option<(Option<&str>, &str)>, name: &str) -> Found<'_> {
        let mut found = Found::None;
        for source in self.sources.iter().filter(|s| of.is_none_or(|(schema, of)| s.is_called(schema, of))) {
            for held in source.columns.iter().filter(|held| held.name.as_deref() == Some(name)) {
                found = match found {
                    Found::None => Found::One(held),
                    Found::One(_) | Found::Several => return Found::Several,
                };
            }
            // A source that is named hides those of the same name around it, whatever columns they have.
        }
        match (found, self.outer) {
            (Found::None, Some(outer)) if !self.names(of) => outer.find(of, name),
            (found, _) => found,
        }
    }

    fn names(&self, of: Option<(Option<&str>, &str)>) -> bool {
        of.is_some_and(|(schema, name)| self.sources.iter().any(|source| source.is_called(schema, name)))
    }
}

impl Resolver<'_> {
    /// The column that `parts` name.
    pub(super) fn column(&mut self, parts: &[Ident], scope: &Scope<'_>) -> Answer<Held> {
        let span = parts.first().map_or_else(sqlparser::tokenizer::Span::empty, |part| part.span);
        let folded: Vec<String> = parts.iter().map(|part| self.rules.folded(part)).collect::<Answer<_>>()?;
        let found = match folded.as_slice() {
            [name] => scope.find(None, name),
            [source, name] => scope.find(Some((None, source)), name),
            [schema, source, name] => scope.find(Some((Some(schema), source)), name),
            _ => Found::None,
        };
        match found {
            Found::One(held) => {
                let held = held.clone();
                self.read(&held);
                Ok(held)
            }
            Found::None => Err(Refusal::at(Why::Column(written(parts)), span)),
            Found::Several => Err(Refusal::at(Why::Ambiguous(written(parts)), span)),
        }
    }

    /// Naming a declared column reads it, whatever becomes of it.
    pub(super) fn read(&mut self, held: &Held) {
        if let Some(declared) = &held.declared {
            self.reads.entry(declared.clone()).or_default();
        }
    }

    /// A declared table by the parts of its name.
    pub(super) fn table(&self, parts: &[Ident]) -> Answer<(Name, Name)> {
        let span = parts.first().map_or_else(sqlparser::tokenizer::Span::empty, |part| part.span);
        let folded: Vec<String> = parts.iter().map(|part| self.rules.folded(part)).collect::<Answer<_>>()?;
        let (schema, name) = match folded.as_slice() {
            [name] => (None, name),
            [schema, name] => (Some(schema), name),
            _ => return Err(Refusal::at(Why::Table(written(parts)), span)),
        };
        let found = self.route.tables.iter().find_map(|(table, route)| {
            let lies = route.schema.clone().unwrap_or_else(|| self.rules.default_schema());
            let fits = self.rules.declared(table) == *name
                && schema.is_none_or(|schema| self.rules.declared(&lies) == *schema);
            fits.then(|| (lies, table.clone()))
        });
        found.ok_or_else(|| Refusal::at(Why::Table(written(parts)), span))
    }
}
