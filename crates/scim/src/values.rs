//! What one operation of a patch does to the values of an attribute (RFC 7644, 3.5.2.1 to 3.5.2.3).

use serde_json::{Map, Value};

use crate::Resource;
use crate::clean::{clean_one, clean_value};
use crate::error::{ScimError, ScimType};
use crate::patch::{Op, object_at};
use crate::path::Target;
use crate::schema::{Attribute, Mutability};

/// An attribute as a whole.
pub(crate) fn whole(
    held: &mut Resource,
    op: Op,
    attribute: &'static Attribute,
    sent: &Value,
) -> Result<(), ScimError> {
    if attribute.mutability == Mutability::ReadOnly {
        let detail = format!("`{}` is not the client's to set", attribute.name);
        return Err(ScimError::new(ScimType::Mutability, detail));
    }
    let name = attribute.name;
    if op == Op::Remove {
        return remove(held, attribute, sent);
    }
    let Some(value) = clean_value(attribute, sent)? else {
        // RFC 7643, 2.5: null and the empty list are no value.
        return if op == Op::Replace { remove(held, attribute, &Value::Null) } else { Ok(()) };
    };
    match (value, held.get_mut(name)) {
        (Value::Array(new), Some(Value::Array(present))) if op == Op::Add => join(attribute, present, new),
        (Value::Object(new), Some(Value::Object(present))) if !attribute.many => {
            present.extend(new);
            // A part that is sent as null is taken away.
            for (part, _) in sent.as_object().into_iter().flatten().filter(|(_, value)| value.is_null()) {
                attribute.part(part).and_then(|part| present.remove(part.name));
            }
            Ok(())
        }
        (value, _) => {
            held.insert(name.to_owned(), value);
            Ok(())
        }
    }
}

fn remove(held: &mut Resource, attribute: &'static Attribute, sent: &Value) -> Result<(), ScimError> {
    if attribute.required {
        let detail = format!("`{}` must be there", attribute.name);
        return Err(ScimError::new(ScimType::Mutability, detail));
    }
    // Some clients say by `value` which values are to go; to take all of them away would be another thing.
    match (clean_value(attribute, sent)?, held.get_mut(attribute.name)) {
        (Some(Value::Array(named)), Some(Value::Array(present))) => {
            let named: Vec<String> = named.iter().map(|value| identity(attribute, value)).collect();
            let named: std::collections::HashSet<&str> = named.iter().map(String::as_str).collect();
            present.retain(|value| !named.contains(&*identity(attribute, value)));
        }
        _ => drop(held.remove(attribute.name)),
    }
    Ok(())
}

/// Adds values that are not there yet.
fn join(attribute: &Attribute, present: &mut Vec<Value>, new: Vec<Value>) -> Result<(), ScimError> {
    let mut known: std::collections::HashSet<String> =
        present.iter().map(|value| identity(attribute, value)).collect();
    if new.iter().any(is_primary) {
        present.iter_mut().for_each(not_primary);
    }
    for value in new {
        if known.insert(identity(attribute, &value)) {
            present.push(value);
        } else if is_primary(&value) {
            // It is there; what is new is that it is the first choice.
            let same = identity(attribute, &value);
            present
                .iter_mut()
                .filter(|held| identity(attribute, held) == same)
                .for_each(|held| *held = value.clone());
        }
    }
    bounded(attribute, present)
}

fn bounded(attribute: &Attribute, values: &[Value]) -> Result<(), ScimError> {
    let max = if attribute.name == "members" { 10_000 } else { 100 };
    if values.len() > max {
        let detail = format!("`{}` has more than {max} values", attribute.name);
        return Err(ScimError::new(ScimType::InvalidValue, detail));
    }
    Ok(())
}

/// What makes a value the same as another: its `value`, and what it is for; of other values, all of it.
fn identity(attribute: &Attribute, value: &Value) -> String {
    match value.get("value").and_then(Value::as_str) {
        Some(text) if attribute.name == "members" => text.to_owned(),
        Some(text) => format!("{text}\0{}", value.get("type").and_then(Value::as_str).unwrap_or_default()),
        None => value.to_string(),
    }
}

fn is_primary(value: &Value) -> bool {
    value.get("primary") == Some(&Value::Bool(true))
}

fn not_primary(value: &mut Value) {
    if let Some(primary) = value.get_mut("primary") {
        *primary = Value::Bool(false);
    }
}

