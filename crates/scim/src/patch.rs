//! Changes of a resource by parts (RFC 7644, 3.5.2).

use serde_json::{Map, Value};

use crate::Resource;
use crate::clean::clean_extension;
use crate::error::{ScimError, ScimType};
use crate::path::{Path, Target};
use crate::schema::{Attribute, Kind, Mutability};
use crate::values::{is_empty, part_of, some, whole};

/// Operations of one patch at the most.
pub const PATCH_MAX: usize = 1_000;
/// Values that one patch may look at: a long patch on a long list must not take long.
const WORK_MAX: usize = 2_000_000;
const SCHEMA: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
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
pub(crate) fn object_at<T>(resource: &mut Resource, name: &str, work: impl FnOnce(&mut Resource) -> T) -> T {
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

fn syntax(what: &str) -> ScimError {
    ScimError::new(ScimType::InvalidSyntax, what)
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
