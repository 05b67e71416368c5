//! What `control` asks of the rest of the house; the binary introduces the one who knows.

use std::fmt::Debug;
use std::sync::Arc;

use bartizan_base::Name;
use bartizan_decide::{Door, Snapshot};
use bartizan_identify::{Caller, Presented};
use bartizan_model::action::ModelCall;
use bartizan_model::{Action, ReasonCode, Tenant};
use bartizan_record::IntentRecorded;
use bartizan_store::{State, StoreError};
use futures_util::future::BoxFuture;

/// One consistent view of what is in force.
#[derive(Clone, Debug)]
pub struct View {
    /// The state it was made of.
    pub state: Arc<State>,
    /// The tenant's policy and entities.
    pub policy: Arc<Snapshot>,
}

/// What trying an upstream showed.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The HTTP status of its answer.
    pub status: u16,
    /// How long the answer's head took, in microseconds.
    pub took_us: u64,
}

/// The running house as its administration sees it.
pub trait House: Debug + Send + Sync {
    /// Verifies what was presented. An error carries the caller as far as known, for the record.
    fn identify<'a>(
        &'a self,
        presented: &'a Presented,
    ) -> BoxFuture<'a, Result<Caller, (Caller, ReasonCode)>>;

    /// What is in force for `tenant`, unless it is older than its bound.
    ///
    /// # Errors
    /// `SnapshotStale`.
    fn view(&self, tenant: &Tenant) -> Result<View, ReasonCode>;

    /// What the enforcement point can do to an ask for `action`.
    fn door(&self, action: Action) -> &Door;

    /// Puts the present state in force. When this returns, every later ask is decided on it.
    fn reload(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Sends the harmless request that the intent was recorded for.
    fn probe<'a>(
        &'a self,
        intent: IntentRecorded<ModelCall>,
        upstream: &'a Name,
    ) -> BoxFuture<'a, Result<Probe, ReasonCode>>;
}
