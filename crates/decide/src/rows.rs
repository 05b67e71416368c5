//! Rows of a store, decided on one by one: documents that nobody declared, with the attributes that the store has of them.
//!
//! A row exists for one ask alone. What is declared is decided on as it is declared; only what is not takes the store's word,
//! and what lies above its collection is the directory's, whatever the store says.

use std::collections::{BTreeSet, HashMap};

use bartizan_base::Name;
use bartizan_filter::Entity as StoreEntity;
use bartizan_identify::Caller;
use bartizan_model::asset::AssetSpec;
use bartizan_model::record::VerdictKind;
use bartizan_model::{Ask, Document, EntityRef, Operation, Situation, Spec};
use cedar_policy::{Entity, EntityUid};

use crate::approval::Standing;
use crate::describe::{describe, uid};
use crate::engine::{Case, Door, Snapshot};
use crate::entities::View;
use crate::filtering::RowsQuestion;
use crate::remedy::facts as facts_of;
use crate::verdict::Decision;

/// A document that lies in a declared collection and is not declared itself, as policies will see it.
#[derive(Clone, Debug)]
pub struct Laid {
    pub(crate) overlay: Vec<Entity>,
    /// The collection.
    pub(crate) container: EntityUid,
    resource: EntityRef,
    above: Vec<String>,
}

impl Laid {
    /// Everything that it lies in, directly or not, as filters name it ([`bartizan_filter::Entity::text`]), sorted.
    #[must_use]
    pub fn above(&self) -> &[String] {
        &self.above
    }

    /// It.
    #[must_use]
    pub const fn resource(&self) -> &EntityRef {
        &self.resource
    }
}

impl Snapshot {
    /// The document `id` as a row with these attributes; none where it is declared, where it is not within exactly one
    /// collection, or where that is not declared.
    #[must_use]
    pub fn lay(&self, id: &Name, spec: &AssetSpec) -> Option<Laid> {
        let mut within = spec.within.iter();
        let (Some(collection), None) = (within.next(), within.next()) else { return None };
        let container = uid("Collection", collection)?;
        let document = Document { name: id.clone(), principal: None, spec: Spec::Document(spec.clone()) };
        let resource = document.entity();
        let this = uid(&resource.kind, &resource.name)?;
        let declared = View::of(self.entities());
        declared.declared(&container)?;
        if declared.declared(&this).is_some() {
            return None;
        }
        let (attributes, parents, _) = describe(&document, &HashMap::new())?;
        let attributes = attributes.iter().map(|(name, value)| (name.clone(), value.expression())).collect();
        let entity = Entity::new(this.clone(), attributes, parents.into_iter().collect()).ok()?;
        let overlay = vec![entity];
        let view = View::with(self.entities(), &overlay).ok()?;
        let (_, node) = view.declared(&this)?;
        let text = |of: &EntityUid| {
            StoreEntity { kind: of.type_name().to_string(), id: of.id().unescaped().to_owned() }.text()
        };
        let mut above: Vec<String> =
            view.uids(&node.above).iter().filter(|above| **above != this).map(text).collect();
        above.sort_unstable();
        Some(Laid { overlay, container, resource, above })
    }

    /// Whether an entity is declared.
    #[must_use]
    pub fn declares(&self, what: &EntityRef) -> bool {
        uid(&what.kind, &what.name).is_some_and(|uid| View::of(self.entities()).declared(&uid).is_some())
    }

    /// Whether the whole chain may act on a row, without any obligation: the full evaluation that a filter stands for.
    #[must_use]
    pub fn permits_row(&self, question: &RowsQuestion<'_>, row: &Laid, door: &Door) -> bool {
        self.permits_of(question, &row.resource, Some(row), door)
    }

    /// The same of something declared.
    #[must_use]
    pub fn permits_declared(&self, question: &RowsQuestion<'_>, resource: &EntityRef, door: &Door) -> bool {
        self.permits_of(question, resource, None, door)
    }

    /// Whether the whole chain may act on something declared, under whatever obligations the door can apply.
    #[must_use]
    pub fn would_permit(&self, question: &RowsQuestion<'_>, resource: &EntityRef, door: &Door) -> bool {
        let RowsQuestion { caller, action, rows: _, facts, situation, applied: _ } = *question;
        let standing = &Standing::default();
        let case = Case {
            caller,
            action,
            resource,
            facts,
            situation,
            standing,
            all: false,
            row: None,
            supposed: None,
        };
        self.judge(&case, door).verdict == VerdictKind::Permit && !caller.is_supposed()
    }

    fn permits_of(
        &self,
        question: &RowsQuestion<'_>,
        resource: &EntityRef,
        row: Option<&Laid>,
        door: &Door,
    ) -> bool {
        let RowsQuestion { caller, action, rows: _, facts, situation, applied } = *question;
        let standing = &Standing::default();
        let case =
            Case { caller, action, resource, facts, situation, standing, all: false, row, supposed: None };
        let judged = self.judge(&case, door);
        let applied: BTreeSet<String> =
            applied.iter().filter(|o| door.applies(o.kind())).flat_map(facts_of).collect();
        let met = judged.obligations.iter().flat_map(facts_of).all(|owed| applied.contains(&owed));
        // Rows are not counted, so what is bounded in number is none to give them out by.
        let countless = judged.covering.and_then(|covering| covering.counts).is_none();
        judged.verdict == VerdictKind::Permit && met && countless && !caller.is_supposed()
    }

    /// Decides an ask about a row, whatever resource it names.
    pub fn decide_row<O: Operation>(
        &self,
        caller: &Caller,
        mut ask: Ask<O>,
        situation: &Situation,
        door: &Door,
        row: &Laid,
    ) -> Decision<O> {
        ask.resource = row.resource.clone();
        self.decide_by(caller, ask, situation, door, (&Standing::default(), false, Some(row)))
    }
}
