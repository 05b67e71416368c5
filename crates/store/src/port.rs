//! The questions the house asks of its state.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{DecisionId, KeyId, ReasonCode, Tenant};
use futures_util::future::BoxFuture;

use crate::{BundleRow, Change, Founding, Since, State};

/// Proof that a change was decided and recorded. `record` implements it for its `IntentRecorded`, and only the
/// wiring of the binary chooses which type a store accepts, so no use case can change state without one.
pub trait Warrant: Debug + Send + Sync {
    /// Whose state may be changed.
    fn tenant(&self) -> &Tenant;
    /// The decision behind it.
    fn decision(&self) -> DecisionId;
}

/// The state database. `W` is the proof that changing it demands.
///
/// Contract: what an `Ok` acknowledges is durable; a set of changes is applied whole or not at all and serially;
/// `load` sees one revision; a change never touches another tenant than the warrant's.
pub trait Store<W: Warrant>: Debug + Send + Sync {
    /// Creates the installation.
    ///
    /// Errors with `Conflict` when there is one already.
    fn found(&self, founding: Founding) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Everything, at one revision.
    fn load(&self) -> BoxFuture<'_, Result<State, StoreError>>;

    /// What became of the state since it was at `revision` with `mark`: at most `limit` steps, and at least one where something
    /// has changed and they are kept. Cheap.
    ///
    /// Errors with `Corrupt` when the database has another history than that: it was put back.
    fn changes_since(
        &self,
        revision: u64,
        mark: Option<Digest>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Since, StoreError>>;

    /// The present revision; cheap.
    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Applies a set of changes to the warrant's tenant and returns the new revision.
    fn apply<'a>(&'a self, warrant: &'a W, changes: Vec<Change>) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// A bundle that was in force, by its version; kept for ever, for replay and recovery.
    fn bundle<'a>(
        &'a self,
        tenant: &'a Tenant,
        version: u64,
    ) -> BoxFuture<'a, Result<Option<BundleRow>, StoreError>>;

    /// The files of a bundle that was ever in force or tried, by its digest; kept for ever, for replay.
    fn bundle_files<'a>(
        &'a self,
        tenant: &'a Tenant,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, String>>, StoreError>>;

    /// Notes when keys were last used. Advisory: does not move the revision; keys that are unknown are passed over.
    fn touch_keys(&self, uses: Vec<(KeyId, Timestamp)>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// When keys of `tenant` were last used, of those that were.
    fn last_used<'a>(
        &'a self,
        tenant: &'a Tenant,
    ) -> BoxFuture<'a, Result<BTreeMap<KeyId, Timestamp>, StoreError>>;
}

/// The lock store of checkpoints: the small, trusted place that says what was signed last (Sunlight's lesson).
///
/// Contract: serialisable per log, durable on return.
pub trait Checkpoints: Debug + Send + Sync {
    /// The latest checkpoint of `log`: size and root.
    fn latest(&self, log: &str) -> BoxFuture<'_, Result<Option<(u64, Digest)>, StoreError>>;

    /// Replaces the latest checkpoint of `log` if it still is `old`; says whether it was.
    ///
    /// Errors with `Conflict` when `new` may not follow `old` (see [`crate::checkpoint_may_follow`]): a log never
    /// shrinks, and one size never has two roots.
    fn swap(
        &self,
        log: &str,
        old: Option<(u64, Digest)>,
        new: (u64, Digest),
    ) -> BoxFuture<'_, Result<bool, StoreError>>;
}

/// Why the state database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something has changed since it was read, exists already, or is gone.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The database does not answer, or not in time. Whether a change was applied is unknown.
    #[error("the state database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What it holds cannot be read: written by a newer version, or damaged.
    #[error("the state database holds something unreadable: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// The answer to a swap that would shrink a log or give one size a second root.
    #[must_use]
    pub fn shrinking_checkpoint() -> Self {
        Self::Conflict("a checkpoint only grows, and one size has one root".to_owned())
    }

    /// The reason code it is told by.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::Conflict(_) => ReasonCode::Conflict,
            Self::Unavailable(_) | Self::Corrupt(_) => ReasonCode::StateUnavailable,
        }
    }
}
