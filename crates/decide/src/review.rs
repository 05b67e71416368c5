//! What is worth a second look in a bundle that is valid: rules that others cover, rules that could err, and how many
//! apply to everything.

use std::collections::{BTreeMap, HashMap};

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};
use serde::Deserialize;
use serde_json::Value;

use crate::compile::Placed;
use crate::diagnostic::BundleError;

/// Rules compared with one rule at most.
const COMPARED_MAX: usize = 256;

/// How many rules may name neither a principal nor a resource: `[lints]` of `bundle.toml`. Each of them is evaluated for
/// every ask of its actions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bounds {
    /// In the whole bundle.
    unscoped: usize,
    /// For one action.
    unscoped_per_action: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { unscoped: 1_000, unscoped_per_action: 500 }
    }
}

/// Where a rule applies, as far as its scope says.
struct Reach {
    principal: Place,
    resource: Place,
    actions: Option<Vec<EntityUid>>,
    unconditional: bool,
}

/// A side of a scope.
#[derive(Clone)]
struct Place {
    kind: Option<EntityTypeName>,
    exactly: bool,
    anchor: Option<EntityUid>,
}

impl Place {
    fn any() -> Self {
        Self { kind: None, exactly: false, anchor: None }
    }

    fn of_kind(kind: EntityTypeName) -> Self {
        Self { kind: Some(kind), ..Self::any() }
    }

    fn within(kind: Option<EntityTypeName>, anchor: EntityUid) -> Self {
        Self { kind, exactly: false, anchor: Some(anchor) }
    }

    fn only(anchor: EntityUid) -> Self {
        Self { kind: Some(anchor.type_name().clone()), exactly: true, anchor: Some(anchor) }
    }

    /// Whether everything that is at `other` is here, whatever the entities are.
    fn covers(&self, other: &Self) -> bool {
        let kind = self.kind.is_none() || self.kind == other.kind;
        match &self.anchor {
            None => kind,
            anchor if *anchor != other.anchor => false,
            _ => kind && (!self.exactly || other.exactly),
        }
    }
}

impl Reach {
    fn of(policy: &Policy) -> Self {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Place::any(),
            PrincipalConstraint::In(uid) => Place::within(None, uid),
            PrincipalConstraint::Eq(uid) => Place::only(uid),
            PrincipalConstraint::Is(kind) => Place::of_kind(kind),
            PrincipalConstraint::IsIn(kind, uid) => Place::within(Some(kind), uid),
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Place::any(),
            ResourceConstraint::In(uid) => Place::within(None, uid),
            ResourceConstraint::Eq(uid) => Place::only(uid),
            ResourceConstraint::Is(kind) => Place::of_kind(kind),
            ResourceConstraint::IsIn(kind, uid) => Place::within(Some(kind), uid),
        };
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(uid) => Some(vec![uid]),
            ActionConstraint::In(uids) => Some(uids),
        };
        Self { principal, resource, actions, unconditional: !policy.has_non_scope_constraint() }
    }

    fn covers(&self, other: &Self, groups: &HashMap<EntityUid, Vec<EntityUid>>) -> bool {
        let actions = match (&self.actions, &other.actions) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => theirs.iter().all(|action| {
                mine.contains(action)
                    || groups.get(action).is_some_and(|all| all.iter().any(|group| mine.contains(group)))
            }),
        };
        actions && self.principal.covers(&other.principal) && self.resource.covers(&other.resource)
    }
}

