//! JWS, JWT and JWKS verification on aws-lc-rs; pure.
//!
//! One algorithm a key, taken from the key and never from the token; size and depth are bounded before any cryptography
//! (RFC 8725).

mod claims;
mod jwk;
mod jws;

pub use claims::{AccessClaims, Act, ClaimsError};
pub use jwk::{Algorithm, Jwk, JwkError, Jwks};
pub use jws::{Jws, JwsError, SigningKey};
