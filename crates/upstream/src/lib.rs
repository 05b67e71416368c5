//! The only way out of the house: pools, credentials, egress guard.
