//! INV-SAME: what the index picks and the inner evaluator finds is what the engine finds over every rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_base::Timestamp;
use bartizan_identify::Caller;
use bartizan_model::{
    AskFacts, Assurance, AssuranceLevel, Binding, Member, Principal, PrincipalId, PrincipalKind, Risk,
    Situation, Tenant,
};

use super::random::{Dice, Seen, World};
use super::*;
use crate::context::Asking;
use crate::index::Mutation;
use crate::zone::Zone;

/// What the conditions of an ask are made of, some of it by chance.
struct Chance {
    caller: Caller,
    situation: Situation,
    facts: AskFacts,
    none: BTreeSet<String>,
}

impl Chance {
    fn new(dice: &mut Dice) -> Self {
        let now = Timestamp::from_secs(1_800_000_000);
        let level = AssuranceLevel::from_number(u8::try_from(dice.roll(4)).unwrap()).unwrap();
        let principal = Principal {
            kind: PrincipalKind::User,
            name: Name::literal("somebody"),
            id: PrincipalId::from_parts(now, [0; 10]),
        };
        let member = Member {
            principal,
            assurance: Assurance { level, methods: Vec::new(), at: now, via: None },
            binding: Binding::None,
            device: None,
            risk: Risk::default(),
        };
        let situation = Situation {
            network: dice.often(50).then(|| [127, 0, 0, 1].into()),
            purpose: dice.often(50).then(|| "a".parse().unwrap()),
            ..Situation::at(now)
        };
        let caller = Caller::suppose(Tenant::default_tenant(), member, Vec::new());
        Self { caller, situation, facts: AskFacts::default(), none: BTreeSet::new() }
    }

    fn conditions(&self) -> Conditions<'_> {
        let asking = Asking {
            caller: &self.caller,
            member: self.caller.subject(),
            place: 0,
            situation: &self.situation,
            facts: &self.facts,
            called: None,
            covering: None,
            zone: Zone::UTC,
        };
        Conditions::of(asking, &self.none, &self.none)
    }
}

fn evaluator(world: &World) -> Evaluator {
    let bundle = CompiledBundle::of_rules(world.schema.clone(), &world.rules, &world.constitution);
    Evaluator::new(Arc::new(bundle), Arc::new(Entities::default().with(&world.entities, &[]).unwrap()))
}

/// Decides a world's asks every way. What all of it came upon is noted in `seen`.
fn every_way_decides_alike(seed: u64, seen: &mut Seen) {
    let mut world = World::new(seed);
    let evaluator = evaluator(&world);
    let (plain, not) = evaluator.index.as_ref().unwrap().plain_and_not();
    for (what, some) in [("plain conditions", plain > 0), ("conditions for the engine", not > 0)] {
        if some {
            seen.insert(what);
        }
    }
    for n in 0..16 {
        let [principal, action, resource] = world.ask();
        let triple = Triple { principal, action, resource };
        let chance = Chance::new(&mut world.dice);
        let conditions = chance.conditions();
        // Every fourth ask brings something of its own: a new entity, or more about one that there is.
        let brought = if n % 4 == 3 { 1 + world.dice.roll(2) } else { 0 };
        let mut bring = || {
            let id = world.uid();
            world.entity(&id)
        };
        let overlay: Vec<Entity> = (0..brought).map(|_| bring()).collect();
        let Ok(view) = View::with(&evaluator.entities, &overlay) else {
            seen.insert("refused overlay");
            continue;
        };
        let by = |way| evaluator.evaluate_in(&view, &triple, &conditions, (way, Noted::Digests));
        let [inner, public, reference] = [Way::Inner, Way::Public, Way::Reference].map(by);
        let told = || format!("seed {seed}, ask {n}: {triple:?}\noverlay {overlay:?}\n{}", world.text);
        assert_eq!(inner, reference, "inner and reference: {}", told());
        assert_eq!(public, reference, "public and reference: {}", told());
        let Some(found) = reference else {
            seen.insert("nobody");
            continue;
        };
        let unaskable = found.erred.iter().any(|name| name.as_str() == "request");
        for (what, was) in [
            ("permitted", found.permitted),
            ("forbidden", !found.forbids.is_empty()),
            ("both", !found.forbids.is_empty() && !found.permits.is_empty()),
            ("constitution", !found.constitution.is_empty()),
            ("several permits", found.permits.len() > 1),
            ("erred", !found.erred.is_empty() && !unaskable),
            ("erred beside a permit", !found.permits.is_empty() && !found.erred.is_empty()),
            ("unaskable", unaskable),
            ("near", !found.near.is_empty()),
            ("overlay", !overlay.is_empty()),
        ] {
            if was {
                seen.insert(what);
            }
        }
    }
}

