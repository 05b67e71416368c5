//! A change is checked by what it touches. Held against the same checks over everything there is: they must refuse the same, for
//! the same reason, and end the same.

use std::collections::HashMap;
use std::sync::Arc;

use bartizan_decide::{Entities, Snapshot};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn document(kind: &str, called: &str, id: Option<u8>, mut spec: Value) -> Document {
    spec["kind"] = kind.into();
    let principal = id.map(|n| PrincipalId::from_parts(Timestamp::from_secs(3), [n; 10]));
    Document { name: name(called), principal, spec: serde_json::from_value(spec).unwrap() }
}

fn ours() -> Tenant {
    Tenant::default_tenant()
}

/// A long way up and a shorter one beside it, people in them, and somebody else's house.
fn began() -> State {
    let mut state = State { revision: 7, ..State::default() };
    let way = |letter: &str, long: usize, state: &mut State| {
        for n in 0..long {
            let parents: Vec<String> = (n > 0).then(|| format!("{letter}{}", n - 1)).into_iter().collect();
            state.suppose(
                &ours(),
                document("group", &format!("{letter}{n}"), None, json!({"parents": parents})),
            );
        }
    };
    way("c", 27, &mut state);
    way("d", 9, &mut state);
    let theirs = Tenant(name("other"));
    state.suppose(&theirs, document("user", "alice", Some(90), json!({"groups": ["c1"]})));
    state.suppose(&theirs, document("agent", "bot", Some(91), json!({"owner": "alice", "purpose": "p"})));
    state
}

fn view(state: &State) -> View {
    let documents: Vec<Document> =
        state.documents.iter().filter(|(t, ..)| *t == ours()).map(|(_, d, _)| d.clone()).collect();
    let policy = Arc::new(Snapshot::new(None, Arc::new(Entities::build(&documents).unwrap())));
    View { state: Arc::new(state.clone()), deciding: policy.clone(), policy, in_force: None }
}

const PEOPLE: [&str; 4] = ["alice", "Alice", "bob", "carol"];

fn group() -> impl Strategy<Value = String> {
    (prop::sample::select(vec!["c", "d", "e"]), prop_oneof![Just(0_u8), Just(8), Just(26), 0..28_u8])
        .prop_map(|(letter, n)| format!("{letter}{n}"))
}

fn put() -> impl Strategy<Value = Document> {
    let groups = || prop::collection::btree_set(group(), 0..3);
    let status = || prop::sample::select(vec!["active", "active", "active", "disabled"]);
    let person = || prop::sample::select(&PEOPLE[..]);
    prop_oneof![
        4 => (0..4_usize, status(), groups(), any::<bool>(), any::<bool>()).prop_map(
            |(n, status, groups, suspended, other)| {
                // Renamed now and then: the pseudonym of another.
                let id = if other && n < 2 { 1 - n } else { n };
                let spec = json!({"status": status, "groups": groups, "suspended": suspended});
                document("user", PEOPLE[n], Some(u8::try_from(id).unwrap()), spec)
            }
        ),
        1 => person().prop_map(|n| document("user", n, Some(7), json!({"status": "retired"}))),
        3 => (0..3_u8, person(), status()).prop_map(|(n, owner, status)| {
            let kind = if n == 2 { "workload" } else { "agent" };
            let spec = json!({"owner": owner, "purpose": "p", "status": status});
            document(kind, &format!("a{n}"), Some(20 + n), spec)
        }),
        6 => (group(), groups(), prop::option::weighted(0.2, Just("r0"))).prop_map(|(group, parents, role)| {
            let roles: Vec<&str> = role.into_iter().collect();
            document("group", &group, None, json!({"parents": parents, "roles": roles}))
        }),
        1 => Just(document("role", "r0", None, json!({}))),
        1 => (group(), prop::option::of(person()), status()).prop_map(|(group, owner, status)| {
            document("device", "d0", None, json!({"groups": [group], "owner": owner, "status": status}))
        }),
        1 => (person(), status()).prop_map(|(owner, status)| {
            document("tool", "t0", None, json!({"owner": owner, "status": status}))
        }),
    ]
}

