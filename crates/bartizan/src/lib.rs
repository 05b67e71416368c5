//! The binary: configuration, roles, wiring, signals.
