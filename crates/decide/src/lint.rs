//! What keeps remedies sound, checked on the policy's own syntax tree (Cedar's JSON policy format).

use std::collections::BTreeSet;

use bartizan_base::Name;
use bartizan_model::Remedy;
use serde_json::Value;

use crate::approval::ApprovalKey;
use crate::near::did_you_mean;
use crate::remedy::facts;
use crate::surely::{Given, conditions};

/// The facts that only the house makes and that may only ever lift a forbid.
const LIFTING: [&str; 2] = ["obligations", "approvals"];

/// What is wrong, and what would help.
pub(crate) type Finding = (String, String);

/// `obligations` and `approvals` may stand only positively and only in a forbid's `unless`.
pub(crate) fn facts_stand_soundly(policy: &Value, forbids: bool) -> Vec<Finding> {
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

/// A rule looks only for facts that its own remedies make: others would lift it by what was done for another rule, or
/// never.
pub(crate) fn facts_are_its_own(policy: &Value, id: &Name, remedies: &[Remedy]) -> Vec<Finding> {
    let (mut obligations, mut approvals) = (BTreeSet::new(), BTreeSet::new());
    for (_, body) in conditions(policy) {
        looked_for(body, "obligations", &mut obligations);
        looked_for(body, "approvals", &mut approvals);
    }
    let made: BTreeSet<String> =
        remedies.iter().flat_map(|r| if let Remedy::Oblige(o) = r { facts(o) } else { Vec::new() }).collect();
    let mut out = Vec::new();
    for fact in obligations.difference(&made) {
        let help = did_you_mean(fact, made.iter().map(String::as_str)).unwrap_or_else(|| {
            if made.is_empty() {
                "give it a remedy that makes the fact, such as @remedy(\"redact(pii)\")".to_owned()
            } else {
                format!("its remedies make {}", made.iter().cloned().collect::<Vec<_>>().join(", "))
            }
        });
        out.push((format!("no remedy of its own makes the obligation `{fact}`"), help));
    }
    let asks = remedies.iter().any(|r| matches!(r, Remedy::Approve(_)));
    for fact in &approvals {
        if !asks {
            let help = "give it a remedy, such as @remedy(\"approve(2, use_within: 30m)\")".to_owned();
            out.push(("nobody is asked to approve it, so its remedy does not lift it".to_owned(), help));
        } else if fact != id.as_str() {
            let help = format!("write `context.approvals.contains(\"{id}\")`");
            out.push((
                format!("an approval of `{fact}` does not lift it: each rule is approved by itself"),
                help,
            ));
        }
    }
    out
}

/// Its remedies together must surely lift the rule, whatever else is the case; and each of them must be needed for that.
pub(crate) fn remedies_lift(
    policy: &Value,
    remedies: &[Remedy],
    key: &dyn Fn(&Remedy) -> Option<ApprovalKey>,
) -> Vec<Finding> {
    if remedies.is_empty() {
        return Vec::new();
    }
    let mut out = Vec::new();
    if !Given::after(remedies, key).lifts(policy) {
        let wanted: Vec<String> = remedies.iter().map(wanted).collect();
        let all = if remedies.len() == 1 {
            "its remedy does not lift it"
        } else {
            "its remedies together do not lift it"
        };
        out.push((
            format!("{all} in every case"),
            format!("let `unless` be true as soon as they are applied: unless {{ {} }}; other conditions belong in `when`", wanted.join(" && ")),
        ));
        return out;
    }
    for (at, remedy) in remedies.iter().enumerate() {
        let others = remedies.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, r)| r);
        if remedies.len() > 1 && Given::after(others, key).lifts(policy) {
            out.push((
                format!("its remedy `{remedy}` is not needed: the others lift it without"),
                format!("`;` joins remedies that are all needed: add `&& {}` to the `unless`, or leave the remedy out", wanted(remedy)),
            ));
        }
    }
    out
}

/// What a condition says that a remedy lifts.
fn wanted(remedy: &Remedy) -> String {
    match remedy {
        Remedy::Oblige(obligation) => {
            format!(
                "context.obligations.contains(\"{}\")",
                facts(obligation).last().cloned().unwrap_or_default()
            )
        }
        Remedy::StepUp { level, max_age } => {
            let age = max_age.map(|age| format!(" && context.assurance.age_s <= {}", age.as_secs()));
            format!("context.assurance.level >= {}{}", u8::from(*level), age.unwrap_or_default())
        }
        Remedy::BindDevice { by } => match by.first() {
            Some(only) if by.len() == 1 => format!("context.binding == \"{}\"", only.name()),
            _ => "context.binding != \"none\"".to_owned(),
        },
        Remedy::Justify { purposes } if purposes.is_empty() => "context has purpose".to_owned(),
        Remedy::Justify { purposes } => {
            let all: Vec<String> = purposes.iter().map(|p| format!("\"{}\"", p.as_str())).collect();
            format!("context has purpose && [{}].contains(context.purpose)", all.join(", "))
        }
        Remedy::Approve(_) => "context.approvals.contains(\"ID OF THE RULE\")".to_owned(),
    }
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
                    // `has a.b` names a path.
                    let name = inner.get("attr").map(|attr| attr.get(0).unwrap_or(attr));
                    return name.and_then(Value::as_str) == Some(attribute);
                }
            }
            members.get("Var").and_then(Value::as_str) == Some("context")
                || members.values().any(|v| mentions(v, attribute))
        }
        Value::Array(items) => items.iter().any(|v| mentions(v, attribute)),
        _ => false,
    }
}

/// Collects what `node` looks for in a fact.
fn looked_for(node: &Value, fact: &str, out: &mut BTreeSet<String>) {
    if let Some(call) = node.get("contains")
        && call.get("left").is_some_and(|left| is_fact(left, fact))
    {
        out.extend(call.pointer("/right/Value").and_then(Value::as_str).map(str::to_owned));
    }
    match node {
        Value::Object(members) => members.values().for_each(|v| looked_for(v, fact, out)),
        Value::Array(items) => items.iter().for_each(|v| looked_for(v, fact, out)),
        _ => {}
    }
}

/// Puts the key of a rule's clause where the rule's id stands as the name of an approval. Says whether it stood anywhere.
pub(crate) fn put_keys(node: &mut Value, id: &Name, key: &ApprovalKey) -> bool {
    let mut put = false;
    if let Some(call) = node.get_mut("contains")
        && call.get("left").is_some_and(|left| is_fact(left, "approvals"))
        && let Some(text) = call.pointer_mut("/right/Value").filter(|v| v.as_str() == Some(id.as_str()))
    {
        *text = Value::String(key.to_string());
        put = true;
    }
    match node {
        Value::Object(members) => members.values_mut().for_each(|v| put |= put_keys(v, id, key)),
        Value::Array(items) => items.iter_mut().for_each(|v| put |= put_keys(v, id, key)),
        _ => {}
    }
    put
}
