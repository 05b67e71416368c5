//! Rows of a declared table, as entities of a type that the bundle's own schema declares: which of them a chain may act on, as a
//! filter for the database, and one by one.
//!
//! Unlike documents of a store (`rows`), they are never declared; the table that they lie in is, and it has been decided on by
//! itself. Where they lie is what the directory says of the table.

use std::collections::BTreeSet;

use bartizan_filter::{Entity as Above, Filter, FilterError, Tree};
use bartizan_identify::Caller;
use bartizan_model::detail::covering;
use bartizan_model::directory::EntitySpec;
use bartizan_model::{
    Action, AskFacts, Covering, EntityRef, Obligations, PrincipalKind, Situation, TypeName,
};
use cedar_policy::{Entity, EntityTypeName, EntityUid};

use crate::context::{Asking, Conditions};
use crate::describe::uid;
use crate::engine::{Door, Snapshot};
use crate::entities::View;
use crate::evaluate::{Evaluator, Triple};
use crate::filtering::{RowsQuestion, of_members};
use crate::remedy::facts;
use crate::{generic, platform, sponsor};

/// What reading a row of a table is, as far as scopes and sponsors look at actions: its own action is one of the bundle's.
const READ: Action = Action::TableRead;

/// What is asked of every row of a table.
#[derive(Clone, Copy, Debug)]
pub struct RecordsQuestion<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// The type of the rows, of the bundle's own schema.
    pub kind: &'a TypeName,
    /// What they would do to a row: an action in the namespace of that type.
    pub action: &'a str,
    /// The table.
    pub table: &'a EntityRef,
    /// How.
    pub facts: &'a AskFacts,
    /// Under which conditions.
    pub situation: &'a Situation,
    /// What the door applies to every row that it gives out; nothing else may be presumed.
    pub applied: &'a Obligations,
}

/// A question in the words of the schema.
struct Asked<'a> {
    evaluator: &'a Evaluator,
    kind: EntityTypeName,
    action: EntityUid,
    table: EntityUid,
    applied: BTreeSet<String>,
    /// How the credential covers the table, where it is for exact things.
    covering: Option<Covering>,
}

impl Snapshot {
    /// The rows of a table on which the whole chain may act. The table itself is asked for apart.
    ///
    /// # Errors
    /// [`FilterError`]: then no row may be shown, since no row of a statement can be decided on one by one.
    pub fn filter_records(&self, question: &RecordsQuestion<'_>, door: &Door) -> Result<Filter, FilterError> {
        let Some(asked) = self.asked(question, door)? else { return Ok(Tree::Never) };
        let &RecordsQuestion { caller, facts, situation, applied, .. } = question;
        let view = View::of(asked.evaluator.entities());
        let Some((_, table)) = view.declared(&asked.table) else { return Ok(Tree::Never) };
        let above = view.uids(&table.above);
        let above = above
            .iter()
            .map(|uid| Above { kind: uid.type_name().to_string(), id: uid.id().unescaped().to_owned() });
        let rows = question.kind.as_name().as_str();
        let members = RowsQuestion { caller, action: READ, rows, facts, situation, applied };
        let filter = of_members(
            asked.evaluator,
            &members,
            (&asked.action, &asked.kind),
            (&asked.applied, asked.covering),
        )?;
        Ok(filter.of_rows_in(&above.collect()))
    }

