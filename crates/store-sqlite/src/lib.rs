//! The embedded state database.
