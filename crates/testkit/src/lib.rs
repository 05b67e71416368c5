//! Worlds for tests.

#[expect(clippy::panic, reason = "a test without its server has failed")]
pub mod postgres;
