//! What prover and worker say to each other: one line of JSON each, the task first.

use std::path::PathBuf;

use cedar_policy::{Policy, PolicyId, PolicySet, Schema, SchemaFragment};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Why;
use crate::meaning::World;
use crate::question::Question;

/// Rules by id, in Cedar's JSON policy format.
pub(crate) type Rules = Vec<(String, Value)>;

/// Everything the worker needs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Task {
    pub(crate) fragments: Vec<Value>,
    pub(crate) asked: Asked,
    pub(crate) solver: PathBuf,
    pub(crate) query_ms: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) stack_bytes: usize,
    pub(crate) slice_rules_max: usize,
}

/// A question as data.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Asked {
    NothingNew { old: Rules, new: Rules },
    Equivalent { old: Rules, new: Rules },
    NeverPermits { rules: Rules, invariants: Rules },
    NeverErrs { rules: Rules },
}

/// What the worker tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Message {
    /// The solver answers, and answers rightly what is known.
    Ready { version: String },
    /// The solver cannot be used.
    Unusable { detail: String },
    /// One subject is done.
    Found { about: String, found: Found, environments: Vec<[String; 3]>, queries: u64 },
    /// All are done.
    Done,
}

/// What was found about one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Found {
    Proven,
    Refuted(Box<World>),
    NotProven(Why, String),
}

impl Asked {
    pub(crate) fn of(question: &Question) -> Option<Self> {
        Some(match question {
            Question::NothingNew { old, new } => Self::NothingNew { old: rules(old)?, new: rules(new)? },
            Question::Equivalent { old, new } => Self::Equivalent { old: rules(old)?, new: rules(new)? },
            Question::NeverPermits { rules: set, invariants } => {
                Self::NeverPermits { rules: rules(set)?, invariants: rules(invariants)? }
            }
            Question::NeverErrs { rules: set } => Self::NeverErrs { rules: rules(set)? },
        })
    }

    pub(crate) fn question(self) -> Option<Question> {
        Some(match self {
            Self::NothingNew { old, new } => Question::NothingNew { old: set(old)?, new: set(new)? },
            Self::Equivalent { old, new } => Question::Equivalent { old: set(old)?, new: set(new)? },
            Self::NeverPermits { rules, invariants } => {
                Question::NeverPermits { rules: set(rules)?, invariants: set(invariants)? }
            }
            Self::NeverErrs { rules } => Question::NeverErrs { rules: set(rules)? },
        })
    }
}

/// A linked rule becomes the static one it stands for.
fn rules(set: &PolicySet) -> Option<Rules> {
    set.policies().map(|policy| Some((policy.id().to_string(), policy.to_json().ok()?))).collect()
}

fn set(rules: Rules) -> Option<PolicySet> {
    let policies = rules.into_iter().map(|(id, est)| Policy::from_json(Some(PolicyId::new(id)), est).ok());
    PolicySet::from_policies(policies.collect::<Option<Vec<_>>>()?).ok()
}

pub(crate) fn schema(fragments: Vec<Value>) -> Option<Schema> {
    let fragments = fragments.into_iter().map(|json| SchemaFragment::from_json_value(json).ok());
    Schema::from_schema_fragments(fragments.collect::<Option<Vec<_>>>()?).ok()
}
