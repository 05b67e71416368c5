//! One central policy decides every ask. This crate is the only maker of a [`Permit`].
//!
//! A [`Bundle`] is compiled once ([`CompiledBundle`]), joined with [`Entities`] into an immutable [`Snapshot`], and asked:
//! [`Snapshot::decide`].

mod bundle;
mod complexity;
mod context;
mod describe;
mod difference;
mod engine;
mod entities;
mod evaluate;
mod explain;
mod flips;
mod index;
mod lift;
mod lint;
mod remedy;
mod replay;
mod starter;
mod suppose;
mod table;
mod verdict;

pub use bundle::{Bundle, BundleError, BundleErrors, CompiledBundle};
pub use difference::{Analysis, Became, Difference, FormsAlone, RuleChange, Widens, difference};
pub use engine::{Door, Question, Snapshot};
pub use entities::{Entities, EntitiesError};
pub use explain::Explanation;
pub use flips::{FlipGroup, Flips};
pub use replay::{Decided, KeptAsk, NotReplayable, Recorded, Replayed};
pub use starter::starter_bundle;
pub use suppose::{Level, Moment, Named, Supposed};
pub use table::Tested;
pub use verdict::{Decision, Evidence, Permit, PermitParts, Refused, Verdict};
