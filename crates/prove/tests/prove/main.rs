//! The prover with its worker and the real solver, which the system's package `cvc5` brings.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;
mod enemy;
mod large;
mod questions;
mod solvers;
