//! Connections and certificates, as use cases, as an enemy would try them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "work/certificates.rs"]
mod certificates;
#[path = "work/connections.rs"]
mod connections;
#[path = "work/provider.rs"]
mod provider;
#[path = "work/world.rs"]
mod world;
