//! Other providers of identity (OpenID Connect): several, each with its own mapping and a cap on what its word is worth.

use std::fmt::Debug;

/// Reaches other providers.
pub trait Providers: Debug + Send + Sync {}
