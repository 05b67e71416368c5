//! The scope index: which rules can match an ask at all. The full set is the reference it is tested against.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};

use crate::bundle::Rule;

/// The scope of one rule.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    principal: Place,
    actions: Option<BTreeSet<String>>,
    resource: Place,
}

/// What a scope says about the principal or the resource.
#[derive(Clone, Debug)]
struct Place {
    kind: Option<EntityTypeName>,
    exactly: Option<EntityUid>,
    within: Option<EntityUid>,
}

/// An ask as the index sees it.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    pub(crate) principal: &'a EntityUid,
    /// The principal and all its ancestors.
    pub(crate) principal_in: &'a BTreeSet<EntityUid>,
    /// The action and the groups it is in.
    pub(crate) actions: &'a [&'a str],
    pub(crate) resource: &'a EntityUid,
    pub(crate) resource_in: &'a BTreeSet<EntityUid>,
}

impl Scope {
    pub(crate) fn of(policy: &Policy) -> Self {
        let anywhere = || Place { kind: None, exactly: None, within: None };
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => anywhere(),
            PrincipalConstraint::In(uid) => Place { within: Some(uid), ..anywhere() },
            PrincipalConstraint::Eq(uid) => Place { exactly: Some(uid), ..anywhere() },
            PrincipalConstraint::Is(kind) => Place { kind: Some(kind), ..anywhere() },
            PrincipalConstraint::IsIn(kind, uid) => {
                Place { kind: Some(kind), within: Some(uid), exactly: None }
            }
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => anywhere(),
            ResourceConstraint::In(uid) => Place { within: Some(uid), ..anywhere() },
            ResourceConstraint::Eq(uid) => Place { exactly: Some(uid), ..anywhere() },
            ResourceConstraint::Is(kind) => Place { kind: Some(kind), ..anywhere() },
            ResourceConstraint::IsIn(kind, uid) => {
                Place { kind: Some(kind), within: Some(uid), exactly: None }
            }
        };
        let name = |uid: &EntityUid| uid.id().unescaped().to_owned();
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(uid) => Some([name(&uid)].into()),
            ActionConstraint::In(uids) => Some(uids.iter().map(name).collect()),
        };
        Self { principal, actions, resource }
    }

    /// Whether the rule can apply to the ask. Never false for one whose scope matches.
    pub(crate) fn matches(&self, probe: &Probe<'_>) -> bool {
        self.actions.as_ref().is_none_or(|names| probe.actions.iter().any(|a| names.contains(*a)))
            && self.principal.matches(probe.principal, probe.principal_in)
            && self.resource.matches(probe.resource, probe.resource_in)
    }
}

impl Place {
    fn matches(&self, uid: &EntityUid, within: &BTreeSet<EntityUid>) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind == uid.type_name())
            && self.exactly.as_ref().is_none_or(|exactly| exactly == uid)
            && self.within.as_ref().is_none_or(|ancestor| within.contains(ancestor))
    }

    fn anchor(&self) -> Option<&EntityUid> {
        self.exactly.as_ref().or(self.within.as_ref())
    }
}

/// Rules by the most telling part of their scope.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_resource: HashMap<EntityUid, Vec<usize>>,
    by_principal: HashMap<EntityUid, Vec<usize>>,
    anywhere: Vec<usize>,
}

impl Index {
    pub(crate) fn build(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            // A resource is named by fewer rules than a role, so it tells more.
            match (rule.scope.resource.anchor(), rule.scope.principal.anchor()) {
                (Some(uid), _) => index.by_resource.entry(uid.clone()).or_default().push(place),
                (None, Some(uid)) => index.by_principal.entry(uid.clone()).or_default().push(place),
                (None, None) => index.anywhere.push(place),
            }
        }
        index
    }

    /// The rules that can apply, in the order of the bundle.
    pub(crate) fn candidates(&self, rules: &[Rule], probe: &Probe<'_>) -> Vec<usize> {
        let resources = probe.resource_in.iter().filter_map(|uid| self.by_resource.get(uid));
        let principals = probe.principal_in.iter().filter_map(|uid| self.by_principal.get(uid));
        let mut out: Vec<usize> =
            resources.chain(principals).chain([&self.anywhere]).flatten().copied().collect();
        out.retain(|place| rules.get(*place).is_some_and(|rule| rule.scope.matches(probe)));
        out.sort_unstable();
        out
    }
}