    /// Whether the whole chain may act on one row, under what the door applies to it: the full evaluation that the filter stands for.
    ///
    /// # Errors
    /// [`FilterError`], also for a row that is not what the schema says.
    pub fn permits_record(
        &self,
        question: &RecordsQuestion<'_>,
        row: &EntitySpec,
        door: &Door,
    ) -> Result<bool, FilterError> {
        let Some(asked) = self.asked(question, door)? else { return Ok(false) };
        let evaluator = asked.evaluator;
        if row.kind != *question.kind {
            return Err(FilterError::Entities("the row is of another type".to_owned()));
        }
        let (resource, (attributes, mut parents, _)) =
            generic::read(row, &evaluator.bundle.schema).map_err(FilterError::Entities)?;
        parents.insert(asked.table.clone());
        let attributes = attributes.iter().map(|(name, value)| (name.clone(), value.expression())).collect();
        let entity = Entity::new(resource.clone(), attributes, parents.into_iter().collect())
            .map_err(|e| FilterError::Entities(e.to_string()))?;
        let (overlay, nothing) = (vec![entity], BTreeSet::new());
        let &RecordsQuestion { caller, situation, facts, .. } = question;
        let may = |(place, member): (usize, &bartizan_model::Member)| {
            let principal = uid(member.principal.kind.entity_type(), &member.principal.name)?;
            let (covering, zone) = (asked.covering, evaluator.bundle.zone);
            let asking = Asking { caller, member, place, situation, facts, called: None, covering, zone };
            let conditions = Conditions::of(asking, &asked.applied, &nothing);
            let triple = Triple { principal, action: asked.action.clone(), resource: resource.clone() };
            let found = evaluator.evaluate_with(&triple, &conditions, &overlay)?;
            Some(match member.principal.kind {
                PrincipalKind::Agent | PrincipalKind::Workload => {
                    let placed = Triple { resource: asked.table.clone(), ..triple };
                    let by = sponsor::Asked::by(caller, place, Some(READ), situation.now.as_secs());
                    sponsor::bounded(evaluator.entities(), &placed, &by, found).permitted
                }
                PrincipalKind::User | PrincipalKind::Anonymous => found.permitted,
            })
        };
        Ok(caller.members().enumerate().all(|member| may(member) == Some(true)))
    }

    /// The question in the words of the schema; none where the answer is no whatever the row.
    fn asked(&self, question: &RecordsQuestion<'_>, door: &Door) -> Result<Option<Asked<'_>>, FilterError> {
        let caller = question.caller;
        let nobody = caller.is_supposed() || !caller.scopes().cover(READ);
        let Some(evaluator) = self.evaluator().filter(|e| !nobody && !e.bundle.is_empty()) else {
            return Ok(None);
        };
        let request = |why: &str| FilterError::Request(why.to_owned());
        let name = question.kind.as_name();
        let kind: EntityTypeName = name.parse().map_err(|_| request("not an entity type"))?;
        let namespace = name.rsplit_once("::").map(|(namespace, _)| namespace);
        let ours = namespace.is_none() && question.action.parse::<Action>().is_ok();
        if ours || platform::has_type(name) {
            return Err(request("rows are of a type and asked for by an action of the bundle's own"));
        }
        let table = uid(&question.table.kind, &question.table.name).ok_or_else(|| request("not a table"))?;
        let within = evaluator.bundle.schema.ancestors(&kind);
        if !within.is_some_and(|mut within| within.any(|above| above == table.type_name())) {
            return Err(request("the schema does not declare the type of the rows `in [Table]`"));
        }
        let action =
            namespace.map_or_else(|| "Action".to_owned(), |namespace| format!("{namespace}::Action"));
        let action = uid(&action, question.action).ok_or_else(|| request("not an action"))?;
        let now_s = question.situation.now.as_secs();
        let covering = match caller.details() {
            None => None,
            Some(details) => {
                // With the table come its rows, and reading it was counted.
                let read = (READ, question.table);
                let Some(covering) = covering(details, read, question.facts, question.situation.now) else {
                    return Ok(None);
                };
                Some(Covering { counts: None, ..covering })
            }
        };
        let is_declared = View::of(evaluator.entities()).declared(&table).is_some();
        if !is_declared || sponsor::of_rows_in(evaluator.entities(), caller, READ, now_s, &table) {
            return Ok(None);
        }
        let applies = |o: &&bartizan_model::Obligation| door.applies(o.kind());
        let applied = question.applied.iter().filter(applies).flat_map(facts).collect();
        Ok(Some(Asked { evaluator, kind, action, table, applied, covering }))
    }
}
