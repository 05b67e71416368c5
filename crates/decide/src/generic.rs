//! Things of types that a bundle's own schema declares: read by that schema, or left out.
//!
//! A bundle can change what its schema says of things that are declared already. A thing that does not fit any more is left
//! out, and with it whatever refers to it: were it only missing, a rule that forbids what lies in it would no longer apply.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bartizan_base::Name;
use bartizan_model::directory::EntitySpec;
use bartizan_model::{Document, EntityRef, Spec};
use cedar_policy::{Entity, EntityUid, Schema};
use serde_json::{Value, json};

use crate::describe::{Attribute, Described, uid};
use crate::platform;
use crate::vocabulary::chain;

/// A declared thing that policies do not see, because it does not fit the schema in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{document}` ({entity}): {why}")]
pub struct Misfit {
    /// The document's name.
    pub document: Name,
    /// What it declares.
    pub entity: EntityRef,
    /// What does not fit.
    pub why: String,
}

/// What became of the things of a bundle's own types.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) fit: Vec<(EntityRef, Described)>,
    pub(crate) misfits: Vec<Misfit>,
}

/// Reads the things of a bundle's own types among `documents`. `present` says what of the house's own types is declared.
pub(crate) fn admit(
    documents: &[Document],
    schema: Option<&Schema>,
    present: impl Fn(&EntityUid) -> bool,
) -> Admitted {
    let mut out = Admitted::default();
    let mut kept: BTreeMap<EntityUid, (&Document, EntityRef, Described)> = BTreeMap::new();
    let mut misfit = |document: &Document, why: String| {
        out.misfits.push(Misfit { document: document.name.clone(), entity: document.entity(), why });
    };
    let mut twice = BTreeSet::new();
    for document in documents {
        let Spec::Entity(spec) = &document.spec else { continue };
        let read = schema.ok_or_else(no_schema).and_then(|schema| read(spec, schema));
        match read {
            Ok((id, described)) => {
                if let Some((other, ..)) = kept.get(&id) {
                    misfit(document, format!("`{}` declares the same thing", other.name));
                    twice.insert(id);
                } else {
                    kept.insert(id, (document, document.entity(), described));
                }
            }
            Err(why) => misfit(document, why),
        }
    }
    // Of two that claim to be the same, neither can be believed.
    for id in twice {
        if let Some((document, ..)) = kept.remove(&id) {
            misfit(document, "another document declares the same thing".to_owned());
        }
    }
    for id in in_circles(&kept) {
        if let Some((document, ..)) = kept.remove(&id) {
            misfit(document, "it is above itself, or in something that is".to_owned());
        }
    }
    for (id, missing) in without_what_they_refer_to(&kept, present) {
        if let Some((document, ..)) = kept.remove(&id) {
            misfit(document, format!("it refers to {missing}, which is not declared or does not fit"));
        }
    }
    out.fit = kept.into_values().map(|(_, entity, described)| (entity, described)).collect();
    out
}

fn no_schema() -> String {
    "no bundle is in force that declares its type".to_owned()
}

/// One thing as the schema reads it.
///
/// # Errors
/// What does not fit, in words.
pub(crate) fn read(spec: &EntitySpec, schema: &Schema) -> Result<(EntityUid, Described), String> {
    let kind = spec.kind.as_name();
    if platform::has_type(kind) {
        return Err(format!("`{kind}` is a type of the house; declare it by its own kind"));
    }
    let id = uid(kind, &spec.id).ok_or_else(|| format!("`{kind}` is not the name of a type"))?;
    let attrs: BTreeMap<_, _> = spec.attributes.iter().collect();
    let parents: Vec<Value> =
        spec.parents.iter().map(|p| json!({"type": p.kind.as_name(), "id": p.name})).collect();
    let written = json!({"uid": {"type": kind, "id": spec.id}, "attrs": attrs, "parents": parents});
    let entity = Entity::from_json_value(written, Some(schema)).map_err(|e| chain(&e))?;
    let plain = entity.to_json_value().map_err(|e| chain(&e))?;
    let mut points_to = Vec::new();
    pointers(plain.get("attrs").unwrap_or(&Value::Null), &mut points_to);
    let (_, attributes, parents) = entity.into_inner();
    let attributes = attributes.into_iter().map(|(name, read)| (name, Attribute::Read(read))).collect();
    Ok((id, (attributes, parents.into_iter().collect(), points_to)))
}

/// The entities that a value in the engine's explicit JSON points to.
pub(crate) fn pointers(value: &Value, out: &mut Vec<EntityUid>) {
    match value {
        Value::Object(members) => match members.get("__entity") {
            Some(target) => {
                let text = |name: &str| target.get(name).and_then(Value::as_str);
                out.extend(text("type").zip(text("id")).and_then(|(kind, id)| uid(kind, id)));
            }
            None => members.values().for_each(|member| pointers(member, out)),
        },
        Value::Array(items) => items.iter().for_each(|item| pointers(item, out)),
        _ => {}
    }
}

type Kept<'a> = BTreeMap<EntityUid, (&'a Document, EntityRef, Described)>;

/// Those that are above themselves. What nothing is left to stand on after taking away, again and again, whatever has no
/// parents among the rest lies in a circle, or below one.
fn in_circles(kept: &Kept<'_>) -> BTreeSet<EntityUid> {
    let mut open: HashMap<&EntityUid, usize> = HashMap::new();
    let mut below: HashMap<&EntityUid, Vec<&EntityUid>> = HashMap::new();
    for (id, (_, _, (_, parents, _))) in kept {
        let among: Vec<&EntityUid> = parents.iter().filter(|p| kept.contains_key(p)).collect();
        open.insert(id, among.len());
        for parent in among {
            below.entry(parent).or_default().push(id);
        }
    }
    let mut free: Vec<&EntityUid> = open.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
    while let Some(id) = free.pop() {
        open.remove(id);
        for child in below.remove(id).unwrap_or_default() {
            if let Some(left) = open.get_mut(child) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    free.push(child);
                }
            }
        }
    }
    open.into_keys().cloned().collect()
}

/// Those that refer to something that is not there, directly or through others, with what is missing.
fn without_what_they_refer_to(
    kept: &Kept<'_>,
    present: impl Fn(&EntityUid) -> bool,
) -> BTreeMap<EntityUid, EntityUid> {
    let mut users: HashMap<&EntityUid, Vec<&EntityUid>> = HashMap::new();
    let mut lost: BTreeMap<EntityUid, EntityUid> = BTreeMap::new();
    let mut queue = Vec::new();
    for (id, (_, _, (_, parents, points_to))) in kept {
        for target in parents.iter().chain(points_to) {
            if kept.contains_key(target) {
                users.entry(target).or_default().push(id);
            } else if !present(target) && lost.insert(id.clone(), target.clone()).is_none() {
                queue.push(id);
            }
        }
    }
    while let Some(id) = queue.pop() {
        for user in users.remove(id).unwrap_or_default() {
            if !lost.contains_key(user) {
                lost.insert(user.clone(), id.clone());
                queue.push(user);
            }
        }
    }
    lost
}

#[cfg(test)]
mod tests;
