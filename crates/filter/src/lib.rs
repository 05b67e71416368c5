//! Policies as filters: what a caller may see, asked of the store instead of of every row.
//!
//! [`filter`] evaluates the policies that can match with the resource unknown, for every member of a chain, and writes what is
//! left as a [`Filter`]: a tree of tests over the attributes of a row. [`sql`], [`qdrant`], [`chroma`] and [`opensearch`]
//! compile the tree for a store whose [`Columns`] the door names; [`Plan`] says what to do with the outcome.
//!
//! INV-FILTER: a filter matches no row that a full evaluation would deny. What keeps it:
//!
//! - The tree is positive. There is no negation in it, only tests that come in pairs (`In` and `NotIn`), and every test but
//!   [`Check::Absent`] is false where the value is missing. So a test that cannot be translated may be taken as false, and
//!   nothing missing ever matches because of a `not`.
//! - A condition becomes two trees, one for the rows where it is true and one for those where it is false. A row where it
//!   errs is in neither. A row matches when some permit is true, every forbid is false, and no permit errs.
//! - What cannot be translated is refused with the rule and the reason ([`Untranslatable`]); it is never guessed.
//!
//! The fragment that can be translated is described in `docs/filters.md`.

mod chroma;
mod columns;
mod constant;
mod lower;
mod opensearch;
mod partial;
mod plan;
mod postgres;
mod qdrant;
mod shape;
mod sql;
mod sqlite;
mod test;
mod translate;
mod tree;
mod value;

pub use chroma::chroma;
pub use columns::{BadName, Column, Columns, Kind};
pub use opensearch::opensearch;
pub use partial::{FilterError, Member, Question, filter};
pub use plan::{Plan, Pushdown, Refused, Strictness, Untranslatable};
pub use qdrant::qdrant;
pub use sql::{Dialect, Sql, SqlValue, sql};
pub use test::{Atom, Check, Relation, What};
pub use tree::{Filter, Tree};
pub use value::{Decimal, Entity, Field, Network, Pattern, Piece, Value};
