//! A decision as a tree: for each member of the chain the rules that were looked at, each with its conditions as they
//! turned out and the values they saw. Made only when somebody asks; deciding does none of this.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr as _;

use bartizan_base::Name;
use bartizan_model::ReasonCode;
use cedar_policy::{
    Authorizer, Entities, EntityUid, EvalResult, Expression, Policy, PolicySet, Request, eval_expression,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::bundle::Rule;
use crate::surely::conditions;

/// What stands in place of a value that the reader may not see.
const HIDDEN: &str = "(hidden)";
/// What of the context tells about a person rather than about the ask.
const PERSONAL: [&str; 6] = [
    "context.arguments",
    "context.network",
    "context.purpose",
    "context.session.purpose",
    "context.device.id",
    "context.grant.id",
];

/// What a reader of an explanation may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// Rules: their texts, conditions and near misses. The right to read policy.
    pub rules: bool,
    /// Personal values: addresses, purposes, names of others. The right to read content.
    pub personal: bool,
}

impl Reader {
    /// Sees verdict, reasons and remedies, as callers do.
    pub const CALLER: Self = Self { rules: false, personal: false };
    /// Sees everything.
    pub const ALL: Self = Self { rules: true, personal: true };
}

/// What was looked at for one member of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MemberStory {
    /// The member's place: `subject` or `actor`.
    pub role: String,
    /// Who, as policies name it.
    pub member: String,
    /// The rules whose scope matches, in the order of the bundle.
    pub rules: Vec<RuleStory>,
}

/// One rule and how it turned out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RuleStory {
    /// Its id.
    #[schemars(with = "String")]
    pub id: Name,
    /// How it turned out.
    pub outcome: RuleOutcome,
    /// For a forbid: the reason it gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub reason: Option<ReasonCode>,
    /// What would lift it, in canonical form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<String>,
    /// What its author says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its conditions, as far as `&&` parts them.
    pub clauses: Vec<Clause>,
}

/// How a rule turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleOutcome {
    /// It forbade.
    Forbade,
    /// It permitted.
    Permitted,
    /// A permit whose scope matched and whose condition did not hold.
    Near,
    /// It could not be evaluated.
    Erred,
}

impl fmt::Display for RuleOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forbade => "forbids",
            Self::Permitted => "permits",
            Self::Near => "would permit",
            Self::Erred => "could not be evaluated",
        })
    }
}

/// A part of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Clause {
    /// `when` or `unless`.
    pub kind: String,
    /// As it is written.
    pub text: String,
    /// Whether it holds; absent when it could not be evaluated.
    pub holds: Option<bool>,
    /// What it saw.
    pub values: Vec<Seen>,
}

impl Clause {
    /// Whether this is why a permit did not permit.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.holds != Some(self.kind == "when")
    }
}

/// A value that a condition saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Seen {
    /// Of what, such as `context.assurance.level`.
    pub of: String,
    /// The value; `(absent)` if there was none, `(hidden)` if the reader may not see it.
    pub value: String,
}

/// The facts of one evaluation, to be looked at again.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
    pub(crate) principal: EntityUid,
}

impl Scene {
    pub(crate) fn rule(&self, rule: &Rule, outcome: RuleOutcome, reader: Reader) -> RuleStory {
        let annotation = |name: &str| rule.policy.annotation(name).map(str::to_owned);
        let json = rule.policy.to_json().unwrap_or(Value::Null);
        let mut clauses = Vec::new();
        for (kind, body) in conditions(&json) {
            for part in conjuncts(body) {
                clauses.push(self.clause(kind, part, rule, reader));
            }
        }
        RuleStory {
            id: rule.id.clone(),
            outcome,
            reason: rule.forbids.then(|| rule.reason.clone()),
            remedies: rule.remedies.iter().map(ToString::to_string).collect(),
            description: annotation("description"),
            owner: annotation("owner"),
            clauses,
        }
    }

    fn clause(&self, kind: &str, body: &Value, rule: &Rule, reader: Reader) -> Clause {
        let alone = alone(body);
        let mut text = compared(body).or_else(|| alone.as_ref().and_then(text_of)).unwrap_or_default();
        if let Some(key) = &rule.approval {
            // As it is written: the key is ours.
            text = text.replace(key.as_str(), &rule.id);
        }
        let mut paths = BTreeSet::new();
        looked_at(body, &mut paths);
        let values = paths.into_iter().map(|of| Seen { value: self.value(&of, reader), of }).collect();
        Clause { kind: kind.to_owned(), text, holds: alone.and_then(|policy| self.satisfied(policy)), values }
    }

