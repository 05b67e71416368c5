//! What `control` asks of the rest of the house; the binary introduces the one who knows.

use std::fmt::Debug;
use std::sync::Arc;

use bartizan_base::Name;
use bartizan_decide::{Bundle, BundleErrors, CompiledBundle, Decided, Door, Snapshot};
use bartizan_identify::{Caller, Presented, Proof};
use bartizan_keys::Statement;
use bartizan_model::action::ModelCall;
use bartizan_model::{Action, ReasonCode, Tenant};
use bartizan_record::IntentRecorded;
use bartizan_store::{Acknowledged, BundleRow, State, StoreError};
use futures_util::future::BoxFuture;

use crate::policy::{TrialView, Version};
use crate::tools::{Offered, ToolAsks};
use crate::turn::Stopped;

/// One consistent view of what is in force.
#[derive(Clone, Debug)]
pub struct View {
    /// The state it was made of.
    pub state: Arc<State>,
    /// The tenant's policy and entities.
    pub policy: Arc<Snapshot>,
    /// What decides for whoever asks: the same, or a candidate that is in force for them.
    pub deciding: Arc<Snapshot>,
    /// The version of policy in force, as it was signed.
    pub in_force: Option<Version>,
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

    /// The nonce for the next proof of possession, where one is asked for (RFC 9449, 9).
    fn proof_nonce(&self) -> Option<String>;

    /// Makes a caller of somebody whom `bartizan-authority` has just verified: by an authenticator, a session, a client's own
    /// credential. Nothing else may call this.
    ///
    /// # Errors
    /// When they may not come in: unknown, disabled, at an end. The caller as far as known, for the record.
    fn prove(&self, proof: &Proof) -> Result<Caller, (Box<Caller>, ReasonCode)>;

    /// What is in force for `tenant`, unless it is older than its bound.
    ///
    /// # Errors
    /// `SnapshotStale`.
    fn view(&self, tenant: &Tenant) -> Result<View, ReasonCode>;

    /// The same for somebody who asks: with the policy that is in force for them.
    ///
    /// # Errors
    /// `SnapshotStale`.
    fn view_for(&self, caller: &Caller) -> Result<View, ReasonCode>;

    /// A decision was made: what replay needs is kept, and a candidate is tried on it. Never waits.
    fn decided(&self, decided: Decided);

    /// How the tenant's candidate does on this node.
    fn trial(&self, tenant: &Tenant) -> TrialView;

    /// Compiles a bundle beside the threads that answer, with the words of the tenant's tool servers, and holds it for when it
    /// comes into force.
    fn compile<'a>(
        &'a self,
        tenant: &'a Tenant,
        bundle: Bundle,
    ) -> BoxFuture<'a, Result<Arc<CompiledBundle>, BundleErrors>>;

    /// What a row of the state says, if the house has signed it.
    ///
    /// # Errors
    /// Why it may not come into force.
    fn signed(&self, row: &BundleRow) -> Result<Statement, ReasonCode>;

    /// What the enforcement point can do to an ask for `action`.
    fn door(&self, action: Action) -> &Door;

    /// Puts the present state in force. When this returns, every later ask is decided on it.
    fn reload(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Waits until no node decides on a state before `revision`; with `policy`, also until policy of that revision is compiled
    /// on every node, for a while. Ends in any case.
    fn acknowledged(&self, revision: u64, policy: bool) -> BoxFuture<'_, Acknowledged>;

    /// Sends the harmless request that the intent was recorded for.
    fn probe<'a>(
        &'a self,
        intent: IntentRecorded<ModelCall>,
        upstream: &'a Name,
    ) -> BoxFuture<'a, Result<Probe, ReasonCode>>;

    /// What a server of tools offers now; each message that this takes is an ask of `asks`.
    ///
    /// # Errors
    /// When there is no such server, policy says no, or it does not answer.
    fn tools_offered<'a>(
        &'a self,
        caller: &'a Caller,
        server: &'a Name,
        asks: &'a dyn ToolAsks,
    ) -> BoxFuture<'a, Result<Vec<Offered>, Stopped>>;
}
