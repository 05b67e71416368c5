//! What receivers ask of their streams, and how they see them (SSF 1.0, 8.1).

use std::collections::BTreeSet;

use bartizan_base::Text;
use bartizan_model::StreamId;
use bartizan_secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The delivery method by which we send (RFC 8935).
pub const PUSH: &str = "urn:ietf:rfc:8935";
/// The delivery method by which receivers fetch (RFC 8936).
pub const POLL: &str = "urn:ietf:rfc:8936";
/// A stream that is asked for, or what of one is to be changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StreamToMake {
    /// Which, where it is there already.
    pub stream_id: Option<StreamId>,
    /// How events come; fetched by the receiver if absent.
    pub delivery: Option<DeliveryToMake>,
    /// The events wanted, by their addresses; all that we tell if absent.
    pub events_requested: Option<BTreeSet<Text<256>>>,
    /// What it is for.
    pub description: Option<Text<256>>,
}

/// How events are to come.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryToMake {
    /// [`PUSH`] or [`POLL`].
    pub method: String,
    /// Where they are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// What is sent along as `authorization`. Never shown again.
    #[serde(default, skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub authorization_header: Option<Secret<String>>,
}

/// A stream as its receiver sees it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StreamView {
    /// Which.
    pub stream_id: StreamId,
    /// Who tells.
    pub iss: String,
    /// For whom its tokens are.
    pub aud: String,
    /// The events that we can tell.
    pub events_supported: BTreeSet<String>,
    /// Those that were asked for.
    pub events_requested: BTreeSet<String>,
    /// Those that are told.
    pub events_delivered: BTreeSet<String>,
    /// How they come.
    pub delivery: DeliveryView,
    /// Seconds between two requests for verification.
    pub min_verification_interval: u64,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `enabled`, `paused` or `disabled`.
    pub status: String,
    /// Why, where it does not flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How events come.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DeliveryView {
    /// [`PUSH`] or [`POLL`].
    pub method: &'static str,
    /// Where they are sent, or fetched.
    pub endpoint_url: String,
}

/// Whether a stream is to flow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatusToSet {
    /// Which.
    pub stream_id: StreamId,
    /// `enabled`, `paused` or `disabled`.
    pub status: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<Text<256>>,
}

/// That a stream is to be tried.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Verify {
    /// Which.
    pub stream_id: StreamId,
    /// What the event carries back.
    #[serde(default)]
    pub state: Option<Text<256>>,
}
