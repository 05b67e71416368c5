//! The binary as a library: configuration, wiring, roles, signals.

pub mod config;
