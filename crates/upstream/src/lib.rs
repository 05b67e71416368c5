//! The only way out of the house: pools, credentials, egress guard.
//!
//! Two exits: [`Upstreams::send`] for asks, which demands an `IntentRecorded`, and [`Upstreams::fetch`] for a closed list of
//! infrastructure traffic.

mod body;
mod egress;
mod send;

pub use body::{AnswerBody, BodyError};
pub use egress::{Connector, Resolve, SystemResolver, is_private};
pub use send::{
    Answer, Credentials, FetchError, FetchPolicy, Fetched, Outbound, SendError, Settings, SetupError,
    Upstreams,
};
