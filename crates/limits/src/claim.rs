//! Reserving under several limits at once: all of them or none.

use std::collections::BTreeMap;

use bartizan_base::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::counter::{Counter, Span};

/// Counts by their keys.
pub type Counters = BTreeMap<String, Counter>;

/// What one limit is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which limit, as people know it.
    pub limit: Name,
    /// Its most.
    pub most: u64,
    /// Whether it refuses.
    pub hard: bool,
    /// How its window is cut at this moment.
    pub span: Span,
    /// What of it.
    pub of: Of,
}

/// What is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// So much of a count.
    Amount {
        /// The count.
        key: String,
        /// How much.
        amount: u64,
    },
    /// One place among those that go on at once.
    Place {
        /// The count.
        key: String,
    },
    /// One, if the thing that `first` counts is new.
    New {
        /// The count.
        key: String,
        /// What notes when it began.
        first: String,
    },
    /// Seconds since it began.
    Age {
        /// What notes when it began.
        first: String,
    },
    /// So much, which nothing is counted for.
    Now(u64),
}

/// How a limit stands after an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is used, this ask included where it was let in.
    pub used: u64,
    /// What is left.
    pub left: u64,
    /// In how many microseconds more is left; none where that cannot be told.
    pub reset_us: Option<u64>,
    /// Whether this ask did not fit.
    pub over: bool,
}

/// What was reserved, to be settled when it is over. Serialisable, so that it can be handed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reserved {
    /// So much in a stretch of a count.
    Amount {
        /// The count.
        key: String,
        /// The stretch.
        slot: u64,
        /// How much.
        amount: u64,
    },
    /// A place.
    Place {
        /// The count.
        key: String,
    },
    /// Nothing that could be given back.
    Nothing,
}

/// What came of claims: one standing for each, and what is reserved for each if all hard ones fitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How each limit stands.
    pub standings: Vec<Standing>,
    /// What is reserved; none where a hard limit says no.
    pub reserved: Option<Vec<Reserved>>,
}

/// The counts that claims have to see.
pub fn keys<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> Vec<String> {
    let of = |claim: &'a Claim| match &claim.of {
        Of::Amount { key, .. } | Of::Place { key } => vec![key.clone()],
        Of::New { key, first } => vec![key.clone(), first.clone()],
        Of::Age { first } => vec![first.clone()],
        Of::Now(_) => Vec::new(),
    };
    claims.into_iter().flat_map(of).collect()
}

/// Claims all, or nothing where one hard limit does not fit. `hold` names the places; they count as given back at `until`.
pub fn claim(
    counters: &mut Counters,
    claims: &[Claim],
    hold: &str,
    now: Timestamp,
    until: Timestamp,
) -> Answer {
    // Several claims on one count are no special case: each sees what those before it took.
    let before = counters.clone();
    let (mut standings, mut reserved) = (Vec::new(), Vec::new());
    for one in claims {
        let wanted = wanted(counters, one, now);
        let used = used(counters, one, now);
        let total = used.saturating_add(wanted);
        let over = total > one.most;
        let takes = !over || !one.hard;
        standings.push(Standing {
            used: if takes { total } else { used },
            left: one.most.saturating_sub(if takes { total } else { used }),
            reset_us: reset(counters, one, now, wanted, over),
            over,
        });
        reserved.push(if takes { take(counters, one, hold, now, until, wanted) } else { Reserved::Nothing });
    }
    let refused = claims.iter().zip(&standings).any(|(claim, standing)| claim.hard && standing.over);
    if refused {
        *counters = before;
    }
    Answer { standings, reserved: (!refused).then_some(reserved) }
}

fn wanted(counters: &Counters, claim: &Claim, now: Timestamp) -> u64 {
    match &claim.of {
        Of::Amount { amount, .. } => *amount,
        Of::Place { .. } => 1,
        Of::New { first, .. } => {
            u64::from(!counters.get(first).is_some_and(|c| c.began().is_some() && c.kept() > now))
        }
        Of::Age { .. } | Of::Now(_) => 0,
    }
}

