//! The engine of decisions as its callers see it.

mod asks;
mod catalogue;
mod chains;
mod details;
mod diagnostics;
mod explain;
mod filter;
mod records;
mod remedies;
mod several;
mod sponsor;
mod tools;
mod traces;
mod world;
