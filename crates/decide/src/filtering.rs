//! Decisions about rows that are not here yet: what a store is asked, so that it returns only what may be seen (DESIGN 4,
//! "Filtering").

use std::collections::BTreeSet;

use bartizan_filter::{Filter, FilterError, Member, Question, Tree, filter};
use bartizan_identify::Caller;
use bartizan_model::{Action, AskFacts, Covering, Obligations, Situation};
use cedar_policy::{
    ActionConstraint, Context, Entities, EntityTypeName, EntityUid, Policy, PrincipalConstraint,
};

use crate::context::{Asking, Circumstances as _, Conditions};
use crate::describe::uid;
use crate::engine::{Door, Snapshot};
use crate::entities::View;
use crate::evaluate::Evaluator;
use crate::inner;
use crate::needs::Needs;
use crate::remedy::facts;
use crate::sponsor;

/// What is asked of every row.
#[derive(Clone, Copy, Debug)]
pub struct RowsQuestion<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// What they would do to a row.
    pub action: Action,
    /// The entity type of the rows.
    pub rows: &'a str,
    /// How.
    pub facts: &'a AskFacts,
    /// Under which conditions.
    pub situation: &'a Situation,
    /// What the door applies to every row that it gives out; nothing else may be presumed.
    pub applied: &'a Obligations,
}

impl Snapshot {
    /// The rows on which the whole chain may act, as a filter for the store that keeps them. A row that comes back is decided
    /// again on its authoritative attributes; an obligation that only some rows need is not presumed, so such rows are not among
    /// them.
    ///
    /// # Errors
    /// [`FilterError`]: then rows are decided on one by one, up to a bound.
    pub fn filter(&self, question: &RowsQuestion<'_>, door: &Door) -> Result<Filter, FilterError> {
        let caller = question.caller;
        let nobody = caller.is_supposed() || !caller.scopes().cover(question.action);
        let Some(evaluator) = self.evaluator().filter(|e| !nobody && !e.bundle.is_empty()) else {
            return Ok(Tree::Never);
        };
        let request = |why: &str| FilterError::Request(why.to_owned());
        let (never, each) =
            sponsor::of_rows(evaluator.entities(), caller, question.action, question.situation.now.as_secs());
        if never {
            return Ok(Tree::Never);
        }
        if caller.details().is_some() {
            return Err(request("the credential is for exact things: rows are decided one by one"));
        }
        if each {
            return Err(request("an agent's sponsor confines it: rows are decided one by one"));
        }
        let action = uid("Action", question.action.name()).ok_or_else(|| request("not an action"))?;
        let rows: EntityTypeName = question.rows.parse().map_err(|_| request("not an entity type"))?;
        let applies = |o: &&bartizan_model::Obligation| door.applies(o.kind());
        let applied: BTreeSet<String> = question.applied.iter().filter(applies).flat_map(facts).collect();
        of_members(evaluator, question, (&action, &rows), (&applied, None))
    }
}

/// The conjunction over all members of a chain, whose credential covers the rows so.
pub(crate) fn of_members(
    evaluator: &Evaluator,
    question: &RowsQuestion<'_>,
    (action, rows): (&EntityUid, &EntityTypeName),
    (applied, covering): (&BTreeSet<String>, Option<Covering>),
) -> Result<Filter, FilterError> {
    let mut parts = Vec::new();
    let Some(members) = members(evaluator, question, (applied, covering)) else { return Ok(Tree::Never) };
    for (principal, context, entities) in &members {
        let policies = evaluator.rules_of(principal, action);
        let member = Member { principal, context, entities };
        parts.push(filter(&Question {
            policies: &policies,
            schema: &evaluator.bundle.schema,
            members: &[member],
            action,
            resource: rows,
            applied,
        })?);
    }
    Ok(Tree::all(parts))
}

type Known = (EntityUid, Context, Entities);

/// Every member with its whole context and what is known beside the rows; none when one of them does not exist.
fn members(
    evaluator: &Evaluator,
    question: &RowsQuestion<'_>,
    (applied, covering): (&BTreeSet<String>, Option<Covering>),
) -> Option<Vec<Known>> {
    let nothing = BTreeSet::new();
    let one = |(place, member): (usize, &bartizan_model::Member)| {
        let principal = uid(member.principal.kind.entity_type(), &member.principal.name)?;
        let asking = Asking {
            caller: question.caller,
            member,
            place,
            situation: question.situation,
            facts: question.facts,
            called: None,
            covering,
            zone: evaluator.bundle.zone,
        };
        let context = Conditions::of(asking, applied, &nothing).context(Needs::ALL)?;
        let view = View::of(evaluator.entities());
        let (_, node) = view.declared(&principal)?;
        let reached = view.reach([node, node]);
        let reached = reached.map(|node| inner::entity_of(node, view.uids(&node.parents)));
        let entities = Entities::from_entities(reached, None).ok()?;
        Some((principal, context, entities))
    };
    question.caller.members().enumerate().map(one).collect()
}

impl Evaluator {
    /// The rules, the constitution's among them, whose scope can match the principal and the action on some resource.
    fn rules_of(&self, principal: &EntityUid, action: &EntityUid) -> Vec<Policy> {
        let view = View::of(self.entities());
        let declared = view.declared(principal);
        let within = |above: &EntityUid| {
            above == principal
                || declared.zip(view.find(above)).is_some_and(|((_, node), above)| node.is_in(above))
        };
        let groups = self.bundle.action_groups.get(action);
        let acts = |of: &EntityUid| of == action || groups.is_some_and(|groups| groups.contains(of));
        let fits = |policy: &Policy| {
            let who = match policy.principal_constraint() {
                PrincipalConstraint::Any => true,
                PrincipalConstraint::Eq(one) => one == *principal,
                PrincipalConstraint::In(above) => within(&above),
                PrincipalConstraint::Is(kind) => kind == *principal.type_name(),
                PrincipalConstraint::IsIn(kind, above) => kind == *principal.type_name() && within(&above),
            };
            who && match policy.action_constraint() {
                ActionConstraint::Any => true,
                ActionConstraint::Eq(one) => one == *action,
                ActionConstraint::In(all) => all.iter().any(acts),
            }
        };
        let all = self.bundle.constitution.iter().chain(&self.bundle.rules);
        all.map(|rule| &rule.policy).filter(|policy| fits(policy)).cloned().collect()
    }
}
