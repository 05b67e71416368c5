//! The way out to databases. A statement is run only against an `IntentRecorded` for exactly it: its text, its values and the
//! identity it is run under.
//!
//! PostgreSQL: one read-only transaction a statement, with the caller's identity set for that transaction alone, on a
//! connection whose role was found unable to pass by row security. SQLite: a file opened for reading, with the
//! engine's own authorizer beside ours.

mod databases;
mod pool;
mod postgres;
mod run;
mod sqlite;
#[cfg(test)]
mod tests;
mod tls;
mod unfit;

pub use databases::{Databases, Settings};
pub use run::{Answered, Failed, Identity, Rows, Run};
