//! Counterexamples as people would write them. A solver's are correct and ugly: `User::""` at hour -7. Whatever can be made
//! ordinary is, one thing after the other, as long as the engine still confirms the counterexample.

use std::collections::BTreeSet;

use cedar_policy::Schema;
use serde_json::{Value, json};

use crate::meaning::{Claim, World};
use crate::question::Question;

/// How many rules may be evaluated for the sake of beauty.
const EVALUATIONS_MAX: usize = 4_000_000;
/// How many tries there are at most.
const TRIES_MAX: usize = 1_500;

/// Ordinary values by the end of a path, likeliest first.
fn ordinary(path: &str) -> Vec<Value> {
    let known: &[(&str, Value)] = &[
        ("assurance.level", json!([1, 2, 3, 4, 0])),
        ("assurance.age_s", json!([0, 60, 600, 3_600, 86_400])),
        (".binding", json!(["none", "mtls", "dpop"])),
        (".risk", json!(["low", "medium", "high", "unknown"])),
        (".role_in_chain", json!(["subject", "actor"])),
        ("session.confidentiality", json!(["public", "internal", "confidential", "restricted"])),
        ("session.integrity", json!(["trusted", "untrusted"])),
        ("request.dialect", json!(["openai.chat", "anthropic.messages", "openai.embeddings", "control"])),
        ("request.bytes", json!([1_000, 100_000])),
        ("request.messages", json!([1, 10])),
        ("request.tools", json!([0, 1])),
        ("request.output_tokens_max", json!([100, 10_000])),
        (".purpose", json!(["support"])),
        (".status", json!(["active", "disabled"])),
        (".environment", json!(["development", "production"])),
        (".sensitivity", json!(["low", "medium", "high"])),
    ];
    match known.iter().find(|(end, _)| path.ends_with(end)) {
        Some((_, Value::Array(values))) => values.clone(),
        _ if path.ends_with("context.time") => moments(),
        _ => Vec::new(),
    }
}

/// What is plain for a kind of value that nothing more is known of.
fn plain(value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(true) => vec![json!(false)],
        Value::Number(n) if n.as_i64() != Some(0) => vec![json!(0), json!(1), json!(10)],
        Value::Array(items) if !items.is_empty() => {
            let mut out = vec![json!([])];
            out.extend(items.iter().map(|item| json!([item])));
            out
        }
        _ => Vec::new(),
    }
}

/// Moments of one week, noon of a Wednesday first; the three numbers belong together.
fn moments() -> Vec<Value> {
    // Monday, 2026-11-16, 00:00.
    const MONDAY: u64 = 1_794_787_200;
    let days = [3, 1, 2, 4, 5, 6, 7];
    let hours = (0..24).map(|hour| (hour + 12) % 24).collect::<Vec<u64>>();
    let moment = |day: u64, hour: u64| {
        let epoch_s = MONDAY + (day - 1) * 86_400 + hour * 3_600;
        json!({"epoch_s": epoch_s, "hour": hour, "weekday": day})
    };
    days.iter().flat_map(|day| hours.iter().map(move |hour| moment(*day, *hour))).collect()
}

struct Shrinker<'a> {
    schema: &'a Schema,
    claim: &'a Claim<'a>,
    tries: usize,
}

/// The same counterexample, as ordinary as it gets.
pub(crate) fn natural(mut world: World, schema: &Schema, claim: &Claim<'_>, question: &Question) -> World {
    let sets = [Some(question.asked()), question.compared()];
    let rules = sets.iter().flatten().map(|set| set.policies().count()).sum::<usize>().max(1);
    let mut shrinker = Shrinker { schema, claim, tries: (EVALUATIONS_MAX / rules).min(TRIES_MAX) };
    let literals: BTreeSet<String> = sets
        .iter()
        .flatten()
        .flat_map(|set| set.policies())
        .flat_map(cedar_policy::Policy::entity_literals)
        .map(|uid| uid.to_string())
        .collect();
    shrinker.entities(&mut world);
    shrinker.names(&mut world, &literals);
    shrinker.values(&mut world);
    world
}

