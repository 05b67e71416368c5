//! The binary as a library: configuration, wiring, roles, signals.

mod archived;
mod authoring;
mod authority;
mod authority_commands;
mod certificate_commands;
mod children;
mod code;
mod commands;
pub mod config;
mod connection_commands;
mod connection_try;
mod deliveries;
mod demo;
mod directory_commands;
mod ground;
mod house;
mod init;
mod lock_commands;
mod log;
mod node;
mod offline;
mod operations;
mod personal;
#[cfg(feature = "proofs")]
mod plan_proofs;
mod policy_commands;
mod policy_life;
#[cfg(feature = "proofs")]
mod proofs;
mod recover;
mod replay_commands;
mod resource_commands;
mod retention;
mod sign_in_commands;
mod signals;
mod telemetry;
mod tending;
mod tool_commands;
mod watermark;
mod witness_role;
mod witnesses;

pub use commands::run;
pub use ground::NodeError;
pub use init::{Founded, InitError, found};
pub use node::{Machine, Node};
pub use operations::metrics_reference;
pub use witness_role::WitnessNode;
