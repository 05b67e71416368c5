//! What to do with a filter: ask the store, or every row.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::partial::FilterError;

/// What to do about the parts of a filter that a store cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Refuse to compile: what the store returns are all rows that a full evaluation would permit.
    Exact,
    /// Take them as false: the store returns fewer rows, never others. For callers that say so to theirs.
    Narrower,
}

/// Why a part of a filter cannot be asked of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Untranslatable {
    /// The id of the rule; none where it is all of them together.
    pub rule: Option<Arc<str>>,
    /// The reason, in words. Holds names of attributes and columns, no values.
    pub why: String,
}

impl fmt::Display for Untranslatable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "rule `{rule}`: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// The filter cannot be asked of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter cannot be asked of the store")]
pub struct Refused {
    /// Every part that cannot, sorted, without repetition; never empty.
    pub because: Vec<Untranslatable>,
}

/// A compiled filter.
#[derive(Clone, Debug, PartialEq)]
pub enum Pushdown<Q> {
    /// No row matches; the store need not be asked.
    Never,
    /// What to ask.
    Query {
        /// The query's condition.
        query: Q,
        /// Whether all permitted rows match, and not just some ([`Strictness::Narrower`]).
        complete: bool,
    },
}

/// How to find the rows that a caller may see.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan<Q> {
    /// There are none.
    Never,
    /// Ask the store with `query`; decide again on each row that comes back, on the authoritative attributes. Counts and `k` apply
    /// after the filter.
    Filter {
        /// The query's condition.
        query: Q,
        /// Whether all permitted rows match, and not just some.
        complete: bool,
        /// Rows that come back are decided again. Always so: a store may lag behind the entities.
        recheck: bool,
    },
    /// Ask the store without a filter and decide on each row, at most `bound` of them. No totals.
    CheckEach {
        /// The most rows to decide on.
        bound: NonZeroUsize,
        /// Why there is no filter.
        because: Vec<Untranslatable>,
    },
}

impl<Q> Plan<Q> {
    /// The plan for a filter that was compiled, or refused: then at most `bound` rows are decided on one by one.
    #[must_use]
    pub fn new(compiled: Result<Pushdown<Q>, Refused>, bound: NonZeroUsize) -> Self {
        match compiled {
            Ok(Pushdown::Never) => Self::Never,
            Ok(Pushdown::Query { query, complete }) => Self::Filter { query, complete, recheck: true },
            Err(Refused { because }) => Self::CheckEach { bound, because },
        }
    }

    /// The plan where there is no filter at all: at most `bound` rows are decided on one by one.
    #[must_use]
    pub fn without(error: &FilterError, bound: NonZeroUsize) -> Self {
        Self::CheckEach { bound, because: vec![Untranslatable { rule: None, why: error.to_string() }] }
    }
}
