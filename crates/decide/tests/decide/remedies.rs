//! What keeps remedies sound (DESIGN 4): a test for every sentence, named after it.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use crate::world::{
    BASE, agent, ask, compile, invoke, invoke_standing, real_alice, refused_with, situation, snapshot,
    stated, user, user_bound,
};
use bartizan_decide::{ApprovalKey, Decision, Door, Refused, Snapshot, Standing, Supposed, Verdict};
use bartizan_model::action::ModelCall;
use bartizan_model::record::VerdictKind;
use bartizan_model::{Action, AssuranceLevel, Binding, Offer, ReasonCode, Remedy, Situation};
use proptest::prelude::*;

const TWO: &str = r#"@id("two") @reason("approval_required") @remedy("approve(2 of role \"a\", use_within: 30m)")
forbid (principal, action == Action::"model:invoke", resource) unless { context.approvals.contains("two") };"#;

fn decide(snapshot: &Snapshot, standing: &Standing) -> Decision<ModelCall> {
    let ask = ask("dev", Action::ModelInvoke);
    snapshot.decide_standing(&real_alice(), ask, &situation(), &Door::model_calls(), standing)
}

fn refused(decision: Decision<ModelCall>) -> Refused {
    match decision.verdict {
        Verdict::Permit(_) => panic!("permitted"),
        Verdict::StepUp(r) | Verdict::Justify(r) | Verdict::Hold(r) | Verdict::Deny(r) => r,
    }
}

fn approved(keys: impl IntoIterator<Item = ApprovalKey>) -> Standing {
    Standing { approvals: keys.into_iter().collect(), holds: 0 }
}

#[test]
fn obligations_and_approvals_may_stand_only_positively_and_only_in_a_forbids_unless() {
    for (fact, remedy) in [("obligations", "redact(pii)"), ("approvals", "approve(1, use_within: 1m)")] {
        let text = if fact == "obligations" { "redact:pii" } else { "a" };
        let contains = format!("context.{fact}.contains(\"{text}\")");
        let forbid = |tail: &str| {
            format!("@id(\"a\") @remedy(\"{remedy}\") forbid (principal, action, resource) {tail};")
        };
        assert_eq!(
            refused_with(&forbid(&format!("unless {{ {contains} }}"))),
            "",
            "the sound form of {fact}"
        );
        for tail in [
            format!("when {{ {contains} }}"),
            format!("when {{ !{contains} }}"),
            format!("unless {{ !{contains} }}"),
            format!("unless {{ !(!{contains}) }}"),
            format!("unless {{ {contains} == true }}"),
            format!("unless {{ {contains} != false }}"),
            format!("unless {{ if {contains} then true else false }}"),
            format!("unless {{ context.{fact}.containsAll([\"{text}\"]) }}"),
            format!("unless {{ context.{fact}.containsAny([\"{text}\"]) }}"),
            format!("unless {{ !context.{fact}.isEmpty() }}"),
            format!("unless {{ context.{fact} == [\"{text}\"] }}"),
            format!("unless {{ context.{fact}.contains(context.binding) }}"),
            format!("unless {{ [context.{fact}].contains([\"{text}\"]) }}"),
        ] {
            assert!(refused_with(&forbid(&tail)).contains("may stand only"), "{tail}");
        }
        let permit = format!("@id(\"a\") permit (principal, action, resource) when {{ {contains} }};");
        assert!(refused_with(&permit).contains("may stand only"));
        let permit = format!("@id(\"a\") permit (principal, action, resource) unless {{ {contains} }};");
        assert!(refused_with(&permit).contains("may stand only"));
    }
}

