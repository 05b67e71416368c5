//! When a revocation may be called one: no node decides on what was before it.

use std::collections::BTreeSet;
use std::time::Duration;

use bartizan_model::NodeId;
use bartizan_store::{Acknowledged, LEASE, NodeRow};

use crate::keeper::Keeper;

/// By how much clocks may differ in a second: the waiting node's own, the database's, the silent node's.
const DRIFT: Duration = Duration::from_millis(50);
/// How long a policy may be compiled elsewhere before the answer says that it still is.
const COMPILE_PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before looking again; doubled each time, up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

impl Keeper {
    /// Waits until no node decides on a state before `revision`: each has confirmed it, or its lease has run out. With
    /// `policy`, also until policy of that revision is compiled everywhere, within five seconds. Ends in any case: a lease on
    /// an earlier state is over at the latest a second after the change, whether or not the database answers.
    pub async fn acknowledged(&self, revision: u64, policy: bool) -> Acknowledged {
        let began = self.clock.monotonic_us();
        let mut pause = PAUSES.0;
        loop {
            let waited = Duration::from_micros(self.clock.monotonic_us().saturating_sub(began));
            let over = waited > LEASE + DRIFT;
            let found = match self.nodes.nodes().await {
                Ok(nodes) => Found::among(&nodes, self.node, revision, policy, over),
                Err(error) if !over => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot see who has confirmed");
                    Found { deciding: true, ..Found::default() }
                }
                Err(_) => Found::default(),
            };
            let patience = waited <= COMPILE_PATIENCE;
            if !found.deciding && (found.behind.is_empty() || !patience) {
                return Acknowledged {
                    ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
                    nodes: found.confirmed + 1,
                    ran_out: found.out.into_iter().collect(),
                    behind: found.behind.into_iter().collect(),
                };
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// How the other nodes stand.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    confirmed: u32,
    /// One of them may still decide on what was before.
    deciding: bool,
    out: BTreeSet<NodeId>,
    behind: BTreeSet<NodeId>,
}

impl Found {
    /// `over` says that a lease on an earlier state is over by our own clock.
    fn among(nodes: &[NodeRow], own: NodeId, revision: u64, policy: bool, over: bool) -> Self {
        let mut found = Self::default();
        for NodeRow { node, enforced, out } in nodes.iter().filter(|n| n.node != own) {
            if enforced.is_at(revision, policy) {
                found.confirmed += 1;
            } else if *out || over && enforced.revision < revision {
                found.out.insert(*node);
            } else if enforced.revision >= revision {
                found.behind.insert(*node);
            } else {
                found.deciding = true;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use bartizan_base::Timestamp;
    use bartizan_store::Enforced;

    use super::*;

    fn node(number: u8, revision: u64, policy: u64, out: bool) -> NodeRow {
        let node = NodeId::from_parts(Timestamp::from_secs(1), [number; 10]);
        NodeRow { node, enforced: Enforced { revision, policy }, out }
    }

    #[test]
    fn inv_epoch_a_node_counts_once_it_has_confirmed_or_its_lease_is_over_and_not_before() {
        let own = node(0, 1, 1, false).node;
        let among = |nodes: &[NodeRow], policy, over| Found::among(nodes, own, 7, policy, over);
        // Oneself is not waited for: what asks has taken it in already.
        assert!(!among(&[node(0, 1, 1, false)], true, false).deciding);
        assert!(among(&[node(1, 6, 6, false)], false, false).deciding);
        assert_eq!(among(&[node(1, 7, 6, false), node(2, 9, 9, true)], false, false).confirmed, 2);
        let silent = among(&[node(1, 6, 6, true)], false, false);
        assert!(!silent.deciding && silent.out.len() == 1 && silent.confirmed == 0);
        // Its lease was on something earlier, so it is over by any clock.
        let silent = among(&[node(1, 6, 6, false)], false, true);
        assert!(!silent.deciding && silent.out.len() == 1);
        // One that compiles goes on deciding by the policy before, however long it takes.
        for over in [false, true] {
            let compiling = among(&[node(1, 7, 6, false)], true, over);
            assert!(!compiling.deciding && compiling.behind.len() == 1 && compiling.out.is_empty());
        }
    }
}
