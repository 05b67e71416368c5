//! What is told of one member: the rules that were looked at, and the memberships that permits ask for.

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, EntityUid, PrincipalConstraint};

use crate::bundle::{CompiledBundle, Rule};
use crate::evaluate::{Evaluation, Triple};
use crate::explain::Change;
use crate::story::{Reader, RuleOutcome, RuleStory, Scene};

/// Permits whose scope names another principal that are tried for what would change a verdict.
const TRIED_MAX: usize = 1_000;
/// Memberships that are told.
const TOLD_MAX: usize = 16;

/// Rules in the order of the bundle, lacking memberships, and whether more may lack.
pub(crate) fn tell_member(
    bundle: &CompiledBundle,
    triple: &Triple,
    found: &Evaluation,
    scene: &Scene,
    reader: Reader,
) -> (Vec<RuleStory>, Vec<Change>, bool) {
    let mut places: Vec<(usize, RuleOutcome)> = Vec::new();
    places.extend(found.forbids.iter().map(|at| (*at, RuleOutcome::Forbade)));
    places.extend(found.permits.iter().map(|at| (*at, RuleOutcome::Permitted)));
    // Where a rule forbids, the evaluation does not say which permits held; the story is told without them.
    if found.forbids.is_empty() {
        places.extend(found.near.iter().map(|at| (*at, RuleOutcome::Near)));
    }
    let erred = bundle.rules.iter().enumerate().filter(|(_, rule)| found.erred.contains(&rule.id));
    places.extend(erred.map(|(at, _)| (at, RuleOutcome::Erred)));
    places.sort_unstable();
    places.dedup_by_key(|(at, _)| *at);
    let rules = places
        .iter()
        .filter_map(|(at, outcome)| Some(scene.rule(bundle.rules.get(*at)?, *outcome, reader)))
        .collect();
    let (lacking, more) = lacking(bundle, triple, found, scene);
    (rules, lacking, more)
}

fn lacking(
    bundle: &CompiledBundle,
    triple: &Triple,
    found: &Evaluation,
    scene: &Scene,
) -> (Vec<Change>, bool) {
    if !found.permits.is_empty() || !found.forbids.is_empty() || !found.constitution.is_empty() {
        return (Vec::new(), false);
    }
    let known: BTreeSet<usize> = found.near.iter().copied().collect();
    let others = bundle.rules.iter().enumerate().filter(|(at, rule)| !rule.forbids && !known.contains(at));
    let mut named = others
        .filter_map(|(_, rule)| Some((rule, group_of(rule)?)))
        .filter(|(rule, _)| acts(bundle, triple, rule));
    let mut out: Vec<Change> = Vec::new();
    let tried: Vec<_> = named.by_ref().take(TRIED_MAX).collect();
    let mut more = named.next().is_some();
    for (rule, of) in tried {
        if !scene.lacks_only_membership(rule) {
            continue;
        }
        if out.len() == TOLD_MAX {
            more = true;
            break;
        }
        out.push(Change::Membership { rule: rule.id.clone(), member: triple.principal.to_string(), of });
    }
    (out, more)
}

/// The role or group that a rule's scope asks for. Other people's names are no way forward.
fn group_of(rule: &Rule) -> Option<String> {
    match rule.policy.principal_constraint() {
        PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => Some(uid.to_string()),
        PrincipalConstraint::Any | PrincipalConstraint::Eq(_) | PrincipalConstraint::Is(_) => None,
    }
}

fn acts(bundle: &CompiledBundle, triple: &Triple, rule: &Rule) -> bool {
    let groups = bundle.action_groups.get(&triple.action);
    let fits = |uid: &EntityUid| *uid == triple.action || groups.is_some_and(|all| all.contains(uid));
    match rule.policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => fits(&uid),
        ActionConstraint::In(uids) => uids.iter().any(fits),
    }
}
