//! Random sequences against a model that is a few maps.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{HoldSpec, Retention};

#[derive(Clone, Debug)]
enum Op {
    Put { who: Who, about: u8, field: bool, value: u8 },
    PutPayload { who: Who, about: u8, content: u16 },
    Erase(Who),
    Hold(Who, bool),
    Expire { of: bool, after: u8 },
    Reopen,
}

/// Tenant and subject.
type Who = (bool, u8);

#[derive(Default)]
struct Model {
    values: BTreeMap<(Who, u8, &'static str), (String, u64)>,
    payloads: BTreeMap<(Who, u8), (Vec<u8>, PayloadRef, u64)>,
    holds: BTreeSet<Who>,
    keys: BTreeSet<Who>,
    erased: BTreeSet<Who>,
}

fn who() -> impl Strategy<Value = Who> {
    (any::<bool>(), 1_u8..3)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (who(), 0_u8..3, any::<bool>(), any::<u8>())
            .prop_map(|(who, about, field, value)| Op::Put { who, about, field, value }),
        2 => (who(), 0_u8..3, any::<u16>())
            .prop_map(|(who, about, content)| Op::PutPayload { who, about, content }),
        2 => who().prop_map(Op::Erase),
        1 => (who(), any::<bool>()).prop_map(|(who, hold)| Op::Hold(who, hold)),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(of, after)| Op::Expire { of, after }),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_operations_match_the_model(ops in prop::collection::vec(op(), 1..40)) {
        let world = World::new();
        let tenants = [tenant("here"), tenant("there")];
        let of = |(tenant, _): Who| &tenants[usize::from(tenant)];
        let mut vault = world.open();
        let mut model = Model::default();
        let case = Name::literal("case");
        for (op, now) in ops.into_iter().zip(1_u64..) {
            match op {
                Op::Put { who, about, field, value } => {
                    let field = if field { "ip" } else { "agent" };
                    let value = format!("value {value}");
                    let done = put(&vault, &place(of(who), who.1, about), field, &value, now);
                    model.keys.insert(who);
                    match model.values.entry((who, about, field)) {
                        Entry::Occupied(_) => prop_assert!(matches!(done, Err(VaultError::Taken))),
                        Entry::Vacant(entry) => {
                            prop_assert!(done.is_ok());
                            entry.insert((value, now));
                        }
                    }
                }
                Op::PutPayload { who, about, content } => {
                    let content = marked("x", usize::from(content)).into_bytes();
                    let done = put_payload(&vault, &place(of(who), who.1, about), "prompt", &content, now);
                    model.keys.insert(who);
                    match model.payloads.entry((who, about)) {
                        Entry::Occupied(_) => prop_assert!(matches!(done, Err(VaultError::Taken))),
                        Entry::Vacant(entry) => {
                            entry.insert((content, done.unwrap(), now));
                        }
                    }
                }
                Op::Erase(who) => {
                    let done = vault.erase_subject(of(who), subject(who.1), at(now));
                    let nothing_since = !model.keys.contains(&who) && model.erased.contains(&who);
                    if model.holds.contains(&who) && !nothing_since {
                        let is_held = matches!(done, Err(VaultError::Held { .. }));
                        prop_assert!(is_held);
                    } else {
                        prop_assert!(done.is_ok());
                        model.values.retain(|key, _| key.0 != who);
                        model.payloads.retain(|key, _| key.0 != who);
                        model.keys.remove(&who);
                        model.erased.insert(who);
                    }
                }
                Op::Hold(who, true) => {
                    let spec = HoldSpec { name: case.clone(), basis: "b".parse().unwrap() };
                    vault.hold(of(who), subject(who.1), &spec, at(now)).unwrap();
                    model.holds.insert(who);
                }
                Op::Hold(who, false) => {
                    let was = vault.release_hold(of(who), subject(who.1), &case).unwrap();
                    prop_assert_eq!(was, model.holds.remove(&who));
                }
                Op::Expire { of: tenant, after } => {
                    let after = u64::from(after % 16);
                    let retention = Retention::from([
                        (Kind::Network, Duration::from_secs(after)),
                        (Kind::Prompt, Duration::from_secs(after * 2)),
                    ]);
                    let done = vault.expire(of((tenant, 0)), at(now), &retention).unwrap();
                    let (values, payloads) = (model.values.len(), model.payloads.len());
                    let stays = |who: Who, made: u64, after: u64| {
                        who.0 != tenant || model.holds.contains(&who) || made + after >= now
                    };
                    model.values.retain(|key, (_, made)| stays(key.0, *made, after));
                    model.payloads.retain(|key, (_, _, made)| stays(key.0, *made, after * 2));
                    prop_assert_eq!(done.items, (values - model.values.len()) as u64);
                    prop_assert_eq!(done.payloads, (payloads - model.payloads.len()) as u64);
                }
                Op::Reopen => {
                    drop(vault);
                    vault = world.open();
                }
            }
        }
        for who in [(false, 1), (false, 2), (true, 1), (true, 2)] {
            for about in 0..3 {
                let expected: Vec<_> = ["agent", "ip"]
                    .into_iter()
                    .filter_map(|field| {
                        let (value, _) = model.values.get(&(who, about, field))?;
                        Some((field.to_owned(), value.clone()))
                    })
                    .collect();
                prop_assert_eq!(values(&vault, &place(of(who), who.1, about)), expected);
            }
        }
        for ((who, about), (content, kept, _)) in &model.payloads {
            prop_assert_eq!(&payload(&vault, &place(of(*who), who.1, *about), kept).unwrap(), content);
        }
        let checked = vault.check().unwrap();
        prop_assert_eq!(checked.items, model.values.len() as u64);
        prop_assert_eq!(checked.payloads, model.payloads.len() as u64);
        prop_assert_eq!(world.payload_files().len(), model.payloads.len());
    }
}
