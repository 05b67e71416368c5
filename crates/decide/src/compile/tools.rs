//! Rules on tools: where their actions may stand, rules that can never match, and what becomes of rules when the tools have
//! changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicySet, ResourceConstraint, Schema, ValidationMode, Validator,
};
use serde_json::json;

use super::valid::is_plainly_valid;
use super::{Compiler, Placed};
use crate::bundle::{Bundle, CompiledBundle};
use crate::called::Tools;
use crate::evaluate::LEVEL;
use crate::inner::Typing;
use crate::servers::{ServerWords, is_tools};

/// How often tools are left out before it is given up. The second time nothing is found any more.
const ROUNDS: usize = 4;

/// The actions that a scope names.
fn named(policy: &Policy) -> Vec<EntityUid> {
    match policy.action_constraint() {
        ActionConstraint::Any => Vec::new(),
        ActionConstraint::Eq(one) => vec![one],
        ActionConstraint::In(all) => all,
    }
}

impl<'b> Compiler<'b> {
    /// Compiles a bundle without the tools that do not fit it; none where that does not help.
    pub(crate) fn as_far_as_it_goes(
        bundle: &Bundle,
        servers: &[ServerWords],
        beside: &'b [Arc<CompiledBundle>],
    ) -> Option<CompiledBundle> {
        let mut dead = BTreeSet::new();
        for _ in 0..ROUNDS {
            let left: Vec<ServerWords> = servers.iter().map(|words| words.without(&dead)).collect();
            let mut compiler = Self { unfit: Some(BTreeSet::new()), ..Compiler::new(beside) };
            let compiled = compiler.run(bundle, &left);
            let mut unfit = compiler.unfit.take().unwrap_or_default();
            if unfit.is_empty() {
                let mut compiled = compiled.filter(|_| compiler.errors.is_empty())?;
                compiled.tools.bury(dead);
                return Some(compiled);
            }
            dead.append(&mut unfit);
        }
        None
    }

    /// Sets aside what rules say of tools that are not there, and tells which those are. Notes the tools that rules do not
    /// fit. Does nothing where all must fit.
    pub(super) fn set_aside(
        &mut self,
        schema: &Schema,
        typing: &mut Typing<'_>,
        placed: &mut Vec<Placed<'_>>,
    ) -> BTreeSet<EntityUid> {
        let mut dead = BTreeSet::new();
        let Some(mut unfit) = self.unfit.take() else { return dead };
        let known: BTreeSet<EntityUid> = schema
            .action_entities()
            .into_iter()
            .flat_map(|all| all.iter().map(|a| a.uid()).collect::<Vec<_>>())
            .collect();
        let mut kept = Vec::with_capacity(placed.len());
        for one in placed.drain(..) {
            let Some(written) = &one.written else {
                kept.push(one);
                continue;
            };
            let actions = named(written);
            let gone: Vec<_> =
                actions.iter().filter(|a| is_tools(a) && !known.contains(*a)).cloned().collect();
            dead.extend(gone.iter().cloned());
            if gone.is_empty() {
                kept.push(one);
                continue;
            }
            let left: Vec<_> = actions.into_iter().filter(|action| !gone.contains(action)).collect();
            if let Some(narrowed) = narrowed(written, &left) {
                kept.extend(self.rule(one.place, &narrowed));
            }
        }
        let validator = Validator::new(schema.clone());
        kept.retain(|one| {
            let Some(written) = &one.written else { return true };
            if is_plainly_valid(typing, written) {
                return true;
            }
            let result = PolicySet::from_policies([written.clone()])
                .map(|set| validator.validate_with_level(&set, ValidationMode::Strict, LEVEL));
            let Ok(result) = result else { return true };
            if result.validation_passed_without_warnings() {
                return true;
            }
            // One on tools that is possible nowhere speaks of them as they are not.
            let of_tools: Vec<_> =
                typing.unfit(written).into_iter().chain(named(written)).filter(is_tools).collect();
            // One on whatever has something that nothing has any more never matches.
            let never = of_tools.is_empty() && result.validation_passed();
            unfit.extend(of_tools);
            !never
        });
        *placed = kept;
        self.unfit = Some(unfit);
        dead
    }

    /// Refuses actions of tools elsewhere than in a scope, where nobody would see that they are gone; and rules on a tool
    /// that is another one: they would never match.
    pub(super) fn tools_stand_soundly(&mut self, tools: &Tools, placed: &[Placed<'_>]) {
        let resources = tools.resources();
        for one in placed {
            let Some(written) = &one.written else { continue };
            let actions = named(written);
            let elsewhere =
                written.entity_literals().into_iter().find(|u| is_tools(u) && !actions.contains(u));
            if let Some(uid) = elsewhere {
                let help = "write it in the scope: `action == …`";
                self.errors.push(
                    one.about(&uid.to_string(), "the action of a tool stands only in a scope").help(help),
                );
            }
            let ResourceConstraint::Eq(resource) = written.resource_constraint() else { continue };
            let never = |action: &EntityUid| {
                is_tools(action) && resources.get(action).is_none_or(|of| *of != resource.id().unescaped())
            };
            if !actions.is_empty()
                && actions.iter().all(never)
                && actions.iter().all(|a| resources.contains_key(a))
            {
                let message = "it never matches: the action is that of another tool than the resource";
                self.errors.push(
                    one.about("resource", message).help("leave the resource out: the action says which tool"),
                );
            }
        }
    }
}

/// The same rule for fewer actions; none where none are left.
fn narrowed(policy: &Policy, actions: &[EntityUid]) -> Option<Policy> {
    if actions.is_empty() {
        return None;
    }
    let mut written = policy.to_json().ok()?;
    let entity = |uid: &EntityUid| json!({"type": uid.type_name().to_string(), "id": uid.id().unescaped()});
    *written.get_mut("action")? =
        json!({"op": "in", "entities": actions.iter().map(entity).collect::<Vec<_>>()});
    Policy::from_json(Some(policy.id().clone()), written).ok()
}