fn all_of(seeds: impl Iterator<Item = u64>) {
    let mut seen = Seen::new();
    for seed in seeds {
        every_way_decides_alike(seed, &mut seen);
    }
    assert_eq!(seen.len(), 14, "{seen:?}");
}

#[test]
fn inv_same_index_and_whole_set_agree_over_random_worlds() {
    all_of(0..300);
}

/// `cargo nextest run -p bartizan-decide --run-ignored only inv_same_for_long`
#[test]
#[ignore = "minutes"]
fn inv_same_for_long() {
    all_of(1_000..31_000);
}

#[test]
fn inv_same_would_catch_an_index_that_is_broken() {
    for mutation in [
        Mutation::IgnoresKinds,
        Mutation::IgnoresActions,
        Mutation::IgnoresAncestors,
        Mutation::MisreadsPlain,
        Mutation::DropsForbids,
    ] {
        let caught = (0..100_u64).find(|seed| differs(*seed, mutation));
        assert!(caught.is_some(), "{mutation:?}");
    }
}

/// Whether a broken index is told from a right one by the asks of a world.
fn differs(seed: u64, mutation: Mutation) -> bool {
    let mut world = World::new(seed);
    let right = evaluator(&world);
    right.bundle.plant(right.entities.names(), mutation);
    let broken = Evaluator::new(right.bundle.clone(), right.entities.clone());
    (0..16).any(|_| {
        let [principal, action, resource] = world.ask();
        let triple = Triple { principal, action, resource };
        let chance = Chance::new(&mut world.dice);
        let conditions = chance.conditions();
        broken.evaluate(&triple, &conditions, false, Noted::Digests)
            != right.evaluate(&triple, &conditions, true, Noted::Digests)
    })
}

#[test]
fn a_decision_of_a_broken_index_is_found_and_the_index_not_used_again() {
    let schema = include_str!("../schema.cedarschema").parse().unwrap();
    let rules = r#"@id("all") permit (principal, action == Action::"model:invoke", resource);
        @id("not-agents") forbid (principal is Agent, action == Action::"model:invoke", resource is Model);"#;
    let rules: Vec<_> = rules.parse::<cedar_policy::PolicySet>().unwrap().policies().cloned().collect();
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| rule.new_id(cedar_policy::PolicyId::new(rule.annotation("id").unwrap())))
        .collect();
    let bundle = Arc::new(CompiledBundle::of_rules(schema, &rules, &[]));
    let uid = |kind, id| crate::describe::uid(kind, id).unwrap();
    let things = [uid("User", "u"), uid("Model", "m")].map(|id| Entity::new_no_attrs(id, [].into()));
    let entities = Arc::new(Entities::default().with(&things, &[]).unwrap());
    // The other way round than a missing forbid: a user is taken for an agent.
    bundle.plant(entities.names(), Mutation::IgnoresKinds);
    let shadow = Arc::new(Shadow::one_in(1));
    let evaluator = || {
        let mut evaluator = Evaluator::new(bundle.clone(), entities.clone());
        evaluator.shadow = Some(shadow.clone());
        evaluator
    };
    let triple = Triple {
        principal: uid("User", "u"),
        action: uid("Action", "model:invoke"),
        resource: uid("Model", "m"),
    };
    let chance = Chance::new(&mut World::new(1).dice);
    let conditions = chance.conditions();
    let wrong = evaluator().evaluate(&triple, &conditions, false, Noted::Digests).unwrap();
    assert!(!wrong.permitted && wrong.forbids == [1]);
    evaluator().watch(&triple, &conditions, &wrong);
    let found = shadow.check();
    assert_eq!((found.len(), shadow.checked(), shadow.mismatches()), (1, 1, 1));
    assert_eq!(found[0].rules, [Name::literal("not-agents")]);
    assert_eq!((found[0].slice, found[0].context), (wrong.slice, wrong.context));
    // Also for snapshots made of the same bundle afterwards.
    let right = evaluator().evaluate(&triple, &conditions, false, Noted::Digests).unwrap();
    assert!(right.permitted && right.forbids.is_empty());
    evaluator().watch(&triple, &conditions, &right);
    assert_eq!(shadow.check(), []);
    // No more wait than there is room for.
    for _ in 0..1_000 {
        evaluator().watch(&triple, &conditions, &right);
    }
    assert_eq!(shadow.dropped(), 1_000 - 256);
    assert_eq!((shadow.check().len(), shadow.checked()), (0, 258));
}

