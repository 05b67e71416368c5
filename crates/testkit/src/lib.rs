//! Worlds for tests.

#[cfg(feature = "house")]
pub mod house;
#[expect(clippy::panic, reason = "a test without its server has failed")]
pub mod postgres;
