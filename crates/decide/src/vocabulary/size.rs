//! How large and how deep the types of a bundle become when the names in them are written out, as the engine does it. A few
//! lines can stand for more than any machine holds, or for a depth that ends the process.

use std::collections::BTreeMap;

use serde_json::Value;

/// How far types may refer to one another.
const DEPTH_MAX: usize = 16;
/// Parts of all types, written out.
const PARTS_MAX: usize = 200_000;

/// What a type holds itself: how many parts, and which names.
#[derive(Default)]
struct Type<'a> {
    parts: usize,
    names: Vec<&'a str>,
}

/// Refuses types that become too large or too deep, or refer to themselves.
pub(super) fn check<'a>(files: impl Iterator<Item = &'a Value>) -> Result<(), String> {
    let mut commons: BTreeMap<String, (&str, Type<'_>)> = BTreeMap::new();
    let mut shapes: Vec<(&str, Type<'_>)> = Vec::new();
    for (namespace, definitions) in files.flat_map(super::members) {
        for (name, definition) in super::part_of(definitions, "commonTypes") {
            let mut of = Type::default();
            gather(definition, &mut of);
            commons.insert(super::in_namespace(namespace, name), (namespace, of));
        }
        for (_, definition) in super::part_of(definitions, "entityTypes") {
            let mut of = Type::default();
            for part in ["shape", "tags"] {
                definition.get(part).into_iter().for_each(|part| gather(part, &mut of));
            }
            shapes.push((namespace, of));
        }
    }
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..DEPTH_MAX {
        let more: Vec<(&str, usize)> = commons
            .iter()
            .filter(|(full, _)| !known.contains_key(full.as_str()))
            .filter_map(|(full, (namespace, of))| {
                Some((full.as_str(), written_out(of, namespace, &commons, &known)?))
            })
            .collect();
        known.extend(more);
    }
    if known.len() < commons.len() {
        return Err(format!("types refer to one another more than {DEPTH_MAX} levels deep, or in a circle"));
    }
    let shapes = shapes.iter().filter_map(|(namespace, of)| written_out(of, namespace, &commons, &known));
    let total = shapes.chain(known.values().copied()).fold(0, usize::saturating_add);
    if total > PARTS_MAX {
        return Err(format!("the types have more than {PARTS_MAX} parts when they are written out"));
    }
    Ok(())
}

/// The parts of a type with those of the types it names; none while one of them is not known.
fn written_out(
    of: &Type<'_>,
    namespace: &str,
    commons: &BTreeMap<String, (&str, Type<'_>)>,
    known: &BTreeMap<&str, usize>,
) -> Option<usize> {
    let mut parts = of.parts;
    for name in &of.names {
        let near = super::in_namespace(namespace, name);
        let full = if commons.contains_key(&near) { near.as_str() } else { name };
        // What is no type of the bundle's is an entity, or the house's and small.
        let more = if commons.contains_key(full) { *known.get(full)? } else { 1 };
        parts = parts.saturating_add(more);
    }
    Some(parts)
}

/// Counts the parts of a type as it is written. How deep that is was checked on the text.
fn gather<'a>(of: &'a Value, out: &mut Type<'a>) {
    out.parts += 1;
    let kind = of.get("type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "Record" => {
            super::part_of(of, "attributes").for_each(|(_, attribute)| gather(attribute, out));
        }
        "Set" => of.get("element").into_iter().for_each(|element| gather(element, out)),
        // A name stands under `name`, or in older forms is the type itself.
        kind => out.names.push(of.get("name").and_then(Value::as_str).unwrap_or(kind)),
    }
}
