//! Who people and programs are, and what they may have others do in their name: OAuth 2.1 and OpenID Connect, login, sessions,
//! grants, provisioning, security events.
//!
//! Every use case is an ask, decided and recorded like any other (`bartizan-control`). What is kept lies in rows beside the
//! state ([`kept`]); tokens are copies of it, and what is in a row wins. Somebody who was just proven becomes a
//! [`bartizan_identify::Caller`] only through [`bartizan_control::House::prove`].

pub mod authorize;
mod bonds;
pub mod ca;
pub mod clients;
pub mod connections;
pub mod device;
pub mod grant;
pub mod grants;
mod introspect;
pub mod issue;
pub mod kept;
pub mod keys;
pub mod login;
mod marks;
pub mod metadata;
pub mod oauth;
mod own;
pub mod refresh;
mod revoke;
pub mod scim;
pub mod signals;
mod stripes;
mod userinfo;

use std::sync::Arc;

use bartizan_control::Control;
use bartizan_store::Rows;

pub use bonds::Bonds;

/// The use cases of identity.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Asks, records and changes.
    pub control: Arc<Control>,
    /// Rows beside the state.
    pub rows: Arc<dyn Rows>,
    /// Who we are, to the letter: the `iss` of our tokens, and what all our addresses begin with. Without a final slash.
    pub issuer: Arc<str>,
    /// What was agreed on at the start.
    pub settings: Arc<oauth::Settings>,
    /// What issuing remembers between requests: begin with the default.
    pub issuing: Arc<issue::Issuing>,
}
