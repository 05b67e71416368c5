//! One central policy decides every ask. This crate is the only maker of a [`Permit`].
//!
//! A [`Bundle`] is compiled once ([`CompiledBundle`]), joined with [`Entities`] into an immutable [`Snapshot`], and asked:
//! [`Snapshot::decide`].

mod application;
mod approval;
mod authoring;
mod bundle;
mod catalogue;
mod compile;
mod complexity;
mod context;
mod declared;
mod describe;
mod diagnostic;
mod difference;
mod engine;
mod entities;
mod evaluate;
mod explain;
pub mod facts;
mod flips;
mod generic;
mod index;
mod judged;
mod lift;
mod lint;
mod near;
mod needs;
mod platform;
mod reach;
mod remedy;
mod replay;
mod review;
mod servers;
mod starter;
mod story;
mod suppose;
mod surely;
mod table;
mod tell;
mod verdict;
mod vocabulary;
mod zone;

pub use application::{Advice, AskedEntity, AskedOf, Hits, Seek};
pub use approval::{ApprovalKey, Hold, NotAKey, Standing};
pub use authoring::{Covered, Drawn, platform_schema};
pub use bundle::{Bundle, CompiledBundle, RemedyChange};
pub use catalogue::{TEMPLATES, Template, first_files, nearest_template};
pub use diagnostic::{BundleError, BundleErrors};
pub use difference::{Analysis, Became, Difference, FormsAlone, RuleChange, Widens, difference};
pub use engine::{Door, Question, Snapshot};
pub use entities::{Entities, EntitiesError};
pub use explain::{Change, Explanation};
pub use flips::{FlipGroup, Flips};
pub use generic::Misfit;
pub use reach::{Found, Page, Reached, Search};
pub use replay::{Decided, KeptAsk, NotReplayable, Recorded, Replayed};
pub use servers::{ServerError, ServerWords};
pub use starter::starter_bundle;
pub use story::{Clause, MemberStory, Reader, RuleOutcome, RuleStory, Seen};
pub use suppose::{Level, Moment, Named, Supposed, SupposedDevice};
pub use table::Tested;
pub use verdict::{Decision, Evidence, Permit, PermitParts, Refused, Verdict};
