//! The prover against enumeration: random pairs of small sets, every ask of a small world, judged by Cedar.

use std::str::FromStr as _;

use crate::common::*;
use bartizan_prove::{Answer, Outcome, Question, Vocabulary};
use bartizan_rt::SystemClock;
use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, Policy, PolicySet, Request, Schema};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

const WORLD: &str = r#"
entity G;
entity U in [G] { n: Long, s: Bool };
entity R { o: U, n: Long };
action a, b appliesTo { principal: U, resource: R, context: { m: Bool, k?: Long, t: Set<String> } };
"#;

fn atom() -> impl Strategy<Value = String> {
    let number = 0..3_i64;
    prop_oneof![
        number.clone().prop_map(|c| format!("principal.n > {c}")),
        number.clone().prop_map(|c| format!("resource.n == {c}")),
        number.clone().prop_map(|c| format!("(context has k && context.k < {c})")),
        Just("principal.n == resource.n".to_owned()),
        Just("principal.s".to_owned()),
        Just("context.m".to_owned()),
        Just("resource.o == principal".to_owned()),
        Just("principal in G::\"g\"".to_owned()),
        Just("context.t.contains(\"x\")".to_owned()),
        // Ends in an error from 2 on.
        Just("principal.n + 9223372036854775806 > 5".to_owned()),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    atom().prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

#[derive(Clone, Debug)]
struct Rule {
    forbids: bool,
    scope: String,
    condition: String,
}

fn rule() -> impl Strategy<Value = Rule> {
    let principal = prop_oneof![
        3 => Just("principal"), 1 => Just("principal == U::\"u\""), 1 => Just("principal in G::\"g\""), 1 => Just("principal == U::\"v\""),
    ];
    let action = prop_oneof![2 => Just("action"), 1 => Just("action == Action::\"a\"")];
    let resource = prop_oneof![3 => Just("resource"), 1 => Just("resource == R::\"r\"")];
    (prop::bool::weighted(0.4), principal, action, resource, condition()).prop_map(
        |(forbids, p, a, r, condition)| Rule { forbids, scope: format!("({p}, {a}, {r})"), condition },
    )
}

/// What is done to a set: one rule each is changed, dropped, added, renamed, split, narrowed.
#[derive(Clone, Debug)]
enum Edit {
    Condition(usize, String),
    Drop(usize),
    Add(Rule),
    Rename(usize),
    Split(usize, String),
    Narrow(usize, String),
    Widen(usize, String),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = 0..4_usize;
    prop_oneof![
        (at.clone(), condition()).prop_map(|(i, c)| Edit::Condition(i, c)),
        at.clone().prop_map(Edit::Drop),
        rule().prop_map(Edit::Add),
        at.clone().prop_map(Edit::Rename),
        (at.clone(), atom()).prop_map(|(i, c)| Edit::Split(i, c)),
        (at.clone(), condition()).prop_map(|(i, c)| Edit::Narrow(i, c)),
        (at, condition()).prop_map(|(i, c)| Edit::Widen(i, c)),
    ]
}

type Named = Vec<(String, Rule)>;

fn edited(mut rules: Named, edits: &[Edit]) -> Named {
    for (number, edit) in edits.iter().enumerate() {
        let count = rules.len().max(1);
        match edit {
            Edit::Condition(i, c) => {
                rules.get_mut(i % count).into_iter().for_each(|(_, r)| r.condition = c.clone())
            }
            Edit::Rename(i) => {
                rules.get_mut(i % count).into_iter().for_each(|(id, _)| *id = format!("{id}-{number}"))
            }
            Edit::Narrow(i, c) => rules
                .get_mut(i % count)
                .into_iter()
                .for_each(|(_, r)| r.condition = format!("({}) && {c}", r.condition)),
            Edit::Widen(i, c) => rules
                .get_mut(i % count)
                .into_iter()
                .for_each(|(_, r)| r.condition = format!("({}) || {c}", r.condition)),
            Edit::Drop(i) => {
                if !rules.is_empty() {
                    rules.remove(i % count);
                }
            }
            Edit::Add(rule) => rules.push((format!("added-{number}"), rule.clone())),
            Edit::Split(i, c) => {
                if let Some((id, rule)) = rules.get(i % count).cloned() {
                    rules.remove(i % count);
                    for (half, condition) in [
                        ("x", format!("{c} && ({})", rule.condition)),
                        ("y", format!("!({c}) && ({})", rule.condition)),
                    ] {
                        rules.push((format!("{id}-{half}{number}"), Rule { condition, ..rule.clone() }));
                    }
                }
            }
        }
    }
    rules
}

fn set(rules: &Named) -> PolicySet {
    let policy = |(id, rule): &(String, Rule)| {
        let effect = if rule.forbids { "forbid" } else { "permit" };
        let text = format!("@id(\"{id}\") {effect} {} when {{ {} }};", rule.scope, rule.condition);
        Policy::parse(Some(cedar_policy::PolicyId::new(id)), text).unwrap()
    };
    PolicySet::from_policies(rules.iter().map(policy)).unwrap()
}

/// Every ask of a world of one person, one thing, and few numbers.
fn asks(schema: &Schema) -> Vec<(Request, Entities)> {
    let mut out = Vec::new();
    let uid = |text: &str| EntityUid::from_str(text).unwrap();
    let entity = |kind: &str, id: &str, attrs: Value, parents: Value| json!({"uid": {"type": kind, "id": id}, "attrs": attrs, "parents": parents});
    let mut contexts = Vec::new();
    for (m, k, t) in (0..12)
        .map(|i| (i % 2 == 0, [None, Some(0), Some(2)][i / 2 % 3], [json!([]), json!(["x"])][i / 6].clone()))
    {
        let mut context = json!({"m": m, "t": t});
        if let Some(k) = k {
            context["k"] = json!(k);
        }
        contexts.push(context);
    }
    for (n, s, group) in (0..16).map(|i| (i % 4, i / 4 % 2 == 0, i / 8 == 0)) {
        for (rn, owner) in (0..6).map(|i| (i % 3, ["u", "w"][i / 3])) {
            let parents = if group { json!([{"type": "G", "id": "g"}]) } else { json!([]) };
            let list = json!([
                entity("G", "g", json!({}), json!([])),
                entity("U", "u", json!({"n": n, "s": s}), parents),
                entity("U", "w", json!({"n": 0, "s": false}), json!([])),
                entity("R", "r", json!({"n": rn, "o": {"__entity": {"type": "U", "id": owner}}}), json!([])),
            ]);
            let entities = Entities::from_json_value(list, Some(schema)).unwrap();
            for action in ["Action::\"a\"", "Action::\"b\""] {
                for context in &contexts {
                    let action = uid(action);
                    let context = Context::from_json_value(context.clone(), Some((schema, &action))).unwrap();
                    let request =
                        Request::new(uid("U::\"u\""), action, uid("R::\"r\""), context, Some(schema))
                            .unwrap();
                    out.push((request, entities.clone()));
                }
            }
        }
    }
    out
}

/// As in the house: an error denies.
fn permits(rules: &PolicySet, (request, entities): &(Request, Entities)) -> bool {
    let response = Authorizer::new().is_authorized(request, rules, entities);
    response.decision() == Decision::Allow && response.diagnostics().errors().next().is_none()
}

fn replayed(answer: &Answer, at: usize, schema: &Schema) -> Option<(Request, Entities)> {
    let Outcome::Refuted { counterexample: c } = &answer.findings[at].outcome else { return None };
    let action = EntityUid::from_str(&c.action).unwrap();
    let context = Context::from_json_value(c.context.clone(), Some((schema, &action))).unwrap();
    let (principal, resource) = (c.principal.parse().unwrap(), c.resource.parse().unwrap());
    let request = Request::new(principal, action, resource, context, Some(schema)).unwrap();
    Some((request, Entities::from_json_value(c.entities.clone(), Some(schema)).unwrap()))
}

fn is_proven(answer: &Answer, at: usize) -> bool {
    matches!(answer.findings[at].outcome, Outcome::Proven)
}

#[test]
fn what_is_proven_holds_in_every_ask_of_a_small_world_and_what_is_refuted_replays() {
    let vocabulary: Vocabulary = vocabulary(WORLD);
    let schema = Schema::from_cedarschema_str(WORLD).unwrap().0;
    let asks = asks(&schema);
    assert_eq!(asks.len(), 16 * 6 * 2 * 12);
    let prover = prover().with_limits(quick());
    let mut tally = [0_u32; 3];
    let cases = std::env::var_os("BARTIZAN_ENEMY_CASES").and_then(|n| n.to_str()?.parse().ok()).unwrap_or(32);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = (prop::collection::vec(rule(), 1..4), prop::collection::vec(edit(), 1..3), condition());
    let tally_of = std::cell::RefCell::new(&mut tally);
    let result = runner.run(&strategy, |(rules, edits, forbidden)| {
        let old: Named = rules.into_iter().enumerate().map(|(i, rule)| (format!("r{i}"), rule)).collect();
        let (old, new) = (set(&old), set(&edited(old, &edits)));
        let ask = |question: Question| prover.ask(&vocabulary, &question, &SystemClock::new());
        // Random conditions can be impossible, which validation refuses: no question then.
        let Ok(answer) = ask(Question::NothingNew { old: old.clone(), new: new.clone() }) else {
            return Ok(());
        };
        let widens = |ask: &(Request, Entities)| permits(&new, ask) && !permits(&old, ask);
        if is_proven(&answer, 0) {
            prop_assert!(!asks.iter().any(widens), "{}\n{}\n---\n{}", answer, old, new);
        }
        if let Some(counterexample) = replayed(&answer, 0, &schema) {
            prop_assert!(widens(&counterexample), "{answer}");
        }
        if let Outcome::NotProven { why, detail } = &answer.findings[0].outcome {
            println!("not proven, {}: {detail}", why.name());
        }
        tally_of.borrow_mut()[match &answer.findings[0].outcome {
            Outcome::Proven => 0,
            Outcome::Refuted { .. } => 1,
            Outcome::NotProven { .. } | Outcome::Unavailable { .. } => 2,
        }] += 1;

        let Ok(answer) = ask(Question::Equivalent { old: old.clone(), new: new.clone() }) else {
            return Ok(());
        };
        let differs = |ask: &(Request, Entities)| permits(&new, ask) != permits(&old, ask);
        if is_proven(&answer, 0) {
            prop_assert!(!asks.iter().any(differs), "{}\n{}\n---\n{}", answer, old, new);
        }
        if let Some(counterexample) = replayed(&answer, 0, &schema) {
            prop_assert!(differs(&counterexample), "{answer}");
        }

        let text = format!(
            "@id(\"i\") @because(\"b\") forbid (principal, action, resource) when {{ {forbidden} }};"
        );
        if let Ok(invariants) = vocabulary.invariants([("i.cedar", text.as_str())]) {
            let matches = set(&vec![(
                "i".to_owned(),
                Rule {
                    forbids: false,
                    scope: "(principal, action, resource)".to_owned(),
                    condition: forbidden,
                },
            )]);
            let answer = ask(Question::NeverPermits { rules: new.clone(), invariants }).unwrap();
            let breaks = |ask: &(Request, Entities)| permits(&matches, ask) && permits(&new, ask);
            if is_proven(&answer, 0) {
                prop_assert!(!asks.iter().any(breaks), "{answer}");
            }
            if let Some(counterexample) = replayed(&answer, 0, &schema) {
                prop_assert!(breaks(&counterexample), "{answer}");
            }
        }

        let answer = ask(Question::NeverErrs { rules: new.clone() }).unwrap();
        for (at, finding) in answer.findings.iter().enumerate() {
            let policy = new.policy(&cedar_policy::PolicyId::new(&finding.about)).unwrap().clone();
            let alone = PolicySet::from_policies([policy]).unwrap();
            let errs = |(request, entities): &(Request, Entities)| {
                Authorizer::new()
                    .is_authorized(request, &alone, entities)
                    .diagnostics()
                    .errors()
                    .next()
                    .is_some()
            };
            if is_proven(&answer, at) {
                prop_assert!(!asks.iter().any(errs), "{answer}");
            }
            if let Some(counterexample) = replayed(&answer, at, &schema) {
                prop_assert!(errs(&counterexample), "{answer}");
            }
        }
        Ok(())
    });
    println!("proven {}, refuted {}, not proven {}", tally[0], tally[1], tally[2]);
    result.unwrap();
    // It would be no test if the prover never said anything.
    assert!(tally[0] > tally[2] && tally[0] >= cases / 10 && tally[1] >= cases / 10, "{tally:?}");
}
