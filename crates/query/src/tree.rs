//! What a query is once it is read.

use std::ops::Bound;

use crate::field::Field;
use crate::quantity::Quantity;
use crate::words::Phrase;

/// A question about entries. Made by parsing text; printed in a canonical form that parses to the same query.
///
/// Moments such as `24h` stay relative: the same query asked later is about later entries. So a saved view is the
/// query's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query(Node);

impl Query {
    pub(crate) const fn new(node: Node) -> Self {
        Self(node)
    }

    /// The query that every entry answers; its text is empty.
    #[must_use]
    pub const fn everything() -> Self {
        Self(Node::All(Vec::new()))
    }

    /// What is asked for.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.0
    }
}

/// A part of a query. Neither `All` nor `Any` holds its own kind or exactly one part; `Not` never holds `Not`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Each part holds.
    All(Vec<Self>),
    /// At least one part holds.
    Any(Vec<Self>),
    /// The part does not hold.
    Not(Box<Self>),
    /// A field has a value like this.
    Field(Condition),
    /// The words stand in one of the entry's text values.
    Text(Phrase),
}

impl Node {
    pub(crate) fn all(parts: Vec<Self>) -> Self {
        Self::joined(parts, Self::All, |part| match part {
            Self::All(parts) => Ok(parts),
            other => Err(other),
        })
    }

    pub(crate) fn any(parts: Vec<Self>) -> Self {
        Self::joined(parts, Self::Any, |part| match part {
            Self::Any(parts) => Ok(parts),
            other => Err(other),
        })
    }

    pub(crate) fn not(self) -> Self {
        match self {
            Self::Not(part) => *part,
            other => Self::Not(Box::new(other)),
        }
    }

    fn joined(
        parts: Vec<Self>,
        make: fn(Vec<Self>) -> Self,
        open: fn(Self) -> Result<Vec<Self>, Self>,
    ) -> Self {
        let mut flat: Vec<Self> =
            parts.into_iter().flat_map(|part| open(part).unwrap_or_else(|other| vec![other])).collect();
        match (flat.pop(), flat.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                flat.extend(last);
                make(flat)
            }
        }
    }
}

/// What is said about the values of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which field.
    pub field: Field,
    /// What its values are like.
    pub test: Test,
}

/// A test of all values of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Some value fits one of the patterns.
    Some(Vec<Pattern>),
    /// The entry has the field, and no value of it fits any of the patterns.
    None(Vec<Pattern>),
}

/// What one value is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This text, byte by byte.
    Exact(String),
    /// Text that begins like this.
    Prefix(String),
    /// Any value at all.
    Present,
    /// A quantity between the bounds; bounds of numbers are always included ones.
    Range(Bound<Quantity>, Bound<Quantity>),
}
