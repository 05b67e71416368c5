//! What a record is about, as one closed list.

use bartizan_model::record::{Body, System};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal,)+) => {
        /// What a record is about: its `kind`, and for the house's own records also their `event`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[doc = $doc])+ $variant,)+ }

        impl Kind {
            /// Every kind, in the order of the reference page.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in events and tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it says.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

kinds! {
    /// Something was permitted and is about to happen.
    Intent "intent",
    /// Something was asked and not permitted.
    Refusal "refusal",
    /// How a permitted thing ended.
    Outcome "outcome",
    /// A process began to write.
    Started "system.started",
    /// A process ended in order.
    Stopped "system.stopped",
    /// A part of the write-ahead log that held no acknowledged record was cut off after a crash.
    TailCut "system.tail_cut",
    /// The state was changed by the offline recovery keys.
    Recovered "system.recovered",
    /// The installation was created.
    Initialised "system.initialised",
    /// A tenant's log had come so far; stands in the operator's log.
    Checkpoint "system.checkpoint",
    /// Too few witnesses have cosigned the operator's log for too long.
    Unwitnessed "system.unwitnessed",
    /// The personal data of somebody was erased; whose is not said.
    Erased "system.erased",
    /// Kept content went because of its age.
    Expired "system.expired",
    /// Erasures were done again after a restore from a backup that did not know them.
    Reapplied "system.reapplied",
    /// A log of a past period is removed from its node, after it was archived; stands in the operator's log.
    Removed "system.removed",
    /// The directory was changed; who it is about is said by pseudonyms.
    DirectoryChanged "system.directory_changed",
    /// A policy bundle could not be loaded; the last good one stays in force.
    PolicyRejected "system.policy_rejected",
    /// A candidate was tried beside the bundle in force.
    PolicyCompared "system.policy_compared",
    /// Recorded decisions were decided again from what was kept.
    ReplayChecked "system.replay_checked",
    /// The index of a policy bundle decided otherwise than all of its rules would have.
    DecisionMismatch "system.decision_mismatch",
}

impl Kind {
    /// The kind of a record. A new kind of record does not compile until it stands here, and so in the catalogue, in
    /// every mapping and on the reference page.
    #[must_use]
    pub const fn of(body: &Body) -> Self {
        match body {
            Body::Intent(_) => Self::Intent,
            Body::Refusal(_) => Self::Refusal,
            Body::Outcome(_) => Self::Outcome,
            Body::System(System::Started { .. }) => Self::Started,
            Body::System(System::Stopped) => Self::Stopped,
            Body::System(System::TailCut { .. }) => Self::TailCut,
            Body::System(System::Recovered { .. }) => Self::Recovered,
            Body::System(System::Initialised) => Self::Initialised,
            Body::System(System::Checkpoint { .. }) => Self::Checkpoint,
            Body::System(System::Unwitnessed { .. }) => Self::Unwitnessed,
            Body::System(System::Erased { .. }) => Self::Erased,
            Body::System(System::Expired { .. }) => Self::Expired,
            Body::System(System::Reapplied { .. }) => Self::Reapplied,
            Body::System(System::Removed { .. }) => Self::Removed,
            Body::System(System::DirectoryChanged { .. }) => Self::DirectoryChanged,
            Body::System(System::PolicyRejected { .. }) => Self::PolicyRejected,
            Body::System(System::PolicyCompared { .. }) => Self::PolicyCompared,
            Body::System(System::ReplayChecked { .. }) => Self::ReplayChecked,
            Body::System(System::DecisionMismatch { .. }) => Self::DecisionMismatch,
        }
    }
}
