//! One central policy decides every ask. This crate is the only maker of a [`Permit`].
//!
//! A [`Bundle`] is compiled once ([`CompiledBundle`]), joined with [`Entities`] into an immutable [`Snapshot`], and asked:
//! [`Snapshot::decide`].

mod bundle;
mod complexity;
mod context;
mod describe;
mod engine;
mod entities;
mod evaluate;
mod explain;
mod index;
mod inner;
mod lift;
mod lint;
mod reference;
mod remedy;
mod shadow;
mod starter;
mod suppose;
mod table;
mod verdict;

pub use bundle::{Bundle, BundleError, BundleErrors, CompiledBundle};
pub use engine::{Door, Question, Snapshot};
pub use entities::{ABOVE_MAX, DEPTH_MAX, Entities, EntitiesError};
pub use explain::Explanation;
pub use shadow::{Mismatch, Shadow};
pub use starter::starter_bundle;
pub use suppose::{Level, Moment, Named, Supposed};
pub use table::Tested;
pub use verdict::{Decision, Evidence, Permit, PermitParts, Refused, Verdict};
