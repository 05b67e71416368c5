//! Changes of a resource by parts (RFC 7644, 3.5.2).

use serde_json::{Map, Value};

use crate::Resource;
use crate::clean::{clean_extension, clean_one, clean_value};
use crate::error::{ScimError, ScimType};
use crate::path::{Path, Target};
use crate::schema::{Attribute, Kind, Mutability};

/// Operations of one patch at the most.
pub const PATCH_MAX: usize = 1_000;
/// Values that one patch may look at: a long patch on a long list must not take long.
const WORK_MAX: usize = 2_000_000;
const SCHEMA: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Add,
    Remove,
    Replace,
}

#[derive(Clone, Debug)]
struct Operation {
    op: Op,
    path: Option<Path>,
    value: Value,
}

/// A patch, read for one type of resource.
#[derive(Clone, Debug)]
pub struct Patch {
    kind: Kind,
    operations: Vec<Operation>,
}

impl Patch {
    /// Reads a `PatchOp` message.
    ///
    /// # Errors
    /// `invalidSyntax`, `invalidPath`, or status 413 for too many operations.
    pub fn parse(kind: &Kind, body: &Value) -> Result<Self, ScimError> {
        let member = |of: &Value, name: &str| {
            let members = of.as_object()?;
            members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        let schemas = member(body, "schemas");
        let named = |value: &Value| value.as_str().is_some_and(|urn| urn.eq_ignore_ascii_case(SCHEMA));
        if !schemas.and_then(|s| s.as_array().map(|s| s.iter().any(named))).unwrap_or(false) {
            return Err(syntax("`schemas` does not name the message `PatchOp`"));
        }
        let Some(Value::Array(listed)) = member(body, "Operations") else {
            return Err(syntax("`Operations` is missing"));
        };
        if listed.len() > PATCH_MAX {
            return Err(ScimError::of(413, format!("a patch has at most {PATCH_MAX} operations")));
        }
        let read = |given: &Value| {
            let op = member(given, "op");
            let op = match op.as_ref().and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref() {
                Some("add") => Op::Add,
                Some("remove") => Op::Remove,
                Some("replace") => Op::Replace,
                _ => return Err(syntax("`op` is none of `add`, `remove`, `replace`")),
            };
            let path = match member(given, "path") {
                None | Some(Value::Null) => None,
                Some(Value::String(path)) if path.is_empty() => None,
                Some(Value::String(path)) => Some(Path::parse(kind, &path)?),
                Some(_) => return Err(syntax("`path` is not a text")),
            };
            Ok(Operation { op, path, value: member(given, "value").unwrap_or(Value::Null) })
        };
        Ok(Self { kind: *kind, operations: listed.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// The resource after all operations; all of them, or an error.
    ///
    /// # Errors
    /// `noTarget`, `mutability`, `invalidValue`, `invalidPath`, or status 413 where it takes too long.
    pub fn apply(&self, resource: &Resource) -> Result<Resource, ScimError> {
        let mut out = resource.clone();
        let mut work = 0;
        for Operation { op, path, value } in &self.operations {
            work += weight(&out).saturating_add(weight_of(value));
            if work > WORK_MAX {
                return Err(ScimError::of(413, "the patch is too long for so large a resource"));
            }
            match path {
                Some(path) => at(&mut out, *op, path, value)?,
                None => self.everywhere(&mut out, *op, value)?,
            }
            out.retain(|_, value| !is_empty(value));
        }
        Ok(out)
    }

    /// Without a path: what is given stands for the whole resource, attribute by attribute.
    fn everywhere(&self, resource: &mut Resource, op: Op, value: &Value) -> Result<(), ScimError> {
        if op == Op::Remove {
            return Err(ScimError::new(ScimType::NoTarget, "`remove` without a path"));
        }
        let members =
            value.as_object().ok_or_else(|| syntax("`value` is not an object, and there is no path"))?;
        for (name, value) in members {
            let known = ["schemas", "id", "meta"].iter().any(|ours| name.eq_ignore_ascii_case(ours));
            if known {
                continue;
            }
            // Some clients write whole paths as names.
            at(resource, op, &Path::parse(&self.kind, name)?, value)?;
        }
        Ok(())
    }
}

fn at(resource: &mut Resource, op: Op, path: &Path, value: &Value) -> Result<(), ScimError> {
    match path {
        Path::Extension(schema) => {
            if op == Op::Remove {
                resource.remove(schema.id);
                return Ok(());
            }
            let given = clean_extension(schema, value)?;
            object_at(resource, schema.id, |held| {
                for (name, value) in given {
                    let attribute = schema.attribute(&name);
                    attribute.map_or(Ok(()), |attribute| whole(held, op, attribute, &value))?;
                }
                Ok(())
            })
        }
        Path::Attribute(target) => {
            settable(target)?;
            held_by(resource, target, |held| match target.part {
                None => whole(held, op, target.attribute, value),
                Some(part) => part_of(held, op, target.attribute, part, value),
            })
        }
        Path::Values { target, filter } => {
            settable(target)?;
            held_by(resource, target, |held| {
                let values = match held.remove(target.attribute.name) {
                    Some(Value::Array(values)) => values,
                    _ => Vec::new(),
                };
                let values = some(values, op, target, filter, value)?;
                held.insert(target.attribute.name.to_owned(), values.into());
                Ok(())
            })
        }
    }
}

/// Works where the attribute of a target lies.
fn held_by<T>(resource: &mut Resource, target: &Target, work: impl FnOnce(&mut Resource) -> T) -> T {
    match target.extension {
        None => work(resource),
        Some(schema) => object_at(resource, schema.id, work),
    }
}

/// Works on the object under a name, made if it is not there.
fn object_at<T>(resource: &mut Resource, name: &str, work: impl FnOnce(&mut Resource) -> T) -> T {
    let mut members = match resource.remove(name) {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    let done = work(&mut members);
    resource.insert(name.to_owned(), members.into());
    done
}

fn settable(target: &Target) -> Result<(), ScimError> {
    let ours = |attribute: &Attribute| attribute.mutability == Mutability::ReadOnly;
    if ours(target.attribute) || target.part.is_some_and(ours) {
        let detail = format!("`{}` is not the client's to set", target.leaf().name);
        return Err(ScimError::new(ScimType::Mutability, detail));
    }
    Ok(())
}

/// An attribute as a whole.
fn whole(held: &mut Resource, op: Op, attribute: &'static Attribute, sent: &Value) -> Result<(), ScimError> {
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
fn part_of(
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
fn some(
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

fn syntax(what: &str) -> ScimError {
    ScimError::new(ScimType::InvalidSyntax, what)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn weight(resource: &Resource) -> usize {
    resource.values().map(weight_of).sum()
}

fn weight_of(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.len().saturating_add(1),
        Value::Object(members) => members.values().map(weight_of).sum::<usize>().saturating_add(1),
        _ => 1,
    }
}
