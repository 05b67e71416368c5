//! The entities that policies see: a store of its own, because the engine's takes seconds for one change among a million.
//!
//! Names have numbers, ancestors are closed as sorted numbers when something changes, and copies share what they have in
//! common: an [`Entities`] never changes under a reader. A change costs a path of the tree and whatever lies below a parent that
//! changed.

mod close;
mod documents;
mod equal;
mod members;
mod names;
mod node;
mod radix;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_base::{Digest, Name};
use bartizan_model::EntityRef;
use cedar_policy::{Entity, EntityTypeName, EntityUid};
use serde_json::Value;

use crate::describe::uid;
use crate::generic::Misfit;
use crate::inner::{self, Facts};

use members::Members;
use radix::Radix;

pub use documents::KeyNode;
pub(crate) use names::{NOBODY, Names, Ready};
pub(crate) use node::Node;
pub(crate) use view::View;

/// How many levels may be above an entity.
pub const DEPTH_MAX: usize = 64;
/// In how many things one entity may be, directly or not.
pub const ABOVE_MAX: usize = 20_000;

/// One tenant's entities with their closed ancestors, at one moment. Cheap to copy.
#[derive(Clone, Debug, Default)]
pub struct Entities {
    names: Arc<Names>,
    nodes: Radix<Arc<Node>>,
    /// What lies directly in each.
    below: Radix<Members>,
    declared: usize,
    revision: u64,
    /// What was left out, because it does not fit the schema in force.
    misfits: Arc<[Misfit]>,
}

/// Why a change of entities is refused, whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntitiesError {
    /// Something is above itself.
    #[error("`{0}` is above itself")]
    Cycle(String),
    /// Too many levels.
    #[error("`{0}` has more than {DEPTH_MAX} levels above it")]
    Deep(String),
    /// Too many ancestors.
    #[error("`{0}` is in more than {ABOVE_MAX} things")]
    Wide(String),
    /// No more numbers for names.
    #[error("there are too many entities")]
    TooMany,
    /// It cannot be kept or evaluated.
    #[error("`{0}` cannot be an entity: {1}")]
    Refused(String, String),
}

/// An entity to be written.
struct Upsert {
    uid: EntityUid,
    facts: Facts,
    parents: Vec<EntityUid>,
    /// Whether it is a person in use.
    person: bool,
}

impl Upsert {
    fn of(entity: &Entity) -> Result<Self, EntitiesError> {
        let (facts, parents) = (Facts::of(entity)?, Facts::parents_of(entity));
        Ok(Self { uid: entity.uid(), facts, parents, person: false })
    }
}

impl Entities {
    /// These with `upserts` added or in the place of what stood under their names, and without `removals`. Takes
    /// microseconds for an entity without members; nothing of `self` changes, and after an error there is nothing new.
    ///
    /// # Errors
    /// A cycle, too many levels or ancestors, or an attribute that is unknown or cannot be written down.
    pub fn with(&self, upserts: &[Entity], removals: &[EntityUid]) -> Result<Self, EntitiesError> {
        self.changed(upserts.iter().map(Upsert::of).collect::<Result<_, _>>()?, removals)
    }

    fn changed(&self, upserts: Vec<Upsert>, removals: &[EntityUid]) -> Result<Self, EntitiesError> {
        let mut out = self.clone();
        out.apply(upserts, removals)?;
        out.revision += 1;
        Ok(out)
    }

    /// Adds an entity, or replaces the one of its name.
    ///
    /// # Errors
    /// As [`Self::with`]; nothing has changed then.
    pub fn upsert(&mut self, entity: &Entity) -> Result<(), EntitiesError> {
        *self = self.with(std::slice::from_ref(entity), &[])?;
        Ok(())
    }

    /// Removes an entity. What was in it stays in its name, which from now on nothing is known of.
    ///
    /// # Errors
    /// None so far; the signature is that of every change.
    pub fn remove(&mut self, uid: &EntityUid) -> Result<(), EntitiesError> {
        *self = self.with(&[], std::slice::from_ref(uid))?;
        Ok(())
    }

