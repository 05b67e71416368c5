//! Which rules are plainly valid: those of which the engine's validator would say nothing, neither an error nor a warning.
//!
//! The validator checks a rule in every environment that the schema knows (type of principal, action, type of resource), which
//! are hundreds, and twice in each. Most of that cannot matter:
//!
//! 1. Where the scope cannot match, the type checker stops before it comes to the condition.
//! 2. Environments that differ in nothing that the condition mentions have the same outcome.
//! 3. Of an entity that the scope names only the type is looked at. Actions, and types of which the schema lists every entity,
//!    are an exception, which the checks of literals make: those are made for every rule.
//!
//! So a rule is checked where it differs from those before it, and nowhere else. Whatever is not found plainly valid is left to
//! the validator, which alone says what is wrong with a rule.

use std::collections::{HashMap, HashSet};
use std::iter::once;
use std::sync::Arc;

use cedar_policy::{Policy, Schema};
use cedar_policy_core::ast::{
    self, ActionConstraint, Annotations, BinaryOp, Eid, EntityReference, EntityType, EntityUID, Expr,
    ExprKind, ExprShapeOnly, PrincipalConstraint, PrincipalOrResourceConstraint as Side, ResourceConstraint,
    Template, Var,
};
use cedar_policy_core::validator::typecheck::{PolicyCheck, Typechecker};
use cedar_policy_core::validator::types::{EntityKind, RequestEnv, Type};
use cedar_policy_core::validator::{ValidationMode, Validator, ValidatorSchema, confusable_string_checks};

use super::Of;

/// Finds plainly valid rules under one schema, each kind of them once.
pub(crate) struct Typing<'s> {
    schema: &'s ValidatorSchema,
    /// Over how many entities a rule may reach ([`crate::evaluate::LEVEL`]).
    level: u32,
    environments: Vec<Environment<'s>>,
    /// Where a part of a scope can match, by environment.
    sides: HashMap<(bool, Side), Option<Arc<[bool]>>>,
    actions: HashMap<ActionConstraint, Option<Arc<[bool]>>>,
    valid: HashSet<Kind>,
}

/// What the outcome depends on: the scope without the ids of entities, and the condition.
type Kind = (Side, ActionConstraint, Side, Option<ExprShapeOnly<'static>>);

/// A type of ask.
struct Environment<'s> {
    request: RequestEnv<'s>,
    principal: &'s EntityType,
    action: &'s EntityUID,
    resource: &'s EntityType,
    /// The same number for the same type of the context.
    context: usize,
}

impl<'s> Typing<'s> {
    pub(crate) fn new(schema: &'s Schema, level: u32) -> Self {
        let schema: &ValidatorSchema = schema.as_ref();
        let mut contexts: HashMap<&Type, usize> = HashMap::new();
        let environments = schema.unlinked_request_envs(ValidationMode::Strict).filter_map(|request| {
            let RequestEnv::DeclaredAction { principal, action, resource, context, .. } = request else {
                return None;
            };
            let next = contexts.len();
            let context = *contexts.entry(context).or_insert(next);
            Some(Environment { request, principal, action, resource, context })
        });
        // Of a schema that is not complete the validator takes nothing.
        let environments = if schema.check_complete().is_ok() { environments.collect() } else { Vec::new() };
        Self {
            schema,
            level,
            environments,
            sides: HashMap::new(),
            actions: HashMap::new(),
            valid: HashSet::new(),
        }
    }

    /// Whether a rule is plainly valid. Of one that is not, the validator has something to say, or might have.
    pub(crate) fn is_plainly_valid(&mut self, policy: &Policy) -> bool {
        let policy: &ast::Policy = policy.as_ref();
        let template = policy.template();
        let literals = Validator::validate_entity_types_and_literals(self.schema, template).next();
        if literals.is_some() || confusable_string_checks(once(template)).next().is_some() {
            return false;
        }
        let sides = typed(template.principal_constraint().as_inner())
            .zip(typed(template.resource_constraint().as_inner()));
        let Some((principal, resource)) = sides.filter(|_| policy.is_static()) else { return false };
        let condition = template.non_scope_constraints().cloned().map(ExprShapeOnly::new_from_owned);
        let kind = (principal, template.action_constraint().clone(), resource, condition);
        if self.valid.contains(&kind) {
            return true;
        }
        let valid = self.is_valid_everywhere(template, &kind).unwrap_or(false);
        if valid {
            self.valid.insert(kind);
        }
        valid
    }

