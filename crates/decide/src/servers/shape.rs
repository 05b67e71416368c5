//! What policies can see of the arguments of a tool: the types that its schema (JSON Schema, as MCP carries it) gives them, as far
//! as policies have such types, and values that are read by them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Number, Value, json};
use smol_str::SmolStr;

use super::{DEPTH_MAX, NAME_MAX};
use crate::inner::Fact;

/// The type of a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// A text.
    Text,
    /// A whole number.
    Whole,
    /// True or false.
    Flag,
    /// A list of values of one type: policies see it as a set.
    List(Box<Shape>),
    /// Members by name.
    Members(BTreeMap<SmolStr, Member>),
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    /// Whether it must be there. One that may be `null` need not: `null` is absent.
    required: bool,
    nullable: bool,
    shape: Shape,
}

/// A value is not of the type that the tool declares for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfit;

/// Whole numbers of JSON that every reader keeps exactly, also where they are written as fractions.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

impl Shape {
    /// The type of an object's members; none where it has no members that policies can see.
    pub(super) fn record(schema: &Value, budget: &mut usize, depth: usize) -> Option<Self> {
        let properties = schema.get("properties").and_then(Value::as_object)?;
        let required = schema.get("required").and_then(Value::as_array);
        let required: BTreeSet<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
        let mut members = BTreeMap::new();
        for (name, property) in properties {
            *budget = budget.checked_sub(1)?;
            if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
                continue;
            }
            if let Some((shape, nullable)) = Self::of(property, budget, depth + 1) {
                let required = required.contains(name.as_str()) && !nullable;
                members.insert(name.into(), Member { required, nullable, shape });
            }
        }
        Some(Self::Members(members))
    }

    /// The type of a value, where policies have one, and whether it may be `null` instead.
    fn of(schema: &Value, budget: &mut usize, depth: usize) -> Option<(Self, bool)> {
        if depth > DEPTH_MAX {
            return None;
        }
        let is_null = |one: &Value| one.get("type").is_some_and(|of| of == "null");
        for choice in ["anyOf", "oneOf"] {
            if let Some([one, other]) = schema.get(choice).and_then(Value::as_array).map(Vec::as_slice) {
                return match (is_null(one), is_null(other)) {
                    (false, true) => Some((Self::of(one, budget, depth + 1)?.0, true)),
                    (true, false) => Some((Self::of(other, budget, depth + 1)?.0, true)),
                    _ => None,
                };
            }
        }
        let (kind, nullable) = match schema.get("type")? {
            Value::String(kind) => (kind.as_str(), false),
            Value::Array(kinds) => match kinds.as_slice() {
                [Value::String(kind), Value::String(null)] | [Value::String(null), Value::String(kind)]
                    if null == "null" =>
                {
                    (kind.as_str(), true)
                }
                _ => return None,
            },
            _ => return None,
        };
        let shape = match kind {
            "string" => Self::Text,
            "integer" => Self::Whole,
            "boolean" => Self::Flag,
            "array" => match Self::of(schema.get("items")?, budget, depth + 1)? {
                (element, false) => Self::List(Box::new(element)),
                (_, true) => return None,
            },
            "object" => Self::record(schema, budget, depth)?,
            _ => return None,
        };
        Some((shape, nullable))
    }

    /// The type in the engine's JSON.
    pub(super) fn words(&self) -> Map<String, Value> {
        let words = match self {
            Self::Text => json!({"type": "String"}),
            Self::Whole => json!({"type": "Long"}),
            Self::Flag => json!({"type": "Boolean"}),
            Self::List(element) => json!({"type": "Set", "element": element.words()}),
            Self::Members(members) => {
                let members = members.iter().map(|(name, member)| {
                    let mut words = member.shape.words();
                    words.insert("required".to_owned(), member.required.into());
                    (name.to_string(), Value::Object(words))
                });
                json!({"type": "Record", "attributes": members.collect::<Map<_, _>>()})
            }
        };
        as_object(words)
    }

    /// The type of the sizes of such a value; none where it has none.
    pub(super) fn sizes(&self) -> Option<Map<String, Value>> {
        let words = match self {
            Self::Text | Self::List(_) => json!({"type": "Long"}),
            Self::Whole | Self::Flag => return None,
            Self::Members(members) => {
                let sized = members.iter().filter_map(|(name, member)| {
                    let mut words = member.shape.sizes()?;
                    words.insert("required".to_owned(), member.required.into());
                    Some((name.to_string(), Value::Object(words)))
                });
                json!({"type": "Record", "attributes": sized.collect::<Map<_, _>>()})
            }
        };
        Some(as_object(words))
    }

    /// A value as policies see it. Members that have no type in policies are left out.
    ///
    /// # Errors
    /// When the value, or one in it, is of another type than declared, or lacks a member that must be there.
    pub(crate) fn fact(&self, value: &Value) -> Result<Fact, Misfit> {
        match (self, value) {
            (Self::Text, Value::String(text)) => Ok(Fact::text(text)),
            (Self::Whole, Value::Number(number)) => whole(number).map(Fact::whole).ok_or(Misfit),
            (Self::Flag, Value::Bool(flag)) => Ok(Fact::flag(*flag)),
            (Self::List(element), Value::Array(items)) => {
                let items = items.iter().map(|item| element.fact(item));
                items.collect::<Result<Vec<_>, _>>().map(Fact::set)
            }
            (Self::Members(_), Value::Object(given)) => self.members(given),
            _ => Err(Misfit),
        }
    }

    /// The same of an object's members.
    ///
    /// # Errors
    /// As [`Shape::fact`].
    pub(crate) fn members(&self, given: &Map<String, Value>) -> Result<Fact, Misfit> {
        let Self::Members(members) = self else { return Err(Misfit) };
        let mut out = Vec::with_capacity(members.len());
        for (name, member) in members {
            match given.get(name.as_str()) {
                None if member.required => return Err(Misfit),
                None => {}
                Some(Value::Null) if member.nullable => {}
                Some(value) => out.push((name.clone(), member.shape.fact(value)?)),
            }
        }
        Ok(Fact::named(out))
    }

    /// The sizes of a value that fits: bytes of texts, numbers of items.
    fn size(&self, value: &Value) -> Option<Fact> {
        let length = |length: usize| Some(Fact::long(u64::try_from(length).unwrap_or(u64::MAX)));
        match (self, value) {
            (Self::Text, Value::String(text)) => length(text.len()),
            (Self::List(_), Value::Array(items)) => length(items.len()),
            (Self::Members(_), Value::Object(given)) => Some(self.sizes_of(given)),
            _ => None,
        }
    }

    /// The same of an object's members.
    pub(crate) fn sizes_of(&self, given: &Map<String, Value>) -> Fact {
        let Self::Members(members) = self else { return Fact::named(Vec::new()) };
        let sized = members.iter().filter_map(|(name, member)| {
            let size = member.shape.size(given.get(name.as_str())?)?;
            Some((name.clone(), size))
        });
        Fact::named(sized.collect())
    }
}

fn as_object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// A whole number, also one that is written `3.0` (JSON Schema 2020-12, 6.1.1).
fn whole(number: &Number) -> Option<i64> {
    if let Some(whole) = number.as_i64() {
        return Some(whole);
    }
    let fraction = number.as_f64().filter(|_| number.is_f64())?;
    // Exact: beyond this bound two numbers could look alike.
    (fraction.fract() == 0.0 && fraction.abs() <= EXACT_MAX).then(|| format!("{fraction:.0}").parse().ok())?
}