/// Refuses more rules without principal and resource than the bundle allows itself.
pub(crate) fn unscoped(placed: &[Placed<'_>], bounds: &Bounds) -> Vec<BundleError> {
    let mut per_action: BTreeMap<Option<String>, usize> = BTreeMap::new();
    let mut all = 0;
    for one in placed {
        let reach = Reach::of(&one.rule.policy);
        if reach.principal.anchor.is_none() && reach.resource.anchor.is_none() {
            all += 1;
            match reach.actions {
                None => *per_action.entry(None).or_default() += 1,
                Some(actions) => actions
                    .iter()
                    .for_each(|a| *per_action.entry(Some(a.id().unescaped().to_owned())).or_default() += 1),
            }
        }
    }
    let mut out = Vec::new();
    let help =
        "name a role, group or resource in their scopes, or raise the bound under [lints] in `bundle.toml`";
    if all > bounds.unscoped {
        let message = format!(
            "{all} rules name neither a principal nor a resource; `lints.unscoped` allows {}",
            bounds.unscoped
        );
        out.push(BundleError::of("", message).help(help));
    }
    for (action, count) in per_action.into_iter().filter(|(_, n)| *n > bounds.unscoped_per_action) {
        let action = action.map_or_else(|| "every action".to_owned(), |a| format!("`{a}`"));
        let allowed = bounds.unscoped_per_action;
        let message = format!(
            "{count} rules for {action} name neither a principal nor a resource; `lints.unscoped_per_action` allows {allowed}"
        );
        out.push(BundleError::of("", message).help(help));
    }
    out
}

/// Rules that another covers, and rules that could err.
pub(crate) fn warnings(
    placed: &[Placed<'_>],
    groups: &HashMap<EntityUid, Vec<EntityUid>>,
) -> Vec<BundleError> {
    let reaches: Vec<Reach> = placed.iter().map(|one| Reach::of(&one.rule.policy)).collect();
    // Only what names the same or nothing can cover, so rules are looked up by what they name.
    let mut plain: HashMap<(Option<&EntityUid>, Option<&EntityUid>), Vec<usize>> = HashMap::new();
    for (at, reach) in reaches.iter().enumerate().filter(|(_, reach)| reach.unconditional) {
        let named = (reach.principal.anchor.as_ref(), reach.resource.anchor.as_ref());
        plain.entry(named).or_default().push(at);
    }
    let mut out = Vec::new();
    for (at, (one, reach)) in placed.iter().zip(&reaches).enumerate() {
        let (principal, resource) = (reach.principal.anchor.as_ref(), reach.resource.anchor.as_ref());
        let keys: std::collections::BTreeSet<_> =
            [(principal, resource), (None, resource), (principal, None), (None, None)].into();
        let others = keys.into_iter().filter_map(|key| plain.get(&key)).flatten().take(COMPARED_MAX);
        let mut covering: Vec<usize> = others
            .copied()
            .filter(|other| {
                *other != at
                    && reaches.get(*other).is_some_and(|wide| {
                        // Of two that cover each other the later is the one too many.
                        let same = reach.unconditional && reach.covers(wide, groups) && *other > at;
                        wide.covers(reach, groups) && !same
                    })
            })
            .collect();
        covering.sort_unstable();
        let by = |forbids: bool| {
            let found = covering.iter().filter_map(|other| placed.get(*other));
            found.filter(move |other| other.rule.forbids == forbids).map(|other| other.rule.id.clone()).next()
        };
        let told = match (one.rule.forbids, by(true), by(false)) {
            (false, Some(by), _) => Some(format!("never permits anything: `{by}` forbids all of it")),
            (false, None, Some(by)) => Some(format!("is not needed: `{by}` permits all of it")),
            (true, Some(by), _) => Some(format!("is not needed: `{by}` forbids all of it")),
            (true, None, _) | (false, None, None) => None,
        };
        if let Some(told) = told {
            out.push(one.about(&one.rule.id, &told).help("leave it out, or change the other"));
        }
        if let Some(how) = one.rule.can_err {
            let message = format!("could err, and an error denies every ask that the rule applies to: {how}");
            out.push(
                one.about(&one.rule.id, &message).help("compare without computing, and ask `has` first"),
            );
        }
    }
    out
}

/// How the evaluation of a valid rule could err: numbers are bounded, and what an attribute points to may not exist.
pub(crate) fn can_err(node: &Value) -> Option<&'static str> {
    match node {
        Value::Object(members) => {
            for (operator, operands) in members {
                if matches!(operator.as_str(), "+" | "-" | "*" | "neg") && !is_constant(operands) {
                    return Some("a sum, difference or product may leave the range of numbers");
                }
                if matches!(operator.as_str(), "offset" | "durationSince") {
                    return Some("a moment may leave the range of time");
                }
                if operator == "." && operands.get("left").is_some_and(is_pointed_to) {
                    return Some("what an attribute points to may be gone");
                }
            }
            members.values().find_map(can_err)
        }
        Value::Array(items) => items.iter().find_map(can_err),
        _ => None,
    }
}

/// `principal.A` or `resource.A`, or an entity that is named.
fn is_pointed_to(node: &Value) -> bool {
    let var = node.pointer("/./left/Var").and_then(Value::as_str);
    matches!(var, Some("principal" | "resource")) || node.pointer("/Value/__entity").is_some()
}

fn is_constant(operands: &Value) -> bool {
    operands.as_object().is_some_and(|sides| sides.values().all(|side| side.get("Value").is_some()))
}