impl Shrinker<'_> {
    /// Whether the changed world still refutes the claim; it is kept then.
    fn keep(&mut self, world: &mut World, changed: World) -> bool {
        if self.tries == 0 || *world == changed {
            return false;
        }
        self.tries -= 1;
        let refutes = changed.concrete(self.schema).is_some_and(|ask| self.claim.refuted_by(&ask));
        if refutes {
            *world = changed;
        }
        refutes
    }

    /// Drops entities and parents that play no part.
    fn entities(&mut self, world: &mut World) {
        let (principal, resource) = (split(&world.principal), split(&world.resource));
        let needed = |entity: Option<&Value>| {
            let uid = entity.and_then(|e| e.get("uid")).and_then(self::entity);
            let uid = uid.map(|(kind, id)| (kind.to_owned(), id.to_owned()));
            uid == principal || uid == resource
        };
        let mut at = 0;
        while at < count(&world.entities) {
            if needed(world.entities.get(at)) {
                at += 1;
                continue;
            }
            let mut changed = world.clone();
            if let Some(list) = changed.entities.as_array_mut() {
                list.remove(at);
            }
            if !self.keep(world, changed) {
                at += 1;
            }
        }
        for entity in 0..count(&world.entities) {
            let parents = format!("/{entity}/parents");
            let mut at = 0;
            while at < world.entities.pointer(&parents).map_or(0, count) {
                let mut changed = world.clone();
                if let Some(list) = changed.entities.pointer_mut(&parents).and_then(Value::as_array_mut) {
                    list.remove(at);
                }
                if !self.keep(world, changed) {
                    at += 1;
                }
            }
        }
    }

    /// Gives names to what no rule names.
    fn names(&mut self, world: &mut World, literals: &BTreeSet<String>) {
        let mut uids = BTreeSet::new();
        for text in [&world.principal, &world.resource] {
            uids.extend(split(text));
        }
        collect(&world.entities, &mut uids);
        collect(&world.context, &mut uids);
        let mut number: usize = 1;
        for (kind, id) in uids {
            if literals.contains(&uid(&kind, &id)) {
                continue;
            }
            let short = kind.rsplit("::").next().unwrap_or(&kind).to_lowercase();
            let name = format!("some-{short}-{number}");
            let changed = World {
                principal: renamed(&world.principal, &kind, &id, &name),
                resource: renamed(&world.resource, &kind, &id, &name),
                context: replaced(&world.context, &kind, &id, &name),
                entities: replaced(&world.entities, &kind, &id, &name),
                ..world.clone()
            };
            if self.keep(world, changed) {
                number += 1;
            }
        }
    }

    /// Gives ordinary values to everything that can have one.
    fn values(&mut self, world: &mut World) {
        let mut paths = Vec::new();
        leaves(&world.context, "", "context", &mut paths);
        for (pointer, name) in paths {
            self.value(world, false, &pointer, &name);
        }
        let mut paths = Vec::new();
        for at in 0..count(&world.entities) {
            if let Some(attrs) = world.entities.pointer(&format!("/{at}/attrs")) {
                leaves(attrs, &format!("/{at}/attrs"), "entity", &mut paths);
            }
        }
        for (pointer, name) in paths {
            self.value(world, true, &pointer, &name);
        }
    }

    fn value(&mut self, world: &mut World, of_entity: bool, pointer: &str, name: &str) {
        let place = |world: &World| match of_entity {
            true => world.entities.pointer(pointer).cloned(),
            false => world.context.pointer(pointer).cloned(),
        };
        let Some(present) = place(world) else { return };
        // An optional value first goes; one that is needed is refused by the schema.
        let mut without = world.clone();
        let whole = if of_entity { &mut without.entities } else { &mut without.context };
        if let Some((parent, key)) = pointer.rsplit_once('/')
            && let Some(members) = whole.pointer_mut(parent).and_then(Value::as_object_mut)
        {
            members.remove(key);
            if self.keep(world, without) {
                return;
            }
        }
        let mut candidates = ordinary(name);
        if candidates.contains(&present) {
            let better = candidates.iter().position(|c| *c == present).unwrap_or(0);
            candidates.truncate(better);
        } else {
            candidates.extend(plain(&present));
        }
        for candidate in candidates {
            let mut changed = world.clone();
            let whole = if of_entity { &mut changed.entities } else { &mut changed.context };
            if let Some(slot) = whole.pointer_mut(pointer) {
                *slot = candidate;
            }
            if self.keep(world, changed) {
                return;
            }
        }
    }
}

fn count(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

/// Every value that is no record, and the time as a whole: pointer and name.
fn leaves(value: &Value, pointer: &str, name: &str, out: &mut Vec<(String, String)>) {
    match value {
        // Its numbers belong together.
        Value::Object(_) if name.ends_with("context.time") => out.push((pointer.to_owned(), name.to_owned())),
        Value::Object(members) if !members.keys().any(|key| key.starts_with("__")) => {
            for (key, value) in members {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                leaves(value, &format!("{pointer}/{escaped}"), &format!("{name}.{key}"), out);
            }
        }
        _ => out.push((pointer.to_owned(), name.to_owned())),
    }
}

/// Type and id of an entity written as Cedar.
pub(crate) fn split(text: &str) -> Option<(String, String)> {
    let uid: cedar_policy::EntityUid = text.parse().ok()?;
    Some((uid.type_name().to_string(), uid.id().unescaped().to_owned()))
}

fn uid(kind: &str, id: &str) -> String {
    let parsed = kind.parse().map(|kind| {
        cedar_policy::EntityUid::from_type_name_and_id(kind, cedar_policy::EntityId::new(id)).to_string()
    });
    parsed.unwrap_or_default()
}

fn renamed(text: &str, kind: &str, id: &str, name: &str) -> String {
    match split(text) {
        Some((k, i)) if k == kind && i == id => uid(kind, name),
        _ => text.to_owned(),
    }
}

/// Type and id, where a value is an entity in Cedar's JSON form.
fn entity(value: &Value) -> Option<(&str, &str)> {
    let members = value.as_object().filter(|members| members.len() == 2)?;
    Some((members.get("type")?.as_str()?, members.get("id")?.as_str()?))
}

fn collect(value: &Value, out: &mut BTreeSet<(String, String)>) {
    if let Some((kind, id)) = entity(value) {
        out.insert((kind.to_owned(), id.to_owned()));
        return;
    }
    match value {
        Value::Object(members) => members.values().for_each(|v| collect(v, out)),
        Value::Array(items) => items.iter().for_each(|v| collect(v, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn replaced(value: &Value, kind: &str, id: &str, name: &str) -> Value {
    if entity(value) == Some((kind, id)) {
        return json!({"type": kind, "id": name});
    }
    match value {
        Value::Object(members) => {
            members.iter().map(|(key, v)| (key.clone(), replaced(v, kind, id, name))).collect()
        }
        Value::Array(items) => items.iter().map(|v| replaced(v, kind, id, name)).collect(),
        other => other.clone(),
    }
}