#[test]
fn obligations_approvals_and_assurance_are_never_accepted_from_a_caller_of_any_api() {
    let ask = r#"{"principal": "user/alice", "action": "model:invoke", "resource": "dev""#;
    assert!(serde_json::from_str::<Supposed>(&format!("{ask}}}")).is_ok());
    for more in [
        r#""obligations": ["redact:pii"]"#,
        r#""approvals": ["two"]"#,
        r#""standing": {"approvals": ["two"]}"#,
        r#""request": {"obligations": ["redact:pii"]}"#,
        r#""request": {"approvals": ["two"]}"#,
        r#""request": {"assurance": {"level": 4}}"#,
        r#""context": {"assurance": {"level": 4}}"#,
    ] {
        assert!(serde_json::from_str::<Supposed>(&format!("{ask}, {more}}}")).is_err(), "{more}");
    }
    // Assurance may be supposed, but whoever is supposed is never permitted anything.
    let snapshot = snapshot(BASE);
    let supposed = user("alice", AssuranceLevel::Aal3);
    assert_eq!(invoke(&snapshot, &supposed, "dev").verdict, VerdictKind::Permit, "told so");
    let decision = snapshot.decide(&supposed, ask_dev(), &situation(), &Door::model_calls());
    assert_eq!(refused(decision).reasons, [ReasonCode::CredentialMissing]);
}

fn ask_dev() -> bartizan_model::Ask<ModelCall> {
    ask("dev", Action::ModelInvoke)
}

#[test]
fn an_approval_given_under_one_clause_is_worth_nothing_under_another() {
    let snapshot_of = |clause: &str| {
        snapshot(&format!("{BASE}{}", TWO.replace("2 of role \\\"a\\\", use_within: 30m", clause)))
    };
    let clauses = [
        "2 of role \\\"a\\\", use_within: 30m",
        "3 of role \\\"a\\\", use_within: 30m",
        "2 of role \\\"b\\\", use_within: 30m",
        "2, use_within: 30m",
        "2 of role \\\"a\\\", use_within: 31m",
    ];
    let key = |snapshot: &Snapshot| refused(decide(snapshot, &Standing::default())).holds[0].key.clone();
    let snapshots: Vec<Snapshot> = clauses.iter().map(|c| snapshot_of(c)).collect();
    for (i, asked) in snapshots.iter().enumerate() {
        for (j, given) in snapshots.iter().enumerate() {
            let decision = decide(asked, &approved([key(given)]));
            assert_eq!(
                matches!(decision.verdict, Verdict::Permit(_)),
                i == j,
                "{} under {}",
                clauses[j],
                clauses[i]
            );
        }
        // The name alone, which policies are written with, is no approval.
        assert!("two".parse::<ApprovalKey>().is_err());
    }
    // The same clause in other words is the same clause; another rule's is not.
    let other_words = snapshot_of("2, role: \\\"a\\\", use_within: 1800s");
    assert_eq!(key(&other_words), key(&snapshots[0]));
    let other_rule = snapshot(&format!("{BASE}{}", TWO.replace("\"two\"", "\"three\"")));
    assert_ne!(key(&other_rule), key(&snapshots[0]));
    assert!(matches!(decide(&other_rule, &approved([key(&snapshots[0])])).verdict, Verdict::Hold(_)));
}

#[test]
fn the_engine_sees_the_key_and_no_name_of_a_rule() {
    let compiled = compile(TWO).unwrap();
    let key = refused(decide(&snapshot(&format!("{BASE}{TWO}")), &Standing::default())).holds[0].key.clone();
    let text = compiled.policy_set().policies().map(ToString::to_string).collect::<String>();
    assert!(
        text.contains(&format!("context.approvals.contains(\"{key}\")")) || text.contains(key.as_str()),
        "{text}"
    );
    assert!(!text.contains("contains(\"two\")"), "{text}");
}