fn used(counters: &Counters, claim: &Claim, now: Timestamp) -> u64 {
    let counter = |key: &String| counters.get(key);
    match &claim.of {
        Of::Amount { key, .. } | Of::New { key, .. } => counter(key).map_or(0, |c| c.used(claim.span, now)),
        Of::Place { key } => counter(key).map_or(0, |c| c.going_on(now)),
        Of::Age { first } => {
            counter(first).and_then(Counter::began).map_or(0, |began| now.saturating_since(began).as_secs())
        }
        Of::Now(amount) => *amount,
    }
}

fn reset(counters: &Counters, claim: &Claim, now: Timestamp, wanted: u64, over: bool) -> Option<u64> {
    match &claim.of {
        Of::Amount { key, .. } | Of::New { key, .. } if over => counters.get(key).map_or_else(
            || Counter::default().fits_in(claim.span, now, wanted, claim.most),
            |c| c.fits_in(claim.span, now, wanted, claim.most),
        ),
        Of::Amount { .. } | Of::New { .. } => match claim.span {
            Span::Fixed { end, .. } => Some(end.as_micros().saturating_sub(now.as_micros())),
            Span::Sliding { window_us } => Some(window_us),
            Span::Whole => None,
        },
        // Nobody knows when a place is free: soon, as a rule.
        Of::Place { .. } => Some(1_000_000),
        Of::Age { .. } | Of::Now(_) => None,
    }
}

fn take(
    counters: &mut Counters,
    claim: &Claim,
    hold: &str,
    now: Timestamp,
    until: Timestamp,
    wanted: u64,
) -> Reserved {
    match &claim.of {
        Of::Amount { key, .. } => {
            let slot = counters.entry(key.clone()).or_default().add(claim.span, now, wanted);
            Reserved::Amount { key: key.clone(), slot, amount: wanted }
        }
        Of::Place { key } => {
            counters.entry(key.clone()).or_default().hold(hold, now, until);
            Reserved::Place { key: key.clone() }
        }
        Of::New { key, first } => {
            counters.entry(first.clone()).or_default().begin(now);
            let slot = counters.entry(key.clone()).or_default().add(claim.span, now, wanted);
            Reserved::Amount { key: key.clone(), slot, amount: wanted }
        }
        Of::Age { first } => {
            counters.entry(first.clone()).or_default().begin(now);
            Reserved::Nothing
        }
        Of::Now(_) => Reserved::Nothing,
    }
}