    /// Whether a rule is valid in each environment, and possible in one. None where that cannot be told.
    fn is_valid_everywhere(
        &mut self,
        template: &Template,
        (principal, action, resource, _): &Kind,
    ) -> Option<bool> {
        let principals = self.side(Of::Principal, principal)?;
        let actions = self.action(action)?;
        let resources = self.side(Of::Resource, resource)?;
        let mentions = Mentions::of(template.non_scope_constraints());
        let mut seen = HashSet::new();
        let mut possible = false;
        let matching = principals.iter().zip(actions.iter()).zip(resources.iter());
        for (environment, _) in
            self.environments.iter().zip(matching).filter(|(_, ((p, a), r))| **p && **a && **r)
        {
            if seen.insert(mentions.of_environment(environment)) {
                possible |= self.check(template, environment)?;
            }
        }
        Some(possible)
    }

    /// The actions under which a rule has no valid type; none where that cannot be told.
    pub(crate) fn unfit(&mut self, policy: &Policy) -> Vec<cedar_policy::EntityUid> {
        let policy: &ast::Policy = policy.as_ref();
        let template = policy.template();
        let sides = typed(template.principal_constraint().as_inner())
            .zip(typed(template.resource_constraint().as_inner()));
        let Some((principal, resource)) = sides.filter(|_| policy.is_static()) else { return Vec::new() };
        let masks = (
            self.side(Of::Principal, &principal),
            self.action(template.action_constraint()),
            self.side(Of::Resource, &resource),
        );
        let (Some(principals), Some(actions), Some(resources)) = masks else { return Vec::new() };
        let matching = principals.iter().zip(actions.iter()).zip(resources.iter());
        let environments = self.environments.iter().zip(matching);
        let unfit = environments
            .filter(|(_, ((p, a), r))| **p && **a && **r)
            .filter(|(environment, _)| self.check(template, environment).is_none());
        let found: HashSet<&EntityUID> = unfit.map(|(environment, _)| environment.action).collect();
        found.into_iter().map(|action| action.clone().into()).collect()
    }

    /// Where one side of a scope can match.
    fn side(&mut self, of: Of, side: &Side) -> Option<Arc<[bool]>> {
        let key = (of == Of::Principal, side.clone());
        if let Some(known) = self.sides.get(&key) {
            return known.clone();
        }
        let (principal, resource) = match of {
            Of::Principal => (PrincipalConstraint::new(side.clone()), ResourceConstraint::any()),
            Of::Resource => (PrincipalConstraint::any(), ResourceConstraint::new(side.clone())),
        };
        let alone = scope(principal, ActionConstraint::any(), resource);
        let found = self.mask(&alone, |environment| match of {
            Of::Principal => environment.principal,
            Of::Resource => environment.resource,
        });
        self.sides.insert(key, found.clone());
        found
    }

    fn action(&mut self, action: &ActionConstraint) -> Option<Arc<[bool]>> {
        if let Some(known) = self.actions.get(action) {
            return known.clone();
        }
        let alone = scope(PrincipalConstraint::any(), action.clone(), ResourceConstraint::any());
        let found = self.mask(&alone, |environment| environment.action);
        self.actions.insert(action.clone(), found.clone());
        found
    }

    /// In which environments a rule that says nothing else can match, asked once for each `part` of an environment.
    fn mask<K: Eq + std::hash::Hash>(
        &self,
        alone: &Template,
        part: impl Fn(&Environment<'s>) -> K,
    ) -> Option<Arc<[bool]>> {
        let mut known: HashMap<K, Option<bool>> = HashMap::new();
        let one = |environment: &Environment<'s>| {
            *known.entry(part(environment)).or_insert_with(|| self.check(alone, environment))
        };
        self.environments.iter().map(one).collect::<Option<Vec<bool>>>().map(Into::into)
    }

