//! The store against the engine's own closure, and against what would break it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cedar_policy::{EntityId, RestrictedExpression};
use proptest::prelude::*;

use super::*;

fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.parse().unwrap(), EntityId::new(id))
}

fn group(n: usize) -> EntityUid {
    uid("Group", &n.to_string())
}

fn entity(id: EntityUid, parents: impl IntoIterator<Item = EntityUid>) -> Entity {
    Entity::new_no_attrs(id, parents.into_iter().collect())
}

/// Everything above each declared entity, by name.
fn closed(entities: &Entities) -> BTreeMap<EntityUid, BTreeSet<EntityUid>> {
    let view = View::of(entities);
    let declared = entities.nodes.iter().filter(|node| node.declared);
    declared.map(|node| (node.uid.clone(), view.uids(&node.above).into_iter().collect())).collect()
}

/// The same by the engine.
fn closed_by_engine(
    all: &BTreeMap<usize, BTreeSet<usize>>,
) -> Option<BTreeMap<EntityUid, BTreeSet<EntityUid>>> {
    let each = all.iter().map(|(n, parents)| entity(group(*n), parents.iter().map(|p| group(*p))));
    let engine = cedar_policy::Entities::from_entities(each, None).ok()?;
    let above = |id: &EntityUid| {
        let above = engine.ancestors(id).unwrap().cloned();
        above.chain([id.clone()]).collect()
    };
    Some(all.keys().map(|n| (group(*n), above(&group(*n)))).collect())
}

#[derive(Clone, Debug)]
enum Change {
    Upsert(usize, BTreeSet<usize>),
    Remove(usize),
}

fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = prop_oneof![
        4 => (0_usize..14, prop::collection::btree_set(0_usize..14, 0..4)).prop_map(|(n, parents)| Change::Upsert(n, parents)),
        1 => (0_usize..14).prop_map(Change::Remove),
    ];
    prop::collection::vec(prop::collection::vec(change, 1..4), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn after_every_change_ancestors_are_those_of_the_engine_and_a_refused_change_is_none(batches in changes()) {
        let mut store = Entities::default();
        let mut model: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let mut earlier = Vec::new();
        for batch in batches {
            let mut next = model.clone();
            let (mut upserts, mut removals) = (Vec::new(), Vec::new());
            for change in &batch {
                if let Change::Remove(n) = change {
                    removals.push(group(*n));
                    next.remove(n);
                }
            }
            for change in &batch {
                if let Change::Upsert(n, parents) = change {
                    upserts.push(entity(group(*n), parents.iter().map(|p| group(*p))));
                    next.insert(*n, parents.clone());
                }
            }
            match (store.with(&upserts, &removals), closed_by_engine(&next)) {
                (Ok(changed), Some(expected)) => {
                    prop_assert_eq!(&closed(&changed), &expected);
                    prop_assert_eq!(changed.len(), next.len());
                    earlier.push((store, closed_by_engine(&model).unwrap()));
                    (store, model) = (changed, next);
                }
                (Err(EntitiesError::Cycle(_)), None) => {}
                (got, expected) => prop_assert!(false, "{:?} {:?} {:?}", batch, got.map(|e| closed(&e)), expected),
            }
        }
        // Readers of an earlier state see that state.
        for (store, expected) in earlier {
            prop_assert_eq!(closed(&store), expected);
        }
    }
}

#[test]
fn a_cycle_is_refused_whole_wherever_it_closes() {
    let chain: Vec<Entity> = (0..5).map(|n| entity(group(n), [group(n + 1)])).collect();
    let store = Entities::default().with(&chain, &[]).unwrap();
    let before = closed(&store);
    for closing in [0, 3, 5] {
        let told = store.with(&[entity(group(7), []), entity(group(5), [group(closing)])], &[]).unwrap_err();
        assert!(matches!(told, EntitiesError::Cycle(_)), "{told}");
    }
    assert_eq!(closed(&store), before);
    // Turning a chain round in one change is none.
    let turned: Vec<Entity> =
        (1..=5).map(|n| entity(group(n), [group(n - 1)])).chain([entity(group(0), [])]).collect();
    assert!(store.with(&turned, &[]).is_ok());
}

#[test]
fn a_hierarchy_may_be_deep_but_not_endless() {
    let chain = |n: usize| (0..n).map(|n| entity(group(n), [group(n + 1)])).collect::<Vec<_>>();
    assert!(Entities::default().with(&chain(DEPTH_MAX), &[]).is_ok());
    for n in [DEPTH_MAX + 1, 20_000] {
        assert!(matches!(Entities::default().with(&chain(n), &[]), Err(EntitiesError::Deep(_))), "{n}");
    }
    // One level more on top is one too many for the bottom.
    let store = Entities::default().with(&chain(DEPTH_MAX), &[]).unwrap();
    assert!(matches!(
        store.with(&[entity(group(DEPTH_MAX), [uid("Group", "top")])], &[]),
        Err(EntitiesError::Deep(_))
    ));
}

#[test]
fn somebody_may_be_in_ten_thousand_groups_but_not_in_any_number() {
    let user = |groups: usize| entity(uid("User", "alice"), (0..groups).map(group));
    let store = Entities::default().with(&[user(10_000)], &[]).unwrap();
    assert_eq!(closed(&store)[&uid("User", "alice")].len(), 10_001);
    assert!(matches!(store.with(&[user(ABOVE_MAX + 1)], &[]), Err(EntitiesError::Wide(_))));
    // Nor through one step: every group of alice's is in ten thousand more.
    let wide = entity(group(0), (100_000..100_000 + ABOVE_MAX).map(group));
    assert!(matches!(store.with(&[wide], &[]), Err(EntitiesError::Wide(_))));
}

