//! Questions with known answers, asked of the real solver.

use crate::common::*;
use bartizan_prove::{Invalid, Outcome, Overall, Question, Why};
use bartizan_rt::SystemClock;

#[test]
fn a_narrowed_and_rewritten_set_permits_nothing_new() {
    let narrowed = r#"
@id("team") permit (principal in Team::"ml", action in [Action::"invoke"], resource)
  when { !(principal.clearance < resource.classification) && context has at && context.at > datetime("2026-01-01") };
@id("owner") permit (principal, action, resource)
  when { context.mfa && principal == resource.owner && context has spent && context.spent.lessThan(decimal("9.5")) };
@id("network") forbid (principal, action, resource) when { !context.ip.isInRange(ip("10.0.0.0/9")) };
@id("suspended") forbid (principal, action, resource) when { principal.suspended || resource.region == "x" };
"#;
    let answer = nothing_new(A, narrowed);
    proven(&answer);
    assert!(answer.solver.unwrap().version.starts_with("cvc5 "));
    let kinds: Vec<_> = answer.findings[0].environments.iter().map(|e| e[1].clone()).collect();
    assert_eq!(kinds, [r#"Action::"deploy""#, r#"Action::"invoke""#]);
    let equivalent = ask(&Question::Equivalent { old: rules(A), new: rules(narrowed) });
    let counterexample = refuted(&equivalent);
    assert!(counterexample.before.unwrap().permitted && !counterexample.after.permitted);
}

#[test]
fn a_widened_set_is_refuted_by_an_ask_told_in_words() {
    let widened = A.replace("&& context.mfa }", "&& (context.mfa || context has ticket) }");
    let counterexample = refuted(&nothing_new(A, &widened));
    let before = counterexample.before.clone().unwrap();
    assert!(!before.permitted && counterexample.after.permitted);
    assert_eq!(counterexample.after.permits, ["owner"]);
    assert_eq!(counterexample.context["mfa"], false);
    let words = &counterexample.words;
    assert!(words.contains("may `"), "{words}");
    assert!(words.contains("permitted now by `owner`; before `owner` does not match it"), "{words}");
    assert!(words.contains("context.mfa is false"), "{words}");
    assert!(
        !words.contains("\"\"") || words.contains("context.ticket is \"\""),
        "ids were given names: {words}"
    );
}

#[test]
fn a_forbid_that_goes_or_shrinks_is_refuted_and_named() {
    let without = A
        .replace("@id(\"suspended\") forbid (principal, action, resource) when { principal.suspended };", "");
    let counterexample = refuted(&nothing_new(A, &without));
    assert_eq!(counterexample.before.unwrap().forbids, ["suspended"]);
    assert!(
        counterexample.words.contains("`suspended` forbids it before and does not stand now"),
        "{}",
        counterexample.words
    );
    let shrunk = A.replace("10.0.0.0/8", "10.0.0.0/7");
    let counterexample = refuted(&nothing_new(A, &shrunk));
    assert!(
        counterexample.words.contains("`network` forbids it before and not now"),
        "{}",
        counterexample.words
    );
}

#[test]
fn what_no_pair_proves_is_proven_by_the_rules_it_meets() {
    // Two permits for one, under new names; a forbid split in two.
    let split = r#"
@id("team-low") permit (principal in Team::"ml", action == Action::"invoke", resource)
  when { resource.classification < 3 && principal.clearance >= resource.classification };
@id("team-high") permit (principal in Team::"ml", action == Action::"invoke", resource)
  when { resource.classification >= 3 && principal.clearance >= resource.classification };
@id("owner") permit (principal, action, resource) when { resource.owner == principal && context.mfa };
@id("network") forbid (principal, action, resource) unless { context.ip.isInRange(ip("10.0.0.0/8")) };
@id("suspended-invoke") forbid (principal, action == Action::"invoke", resource) when { principal.suspended };
@id("suspended-deploy") forbid (principal, action == Action::"deploy", resource) when { principal.suspended };
"#;
    proven(&nothing_new(A, split));
    proven(&ask(&Question::Equivalent { old: rules(A), new: rules(split) }));
    // Without one of the halves it is not.
    let half = split.replace(
        "forbid (principal, action == Action::\"deploy\"",
        "forbid (principal, action == Action::\"invoke\"",
    );
    assert!(refuted(&nothing_new(A, &half)).action.contains("deploy"));
}

#[test]
fn a_permit_that_can_never_match_or_is_covered_or_always_forbidden_is_nothing_new() {
    let with = |rule: &str| format!("{A}\n@id(\"more\") {rule}");
    let dead =
        "permit (principal, action, resource) when { principal.clearance > 5 && principal.clearance < 5 };";
    proven(&nothing_new(A, &with(dead)));
    let covered = "permit (principal == User::\"x\", action, resource) when { resource.owner == principal && context.mfa };";
    proven(&nothing_new(A, &with(covered)));
    let forbidden = "permit (principal, action, resource) when { principal.suspended };";
    proven(&nothing_new(A, &with(forbidden)));
    let open = "permit (principal == User::\"x\", action, resource == Model::\"y\");";
    let counterexample = refuted(&nothing_new(A, &with(open)));
    assert_eq!(
        (counterexample.principal.as_str(), counterexample.resource.as_str()),
        ("User::\"x\"", "Model::\"y\"")
    );
    assert!(counterexample.words.contains("before there is no such rule"), "{}", counterexample.words);
}

#[test]
fn other_names_and_other_order_change_nothing() {
    let renamed = r#"
@id("b") forbid (principal, action, resource) when { principal.suspended };
@id("c") permit (principal, action, resource) when { resource.owner == principal && context.mfa };
@id("a") permit (principal in Team::"ml", action == Action::"invoke", resource) when { principal.clearance >= resource.classification };
@id("d") forbid (principal, action, resource) unless { context.ip.isInRange(ip("10.0.0.0/8")) };
"#;
    let answer = ask(&Question::Equivalent { old: rules(A), new: rules(renamed) });
    proven(&answer);
    assert_eq!(answer.findings[0].queries, 0);
}

#[test]
fn a_rule_that_can_end_in_an_error_is_found_with_the_number_that_does_it() {
    let text = r#"
@id("overflows") permit (principal, action, resource) when { principal.clearance + 1 > resource.classification };
@id("guarded") permit (principal, action, resource)
  when { principal.clearance < 1000 && principal.clearance > -1000 && principal.clearance + 1 > resource.classification };
@id("plain") forbid (principal, action, resource) when { principal.clearance > 3 };
"#;
    let answer = ask(&Question::NeverErrs { rules: rules(text) });
    let outcomes: Vec<_> =
        answer.findings.iter().map(|f| (f.about.as_str(), matches!(f.outcome, Outcome::Proven))).collect();
    assert_eq!(outcomes, [("guarded", true), ("overflows", false), ("plain", true)]);
    let Outcome::Refuted { counterexample } = &answer.findings[1].outcome else { panic!("{answer}") };
    assert_eq!(counterexample.after.errs, ["overflows"]);
    assert!(
        counterexample.words.contains("principal.clearance is 9223372036854775807"),
        "{}",
        counterexample.words
    );
    assert_eq!(answer.overall(), Overall::Refuted);
}

#[test]
fn a_condition_that_is_never_true_can_still_err_and_is_looked_at() {
    let vocabulary = vocabulary(
        "entity U { n: Long }; entity A; entity B; action a appliesTo { principal: U, resource: [A, B] };",
    );
    // For a B the condition is never true, but it is evaluated, and overflows.
    let odd = rules(
        "@id(\"p\") permit (principal, action, resource is B); @id(\"odd\") permit (principal, action, resource) when { principal.n + 1 > 3 && resource is A && principal.n < 5 };",
    );
    let guarded = odd.policies().find(|p| p.id().to_string() == "p").cloned();
    let only = cedar_policy::PolicySet::from_policies(guarded).unwrap();
    let clock = SystemClock::new();
    let answer = prover().ask(&vocabulary, &Question::NeverErrs { rules: odd.clone() }, &clock).unwrap();
    let refuted_at = answer.findings.iter().find(|f| f.about == "odd").unwrap();
    assert_eq!(refuted_at.environments.len(), 1, "the first kind of ask refutes it");
    assert!(matches!(refuted_at.outcome, Outcome::Refuted { .. }), "{answer}");
    // So dropping it permits what was denied.
    let answer = prover().ask(&vocabulary, &Question::NothingNew { old: odd, new: only }, &clock).unwrap();
    let counterexample = refuted(&answer);
    assert!(counterexample.resource.starts_with("B::"), "{answer}");
    assert_eq!(counterexample.before.unwrap().errs, ["odd"]);
}

#[test]
fn an_error_that_denied_and_is_gone_is_something_new() {
    // Cedar itself passes over a rule that errs; this house denies. So mending the rule permits what was denied.
    let old = r#"
@id("all") permit (principal, action, resource);
@id("odd") forbid (principal, action, resource) when { principal.clearance + 1 < 0 };
"#;
    let mended = old.replace("principal.clearance + 1 < 0", "principal.clearance < -1");
    let counterexample = refuted(&nothing_new(old, &mended));
    assert_eq!(counterexample.before.unwrap().errs, ["odd"]);
    assert!(
        counterexample.words.contains("denied because `odd` ended in an error"),
        "{}",
        counterexample.words
    );
    // The other way round, more is denied.
    proven(&nothing_new(&mended, old));
    // A permit that errs denies as well.
    let permit = old.replace("@id(\"odd\") forbid", "@id(\"odd\") permit");
    let gone = "@id(\"all\") permit (principal, action, resource);";
    assert_eq!(refuted(&nothing_new(&permit, gone)).before.unwrap().errs, ["odd"]);
    // Where the changed rule errs as the old one did, nothing is lifted.
    let same =
        old.replace("principal.clearance + 1 < 0", "principal.clearance + 1 < 0 || resource.region == \"x\"");
    proven(&nothing_new(old, &same));
}

#[test]
fn an_invariant_is_proven_against_permits_less_forbids() {
    let vocabulary = vocabulary(SCHEMA);
    let invariants = vocabulary.invariants([(
        "invariants/a.cedar",
        r#"
@id("suspended-never") @because("They left.")
forbid (principal, action, resource) when { principal.suspended };
@id("deploy-needs-mfa") @because("Deployment changes production.")
forbid (principal, action == Action::"deploy", resource) unless { context.mfa };
@id("nobody-uses-eu") @because("It is not released.")
forbid (principal, action, resource) when { resource.region == "eu" };
"#,
    )]);
    let question = Question::NeverPermits { rules: rules(A), invariants: invariants.unwrap() };
    let answer = prover().ask(&vocabulary, &question, &SystemClock::new()).unwrap();
    let [deploy, region, suspended] = answer.findings.as_slice() else { panic!("{answer}") };
    assert!(matches!((&deploy.outcome, &suspended.outcome), (Outcome::Proven, Outcome::Proven)), "{answer}");
    let Outcome::Refuted { counterexample } = &region.outcome else { panic!("{answer}") };
    assert_eq!(region.about, "nobody-uses-eu");
    assert!(
        counterexample.words.contains("the invariant `nobody-uses-eu` says never"),
        "{}",
        counterexample.words
    );
    assert!(counterexample.words.contains("resource.region is \"eu\""), "{}", counterexample.words);
}

#[test]
fn an_invariant_that_says_nothing_or_can_err_proves_nothing() {
    let vocabulary = vocabulary(SCHEMA);
    let read = |text: &str| vocabulary.invariants([("i.cedar", text)]);
    for (text, part) in [
        ("@id(\"a\") @because(\"b\") permit (principal, action, resource);", "written as a forbid"),
        ("@id(\"a\") forbid (principal, action, resource);", "says why"),
        ("@because(\"b\") forbid (principal, action, resource);", "`@id"),
        (
            "@id(\"a\") @because(\"b\") @remedy(\"justify\") forbid (principal, action, resource);",
            "no annotations but",
        ),
        (
            "@id(\"a\") @because(\"b\") forbid (principal, action, resource);@id(\"a\") @because(\"b\") forbid (principal, action, resource);",
            "twice",
        ),
        ("@id(\"a\") @because(\"b\") forbid (principal, action, resource) when { principal.sus };", "sus"),
        ("@id(\"a\") @because(\"b\") forbid (principal is Model, action, resource);", "a"),
        ("@id(\"a\") @because(\"b\") forbid (principal == ?principal, action, resource);", "template"),
        ("forbid", "i.cedar"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    let erring = "@id(\"a\") @because(\"b\") forbid (principal, action, resource) when { principal.clearance + 1 > 3 };";
    let question = Question::NeverPermits {
        rules: rules("@id(\"p\") forbid (principal, action, resource);"),
        invariants: read(erring).unwrap(),
    };
    let answer = prover().ask(&vocabulary, &question, &SystemClock::new()).unwrap();
    assert_eq!(not_proven(&answer).0, Why::Unsupported);
}

#[test]
fn a_remedy_that_is_not_known_to_be_stronger_is_not_proven() {
    let rule = |remedy: &str, condition: &str| {
        let all = "@id(\"all\") permit (principal, action, resource);";
        format!(
            "{all} @id(\"masked\") {remedy} forbid (principal, action, resource) unless {{ {condition} }};"
        )
    };
    let redacted = "context.obligations.contains(\"redact:pii\")";
    let old = rule("@remedy(\"redact(pii)\")", redacted);
    proven(&nothing_new(&old, &rule("@remedy(\" redact( pii ) \")", redacted)));
    proven(&nothing_new(&old, &rule("", redacted)));
    let weaker = rule("@remedy(\"redact(email)\")", redacted);
    let (why, detail) = not_proven(&nothing_new(&old, &weaker));
    assert_eq!(why, Why::Remedies);
    assert!(detail.contains("`masked`"), "{detail}");
    let (why, _) =
        not_proven(&ask(&Question::Equivalent { old: rules(&old), new: rules(&rule("", redacted)) }));
    assert_eq!(why, Why::Remedies);
    // What lifts a rule is part of its condition: another fact is a counterexample, with that fact.
    let other = rule("@remedy(\"redact(pii)\")", "context.obligations.contains(\"redact:email\")");
    let counterexample = refuted(&nothing_new(&old, &other));
    assert_eq!(counterexample.context["obligations"], serde_json::json!(["redact:email"]));
}

#[test]
fn what_does_not_validate_is_not_asked_about() {
    let question = Question::NothingNew {
        old: rules(A),
        new: rules("@id(\"a\") permit (principal, action, resource) when { principal.nothing };"),
    };
    let error = prover().ask(&vocabulary(SCHEMA), &question, &SystemClock::new()).unwrap_err();
    assert!(matches!(error, Invalid::Rule(id, _) if id == "a"));
    // An old set in another vocabulary cannot be compared.
    let question = Question::NothingNew {
        old: rules("@id(\"a\") permit (principal, action, resource) when { principal.nothing };"),
        new: rules(A),
    };
    let answer = ask(&question);
    assert_eq!(not_proven(&answer).0, Why::Unsupported);
    // Strict types that the symbolic compiler does not cover are said so.
    let empty = "@id(\"a\") permit (principal, action, resource) when { context.obligations == [\"x\"] && [context.mfa].containsAll([true]) };";
    let answer = nothing_new(A, empty);
    assert!(!matches!(answer.findings[0].outcome, Outcome::Proven), "{answer}");
}

#[test]
fn every_answer_says_what_was_taken_for_granted() {
    let answer = nothing_new(A, A);
    let text = answer.to_string();
    assert!(
        text.contains("proven")
            && text.contains("asked cvc5")
            && text.contains("assumed: The proof is about the Cedar rules"),
        "{text}"
    );
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["findings"][0]["outcome"], "proven");
    assert_eq!(json["assumptions"].as_array().unwrap().len(), 4);
}

#[test]
fn what_a_change_permits_newly_is_told_rule_by_rule() {
    let new = A
        .replace("&& context.mfa }", "&& (context.mfa || context has ticket) }")
        .replace("@id(\"suspended\") forbid (principal, action, resource) when { principal.suspended };", "")
        + r#"@id("regional") permit (principal, action == Action::"invoke", resource) when { resource.region == "eu" };
@id("harmless") permit (principal, action, resource) when { resource.owner == principal && context.mfa && context has spent };"#;
    let (old, new) = (rules(A), rules(&new));
    let found = prover().new_permits(&vocabulary(SCHEMA), &old, &new, &SystemClock::new());
    let by: Vec<_> = found.found.iter().map(|(rule, _)| rule.as_str()).collect();
    assert_eq!((by, found.unknown.as_slice()), (vec!["owner", "regional", "suspended"], [].as_slice()));
    for (_, counterexample) in &found.found {
        assert!(!counterexample.before.as_ref().unwrap().permitted && counterexample.after.permitted);
    }
    // Without a solver nothing is known, of any of them.
    let absent = with_solver(Err("there is none".to_owned()));
    let found = absent.new_permits(&vocabulary(SCHEMA), &old, &new, &SystemClock::new());
    assert_eq!((found.found.len(), found.unknown.len()), (0, 4));
    // A rule that would permit something new by itself and is held back by another brings nothing new.
    let held = rules(&format!(
        "{A} @id(\"all\") permit (principal, action == Action::\"deploy\", resource); @id(\"none\") forbid (principal, action == Action::\"deploy\", resource);"
    ));
    let found = prover().new_permits(&vocabulary(SCHEMA), &old, &held, &SystemClock::new());
    assert_eq!((found.found.len(), found.unknown.len()), (0, 0));
}
