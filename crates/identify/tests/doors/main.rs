//! Tokens at the doors, as an enemy would show them.
#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test fails by panicking")]

mod chains;
mod epochs;
mod jose;
mod sender;
mod world;
