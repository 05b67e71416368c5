//! Conditions of Chroma (`where`), as JSON.
//!
//! What is different there: `$ne`, `$nin` and `$not_contains` are true for what is missing, and nothing asks whether a key is there; so
//! what is negative needs a marker, unless a number or a boolean shows its presence by being in the range of its type.
//! Lists must not be empty, stored arrays neither; `$and` and `$or` want two parts at least. Arrays in metadata
//! (`$contains`) are young; tried with 1.5.9, and a version without them refuses the condition.

use serde_json::{Value as Json, json};

use crate::columns::{Column, Columns, Kind};
use crate::lower::{Notation, Op, Scalar, compile};
use crate::plan::{Pushdown, Refused, Strictness, Untranslatable};
use crate::tree::{Filter, Tree};

/// Where SQLite below Chroma refuses the query: its expressions are at most 1,000 deep, its values at most 32,766.
const TESTS_MAX: usize = 500;
const VALUES_MAX: usize = 20_000;

/// Compiles `filter` to a `where` of Chroma; none when every row matches, for that has no condition. Columns are keys of the metadata.
///
/// # Errors
/// [`Refused`], with every part that Chroma cannot be asked.
pub fn chroma(
    filter: &Filter,
    columns: &Columns,
    strictness: Strictness,
) -> Result<Pushdown<Option<Json>>, Refused> {
    let mut notation = Chroma { values: 0 };
    let compiled = compile(filter, columns, strictness, &mut notation)?.within(TESTS_MAX, "Chroma")?;
    if notation.values > VALUES_MAX {
        let why = format!("Chroma takes at most {VALUES_MAX} values, this filter has {}", notation.values);
        return Err(Refused { because: vec![Untranslatable { rule: None, why }] });
    }
    Ok(match compiled {
        Pushdown::Never | Pushdown::Query { query: Tree::Never, .. } => Pushdown::Never,
        Pushdown::Query { query: Tree::Always, complete } => Pushdown::Query { query: None, complete },
        Pushdown::Query { query, complete } => Pushdown::Query { query: written(&query), complete },
    })
}

/// None for constants, which stand in no tree below its root.
fn written(tree: &Tree<Json>) -> Option<Json> {
    let join = |parts: &[Tree<Json>]| parts.iter().map(written).collect::<Option<Vec<_>>>();
    match tree {
        Tree::Always | Tree::Never => None,
        Tree::Leaf(part) => Some(part.clone()),
        Tree::All(parts) => Some(json!({ "$and": join(parts)? })),
        Tree::Any(parts) => Some(json!({ "$or": join(parts)? })),
    }
}

struct Chroma {
    values: usize,
}

impl Notation for Chroma {
    type Part = Json;

    fn test(&mut self, column: &Column, op: &Op<'_>) -> Result<Tree<Json>, String> {
        if matches!(column.kind(), Kind::Timestamp | Kind::Numeric | Kind::Address) {
            return Err(format!("Chroma is not asked for {} as such", column.kind().noun()));
        }
        if column.name().contains('.') {
            return Err(format!("`{}` has a point, and Chroma no inner objects", column.name()));
        }
        let asked = |sign: &str, value: Json| Tree::Leaf(json!({ column.name(): { sign: value } }));
        let list = |values: &[Scalar]| Json::from(values.iter().map(plain).collect::<Vec<_>>());
        let each = |sign: &str, values: &[Scalar]| {
            values.iter().map(|value| asked(sign, plain(value))).collect::<Vec<_>>()
        };
        if let Op::In(values) | Op::NotIn(values) = op {
            self.values = self.values.saturating_add(values.len());
        }
        Ok(match op {
            Op::Present => there(column)?,
            Op::Absent => marked(column, false).ok_or_else(|| {
                format!("`{}` has no marker, and Chroma finds nothing missing", column.name())
            })?,
            Op::In(values) => match values.as_slice() {
                [one] => asked("$eq", plain(one)),
                many => asked("$in", list(many)),
            },
            Op::NotIn(values) => {
                let none = match values.as_slice() {
                    [one] => asked("$ne", plain(one)),
                    many => asked("$nin", list(many)),
                };
                Tree::all([there(column)?, none])
            }
            Op::Order(relation, value) => match relation.name() {
                Some(name) => asked(&format!("${name}"), plain(value)),
                None => return Err("an order was asked for that is none".to_owned()),
            },
            Op::Against(..) => return Err("Chroma does not compare keys with each other".to_owned()),
            Op::Like(_) | Op::NotLike(_) => return Err("Chroma has no patterns for metadata".to_owned()),
            Op::InNetworks(_) | Op::OutsideNetworks(_) => return Err("Chroma has no networks".to_owned()),
            Op::HoldsAny(values) => Tree::any(each("$contains", values)),
            Op::HoldsNone(values) => {
                Tree::all([there(column)?].into_iter().chain(each("$not_contains", values)))
            }
            Op::HoldsAll(values) => Tree::all(each("$contains", values)),
            Op::LacksOne(values) => Tree::all([there(column)?, Tree::any(each("$not_contains", values))]),
            Op::Within(_) | Op::NotWithin(_) | Op::Empty | Op::NotEmpty => {
                return Err("Chroma tells nothing about a set but which values it holds".to_owned());
            }
        })
    }
}

/// A question that only a row with a value answers with yes.
fn there(column: &Column) -> Result<Tree<Json>, String> {
    if column.is_filled() {
        return Ok(Tree::Always);
    }
    if let Some(tree) = marked(column, true) {
        return Ok(tree);
    }
    let name = column.name();
    match column.kind() {
        Kind::Long | Kind::Milliseconds | Kind::TenThousandths if !column.is_set() => {
            Ok(Tree::Leaf(json!({ name: { "$gte": i64::MIN } })))
        }
        Kind::Bool => Ok(Tree::any([false, true].map(|value| Tree::Leaf(json!({ name: { "$eq": value } }))))),
        _ => Err(format!("`{name}` has no marker, and Chroma cannot be asked what is there")),
    }
}

fn marked(column: &Column, value: bool) -> Option<Tree<Json>> {
    Some(Tree::Leaf(json!({ column.marker()?: { "$eq": value } })))
}

fn plain(value: &Scalar) -> Json {
    match value {
        Scalar::Bool(value) => (*value).into(),
        Scalar::Int(value) => (*value).into(),
        Scalar::Text(text) => text.as_str().into(),
    }
}
