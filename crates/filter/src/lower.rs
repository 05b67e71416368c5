//! From tests of fields to tests of columns, with values as they are stored. Shared by all stores.

use crate::columns::{Column, Columns, Kind};
use crate::plan::{Pushdown, Refused, Strictness, Untranslatable};
use crate::test::{Atom, Check, Relation, What};
use crate::tree::{Filter, Tree};
use crate::value::{Field, Network, Pattern, Value};

/// A value as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scalar {
    Bool(bool),
    Int(i64),
    Text(String),
}

/// A test of a column. Lists are not empty, sorted, without repetition, and of one kind.
#[derive(Clone, Debug)]
pub(crate) enum Op<'a> {
    Present,
    Absent,
    /// Truth values come one at a time, and only here.
    In(Vec<Scalar>),
    NotIn(Vec<Scalar>),
    Order(Relation, Scalar),
    Against(Relation, &'a Column),
    Like(&'a Pattern),
    NotLike(&'a Pattern),
    HoldsAny(Vec<Scalar>),
    HoldsNone(Vec<Scalar>),
    HoldsAll(Vec<Scalar>),
    LacksOne(Vec<Scalar>),
    Within(Vec<Scalar>),
    NotWithin(Vec<Scalar>),
    Empty,
    NotEmpty,
    InNetworks(&'a [Network]),
    OutsideNetworks(&'a [Network]),
}

/// A store's own notation for one test.
pub(crate) trait Notation {
    /// A condition in the store's language.
    type Part: PartialEq;

    /// One test, or why the store cannot be asked that. It must be false for a row without a value, unless it is
    /// [`Op::Absent`].
    fn test(&mut self, column: &Column, op: &Op<'_>) -> Result<Tree<Self::Part>, String>;
}

type Why = String;

impl<P: PartialEq> Pushdown<Tree<P>> {
    /// The same, unless it has more than `most` tests: then the store would refuse the query.
    pub(crate) fn within(self, most: usize, store: &str) -> Result<Self, Refused> {
        match &self {
            Self::Query { query, .. } if query.leaves().len() > most => {
                let has = query.leaves().len();
                let why = format!("{store} takes at most {most} tests, this filter has {has}");
                Err(Refused { because: vec![Untranslatable { rule: None, why }] })
            }
            _ => Ok(self),
        }
    }
}

/// Compiles a filter to a tree in the store's notation.
pub(crate) fn compile<N: Notation>(
    filter: &Filter,
    columns: &Columns,
    strictness: Strictness,
    notation: &mut N,
) -> Result<Pushdown<Tree<N::Part>>, Refused> {
    let mut because = Vec::new();
    let mut place = |atom: &Atom| {
        Ok::<_, std::convert::Infallible>(match atom_of(atom, columns, notation) {
            Ok(tree) => tree,
            Err(why) => {
                because.push(Untranslatable { rule: Some(atom.rule.clone()), why });
                // The tree is positive, so what is false instead of unknown only takes rows away.
                Tree::Never
            }
        })
    };
    let Ok(tree) = filter.try_map(&mut place);
    because.sort();
    because.dedup();
    let complete = because.is_empty();
    if !complete && strictness == Strictness::Exact {
        return Err(Refused { because });
    }
    Ok(match tree {
        Tree::Never => Pushdown::Never,
        query => Pushdown::Query { query, complete },
    })
}

fn atom_of<N: Notation>(atom: &Atom, columns: &Columns, notation: &mut N) -> Result<Tree<N::Part>, Why> {
    let (field, check) = match &atom.what {
        What::Opaque(why) => return Err(why.clone()),
        What::Test { field, check } => (field, check),
    };
    let Some(column) = columns.of(field) else {
        return match check {
            Check::Present if columns.is_assured(field) => Ok(Tree::Always),
            Check::Absent if columns.is_assured(field) => Ok(Tree::Never),
            _ => Err(format!("no column holds {field}")),
        };
    };
    test(field, column, check, columns, notation)
}

/// The test with its values as they are stored; trivial lists are taken out here once for all stores.
fn test<N: Notation>(
    field: &Field,
    column: &Column,
    check: &Check,
    columns: &Columns,
    notation: &mut N,
) -> Result<Tree<N::Part>, Why> {
    let set = |values: &[Value]| stored(field, column, values, true);
    let op = match check {
        Check::Present => Op::Present,
        Check::Absent if column.is_filled() => return Ok(Tree::Never),
        Check::Absent if column.marker().is_some() || column.is_missing_absent() => Op::Absent,
        Check::Absent => {
            return Err(format!("a row without {field} would have to match, and nothing missing does"));
        }
        Check::Among(values) if column.is_set() => {
            return test(field, column, &Check::HoldsAny(values.clone()), columns, notation);
        }
        Check::NotAmong(values) if column.is_set() => {
            return test(field, column, &Check::HoldsNone(values.clone()), columns, notation);
        }
        Check::In(values) | Check::Among(values) => match stored(field, column, values, false)?.as_slice() {
            [] => return Ok(Tree::Never),
            [Scalar::Bool(false), Scalar::Bool(true)] => Op::Present,
            list => Op::In(list.to_vec()),
        },
        Check::NotIn(values) | Check::NotAmong(values) => {
            match stored(field, column, values, false)?.as_slice() {
                [] => Op::Present,
                [Scalar::Bool(value)] => Op::In(vec![Scalar::Bool(!value)]),
                [Scalar::Bool(_), ..] => return Ok(Tree::Never),
                list => Op::NotIn(list.to_vec()),
            }
        }
        Check::Order(relation, value) => {
            let list = stored(field, column, std::slice::from_ref(value), false)?;
            match list.first() {
                Some(scalar) if ordered(column.kind()) => Op::Order(*relation, scalar.clone()),
                _ => {
                    return Err(format!(
                        "{field} is stored as {}, which have no order",
                        column.kind().noun()
                    ));
                }
            }
        }
        Check::Against(relation, other) => {
            let Some(other) = columns.of(other) else { return Err(format!("no column holds {other}")) };
            let orders = !matches!(relation, Relation::Equal | Relation::NotEqual);
            if column.is_set() || other.is_set() {
                return Err(format!("{field} is a set, and sets of a row are not compared with each other"));
            }
            if column.kind() != other.kind() || (orders && !ordered(column.kind())) {
                return Err(format!("{field} is compared with what is stored otherwise"));
            }
            Op::Against(*relation, other)
        }
        Check::Like(pattern) | Check::NotLike(pattern) => {
            scalar_text(field, column)?;
            if pattern.has_nul() {
                return Err(format!("{field} is compared with a text that holds a zero byte"));
            }
            let like = matches!(check, Check::Like(_));
            match (pattern.exactly(), pattern.matches_all(), like) {
                (Some(text), _, true) => Op::In(vec![Scalar::Text(text.to_owned())]),
                (Some(text), _, false) => Op::NotIn(vec![Scalar::Text(text.to_owned())]),
                (None, true, true) => Op::Present,
                (None, true, false) => return Ok(Tree::Never),
                (None, false, true) => Op::Like(pattern),
                (None, false, false) => Op::NotLike(pattern),
            }
        }
        Check::HoldsAny(values) => match set(values)? {
            list if list.is_empty() => return Ok(Tree::Never),
            list => Op::HoldsAny(list),
        },
        Check::HoldsNone(values) => match set(values)? {
            list if list.is_empty() => Op::Present,
            list => Op::HoldsNone(list),
        },
        // A value that the column cannot hold is in no set of it.
        Check::HoldsAll(values) => match set(values)? {
            _ if foreign(column, values) => return Ok(Tree::Never),
            list if list.is_empty() => Op::Present,
            list => Op::HoldsAll(list),
        },
        Check::LacksOne(values) => match set(values)? {
            _ if foreign(column, values) => Op::Present,
            list if list.is_empty() => return Ok(Tree::Never),
            list => Op::LacksOne(list),
        },
        Check::Within(values) => match set(values)? {
            list if list.is_empty() => Op::Empty,
            list => Op::Within(list),
        },
        Check::NotWithin(values) => match set(values)? {
            list if list.is_empty() => Op::NotEmpty,
            list => Op::NotWithin(list),
        },
        Check::Empty | Check::NotEmpty => {
            set(&[])?;
            if matches!(check, Check::Empty) { Op::Empty } else { Op::NotEmpty }
        }
        Check::InNetworks(networks) | Check::OutsideNetworks(networks) => {
            if *column.kind() != Kind::Address || column.is_set() {
                return Err(format!(
                    "{field} is stored as {}, the rule asks for networks",
                    column.kind().noun()
                ));
            }
            if matches!(check, Check::InNetworks(_)) {
                Op::InNetworks(networks)
            } else {
                Op::OutsideNetworks(networks)
            }
        }
    };
    notation.test(column, &op)
}

/// The values as they are stored in the column, sorted, without those that it cannot hold.
fn stored(field: &Field, column: &Column, values: &[Value], set: bool) -> Result<Vec<Scalar>, Why> {
    if column.is_set() != set {
        let (stored, asked) = if set { ("one value", "a set") } else { ("a set", "one value") };
        return Err(format!("{field} is stored as {stored}, the rule asks for {asked}"));
    }
    if set && !matches!(column.kind(), Kind::Long | Kind::Text | Kind::Entity | Kind::EntityOf(_)) {
        return Err(format!("sets of {} are not asked for", column.kind().noun()));
    }
    let mut out = Vec::new();
    for value in values {
        if let Some(scalar) = scalar(field, column, value)? {
            if matches!(&scalar, Scalar::Text(text) if text.contains('\0')) {
                return Err(format!("{field} is compared with a text that holds a zero byte"));
            }
            out.push(scalar);
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}

/// Whether one of the values is an entity of another type than the column's.
fn foreign(column: &Column, values: &[Value]) -> bool {
    let Kind::EntityOf(kind) = column.kind() else { return false };
    values.iter().any(|value| matches!(value, Value::Entity(entity) if entity.kind != *kind))
}

/// The value as it is stored; none when the column cannot hold it.
fn scalar(field: &Field, column: &Column, value: &Value) -> Result<Option<Scalar>, Why> {
    Ok(Some(match (column.kind(), value) {
        (Kind::Bool, Value::Bool(value)) => Scalar::Bool(*value),
        (Kind::Long, Value::Long(value))
        | (Kind::Milliseconds | Kind::Timestamp, Value::Datetime(value))
        | (Kind::Milliseconds, Value::Duration(value)) => Scalar::Int(*value),
        (Kind::Text, Value::Text(text)) => Scalar::Text(text.clone()),
        (Kind::Entity, Value::Entity(entity)) => Scalar::Text(entity.text()),
        (Kind::EntityOf(kind), Value::Entity(entity)) if entity.kind == *kind => {
            Scalar::Text(entity.id.clone())
        }
        (Kind::EntityOf(_), Value::Entity(_)) => return Ok(None),
        (Kind::TenThousandths, Value::Decimal(value)) => Scalar::Int(value.0),
        (Kind::Numeric, Value::Decimal(value)) => Scalar::Text(value.to_string()),
        (Kind::Address, Value::Address(network)) => Scalar::Text(network.to_string()),
        (kind, value) => {
            return Err(format!("{field} is stored as {}, the rule asks for {}", kind.noun(), value.noun()));
        }
    }))
}

fn scalar_text(field: &Field, column: &Column) -> Result<(), Why> {
    if *column.kind() == Kind::Text && !column.is_set() {
        return Ok(());
    }
    Err(format!("{field} is stored as {}, the rule asks for a text", column.kind().noun()))
}

const fn ordered(kind: &Kind) -> bool {
    matches!(kind, Kind::Long | Kind::Milliseconds | Kind::TenThousandths | Kind::Timestamp | Kind::Numeric)
}
