//! What may be taken once: ids of assertions and proofs. This node remembers all it has seen; what is changed for a request
//! keeps them in rows as well, so that every node refuses them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bartizan_base::{Digest, Timestamp};
use bartizan_jose::Replay;
use bartizan_model::Tenant;
use bartizan_store::{Change, RowKind, StoreError};
use serde::{Deserialize, Serialize};

use crate::kept::{Kept, keep};

/// How many are remembered. Each lives a few minutes at most.
const SEEN_MAX: usize = 100_000;

/// What this node has seen.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<Digest, Timestamp>>);

impl Seen {
    /// Whether it is seen for the first time. When too many are remembered, nothing is: better to refuse than to take twice.
    pub(super) fn first(&self, replay: Replay, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN_MAX {
            seen.retain(|_, until| now <= *until);
            if seen.len() >= SEEN_MAX {
                return false;
            }
        }
        seen.insert(replay.id, replay.until).is_none_or(|until| until < now)
    }
}

/// Something that was used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Used {
    /// Until when it must be remembered.
    until: Timestamp,
}

impl Kept for Used {
    const KIND: RowKind = RowKind::Used;

    fn owner(&self) -> String {
        String::new()
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.until)
    }
}

/// The change that uses something up; a conflict where it was used before.
pub(crate) fn use_up(tenant: &Tenant, replay: Replay) -> Result<Change, StoreError> {
    keep(tenant, replay.id.to_string(), &Used { until: replay.until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_15_an_id_is_taken_once_until_it_is_over() {
        let seen = Seen::default();
        let at = Timestamp::from_secs;
        let replay = |text: &str| Replay { id: Digest::of(text.as_bytes()), until: at(100) };
        assert!(seen.first(replay("a"), at(1)));
        assert!(!seen.first(replay("a"), at(2)));
        assert!(seen.first(replay("b"), at(2)));
        assert!(!seen.first(replay("a"), at(100)));
        assert!(seen.first(replay("a"), at(101)));
    }
}
