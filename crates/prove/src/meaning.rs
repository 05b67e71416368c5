//! What a set means for one ask, by the real engine; the only judge of counterexamples.

use std::str::FromStr as _;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, EntityUid, EvaluationError, PolicySet,
    Request, Schema,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Told;
use crate::question::{Question, as_permit};

/// An ask with its entities, as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct World {
    pub(crate) principal: String,
    pub(crate) action: String,
    pub(crate) resource: String,
    pub(crate) context: Value,
    pub(crate) entities: Value,
}

/// An ask with its entities, as the engine takes it.
#[derive(Debug)]
pub(crate) struct Concrete {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

impl World {
    /// What the symbolic compiler found. Actions are left out: the schema brings them.
    pub(crate) fn of(request: &Request, entities: &Entities) -> Option<Self> {
        let mut listed = entities.to_json_value().ok()?;
        let kind = |entity: &Value| {
            let uid = entity.get("uid")?;
            let uid = uid.get("__entity").unwrap_or(uid);
            uid.get("type").and_then(Value::as_str).map(str::to_owned)
        };
        let action = request.action()?;
        let actions = action.type_name().to_string();
        listed.as_array_mut()?.retain(|entity| kind(entity).is_some_and(|kind| kind != actions));
        Some(Self {
            principal: request.principal()?.to_string(),
            action: action.to_string(),
            resource: request.resource()?.to_string(),
            context: request.context()?.to_json_value().ok()?,
            entities: listed,
        })
    }

    /// Read against the schema; none where it does not conform, such as for a value of the wrong type.
    pub(crate) fn concrete(&self, schema: &Schema) -> Option<Concrete> {
        let uid = |text: &str| EntityUid::from_str(text).ok();
        let action = uid(&self.action)?;
        let context = Context::from_json_value(self.context.clone(), Some((schema, &action))).ok()?;
        let (principal, resource) = (uid(&self.principal)?, uid(&self.resource)?);
        let request = Request::new(principal, action, resource, context, Some(schema)).ok()?;
        let entities = Entities::from_json_value(self.entities.clone(), Some(schema)).ok()?;
        Some(Concrete { request, entities })
    }
}

/// What `rules` say.
pub(crate) fn told(rules: &PolicySet, ask: &Concrete) -> Told {
    ruled(rules, ask).0
}

/// What `rules` say, and whether one of them missed an entity.
fn ruled(rules: &PolicySet, ask: &Concrete) -> (Told, bool) {
    let response = Authorizer::new().is_authorized(&ask.request, rules, &ask.entities);
    let allowed = response.decision() == Decision::Allow;
    let mut reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    reasons.sort_unstable();
    let (mut errs, mut misses) = (Vec::new(), false);
    for AuthorizationError::PolicyEvaluationError(error) in response.diagnostics().errors() {
        errs.push(error.policy_id().to_string());
        misses |= matches!(error.inner(), EvaluationError::EntityDoesNotExist(_));
    }
    errs.sort_unstable();
    let (permits, forbids) = if allowed { (reasons, Vec::new()) } else { (Vec::new(), reasons) };
    (Told { permitted: allowed && errs.is_empty(), permits, forbids, errs }, misses)
}

/// One thing that is claimed, and can be refuted by an ask.
#[derive(Debug)]
pub(crate) enum Claim<'a> {
    NothingNew { old: &'a PolicySet, new: &'a PolicySet },
    Equivalent { old: &'a PolicySet, new: &'a PolicySet },
    NeverPermits { rules: &'a PolicySet, invariant: PolicySet },
    NeverErrs { rule: PolicySet },
}

impl<'a> Claim<'a> {
    /// The claim about one subject of a question.
    pub(crate) fn of(question: &'a Question, about: &str) -> Option<Self> {
        let id = cedar_policy::PolicyId::new(about);
        let alone = |policy| PolicySet::from_policies([policy]).ok();
        Some(match question {
            Question::NothingNew { old, new } => Self::NothingNew { old, new },
            Question::Equivalent { old, new } => Self::Equivalent { old, new },
            Question::NeverPermits { rules, invariants } => {
                Self::NeverPermits { rules, invariant: alone(as_permit(invariants.policy(&id)?)?)? }
            }
            Question::NeverErrs { rules } => Self::NeverErrs { rule: alone(rules.policy(&id)?.clone())? },
        })
    }

    /// Whether the ask refutes it. An ask in which a rule misses an entity refutes nothing: proofs assume that all exist.
    pub(crate) fn refuted_by(&self, ask: &Concrete) -> bool {
        let both = |a: &PolicySet, b: &PolicySet, refutes: fn(bool, bool) -> bool| {
            let ((a, misses_a), (b, misses_b)) = (ruled(a, ask), ruled(b, ask));
            !misses_a && !misses_b && refutes(a.permitted, b.permitted)
        };
        match self {
            Self::NothingNew { old, new } => both(old, new, |old, new| new && !old),
            Self::Equivalent { old, new } => both(old, new, |old, new| old != new),
            Self::NeverPermits { rules, invariant } => both(rules, invariant, |a, b| a && b),
            Self::NeverErrs { rule } => {
                let (told, misses) = ruled(rule, ask);
                !misses && !told.errs.is_empty()
            }
        }
    }
}