#[test]
fn remedy_clauses_detector_sets_and_quorum_roles_are_part_of_every_difference() {
    let rule = |remedy: &str, unless: &str| {
        let remedy = remedy.replace('"', "\\\"");
        compile(&format!(
            "@id(\"a\") @remedy(\"{remedy}\") forbid (principal, action, resource) unless {{ {unless} }};"
        ))
        .unwrap()
    };
    let masked = |d: &str| rule(d, "context.obligations.contains(\"redact:email\")");
    let approve = |c: &str| rule(c, "context.approvals.contains(\"a\")");
    let level = |c: &str| rule(c, "context.assurance.level >= 2 && context.assurance.age_s <= 900");
    let absolute = compile("@id(\"a\") forbid (principal, action, resource);").unwrap();
    for (before, now, widens) in [
        (masked("redact(pii)"), masked("redact(email)"), Some(true)),
        (masked("redact(email)"), masked("redact(pii)"), Some(false)),
        (masked("redact(email)"), masked("redact(email)"), None),
        (approve("approve(2, use_within: 1h)"), approve("approve(1, use_within: 1h)"), Some(true)),
        (
            approve("approve(1, role: \"x\", use_within: 1h)"),
            approve("approve(1, role: \"y\", use_within: 1h)"),
            Some(true),
        ),
        (
            approve("approve(1, role: \"x\", use_within: 1h)"),
            approve("approve(1, use_within: 1h)"),
            Some(true),
        ),
        (
            approve("approve(1, use_within: 1h)"),
            approve("approve(1, role: \"y\", use_within: 60m)"),
            Some(false),
        ),
        (approve("approve(1, use_within: 1h)"), approve("approve(1, use_within: 2h)"), Some(true)),
        (approve("approve(1 , use_within: 1h)"), approve("approve(1, use_within: 60m)"), None),
        (level("step_up(level: 3, max_age: 15m)"), level("step_up(level: 2, max_age: 15m)"), Some(true)),
        // What cannot be compared is not proven stronger.
        (masked("redact(email)"), approve("approve(2, use_within: 1m)"), Some(true)),
    ] {
        let changes = now.remedy_changes(&before);
        assert_eq!(changes.first().map(|c| c.widens), widens, "{changes:?}");
    }
    assert!(masked("redact(pii)").remedy_changes(&absolute)[0].widens, "what could not be lifted can be");
    assert!(!absolute.remedy_changes(&masked("redact(pii)"))[0].widens);
}

