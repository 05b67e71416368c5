//! Proofs that were seen: each is taken once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_jose::Replay;
use bartizan_model::ReasonCode;

/// Proofs remembered at most, in each of two spans.
const PROOFS_MAX: usize = 500_000;

/// What was seen in this span and in the one before. A proof is remembered for at least a span, which must be as long as a
/// proof is ever taken.
#[derive(Debug)]
pub(crate) struct Replays {
    span: Duration,
    most: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    began: Timestamp,
    now: HashSet<Digest>,
    before: HashSet<Digest>,
}

impl Replays {
    pub(crate) fn new(span: Duration) -> Self {
        Self { span, most: PROOFS_MAX, seen: Mutex::default() }
    }

    /// Takes a proof.
    ///
    /// # Errors
    /// `ProofRefused` for one that was taken before, `Busy` when more are to be remembered than there is room for: forgetting
    /// one would let it in again.
    pub(crate) fn take(&self, proof: Replay, now: Timestamp) -> Result<(), ReasonCode> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_since(seen.began);
        if age >= self.span {
            seen.before = std::mem::take(&mut seen.now);
            if age >= self.span.saturating_mul(2) {
                seen.before.clear();
            }
            seen.began = now;
        }
        if seen.before.contains(&proof.id) || seen.now.contains(&proof.id) {
            return Err(ReasonCode::ProofRefused);
        }
        if seen.now.len() >= self.most {
            return Err(ReasonCode::Busy);
        }
        seen.now.insert(proof.id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(100);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    fn proof(n: u32) -> Replay {
        Replay { id: Digest::of(&n.to_be_bytes()), until: at(1_000) }
    }

    #[test]
    fn attack_31_a_proof_is_taken_once_for_as_long_as_it_could_hold() {
        for first in 0..220 {
            let replays = Replays::new(SPAN);
            // Something else begins the spans at another moment.
            replays.take(proof(0), at(0)).unwrap();
            replays.take(proof(1), at(first)).unwrap();
            for later in first..first + 100 {
                assert_eq!(
                    replays.take(proof(1), at(later)),
                    Err(ReasonCode::ProofRefused),
                    "{first} {later}"
                );
            }
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_full_memory_lets_nobody_in() {
        let replays = Replays { most: 3, ..Replays::new(SPAN) };
        for n in 0..3 {
            replays.take(proof(n), at(0)).unwrap();
        }
        assert_eq!(replays.take(proof(3), at(99)), Err(ReasonCode::Busy));
        assert_eq!(replays.take(proof(0), at(99)), Err(ReasonCode::ProofRefused));
        // The next span has room, and still knows the last one.
        replays.take(proof(3), at(100)).unwrap();
        assert_eq!(replays.take(proof(0), at(100)), Err(ReasonCode::ProofRefused));
        replays.take(proof(0), at(200)).unwrap();
    }

    #[test]
    fn a_clock_that_goes_back_forgets_nothing() {
        let replays = Replays::new(SPAN);
        replays.take(proof(1), at(500)).unwrap();
        assert_eq!(replays.take(proof(1), at(0)), Err(ReasonCode::ProofRefused));
    }
}
