//! The one place that reaches into the engine's own crate (`cedar-policy-core`, pinned with the engine): entities in a small
//! form, conditions without the scopes that the index has checked, an evaluator over entities whose ancestors are closed
//! already. None of this is promised to stay, so [`INNER`] can be turned off: the same rules are then evaluated through the
//! engine's public interface, three to five times slower, with the same outcome (tested).

mod condition;
mod facts;
mod json;
mod plain;
mod typing;
mod value;

use std::collections::HashSet;
use std::sync::Arc;

use cedar_policy::{Context, Entity, EntityTypeName, EntityUid, Schema};
use cedar_policy_core::ast;
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::ValidatorEntityTypeKind;

pub(crate) use condition::{Condition, Conjunct, Of, Reads};
pub(crate) use facts::{CONDITIONS, Facts};
pub(crate) use json::{by_name, write_text};
pub(crate) use plain::{Plain, Sight, Told};
pub(crate) use typing::Typing;
pub(crate) use value::{Fact, attribute, context};

use crate::entities::Node;

/// Whether decisions take this way.
pub(crate) const INNER: bool = true;

/// Entities in the engine's form, for one evaluation.
#[derive(Debug, Default)]
pub(crate) struct Slice(Vec<ast::Entity>);

/// An action with the groups it is in.
#[derive(Clone, Debug)]
pub(crate) struct Grouped(Arc<ast::Entity>);

impl Grouped {
    pub(crate) fn new(action: EntityUid, groups: &[EntityUid]) -> Self {
        let groups = groups.iter().map(|group| ast::EntityUID::from(group.clone())).collect();
        let none = std::iter::empty;
        Self(Arc::new(ast::Entity::new_with_attr_partial_value(
            action.into(),
            none(),
            HashSet::new(),
            groups,
            none(),
        )))
    }
}

impl Slice {
    /// Adds what is known of an entity; `above` only where a condition asks what it is in.
    pub(crate) fn add(&mut self, node: &Node, above: Vec<EntityUid>) {
        self.0.push(inner_of(node, above, Vec::new()));
    }

    pub(crate) fn add_action(&mut self, action: &Grouped) {
        self.0.push(action.0.as_ref().clone());
    }

    /// Everything as the engine takes it.
    pub(crate) fn ready(self) -> Option<Reached> {
        let schema: Option<&NoEntitiesSchema> = None;
        let (closed, extensions) = (TCComputation::AssumeAlreadyComputed, Extensions::all_available());
        Entities::from_entities(self.0, schema, closed, extensions).ok().map(Reached)
    }
}

/// An entity as the engine's public interface takes it, with its direct parents alone.
pub(crate) fn entity_of(node: &Node, parents: Vec<EntityUid>) -> Entity {
    Entity::from(inner_of(node, Vec::new(), parents))
}

fn inner_of(node: &Node, above: Vec<EntityUid>, parents: Vec<EntityUid>) -> ast::Entity {
    let set = |uids: Vec<EntityUid>| uids.into_iter().map(ast::EntityUID::from).collect::<HashSet<_>>();
    let uid = ast::EntityUID::from(node.uid.clone());
    ast::Entity::new_with_attr_partial_value(
        uid,
        node.facts.attributes(),
        set(above),
        set(parents),
        node.facts.tags(),
    )
}

/// The entities that the conditions of one evaluation can look at.
#[derive(Debug, Default)]
pub(crate) struct Reached(Entities);

/// One request, ready to have conditions evaluated.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    evaluator: Evaluator<'a>,
    slots: ast::SlotEnv,
}

impl<'a> Run<'a> {
    pub(crate) fn new(uids: [&EntityUid; 3], context: &Context, entities: &'a Reached) -> Self {
        let [principal, action, resource] =
            uids.map(|uid| ast::EntityUIDEntry::known(uid.clone().into(), None));
        let context: &ast::Context = context.as_ref();
        let request = ast::Request::new_unchecked(principal, action, resource, Some(context.clone()));
        let evaluator = Evaluator::new(request, &entities.0, Extensions::all_available());
        Self { evaluator, slots: ast::SlotEnv::new() }
    }

    /// Whether a condition holds.
    ///
    /// # Errors
    /// When it cannot be evaluated.
    pub(crate) fn holds(&self, condition: &Condition) -> Result<bool, Unevaluable> {
        let Some(expression) = condition.expression() else { return Ok(true) };
        let value = self.evaluator.interpret(expression, &self.slots).map_err(|_| Unevaluable)?;
        match value.value {
            ast::ValueKind::Lit(ast::Literal::Bool(held)) => Ok(held),
            _ => Err(Unevaluable),
        }
    }
}

/// A condition that cannot be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unevaluable;

/// The types of which a schema lists every entity there can be.
pub(crate) fn enumerated(schema: &Schema) -> Vec<(EntityTypeName, Vec<EntityUid>)> {
    let inner: &cedar_policy_core::validator::ValidatorSchema = schema.as_ref();
    let listed = inner.entity_types().filter_map(|kind| match &kind.kind {
        ValidatorEntityTypeKind::Enum(ids) => {
            let uid = |id: &ast::Eid| ast::EntityUID::from_components(kind.name().clone(), id.clone(), None);
            Some((kind.name().clone().into(), ids.iter().map(|id| uid(id).into()).collect()))
        }
        ValidatorEntityTypeKind::Standard(_) | ValidatorEntityTypeKind::External => None,
    });
    listed.collect()
}