#[test]
fn what_only_validation_would_refuse_is_refused_by_the_index_too() {
    let own = "entity Level enum [\"one\", \"two\"]; \
        action \"level:set\" appliesTo { principal: [User], resource: [Level], context: Context }; \
        action \"level:own\" appliesTo { principal: [User], resource: [Model], context: { ticket: Long } };";
    let house = include_str!("../schema.cedarschema");
    let schema: cedar_policy::Schema = format!("{house}{own}").parse().unwrap();
    let all = cedar_policy::Policy::parse(
        Some(cedar_policy::PolicyId::new("all")),
        "@id(\"all\") permit (principal, action, resource);",
    );
    let bundle = Arc::new(CompiledBundle::of_rules(schema, &[all.unwrap()], &[]));
    let uid = |kind: &str, id: &str| format!("{kind}::\"{id}\"").parse::<EntityUid>().unwrap();
    let things =
        [uid("User", "u"), uid("Model", "m"), uid("Level", "one"), uid("Level", "three"), uid("Group", "g")];
    let entities =
        Entities::default().with(&things.map(|id| Entity::new_no_attrs(id, [].into())), &[]).unwrap();
    let evaluator = Evaluator::new(bundle, Arc::new(entities));
    let chance = Chance::new(&mut World::new(1).dice);
    let conditions = chance.conditions();
    for (principal, action, resource, permitted) in [
        (uid("User", "u"), "level:set", uid("Level", "one"), true),
        // Not among those that the schema lists.
        (uid("User", "u"), "level:set", uid("Level", "three"), false),
        // Of a type that the action does not apply to.
        (uid("User", "u"), "level:set", uid("Model", "m"), false),
        (uid("Group", "g"), "level:set", uid("Level", "one"), false),
        // Our conditions are not what this action is asked with.
        (uid("User", "u"), "level:own", uid("Model", "m"), false),
        (uid("User", "u"), "level:unheard", uid("Model", "m"), false),
    ] {
        let triple = Triple { principal, action: uid("Action", action), resource };
        let by = |way| {
            evaluator
                .evaluate_in(&View::of(&evaluator.entities), &triple, &conditions, (way, Noted::Digests))
                .unwrap()
        };
        let [inner, public, reference] = [Way::Inner, Way::Public, Way::Reference].map(by);
        assert_eq!((&inner, &public, inner.permitted), (&reference, &reference, permitted), "{triple:?}");
    }
}

