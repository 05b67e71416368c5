//! Proofs about policy from the command line, and the hidden command that is their worker.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode as ProcessCode;
use std::sync::Arc;

use bartizan_base::Clock as _;
use bartizan_cli::{ExitCode, Global, Output, ProveArgs, ProveQuestion};
use bartizan_decide::{Bundle, CompiledBundle};
use bartizan_prove::{
    Answer, Invalid, Limits, Outcome, Overall, Prover, Question, Vocabulary, case, find_solver, worker,
};
use bartizan_rt::SystemClock;
use cedar_policy::{Policy, PolicyId, PolicySet, SchemaFragment};
use serde_json::{Value, json};

use crate::commands::{Failure, client};
use crate::offline::{read_bundle, read_invariants, seconds};

/// The hidden command that runs the worker: not for people.
pub(crate) const WORKER: &str = "prove-worker";

// What every bundle is linked with, as `bartizan-decide` does.
const SCHEMA: &str = include_str!("../../decide/src/schema.cedarschema");
const CONSTITUTION: &str = include_str!("../../decide/src/constitution.cedar");

/// Runs the worker on standard input and output.
pub(crate) fn worker() -> ProcessCode {
    worker::main(io::stdin(), io::stdout(), Arc::new(SystemClock::new()))
}

/// `policy prove`.
pub(crate) fn prove(global: &Global, args: &ProveArgs) -> Result<ExitCode, Failure> {
    let limit = seconds(&args.limit).ok_or_else(|| Failure::usage("`--limit` is such as `90s` or `10m`"))?;
    let new = bundle_in(&args.new)?;
    let vocabulary = vocabulary(&new).map_err(|e| invalid(&e))?;
    let questions = match args.questions.as_slice() {
        [] => &[ProveQuestion::NothingNew, ProveQuestion::NeverPermits, ProveQuestion::NeverErrs],
        chosen => chosen,
    };
    let compares = |q: &ProveQuestion| matches!(q, ProveQuestion::NothingNew | ProveQuestion::Equivalent);
    let old = match &args.old {
        _ if !questions.iter().any(compares) => None,
        Some(folder) => Some(bundle_in(folder)?),
        None => Some(in_force(global)?),
    };
    let program = worker::this_program().map_err(|e| Failure::new(ExitCode::Failed, e.to_string()))?;
    let limits = Limits { wall_ms: limit.saturating_mul(1_000), ..Limits::default() };
    let solver = find_solver(args.solver.as_deref());
    let prover = Prover::new(program, vec![WORKER.to_owned()], solver).with_limits(limits);
    let clock = SystemClock::new();
    let mut answers = Vec::new();
    for question in questions {
        let invariants = match question {
            ProveQuestion::NeverPermits => invariants(&args.new, &vocabulary)?,
            _ => PolicySet::new(),
        };
        if *question == ProveQuestion::NeverPermits && invariants.is_empty() {
            if args.questions.is_empty() {
                continue;
            }
            return Err(Failure::new(ExitCode::Invalid, "the bundle's folder has no `invariants/*.cedar`"));
        }
        let asked = question_of(*question, old.as_ref(), &new, invariants).map_err(|e| invalid(&e))?;
        let answer = prover.ask(&vocabulary, &asked, &clock).map_err(|e| invalid(&e))?;
        answers.push(Told { cases: cases(&answer, old.as_ref(), &new, &clock), answer });
    }
    let overall = answers.iter().map(|told| told.answer.overall()).max().unwrap_or(Overall::Proven);
    let values: Vec<Value> = answers.iter().map(Told::value).collect();
    let value = json!({"overall": overall, "answers": values});
    Output::new(global.output, io::stdout())
        .value(&value, |_| answers.iter().map(Told::text).collect::<Vec<_>>().join("\n"))?;
    Ok(match overall {
        Overall::Proven => ExitCode::Ok,
        Overall::Refuted => ExitCode::Denied,
        Overall::NotProven | Overall::Unavailable => ExitCode::Failed,
    })
}

/// An answer with its counterexamples as policy tests, by what they are about; or why one is none.
struct Told {
    answer: Answer,
    cases: BTreeMap<String, Result<String, String>>,
}

impl Told {
    fn value(&self) -> Value {
        let mut value = serde_json::to_value(&self.answer).unwrap_or(Value::Null);
        for finding in value.pointer_mut("/findings").and_then(Value::as_array_mut).into_iter().flatten() {
            let about = finding.get("about").and_then(Value::as_str).unwrap_or_default();
            let case = self.cases.get(about).and_then(|case| case.as_ref().ok()).cloned();
            if let (Some(case), Some(members)) = (case, finding.as_object_mut()) {
                members.insert("policy_test".to_owned(), json!(case));
            }
        }
        value
    }

