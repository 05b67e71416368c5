//! The tests a filter is made of. Each comes with its complement; both are false where the value is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::tree::Tree;
use crate::value::{Field, Network, Pattern, Value};

/// A leaf of a filter, and the rule it comes from.
#[derive(Clone, Debug)]
pub struct Atom {
    /// The id of the rule that asks. Not part of what the test means, nor of equality.
    pub rule: Arc<str>,
    /// What is asked.
    pub what: What,
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

impl Eq for Atom {}

/// What a leaf asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A test of one field.
    Test {
        /// The field.
        field: Field,
        /// The test.
        check: Check,
    },
    /// Something that no store can be asked, with the reason in words. A row that has to match it does not match.
    Opaque(String),
}

/// A test of one field. All but [`Check::Absent`] are false where the value is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// There is a value.
    Present,
    /// There is none.
    Absent,
    /// One of these values.
    In(Vec<Value>),
    /// A value, and none of these.
    NotIn(Vec<Value>),
    /// One of these entities, or a set that holds one of them: which of both, the column tells.
    Among(Vec<Value>),
    /// An entity that is none of these, or a set that holds none of them.
    NotAmong(Vec<Value>),
    /// So related to a value.
    Order(Relation, Value),
    /// So related to another field of the row.
    Against(Relation, Field),
    /// A text like this.
    Like(Pattern),
    /// A text unlike this.
    NotLike(Pattern),
    /// A set with at least one of these.
    HoldsAny(Vec<Value>),
    /// A set with none of these.
    HoldsNone(Vec<Value>),
    /// A set with all of these.
    HoldsAll(Vec<Value>),
    /// A set that lacks at least one of these.
    LacksOne(Vec<Value>),
    /// A set of nothing but these.
    Within(Vec<Value>),
    /// A set with something other than these.
    NotWithin(Vec<Value>),
    /// The empty set.
    Empty,
    /// A set that is not empty.
    NotEmpty,
    /// An address in one of these networks.
    InNetworks(Vec<Network>),
    /// An address in none of these networks.
    OutsideNetworks(Vec<Network>),
}

/// How two values are related.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Relation {
    /// The relation that holds exactly where this one does not, between two values that are there.
    #[must_use]
    pub const fn complement(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }

    /// The same relation, asked from the other side.
    pub(crate) const fn flipped(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }

    /// The sign in SQL.
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// The name that vector stores give it, for those that order.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Equal | Self::NotEqual => None,
            Self::Less => Some("lt"),
            Self::LessOrEqual => Some("lte"),
            Self::Greater => Some("gt"),
            Self::GreaterOrEqual => Some("gte"),
        }
    }
}

impl Check {
    /// The test that holds exactly where this one does not, among the rows that have the value.
    #[must_use]
    pub fn complement(&self) -> Self {
        match self {
            Self::Present => Self::Absent,
            Self::Absent => Self::Present,
            Self::In(values) => Self::NotIn(values.clone()),
            Self::NotIn(values) => Self::In(values.clone()),
            Self::Among(values) => Self::NotAmong(values.clone()),
            Self::NotAmong(values) => Self::Among(values.clone()),
            Self::Order(relation, value) => Self::Order(relation.complement(), value.clone()),
            Self::Against(relation, field) => Self::Against(relation.complement(), field.clone()),
            Self::Like(pattern) => Self::NotLike(pattern.clone()),
            Self::NotLike(pattern) => Self::Like(pattern.clone()),
            Self::HoldsAny(values) => Self::HoldsNone(values.clone()),
            Self::HoldsNone(values) => Self::HoldsAny(values.clone()),
            Self::HoldsAll(values) => Self::LacksOne(values.clone()),
            Self::LacksOne(values) => Self::HoldsAll(values.clone()),
            Self::Within(values) => Self::NotWithin(values.clone()),
            Self::NotWithin(values) => Self::Within(values.clone()),
            Self::Empty => Self::NotEmpty,
            Self::NotEmpty => Self::Empty,
            Self::InNetworks(networks) => Self::OutsideNetworks(networks.clone()),
            Self::OutsideNetworks(networks) => Self::InNetworks(networks.clone()),
        }
    }
}

/// Whether every row that matches `tree` has a value in `field`.
pub(crate) fn implies_present(tree: &Tree<Atom>, field: &Field) -> bool {
    match tree {
        Tree::Never => true,
        Tree::Always => false,
        Tree::Leaf(Atom { what: What::Opaque(_), .. }) => false,
        Tree::Leaf(Atom { what: What::Test { field: tested, check }, .. }) => match check {
            Check::Absent => false,
            Check::Against(_, other) => tested == field || other == field,
            _ => tested == field,
        },
        Tree::All(parts) => parts.iter().any(|part| implies_present(part, field)),
        Tree::Any(parts) => parts.iter().all(|part| implies_present(part, field)),
    }
}

/// The tree without the questions for presence that what stands beside them answers, and with one list where several would do.
pub(crate) fn simplified(tree: Tree<Atom>) -> Tree<Atom> {
    match tree {
        tree @ (Tree::Always | Tree::Never | Tree::Leaf(_)) => tree,
        Tree::Any(parts) => Tree::any(joined(parts, |check| match check {
            Check::In(values) | Check::HoldsAny(values) => Some(values),
            _ => None,
        })),
        Tree::All(parts) => {
            let parts = joined(parts, |check| match check {
                Check::NotIn(values) | Check::HoldsNone(values) => Some(values),
                _ => None,
            });
            let (asking, others): (Vec<_>, Vec<_>) =
                parts.into_iter().partition(|part| asks_presence(part).is_some());
            let needed = asking.into_iter().filter(|part| {
                asks_presence(part)
                    .is_some_and(|field| !others.iter().any(|other| implies_present(other, field)))
            });
            Tree::all(needed.chain(others.iter().cloned()).collect::<Vec<_>>())
        }
    }
}

/// The parts, simplified, with one test for all tests of a field that `list` gives the values of and that differ in nothing else.
fn joined(parts: Vec<Tree<Atom>>, list: impl Fn(&mut Check) -> Option<&mut Vec<Value>>) -> Vec<Tree<Atom>> {
    let mut out: Vec<Tree<Atom>> = Vec::new();
    let mut first: BTreeMap<(Field, bool), usize> = BTreeMap::new();
    for mut part in parts.into_iter().map(simplified) {
        let key = match &part {
            Tree::Leaf(Atom { what: What::Test { field, check }, .. }) => {
                Some((field.clone(), matches!(check, Check::In(_) | Check::NotIn(_))))
            }
            _ => None,
        };
        if let (Some(key), Some(values)) = (key, values_of(&mut part, &list)) {
            match first.get(&key).and_then(|place| out.get_mut(*place)) {
                Some(before) => {
                    if let Some(known) = values_of(before, &list) {
                        known.append(values);
                        known.sort();
                        known.dedup();
                    }
                    continue;
                }
                None => drop(first.insert(key, out.len())),
            }
        }
        out.push(part);
    }
    out
}

fn values_of<'t>(
    tree: &'t mut Tree<Atom>,
    list: &impl Fn(&mut Check) -> Option<&mut Vec<Value>>,
) -> Option<&'t mut Vec<Value>> {
    match tree {
        Tree::Leaf(Atom { what: What::Test { check, .. }, .. }) => list(check),
        _ => None,
    }
}

fn asks_presence(tree: &Tree<Atom>) -> Option<&Field> {
    match tree {
        Tree::Leaf(Atom { what: What::Test { field, check: Check::Present }, .. }) => Some(field),
        _ => None,
    }
}