    /// Whether a policy is satisfied; nothing where it errs.
    fn satisfied(&self, policy: Policy) -> Option<bool> {
        let set = PolicySet::from_policies([policy]).ok()?;
        let response = Authorizer::new().is_authorized(&self.request, &set, &self.entities);
        let erred = response.diagnostics().errors().next().is_some();
        (!erred).then(|| response.decision() == cedar_policy::Decision::Allow)
    }

    fn value(&self, of: &str, reader: Reader) -> String {
        let personal = PERSONAL
            .iter()
            .any(|p| of.strip_prefix(p).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
        let value = Expression::from_str(of)
            .ok()
            .and_then(|e| eval_expression(&self.request, &self.entities, &e).ok());
        match value {
            None => "(absent)".to_owned(),
            Some(_) if personal && !reader.personal => HIDDEN.to_owned(),
            Some(value) => self.shown(&value, reader),
        }
    }

    fn shown(&self, value: &EvalResult, reader: Reader) -> String {
        match value {
            EvalResult::EntityUid(uid) if self.is_somebody_else(uid) && !reader.personal => HIDDEN.to_owned(),
            EvalResult::Set(set) => {
                let all: Vec<String> = set.iter().map(|item| self.shown(item, reader)).collect();
                format!("[{}]", all.join(", "))
            }
            // A record is shown by the paths that lead into it.
            EvalResult::Record(_) => "{…}".to_owned(),
            other => other.to_string(),
        }
    }

    fn is_somebody_else(&self, uid: &EntityUid) -> bool {
        let kind = uid.type_name().to_string();
        matches!(kind.as_str(), "User" | "Agent" | "Workload") && *uid != self.principal
    }

    /// Whether a permit would permit this if its scope asked for nothing of the principal.
    pub(crate) fn lacks_only_membership(&self, rule: &Rule) -> bool {
        let Ok(mut json) = rule.policy.to_json() else { return false };
        let Some(principal) = json.get_mut("principal") else { return false };
        *principal = json!({"op": "All"});
        let open = Policy::from_json(None, json).ok();
        open.and_then(|policy| self.satisfied(policy)) == Some(true)
    }
}

/// The parts of a condition that `&&` joins.
fn conjuncts(body: &Value) -> Vec<&Value> {
    match body.get("&&").map(|sides| (sides.get("left"), sides.get("right"))) {
        Some((Some(left), Some(right))) => {
            let mut out = conjuncts(left);
            out.extend(conjuncts(right));
            out
        }
        _ => vec![body],
    }
}

/// A policy of one condition.
fn alone(body: &Value) -> Option<Policy> {
    let all = json!({"op": "All"});
    let policy = json!({
        "effect": "permit", "principal": all, "action": all, "resource": all,
        "conditions": [{"kind": "when", "body": body}],
    });
    Policy::from_json(None, policy).ok()
}

/// The condition of a policy of one, as it is written.
fn text_of(policy: &Policy) -> Option<String> {
    let text = policy.to_cedar()?;
    let (_, rest) = text.split_once("when")?;
    let inside = rest.trim().trim_end_matches(';').trim().strip_prefix('{')?.strip_suffix('}')?;
    Some(inside.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// `A >= B` as people write it: the engine tells it as `!(A < B)`.
fn compared(body: &Value) -> Option<String> {
    let inner = body.get("!").and_then(|not| not.get("arg"));
    [("<", ">="), ("<=", ">"), ("==", "!=")].into_iter().find_map(|(kept, written)| {
        let sides = body.get(written).or_else(|| inner?.get(kept))?;
        let text = text_of(&alone(&json!({ kept: sides }))?)?;
        let (left, right) = text.split_once(&format!(" {kept} "))?;
        // One comparison alone: where there are more, which one is meant is not plain.
        (!right.contains(&format!(" {kept} "))).then(|| format!("{left} {written} {right}"))
    })
}

/// Collects the attributes that an expression looks at, by their longest paths.
fn looked_at(node: &Value, out: &mut BTreeSet<String>) {
    match node {
        Value::Object(members) => {
            for (operator, operands) in members {
                if matches!(operator.as_str(), "." | "has")
                    && let Some(path) = path(operands)
                {
                    out.insert(path);
                    continue;
                }
                looked_at(operands, out);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| looked_at(item, out)),
        _ => {}
    }
}

/// `context.A.B` of the operands of `.` or `has`.
fn path(operands: &Value) -> Option<String> {
    let attr = operands.get("attr")?;
    let names: Vec<&str> = match attr {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    let plain = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let left = operands.get("left")?;
    let root = match left.get("Var").and_then(Value::as_str) {
        Some(var) => var.to_owned(),
        None => path(left.get(".")?)?,
    };
    names.iter().all(plain).then(|| format!("{root}.{}", names.join(".")))
}