#[test]
fn what_a_plain_condition_cannot_tell_is_told_by_the_engine() {
    let uid = |kind, id| crate::describe::uid(kind, id).unwrap();
    let user = r#"{"uid": {"type": "User", "id": "u"}, "attrs": {"status": "active", "n": 9223372036854775807,
        "owner": {"__entity": {"type": "User", "id": "u"}}}, "parents": [{"type": "Group", "id": "g"}]}"#;
    let things =
        [Entity::from_json_str(user, None).unwrap(), Entity::new_no_attrs(uid("Model", "m"), [].into())];
    let entities = Arc::new(Entities::default().with(&things, &[]).unwrap());
    let schema: cedar_policy::Schema = include_str!("../schema.cedarschema").parse().unwrap();
    let chance = Chance::new(&mut World::new(1).dice);
    let conditions = chance.conditions();
    let triple = Triple {
        principal: uid("User", "u"),
        action: uid("Action", "model:invoke"),
        resource: uid("Model", "m"),
    };
    for (condition, plainly) in [
        ("principal.status == \"active\"", Some(true)),
        ("principal.status == \"ACTIVE\"", Some(false)),
        ("principal has nobody", Some(false)),
        ("context has device.id", Some(false)),
        ("context has unheard_of", Some(false)),
        // Nothing after what settles it is looked at.
        ("principal.status == \"active\" || principal.nobody", Some(true)),
        ("principal.status == \"x\" && principal.nobody", Some(false)),
        ("if 1 == \"1\" then principal.nobody else [1, \"a\"].contains(\"a\")", Some(true)),
        ("principal in User::\"u\" && principal in [Group::\"x\", Group::\"g\"]", Some(true)),
        ("principal in resource || principal == resource", Some(false)),
        ("principal.owner == principal && principal.n == 9223372036854775807", Some(true)),
        ("ip(\"127.0.0.1\").isLoopback()", Some(true)),
        // Errors, which are the engine's to find.
        ("principal.nobody == 1", None),
        ("principal.n + 1 > 0", None),
        ("principal.n < \"a\"", None),
        ("principal.status", None),
        ("!principal.status", None),
        ("principal.status && true", None),
        ("context.device.id == \"x\"", None),
        ("context.binding.kind == \"x\"", None),
        ("ip(\"nonsense\").isLoopback()", None),
        ("principal.status like \"a*\" && principal.n like \"*\"", None),
        ("principal.status.contains(1)", None),
        // What has no plain form.
        ("principal.owner.status == \"active\"", None),
        ("[principal, resource].contains(principal)", None),
        ("context == context", None),
        ("action in Action::\"model:use\"", None),
    ] {
        let text = format!("@id(\"one\") permit (principal, action, resource) when {{ {condition} }};");
        let rule = cedar_policy::Policy::parse(Some(cedar_policy::PolicyId::new("one")), &text).unwrap();
        let bundle = Arc::new(CompiledBundle::of_rules(schema.clone(), &[rule], &[]));
        let evaluator = Evaluator::new(bundle, entities.clone());
        let view = View::of(&evaluator.entities);
        let index = evaluator.index.as_deref().unwrap();
        let (principal, resource) =
            (view.declared(&triple.principal).unwrap(), view.declared(&triple.resource).unwrap());
        let sight =
            Sight::new((principal, &triple.action, resource), (index.told(), Needs::ALL), &conditions);
        let plain = index.entry(0).unwrap().plain.as_ref();
        assert_eq!(plain.and_then(|plain| plain.holds(&sight)), plainly, "{condition}");
        let by = |way| evaluator.evaluate_in(&view, &triple, &conditions, (way, Noted::Digests)).unwrap();
        let [inner, reference] = [Way::Inner, Way::Reference].map(by);
        assert_eq!(inner, reference, "{condition}");
        let told = (!inner.permits.is_empty(), !inner.erred.is_empty());
        assert!(plainly.is_none_or(|held| told == (held, false)), "{condition}: {told:?}");
    }
}

/// Nothing that a context names is in reach, so none of the house's conditions may name an entity.
#[test]
fn conditions_name_no_entities() {
    let house = include_str!("../schema.cedarschema").parse::<cedar_policy::SchemaFragment>().unwrap();
    let json = house.to_json_value().unwrap();
    let kinds = json[""]["entityTypes"].as_object().unwrap();
    fn names(json: &serde_json::Value, out: &mut Vec<String>) {
        match json {
            serde_json::Value::Object(members) => {
                if let (Some("EntityOrCommon" | "Entity"), Some(name)) =
                    (members.get("type").and_then(|t| t.as_str()), members.get("name"))
                {
                    out.push(name.as_str().unwrap().to_owned());
                }
                members.values().for_each(|value| names(value, out));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| names(item, out)),
            _ => {}
        }
    }
    let mut named = Vec::new();
    names(&json[""]["commonTypes"], &mut named);
    names(&json[""]["actions"], &mut named);
    let entities: Vec<&String> = named.iter().filter(|name| kinds.contains_key(name.as_str())).collect();
    assert!(entities.is_empty() && named.contains(&"String".to_owned()), "{entities:?}");
}
