//! Between whoever writes SQL and the database that runs it.
//!
//! A statement is parsed (`sqlparser`), and what it says is built again as a [`tree`](tree::Query) of our own that can hold
//! nothing but what is allowed: one query; declared tables and columns; functions that the house has looked at and the route
//! names; values. Every name is resolved on the way, so that what is [read](Statement::reads) is known exactly. The tree is then
//! printed: schema-qualified, with aliases and column names of our own making. No byte of what was submitted reaches the
//! database but through a literal that we quote. What cannot be resolved surely is refused with its place.

mod functions;
mod guard;
mod look;
mod names;
mod operators;
mod print;
mod refusal;
mod resolve;
#[cfg(test)]
mod tests;
pub mod tree;

pub use functions::{is_known_function, known_functions};
pub use guard::{Column, Parameter, ROW, Read, RowsOf, Statement, Values, analyse, check_route};
pub use refusal::{Place, Refusal, Why};