/// Settles what was reserved: `used` says what became of each amount, the estimate where nobody knows; places are free again.
pub fn settle(counters: &mut Counters, reserved: &[(Reserved, u64)], hold: &str) {
    for (one, used) in reserved {
        match one {
            Reserved::Amount { key, slot, amount } => {
                if let Some(counter) = counters.get_mut(key) {
                    counter.settle(*slot, *amount, *used);
                }
            }
            Reserved::Place { key } => {
                if let Some(counter) = counters.get_mut(key) {
                    counter.release(hold);
                }
            }
            Reserved::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Span = Span::Fixed { start: Timestamp::from_secs(0), end: Timestamp::from_secs(60) };

    fn amount(key: &str, amount: u64, most: u64) -> Claim {
        let of = Of::Amount { key: key.to_owned(), amount };
        Claim { limit: Name::literal("l"), most, hard: true, span: MINUTE, of }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn what_one_limit_refuses_takes_nothing_of_the_others() {
        let mut counters = Counters::new();
        let both = [amount("wide", 1, 100), amount("narrow", 6, 10)];
        assert!(claim(&mut counters, &both, "a", at(1), at(99)).reserved.is_some());
        let kept = counters.clone();
        let second = claim(&mut counters, &both, "b", at(1), at(99));
        assert_eq!((second.reserved, &counters), (None, &kept));
        assert_eq!(second.standings.iter().map(|s| s.over).collect::<Vec<_>>(), [false, true]);
        assert_eq!(second.standings[1].reset_us, Some(59_000_000));
        assert_eq!((second.standings[1].used, second.standings[1].left), (6, 4));
    }

    #[test]
    fn a_soft_limit_counts_and_tells_and_refuses_nobody() {
        let soft = Claim { hard: false, ..amount("k", 7, 10) };
        let mut counters = Counters::new();
        for (over, used) in [(false, 7), (true, 14)] {
            let answer = claim(&mut counters, std::slice::from_ref(&soft), "a", at(1), at(99));
            assert_eq!((answer.standings[0].over, answer.standings[0].used), (over, used));
            assert!(answer.reserved.is_some());
        }
    }

    #[test]
    fn a_run_is_new_once_and_as_old_as_its_first_ask() {
        let new = |run: &str| {
            let of = Of::New { key: "runs".to_owned(), first: run.to_owned() };
            Claim { limit: Name::literal("l"), most: 2, hard: true, span: MINUTE, of }
        };
        let age = Claim { of: Of::Age { first: "one".to_owned() }, most: 10, ..new("one") };
        let mut counters = Counters::new();
        let mut ask =
            |claims: &[Claim], now| claim(&mut counters, claims, "h", at(now), at(99)).reserved.is_some();
        assert!(ask(&[new("one"), age.clone()], 1) && ask(&[new("one")], 2) && ask(&[new("two")], 3));
        assert!(!ask(&[new("three")], 4), "two were begun in this minute");
        assert!(ask(&[new("one")], 5), "one that goes on is not new");
        assert!(ask(std::slice::from_ref(&age), 11) && !ask(&[age], 12));
    }

    /// What callers do, in any order.
    #[derive(Clone, Debug)]
    enum Step {
        Ask(u64),
        Settle(usize, u64),
        Crash(usize),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1_u64..40).prop_map(Step::Ask),
            3 => (any::<usize>(), 0_u64..40).prop_map(|(which, used)| Step::Settle(which, used)),
            1 => any::<usize>().prop_map(Step::Crash),
            1 => (1_u64..4).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// litellm#34732: two who looked at the count at the same time were both let in. Here looking and taking is one step, so
        /// that whatever is asked, settled, lost and waited for in between: what was used and what may still be used never comes
        /// to more than the budget.
        #[test]
        fn lesson_litellm_34732_never_more_than_the_budget_whatever_the_interleaving(
            steps in proptest::collection::vec(step(), 1..120), most in 20_u64..100, places in 1_u64..4,
        ) {
            let (mut counters, mut now, mut open, mut spent) = (Counters::new(), 1, Vec::new(), 0_u64);
            let mut crashed: Vec<(u64, String)> = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Ask(estimate) => {
                        let hold = n.to_string();
                        let place = Claim { of: Of::Place { key: "p".to_owned() }, most: places, ..amount("k", 0, 0) };
                        let claims = [amount("k", estimate, most), place];
                        let answer = claim(&mut counters, &claims, &hold, at(now), at(now + 5));
                        let fits = spent + open.iter().map(|(e, ..): &(u64, _, _)| e).sum::<u64>() + estimate <= most;
                        if let Some(reserved) = answer.reserved {
                            prop_assert!(fits);
                            open.push((estimate, hold, reserved));
                        }
                    }
                    Step::Settle(which, used) if !open.is_empty() => {
                        let (estimate, hold, reserved) = open.swap_remove(which % open.len());
                        // The upstream is held to the cap that was reserved.
                        let used = used.min(estimate);
                        spent += used;
                        let each: Vec<_> = reserved.into_iter().map(|one| (one, used)).collect();
                        settle(&mut counters, &each, &hold);
                    }
                    Step::Crash(which) if !open.is_empty() => {
                        // Whoever crashed may have spent all of it: the estimate stays, the place comes back later.
                        let (estimate, hold, _) = open.swap_remove(which % open.len());
                        spent += estimate;
                        crashed.push((now + 5, hold));
                    }
                    Step::Wait(secs) if now + secs < 55 => now += secs,
                    Step::Settle(..) | Step::Crash(_) | Step::Wait(_) => {}
                }
                let open_sum: u64 = open.iter().map(|(estimate, ..)| estimate).sum();
                prop_assert!(spent + open_sum <= most);
                let used = counters.get("k").map_or(0, |c| c.used(MINUTE, at(now)));
                prop_assert_eq!(used, spent + open_sum, "nothing is lost and nothing forgotten");
            }
        }
    }
}
