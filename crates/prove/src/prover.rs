//! Asking: what is valid is handed to a worker, and what comes back is checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bartizan_base::Clock;
use cedar_policy::PolicySet;

use crate::answer::{ASSUMPTIONS, Answer, Counterexample, Finding, Outcome, Solver, Why};
use crate::child::{Ran, run};
use crate::meaning::{Claim, World, told};
use crate::question::{Invalid, Question, Vocabulary};
use crate::wire::{Asked, Found, Message, Task};
use crate::{diff, shrink, words};

/// What a question may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Milliseconds for everything; then the worker and its solver are killed.
    pub wall_ms: u64,
    /// Milliseconds for one query.
    pub query_ms: u64,
    /// Bytes of address space for the worker and for the solver each; the worker's stack is part of it.
    pub memory_bytes: u64,
    /// Bytes of the worker's stack.
    pub stack_bytes: usize,
    /// How many rules one query may hold.
    pub slice_rules_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_ms: 120_000,
            query_ms: 30_000,
            memory_bytes: 6 << 30,
            stack_bytes: 1 << 30,
            slice_rules_max: 2_000,
        }
    }
}

/// What a change permits that was not permitted before: examples, rule by rule.
#[derive(Clone, Debug, Default)]
pub struct NewPermits {
    /// Rules whose change permits something new by itself, each with an ask that the whole new set permits and the old one did not.
    pub found: Vec<(String, Counterexample)>,
    /// Rules of which that is not known: time was up, or the solver did not know.
    pub unknown: Vec<String>,
}

/// Asks questions, each in a child process of its own.
#[derive(Clone, Debug)]
pub struct Prover {
    program: PathBuf,
    arguments: Vec<String>,
    solver: Result<PathBuf, String>,
    limits: Limits,
}

/// Where packages put cvc5.
const PLACES: [&str; 2] = ["/usr/bin/cvc5", "/usr/local/bin/cvc5"];

/// The solver's program: the one that is named, else the one that a package of the system brings.
///
/// # Errors
/// When there is none: proofs are unavailable then.
pub fn find_solver(named: Option<&Path>) -> Result<PathBuf, String> {
    match named {
        Some(path) if path.is_file() => {
            std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))
        }
        Some(path) => Err(format!("there is no solver at {}", path.display())),
        None => PLACES.iter().map(PathBuf::from).find(|path| path.is_file()).ok_or_else(|| {
            "the solver cvc5 is not installed; packages of the system have it as `cvc5`".to_owned()
        }),
    }
}

impl Prover {
    /// A prover whose worker is `program` with `arguments`, which must come to [`worker::main`](crate::worker::main).
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<String>, solver: Result<PathBuf, String>) -> Self {
        Self { program, arguments, solver, limits: Limits::default() }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Asks. Whatever goes wrong on the way is in the answer.
    ///
    /// # Errors
    /// When what is asked about does not pass strict validation.
    pub fn ask(
        &self,
        vocabulary: &Vocabulary,
        question: &Question,
        clock: &dyn Clock,
    ) -> Result<Answer, Invalid> {
        vocabulary.check(question.asked())?;
        if let Question::NeverPermits { invariants, .. } = question {
            vocabulary.check(invariants)?;
        }
        let began = clock.monotonic_us();
        let (findings, solver) = self.findings(vocabulary, question);
        let took_us = clock.monotonic_us().saturating_sub(began);
        let remarks = remarks(question);
        Ok(Answer { question: question.name(), findings, solver, remarks, assumptions: ASSUMPTIONS, took_us })
    }

    /// Looks for examples of what `new` permits and `old` did not, one for each rule that brings any by itself, for as long as
    /// the limit on time lasts. What several changes permit only together is not found so; [`Question::NothingNew`] finds it.
    pub fn new_permits(
        &self,
        vocabulary: &Vocabulary,
        old: &PolicySet,
        new: &PolicySet,
        clock: &dyn Clock,
    ) -> NewPermits {
        let began = clock.monotonic_us();
        let mut out = NewPermits::default();
        for (rule, alone) in diff::alone(old, new) {
            let left = self.limits.wall_ms.saturating_sub(clock.monotonic_us().saturating_sub(began) / 1_000);
            let question = Question::NothingNew { old: old.clone(), new: alone };
            let limits = Limits { wall_ms: left, ..self.limits };
            let asked =
                (left > 0).then(|| self.clone().with_limits(limits).ask(vocabulary, &question, clock));
            let outcome = asked.and_then(Result::ok).and_then(|answer| answer.findings.into_iter().next());
            match outcome.map(|finding| finding.outcome) {
                Some(Outcome::Proven) => {}
                // Another rule of the whole set may forbid it, or err.
                Some(Outcome::Refuted { counterexample }) if counterexample.stands(vocabulary, new) => {
                    out.found.push((rule, *counterexample));
                }
                _ => out.unknown.push(rule),
            }
        }
        out
    }

    fn findings(&self, vocabulary: &Vocabulary, question: &Question) -> (Vec<Finding>, Option<Solver>) {
        let subjects = question.subjects();
        let all = |outcome: &Outcome| {
            let finding = |about: &String| Finding {
                about: about.clone(),
                outcome: outcome.clone(),
                environments: Vec::new(),
                queries: 0,
            };
            subjects.iter().map(finding).collect()
        };
        let unavailable = |detail: String| (all(&Outcome::Unavailable { detail }), None);
        let solver = match &self.solver {
            Ok(path) => path.clone(),
            Err(detail) => return unavailable(detail.clone()),
        };
        // What stands in both was checked with the set asked about.
        let older = question.compared().map(|old| diff::unlike(old, question.asked()));
        if let Some(Err(error)) = older.map(|old| vocabulary.check(&old)) {
            let detail = format!("the set compared with does not fit the vocabulary of now: {error}");
            return (all(&not_proven(Why::Unsupported, detail)), None);
        }
        let Some(asked) = Asked::of(question) else {
            let detail = "a rule cannot be written as JSON".to_owned();
            return (all(&not_proven(Why::Unsupported, detail)), None);
        };
        let limits = self.limits;
        let task = Task {
            fragments: vocabulary.fragments.clone(),
            asked,
            solver: solver.clone(),
            query_ms: limits.query_ms,
            memory_bytes: limits.memory_bytes,
            stack_bytes: limits.stack_bytes,
            slice_rules_max: limits.slice_rules_max,
        };
        let ran = match run(&self.program, &self.arguments, &task, Duration::from_millis(limits.wall_ms)) {
            Ok(ran) => ran,
            Err(detail) => return unavailable(detail),
        };
        match Heard::of(ran) {
            Heard::Unusable(detail) => unavailable(detail),
            Heard::Findings { version, mut by_subject, cut } => {
                let finding = |about: String| {
                    let (found, environments, queries) = by_subject.remove(&about).unwrap_or_else(|| {
                        let (why, detail) = cut.clone();
                        (Found::NotProven(why, detail), Vec::new(), 0)
                    });
                    let outcome = judge(vocabulary, question, &about, found);
                    Finding { about, outcome, environments, queries }
                };
                let findings = subjects.into_iter().map(finding).collect();
                (findings, Some(Solver { path: solver, version }))
            }
        }
    }
}