#[test]
fn a_lint_refuses_a_remedy_that_does_not_lift_its_own_rule() {
    let told = |remedy: &str, conditions: &str| {
        let remedy = remedy.replace('"', "\\\"");
        refused_with(&format!(
            "@id(\"a\") @remedy(\"{remedy}\") forbid (principal, action in Action::\"model:use\", resource) {conditions};"
        ))
    };
    for (remedy, lifted) in [
        ("step_up(level: 2)", "unless { context.assurance.level >= 2 }"),
        ("step_up(level: 3)", "unless { context.assurance.level > 2 }"),
        ("step_up(level: 3)", "when { context.assurance.level < 3 }"),
        ("step_up(level: 3)", "unless { 3 <= context.assurance.level }"),
        ("step_up(level: 4)", "unless { context.assurance.level == 4 }"),
        (
            "step_up(level: 2, max_age: 15m)",
            "unless { context.assurance.level >= 2 && context.assurance.age_s <= 900 }",
        ),
        ("bind_device", "unless { context.binding != \"none\" }"),
        ("bind_device", "unless { [\"dpop\", \"mtls\"].contains(context.binding) }"),
        ("bind_device(mtls)", "unless { context.binding == \"mtls\" }"),
        ("justify", "unless { context has purpose }"),
        (
            "justify(purposes: [\"a\", \"b\"])",
            "unless { context has purpose && [\"a\", \"b\", \"c\"].contains(context.purpose) }",
        ),
        ("justify(purposes: [\"a\"])", "when { !(context has purpose && context.purpose == \"a\") }"),
        (
            "redact(pii); watch",
            "unless { context.obligations.contains(\"redact:pii\") && context.obligations.contains(\"watch\") }",
        ),
        ("redact(pii)", "unless { context.obligations.contains(\"redact:email\") }"),
        (
            "redact(pii)",
            "unless { principal in Role::\"dpo\" || context.obligations.contains(\"redact:pii\") }",
        ),
        (
            "redact(pii)",
            "when { context.request.stream } unless { context.obligations.contains(\"redact:pii\") }",
        ),
        ("watch", "unless { context.request.stream } unless { context.obligations.contains(\"watch\") }"),
    ] {
        assert_eq!(told(remedy, lifted), "", "{remedy} {lifted}");
    }
    for (remedy, not_lifted, message) in [
        ("step_up(level: 2)", "unless { context.assurance.level >= 3 }", "does not lift it"),
        (
            "step_up(level: 3)",
            "unless { context.assurance.level >= 3 && context.assurance.age_s <= 900 }",
            "does not lift it",
        ),
        (
            "step_up(level: 3, max_age: 1h)",
            "unless { context.assurance.level >= 3 && context.assurance.age_s <= 900 }",
            "does not lift it",
        ),
        ("step_up(level: 3)", "unless { context.assurance.level == 3 }", "does not lift it"),
        // It mentions the fact, and that is not enough.
        ("step_up(level: 3)", "when { context.assurance.level >= 1 }", "does not lift it"),
        ("bind_device", "unless { context.binding == \"dpop\" }", "does not lift it"),
        ("justify", "unless { context has purpose && context.purpose == \"x\" }", "does not lift it"),
        ("justify", "unless { context has network }", "does not lift it"),
        (
            "justify(purposes: [\"a\", \"d\"])",
            "unless { context has purpose && [\"a\"].contains(context.purpose) }",
            "does not lift it",
        ),
        ("redact(email)", "unless { context.obligations.contains(\"redact:pii\") }", "no remedy of its own"),
        (
            "redact(pii)",
            "unless { context.obligations.contains(\"redact:pii\") && context.request.stream }",
            "does not lift it",
        ),
        ("redact(pii)", "when { context.obligations.contains(\"redact:pii\") }", "does not lift it"),
        (
            "redact(pii); watch",
            "unless { context.obligations.contains(\"redact:pii\") }",
            "`watch` is not needed",
        ),
        (
            "redact(pii); watch",
            "unless { context.obligations.contains(\"redact:pii\") || context.obligations.contains(\"watch\") }",
            "is not needed",
        ),
        (
            "redact(pii); justify",
            "unless { context.obligations.contains(\"redact:pii\") && context has network }",
            "together do not lift it",
        ),
        (
            "approve(1, use_within: 1m)",
            "unless { context.approvals.contains(\"b\") }",
            "each rule is approved by itself",
        ),
        (
            "justify",
            "unless { context has purpose || context.approvals.contains(\"a\") }",
            "nobody is asked to approve",
        ),
        ("frobnicate", "", "is not a remedy"),
    ] {
        assert!(
            told(remedy, not_lifted).contains(message),
            "{remedy} {not_lifted}\n{}",
            told(remedy, not_lifted)
        );
    }
}

#[test]
fn a_remedy_outside_of_what_the_door_can_apply_is_not_tried() {
    for (remedy, fact) in [
        ("redact(pii)", "redact:pii"),
        ("cap(output_tokens: 5)", "cap:output_tokens"),
        ("strip_tools", "strip_tools"),
        ("do_not_keep", "do_not_keep"),
        ("keep(content)", "keep:content"),
        ("watch", "watch"),
    ] {
        let rule = format!(
            "@id(\"a\") @remedy(\"{remedy}\") forbid (principal, action == Action::\"model:invoke\", resource) unless {{ context.obligations.contains(\"{fact}\") }};"
        );
        let snapshot = snapshot(&format!("{BASE}{rule}"));
        let told = crate::world::explain(
            &snapshot,
            &user("alice", AssuranceLevel::Aal1),
            Action::ModelInvoke,
            "dev",
            &Door::none(),
        );
        assert_eq!(
            (told.verdict, told.reasons),
            (VerdictKind::Deny, vec![ReasonCode::ObligationUnsupported]),
            "{remedy}"
        );
        let told = crate::world::explain(
            &snapshot,
            &user("alice", AssuranceLevel::Aal1),
            Action::ModelInvoke,
            "dev",
            &Door::model_calls(),
        );
        assert_eq!((told.verdict, told.obligations.is_empty()), (VerdictKind::Permit, false), "{remedy}");
    }
}

