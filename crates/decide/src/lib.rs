//! One central policy decides every ask. This crate is the only maker of a [`Permit`].

mod verdict;

pub use verdict::{Decision, Permit, PermitParts, Refused, Verdict};
