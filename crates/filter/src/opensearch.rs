//! Queries of OpenSearch, as JSON: the `bool` query with `filter`, so that nothing scores.
//!
//! What is different there: every field may hold several values, and a query is true when any one matches; `must_not` is true for what is
//! missing, so everything negative stands beside `exists`, which is false for an empty array; `text` fields are cut into
//! words and folded, so only `keyword` fields are asked. A `keyword` longer than its `ignore_above` is not
//! indexed: for one value that only hides the row, for a set it would hide an element, so long texts are not asked for
//! in what a set must not hold.

use serde_json::{Value as Json, json};

use crate::columns::{Column, Columns, Kind};
use crate::lower::{Notation, Op, Scalar, compile};
use crate::plan::{Pushdown, Refused, Strictness};
use crate::tree::{Filter, Tree};

/// `indices.query.bool.max_clause_count`, unless somebody changed it.
const CLAUSES_MAX: usize = 1024;
/// `index.max_terms_count`, unless somebody changed it.
const TERMS_MAX: usize = 65_536;
/// `ignore_above` of the fields that dynamic mapping makes, in characters.
const INDEXED_MAX: usize = 256;

/// Compiles `filter` to a query of OpenSearch, to stand in the `filter` of a `bool` or of a vector query. Columns are fields.
///
/// # Errors
/// [`Refused`], with every part that OpenSearch cannot be asked, or when there are more clauses than it takes.
pub fn opensearch(
    filter: &Filter,
    columns: &Columns,
    strictness: Strictness,
) -> Result<Pushdown<Json>, Refused> {
    // Two for each test: the question and its guard.
    let compiled =
        compile(filter, columns, strictness, &mut OpenSearch)?.within(CLAUSES_MAX / 2, "OpenSearch")?;
    Ok(match compiled {
        Pushdown::Never => Pushdown::Never,
        Pushdown::Query { query, complete } => Pushdown::Query { query: written(&query), complete },
    })
}

fn written(tree: &Tree<Json>) -> Json {
    match tree {
        Tree::Always => json!({ "match_all": {} }),
        Tree::Never => json!({ "match_none": {} }),
        Tree::Leaf(part) => part.clone(),
        Tree::All(parts) => json!({ "bool": { "filter": parts.iter().map(written).collect::<Vec<_>>() } }),
        Tree::Any(parts) => {
            let parts: Vec<_> = parts.iter().map(written).collect();
            json!({ "bool": { "should": parts, "minimum_should_match": 1 } })
        }
    }
}

struct OpenSearch;

impl Notation for OpenSearch {
    type Part = Json;

    fn test(&mut self, column: &Column, op: &Op<'_>) -> Result<Tree<Json>, String> {
        if matches!(column.kind(), Kind::Timestamp | Kind::Numeric | Kind::Address) {
            return Err(format!("OpenSearch is not asked for {} as such", column.kind().noun()));
        }
        of(column, op)
    }
}

fn of(column: &Column, op: &Op<'_>) -> Result<Tree<Json>, String> {
    let name = column.name();
    let exists = || json!({ "exists": { "field": name } });
    let but = |not: Json| Tree::Leaf(json!({ "bool": { "filter": [exists()], "must_not": [not] } }));
    Ok(match op {
        Op::Present if column.is_set() => there(column)?,
        Op::Present | Op::NotEmpty => Tree::Leaf(exists()),
        Op::Absent => match marked(column, false) {
            Some(tree) => tree,
            None if column.is_set() => return Err(unmarked(column)),
            None => Tree::Leaf(json!({ "bool": { "must_not": [exists()] } })),
        },
        Op::In(list) | Op::HoldsAny(list) => Tree::Leaf(terms(name, list)?),
        Op::NotIn(list) => but(terms(name, list)?),
        Op::Order(relation, value) => match relation.name() {
            Some(sign) => Tree::Leaf(json!({ "range": { name: { sign: plain(value) } } })),
            None => return Err("an order was asked for that is none".to_owned()),
        },
        Op::Like(pattern) | Op::NotLike(pattern) => {
            let written = pattern.written("*", |c, out| {
                if matches!(c, '*' | '?' | '\\') {
                    out.push('\\');
                }
                out.push(c);
            });
            let like = json!({ "wildcard": { name: { "value": written, "case_insensitive": false } } });
            if matches!(op, Op::Like(_)) { Tree::Leaf(like) } else { but(like) }
        }
        Op::HoldsNone(list) => {
            short(name, list)?;
            let none = json!({ "bool": { "must_not": [terms(name, list)?] } });
            Tree::all([there(column)?, Tree::Leaf(none)])
        }
        Op::HoldsAll(list) => {
            let each = list.iter().map(|value| terms(name, std::slice::from_ref(value)).map(Tree::Leaf));
            Tree::all(each.collect::<Result<Vec<_>, _>>()?)
        }
        Op::LacksOne(list) => {
            short(name, list)?;
            let each = list.iter().map(|value| {
                let one = terms(name, std::slice::from_ref(value))?;
                Ok::<_, String>(Tree::Leaf(json!({ "bool": { "must_not": [one] } })))
            });
            Tree::all([there(column)?, Tree::any(each.collect::<Result<Vec<_>, _>>()?)])
        }
        Op::Within(_) | Op::NotWithin(_) => {
            return Err("OpenSearch is not asked what else a set holds".to_owned());
        }
        Op::Empty => Tree::all([there(column)?, Tree::Leaf(json!({ "bool": { "must_not": [exists()] } }))]),
        Op::Against(..) => return Err("OpenSearch does not compare fields with each other".to_owned()),
        Op::InNetworks(_) | Op::OutsideNetworks(_) => {
            return Err("OpenSearch folds addresses of both families into one".to_owned());
        }
    })
}

fn terms(name: &str, list: &[Scalar]) -> Result<Json, String> {
    match list {
        [one] => Ok(json!({ "term": { name: { "value": plain(one) } } })),
        many if many.len() <= TERMS_MAX => {
            Ok(json!({ "terms": { name: many.iter().map(plain).collect::<Vec<_>>() } }))
        }
        many => Err(format!(
            "OpenSearch takes at most {TERMS_MAX} values, `{name}` is compared with {}",
            many.len()
        )),
    }
}

/// Refuses texts that might not be indexed.
fn short(name: &str, list: &[Scalar]) -> Result<(), String> {
    let long = |value: &Scalar| matches!(value, Scalar::Text(text) if text.chars().count() > INDEXED_MAX);
    if list.iter().any(long) {
        return Err(format!("`{name}` is asked for a text that may be too long to be indexed"));
    }
    Ok(())
}

/// A question that only a row with a set, be it empty, answers with yes.
fn there(column: &Column) -> Result<Tree<Json>, String> {
    if column.is_filled() {
        return Ok(Tree::Always);
    }
    marked(column, true).ok_or_else(|| unmarked(column))
}

fn unmarked(column: &Column) -> String {
    format!("`{}` has no marker, and OpenSearch takes an empty set for none", column.name())
}

fn marked(column: &Column, value: bool) -> Option<Tree<Json>> {
    Some(Tree::Leaf(json!({ "term": { column.marker()?: { "value": value } } })))
}

fn plain(value: &Scalar) -> Json {
    match value {
        Scalar::Bool(value) => (*value).into(),
        Scalar::Int(value) => (*value).into(),
        Scalar::Text(text) => text.as_str().into(),
    }
}
