//! One ask with everything that it touches: decided together as the members of a chain are.

use crate::world::{ask, door, name, real, situation, snapshot};
use bartizan_decide::{PartDecided, Verdict};
use bartizan_model::action::ModelCall;
use bartizan_model::record::VerdictKind;
use bartizan_model::{Action, EntityRef, ReasonCode};

const RULES: &str = r#"
@id("all") permit (principal, action in [Action::"model:invoke", Action::"model:list"], resource);
@id("mask-dev") @reason("personal_data") @remedy("redact(email)")
forbid (principal, action == Action::"model:invoke", resource == Model::"dev")
unless { context.obligations.contains("redact:email") };
@id("step-prod") @reason("assurance_too_low") @remedy("step_up(level: 4)")
forbid (principal, action == Action::"model:invoke", resource == Model::"prod")
unless { context.assurance.level >= 4 };
"#;

fn decided(rules: &str, first: &str, more: &[&str]) -> (Verdict<ModelCall>, Vec<PartDecided>) {
    let part = |model: &&str| (Action::ModelInvoke, EntityRef::new(name("Model"), name(model)));
    let parts: Vec<_> = more.iter().map(part).collect();
    let ask = ask(first, Action::ModelInvoke);
    let (decision, told) = snapshot(rules).decide_all(&real(None), ask, &parts, &situation(), &door());
    assert_eq!(told.len(), parts.len() + 1);
    (decision.verdict, told)
}

#[test]
fn a_permit_demands_what_any_part_demands_and_says_which() {
    let (verdict, told) = decided(RULES, "weights", &["weights", "dev"]);
    let Verdict::Permit(permit) = verdict else { panic!("{verdict:?}") };
    assert_eq!(permit.obligations().detectors().len(), 1);
    let demanding: Vec<bool> = told.iter().map(|part| !part.obligations.is_empty()).collect();
    assert_eq!(demanding, [false, false, true]);
    let parts = permit.spend();
    assert_eq!(parts.what.resource.name.as_str(), "weights");
    assert!(parts.grounds.rules.contains(&name("all")));
}

#[test]
fn the_strongest_verdict_wins_wherever_it_stands_and_a_denial_offers_nothing() {
    let kind = |verdict: &Verdict<ModelCall>| match verdict {
        Verdict::Permit(_) => VerdictKind::Permit,
        Verdict::StepUp(_) => VerdictKind::StepUp,
        Verdict::Justify(_) => VerdictKind::Justify,
        Verdict::Hold(_) => VerdictKind::Hold,
        Verdict::Deny(_) => VerdictKind::Deny,
    };
    for (first, more, expected) in [
        ("dev", vec!["weights"], VerdictKind::Permit),
        ("dev", vec!["prod"], VerdictKind::StepUp),
        ("prod", vec!["dev"], VerdictKind::StepUp),
        ("dev", vec!["prod", "none"], VerdictKind::Deny),
        ("none", vec!["prod"], VerdictKind::Deny),
        ("prod", vec!["none"], VerdictKind::Deny),
    ] {
        let (verdict, told) = decided(RULES, first, &more);
        assert_eq!(kind(&verdict), expected, "{first} {more:?}");
        assert_eq!(told.iter().map(|part| part.verdict).max(), Some(expected));
        if let Verdict::Deny(refused) = verdict {
            assert!(refused.offers.is_empty() && refused.reasons == [ReasonCode::NoMatchingPermit]);
            // What was refused is named, so that the record says it.
            assert_eq!(refused.what.unwrap().resource.name.as_str(), "none");
        }
    }
}

#[test]
fn what_was_decided_on_is_bound_to_every_part() {
    let slice = |more: &[&str]| match decided(RULES, "weights", more).0 {
        Verdict::Permit(permit) => permit.spend().grounds.slice,
        other => panic!("{other:?}"),
    };
    assert_eq!(slice(&["dev"]), slice(&["dev"]));
    assert_ne!(slice(&["dev"]), slice(&["weights"]));
    assert_ne!(slice(&[]), slice(&["weights"]));
}
