//! Security events from other systems: what an issuer may tell us about its subjects (OpenID Shared Signals).

use bartizan_base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The security events that an issuer may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventSource {
    /// The exact `aud` that its events must name: what it calls the stream to us.
    pub audience: String,
    /// As whom it comes: a workload of the directory, to whom policy permits `signal:send`.
    pub sender: Name,
    /// Where its events are fetched (RFC 8936); absent where it sends them to `/ssf/events` itself (RFC 8935).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<EventPoll>,
}

/// Where events are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventPoll {
    /// The address of the polling endpoint.
    pub url: String,
    /// The sealed credential that is sent along as a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Name>,
}