type BySubject = BTreeMap<String, (Found, Vec<[String; 3]>, u64)>;

/// What a worker's messages come to.
enum Heard {
    Unusable(String),
    Findings { version: String, by_subject: BySubject, cut: (Why, String) },
}

impl Heard {
    fn of(ran: Ran) -> Self {
        let missing = (Why::Unknown, "the prover's process did not speak of it".to_owned());
        let cut = ran.cut.unwrap_or(missing);
        let mut messages = ran.messages.into_iter();
        let version = match messages.next() {
            Some(Message::Ready { version }) => version,
            Some(Message::Unusable { detail }) => return Self::Unusable(detail),
            _ => return Self::Unusable(format!("the solver could not be tried: {}", cut.1)),
        };
        let mut by_subject = BySubject::new();
        for message in messages {
            if let Message::Found { about, found, environments, queries } = message {
                by_subject.entry(about).or_insert((found, environments, queries));
            }
        }
        Self::Findings { version, by_subject, cut }
    }
}

fn not_proven(why: Why, detail: String) -> Outcome {
    Outcome::NotProven { why, detail }
}

/// Believes a counterexample only after the engine, asked here once more, and a proof of a change only if no remedy weakens.
fn judge(vocabulary: &Vocabulary, question: &Question, about: &str, found: Found) -> Outcome {
    match found {
        Found::NotProven(why, detail) => not_proven(why, detail),
        Found::Refuted(world) => refuted(vocabulary, question, about, *world).unwrap_or_else(|| {
            let detail = "the engine does not confirm the counterexample that the solver gave".to_owned();
            not_proven(Why::Unknown, detail)
        }),
        Found::Proven => {
            let changed = match question {
                Question::NothingNew { old, new } => diff::remedies_changed(old, new),
                Question::Equivalent { old, new } => {
                    let mut both = diff::remedies_changed(old, new);
                    both.extend(diff::remedies_changed(new, old));
                    both.sort_unstable();
                    both.dedup();
                    both
                }
                Question::NeverPermits { .. } | Question::NeverErrs { .. } => Vec::new(),
            };
            match changed.is_empty() {
                true => Outcome::Proven,
                false => not_proven(
                    Why::Remedies,
                    format!("the conditions permit nothing new, but remedies changed: {}", list(&changed)),
                ),
            }
        }
    }
}

fn refuted(vocabulary: &Vocabulary, question: &Question, about: &str, world: World) -> Option<Outcome> {
    let claim = Claim::of(question, about)?;
    if !world.concrete(&vocabulary.schema).is_some_and(|ask| claim.refuted_by(&ask)) {
        return None;
    }
    let world = shrink::natural(world, &vocabulary.schema, &claim, question);
    let ask = world.concrete(&vocabulary.schema)?;
    let after = told(question.asked(), &ask);
    let before = question.compared().map(|old| told(old, &ask));
    let words = words::of(question, about, &world, before.as_ref(), &after);
    let World { principal, action, resource, context, entities } = world;
    let counterexample =
        Counterexample { principal, action, resource, context, entities, before, after, words };
    Some(Outcome::Refuted { counterexample: Box::new(counterexample) })
}

impl Counterexample {
    /// Whether `rules` permit the ask.
    fn stands(&self, vocabulary: &Vocabulary, rules: &PolicySet) -> bool {
        let Self { principal, action, resource, context, entities, .. } = self.clone();
        let world = World { principal, action, resource, context, entities };
        world.concrete(&vocabulary.schema).is_some_and(|ask| told(rules, &ask).permitted)
    }
}

fn remarks(question: &Question) -> Vec<String> {
    let Question::NothingNew { old, new } = question else { return Vec::new() };
    let added = diff::remedies_added(old, new);
    match added.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "{} bring remedies; what several remedies lift together is decided by the engine and not part of the proof",
            list(&added)
        )],
    }
}

pub(crate) fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
