//! What would lift a rule that forbids (DESIGN 4).

use std::time::Duration;

use bartizan_base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AssuranceLevel, Obligation};

/// A remedy, as a bundle's `@remedy` annotation names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Enforcement can do it itself: the permit carries the obligation.
    Oblige(Obligation),
    /// The caller authenticates more surely or more recently.
    StepUp {
        /// At least this level.
        level: AssuranceLevel,
        /// At most this long ago; none if age does not matter.
        max_age: Option<Duration>,
    },
    /// The caller states a purpose.
    Justify,
    /// Others approve.
    Approve {
        /// How many.
        count: u32,
        /// Holding which role.
        role: Option<Name>,
        /// Within which time the approval must be used.
        use_within: Duration,
    },
}

/// A remedy as it is offered to a caller: in data, and complete enough to act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "remedy")]
pub enum Offer {
    /// Log in again, more surely (RFC 9470).
    StepUp {
        /// The level to reach, 1 to 4.
        level: u8,
        /// How old the login may be, in seconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_age_s: Option<u64>,
    },
    /// State a purpose and ask again.
    Justify,
    /// Wait for approval.
    Approve {
        /// Approvals needed.
        count: u32,
        /// Role the approvers hold.
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<Name>,
        /// Seconds within which the approval must be used.
        use_within_s: u64,
    },
}
