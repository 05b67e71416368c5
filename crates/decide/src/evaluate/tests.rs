//! INV-SAME: what the index picks and the inner evaluator finds is what the engine finds over every rule.

use std::sync::Arc;

use bartizan_model::{AskFacts, Label};

use super::random::{Seen, World};
use super::*;

/// Decides a world's asks every way. What all of it came upon is noted in `seen`.
fn every_way_decides_alike(seed: u64, seen: &mut Seen) {
    let mut world = World::new(seed);
    let bundle = CompiledBundle::of_rules(world.schema.clone(), &world.rules, &world.constitution);
    let entities = Entities::default().with(&world.entities, &[]).unwrap();
    let evaluator = Evaluator::new(Arc::new(bundle), Arc::new(entities));
    for n in 0..16 {
        let [principal, action, resource] = world.ask();
        let triple = Triple { principal, action, resource };
        let facts = AskFacts::default();
        let none = std::collections::BTreeSet::new();
        let conditions = Conditions {
            assurance: (u8::try_from(world.dice.roll(4)).unwrap(), 5),
            binding: "none",
            risk: "a",
            role_in_chain: "subject",
            now_s: 1_800_000_000,
            network: world.dice.often(50).then(|| [127, 0, 0, 1].into()),
            purpose: world.dice.often(50).then_some("a"),
            session: &Label::bottom(),
            request: &facts,
            obligations: &none,
            approvals: &none,
        };
        // Every fourth ask brings something of its own: a new entity, or more about one that there is.
        let overlay: Vec<Entity> = (0..if n % 4 == 3 { 1 + world.dice.roll(2) } else { 0 })
            .map(|_| {
                let id = world.uid();
                world.entity(&id)
            })
            .collect();
        let Ok(view) = View::with(&evaluator.entities, &overlay) else {
            seen.insert("refused overlay");
            continue;
        };
        let [inner, public, reference] = [Way::Inner, Way::Public, Way::Reference]
            .map(|way| evaluator.evaluate_in(&view, &triple, &conditions, way));
        let told = || format!("seed {seed}, ask {n}: {triple:?}\noverlay {overlay:?}\n{}", world.text);
        assert_eq!(inner, reference, "inner and reference: {}", told());
        assert_eq!(public, reference, "public and reference: {}", told());
        let Some(found) = reference else {
            seen.insert("nobody");
            continue;
        };
        for (what, was) in [
            ("permitted", found.permitted),
            ("forbidden", !found.forbids.is_empty()),
            ("both", !found.forbids.is_empty() && !found.permits.is_empty()),
            ("constitution", !found.constitution.is_empty()),
            ("several permits", found.permits.len() > 1),
            ("erred", found.erred.iter().any(|name| name.as_str() != "request")),
            ("erred beside a permit", !found.permits.is_empty() && !found.erred.is_empty()),
            ("unaskable", found.erred.iter().any(|name| name.as_str() == "request")),
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
    assert_eq!(seen.len(), 12, "{seen:?}");
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