#[test]
fn names_that_differ_only_in_type_or_look_alike_are_different() {
    let ids = ["x", "X", "", "x\u{0}", "x\"", "Group::\"x\"", "é", "e\u{301}", "\u{202e}x"];
    let all: Vec<Entity> = ids
        .iter()
        .flat_map(|id| [uid("User", id), uid("Group", id), uid("N::User", id)])
        .map(|id| entity(id, []))
        .collect();
    let store = Entities::default().with(&all, &[]).unwrap();
    assert_eq!(store.len(), all.len());
    let digests: HashSet<_> = store.nodes.iter().map(|node| node.digest).collect();
    assert_eq!(digests.len(), all.len());
}

#[test]
fn documents_of_a_slice_read_back_as_the_entities_and_make_up_its_digest() {
    let attributes: HashMap<String, RestrictedExpression> = [
        ("owner", RestrictedExpression::new_entity_uid(uid("User", "bob"))),
        ("big", RestrictedExpression::new_long(9_007_199_254_740_993)),
        ("ip", RestrictedExpression::new_ip("10.0.0.0/8")),
        ("text", RestrictedExpression::new_string("\"\\\n\u{1}\u{7f}é\u{1f600}".to_owned())),
        ("set", RestrictedExpression::new_set([2, 1].map(RestrictedExpression::new_long))),
        (
            "rec",
            RestrictedExpression::new_record([("b".to_owned(), RestrictedExpression::new_bool(true))])
                .unwrap(),
        ),
        ("\u{1f600}", RestrictedExpression::new_long(1)),
        ("\u{ffff}", RestrictedExpression::new_long(2)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let tags = [("k".to_owned(), RestrictedExpression::new_string("v".to_owned()))];
    let model = Entity::new_with_tags(
        uid("Model", "m"),
        attributes,
        [uid("Project", "p"), uid("Environment", "e")],
        tags,
    )
    .unwrap();
    let all = [
        model.clone(),
        entity(uid("User", "alice"), [group(1)]),
        entity(uid("User", "bob"), [group(2)]),
        entity(uid("Project", "p"), [uid("Project", "q")]),
        entity(group(2), []),
        entity(group(9), []),
    ];
    let store = Entities::default().with(&all, &[]).unwrap();
    let of = |kind: &str, name: &str| EntityRef::new(kind.parse().unwrap(), name.parse::<Name>().unwrap());
    let documents = store.slice_documents(&of("User", "alice"), &of("Model", "m")).unwrap();
    // Alice, the model, its owner, the owner's group, the project; group 1, the environment and the outer project are names only.
    let read: BTreeMap<EntityUid, Entity> = documents
        .iter()
        .map(|(digest, bytes)| {
            assert_eq!(*digest, Digest::of(bytes));
            let entity = Entity::from_json_value(serde_json::from_slice(bytes).unwrap(), None).unwrap();
            (entity.uid(), entity)
        })
        .collect();
    assert_eq!(read.len(), 5);
    assert!(read[&uid("Model", "m")].deep_eq(&model));
    assert!(documents.is_sorted_by_key(|(digest, _)| *digest));
    // A document is canonical: as the usual writer would have it, but for numbers beyond floating point.
    let (_, bytes) = documents.iter().find(|(_, b)| b.ends_with(br#""type":"Model"}}"#)).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(text.contains("9007199254740993"));
    value["attrs"]["big"] = 1.into();
    let canonical = String::from_utf8(bartizan_base::json::canonical(&value).unwrap()).unwrap();
    assert_eq!(text.replace("9007199254740993", "1"), canonical);
    assert_eq!(store.slice_documents(&of("User", "alice"), &of("Model", "none")), None);
}

#[test]
fn a_record_that_would_read_as_something_else_is_refused() {
    let record =
        RestrictedExpression::new_record([("__entity".to_owned(), RestrictedExpression::new_long(1))])
            .unwrap();
    let odd = Entity::new(uid("User", "a"), [("r".to_owned(), record)].into(), HashSet::new()).unwrap();
    assert!(matches!(Entities::default().with(&[odd], &[]), Err(EntitiesError::Refused(..))));
}

#[test]
fn what_exists_for_one_ask_leaves_no_trace() {
    let all = [entity(uid("User", "alice"), [group(1)]), entity(group(1), [])];
    let store = Entities::default().with(&all, &[]).unwrap();
    let names = store.names.len();
    for n in 0..100 {
        let passing = [
            entity(uid("Model", &format!("m{n}")), [uid("Project", &format!("p{n}"))]),
            entity(uid("Project", &format!("p{n}")), [uid("Project", "outer")]),
        ];
        let view = View::with(&store, &passing).unwrap();
        let (_, model) = view.declared(&uid("Model", &format!("m{n}"))).unwrap();
        assert_eq!(view.uids(&model.above).len(), 3);
    }
    assert_eq!(store.names.len(), names);
    // What others are in cannot move under them for one ask, and a circle is none.
    assert!(matches!(View::with(&store, &[entity(group(1), [group(2)])]), Err(EntitiesError::Refused(..))));
    let circle = [entity(group(5), [group(6)]), entity(group(6), [group(5)])];
    assert!(matches!(View::with(&store, &circle), Err(EntitiesError::Cycle(_))));
    assert!(matches!(View::with(&store, &[entity(group(5), [group(5)])]), Err(EntitiesError::Cycle(_))));
}
