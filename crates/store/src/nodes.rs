//! Which nodes decide on the state, and how far each has come: what makes a revocation one that can be acknowledged.
//!
//! A node may decide on what it has taken in until [`LEASE`] after it last asked. It makes that promise durable *before* it
//! asks for the present revision. So of a node and somebody who changes the state, one sees the other: either the node hears of
//! the new revision, or whoever made it finds the node's promise and waits until it is kept or has run out.

use std::time::Duration;

use bartizan_model::NodeId;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// How long a node decides on what it knows without hearing from the state database.
pub const LEASE: Duration = Duration::from_secs(1);

/// What a node decides on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    /// The revision that it has taken in: keys, epochs, documents.
    pub revision: u64,
    /// The revision up to which its policy is in force as well; less while a bundle is being compiled.
    pub policy: u64,
}

impl Enforced {
    /// Whether what was changed at `revision` is in force; with `policy`, also if it was policy.
    #[must_use]
    pub const fn is_at(&self, revision: u64, policy: bool) -> bool {
        self.revision >= revision && (!policy || self.policy >= revision)
    }
}

/// A node, as the state database knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Which.
    pub node: NodeId,
    /// What it decided on when it was last heard of.
    pub enforced: Enforced,
    /// Whether its lease has run out, by the database's clock.
    pub out: bool,
}

/// How a change that takes something away was acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acknowledged {
    /// Milliseconds from the change being durable until no node decides on what was before it.
    pub ms: u64,
    /// How many nodes confirmed it, this one included.
    pub nodes: u32,
    /// The nodes that did not confirm it and whose lease has run out: they decide nothing until they have caught up.
    pub ran_out: Vec<NodeId>,
    /// The nodes that know of a new policy but were still compiling it when the wait was over. They go on by the one before.
    pub behind: Vec<NodeId>,
}

/// The nodes that share the state.
///
/// Contract: when `confirm` answers, the promise is durable and visible to every later `nodes`, and the revision it gives was
/// read after that. `moved` is only a hint: it may come for nothing, late, or never.
pub trait Nodes: std::fmt::Debug + Send + Sync {
    /// Notes that `node` decides on `enforced`, and may until [`LEASE`] from now; then reads the present revision.
    fn confirm(&self, node: NodeId, enforced: Enforced) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// The nodes that may decide, or might have within the last minute. A store that only one process can use knows none.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, StoreError>>;

    /// Forgets a node that decides nothing any more.
    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Waits until the revision may have moved.
    fn moved(&self) -> BoxFuture<'_, ()>;
}
