//! What surely holds of a condition once remedies were applied, whatever else may be the case.
//!
//! Conditions are read in Cedar's JSON policy format and evaluated over what is known: facts that are there, bounds of
//! numbers, texts out of a list. Everything else is unknown, and an operator that is not understood makes its result
//! unknown; so `true` and `false` here are true and false under every context that the remedies lead to.

use std::collections::BTreeSet;

use bartizan_model::Remedy;
use serde_json::Value;

use crate::approval::ApprovalKey;
use crate::remedy::facts;

/// What is known of the context.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    obligations: BTreeSet<String>,
    approvals: BTreeSet<String>,
    level_min: Option<i64>,
    age_max: Option<i64>,
    bindings: Option<BTreeSet<String>>,
    /// Empty: any text.
    purposes: Option<BTreeSet<String>>,
}

/// What is known of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    Bool(bool),
    /// From, to.
    Number(i64, i64),
    /// One of these texts.
    Text(BTreeSet<String>),
    /// A set with at least these members.
    AtLeast(BTreeSet<String>),
    /// A set with exactly these members.
    Exactly(BTreeSet<String>),
    Unknown,
}

impl Given {
    /// What is so after `remedies` of a rule whose approvals are called `approvals`.
    pub(crate) fn after<'a>(
        remedies: impl IntoIterator<Item = &'a Remedy>,
        key: &dyn Fn(&Remedy) -> Option<ApprovalKey>,
    ) -> Self {
        let mut out = Self::default();
        for remedy in remedies {
            match remedy {
                Remedy::Oblige(obligation) => out.obligations.extend(facts(obligation)),
                Remedy::StepUp { level, max_age } => {
                    out.level_min = Some(u8::from(*level).into());
                    out.age_max = max_age.map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
                }
                Remedy::BindDevice { by } => {
                    out.bindings = Some(by.iter().map(|b| b.name().to_owned()).collect());
                }
                Remedy::Justify { purposes } => {
                    out.purposes = Some(purposes.iter().map(|p| p.as_str().to_owned()).collect());
                }
                Remedy::Approve(_) => out.approvals.extend(key(remedy).map(|k| k.to_string())),
            }
        }
        out
    }

    /// Whether a rule with this policy surely does not apply.
    pub(crate) fn lifts(&self, policy: &Value) -> bool {
        conditions(policy).any(|(kind, body)| {
            matches!((kind, self.eval(body)), ("when", Known::Bool(false)) | ("unless", Known::Bool(true)))
        })
    }

    fn eval(&self, node: &Value) -> Known {
        let Some((operator, operands)) = node.as_object().and_then(|o| o.iter().next()) else {
            return Known::Unknown;
        };
        let side = |name: &str| operands.get(name).map_or(Known::Unknown, |n| self.eval(n));
        match operator.as_str() {
            "Value" => literal(operands),
            "Set" => set(operands, self),
            "." => self.attribute(node),
            "has" => match path(node).as_deref() {
                Some(["purpose"]) if self.purposes.is_some() => Known::Bool(true),
                _ => Known::Unknown,
            },
            "!" => match side("arg") {
                Known::Bool(b) => Known::Bool(!b),
                _ => Known::Unknown,
            },
            "&&" => junction(&side("left"), &side("right"), false),
            "||" => junction(&side("left"), &side("right"), true),
            "if-then-else" => match side("if") {
                Known::Bool(true) => side("then"),
                Known::Bool(false) => side("else"),
                _ => {
                    let (then, otherwise) = (side("then"), side("else"));
                    if then == otherwise { then } else { Known::Unknown }
                }
            },
            "==" => equal(&side("left"), &side("right")),
            "!=" => match equal(&side("left"), &side("right")) {
                Known::Bool(b) => Known::Bool(!b),
                _ => Known::Unknown,
            },
            "<" => less(&side("left"), &side("right"), false),
            "<=" => less(&side("left"), &side("right"), true),
            ">" => less(&side("right"), &side("left"), false),
            ">=" => less(&side("right"), &side("left"), true),
            "contains" => contains(&side("left"), &side("right")),
            _ => Known::Unknown,
        }
    }

    fn attribute(&self, node: &Value) -> Known {
        match path(node).as_deref() {
            Some(["obligations"]) => Known::AtLeast(self.obligations.clone()),
            Some(["approvals"]) => Known::AtLeast(self.approvals.clone()),
            Some(["assurance", "level"]) => {
                self.level_min.map_or(Known::Unknown, |from| Known::Number(from, 4))
            }
            Some(["assurance", "age_s"]) => self.age_max.map_or(Known::Unknown, |to| Known::Number(0, to)),
            Some(["binding"]) => self.bindings.clone().map_or(Known::Unknown, Known::Text),
            Some(["purpose"]) => match &self.purposes {
                Some(purposes) if !purposes.is_empty() => Known::Text(purposes.clone()),
                _ => Known::Unknown,
            },
            _ => Known::Unknown,
        }
    }
}

