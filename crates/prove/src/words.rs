//! Counterexamples for people.

use std::collections::BTreeSet;

use cedar_policy::{PolicyId, PolicySet};
use serde_json::Value;

use crate::answer::Told;
use crate::meaning::World;
use crate::prover::list;
use crate::question::Question;
use crate::shrink::split;

/// Who, what, under which circumstances, and because of which rules.
pub(crate) fn of(
    question: &Question,
    about: &str,
    world: &World,
    before: Option<&Told>,
    after: &Told,
) -> String {
    let ask = format!("{} {} `{}` {}", who(world), "would", action(world), what(world));
    let circumstances = circumstances(question, about, world, before, after);
    let because = match question {
        Question::NothingNew { old, new } | Question::Equivalent { old, new } => match before {
            Some(before) => compared(old, new, before, after),
            None => String::new(),
        },
        Question::NeverPermits { .. } => {
            format!("It is permitted by {}, and the invariant `{about}` says never.", list(&after.permits))
        }
        Question::NeverErrs { .. } => {
            format!("The rule `{about}` ends in an error, so the ask is denied whatever other rules say.")
        }
    };
    let ask = match after.permitted || before.is_some_and(|b| b.permitted) {
        true => ask.replacen(" would ", " may ", 1),
        false => ask,
    };
    let mut out = format!("{ask}.\n");
    if !circumstances.is_empty() {
        out.push_str(&format!("Where {}.\n", circumstances.join(", ")));
    }
    out + &because
}

fn compared(old: &PolicySet, new: &PolicySet, before: &Told, after: &Told) -> String {
    // For equivalence, either side can be the one that permits more.
    let widened = after.permitted;
    let ((wide, wide_told), (narrow, narrow_told)) =
        if widened { ((new, after), (old, before)) } else { ((old, before), (new, after)) };
    let (now, then) = if widened { ("now", "before") } else { ("before", "now") };
    let permitted = format!("It is permitted {now} by {}", list(&wide_told.permits));
    let stands = |id: &str, set: &PolicySet| set.policy(&PolicyId::new(id)).is_some();
    let denied = if !narrow_told.errs.is_empty() {
        format!("{then} it was denied because {} ended in an error", list(&narrow_told.errs))
    } else if !narrow_told.forbids.is_empty() {
        let (kept, gone): (Vec<String>, Vec<String>) =
            narrow_told.forbids.iter().cloned().partition(|id| stands(id, wide));
        let mut parts = Vec::new();
        if !kept.is_empty() {
            parts.push(format!("{} forbids it {then} and not {now}", list(&kept)));
        }
        if !gone.is_empty() {
            parts.push(format!("{} forbids it {then} and does not stand {now}", list(&gone)));
        }
        parts.join(", and ")
    } else {
        let (kept, fresh): (Vec<String>, Vec<String>) =
            wide_told.permits.iter().cloned().partition(|id| stands(id, narrow));
        match (kept.as_slice(), fresh.as_slice()) {
            ([], _) => format!("{then} there is no such rule, and no other permits it"),
            (kept, _) => format!("{then} {} does not match it, and no other rule permits it", list(kept)),
        }
    };
    format!("{permitted}; {denied}.")
}

fn who(world: &World) -> String {
    let (groups, rest) = (parents(world, &world.principal), &world.principal);
    match groups.is_empty() {
        true => format!("{rest}, who is in nothing,"),
        false => format!("{rest}, who is in {},", groups.join(" and ")),
    }
}

fn what(world: &World) -> String {
    let within = parents(world, &world.resource);
    match within.is_empty() {
        true => format!("on {}", world.resource),
        false => format!("on {}, which is in {}", world.resource, within.join(" and ")),
    }
}

fn action(world: &World) -> String {
    split(&world.action).map_or_else(|| world.action.clone(), |(_, id)| id)
}

/// The entry of an entity in Cedar's JSON form.
pub(crate) fn entry<'w>(world: &'w Value, kind: &str, id: &str) -> Option<&'w Value> {
    world.as_array()?.iter().find(|entity| {
        let member = |name: &str| entity.pointer(&format!("/uid/{name}")).and_then(Value::as_str);
        member("type") == Some(kind) && member("id") == Some(id)
    })
}

fn parents(world: &World, text: &str) -> Vec<String> {
    let Some((kind, id)) = split(text) else { return Vec::new() };
    let list = entry(&world.entities, &kind, &id).and_then(|e| e.get("parents")).and_then(Value::as_array);
    let name = |parent: &Value| {
        Some(format!("{}::{:?}", parent.get("type")?.as_str()?, parent.get("id")?.as_str()?))
    };
    list.into_iter().flatten().filter_map(name).collect()
}

/// What the rules that decide look at, and its value.
fn circumstances(
    question: &Question,
    about: &str,
    world: &World,
    before: Option<&Told>,
    after: &Told,
) -> Vec<String> {
    let named = |told: &Told| [told.permits.clone(), told.forbids.clone(), told.errs.clone()].concat();
    let mut ids: BTreeSet<String> = named(after).into_iter().collect();
    ids.extend(before.map(named).unwrap_or_default());
    ids.insert(about.to_owned());
    let mut sets = vec![question.asked()];
    sets.extend(question.compared());
    if let Question::NeverPermits { invariants, .. } = question {
        sets.push(invariants);
    }
    let mut paths = BTreeSet::new();
    for set in sets {
        for id in &ids {
            if let Some(est) = set.policy(&PolicyId::new(id)).and_then(|p| p.to_json().ok()) {
                mentioned(&est, &mut paths);
            }
        }
    }
    paths.iter().filter_map(|path| told(path, world)).collect()
}

/// Every `context.a.b`, `principal.a` and `resource.a` in a rule.
fn mentioned(node: &Value, out: &mut BTreeSet<Vec<String>>) {
    if let Some(path) = path(node) {
        out.insert(path);
        return;
    }
    match node {
        Value::Object(members) => members.values().for_each(|v| mentioned(v, out)),
        Value::Array(items) => items.iter().for_each(|v| mentioned(v, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn path(node: &Value) -> Option<Vec<String>> {
    let access = node.get(".").or_else(|| node.get("has"))?;
    let left = access.get("left")?;
    let mut path = match left.get("Var").and_then(Value::as_str) {
        Some(var) => vec![var.to_owned()],
        None => path(left)?,
    };
    match access.get("attr")? {
        Value::String(attr) => path.push(attr.clone()),
        Value::Array(attrs) => path.extend(attrs.iter().filter_map(Value::as_str).map(str::to_owned)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    }
    Some(path)
}

fn told(path: &[String], world: &World) -> Option<String> {
    let (root, rest) = path.split_first()?;
    let start = match root.as_str() {
        "context" => &world.context,
        "principal" | "resource" => {
            let text = if root == "principal" { &world.principal } else { &world.resource };
            let (kind, id) = split(text)?;
            entry(&world.entities, &kind, &id)?.get("attrs")?
        }
        _ => return None,
    };
    let mut value = start;
    for attr in rest {
        match value.get(attr) {
            Some(next) => value = next,
            None => return Some(format!("{} is absent", path.join("."))),
        }
    }
    // `has` a record says nothing that its members do not say.
    (!value.is_object() || value.get("__extn").is_some()).then(|| format!("{} is {value}", path.join(".")))
}
