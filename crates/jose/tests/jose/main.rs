//! Tokens as an enemy would try them: examples of the specifications, Wycheproof, the attack catalogue by number, properties.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks_jose;
mod attacks_sender;
mod attacks_tokens;
mod profiles;
mod support;
mod vectors;
