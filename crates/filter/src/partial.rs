//! The engine's type-aware partial evaluation, which is experimental: nothing outside this module touches it.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::pst::{Clause, Expr};
use cedar_policy::{
    Context, Effect, Entities, EntityTypeName, EntityUid, EvalResult, PartialEntities, PartialEntityUid,
    PartialRequest, Policy, PolicySet, Schema,
};

use crate::test::{Atom, Check, What, simplified};
use crate::translate::{Both, Translator};
use crate::tree::{Filter, Tree};

/// What is asked: which resources of one type may these members, together, act on?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Every policy that can match, static and strictly validated against the schema. One that cannot match may be left out.
    pub policies: &'a [Policy],
    /// The schema.
    pub schema: &'a Schema,
    /// The members of the chain. A row must be permitted to all of them; to nobody, none is.
    pub members: &'a [Member<'a>],
    /// The action.
    pub action: &'a EntityUid,
    /// The type of the rows.
    pub resource: &'a EntityTypeName,
    /// The obligations that the door applies to every row, as the facts in `context.obligations` name them. Those of the
    /// contexts must be among them.
    pub applied: &'a BTreeSet<String>,
}

/// One member of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Who.
    pub principal: &'a EntityUid,
    /// The whole context of this member.
    pub context: &'a Context,
    /// The principal and its ancestors, and whatever else a policy looks at beside the resource. No resources: what is said
    /// about them here would be taken as said about all that is true of them.
    pub entities: &'a Entities,
}

/// Why there is no filter. Nothing may be returned then that was not decided one by one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The policies cannot stand in one set.
    #[error("the policies cannot be evaluated together: {0}")]
    Policies(String),
    /// The action does not apply to this principal and resource type, or the context is not the schema's.
    #[error("the question does not fit the schema: {0}")]
    Request(String),
    /// The entities are not the schema's.
    #[error("the entities do not fit the schema: {0}")]
    Entities(String),
    /// The engine's partial evaluation failed.
    #[error("partial evaluation failed: {0}")]
    Evaluation(String),
    /// The context claims an obligation that the door does not apply to every row, or an approval.
    #[error("the context presumes `{0}`, which is not true of every row")]
    Presumed(String),
    /// The policies make a tree with more tests than any store would be asked.
    #[error("the filter would have more than {NODES_MAX} tests")]
    TooLarge,
}

/// The most leaves of a filter.
pub(crate) const NODES_MAX: usize = 20_000;

/// A policy as it is for one member, with only the resource unknown.
pub(crate) struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) effect: Effect,
    /// Conditions that all must be true, and whether each is negated (`unless`).
    pub(crate) conditions: Vec<(Arc<Expr>, bool)>,
}

/// The rows that a full evaluation would permit to every member, as far as rows fit the schema; of rows that do not, at most those.
///
/// # Errors
/// [`FilterError`], when the question makes no sense or the answer would be too large.
pub fn filter(question: &Question<'_>) -> Result<Filter, FilterError> {
    if question.members.is_empty() {
        return Ok(Tree::Never);
    }
    let mut parts = Vec::new();
    for member in question.members {
        presumes_nothing(member.context, question.applied)?;
        let rules = evaluate(question, member)?;
        parts.push(of_member(question, member, &rules)?);
    }
    let filter = simplified(Tree::all(parts));
    if filter.leaves().len() > NODES_MAX {
        return Err(FilterError::TooLarge);
    }
    Ok(filter)
}

/// `context.obligations` names nothing but what is applied to every row, and `context.approvals` nothing.
fn presumes_nothing(context: &Context, applied: &BTreeSet<String>) -> Result<(), FilterError> {
    for (name, allowed) in [("obligations", Some(applied)), ("approvals", None)] {
        let facts = match context.get(name) {
            Some(EvalResult::Set(facts)) => facts,
            Some(_) => return Err(FilterError::Presumed(name.to_owned())),
            None => continue,
        };
        for fact in facts.iter() {
            match fact {
                EvalResult::String(fact) if allowed.is_some_and(|allowed| allowed.contains(fact)) => {}
                EvalResult::String(fact) => return Err(FilterError::Presumed(fact.clone())),
                _ => return Err(FilterError::Presumed(name.to_owned())),
            }
        }
    }
    Ok(())
}

/// Evaluates every policy as far as it goes without the resource.
fn evaluate(question: &Question<'_>, member: &Member<'_>) -> Result<Vec<Rule>, FilterError> {
    let set = PolicySet::from_policies(question.policies.iter().cloned())
        .map_err(|e| FilterError::Policies(e.to_string()))?;
    let request = PartialRequest::new(
        PartialEntityUid::from_concrete(member.principal.clone()),
        question.action.clone(),
        PartialEntityUid::new(question.resource.clone(), None),
        Some(member.context.clone()),
        question.schema,
    )
    .map_err(|e| FilterError::Request(e.to_string()))?;
    let entities = PartialEntities::from_concrete(member.entities.clone(), question.schema)
        .map_err(|e| FilterError::Entities(e.to_string()))?;
    let response =
        set.tpe(&request, &entities, question.schema).map_err(|e| FilterError::Evaluation(e.to_string()))?;
    let mut rules = Vec::new();
    for policy in question.policies {
        let id = policy.id();
        // A policy that the engine did not answer for must not silently count for nothing.
        let residual = response
            .get_policy(id)
            .ok_or_else(|| FilterError::Evaluation(format!("nothing about `{id}`")))?;
        let tree = residual.to_pst().map_err(|e| FilterError::Evaluation(e.to_string()))?;
        let conditions = tree.body().clauses().iter().map(|clause| match clause {
            Clause::When(condition) => (Arc::clone(condition), false),
            Clause::Unless(condition) => (Arc::clone(condition), true),
        });
        rules.push(Rule {
            id: Arc::from(AsRef::<str>::as_ref(id)),
            effect: policy.effect(),
            conditions: conditions.collect(),
        });
    }
    Ok(rules)
}

/// Some permit is true, every forbid is false, no permit errs, and what conditions use is there.
fn of_member(question: &Question<'_>, member: &Member<'_>, rules: &[Rule]) -> Result<Filter, FilterError> {
    let mut permits = Vec::new();
    let mut sound = Vec::new();
    let mut all = Vec::new();
    for rule in rules {
        let mut translator = Translator::new(&rule.id, question.resource, member.entities);
        let Both { yes, no, total } = translator.rule(rule)?;
        // A row that lacks what a rule looks at without asking errs there, so it is not permitted, whichever way the rule would go.
        all.extend(translator.into_needed().into_iter().map(|field| {
            let what = What::Test { field, check: Check::Present };
            Tree::Leaf(Atom { rule: Arc::clone(&rule.id), what })
        }));
        match rule.effect {
            Effect::Permit => {
                if !total {
                    sound.push(Tree::any([yes.clone(), no]));
                }
                permits.push(yes);
            }
            Effect::Forbid => all.push(no),
        }
    }
    if permits.len() > 1 {
        // One that is true shall not hide that another errs.
        all.append(&mut sound);
    }
    all.push(Tree::any(permits));
    Ok(simplified(Tree::all(all)))
}
