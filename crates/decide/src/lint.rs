//! What keeps remedies sound, checked on the policy's own syntax tree (Cedar's JSON policy format).

use bartizan_base::Name;
use bartizan_model::Remedy;
use serde_json::Value;

use crate::remedy::facts;

/// The facts that only the house makes and that may only ever lift a forbid.
const LIFTING: [&str; 2] = ["obligations", "approvals"];

/// `obligations` and `approvals` may stand only positively and only in a forbid's `unless`.
pub(crate) fn facts_stand_soundly(policy: &Value, forbids: bool) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (kind, body) in conditions(policy) {
        let allowed = forbids && kind == "unless";
        for fact in LIFTING {
            if !positive(body, fact, allowed) {
                out.push((
                    format!("`context.{fact}` may stand only as `context.{fact}.contains(\"…\")`, joined by && and ||, in the `unless` of a forbid"),
                    "what lifts a rule must never be what forbids or permits by itself".to_owned(),
                ));
            }
        }
    }
    out
}

/// A remedy must be able to lift its own rule: the rule's `unless` mentions the fact that the remedy makes.
pub(crate) fn remedies_lift(policy: &Value, id: &Name, remedies: &[Remedy]) -> Vec<(String, String)> {
    let clauses: Vec<&Value> =
        conditions(policy).filter(|(kind, _)| *kind == "unless").map(|(_, body)| body).collect();
    let contains = |fact: &str, text: &str| clauses.iter().any(|c| has_contains(c, fact, text));
    let mentions = |attribute: &str| clauses.iter().any(|c| mentions(c, attribute));
    let mut out = Vec::new();
    for remedy in remedies {
        let (lifts, clause) = match remedy {
            Remedy::Oblige(obligation) => {
                let facts = facts(obligation);
                let wanted = facts.last().cloned().unwrap_or_default();
                (
                    facts.iter().any(|f| contains("obligations", f)),
                    format!("context.obligations.contains(\"{wanted}\")"),
                )
            }
            Remedy::StepUp { .. } => (mentions("assurance"), "context.assurance.level >= …".to_owned()),
            Remedy::Justify => (mentions("purpose"), "context has purpose".to_owned()),
            Remedy::Approve { .. } => {
                (contains("approvals", id), format!("context.approvals.contains(\"{id}\")"))
            }
        };
        if !lifts {
            out.push(("its remedy does not lift it".to_owned(), format!("add `unless {{ {clause} }}`")));
        }
    }
    out
}

fn conditions(policy: &Value) -> impl Iterator<Item = (&str, &Value)> {
    policy
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|condition| Some((condition.get("kind")?.as_str()?, condition.get("body")?)))
}

/// Whether `fact` stands in `node` nowhere but as an allowed, positive `contains`.
fn positive(node: &Value, fact: &str, allowed: bool) -> bool {
    for operator in ["&&", "||"] {
        if let Some(sides) = node.get(operator) {
            return ["left", "right"]
                .iter()
                .all(|side| sides.get(side).is_none_or(|s| positive(s, fact, allowed)));
        }
    }
    if let Some(call) = node.get("contains")
        && call.get("left").is_some_and(|left| is_fact(left, fact))
    {
        return allowed && call.pointer("/right/Value").is_some_and(Value::is_string);
    }
    !mentions(node, fact)
}

fn is_fact(node: &Value, fact: &str) -> bool {
    node.pointer("/./left/Var").and_then(Value::as_str) == Some("context")
        && node.pointer("/./attr").and_then(Value::as_str) == Some(fact)
}

/// Whether `context.ATTRIBUTE` or `context has ATTRIBUTE` stands anywhere in `node`. The whole of `context` used as a
/// value counts too, since it carries every attribute.
fn mentions(node: &Value, attribute: &str) -> bool {
    match node {
        Value::Object(members) => {
            for access in [".", "has"] {
                if let Some(inner) = members.get(access)
                    && inner.pointer("/left/Var").and_then(Value::as_str) == Some("context")
                {
                    return inner.get("attr").and_then(Value::as_str) == Some(attribute);
                }
            }
            members.get("Var").and_then(Value::as_str) == Some("context")
                || members.values().any(|v| mentions(v, attribute))
        }
        Value::Array(items) => items.iter().any(|v| mentions(v, attribute)),
        _ => false,
    }
}

fn has_contains(node: &Value, fact: &str, text: &str) -> bool {
    let here = node.get("contains").is_some_and(|call| {
        call.get("left").is_some_and(|left| is_fact(left, fact))
            && call.pointer("/right/Value").and_then(Value::as_str) == Some(text)
    });
    here || match node {
        Value::Object(members) => members.values().any(|v| has_contains(v, fact, text)),
        Value::Array(items) => items.iter().any(|v| has_contains(v, fact, text)),
        _ => false,
    }
}
