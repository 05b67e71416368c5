//! The use cases of people who run the house. Each is an ask: decided by the same engine, recorded in the same ledger,
//! and only then carried out.

mod claim;
mod decisions;
mod deliveries;
mod house;
mod keys;
mod policy;
mod recover;
mod resources;
mod turn;

use std::sync::Arc;

use bartizan_base::{Clock, Random};
use bartizan_keys::Sealer;
use bartizan_model::action::ChangeState;
use bartizan_record::{IntentRecorded, Recorder};
use bartizan_store::Store;

pub use bartizan_record::LogFile;

pub use claim::Claimed;
pub use decisions::{DecisionLine, DecisionView};
pub use deliveries::{Couriers, DeliveryState, DeliveryView, LetterView};
pub use house::{House, Probe, View};
pub use keys::{CreateKey, CreatedKey, KeyView};
pub use policy::{ApplyBundle, Bundled};
pub use recover::{Recovered, RecoveryOrder};
pub use resources::{DocumentView, EpochToAdvance};
pub use turn::{Done, Stopped};

/// Everybody's use cases.
#[derive(Clone, Debug)]
pub struct Control {
    /// What is known and in force.
    pub house: Arc<dyn House>,
    /// The state database; changing it demands a recorded intent.
    pub store: Arc<dyn Store<IntentRecorded<ChangeState>>>,
    /// The ledger's writer.
    pub recorder: Recorder,
    /// What carries records to other systems.
    pub couriers: Arc<dyn Couriers>,
    /// Seals credentials of upstreams.
    pub sealer: Arc<Sealer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for keys and ids.
    pub random: Arc<dyn Random>,
}
