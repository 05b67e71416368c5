//! Recent activity as policies see it: counts over sliding windows. Advisory, for hard limits reserve.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was done within one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// What it cost, in millionths of the currency.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cost_micro: u64,
    /// Asks that were refused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub denials: u64,
    /// Asks that take something out of the house.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub exports: u64,
    /// Asks that were permitted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requests: u64,
    /// Different resources that were asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resources: u64,
    /// Tokens in and out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counts {
    /// The names in policies, in the order of [`Self::values`].
    pub const NAMES: [&str; 6] = ["cost_micro", "denials", "exports", "requests", "resources", "tokens"];

    /// The counts in the order of [`Self::NAMES`].
    #[must_use]
    pub const fn values(&self) -> [u64; 6] {
        [self.cost_micro, self.denials, self.exports, self.requests, self.resources, self.tokens]
    }
}

/// What was done within the last minute, hour and day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Windows {
    /// Within the last 86,400 seconds.
    pub day: Counts,
    /// Within the last 3,600 seconds.
    pub hour: Counts,
    /// Within the last 60 seconds.
    pub minute: Counts,
}

/// Recent activity before an ask, read once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Activity {
    /// Of the agent that asks, where one does: the outermost of the chain.
    pub agent: Option<Windows>,
    /// Of the subject.
    pub caller: Option<Windows>,
    /// Of the key that was presented.
    pub key: Option<Windows>,
    /// Of the session.
    pub session: Option<Windows>,
}
