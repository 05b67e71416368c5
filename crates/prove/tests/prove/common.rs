//! A prover with the worker of this crate, and a small vocabulary.

use bartizan_prove::{
    Answer, Counterexample, Limits, Outcome, Prover, Question, Vocabulary, Why, find_solver,
};
use bartizan_rt::SystemClock;
use cedar_policy::{Policy, PolicyId, PolicySet, SchemaFragment};

pub(crate) const SCHEMA: &str = r#"
entity Team;
entity Project;
entity User in [Team] { clearance: Long, suspended: Bool };
entity Model in [Project] { owner: User, classification: Long, region: String };
action invoke, deploy appliesTo {
  principal: User, resource: Model,
  context: { mfa: Bool, ticket?: String, ip: ipaddr, at?: datetime, spent?: decimal, obligations: Set<String> },
};
"#;

/// Team permit with clearance, owner permit with a second factor, two forbids.
pub(crate) const A: &str = r#"
@id("team") permit (principal in Team::"ml", action == Action::"invoke", resource)
  when { principal.clearance >= resource.classification };
@id("owner") permit (principal, action, resource) when { resource.owner == principal && context.mfa };
@id("network") forbid (principal, action, resource) unless { context.ip.isInRange(ip("10.0.0.0/8")) };
@id("suspended") forbid (principal, action, resource) when { principal.suspended };
"#;

pub(crate) fn vocabulary(text: &str) -> Vocabulary {
    let (fragment, _) = SchemaFragment::from_cedarschema_str(text).unwrap();
    Vocabulary::new(&[fragment]).unwrap()
}

/// Rules by their `@id`.
pub(crate) fn rules(text: &str) -> PolicySet {
    let set: PolicySet = text.parse().unwrap();
    let named = set.policies().map(|p| p.new_id(PolicyId::new(p.annotation("id").unwrap())));
    PolicySet::from_policies(named.collect::<Vec<Policy>>()).unwrap()
}

pub(crate) fn prover() -> Prover {
    with_solver(find_solver(None))
}

pub(crate) fn with_solver(solver: Result<std::path::PathBuf, String>) -> Prover {
    Prover::new(env!("CARGO_BIN_EXE_prove-worker").into(), Vec::new(), solver)
}

pub(crate) fn quick() -> Limits {
    Limits { wall_ms: 20_000, query_ms: 5_000, ..Limits::default() }
}

pub(crate) fn ask(question: &Question) -> Answer {
    ask_with(&prover(), question)
}

pub(crate) fn ask_with(prover: &Prover, question: &Question) -> Answer {
    prover.ask(&vocabulary(SCHEMA), question, &SystemClock::new()).unwrap()
}

pub(crate) fn nothing_new(old: &str, new: &str) -> Answer {
    ask(&Question::NothingNew { old: rules(old), new: rules(new) })
}

#[track_caller]
pub(crate) fn proven(answer: &Answer) {
    assert!(answer.findings.iter().all(|f| matches!(f.outcome, Outcome::Proven)), "{answer}");
    assert!(!answer.findings.is_empty());
}

#[track_caller]
pub(crate) fn refuted(answer: &Answer) -> Counterexample {
    let [finding] = answer.findings.as_slice() else { panic!("one finding expected: {answer}") };
    let Outcome::Refuted { counterexample } = &finding.outcome else { panic!("{answer}") };
    (**counterexample).clone()
}

#[track_caller]
pub(crate) fn not_proven(answer: &Answer) -> (Why, String) {
    let [finding] = answer.findings.as_slice() else { panic!("one finding expected: {answer}") };
    let Outcome::NotProven { why, detail } = &finding.outcome else { panic!("{answer}") };
    (*why, detail.clone())
}

#[track_caller]
pub(crate) fn unavailable(answer: &Answer) -> String {
    let [finding] = answer.findings.as_slice() else { panic!("one finding expected: {answer}") };
    let Outcome::Unavailable { detail } = &finding.outcome else { panic!("{answer}") };
    detail.clone()
}
