//! The one place that reaches into the engine's own crate (`cedar-policy-core`, pinned with the engine): entities in a small
//! form, conditions without the scopes that the index has checked, an evaluator over entities whose ancestors are closed
//! already. None of this is promised to stay, so [`INNER`] can be turned off: the same rules are then evaluated through the
//! engine's public interface, three to five times slower, with the same outcome (tested).

mod condition;
mod facts;
mod json;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Context, Entity, EntityTypeName, EntityUid, RestrictedExpression, Schema};
use cedar_policy_core::ast;
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::{Evaluator, RestrictedEvaluator};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::ValidatorEntityTypeKind;

pub(crate) use condition::{Condition, Conjunct, Of, Reads};
pub(crate) use facts::Facts;

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

/// A context made of its attributes. The engine's own way evaluates each as an expression first, which takes longer than most
/// rules.
pub(crate) fn context(attributes: Vec<(String, RestrictedExpression)>) -> Option<Context> {
    let mut values = BTreeMap::new();
    for (name, expression) in attributes {
        let expression: &ast::RestrictedExpr = expression.as_ref();
        values.insert(name.into(), value_of(expression)?);
    }
    Some(Context::from(ast::Context::Value(Arc::new(values))))
}

fn value_of(expression: &ast::Expr) -> Option<ast::Value> {
    Some(match expression.expr_kind() {
        ast::ExprKind::Lit(literal) => ast::Value::new(literal.clone(), None),
        ast::ExprKind::Set(items) => {
            ast::Value::set(items.iter().map(value_of).collect::<Option<Vec<_>>>()?, None)
        }
        ast::ExprKind::Record(members) => {
            let members = members.iter().map(|(name, member)| Some((name.clone(), value_of(member)?)));
            ast::Value::record_arc(Arc::new(members.collect::<Option<_>>()?), None)
        }
        _ => {
            let one = ast::BorrowedRestrictedExpr::new(expression).ok()?;
            RestrictedEvaluator::new(Extensions::all_available()).interpret(one).ok()?
        }
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_the_one_that_the_engine_would_make() {
        let text = |t: &str| RestrictedExpression::new_string(t.to_owned());
        let long = RestrictedExpression::new_long;
        let record = |members: Vec<(&str, RestrictedExpression)>| {
            RestrictedExpression::new_record(members.into_iter().map(|(n, e)| (n.to_owned(), e))).unwrap()
        };
        let pairs = || {
            vec![
                ("text".to_owned(), text("a\"b")),
                ("ip".to_owned(), RestrictedExpression::new_ip("10.0.0.0/8")),
                ("set".to_owned(), RestrictedExpression::new_set([long(2), long(1), long(2)])),
                (
                    "mixed".to_owned(),
                    RestrictedExpression::new_set([
                        RestrictedExpression::new_set([]),
                        RestrictedExpression::new_ip("::1"),
                    ]),
                ),
                (
                    "rec".to_owned(),
                    record(vec![
                        ("b", RestrictedExpression::new_bool(true)),
                        ("in", record(vec![("n", long(-1))])),
                    ]),
                ),
                ("who".to_owned(), RestrictedExpression::new_entity_uid("User::\"x\"".parse().unwrap())),
            ]
        };
        let (ours, engines) = (context(pairs()).unwrap(), Context::from_pairs(pairs()).unwrap());
        let (ours, engines): (&ast::Context, &ast::Context) = (ours.as_ref(), engines.as_ref());
        assert_eq!(ast::PartialValue::from(ours.clone()), ast::PartialValue::from(engines.clone()));
        assert_eq!(ours.to_json_value().unwrap(), engines.to_json_value().unwrap());
        // What the engine refuses is refused.
        assert!(context(vec![("ip".to_owned(), RestrictedExpression::new_ip("nonsense"))]).is_none());
    }
}
