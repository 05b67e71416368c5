//! Large sets: a change is answered from what changed, and what cannot be answered harms nobody.

mod common;

use bartizan_prove::{Limits, Outcome, Question};
use common::*;

/// `count` rules, nine of ten permits; `changed` is the condition of the one in the middle.
fn mix(count: usize, changed: &str) -> String {
    let rule = |at: usize| {
        let condition =
            if at == count / 2 { changed } else { "principal.clearance >= resource.classification" };
        match at % 10 {
            3 => format!(
                "@id(\"r{at}\") forbid (principal in Team::\"t{at}\", action, resource) when {{ principal.suspended }};\n"
            ),
            _ => format!(
                "@id(\"r{at}\") permit (principal in Team::\"t{}\", action == Action::\"invoke\", resource in Project::\"p{at}\") when {{ {condition} && resource.region like \"eu-{at}*\" }};\n",
                at % 50
            ),
        }
    };
    (0..count).map(rule).collect()
}

const NARROW: &str = "principal.clearance >= resource.classification && context.mfa";
const WIDE: &str = "principal.clearance >= resource.classification";

#[test]
fn one_changed_rule_among_ten_thousand_is_answered_by_its_pair() {
    let (narrow, wide) = (rules(&mix(10_000, NARROW)), rules(&mix(10_000, WIDE)));
    let answer = ask(&Question::NothingNew { old: wide.clone(), new: narrow.clone() });
    proven(&answer);
    assert!(answer.findings[0].queries <= 4, "{answer}");
    println!("10,000 rules, one narrowed: {} ms", answer.took_us / 1_000);
    // And a change for the worse is found by the same few queries, confirmed by the whole of both sets.
    let answer = ask(&Question::NothingNew { old: narrow, new: wide });
    let counterexample = refuted(&answer);
    assert_eq!(counterexample.after.permits, ["r5000"]);
    assert_eq!(counterexample.context["mfa"], false);
    assert!(answer.findings[0].queries <= 4, "{answer}");
    println!("10,000 rules, one widened: {} ms", answer.took_us / 1_000);
}

#[test]
fn a_whole_set_of_three_thousand_harms_only_the_worker() {
    // A permit under a new name meets all others: no pair, one slice with everything.
    let set = mix(3_000, WIDE);
    let more = format!(
        "{set}@id(\"more\") permit (principal, action == Action::\"invoke\", resource) when {{ principal.clearance > 100 && resource.classification < 3 && !principal.suspended && resource.owner == principal && resource.region == \"eu-7\" && false == context.mfa && principal in Team::\"t7\" && resource in Project::\"p7\" }};"
    );
    let question = Question::NothingNew { old: rules(&set), new: rules(&more) };
    // A stack as the main thread has it: the worker dies of it.
    let little =
        Limits { stack_bytes: 8 << 20, slice_rules_max: usize::MAX, wall_ms: 60_000, ..Limits::default() };
    let answer = ask_with(&prover().with_limits(little), &question);
    assert!(matches!(answer.findings[0].outcome, Outcome::NotProven { .. }), "{answer}");
    println!("{answer}");
    // More rules than one query may hold: not tried.
    let answer =
        ask_with(&prover().with_limits(Limits { slice_rules_max: 100, ..Limits::default() }), &question);
    let (why, detail) = not_proven(&answer);
    assert_eq!(why, bartizan_prove::Why::TooLarge);
    assert!(detail.contains("more than 100"), "{detail}");
}
