//! What the scope of a rule says.

use std::collections::BTreeSet;

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};

use crate::inner::{Condition, Conjunct, Of};

/// The scope of one rule.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(super) principal: Place,
    pub(super) actions: Actions,
    pub(super) resource: Place,
}

/// What a scope says about the principal or the resource.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) kind: Option<EntityTypeName>,
    pub(super) exactly: Option<EntityUid>,
    pub(super) within: Option<EntityUid>,
}

/// What a scope says about the action.
#[derive(Clone, Debug)]
pub(super) enum Actions {
    Any,
    Exactly(EntityUid),
    Within(BTreeSet<EntityUid>),
}

impl Scope {
    pub(crate) fn of(policy: &Policy) -> Self {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Place::default(),
            PrincipalConstraint::In(uid) => Place { within: Some(uid), ..Place::default() },
            PrincipalConstraint::Eq(uid) => Place { exactly: Some(uid), ..Place::default() },
            PrincipalConstraint::Is(kind) => Place { kind: Some(kind), ..Place::default() },
            PrincipalConstraint::IsIn(kind, uid) => {
                Place { kind: Some(kind), within: Some(uid), exactly: None }
            }
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Place::default(),
            ResourceConstraint::In(uid) => Place { within: Some(uid), ..Place::default() },
            ResourceConstraint::Eq(uid) => Place { exactly: Some(uid), ..Place::default() },
            ResourceConstraint::Is(kind) => Place { kind: Some(kind), ..Place::default() },
            ResourceConstraint::IsIn(kind, uid) => {
                Place { kind: Some(kind), within: Some(uid), exactly: None }
            }
        };
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => Actions::Any,
            ActionConstraint::Eq(uid) => Actions::Exactly(uid),
            ActionConstraint::In(uids) => Actions::Within(uids.into_iter().collect()),
        };
        Self { principal, actions, resource }
    }

    /// The scope with what leads the condition, where the scope leaves room for it.
    pub(super) fn narrowed(mut self, condition: &Condition) -> Self {
        for conjunct in condition.leading() {
            let (Conjunct::Is(of, _) | Conjunct::Exactly(of, _) | Conjunct::Within(of, _)) = &conjunct;
            let place = match of {
                Of::Principal => &mut self.principal,
                Of::Resource => &mut self.resource,
            };
            match conjunct {
                Conjunct::Is(_, kind) => drop(place.kind.get_or_insert(kind)),
                Conjunct::Exactly(_, uid) => drop(place.exactly.get_or_insert(uid)),
                Conjunct::Within(_, uid) => drop(place.within.get_or_insert(uid)),
            }
        }
        self
    }
}
