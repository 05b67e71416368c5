//! The same evaluation by the engine's public interface: over every rule it is what the index is compared with, over the rules
//! that the index picked it is what is left if the inner evaluator may not be used.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::sync::LazyLock;

use bartizan_base::{Digest, Name};
use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Entity, Policy, PolicyId, PolicySet,
    Request, Response,
};

use crate::bundle::{CompiledBundle, Rule};
use crate::entities::{Node, View};
use crate::evaluate::{Evaluation, Triple};
use crate::index::{Entry, Index, Probe};
use crate::inner::{self, Reads};
use crate::needs::Needs;

/// One ask over a bundle and the entities that it reaches.
pub(crate) struct Ask<'a> {
    pub(crate) bundle: &'a CompiledBundle,
    pub(crate) view: &'a View<'a>,
    pub(crate) triple: &'a Triple,
    /// Principal and resource.
    pub(crate) roots: [&'a Node; 2],
}

/// The rules whose scope matches.
pub(crate) struct Picked<'a> {
    /// By their places in the bundle.
    pub(crate) rules: Vec<(usize, &'a Entry)>,
    pub(crate) constitution: Vec<(usize, &'a Entry)>,
    /// What they can look at.
    pub(crate) needs: Needs,
    pub(crate) reads: Reads,
}

impl<'a> Picked<'a> {
    pub(crate) fn new(index: &'a Index, probe: &Probe<'_>, rules: Vec<(usize, &'a Entry)>) -> Self {
        let constitution: Vec<_> = index.constitution(probe).collect();
        let all = || rules.iter().chain(&constitution).map(|(_, entry)| entry);
        let needs = all().map(|entry| entry.needs).fold(Needs::default(), Needs::and);
        let reads = all().map(|entry| entry.condition.reads).fold(Reads::default(), Reads::and);
        Self { rules, constitution, needs, reads }
    }
}

impl Ask<'_> {
    /// The digest of the entities in reach: over their digests, sorted.
    pub(crate) fn slice(&self) -> Digest {
        let reach = self.view.reach(self.roots);
        let mut digests: Vec<[u8; 32]> = reach.map(|node| *node.digest.as_bytes()).collect();
        digests.sort_unstable();
        Digest::of(digests.as_flattened())
    }

    /// Evaluates every rule on a validated request.
    pub(crate) fn all(
        &self,
        index: Option<(&Index, &Probe<'_>)>,
        context: &Context,
        mut out: Evaluation,
    ) -> Option<Evaluation> {
        let Triple { principal, action, resource } = self.triple.clone();
        let schema = Some(&self.bundle.schema);
        let Ok(request) = Request::new(principal, action, resource, context.clone(), schema) else {
            return Some(out.unaskable());
        };
        let entities = self.entities()?;
        let constitution = set_of(&mut self.bundle.constitution.iter().map(|rule| &**rule))?;
        if forbidden(&request, constitution, &entities, &mut out)? {
            return Some(out);
        }
        let rules: Vec<&Rule> = self.bundle.rules.iter().map(|rule| &**rule).collect();
        let satisfied = decided(&request, &rules, &entities, &mut out)?;
        for (at, rule) in self.bundle.rules.iter().enumerate() {
            let matches = || {
                let entry =
                    index.and_then(|(index, probe)| Some((index.entry(u32::try_from(at).ok()?)?, probe)));
                entry.is_none_or(|(entry, probe)| entry.matches(probe))
            };
            sort_in(at, rule, &satisfied, matches, &mut out);
        }
        Some(out)
    }

    /// Evaluates the rules that were picked.
    pub(crate) fn some(
        &self,
        picked: &Picked<'_>,
        context: &Context,
        mut out: Evaluation,
    ) -> Option<Evaluation> {
        let Triple { principal, action, resource } = self.triple.clone();
        // Validated by the index: it knows every environment. The context is our own.
        let request = Request::new(principal, action, resource, context.clone(), None).ok()?;
        let entities = self.entities()?;
        if !picked.constitution.is_empty() {
            let rules =
                picked.constitution.iter().filter_map(|(at, _)| Some(&**self.bundle.constitution.get(*at)?));
            if forbidden(&request, set_of(&mut { rules })?, &entities, &mut out)? {
                return Some(out);
            }
        }
        let rules: Vec<(usize, &Rule)> =
            picked.rules.iter().filter_map(|(at, _)| Some((*at, &**self.bundle.rules.get(*at)?))).collect();
        let chosen: Vec<&Rule> = rules.iter().map(|(_, rule)| *rule).collect();
        let satisfied = decided(&request, &chosen, &entities, &mut out)?;
        for (at, rule) in rules {
            sort_in(at, rule, &satisfied, || true, &mut out);
        }
        Some(out)
    }

    /// What is in reach, and the action with its groups, closed by the engine itself.
    pub(crate) fn entities(&self) -> Option<Entities> {
        let reach = self.view.reach(self.roots);
        let mut all: Vec<Entity> =
            reach.map(|node| inner::entity_of(node, self.view.uids(&node.parents))).collect();
        let action = &self.triple.action;
        let groups = self.bundle.action_groups.get(action).map_or(&[][..], Vec::as_slice);
        all.push(Entity::new_no_attrs(action.clone(), groups.iter().cloned().collect()));
        all.extend(groups.iter().map(|group| Entity::new_no_attrs(group.clone(), [].into())));
        Entities::from_entities(all, None).ok()
    }
}

/// Whether the constitution forbids.
fn forbidden(request: &Request, rules: PolicySet, entities: &Entities, out: &mut Evaluation) -> Option<bool> {
    let above = Authorizer::new().is_authorized(request, &with_otherwise(rules)?, entities);
    out.erred.extend(above.diagnostics().errors().filter_map(name_of));
    out.erred.sort();
    if above.decision() == Decision::Allow {
        return Some(false);
    }
    out.constitution =
        above.diagnostics().reason().filter_map(|id| AsRef::<str>::as_ref(id).parse().ok()).collect();
    out.constitution.sort();
    Some(true)
}

/// The engine's decision, and the ids of the rules that are satisfied.
fn decided(
    request: &Request,
    rules: &[&Rule],
    entities: &Entities,
    out: &mut Evaluation,
) -> Option<BTreeSet<String>> {
    let authorizer = Authorizer::new();
    let named = |response: &Response| {
        response.diagnostics().reason().map(|id| AsRef::<str>::as_ref(id).to_owned()).collect::<BTreeSet<_>>()
    };
    let response = authorizer.is_authorized(request, &set_of(&mut rules.iter().copied())?, entities);
    out.erred.extend(response.diagnostics().errors().filter_map(name_of));
    out.erred.sort();
    out.permitted = response.decision() == Decision::Allow && out.erred.is_empty();
    let mut satisfied = named(&response);
    if response.decision() == Decision::Deny && !satisfied.is_empty() {
        // Where a forbid decides, the engine names no permits; they are found without the forbids.
        let permits = set_of(&mut rules.iter().copied().filter(|rule| !rule.forbids))?;
        satisfied.extend(named(&authorizer.is_authorized(request, &permits, entities)));
    }
    Some(satisfied)
}

fn sort_in(
    at: usize,
    rule: &Rule,
    satisfied: &BTreeSet<String>,
    matches: impl Fn() -> bool,
    out: &mut Evaluation,
) {
    match (satisfied.contains(rule.id.as_str()), rule.forbids) {
        (true, true) => out.forbids.push(at),
        (true, false) => out.permits.push(at),
        (false, false) if matches() => out.near.push(at),
        (false, _) => {}
    }
}

fn name_of(error: &AuthorizationError) -> Option<Name> {
    let AuthorizationError::PolicyEvaluationError(error) = error;
    let id: &str = error.policy_id().as_ref();
    Some(Name::from_str(id).unwrap_or_else(|_| Name::literal("unnamed")))
}

/// The rules as a set for the engine. Ids are unique in a compiled bundle.
fn set_of(rules: &mut dyn Iterator<Item = &Rule>) -> Option<PolicySet> {
    let mut set = PolicySet::new();
    for rule in rules {
        set.add(rule.policy.clone()).ok()?;
    }
    Some(set)
}

/// The constitution only forbids: whatever it does not forbid is left to the tenant's policy.
fn with_otherwise(mut set: PolicySet) -> Option<PolicySet> {
    static OTHERWISE: LazyLock<Option<Policy>> = LazyLock::new(|| {
        let id = PolicyId::new("constitution-otherwise");
        Policy::parse(Some(id), "permit (principal, action, resource);").ok()
    });
    set.add(OTHERWISE.clone()?).ok()?;
    Some(set)
}
