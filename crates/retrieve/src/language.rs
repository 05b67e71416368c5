//! The language in which callers filter by metadata.
//!
//! ```json
//! {"all": [{"field": "year", "at_least": 2024}, {"any": [{"field": "lang", "in": ["de", "en"]}, {"field": "draft", "is": false}]}]}
//! ```
//!
//! `all`, `any`; of a field `is`, `not`, `in`, `not_in`, and of numbers `at_least`, `at_most`, `more_than`, `less_than`. Nothing matches a
//! document that lacks the field, `not` included. Only fields that the route declares can be named, so that nobody asks
//! about what policies know.

use std::sync::Arc;

use bartizan_filter::{Atom, Check, Filter, Relation, Tree, Value, What};
use bartizan_model::{CorpusRouteSpec, MetadataKind};
use serde_json::Value as Json;

use crate::layout::{metadata, own};
use crate::row::Fits as _;

/// How deep a filter may nest.
const DEPTH_MAX: usize = 6;
/// How many tests it may have, and values in one of them.
const TESTS_MAX: usize = 64;

/// What was sent is not a filter of the language; why, in words that hold nothing of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`where`: {0}")]
pub struct NotAFilter(String);

/// Reads a filter.
///
/// # Errors
/// [`NotAFilter`].
pub fn metadata_filter(told: &Json, route: &CorpusRouteSpec) -> Result<Filter, NotAFilter> {
    let mut tests = 0;
    read(told, route, DEPTH_MAX, &mut tests)
}

/// A test of one of our own fields.
pub(crate) fn test(field: &str, check: Check) -> Filter {
    Tree::Leaf(Atom { rule: Arc::from("where"), what: What::Test { field: own(field), check } })
}

fn read(told: &Json, route: &CorpusRouteSpec, left: usize, tests: &mut usize) -> Result<Filter, NotAFilter> {
    let wrong = |why: &str| NotAFilter(why.to_owned());
    let left = left.checked_sub(1).ok_or_else(|| wrong("it nests too deeply"))?;
    let members = told.as_object().ok_or_else(|| wrong("a filter is an object"))?;
    let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
    names.sort_unstable();
    if let [sign @ ("all" | "any")] = names.as_slice() {
        let parts = members.get(*sign).and_then(Json::as_array).filter(|parts| !parts.is_empty());
        let parts = parts.ok_or_else(|| NotAFilter(format!("`{sign}` is a list that is not empty")))?;
        let parts: Vec<Filter> =
            parts.iter().map(|part| read(part, route, left, tests)).collect::<Result<_, _>>()?;
        return Ok(if *sign == "all" { Tree::all(parts) } else { Tree::any(parts) });
    }
    *tests += 1;
    if *tests > TESTS_MAX {
        return Err(wrong("it has too many tests"));
    }
    let field = members.get("field").and_then(Json::as_str).ok_or_else(|| wrong("a test has a `field`"))?;
    let kind = route.metadata.iter().find(|(name, _)| name.as_str() == field);
    let (_, kind) = kind.ok_or_else(|| wrong("a `field` that the corpus does not declare"))?;
    let mut others = members.iter().filter(|(name, _)| *name != "field");
    let (Some((relation, given)), None) = (others.next(), others.next()) else {
        return Err(wrong("a test has a `field` and one relation"));
    };
    Ok(test(&metadata(field), check(relation, given, *kind)?))
}

fn check(relation: &str, given: &Json, kind: MetadataKind) -> Result<Check, NotAFilter> {
    let wrong = |why: &str| NotAFilter(why.to_owned());
    let value = |given: &Json| {
        let read = match given {
            Json::Bool(flag) => Some(Value::Bool(*flag)),
            Json::Number(number) => number.as_i64().map(Value::Long),
            Json::String(text) => Some(Value::Text(text.clone())),
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        };
        read.filter(|_| kind.fits(given)).ok_or_else(|| wrong("a value that is not of the field's kind"))
    };
    let values = || -> Result<Vec<Value>, NotAFilter> {
        let list = given.as_array().filter(|list| (1..=TESTS_MAX).contains(&list.len()));
        list.ok_or_else(|| wrong("a list of 1 to 64 values"))?.iter().map(value).collect()
    };
    let order = |relation| {
        if kind == MetadataKind::Number {
            Ok(Check::Order(relation, value(given)?))
        } else {
            Err(wrong("only numbers are greater or less"))
        }
    };
    match relation {
        "is" => Ok(Check::In(vec![value(given)?])),
        "not" => Ok(Check::NotIn(vec![value(given)?])),
        "in" => Ok(Check::In(values()?)),
        "not_in" => Ok(Check::NotIn(values()?)),
        "at_least" => order(Relation::GreaterOrEqual),
        "at_most" => order(Relation::LessOrEqual),
        "more_than" => order(Relation::Greater),
        "less_than" => order(Relation::Less),
        _ => Err(wrong(
            "a relation is one of `is`, `not`, `in`, `not_in`, `at_least`, `at_most`, `more_than`, `less_than`",
        )),
    }
}
