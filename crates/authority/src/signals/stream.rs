//! Streams and what waits in them, as they are kept.

use std::collections::BTreeSet;

use bartizan_base::Timestamp;
use bartizan_jose::{Audience, EventClaims};
use bartizan_model::{Principal, StreamId};
use bartizan_store::RowKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::{CAEP, RISC, SSF};
use crate::kept::{Kept, owner};

/// The events that we tell, if a receiver asks for them.
pub(super) fn supported() -> BTreeSet<String> {
    [format!("{CAEP}session-revoked"), format!("{RISC}account-disabled")].into()
}

/// The event by which a stream is tried.
pub(super) fn verification() -> String {
    format!("{SSF}verification")
}

/// How events come to the receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Delivery {
    /// We send them (RFC 8935).
    Push {
        /// Where.
        url: String,
        /// What the receiver wants to see in `authorization`: sealed, in base64url.
        authorization: Option<String>,
    },
    /// They are fetched (RFC 8936).
    Poll,
}

/// Whether a stream flows (SSF 1.0, 8.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Flow {
    /// Events are made and sent.
    Enabled,
    /// Events are made and wait.
    Paused,
    /// No events are made.
    Disabled,
}

/// A stream of events to one receiver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// Who receives, and nobody else sees or changes it.
    pub(super) receiver: Principal,
    pub(super) delivery: Delivery,
    /// The events asked for.
    pub(super) requested: BTreeSet<String>,
    /// What it is for, in the receiver's words.
    pub(super) description: Option<String>,
    pub(super) flow: Flow,
    /// Why it does not flow, in the words of whoever stopped it.
    pub(super) reason: Option<String>,
    /// Everything up to this revision has been told.
    pub(super) told: u64,
    /// A node sends until then; others keep away.
    pub(super) sending: Option<Timestamp>,
}

impl Stream {
    /// The audience of its events.
    pub(super) fn audience(&self) -> String {
        self.receiver.id.to_string()
    }

    /// The events that are delivered.
    pub(super) fn delivered(&self) -> BTreeSet<String> {
        self.requested.intersection(&supported()).cloned().collect()
    }
}

impl Kept for Stream {
    const KIND: RowKind = RowKind::Stream;

    fn owner(&self) -> String {
        owner(&self.receiver)
    }

    fn expires(&self) -> Option<Timestamp> {
        None
    }
}

/// An event that waits. Its id is its `jti`, beginning with the moment, so that they come in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) stream: StreamId,
    pub(super) issued: Timestamp,
    pub(super) sub_id: Option<Map<String, Value>>,
    pub(super) events: Map<String, Value>,
    /// Until when it is worth telling.
    pub(super) until: Timestamp,
}

impl Pending {
    /// The claims of its token.
    pub(super) fn claims(&self, issuer: &str, jti: &str, audience: String) -> EventClaims {
        EventClaims {
            iss: issuer.to_owned(),
            aud: Audience::One(audience),
            issued: self.issued,
            jti: jti.to_owned(),
            sub_id: self.sub_id.clone(),
            txn: None,
            events: self.events.clone(),
        }
    }
}

impl Kept for Pending {
    const KIND: RowKind = RowKind::Event;

    fn owner(&self) -> String {
        self.stream.to_string()
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.until)
    }
}