#[test]
fn a_fulfilled_remedy_is_not_a_ticket_the_ask_is_decided_afresh_on_the_real_facts() {
    let held = snapshot(&format!("{BASE}{TWO}"));
    let key = refused(decide(&held, &Standing::default())).holds[0].key.clone();
    assert!(matches!(decide(&held, &approved([key.clone()])).verdict, Verdict::Permit(_)));
    // Meanwhile another rule has come, or the right has gone: the approval stands, and does not help.
    let stop = r#"@id("stop") forbid (principal, action == Action::"model:invoke", resource);"#;
    let decision = decide(&snapshot(&format!("{BASE}{TWO}{stop}")), &approved([key.clone()]));
    assert_eq!(refused(decision).reasons, [ReasonCode::Forbidden]);
    let other = BASE.replace("engineers\", action", "strangers\", action");
    let decision = decide(&snapshot(&format!("{other}{TWO}")), &approved([key]));
    assert_eq!(refused(decision).reasons, [ReasonCode::NoMatchingPermit]);
}

#[test]
fn offering_a_remedy_tells_that_a_thing_exists_so_it_takes_the_right_to_discover_it() {
    let hidden = BASE.replace(", Action::\"model:list\"", "");
    let decision = decide(&snapshot(&format!("{hidden}{TWO}")), &Standing::default());
    assert!(matches!(decision.verdict, Verdict::Deny(_)));
    let told = refused(decision);
    assert!(
        told.offers.is_empty() && told.holds.is_empty() && !told.discoverable,
        "nobody is asked to approve"
    );
    let problem = told.problem();
    // To the letter what is said of a model that does not exist.
    let missing = snapshot(&format!("{BASE}{TWO}")).decide(
        &real_alice(),
        ask("no-such-model", Action::ModelInvoke),
        &situation(),
        &Door::model_calls(),
    );
    let missing = refused(missing).problem();
    assert_eq!(
        (problem.reason, problem.offers, problem.detail),
        (missing.reason, missing.offers, missing.detail)
    );
    let seen = refused(decide(&snapshot(&format!("{BASE}{TWO}")), &Standing::default()));
    assert!(seen.discoverable && seen.offers.len() == 1);
}

#[test]
fn callers_get_code_and_remedy_and_no_rule() {
    let told = refused(decide(&snapshot(&format!("{BASE}{TWO}")), &Standing::default()));
    let problem = told.problem();
    assert_eq!(problem.reason, ReasonCode::ApprovalRequired);
    let said =
        format!("{} {} {}", problem.reason, problem.detail, serde_json::to_string(&problem.offers).unwrap());
    assert!(!said.contains("two"), "{said}");
}

#[test]
fn holds_are_limited_per_chain() {
    let held = snapshot(&format!("{BASE}{TWO}"));
    let with = |holds| decide(&held, &Standing { approvals: BTreeSet::new(), holds });
    assert!(matches!(with(15).verdict, Verdict::Hold(_)));
    let told = refused(with(16));
    assert_eq!((told.verdict, told.reasons), (VerdictKind::Deny, vec![ReasonCode::TooManyHolds]));
    assert!(told.offers.is_empty() && told.holds.is_empty());
    assert_eq!(refused(with(u32::MAX)).reasons, [ReasonCode::TooManyHolds]);
    // So is what one ask may demand.
    let rules =
        |n: usize| (0..n).map(|i| TWO.replace("\"two\"", &format!("\"two-{i}\""))).collect::<String>();
    assert_eq!(
        refused(decide(&snapshot(&format!("{BASE}{}", rules(4))), &Standing::default())).holds.len(),
        4
    );
    let told = refused(decide(&snapshot(&format!("{BASE}{}", rules(5))), &Standing::default()));
    assert_eq!(told.reasons, [ReasonCode::TooManyHolds]);
}

