//! Large sets: a change is answered from what changed, and what cannot be answered harms nobody.

use crate::common::*;
use bartizan_prove::{Limits, Question, Why};

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
    // A permit under a new name meets all others: no pair, one query with everything.
    let plain = |at| {
        format!(
            "@id(\"r{at}\") permit (principal in Team::\"t{at}\", action == Action::\"deploy\", resource);\n"
        )
    };
    let set: String = (0..3_000).map(plain).collect();
    let more = format!(
        "{set}@id(\"more\") permit (principal in Team::\"t7\", action == Action::\"deploy\", resource) when {{ context.mfa }};"
    );
    let question = Question::NothingNew { old: rules(&set), new: rules(&more) };
    let little = Limits { stack_bytes: 2 << 20, slice_rules_max: usize::MAX, ..Limits::default() };
    let answer = ask_with(&prover().with_limits(little), &question);
    assert_eq!(
        not_proven(&answer),
        (Why::TooLarge, "the prover's process ran out of stack or memory".to_owned())
    );
    // More rules than one query may hold: not tried.
    let few = Limits { slice_rules_max: 100, ..Limits::default() };
    let (why, detail) = not_proven(&ask_with(&prover().with_limits(few), &question));
    assert_eq!(why, Why::TooLarge);
    assert!(detail.contains("more than 100"), "{detail}");
}
