//! Filters of policies, held against full evaluation.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what the tests share may fail and speak like a test"
)]

mod common;
mod edges;
mod fragment;
mod relational;
mod vectors;
