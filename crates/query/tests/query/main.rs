//! The language: what parses to what, what it means, and what is refused.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what the tests share may fail like a test")]

mod meaning;
mod reading;
mod refused;