#[test]
fn an_evaluation_error_denies_and_no_remedy_is_offered() {
    let erring = r#"@id("erring") forbid (principal, action, resource) when { 9223372036854775807 + context.time.hour + 1 > 0 };"#;
    let told = refused(decide(&snapshot(&format!("{BASE}{TWO}{erring}")), &Standing::default()));
    assert_eq!((told.reasons, told.offers.len()), (vec![ReasonCode::PolicyError], 0));
    // Nor where it would err only once the remedy is applied.
    let later = r#"@id("later") forbid (principal, action == Action::"model:invoke", resource) when { context has purpose && 9223372036854775807 + context.time.hour + 1 > 0 };
        @id("why") @reason("justification_required") @remedy("justify") forbid (principal, action == Action::"model:invoke", resource) unless { context has purpose };"#;
    let told = refused(decide(&snapshot(&format!("{BASE}{later}")), &Standing::default()));
    assert_eq!(
        (told.verdict, told.offers.len(), told.reasons),
        (VerdictKind::Deny, 0, vec![ReasonCode::JustificationRequired])
    );
}

#[test]
fn a_purpose_out_of_a_list_is_offered_as_far_as_it_helps() {
    let rules = r#"@id("why") @reason("justification_required") @remedy("justify(purposes: [\"support\", \"research\", \"fun\"])")
        forbid (principal, action == Action::"model:invoke", resource)
        unless { context has purpose && ["support", "research", "fun"].contains(context.purpose) };
        @id("no-fun") forbid (principal, action == Action::"model:invoke", resource) when { context has purpose && context.purpose == "fun" };"#;
    let snapshot = snapshot(&format!("{BASE}{rules}"));
    let told = invoke(&snapshot, &user("alice", AssuranceLevel::Aal1), "dev");
    let purposes = ["research", "support"].iter().map(|p| p.parse().unwrap()).collect();
    assert_eq!((told.verdict, told.offers), (VerdictKind::Justify, vec![Offer::Justify { purposes }]));
    let other = r#"@id("why-2") @remedy("justify(purposes: [\"audit\"])") forbid (principal, action == Action::"model:invoke", resource)
        unless { context has purpose && context.purpose == "audit" };"#;
    let both = crate::world::snapshot(&format!("{BASE}{rules}{other}"));
    assert_eq!(
        invoke(&both, &user("alice", AssuranceLevel::Aal1), "dev").verdict,
        VerdictKind::Deny,
        "no purpose is in both lists"
    );
}

#[test]
fn a_bound_credential_is_a_remedy_of_its_own_kind() {
    let rule = r#"@id("bound") @reason("binding_required") @remedy("bind_device") forbid (principal, action == Action::"model:invoke", resource) unless { context.binding != "none" };"#;
    let told = invoke(&snapshot(&format!("{BASE}{rule}")), &user("alice", AssuranceLevel::Aal1), "dev");
    assert_eq!((told.verdict, told.reasons), (VerdictKind::StepUp, vec![ReasonCode::BindingRequired]));
    assert!(matches!(&told.offers[..], [Offer::BindDevice { by }] if by.len() == 2));
    // An agent can be bound, though it cannot log in again.
    let told = invoke(&snapshot(&format!("{BASE}{rule}")), &agent("reporter"), "dev");
    assert_eq!(told.verdict, VerdictKind::StepUp);
    // Two rules that leave nothing in common cannot both be fulfilled.
    let two = r#"@id("d") @remedy("bind_device(dpop)") forbid (principal, action == Action::"model:invoke", resource) unless { context.binding == "dpop" };
        @id("m") @remedy("bind_device(mtls)") forbid (principal, action == Action::"model:invoke", resource) unless { context.binding == "mtls" };"#;
    assert_eq!(
        invoke(&snapshot(&format!("{BASE}{two}")), &user("alice", AssuranceLevel::Aal1), "dev").verdict,
        VerdictKind::Deny
    );
}

