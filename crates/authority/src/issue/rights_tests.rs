use super::*;
use crate::issue::tests::{key, rights, somebody};
use bartizan_base::Timestamp;
use bartizan_model::PrincipalKind;
use proptest::prelude::*;
use serde_json::json;

/// Something that can be done to rights, or tried.
#[derive(Clone, Debug)]
enum Step {
    Scoped(Vec<&'static str>),
    ScopedWithin(Vec<&'static str>),
    At(Option<&'static str>),
    AtWithin(Vec<&'static str>),
    Detailed(Vec<u8>),
    Until(u64),
    By(u8, PrincipalKind),
    Under(u8),
    UsedBy(u8),
    HeldWith(Option<u8>),
    HandedTo(Option<u8>),
}

fn words() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(
        prop::sample::select(vec![
            "model:invoke",
            "model:list",
            "openid",
            "house:change",
            "https://a.example",
            "https://b.example",
            "https://evil.example",
        ]),
        0..4,
    )
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = vec![PrincipalKind::User, PrincipalKind::Agent, PrincipalKind::Workload];
    prop_oneof![
        words().prop_map(Step::Scoped),
        words().prop_map(Step::ScopedWithin),
        prop::sample::select(vec![None, Some("https://a.example"), Some("https://evil.example")])
            .prop_map(Step::At),
        words().prop_map(Step::AtWithin),
        prop::collection::vec(0_u8..4, 0..3).prop_map(Step::Detailed),
        (0_u64..2_000).prop_map(Step::Until),
        (0_u8..9, prop::sample::select(kinds)).prop_map(|(n, kind)| Step::By(n, kind)),
        (0_u8..6).prop_map(Step::Under),
        (0_u8..6).prop_map(Step::UsedBy),
        prop::option::of(0_u8..3).prop_map(Step::HeldWith),
        prop::option::of(0_u8..3).prop_map(Step::HandedTo),
    ]
}

fn detail(number: u8) -> Value {
    let name = ["one", "two", "three", "four"][usize::from(number % 4)];
    json!({"type": "tool", "name": name})
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn apply(rights: Rights, step: &Step) -> Result<Rights, NarrowError> {
    let id = |number: u8| (Timestamp::from_secs(1), [number; 10]);
    match step {
        Step::Scoped(words) => rights.scoped(set(words)),
        Step::ScopedWithin(words) => Ok(rights.scoped_within(&set(words))),
        Step::At(resource) => rights.at(*resource),
        Step::AtWithin(words) => Ok(rights.at_within(&set(words))),
        Step::Detailed(numbers) => rights.detailed(numbers.iter().map(|n| detail(*n)).collect()),
        Step::Until(seconds) => Ok(rights.until(Timestamp::from_secs(*seconds))),
        Step::By(number, kind) => rights.by(somebody(*kind, "actor", *number)),
        Step::Under(number) => Ok(rights.under(GrantId::from_parts(id(*number).0, id(*number).1))),
        Step::UsedBy(number) => Ok(rights.used_by(FamilyId::from_parts(id(*number).0, id(*number).1))),
        Step::HeldWith(shown) => rights.held_with(shown.map(key)),
        Step::HandedTo(shown) => rights.handed_to(shown.map(key)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn inv_narrow_whatever_is_done_to_rights_leaves_them_within_what_they_were(
        steps in prop::collection::vec(step(), 0..12),
        bare in any::<bool>(),
    ) {
        let mut from = rights();
        if bare {
            // With nothing in it that is only there to stay.
            let Rights(root) = from;
            from = Rights(Root { actors: Vec::new(), details: Vec::new(), session: None, device: None,
                grants: Vec::new(), family: None, binding: None, ..root });
        }
        let mut now = from.clone();
        for step in &steps {
            let before = now.clone();
            if let Ok(next) = apply(now.clone(), step) {
                prop_assert!(next.are_within(&before), "{step:?} made {next:?} of {before:?}");
                now = next;
            }
            prop_assert!(now.are_within(&from), "{steps:?}");
            let (new, old) = (now.get(), from.get());
            // Said once more, in other words than the comparison that is tested.
            prop_assert!(new.scopes.iter().all(|s| old.scopes.contains(s)));
            prop_assert!(new.resources.iter().all(|r| old.resources.contains(r)));
            prop_assert!(new.ends <= old.ends && new.since == old.since);
            prop_assert_eq!(&new.assurance, &old.assurance);
            prop_assert_eq!(&new.session, &old.session);
            prop_assert!(old.binding.is_none() || new.binding.is_some());
            prop_assert!(old.details.is_empty() == new.details.is_empty());
            prop_assert!(new.actors.len() <= ACTORS_MAX);
            let kept = new.actors.len() - old.actors.len();
            prop_assert_eq!(&new.actors[kept..], &old.actors[..]);
            prop_assert!(old.grants.iter().all(|grant| new.grants.contains(grant)));
        }
    }
}

#[test]
fn inv_narrow_the_comparison_sees_every_member_that_grows() {
    let from = rights();
    assert!(from.are_within(&from));
    type Growth = (&'static str, fn(&mut Root));
    let grow: [Growth; 18] = [
        ("tenant", |r| r.tenant = Tenant("other".parse().unwrap())),
        ("subject", |r| r.subject = somebody(PrincipalKind::User, "bob", 8)),
        ("scopes", |r| r.scopes.extend(["house:change".to_owned()])),
        ("resources", |r| r.resources.extend(["https://evil.example".to_owned()])),
        ("more details", |r| r.details.push(json!({"type": "tool", "name": "three"}))),
        ("no details", |r| r.details.clear()),
        ("level", |r| r.assurance.level = bartizan_model::AssuranceLevel::Aal3),
        ("a fresh login", |r| r.assurance.at = Timestamp::from_secs(101)),
        ("a method", |r| r.assurance.methods.push("hwk".parse().unwrap())),
        ("another session", |r| r.session = None),
        ("another device", |r| r.device = Some("phone".parse().unwrap())),
        ("no grant", |r| r.grants.clear()),
        ("another family", |r| r.family = None),
        ("unbound", |r| r.binding = None),
        ("later", |r| r.ends = Timestamp::from_secs(1_001)),
        ("newer", |r| r.since = 8),
        ("an actor less", |r| r.actors.clear()),
        ("an actor beneath", |r| r.actors.push(somebody(PrincipalKind::Agent, "x", 9))),
    ];
    for (what, grow) in grow {
        let Rights(mut root) = from.clone();
        grow(&mut root);
        assert!(!Rights(root).are_within(&from), "{what}");
    }
}

#[test]
fn attack_17_nobody_acts_twice_people_do_not_act_and_chains_end() {
    let agent = |number| somebody(PrincipalKind::Agent, "a", number);
    let from = rights();
    assert_eq!(from.clone().by(from.get().subject.clone()).unwrap_err(), NarrowError::Person);
    assert_eq!(from.clone().by(from.get().actors[0].clone()).unwrap_err(), NarrowError::Loop);
    assert_eq!(from.clone().by(somebody(PrincipalKind::User, "bob", 9)).unwrap_err(), NarrowError::Person);
    let full = from.by(agent(5)).unwrap().by(agent(6)).unwrap().by(agent(7)).unwrap();
    assert_eq!(full.get().actors.len(), ACTORS_MAX);
    assert_eq!(full.get().actors[0].id, agent(7).id, "the latest is outermost");
    assert_eq!(full.by(agent(8)).unwrap_err(), NarrowError::ChainTooLong);
}

#[test]
fn attack_18_what_is_bound_stays_bound() {
    let from = rights();
    assert_eq!(from.clone().held_with(None).unwrap_err(), NarrowError::Unbound);
    assert_eq!(from.clone().held_with(Some(key(2))).unwrap_err(), NarrowError::OtherKey);
    assert_eq!(from.clone().handed_to(None).unwrap_err(), NarrowError::Unbound);
    let handed = from.clone().handed_to(Some(key(2))).unwrap();
    assert_eq!(handed.get().binding, Some(BoundTo(key(2))));
    let text = serde_json::to_string(&from).unwrap();
    assert_eq!(serde_json::from_str::<Rights>(&text).unwrap(), from);
}
