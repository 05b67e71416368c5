//! The index, checked in production: a sample of evaluations is done again with every rule, off the path of the request. If one
//! differs, the index of that bundle is not used again.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Digest, Name};
use bartizan_model::DecisionId;
use cedar_policy::Context;

use crate::bundle::CompiledBundle;
use crate::entities::{Entities, View};
use crate::evaluate::{Evaluation, Triple};
use crate::reference::Ask;

/// One decision in so many is checked, if nothing else is said.
const ONE_IN: u32 = 1_000;
/// How many samples may wait. Each holds its state of the entities, so they are not many.
const WAITING_MAX: usize = 256;

/// Samples of evaluations that wait to be compared with the reference, and how the comparisons went.
#[derive(Debug)]
pub struct Shadow {
    one_in: u32,
    waiting: Mutex<VecDeque<Sample>>,
    checked: AtomicU64,
    dropped: AtomicU64,
    mismatches: AtomicU64,
}

/// An evaluation with everything that it was made of.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) bundle: Arc<CompiledBundle>,
    pub(crate) entities: Arc<Entities>,
    pub(crate) triple: Triple,
    /// Whole, whatever the rules looked at.
    pub(crate) context: Context,
    pub(crate) evaluation: Evaluation,
}

/// An evaluation by the index that the whole set does not give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Under which bundle; its index is not used any more.
    pub bundle: Digest,
    /// The entities in reach.
    pub slice: Digest,
    /// The conditions.
    pub context: Digest,
    /// The rules that one way found and the other did not.
    pub rules: Vec<Name>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<&str> = self.rules.iter().map(Name::as_str).collect();
        write!(f, "bundle {}: index and whole set differ in [{}]", self.bundle, rules.join(", "))
    }
}

impl Default for Shadow {
    fn default() -> Self {
        Self::one_in(ONE_IN)
    }
}

impl Shadow {
    /// Checks one decision in `one_in`; none for 0.
    #[must_use]
    pub fn one_in(one_in: u32) -> Self {
        let zero = || AtomicU64::new(0);
        Self { one_in, waiting: Mutex::default(), checked: zero(), dropped: zero(), mismatches: zero() }
    }

    /// Whether this decision is among the sampled. It follows from its id alone, so a record tells whether it was.
    #[must_use]
    pub fn takes(&self, id: DecisionId) -> bool {
        // The end of an id is random, its beginning the time.
        let [.., a, b, c, d] = *id.as_bytes();
        let number = u32::from_be_bytes([a, b, c, d]);
        number.checked_rem(self.one_in) == Some(0)
    }

    /// Takes a sample, or counts it as dropped.
    pub(crate) fn put(&self, sample: Sample) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX {
            waiting.push_back(sample);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Does what waits again by every rule. Takes milliseconds each with a large bundle: not to be called on a request's path.
    pub fn check(&self) -> Vec<Mismatch> {
        let mut found = Vec::new();
        while let Some(sample) = self.next() {
            self.checked.fetch_add(1, Ordering::Relaxed);
            if let Some(mismatch) = sample.check() {
                sample.bundle.kept.doubted.store(true, Ordering::Relaxed);
                self.mismatches.fetch_add(1, Ordering::Relaxed);
                found.push(mismatch);
            }
        }
        found
    }

    fn next(&self) -> Option<Sample> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// How many evaluations were done again.
    #[must_use]
    pub fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }

    /// How many samples were dropped because too many waited.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many evaluations differed from the reference: an alarm above 0.
    #[must_use]
    pub fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }
}

impl Sample {
    fn check(&self) -> Option<Mismatch> {
        let view = View::of(&self.entities);
        let nothing = Evaluation::nothing_yet(self.evaluation.slice, self.evaluation.context);
        let (principal, resource) =
            (view.declared(&self.triple.principal), view.declared(&self.triple.resource));
        let again = principal.zip(resource).and_then(|((_, principal), (_, resource))| {
            let roots = [principal, resource];
            Ask { bundle: &self.bundle, view: &view, triple: &self.triple, roots }.all(
                None,
                &self.context,
                nothing,
            )
        });
        let Some(again) = again else { return Some(self.mismatch(&self.evaluation)) };
        let told = |e: &Evaluation| {
            (e.permitted, e.permits.clone(), e.forbids.clone(), e.constitution.clone(), e.erred.clone())
        };
        (told(&again) != told(&self.evaluation)).then(|| self.mismatch(&again))
    }

    fn mismatch(&self, again: &Evaluation) -> Mismatch {
        let places = |e: &Evaluation| {
            let rules = e.permits.iter().chain(&e.forbids).filter_map(|at| self.bundle.rules.get(*at));
            let named = e.constitution.iter().chain(&e.erred).cloned();
            rules.map(|rule| rule.id.clone()).chain(named).collect::<Vec<_>>()
        };
        let (one, other) = (places(&self.evaluation), places(again));
        let only =
            |a: &[Name], b: &[Name]| a.iter().filter(|name| !b.contains(name)).cloned().collect::<Vec<_>>();
        let rules = [only(&one, &other), only(&other, &one)].concat();
        let (slice, context) = (self.evaluation.slice, self.evaluation.context);
        Mismatch { bundle: self.bundle.digest(), slice, context, rules }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::Timestamp;
    use bartizan_base::random::SeededRandom;

    #[test]
    fn one_decision_in_a_thousand_is_taken_and_always_the_same_ones() {
        let random = SeededRandom::new(7);
        let ids: Vec<DecisionId> =
            (0..100_000).map(|n| DecisionId::new(Timestamp::from_secs(1_800_000_000 + n), &random)).collect();
        let taken = |shadow: &Shadow| ids.iter().filter(|id| shadow.takes(**id)).count();
        let (one, other) = (taken(&Shadow::default()), taken(&Shadow::default()));
        assert!(one == other && (50..200).contains(&one), "{one} {other}");
        assert_eq!((taken(&Shadow::one_in(0)), taken(&Shadow::one_in(1))), (0, ids.len()));
    }
}
