//! Stores of documents: searched under a filter, written with seals.
//!
//! The grammar of each store is pure ([`Grammar`]): what is asked becomes a [`Step`], what comes back becomes [`Row`]s. A step
//! leaves the house through [`Stores::run`], which demands the `IntentRecorded` that was recorded for exactly that step.
//!
//! - Every step names the tenant and the collection itself, as conditions of the same filter that carries the policy; nothing a
//!   caller sends can take their place.
//! - Whatever comes back is a claim: [`Row::read`] reads it strictly, and [`Seals`] tell rows of ours from others.

mod chroma;
mod connect;
mod grammar;
mod language;
mod layout;
mod opensearch;
mod pgvector;
mod qdrant;
mod row;
mod seal;
mod step;
mod stores;

pub use grammar::{Grammar, Search, at, grammar, place};
pub use language::{NotAFilter, metadata_filter};
pub use row::{Access, Entry, Passage, Row, fits_metadata};
pub use seal::Seals;
pub use step::{Statement, Step};
pub use stores::{Failed, Reached, Stores};