/// Forbids of every kind of remedy; `n` varies what is asked for.
fn remedied(place: usize, kind: u8, n: u8, scope: u8) -> String {
    let scope = [
        "principal, action == Action::\"model:invoke\", resource",
        "principal in Group::\"contractors\", action in Action::\"model:use\", resource",
        "principal, action in Action::\"model:use\", resource == Model::\"prod\"",
        "principal is Agent, action in Action::\"model:use\", resource",
    ][usize::from(scope % 4)];
    let level = n % 3 + 1;
    let (remedy, unless) = match kind % 11 {
        // Two that are needed together: once one of them is brought about, only the other is asked for.
        10 => (
            format!("step_up(level: {level}); cap(output_tokens: 9)"),
            format!(
                "context.assurance.level >= {level} && context.obligations.contains(\"cap:output_tokens\")"
            ),
        ),
        0 => ("redact(email)".to_owned(), "context.obligations.contains(\"redact:email\")".to_owned()),
        1 => ("redact(pii)".to_owned(), "context.obligations.contains(\"redact:pii\")".to_owned()),
        2 => (
            format!("cap(output_tokens: {})", u32::from(n) + 1),
            "context.obligations.contains(\"cap:output_tokens\")".to_owned(),
        ),
        3 => ("keep(content)".to_owned(), "context.obligations.contains(\"keep:content\")".to_owned()),
        4 => ("do_not_keep".to_owned(), "context.obligations.contains(\"do_not_keep\")".to_owned()),
        5 => ("watch".to_owned(), "context.obligations.contains(\"watch\")".to_owned()),
        6 => (
            format!("step_up(level: {level}, max_age: 60s)"),
            format!("context.assurance.level >= {level} && context.assurance.age_s <= 60"),
        ),
        7 => (
            "justify(purposes: [\\\"a\\\", \\\"b\\\"])".to_owned(),
            "context has purpose && [\"a\", \"b\"].contains(context.purpose)".to_owned(),
        ),
        8 => ("bind_device".to_owned(), "context.binding != \"none\"".to_owned()),
        _ => (
            format!("approve({level}, use_within: 60s)"),
            format!("context.approvals.contains(\"r{place}\")"),
        ),
    };
    // Now and then another condition, so that remedies do not always help; one that a remedy settles is refused.
    let two = kind % 11 == 10;
    let when = match n / 3 % 4 {
        1 => " when { context.request.stream }",
        2 if !two => " when { context.assurance.level < 2 }",
        3 => " when { context has purpose }",
        _ => "",
    };
    format!("@id(\"r{place}\") @remedy(\"{remedy}\") forbid ({scope}){when} unless {{ {unless} }};\n")
}

