//! Tokens at the doors, as an enemy would show them.
#![expect(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod chains;
mod epochs;
mod jose;
mod sender;
mod step_up;
mod world;