/// The attributes that `context.A.B` or `context has A` goes through.
fn path(node: &Value) -> Option<Vec<&str>> {
    let access = node.get(".").or_else(|| node.get("has"))?;
    let attr = access.get("attr")?;
    let left = access.get("left")?;
    let mut out = if left.get("Var").is_some_and(|v| v == "context") { Vec::new() } else { path(left)? };
    match attr {
        Value::String(name) => out.push(name),
        Value::Array(names) => out.extend(names.iter().filter_map(Value::as_str)),
        _ => return None,
    }
    Some(out)
}

/// The conditions of a policy: `when` or `unless`, and what stands in it.
pub(crate) fn conditions(policy: &Value) -> impl Iterator<Item = (&str, &Value)> {
    policy
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|condition| Some((condition.get("kind")?.as_str()?, condition.get("body")?)))
}

fn literal(value: &Value) -> Known {
    match value {
        Value::Bool(b) => Known::Bool(*b),
        Value::Number(n) => n.as_i64().map_or(Known::Unknown, |n| Known::Number(n, n)),
        Value::String(text) => Known::Text([text.clone()].into()),
        _ => Known::Unknown,
    }
}

fn set(items: &Value, given: &Given) -> Known {
    let texts = items.as_array().into_iter().flatten().map(|item| match given.eval(item) {
        Known::Text(texts) if texts.len() == 1 => texts.into_iter().next(),
        _ => None,
    });
    texts.collect::<Option<BTreeSet<String>>>().map_or(Known::Unknown, Known::Exactly)
}

/// `&&`, or `||` where `settles` is true: one side that settles it is enough.
fn junction(left: &Known, right: &Known, settles: bool) -> Known {
    match (left, right) {
        (Known::Bool(a), _) | (_, Known::Bool(a)) if *a == settles => Known::Bool(settles),
        (Known::Bool(_), Known::Bool(_)) => Known::Bool(!settles),
        _ => Known::Unknown,
    }
}

fn equal(left: &Known, right: &Known) -> Known {
    match (left, right) {
        (Known::Text(a), Known::Text(b)) if a.len() == 1 && a == b => Known::Bool(true),
        (Known::Text(a), Known::Text(b)) if a.is_disjoint(b) => Known::Bool(false),
        (Known::Number(a, b), Known::Number(c, d)) if a == b && c == d => Known::Bool(a == c),
        (Known::Number(a, b), Known::Number(c, d)) if b < c || d < a => Known::Bool(false),
        (Known::Bool(a), Known::Bool(b)) => Known::Bool(a == b),
        _ => Known::Unknown,
    }
}

fn less(left: &Known, right: &Known, or_equal: bool) -> Known {
    let (Known::Number(a, b), Known::Number(c, d)) = (left, right) else { return Known::Unknown };
    let before = |x: &i64, y: &i64| if or_equal { x <= y } else { x < y };
    if before(b, c) {
        Known::Bool(true)
    } else if before(a, d) {
        Known::Unknown
    } else {
        Known::Bool(false)
    }
}

fn contains(set: &Known, member: &Known) -> Known {
    match (set, member) {
        (Known::AtLeast(set) | Known::Exactly(set), Known::Text(texts)) if texts.is_subset(set) => {
            Known::Bool(true)
        }
        (Known::Exactly(set), Known::Text(texts)) if texts.is_disjoint(set) => Known::Bool(false),
        _ => Known::Unknown,
    }
}