    /// Whether a rule that is valid in an environment is possible there. None where it is not plainly valid.
    fn check(&self, template: &Template, environment: &Environment<'s>) -> Option<bool> {
        let checker = Typechecker::new(self.schema, ValidationMode::Strict);
        match checker.typecheck_by_single_request_env(template, &environment.request) {
            PolicyCheck::Success(typed) => self.is_near(&typed).then_some(true),
            PolicyCheck::Irrelevant(errors, typed) => {
                (errors.is_empty() && self.is_near(&typed)).then_some(false)
            }
            PolicyCheck::Fail(_) => None,
        }
    }

    /// Whether nothing in an expression looks further than the level, as far as that is plain.
    fn is_near(&self, typed: &Expr<Option<Type>>) -> bool {
        typed.subexpressions().all(|part| match part.expr_kind() {
            ExprKind::BinaryApp { op: BinaryOp::In | BinaryOp::HasTag | BinaryOp::GetTag, arg1, .. } => {
                distance(arg1).is_some_and(|away| away < self.level)
            }
            ExprKind::HasAttr { expr, .. } | ExprKind::GetAttr { expr, .. } => match expr.data() {
                Some(Type::Record { .. }) => true,
                Some(Type::Entity(EntityKind::Entity(_))) => {
                    distance(expr).is_some_and(|away| away < self.level)
                }
                _ => false,
            },
            // Each step of the path could be one to another entity.
            ExprKind::ExtHasAttr { expr, attrs } => {
                let steps = u32::try_from(attrs.len()).unwrap_or(u32::MAX);
                distance(expr).is_some_and(|away| away.saturating_add(steps) <= self.level)
            }
            _ => true,
        })
    }
}

/// How many entities lie between a request and what an expression names; none where it is more than a path of attributes.
fn distance(typed: &Expr<Option<Type>>) -> Option<u32> {
    match typed.expr_kind() {
        ExprKind::Var(_) => Some(0),
        ExprKind::GetAttr { expr, .. } => match expr.data() {
            Some(Type::Entity(EntityKind::Entity(_))) => distance(expr)?.checked_add(1),
            Some(Type::Record { .. }) => distance(expr),
            _ => None,
        },
        _ => None,
    }
}

/// A rule that says nothing but a scope.
fn scope(principal: PrincipalConstraint, action: ActionConstraint, resource: ResourceConstraint) -> Template {
    let id = ast::PolicyID::from_string("scope");
    Template::new(id, None, Annotations::new(), ast::Effect::Permit, principal, action, resource, None)
}

/// A side of a scope with every entity of a type in the place of the one that is named.
fn typed(side: &Side) -> Option<Side> {
    let any_of = |named: &EntityReference| match named {
        EntityReference::EUID(uid) if !uid.is_action() => {
            let uid = EntityUID::from_components(uid.entity_type().clone(), Eid::new(""), None);
            Some(EntityReference::EUID(Arc::new(uid)))
        }
        EntityReference::EUID(_) | EntityReference::Slot(_) => None,
    };
    match side {
        Side::Any => Some(Side::Any),
        Side::Is(kind) => Some(Side::Is(kind.clone())),
        Side::Eq(named) => any_of(named).map(Side::Eq),
        Side::In(named) => any_of(named).map(Side::In),
        Side::IsIn(kind, named) => any_of(named).map(|named| Side::IsIn(kind.clone(), named)),
    }
}

/// What of a request a condition mentions.
#[derive(Default)]
struct Mentions {
    principal: bool,
    action: bool,
    resource: bool,
    context: bool,
}

impl Mentions {
    fn of(condition: Option<&Expr>) -> Self {
        let mut found = Self::default();
        for part in condition.into_iter().flat_map(Expr::subexpressions) {
            match part.expr_kind() {
                ExprKind::Var(Var::Principal) => found.principal = true,
                ExprKind::Var(Var::Action) => found.action = true,
                ExprKind::Var(Var::Resource) => found.resource = true,
                ExprKind::Var(Var::Context) => found.context = true,
                _ => {}
            }
        }
        found
    }

    /// What the outcome in an environment depends on.
    fn of_environment<'e>(
        &self,
        environment: &'e Environment<'_>,
    ) -> (Option<&'e EntityType>, Option<&'e EntityUID>, Option<&'e EntityType>, Option<usize>) {
        (
            self.principal.then_some(environment.principal),
            self.action.then_some(environment.action),
            self.resource.then_some(environment.resource),
            self.context.then_some(environment.context),
        )
    }
}

#[cfg(test)]
mod tests;