fn gone() -> impl Strategy<Value = (String, Name)> {
    prop_oneof![
        2 => (0..4_usize).prop_map(|n| ("user".to_owned(), name(PEOPLE[n]))),
        3 => group().prop_map(|group| ("group".to_owned(), name(&group))),
        1 => (0..2_u8).prop_map(|n| ("agent".to_owned(), name(&format!("a{n}")))),
        1 => Just(("role".to_owned(), name("r0"))),
        1 => Just(("device".to_owned(), name("d0"))),
    ]
}

type Change<'a> = (&'a [Document], &'a [(String, Name)]);

/// The checks over everything.
fn whole(view: &View, (put, gone): Change<'_>) -> Result<(), ReasonCode> {
    let there = || view.state.documents.iter().filter(|(t, ..)| *t == ours()).map(|(_, d, _)| d);
    let is = |d: &Document, kind: &str, called: &Name| d.spec.kind() == kind && d.name == *called;
    for (n, document) in put.iter().enumerate() {
        if put.iter().skip(n + 1).any(|other| is(other, document.spec.kind(), &document.name)) {
            return Err(ReasonCode::Invalid);
        }
    }
    let stays = |d: &&Document| {
        !put.iter().any(|p| is(p, d.spec.kind(), &d.name)) && !gone.iter().any(|(k, n)| is(d, k, n))
    };
    let after: Vec<Document> = there().filter(stays).chain(put).cloned().collect();
    for (kind, called) in gone {
        if !there().any(|d| is(d, kind, called)) {
            return Err(ReasonCode::NotFound);
        }
        if after.iter().any(|d| d.spec.references().contains(&(kind.as_str(), called))) {
            return Err(ReasonCode::Conflict);
        }
    }
    let leads = |(kind, called): (&str, &Name)| after.iter().any(|d| is(d, kind, called));
    if !put.iter().all(|d| d.spec.references().into_iter().all(leads)) || Entities::build(&after).is_err() {
        return Err(ReasonCode::Invalid);
    }
    let parents: HashMap<&Name, Vec<&Name>> = after
        .iter()
        .filter_map(|d| match &d.spec {
            Spec::Group(spec) => Some((&d.name, spec.parents.iter().collect())),
            _ => None,
        })
        .collect();
    fn depth(parents: &HashMap<&Name, Vec<&Name>>, of: &Name) -> usize {
        parents.get(of).into_iter().flatten().map(|parent| 1 + depth(parents, parent)).max().unwrap_or(0)
    }
    if parents.keys().any(|group| depth(&parents, group) > 32) {
        return Err(ReasonCode::Invalid);
    }
    for document in put.iter().filter(|d| d.spec.principal_kind().is_some()) {
        let kind = document.spec.kind();
        let new = !there().any(|d| is(d, kind, &document.name));
        let leaves = |d: &&Document| gone.iter().any(|(k, n)| is(d, k, n));
        let alike = |d: &Document| {
            d.spec.kind() == kind && d.name != document.name && d.name.eq_ignore_ascii_case(&document.name)
        };
        if new && there().filter(|d| !leaves(d)).chain(put).any(alike) {
            return Err(ReasonCode::Conflict);
        }
    }
    Ok(())
}

/// Who ends, looked for among everybody.
fn ended_whole(view: &View, (put, gone): Change<'_>) -> BTreeMap<(PrincipalKind, Name), (bool, bool)> {
    let mut out = BTreeMap::new();
    let there = || view.state.documents.iter().filter(|(t, ..)| *t == ours()).map(|(_, d, _)| d);
    let is = |d: &Document, kind: &str, called: &Name| d.spec.kind() == kind && d.name == *called;
    for document in there() {
        let Some(kind) = document.spec.principal_kind().filter(|_| document.principal.is_some()) else {
            continue;
        };
        let key = (kind, document.name.clone());
        if gone.iter().any(|(k, n)| is(document, k, n)) {
            let renamed = put.iter().any(|p| p.principal == document.principal);
            out.insert(key, (!renamed, renamed));
        } else if let Some(after) = put.iter().find(|p| is(p, document.spec.kind(), &document.name)) {
            let (was, now) = (document.spec.standing(), after.spec.standing());
            let retires = now == Some(Status::Retired);
            let disabled = was == Some(Status::Active) && now != Some(Status::Active);
            if disabled || retires && was != Some(Status::Retired) {
                out.insert(key, (retires, false));
            }
        }
    }
    let people: Vec<Name> =
        out.keys().filter(|(kind, _)| *kind == PrincipalKind::User).map(|(_, name)| name.clone()).collect();
    for document in there() {
        let (Spec::Agent(spec) | Spec::Workload(spec)) = &document.spec else { continue };
        if let Some(kind) = document.spec.principal_kind().filter(|_| people.contains(&spec.owner)) {
            out.entry((kind, document.name.clone())).or_insert((false, false));
        }
    }
    out
}

