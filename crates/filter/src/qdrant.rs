//! Filters of Qdrant, as JSON.
//!
//! What is different there: `match` and `range` on an array are true when any element is, so a column with one value is also asked for
//! its count; `must_not` is true for what is missing, so everything negative stands beside a positive question for presence; an
//! empty array and a missing one look the same, so sets need a marker for that; `range` computes in doubles; an empty
//! `should` matches everything.

use serde_json::{Value as Json, json};

use crate::columns::{Column, Columns, Kind};
use crate::lower::{Notation, Op, Scalar, compile};
use crate::plan::{Pushdown, Refused, Strictness};
use crate::test::Relation;
use crate::tree::{Filter, Tree};

/// Numbers of at least this size are not exact in a double.
const EXACT_MAX: u64 = 1 << 53;

/// Compiles `filter` to a filter of Qdrant, for the member `filter` of a query. Columns are keys of the payload.
///
/// # Errors
/// [`Refused`], with every part that Qdrant cannot be asked.
pub fn qdrant(filter: &Filter, columns: &Columns, strictness: Strictness) -> Result<Pushdown<Json>, Refused> {
    Ok(match compile(filter, columns, strictness, &mut Qdrant)? {
        Pushdown::Never => Pushdown::Never,
        Pushdown::Query { query, complete } => Pushdown::Query {
            query: match query {
                // Conditions alone are no filter.
                Tree::Leaf(part) => json!({ "must": [part] }),
                query => written(&query),
            },
            complete,
        },
    })
}

fn written(tree: &Tree<Json>) -> Json {
    match tree {
        Tree::Always => json!({}),
        Tree::Never => json!({ "must": [{ "has_id": [] }] }),
        Tree::Leaf(part) => part.clone(),
        Tree::All(parts) => json!({ "must": parts.iter().map(written).collect::<Vec<_>>() }),
        Tree::Any(parts) => json!({ "should": parts.iter().map(written).collect::<Vec<_>>() }),
    }
}

struct Qdrant;

impl Notation for Qdrant {
    type Part = Json;

    fn test(&mut self, column: &Column, op: &Op<'_>) -> Result<Tree<Json>, String> {
        if matches!(column.kind(), Kind::Timestamp | Kind::Numeric | Kind::Address) {
            return Err(format!("Qdrant is not asked for {} as such", column.kind().noun()));
        }
        let key = column.name();
        let any = |list: &[Scalar]| match list {
            [one] => json!({ "key": key, "match": { "value": plain(one) } }),
            many => json!({ "key": key, "match": { "any": many.iter().map(plain).collect::<Vec<_>>() } }),
        };
        let except = |list: &[Scalar]| {
            let list: Vec<_> = list.iter().map(plain).collect();
            json!({ "key": key, "match": { "except": list } })
        };
        let count = |bounds: Json| json!({ "key": key, "values_count": bounds });
        let one = || count(json!({ "gte": 1, "lte": 1 }));
        Ok(Tree::Leaf(match op {
            Op::Present if column.is_set() => return there(column),
            Op::Present => one(),
            Op::Absent => return absent(column),
            Op::In(list) => json!({ "must": [any(list), one()] }),
            Op::NotIn(list) => json!({ "must": [one()], "must_not": [any(list)] }),
            Op::Order(relation, value) => json!({ "must": [range(key, *relation, value)?, one()] }),
            Op::Against(..) => return Err("Qdrant does not compare keys with each other".to_owned()),
            Op::Like(_) | Op::NotLike(_) => return Err("Qdrant has no patterns".to_owned()),
            Op::InNetworks(_) | Op::OutsideNetworks(_) => return Err("Qdrant has no networks".to_owned()),
            Op::HoldsAny(list) => any(list),
            Op::HoldsNone(list) => {
                return Ok(Tree::all([there(column)?, Tree::Leaf(json!({ "must_not": [any(list)] }))]));
            }
            Op::HoldsAll(list) => {
                let each: Vec<_> = list.iter().map(|value| any(std::slice::from_ref(value))).collect();
                json!({ "must": each })
            }
            Op::LacksOne(list) => {
                let lacks =
                    |value| Tree::Leaf(json!({ "must_not": [any(std::slice::from_ref::<Scalar>(value))] }));
                return Ok(Tree::all([there(column)?, Tree::any(list.iter().map(lacks))]));
            }
            Op::Within(list) => {
                return Ok(Tree::all([there(column)?, Tree::Leaf(json!({ "must_not": [except(list)] }))]));
            }
            Op::NotWithin(list) => except(list),
            Op::Empty => {
                let none = Tree::Leaf(json!({ "must_not": [count(json!({ "gte": 1 }))] }));
                return Ok(Tree::all([there(column)?, none]));
            }
            Op::NotEmpty => count(json!({ "gte": 1 })),
        }))
    }
}

/// A question that only a row with a set, be it empty, answers with yes.
fn there(column: &Column) -> Result<Tree<Json>, String> {
    if column.is_filled() {
        return Ok(Tree::Always);
    }
    marked(column, true).ok_or_else(|| unmarked(column))
}

fn unmarked(column: &Column) -> String {
    format!("`{}` has no marker, and Qdrant takes an empty set for none", column.name())
}

fn absent(column: &Column) -> Result<Tree<Json>, String> {
    match marked(column, false) {
        Some(tree) => Ok(tree),
        None if column.is_set() => Err(unmarked(column)),
        None => Ok(Tree::Leaf(json!({ "is_empty": { "key": column.name() } }))),
    }
}

fn marked(column: &Column, value: bool) -> Option<Tree<Json>> {
    Some(Tree::Leaf(json!({ "key": column.marker()?, "match": { "value": value } })))
}

fn range(key: &str, relation: Relation, value: &Scalar) -> Result<Json, String> {
    match (relation.name(), value) {
        (Some(name), Scalar::Int(value)) if value.unsigned_abs() < EXACT_MAX => {
            Ok(json!({ "key": key, "range": { name: value } }))
        }
        _ => Err(format!("`{key}` is compared with a number that is not exact in a double")),
    }
}

fn plain(value: &Scalar) -> Json {
    match value {
        Scalar::Bool(value) => (*value).into(),
        Scalar::Int(value) => (*value).into(),
        Scalar::Text(text) => text.as_str().into(),
    }
}
