//! Connections and certificates, as use cases, as an enemy would try them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certificates;
mod connections;
mod provider;
mod world;
