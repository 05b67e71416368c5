//! Verified keys and tokens become a [`Caller`]. This crate is the only maker of one.

mod caller;

pub use caller::{Caller, Scopes};