    /// How many entities there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.declared
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.declared == 0
    }

    /// How many changes were made since the entities were built.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether names that are gone take more room than those in use, so that building anew is worth it.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.names.len() as usize > 2 * self.declared + 100_000
    }

    /// The documents of everything that an evaluation of `principal` and `resource` reaches, each with its digest, sorted by
    /// it: the digest of a slice is that of these digests in this order. Each is in Cedar's JSON format for entities, in
    /// canonical form, with direct parents alone. None when either does not exist.
    #[must_use]
    pub fn slice_documents(
        &self,
        principal: &EntityRef,
        resource: &EntityRef,
    ) -> Option<Vec<(Digest, Vec<u8>)>> {
        let view = View::of(self);
        let node = |of: &EntityRef| Some(view.declared(&uid(&of.kind, &of.name)?)?.1);
        let mut out: Vec<(Digest, Vec<u8>)> = view
            .reach([node(principal)?, node(resource)?])
            .filter_map(|node| {
                Some((node.digest, node.facts.document(&node.uid, &view.uids(&node.parents))?))
            })
            .collect();
        out.sort_unstable_by_key(|(digest, _)| *digest);
        Some(out)
    }

    /// The entities of documents that [`Self::slice_documents`] gave: whatever is asked of the same principal and resource sees
    /// the same slice.
    ///
    /// # Errors
    /// When something is no entity, and as [`Self::with`].
    pub fn from_slice<'a>(documents: impl Iterator<Item = &'a [u8]>) -> Result<Self, EntitiesError> {
        let read = |bytes: &[u8]| {
            let broken = |why: String| EntitiesError::Refused(Digest::of(bytes).to_string(), why);
            let value: Value = serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()))?;
            Entity::from_json_value(value, None).map_err(|e| broken(e.to_string()))
        };
        let all: Vec<Entity> = documents.map(read).collect::<Result<_, _>>()?;
        Self::default().with(&all, &[])
    }

    /// What was left out, because it does not fit the schema in force.
    #[must_use]
    pub fn misfits(&self) -> &[Misfit] {
        &self.misfits
    }

    /// Whether somebody is in a group, directly or not.
    #[must_use]
    pub fn is_in(&self, who: &EntityRef, group: &Name) -> bool {
        self.is_under(who, &EntityRef::new(Name::literal("Group"), group.clone()))
    }

    /// Whether something is this, or belongs to it, directly or not.
    #[must_use]
    pub fn is_under(&self, who: &EntityRef, container: &EntityRef) -> bool {
        if who == container {
            return true;
        }
        let view = View::of(self);
        let found = uid(&who.kind, &who.name).zip(uid(&container.kind, &container.name));
        let found = found.and_then(|(who, group)| Some((view.declared(&who)?.1, view.find(&group)?)));
        found.is_some_and(|(node, group)| node.is_in(group))
    }

    /// The groups that somebody is in, directly or not, in the order of their names.
    #[must_use]
    pub fn groups_of(&self, who: &EntityRef) -> BTreeSet<String> {
        let view = View::of(self);
        let node = uid(&who.kind, &who.name).and_then(|who| Some(view.declared(&who)?.1));
        let above = node.map(|node| view.uids(&node.above)).unwrap_or_default();
        let groups = above.iter().filter(|above| above.type_name().to_string() == "Group");
        groups.map(|group| group.id().unescaped().to_owned()).collect()
    }

    /// The declared things of a type after `after`, in the order of their ids.
    pub(crate) fn of_type(&self, kind: &EntityTypeName, after: Option<&str>) -> Vec<EntityUid> {
        let beyond = |uid: &EntityUid| after.is_none_or(|after| uid.id().unescaped() > after);
        let of = self.names.kind(kind);
        let nodes = self.nodes.iter().filter(|node| node.declared && node.kind == of);
        let mut all: Vec<EntityUid> = nodes.map(|node| node.uid.clone()).filter(beyond).collect();
        all.sort_by(|a, b| a.id().unescaped().cmp(b.id().unescaped()));
        all
    }

    pub(crate) fn is_declared(&self, uid: &EntityUid) -> bool {
        View::of(self).declared(uid).is_some()
    }

    /// What is declared of something, for an overlay to begin with.
    pub(crate) fn declared(&self, uid: &EntityUid) -> Option<Entity> {
        let view = View::of(self);
        let (_, node) = view.declared(uid)?;
        Some(inner::entity_of(node, view.uids(&node.parents)))
    }

    pub(crate) const fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// People who are in use.
    pub(crate) fn users(&self) -> impl Iterator<Item = Name> {
        self.nodes.iter().filter(|node| node.person).filter_map(|node| node.uid.id().unescaped().parse().ok())
    }
}
