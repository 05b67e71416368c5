//! What prover and worker say to each other: one line of JSON each, the task first.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cedar_policy::{Policy, PolicyId, PolicySet, Schema, SchemaFragment};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Why;
use crate::meaning::World;
use crate::question::Question;

/// Rules by id, as Cedar.
pub(crate) type Rules = Vec<(String, String)>;

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
    NothingNew(Pair),
    Equivalent(Pair),
    NeverPermits { rules: Rules, invariants: Rules },
    NeverErrs { rules: Rules },
}

/// Two sets of rules; most of them are usually the same.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    both: Rules,
    old: Rules,
    new: Rules,
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
            Question::NothingNew { old, new } => Self::NothingNew(Pair::of(old, new)?),
            Question::Equivalent { old, new } => Self::Equivalent(Pair::of(old, new)?),
            Question::NeverPermits { rules: set, invariants } => {
                Self::NeverPermits { rules: rules(set)?, invariants: rules(invariants)? }
            }
            Question::NeverErrs { rules: set } => Self::NeverErrs { rules: rules(set)? },
        })
    }

    pub(crate) fn question(self) -> Option<Question> {
        Some(match self {
            Self::NothingNew(pair) => {
                let (old, new) = pair.sets()?;
                Question::NothingNew { old, new }
            }
            Self::Equivalent(pair) => {
                let (old, new) = pair.sets()?;
                Question::Equivalent { old, new }
            }
            Self::NeverPermits { rules, invariants } => {
                Question::NeverPermits { rules: set(read(rules)?)?, invariants: set(read(invariants)?)? }
            }
            Self::NeverErrs { rules } => Question::NeverErrs { rules: set(read(rules)?)? },
        })
    }
}

/// A linked rule becomes the static one it stands for.
fn rules(set: &PolicySet) -> Option<Rules> {
    let text = |policy: &Policy| match policy.to_cedar() {
        Some(text) => Some(text),
        None => Policy::from_json(None, policy.to_json().ok()?).ok()?.to_cedar(),
    };
    set.policies().map(|policy| Some((policy.id().to_string(), text(policy)?))).collect()
}

impl Pair {
    fn of(old: &PolicySet, new: &PolicySet) -> Option<Self> {
        let (mut before, after) = (rules(old)?, rules(new)?);
        let said: BTreeSet<&(String, String)> = before.iter().collect();
        let (both, new): (Rules, Rules) = after.into_iter().partition(|rule| said.contains(rule));
        let shared: BTreeSet<&(String, String)> = both.iter().collect();
        before.retain(|rule| !shared.contains(rule));
        Some(Self { both, old: before, new })
    }

    fn sets(self) -> Option<(PolicySet, PolicySet)> {
        let both = read(self.both)?;
        let with = |more: Rules| set(both.iter().cloned().chain(read(more)?));
        Some((with(self.old)?, with(self.new)?))
    }
}

fn read(rules: Rules) -> Option<Vec<Policy>> {
    rules.into_iter().map(|(id, text)| Policy::parse(Some(PolicyId::new(id)), text).ok()).collect()
}

fn set(policies: impl IntoIterator<Item = Policy>) -> Option<PolicySet> {
    PolicySet::from_policies(policies).ok()
}

pub(crate) fn schema(fragments: Vec<Value>) -> Option<Schema> {
    let fragments = fragments.into_iter().map(|json| SchemaFragment::from_json_value(json).ok());
    Schema::from_schema_fragments(fragments.collect::<Option<Vec<_>>>()?).ok()
}
