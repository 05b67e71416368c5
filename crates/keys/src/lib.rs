//! Signing keys and envelope encryption.