    fn text(&self) -> String {
        let mut out = self.answer.to_string();
        for (about, case) in &self.cases {
            let of = if about.is_empty() { String::new() } else { format!(" of `{about}`") };
            // Writing to a string does not fail.
            let _ = match case {
                Ok(text) => write!(
                    out,
                    "\nThe counterexample{of} as a policy test, `tests/counterexample.toml`:\n\n{text}"
                ),
                Err(why) => writeln!(out, "\nThe counterexample{of} cannot be told as a policy test: {why}"),
            };
        }
        out
    }
}

fn cases(
    answer: &Answer,
    old: Option<&Bundle>,
    new: &Bundle,
    clock: &SystemClock,
) -> BTreeMap<String, Result<String, String>> {
    let mut out = BTreeMap::new();
    for finding in &answer.findings {
        let Outcome::Refuted { counterexample } = &finding.outcome else { continue };
        // A test says what must not be permitted; an error is none of that, nor is something that is permitted no more.
        if !counterexample.after.permitted {
            continue;
        }
        let name = match finding.about.as_str() {
            "" => "a counterexample of the prover".to_owned(),
            id => format!("a counterexample of the prover to {id}"),
        };
        let old = old.filter(|_| counterexample.before.is_some());
        let case = case(counterexample, &name, old, new, clock.now()).map(|case| case.text);
        out.insert(finding.about.clone(), case);
    }
    out
}

fn question_of(
    question: ProveQuestion,
    old: Option<&Bundle>,
    new: &Bundle,
    invariants: PolicySet,
) -> Result<Question, Invalid> {
    let standing = |bundle: &Bundle| rules(bundle, true);
    let old = || old.map_or_else(|| Ok(PolicySet::new()), standing);
    Ok(match question {
        ProveQuestion::NothingNew => Question::NothingNew { old: old()?, new: standing(new)? },
        ProveQuestion::Equivalent => Question::Equivalent { old: old()?, new: standing(new)? },
        ProveQuestion::NeverPermits => Question::NeverPermits { rules: standing(new)?, invariants },
        ProveQuestion::NeverErrs => Question::NeverErrs { rules: rules(new, false)? },
    })
}

fn bundle_in(folder: &Path) -> Result<Bundle, Failure> {
    let bundle = read_bundle(folder).map_err(|e| Failure::usage(format!("{}: {e}", folder.display())))?;
    match CompiledBundle::compile(&bundle) {
        Ok(_) => Ok(bundle),
        Err(errors) => Err(Failure::new(ExitCode::Invalid, format!("{}: {errors}", folder.display()))),
    }
}

fn in_force(global: &Global) -> Result<Bundle, Failure> {
    let value = client(global)?.call("GET", "/api/v1/policy", None)?;
    let files = value.get("files").cloned().and_then(|files| serde_json::from_value(files).ok());
    let files = files.ok_or_else(|| Failure::new(ExitCode::Failed, "the control API sent no bundle"))?;
    Ok(Bundle { files })
}

fn invariants(folder: &Path, vocabulary: &Vocabulary) -> Result<PolicySet, Failure> {
    let files = read_invariants(folder).map_err(|e| Failure::usage(format!("{}: {e}", folder.display())))?;
    vocabulary
        .invariants(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
        .map_err(|e| invalid(&e))
}

pub(crate) fn vocabulary(bundle: &Bundle) -> Result<Vocabulary, Invalid> {
    let linked = bundle.files.iter().filter(|(file, _)| file.ends_with(".cedarschema"));
    let texts = linked.map(|(file, text)| (file.as_str(), text.as_str()));
    let fragments = std::iter::once(("schema", SCHEMA)).chain(texts).map(|(file, text)| {
        let read = SchemaFragment::from_cedarschema_str(text);
        read.map(|(fragment, _)| fragment).map_err(|e| Invalid::Syntax(file.to_owned(), e.to_string()))
    });
    Vocabulary::new(&fragments.collect::<Result<Vec<_>, _>>()?)
}

/// The rules of a bundle, with those of the constitution where they play a part: they stand in every set.
pub(crate) fn rules(bundle: &Bundle, with_constitution: bool) -> Result<PolicySet, Invalid> {
    let files = bundle.files.iter().filter(|(file, _)| file.ends_with(".cedar"));
    let texts = files.map(|(file, text)| (file.as_str(), text.as_str()));
    let constitution = with_constitution.then_some(("constitution", CONSTITUTION));
    let mut out = PolicySet::new();
    for (file, text) in texts.chain(constitution) {
        let wrong = |e: &dyn std::fmt::Display| Invalid::Syntax(file.to_owned(), e.to_string());
        let set: PolicySet = text.parse().map_err(|e: cedar_policy::ParseErrors| wrong(&e))?;
        for policy in set.policies() {
            out.add(named(policy)).map_err(|e| wrong(&e))?;
        }
    }
    Ok(out)
}

fn named(policy: &Policy) -> Policy {
    match policy.annotation("id") {
        Some(id) => policy.new_id(PolicyId::new(id)),
        None => policy.clone(),
    }
}

fn invalid(error: &Invalid) -> Failure {
    Failure::new(ExitCode::Invalid, error.to_string())
}
