//! Tokens: compact JWS, JWT profiles, key sets and their rotation, DPoP and mTLS bindings. Pure: no I/O, no clock, no
//! cache; moments, randomness and whatever must be remembered are the caller's.
//!
//! One algorithm a key, taken from the key and never from the token; size and depth are bounded before any cryptography
//! (RFC 8725). Every kind of token is a type of its own ([`Profile`]) with the checks of its specification, so that one is
//! never taken for another:
//!
//! | profile | `typ` | specification |
//! |---|---|---|
//! | [`AccessClaims`] | `at+jwt` | RFC 9068, 8693 (`act`), 9449 and 8705 (`cnf`) |
//! | [`IdClaims`] | `JWT` | OpenID Connect Core |
//! | [`LogoutClaims`] | `logout+jwt` | OpenID Connect Back-Channel Logout |
//! | [`AssertionClaims`] | `client-authentication+jwt` | RFC 7523 and its revision: `private_key_jwt` |
//! | [`IdJagClaims`] | `oauth-id-jag+jwt` | Identity Assertion JWT Authorization Grant |
//! | [`WorkloadClaims`] | none | RFC 7523 as a grant: Kubernetes, CI, SPIFFE |
//! | [`EventClaims`] | `secevent+jwt` | RFC 8417 |
//! | [`DpopProof`] | `dpop+jwt` | RFC 9449 |
//! | [`VouchedClaims`] | `bartizan-identity+jwt` | RFC 7519, 8693 (`act`): who was let through by a proxy |
//!
//! A token is read in three steps: [`Jws::parse`] bounds it, [`Jws::claimed_issuer`] says whose keys to try, and [`verify`]
//! makes a [`Verified`], which nothing else makes.

mod access;
mod algorithm;
mod assertion;
mod binding;
mod claims;
mod dpop;
mod event;
mod exchange;
mod id;
mod id_jag;
mod jwk;
mod jws;
mod kept;
mod key;
mod logout;
mod nonce;
mod reader;
mod rotation;
pub mod testing;
mod thumbprint;
mod token;
mod uri;
mod vouched;
mod workload;

pub use access::{AccessClaims, AccessRules};
pub use algorithm::Algorithm;
pub use assertion::{AssertionClaims, AssertionRules};
pub use binding::{BindingError, Bound, Confirmation, Presentation, Scheme};
pub use claims::{ACTORS_MAX, Actor, Audience, SKEW_MAX, TimeRules, Times};
pub use dpop::{DpopError, DpopProof, DpopRules, NonceRule, ProvenKey};
pub use event::{EventClaims, EventRules};
pub use exchange::{Exchange, NarrowError};
pub use id::{IdClaims, IdRules};
pub use id_jag::{IdJagClaims, IdJagRules};
pub use jwk::{Jwk, JwkError, Jwks};
pub use jws::{Jws, JwsError};
pub use kept::KeptKey;
pub use key::{IssueError, KeyError, SigningKey};
pub use logout::{LogoutClaims, LogoutRules};
pub use nonce::Nonces;
pub use rotation::{DemandError, KeyPlan, KeyState, NewKey, Plan, Rotation, Schedule, ScheduleError};
pub use thumbprint::{Jkt, ThumbprintError, X5t};
pub use token::{Profile, Replay, TokenError, Verified, verify};
pub use uri::normal_uri;
pub use vouched::{VouchedClaims, VouchedRules};
pub use workload::{WorkloadClaims, WorkloadRules};
