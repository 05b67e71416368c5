//! What a store found is a claim: every row is looked at again before anybody sees it.

use bartizan_base::Name;
use bartizan_decide::{Door, RowsQuestion, Snapshot};
use bartizan_model::{Action, AskFacts, Label, Obligations, Situation};
use bartizan_retrieve::{Row, Seals};

use bartizan_identify::Caller;

use super::declared;
use crate::world::World;

/// By what rows are looked at again: what is in force now, not what was when the search began.
pub(super) struct Recheck<'a> {
    pub(super) world: &'a World,
    pub(super) policy: &'a Snapshot,
    pub(super) caller: &'a Caller,
    pub(super) situation: &'a Situation,
    pub(super) facts: &'a AskFacts,
    pub(super) applied: &'a Obligations,
    pub(super) door: &'a Door,
    pub(super) seals: Option<&'a Seals<'a>>,
    pub(super) collection: &'a Name,
    /// The bounds of when access lists were told, in milliseconds.
    pub(super) told_ms: (u64, u64),
}

impl Recheck<'_> {
    /// The label of a row that may be given; none for one that may not.
    ///
    /// What is declared is decided on as it is declared, and only where it is declared to lie here: a store cannot give a
    /// document another name's rights.
    pub(super) fn passes(&self, row: &Row) -> Option<Label> {
        let (from, until) = self.told_ms;
        let access = &row.access;
        let here = row.tenant == *self.caller.tenant() && access.collection() == Some(self.collection);
        let fresh = (from..=until).contains(&access.synced_ms);
        let ours = self.seals.is_none_or(|seals| row.is_sealed_by(seals));
        if !(here && fresh && ours) {
            return None;
        }
        self.may(Action::DocumentRead, &access.id, &access.spec)
    }

    /// Whether the caller may do that to a document of the collection, and its label if so.
    pub(super) fn may(
        &self,
        action: Action,
        id: &Name,
        stored: &bartizan_model::asset::AssetSpec,
    ) -> Option<Label> {
        let question = RowsQuestion {
            caller: self.caller,
            action,
            rows: "Document",
            facts: self.facts,
            situation: self.situation,
            applied: self.applied,
        };
        if let Some(spec) = declared(self.world, self.caller, id) {
            let resource = bartizan_model::EntityRef::new(Name::literal("Document"), id.clone());
            let may = spec.within.contains(self.collection)
                && self.policy.permits_declared(&question, &resource, self.door);
            return may.then(|| spec.label());
        }
        let row = self.policy.lay(id, stored)?;
        self.policy.permits_row(&question, &row, self.door).then(|| stored.label())
    }
}
