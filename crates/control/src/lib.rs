//! The use cases of people who run the house. Each is an ask: decided by the same engine, recorded in the same ledger,
//! and only then carried out.

mod archive;
mod claim;
mod content;
mod decisions;
mod deliveries;
mod directory;
mod federated;
mod house;
mod keys;
mod labels;
mod locks;
mod own;
mod periods;
mod policy;
mod recover;
mod replay;
mod resources;
mod search;
mod subjects;
mod tools;
mod turn;

use std::sync::Arc;

use bartizan_base::{Clock, Random};
use bartizan_keys::{AuthorPublic, PolicySigner, Sealer};
use bartizan_model::action::ChangeState;
use bartizan_record::{IntentRecorded, Recorder};
use bartizan_slices::Slices;
use bartizan_store::Store;
use bartizan_vault::Vault;

pub use bartizan_record::LogFile;

pub use archive::Archive;
pub use bartizan_store::Acknowledged;
pub use claim::Claimed;
pub use content::{ContentView, KeptField, KeptPayload, KeptState, RevealTokens, RevealedToken};
pub use decisions::{DecisionLine, DecisionView};
pub use deliveries::{Couriers, DeliveryState, DeliveryView, LetterView};
pub use directory::{Bonds, PRINCIPAL_NAME_MAX, Redeclare, Redeclared, Severing, Work, Worked};
pub use federated::raises;
pub use house::{House, Probe, View};
pub use keys::{CreateKey, CreatedKey, KeyView};
pub use labels::{EndorseSession, SessionLabelView, SessionLabels};
pub use locks::{LockToSet, LockView};
pub use own::{Act, Acts};
pub use periods::{Archives, RemovedView};
pub use policy::{
    ApplyBundle, Approvals, Approved, Bundled, ByRight, CandidateView, NewPermit, NoProver, Plan, PlanPolicy,
    PolicyProof, Proposal, Proved, Prover, Reach, RollBack, Sought, TrialView, TryPolicy, Version,
};
pub use recover::{Recovered, RecoveryOrder};
pub use replay::{ExplainedDecision, Material, Preview, ReplayCheck, ReplayUnder, ReplayView, SubjectShift};
pub use resources::{DocumentView, EpochToAdvance};
pub use search::{ExportLedger, Exported, First, FoundEntries, FoundEntry, SearchLedger};
pub use subjects::{ErasedView, HoldToPlace, HoldView, SubjectRef};
pub use tools::{ApproveTools, Offered, ToolAsks, ToolStanding, ToolView};
pub use turn::{Done, Stopped};

/// Everybody's use cases.
#[derive(Clone, Debug)]
pub struct Control {
    /// What is known and in force.
    pub house: Arc<dyn House>,
    /// The state database; changing it demands a recorded intent.
    pub store: Arc<dyn Store<IntentRecorded<ChangeState>>>,
    /// What is kept of people beside the state and ends with them.
    pub bonds: Arc<dyn Bonds>,
    /// The ledger's writer.
    pub recorder: Recorder,
    /// Finds things in the ledger.
    pub archive: Arc<Archive>,
    /// What knows where logs of past periods are archived.
    pub archives: Arc<dyn Archives>,
    /// What carries records to other systems.
    pub couriers: Arc<dyn Couriers>,
    /// Seals credentials of upstreams.
    pub sealer: Arc<Sealer>,
    /// Where personal data and kept content lie; without, there is nothing to erase or read.
    pub vault: Option<Vault>,
    /// Signs policy.
    pub policy_signer: Arc<PolicySigner>,
    /// Whose signatures a bundle needs; none for nobody's.
    pub authors: Arc<[AuthorPublic]>,
    /// Says whether a change of policy may be made.
    pub approvals: Arc<dyn Approvals>,
    /// Proves what a change of policy permits.
    pub prover: Arc<dyn Prover>,
    /// What replay needs, where it is kept.
    pub slices: Option<Slices>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for keys and ids.
    pub random: Arc<dyn Random>,
}