/// A part of an attribute: of the one value, or of every value.
pub(crate) fn part_of(
    held: &mut Resource,
    op: Op,
    attribute: &'static Attribute,
    part: &'static Attribute,
    sent: &Value,
) -> Result<(), ScimError> {
    if !attribute.many {
        if op == Op::Remove {
            if let Some(Value::Object(members)) = held.get_mut(attribute.name) {
                members.remove(part.name);
            }
            return Ok(());
        }
        let value = clean_one(part, sent)?;
        object_at(held, attribute.name, |members| match value {
            Some(value) => drop(members.insert(part.name.to_owned(), value)),
            None => drop(members.remove(part.name)),
        });
        return Ok(());
    }
    changeable(op, part)?;
    match held.get_mut(attribute.name) {
        Some(Value::Array(values)) => {
            for value in values.iter_mut() {
                set(value, op, part, sent)?;
            }
            values.retain(|value| !is_empty(value));
            Ok(())
        }
        _ if op == Op::Remove => Ok(()),
        _ => Err(no_target()),
    }
}

/// Some values of an attribute.
pub(crate) fn some(
    mut values: Vec<Value>,
    op: Op,
    target: &Target,
    filter: &crate::Filter,
    sent: &Value,
) -> Result<Vec<Value>, ScimError> {
    if op == Op::Remove && target.part.is_none() {
        values.retain(|value| !filter.matches_item(value));
        return Ok(values);
    }
    if let Some(part) = target.part {
        changeable(op, part)?;
    }
    let mut found = false;
    let first = |value: &Value| match target.part {
        Some(part) => {
            part.name == "primary" && clean_one(part, value).ok().flatten() == Some(Value::Bool(true))
        }
        None => is_primary(value),
    };
    if op != Op::Remove && first(sent) {
        values.iter_mut().filter(|value| !filter.matches_item(value)).for_each(not_primary);
    }
    for value in values.iter_mut().filter(|value| filter.matches_item(value)) {
        found = true;
        match target.part {
            Some(part) => set(value, op, part, sent)?,
            None => merge(value, target.attribute, sent)?,
        }
    }
    if !found && op == Op::Replace {
        return Err(no_target());
    }
    if !found && op == Op::Add {
        values.push(made(target, filter, sent)?);
    }
    values.retain(|value| !is_empty(value));
    bounded(target.attribute, &values)?;
    Ok(values)
}

/// A value that fits the filter, where the filter says what that is: clients add `emails[type eq "work"].value` so.
fn made(target: &Target, filter: &crate::Filter, sent: &Value) -> Result<Value, ScimError> {
    let equal = filter.equalities().ok_or_else(no_target)?;
    let mut value = Map::new();
    for (place, is) in equal {
        let part = place.part.filter(|part| part.mutability != Mutability::ReadOnly).ok_or_else(no_target)?;
        if let Some(is) = clean_one(part, is)? {
            value.insert(part.name.to_owned(), is);
        }
    }
    let mut value = Value::Object(value);
    match target.part {
        Some(part) => set(&mut value, Op::Add, part, sent)?,
        None => merge(&mut value, target.attribute, sent)?,
    }
    Ok(value)
}

fn set(value: &mut Value, op: Op, part: &'static Attribute, sent: &Value) -> Result<(), ScimError> {
    let Some(members) = value.as_object_mut() else { return Ok(()) };
    let new = if op == Op::Remove { None } else { clean_one(part, sent)? };
    match new {
        Some(new) => drop(members.insert(part.name.to_owned(), new)),
        None => drop(members.remove(part.name)),
    }
    Ok(())
}

fn merge(value: &mut Value, attribute: &'static Attribute, sent: &Value) -> Result<(), ScimError> {
    let one = match sent {
        Value::Array(values) => match values.as_slice() {
            [one] => one,
            _ => return Err(ScimError::new(ScimType::InvalidValue, "one value belongs there")),
        },
        value => value,
    };
    let fixed = attribute.parts.iter().any(|part| part.mutability == Mutability::Immutable);
    let (Some(Value::Object(new)), Some(held)) = (clean_one(attribute, one)?, value.as_object_mut()) else {
        return Ok(());
    };
    let other = new.iter().find(|(name, new)| held.get(*name).is_some_and(|held| held != *new));
    if let Some((name, _)) = other.filter(|_| fixed) {
        return Err(immutable(name));
    }
    held.extend(new);
    Ok(())
}

fn changeable(op: Op, part: &Attribute) -> Result<(), ScimError> {
    match (op, part.mutability) {
        (Op::Replace | Op::Remove, Mutability::Immutable) => Err(immutable(part.name)),
        _ => Ok(()),
    }
}

fn immutable(name: &str) -> ScimError {
    ScimError::new(ScimType::Mutability, format!("`{name}` is set once; take the value away and add another"))
}

fn no_target() -> ScimError {
    ScimError::new(ScimType::NoTarget, "the path leads to no value")
}

pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
