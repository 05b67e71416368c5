//! One central policy decides every ask. This crate is the only maker of a [`Permit`].
//!
//! A [`Bundle`] is compiled once ([`CompiledBundle`]), joined with [`Entities`] into an immutable [`Snapshot`], and asked:
//! [`Snapshot::decide`].

mod application;
mod approval;
mod bundle;
mod compile;
mod complexity;
mod context;
mod describe;
mod diagnostic;
mod engine;
mod entities;
mod evaluate;
mod explain;
mod generic;
mod index;
mod judged;
mod lift;
mod lint;
mod near;
mod platform;
mod remedy;
mod review;
mod starter;
mod suppose;
mod surely;
mod table;
mod verdict;
mod vocabulary;

pub use application::{Advice, AskedEntity, AskedOf, Found, Seek};
pub use approval::{ApprovalKey, Hold, NotAKey, Standing};
pub use bundle::{Bundle, CompiledBundle, RemedyChange};
pub use diagnostic::{BundleError, BundleErrors};
pub use engine::{Door, Question, Snapshot};
pub use entities::{Entities, EntitiesError};
pub use explain::Explanation;
pub use generic::Misfit;
pub use starter::starter_bundle;
pub use suppose::{Level, Moment, Named, Supposed};
pub use table::Tested;
pub use verdict::{Decision, Evidence, Permit, PermitParts, Refused, Verdict};