/// Devices that end, looked for among all.
fn things_whole(view: &View, (put, gone): Change<'_>) -> Vec<Name> {
    let active = |d: &Document| matches!(&d.spec, Spec::Device(spec) if spec.status == Status::Active);
    let there = view.state.documents.iter().filter(|(t, ..)| *t == ours()).map(|(_, d, _)| d);
    let ends = |d: &&Document| {
        let is = |p: &&Document| p.spec.kind() == d.spec.kind() && p.name == d.name;
        active(d)
            && (gone.iter().any(|(k, n)| k == d.spec.kind() && *n == d.name)
                || put.iter().find(is).is_some_and(|after| !active(after)))
    };
    there.filter(ends).map(|d| d.name.clone()).collect()
}

/// The checks as they are made.
fn touched(view: &View, (put, gone): Change<'_>) -> Result<(), ReasonCode> {
    let checked = check_whole(view, &ours(), put, gone).and_then(|()| check_names(view, &ours(), put, gone));
    checked.map_err(|problem| problem.reason)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_change_is_refused_by_what_it_touches_as_it_would_be_by_everything(
        history in prop::collection::vec(
            (prop::collection::vec(put(), 0..4), prop::collection::vec(gone(), 0..2)), 1..40,
        ),
    ) {
        let mut state = began();
        for (put, gone) in history {
            let (view, change) = (view(&state), (&*put, &*gone));
            let expected = whole(&view, change);
            prop_assert_eq!(touched(&view, change), expected.clone(), "{:?} {:?}", put, gone);
            if expected.is_err() {
                continue;
            }
            let found = ended(&view, &ours(), &put, &gone);
            let found: BTreeMap<_, _> = found
                .into_iter()
                .map(|one| ((one.principal.kind, one.principal.name), (one.gone, one.renamed)))
                .collect();
            prop_assert_eq!(found, ended_whole(&view, change));
            let marks = things(&view, &ours(), &put, &gone, Timestamp::from_secs(9));
            let marked = marks.iter().filter_map(|mark| match mark {
                super::Change::AdvanceEpoch(row) => Some(row.name.clone()),
                _ => None,
            });
            prop_assert_eq!(marked.collect::<Vec<_>>(), things_whole(&view, change));
            for document in &put {
                let new = find(&state, &ours(), document.spec.kind(), &document.name).is_none();
                let same = |d: &Document| d.principal.is_some() && d.principal == document.principal;
                let known = state.documents.iter().any(|(t, d, _)| *t == ours() && same(d));
                prop_assert_eq!(became(&view, &ours(), document) == Became::Renamed, new && known);
            }
            gone.iter().for_each(|(kind, name)| state.suppose_gone(&ours(), kind, name));
            put.into_iter().for_each(|document| state.suppose(&ours(), document));
            // The index that all this is found by is that of the state as it would be loaded.
            let mut sorted = state.clone();
            sorted.sort();
            prop_assert!(state == sorted);
        }
    }
}

#[test]
fn a_way_of_thirty_two_levels_is_taken_and_one_more_is_not_wherever_it_is_joined() {
    let view = view(&began());
    let joined = |under: &str| {
        let top = document("group", "d0", None, json!({"parents": [under]}));
        touched(&view, (&[top], &[]))
    };
    // 24 above, 9 levels of its own; and one more.
    assert_eq!(joined("c23"), Ok(()));
    assert_eq!(joined("c24"), Err(ReasonCode::Invalid));
    assert_eq!(joined("d8"), Err(ReasonCode::Invalid), "a circle");
}
