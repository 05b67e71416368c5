//! The prover behind `policy plan`: the question whether a bundle permits anything that the one in force does not.

use std::path::PathBuf;
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use bartizan_base::Clock as _;
use bartizan_control::{NewPermit, PolicyProof, Proved};
use bartizan_decide::Bundle;
use bartizan_prove::{
    Answer, Counterexample, Invalid, Limits, Outcome, Prover, Question, case, find_solver, worker,
};
use bartizan_rt::SystemClock;

use crate::proofs::{WORKER, rules, vocabulary};

/// Asks the solver that the system has, one question at a time: each takes memory, and processors that decisions need.
#[derive(Debug)]
pub(crate) struct PlanProver {
    program: Option<PathBuf>,
    busy: Mutex<()>,
}

impl PlanProver {
    /// With `program` as the worker; this very program if none is named.
    pub(crate) const fn new(program: Option<PathBuf>) -> Self {
        Self { program, busy: Mutex::new(()) }
    }

    fn prover(&self, limit: Duration) -> Result<Prover, String> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => worker::this_program().map_err(|e| e.to_string())?,
        };
        let wall_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let limits =
            Limits { wall_ms, query_ms: wall_ms.min(Limits::default().query_ms), ..Limits::default() };
        Ok(Prover::new(program, vec![WORKER.to_owned()], find_solver(None)).with_limits(limits))
    }

    fn ask(&self, before: &Bundle, after: &Bundle, limit: Duration) -> Result<PolicyProof, Invalid> {
        let clock = SystemClock::new();
        let began = clock.monotonic_us();
        let took_us = || clock.monotonic_us().saturating_sub(began);
        let prover = match self.prover(limit) {
            Ok(prover) => prover,
            Err(detail) => return Ok(PolicyProof::unavailable(detail)),
        };
        let (vocabulary, old, new) = (vocabulary(after)?, rules(before, true)?, rules(after, true)?);
        let question = Question::NothingNew { old: old.clone(), new: new.clone() };
        let mut proof = told(prover.ask(&vocabulary, &question, &clock)?, before, after);
        if proof.outcome == Proved::Refuted {
            let left = limit.saturating_sub(Duration::from_micros(took_us()));
            let Ok(prover) = self.prover(left) else { return Ok(proof) };
            let found = prover.new_permits(&vocabulary, &old, &new, &clock);
            // One that stands for a rule says more than the same for the change as a whole.
            if !found.found.is_empty() && found.unknown.is_empty() {
                proof.new_permits.clear();
            }
            let permits = found.found.iter().map(|(rule, ask)| permit(Some(rule), ask, before, after));
            proof.new_permits.extend(permits);
            proof.not_looked_at = found.unknown;
        }
        proof.took_us = took_us();
        Ok(proof)
    }
}

impl bartizan_control::Prover for PlanProver {
    fn nothing_new(&self, before: &Bundle, after: &Bundle, limit: Duration) -> PolicyProof {
        let _one = match self.busy.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return PolicyProof::unavailable("another plan is being proven at this moment; plan again");
            }
        };
        self.ask(before, after, limit).unwrap_or_else(|invalid| PolicyProof::not_proven(invalid.to_string()))
    }
}

fn told(answer: Answer, before: &Bundle, after: &Bundle) -> PolicyProof {
    let Answer { findings, solver, remarks, assumptions, .. } = answer;
    let outcome = findings.into_iter().next().map(|finding| finding.outcome);
    let proof = match outcome {
        None => PolicyProof::not_proven("the prover said nothing"),
        Some(Outcome::Unavailable { detail }) => PolicyProof::unavailable(detail),
        Some(Outcome::NotProven { detail, .. }) => PolicyProof::not_proven(detail),
        Some(Outcome::Proven) => {
            PolicyProof { outcome: Proved::Proven, detail: None, ..PolicyProof::not_proven("") }
        }
        Some(Outcome::Refuted { counterexample }) => PolicyProof {
            outcome: Proved::Refuted,
            detail: None,
            new_permits: vec![permit(None, &counterexample, before, after)],
            ..PolicyProof::not_proven("")
        },
    };
    PolicyProof {
        remarks,
        assumptions: assumptions.iter().map(|text| (*text).to_owned()).collect(),
        solver: solver.map(|solver| format!("{} ({})", solver.version, solver.path.display())),
        ..proof
    }
}

fn permit(rule: Option<&str>, ask: &Counterexample, before: &Bundle, after: &Bundle) -> NewPermit {
    let name = match rule {
        None => "a counterexample of the prover".to_owned(),
        Some(rule) => format!("a counterexample of the prover to {rule}"),
    };
    let now = SystemClock::new().now();
    let (test, untold) = match case(ask, &name, Some(before), after, now) {
        Ok(case) => (Some(case.text), None),
        Err(why) => (None, Some(why)),
    };
    NewPermit { rule: rule.map(str::to_owned), words: ask.words.clone(), test, untold }
}
