//! The language in which the ledger is asked: typed by hand, bounded, with one meaning.
//!
//! A [`Query`] is parsed text. What it means is [`Query::matches`] over the [`Facts`] of one entry; whoever answers
//! queries faster, such as an index, stores the same facts and must agree with it. The language is documented by
//! [`reference_page`], which is generated from the tables that the parser uses.

mod error;
mod facts;
mod field;
mod matches;
mod page;
mod parse;
mod print;
mod quantity;
mod read;
#[cfg(feature = "samples")]
pub mod samples;
mod tree;
mod value;
mod words;

pub use error::{Problem, QueryError};
pub use facts::{Facts, Value};
pub use field::{Field, Type};
pub use page::{EXAMPLES, reference_page};
pub use parse::{DEPTH_MAX, TERMS_MAX, TEXT_MAX};
pub use quantity::Quantity;
pub use tree::{Condition, Node, Pattern, Query, Test};
pub use words::{BARRIER, Phrase};
