//! Proofs about policy: an SMT solver (cvc5) answers for every possible ask at once what tests answer for a few.
//!
//! A [`Question`] is asked of a [`Prover`], which runs the symbolic compiler and the solver in a child process with limits
//! ([`worker`]) and believes no counterexample that the real engine does not confirm. Whatever goes wrong on the way is
//! [`Outcome::NotProven`] or [`Outcome::Unavailable`], never [`Outcome::Proven`]. What a proof covers and what not is in
//! `docs/policy-proofs.md`.

mod answer;
mod case;
mod child;
mod diff;
mod meaning;
mod prover;
mod question;
mod search;
mod session;
mod shrink;
mod wire;
mod words;
pub mod worker;

pub use answer::{ASSUMPTIONS, Answer, Counterexample, Finding, Outcome, Overall, Solver, Told, Why};
pub use case::{Case, case};
pub use prover::{Limits, NewPermits, Prover, find_solver};
pub use question::{Invalid, Question, Vocabulary};
