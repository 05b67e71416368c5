//! The only way out of the house: pools, credentials, egress guard.
//!
//! Two exits: [`Upstreams::send`] for asks, which demands an `IntentRecorded` (as does [`Upstreams::say`] on a [`Line`]), and [`Upstreams::fetch`] with its
//! relatives [`Upstreams::exchange`] and [`Upstreams::dial`] for a closed list of infrastructure traffic.

mod body;
mod connected;
mod egress;
mod infra;
mod line;
mod send;
mod sigv4;

pub use body::{AnswerBody, BodyError};
pub use connected::Released;
pub use egress::{Connector, Resolve, Stream, SystemResolver, is_private};
pub use infra::{DialPolicy, ExchangePolicy};
pub use line::Line;
pub use send::{
    Answer, Carries, Credentials, FetchError, FetchPolicy, Outbound, SendError, Settings, SetupError,
    Upstreams,
};
