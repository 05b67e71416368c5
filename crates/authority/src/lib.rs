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
mod names;
pub mod oauth;
mod own;
pub mod refresh;
mod revoke;
pub mod scim;
pub mod signals;
mod stripes;
mod userinfo;
mod vouch;

use std::sync::Arc;
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_control::Control;
use bartizan_store::{Rows, StoreError};

pub use bonds::Bonds;
pub use vouch::Vouching;

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
    /// Counts of exact things that were allowed a number of times: those that the doors count in.
    pub counts: Arc<dyn bartizan_store::Counters>,
    /// What issuing remembers between requests: begin with the default.
    pub issuing: Arc<issue::Issuing>,
}

/// How long rows stay that are over. A node whose clock is ahead must not remove what others still count on: the proof that was
/// used a moment ago.
const SWEEP_AFTER: Duration = Duration::from_secs(15 * 60);
/// Rows that are removed in one step, so that others come in between.
const SWEEP_STEP: usize = 500;
/// Steps of one sweep; what is left is for the next.
const SWEEP_STEPS_MAX: usize = 200;

impl Authority {
    /// Removes rows that have long been over, and says how many. To be called every minute, on any number of nodes.
    ///
    /// # Errors
    /// When the state database does not answer; the next call goes on.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let until =
            Timestamp::from_secs(self.control.clock.now().as_secs().saturating_sub(SWEEP_AFTER.as_secs()));
        let mut removed = 0;
        for _ in 0..SWEEP_STEPS_MAX {
            let step = self.rows.sweep(until, SWEEP_STEP).await?;
            removed += step;
            if step < SWEEP_STEP {
                break;
            }
        }
        Ok(removed)
    }
}