fn rules() -> impl Strategy<Value = String> {
    proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 0..5).prop_map(|all| {
        all.iter().enumerate().map(|(place, (kind, n, scope))| remedied(place, *kind, *n, *scope)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The proof obligation: a remedied permit satisfies the rule. Every rule that forbade has its own clause among the
    /// obligations of the permit, or a stronger one.
    #[test]
    fn a_remedied_permit_satisfies_every_rule_that_forbade(rules in rules(), who in 0..3_usize, model in 0..2_usize) {
        let text = format!("{BASE}{rules}");
        let snapshot = snapshot(&text);
        let caller = [user("alice", AssuranceLevel::Aal2), user("carol", AssuranceLevel::Aal1), agent("reporter")][who].clone();
        let told = invoke(&snapshot, &caller, ["dev", "prod"][model]);
        let compiled = compile(&text).unwrap();
        if told.verdict == VerdictKind::Permit {
            for id in &told.evidence.forbids {
                for clause in compiled.remedies(id).unwrap() {
                    // Whatever else a rule wants, this caller had brought about before: nothing was asked for.
                    if !matches!(clause, Remedy::Oblige(_)) {
                        continue;
                    }
                    let done = told.obligations.iter().any(|o| Remedy::Oblige(o.clone()).is_at_least(clause));
                    prop_assert!(done, "{} does not do {}\n{}", told, clause, text);
                }
            }
            prop_assert!(!told.obligations.contradict());
        }
    }

    /// Every offered set of remedies, fulfilled for real, permits; and the record names no rule that still forbids but
    /// those whose obligations the permit carries.
    #[test]
    fn offered_only_if_it_helps_and_then_it_does(rules in rules(), level in 1..3_u8, stated_before in any::<bool>()) {
        let text = format!("{BASE}{rules}");
        let snapshot = snapshot(&text);
        let level = AssuranceLevel::from_number(level).unwrap();
        let situation = if stated_before { stated("a") } else { situation() };
        let told = invoke_standing(&snapshot, &user("alice", level), "dev", &situation, &Standing::default());
        if matches!(told.verdict, VerdictKind::Permit | VerdictKind::Deny) {
            return Ok(());
        }
        prop_assert!(!told.offers.is_empty());
        let bundle = snapshot.bundle().unwrap();
        let standing = approved(told.evidence.forbids.iter().filter_map(|id| bundle.approval_key(id).cloned()));
        let (mut levels, mut bindings, mut purposes) = (vec![level], vec![Binding::None], vec![situation.purpose.clone()]);
        for offer in &told.offers {
            match offer {
                Offer::StepUp { level: to, .. } => levels = vec![AssuranceLevel::from_number(*to).unwrap().max(level)],
                Offer::BindDevice { by } => bindings = by.iter().map(|by| crate::world::bound(*by)).collect(),
                Offer::Justify { purposes: any } if any.is_empty() => purposes = vec![Some("anything".parse().unwrap())],
                Offer::Justify { purposes: all } => purposes = all.iter().cloned().map(Some).collect(),
                Offer::Approve { .. } => prop_assert!(!standing.approvals.is_empty()),
                Offer::Authorize { .. } => prop_assert!(false, "no rule asks for it"),
            }
        }
        for level in levels {
            for binding in &bindings {
                for purpose in &purposes {
                    let situation = Situation { purpose: purpose.clone(), ..situation.clone() };
                    let caller = user_bound("alice", level, *binding);
                    let after = invoke_standing(&snapshot, &caller, "dev", &situation, &standing);
                    prop_assert!(after.verdict == VerdictKind::Permit, "{:?} {}\n{}", told.offers, after, text);
                }
            }
        }
    }

    /// Order of strength: the strongest kind needed names the verdict, and a stronger login never leads to less.
    #[test]
    fn the_strongest_kind_needed_names_the_verdict(rules in rules()) {
        let snapshot = snapshot(&format!("{BASE}{rules}"));
        let told = invoke(&snapshot, &user("alice", AssuranceLevel::Aal1), "dev");
        let strongest = told.offers.iter().map(|offer| match offer {
            Offer::StepUp { .. } | Offer::BindDevice { .. } => VerdictKind::StepUp,
            Offer::Justify { .. } => VerdictKind::Justify,
            Offer::Approve { .. } => VerdictKind::Hold,
            Offer::Authorize { .. } => VerdictKind::Deny,
        });
        match told.verdict {
            VerdictKind::Deny => prop_assert!(told.offers.is_empty() && told.obligations.is_empty()),
            verdict => prop_assert_eq!(strongest.max().unwrap_or(VerdictKind::Permit), verdict),
        }
    }
}
