//! Whether a resource fits a filter.

use std::cmp::Ordering;

use bartizan_base::Timestamp;
use serde_json::Value;

use crate::Resource;
use crate::filter::{Compare, Filter};
use crate::path::Target;
use crate::schema::{Attribute, Type};

impl Filter {
    /// Whether `resource` fits.
    #[must_use]
    pub fn matches(&self, resource: &Resource) -> bool {
        match self {
            Self::And(left, right) => left.matches(resource) && right.matches(resource),
            Self::Or(left, right) => left.matches(resource) || right.matches(resource),
            Self::Not(inner) => !inner.matches(resource),
            Self::Present(target) => values(resource, target).iter().any(|value| present(value)),
            Self::Compare(target, compare, with) => {
                held(target.leaf(), *compare, &values(resource, target), with)
            }
            Self::Within(target, inner) => {
                items(resource, target).iter().any(|item| inner.matches_item(item))
            }
        }
    }

    /// Whether one value of a complex attribute fits a filter over its parts.
    #[must_use]
    pub fn matches_item(&self, item: &Value) -> bool {
        let part = |target: &Target| target.part.and_then(|part| item.get(part.name));
        match self {
            Self::And(left, right) => left.matches_item(item) && right.matches_item(item),
            Self::Or(left, right) => left.matches_item(item) || right.matches_item(item),
            Self::Not(inner) => !inner.matches_item(item),
            Self::Present(target) => part(target).is_some_and(present),
            Self::Compare(target, compare, with) => {
                let values: Vec<&Value> = part(target).into_iter().collect();
                held(target.leaf(), *compare, &values, with)
            }
            Self::Within(..) => false,
        }
    }
}

/// The values of the attribute itself, each for itself.
pub(crate) fn items<'a>(resource: &'a Resource, target: &Target) -> Vec<&'a Value> {
    let attribute = match target.extension {
        None => resource.get(target.attribute.name),
        Some(schema) => resource.get(schema.id).and_then(|extension| extension.get(target.attribute.name)),
    };
    match attribute {
        None => Vec::new(),
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
    }
}

/// The values that `target` leads to.
pub(crate) fn values<'a>(resource: &'a Resource, target: &Target) -> Vec<&'a Value> {
    let items = items(resource, target);
    match target.part {
        None => items,
        Some(part) => items.into_iter().filter_map(|item| item.get(part.name)).collect(),
    }
}

/// RFC 7643, 2.5: empty is the same as absent.
fn present(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn held(attribute: &Attribute, compare: Compare, values: &[&Value], with: &Value) -> bool {
    match compare {
        Compare::Ne => !held(attribute, Compare::Eq, values, with),
        Compare::Eq if with.is_null() => values.iter().all(|value| !present(value)),
        _ => values.iter().any(|value| one(attribute, compare, value, with)),
    }
}

fn one(attribute: &Attribute, compare: Compare, value: &Value, with: &Value) -> bool {
    if let (Value::String(value), Value::String(with)) = (value, with)
        && attribute.kind != Type::DateTime
    {
        let (value, with) = (folded(attribute, value), folded(attribute, with));
        return match compare {
            Compare::Co => value.contains(&*with),
            Compare::Sw => value.starts_with(&*with),
            Compare::Ew => value.ends_with(&*with),
            compare => stands(compare, value.cmp(&with)),
        };
    }
    order(attribute, value, with).is_some_and(|order| stands(compare, order))
}

fn stands(compare: Compare, order: Ordering) -> bool {
    match compare {
        Compare::Eq => order.is_eq(),
        Compare::Gt => order.is_gt(),
        Compare::Ge => order.is_ge(),
        Compare::Lt => order.is_lt(),
        Compare::Le => order.is_le(),
        Compare::Ne | Compare::Co | Compare::Sw | Compare::Ew => false,
    }
}

/// The order of two values of an attribute; none for values that have none.
pub(crate) fn order(attribute: &Attribute, a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) if attribute.kind == Type::DateTime => {
            let moment = |text: &str| Timestamp::parse_rfc3339(text).ok();
            Some(moment(a)?.cmp(&moment(b)?))
        }
        (Value::String(a), Value::String(b)) => Some(folded(attribute, a).cmp(&folded(attribute, b))),
        _ => None,
    }
}

/// A text as it is compared: by its letters, unless case matters.
fn folded<'a>(attribute: &Attribute, text: &'a str) -> std::borrow::Cow<'a, str> {
    if attribute.exact { text.into() } else { text.to_lowercase().into() }
}
