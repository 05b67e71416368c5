//! The entities that policies see, built from declared documents.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bartizan_base::{Digest, Name, json};
use bartizan_model::directory::{Spec, Status};
use bartizan_model::{Document, EntityRef};
use cedar_policy::{Entity, EntityTypeName, EntityUid};

use crate::bundle::CompiledBundle;
use crate::describe::{Attribute, describe, roles_of_groups, uid};
use crate::generic::{Misfit, admit, pointers};

/// One tenant's entities with their closed ancestors.
#[derive(Debug, Default)]
pub struct Entities {
    nodes: HashMap<EntityUid, Node>,
    users: Vec<Name>,
    misfits: Vec<Misfit>,
}

#[derive(Debug)]
pub(crate) struct Node {
    entity: Entity,
    parents: BTreeSet<EntityUid>,
    /// Itself and everything above.
    pub(crate) within: BTreeSet<EntityUid>,
    /// What its attributes point to.
    points_to: Vec<EntityUid>,
    digest: Digest,
}

/// Why documents make no entities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntitiesError {
    /// Something is above itself.
    #[error("`{0}` is above itself")]
    Cycle(String),
    /// The engine does not take it.
    #[error("`{0}` cannot be an entity: {1}")]
    Refused(String, String),
}

/// What one ask sees.
pub(crate) struct Slice {
    pub(crate) entities: cedar_policy::Entities,
    pub(crate) digest: Digest,
}

impl Entities {
    /// Builds the entities of `documents`, but for those of a bundle's own types.
    ///
    /// # Errors
    /// When a parent chain is a cycle.
    pub fn build(documents: &[Document]) -> Result<Self, EntitiesError> {
        Self::build_for(documents, None)
    }

    /// Builds the entities of `documents`; those of a bundle's own types as its schema reads them, or not at all where they
    /// do not fit ([`Self::misfits`]).
    ///
    /// # Errors
    /// When a parent chain is a cycle.
    pub fn build_for(documents: &[Document], bundle: Option<&CompiledBundle>) -> Result<Self, EntitiesError> {
        let mut out = Self::default();
        let members = roles_of_groups(documents);
        for document in documents {
            if let Some((attributes, parents, points_to)) = describe(document, &members) {
                if matches!(document.spec, Spec::User(ref spec) if spec.status == Status::Active) {
                    out.users.push(document.name.clone());
                }
                out.add(&document.entity(), &attributes, parents, points_to)?;
            }
        }
        out.add(&EntityRef::system(), &BTreeMap::new(), BTreeSet::new(), Vec::new())?;
        let anonymous = EntityRef::new(Name::literal("Anonymous"), Name::literal("anonymous"));
        out.add(&anonymous, &BTreeMap::new(), BTreeSet::new(), Vec::new())?;
        let present = |id: &EntityUid| out.nodes.contains_key(id);
        let own = admit(documents, bundle.map(|bundle| &bundle.schema), present);
        out.misfits = own.misfits;
        for (entity, (attributes, parents, points_to)) in own.fit {
            out.add(&entity, &attributes, parents, points_to)?;
        }
        out.close()?;
        Ok(out)
    }

    fn add(
        &mut self,
        what: &EntityRef,
        attributes: &BTreeMap<String, Attribute>,
        parents: BTreeSet<EntityUid>,
        points_to: Vec<EntityUid>,
    ) -> Result<(), EntitiesError> {
        let refused = |e: String| EntitiesError::Refused(what.to_string(), e);
        let id = uid(&what.kind, &what.name).ok_or_else(|| refused("not a type of the schema".to_owned()))?;
        let expressions = attributes.iter().map(|(name, value)| (name.clone(), value.expression())).collect();
        let entity = Entity::new(id, expressions, parents.iter().cloned().collect::<HashSet<_>>())
            .map_err(|e| refused(e.to_string()))?;
        let digest = Digest::of(&written(&entity).ok_or_else(|| refused("it cannot be written".to_owned()))?);
        self.put(entity, parents, points_to, digest);
        Ok(())
    }

    fn put(
        &mut self,
        entity: Entity,
        parents: BTreeSet<EntityUid>,
        points_to: Vec<EntityUid>,
        digest: Digest,
    ) {
        self.nodes.insert(entity.uid(), Node { entity, parents, within: BTreeSet::new(), points_to, digest });
    }

    /// The entities of documents that [`Entities::slice_documents`] gave: whatever is asked of the same principals and
    /// resource sees the same slice.
    ///
    /// # Errors
    /// When something is no entity, or a parent chain is a cycle.
    pub fn from_slice<'a>(documents: impl Iterator<Item = &'a [u8]>) -> Result<Self, EntitiesError> {
        let mut out = Self::default();
        for bytes in documents {
            let broken = |why: String| EntitiesError::Refused(Digest::of(bytes).to_string(), why);
            let value: serde_json::Value =
                serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()))?;
            let uids = |values: Vec<&serde_json::Value>| -> Option<Vec<EntityUid>> {
                values.into_iter().map(|v| EntityUid::from_json(v.clone()).ok()).collect()
            };
            let parents = value.get("parents").and_then(|p| p.as_array()).into_iter().flatten().collect();
            let parents = uids(parents).ok_or_else(|| broken("not an entity".to_owned()))?;
            let mut points_to = Vec::new();
            pointers(value.get("attrs").unwrap_or(&serde_json::Value::Null), &mut points_to);
            let entity = Entity::from_json_value(value, None).map_err(|e| broken(e.to_string()))?;
            out.put(entity, parents.into_iter().collect(), points_to, Digest::of(bytes));
        }
        out.close()?;
        Ok(out)
    }

    /// What an ask of `principal` on `resource` sees, as Cedar's JSON in canonical form, each under the digest that slices
    /// are made of. None where one of them does not exist.
    #[must_use]
    pub fn slice_documents(
        &self,
        principal: &EntityRef,
        resource: &EntityRef,
    ) -> Option<Vec<(Digest, Vec<u8>)>> {
        let ids =
            self.reach([&uid(&principal.kind, &principal.name)?, &uid(&resource.kind, &resource.name)?])?;
        let nodes = ids.iter().filter_map(|id| self.nodes.get(id));
        nodes.map(|node| Some((node.digest, written(&node.entity)?))).collect()
    }

    /// Whether somebody is in a group, directly or not.
    #[must_use]
    pub fn is_in(&self, who: &EntityRef, group: &Name) -> bool {
        let found = uid(&who.kind, &who.name).and_then(|id| self.nodes.get(&id));
        let group = uid("Group", group);
        found.zip(group).is_some_and(|(node, group)| node.within.contains(&group))
    }

    /// Closes the ancestors. A parent that is not declared stays a name that nothing else is in.
    fn close(&mut self) -> Result<(), EntitiesError> {
        let ids: Vec<EntityUid> = self.nodes.keys().cloned().collect();
        for id in ids {
            let mut within = BTreeSet::from([id.clone()]);
            let mut queue: Vec<EntityUid> =
                self.nodes.get(&id).map(|n| n.parents.iter().cloned().collect()).unwrap_or_default();
            while let Some(next) = queue.pop() {
                if next == id {
                    return Err(EntitiesError::Cycle(id.to_string()));
                }
                if within.insert(next.clone()) {
                    queue.extend(self.nodes.get(&next).into_iter().flat_map(|n| n.parents.iter().cloned()));
                }
            }
            if let Some(node) = self.nodes.get_mut(&id) {
                node.within = within;
            }
        }
        Ok(())
    }

    /// What was left out, because it does not fit the schema in force.
    #[must_use]
    pub fn misfits(&self) -> &[Misfit] {
        &self.misfits
    }

    pub(crate) fn node(&self, id: &EntityUid) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Everything that is declared, in no order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &EntityUid> {
        self.nodes.keys()
    }

    /// People who are in use.
    pub(crate) fn users(&self) -> &[Name] {
        &self.users
    }

    /// Something with everything above it; of something that is not declared, itself alone.
    pub(crate) fn within(&self, id: &EntityUid) -> Cow<'_, BTreeSet<EntityUid>> {
        self.nodes.get(id).map_or_else(|| Cow::Owned([id.clone()].into()), |node| Cow::Borrowed(&node.within))
    }

    /// The declared things of a type after `after`, in the order of their ids.
    pub(crate) fn of_type(&self, kind: &EntityTypeName, after: Option<&str>) -> Vec<EntityUid> {
        let beyond = |id: &EntityUid| after.is_none_or(|after| id.id().unescaped() > after);
        let mut all: Vec<EntityUid> =
            self.nodes.keys().filter(|id| id.type_name() == kind && beyond(id)).cloned().collect();
        all.sort_by(|a, b| a.id().unescaped().cmp(b.id().unescaped()));
        all
    }

    /// The slice with some entities put in the place of what is declared, which they need not be. What they point to is not
    /// followed.
    pub(crate) fn slice_with(&self, roots: [&EntityUid; 2], overlay: &[Entity]) -> Option<Slice> {
        if overlay.is_empty() {
            return self.slice(roots);
        }
        let mut ids = BTreeSet::new();
        for root in roots {
            match self.nodes.get(root) {
                Some(node) => {
                    ids.extend(node.within.iter().cloned());
                    for target in &node.points_to {
                        ids.extend(self.nodes.get(target).into_iter().flat_map(|n| n.within.iter().cloned()));
                    }
                }
                None if overlay.iter().any(|entity| entity.uid() == *root) => {}
                None => return None,
            }
        }
        let declared = ids.iter().filter(|id| overlay.iter().all(|e| e.uid() != **id));
        let nodes: Vec<&Node> = declared.filter_map(|id| self.nodes.get(id)).collect();
        let mut digests: Vec<u8> = nodes.iter().flat_map(|n| *n.digest.as_bytes()).collect();
        for entity in overlay {
            digests.extend_from_slice(
                Digest::of(&json::canonical(&entity.to_json_value().ok()?).ok()?).as_bytes(),
            );
        }
        let all = nodes.iter().map(|n| n.entity.clone()).chain(overlay.iter().cloned());
        let entities = cedar_policy::Entities::from_entities(all, None).ok()?;
        Some(Slice { entities, digest: Digest::of(&digests) })
    }

    /// What is declared of something, for an overlay to begin with.
    pub(crate) fn declared(&self, id: &EntityUid) -> Option<&Entity> {
        self.nodes.get(id).map(|node| &node.entity)
    }

    /// Everything that principal and resource reach: ancestors, and what attributes point to with its ancestors.
    pub(crate) fn slice(&self, roots: [&EntityUid; 2]) -> Option<Slice> {
        let ids = self.reach(roots)?;
        let nodes: Vec<&Node> = ids.iter().filter_map(|id| self.nodes.get(id)).collect();
        let digests: Vec<u8> = nodes.iter().flat_map(|n| *n.digest.as_bytes()).collect();
        let entities =
            cedar_policy::Entities::from_entities(nodes.iter().map(|n| n.entity.clone()), None).ok()?;
        Some(Slice { entities, digest: Digest::of(&digests) })
    }

    fn reach(&self, roots: [&EntityUid; 2]) -> Option<BTreeSet<EntityUid>> {
        let mut ids = BTreeSet::new();
        for root in roots {
            let node = self.nodes.get(root)?;
            ids.extend(node.within.iter().cloned());
            for target in &node.points_to {
                ids.extend(self.nodes.get(target).into_iter().flat_map(|n| n.within.iter().cloned()));
            }
        }
        Some(ids)
    }
}

/// An entity in Cedar's JSON format, canonical (RFC 8785): what its digest is of. Parents are a set there and stand in order
/// here.
fn written(entity: &Entity) -> Option<Vec<u8>> {
    let mut value = entity.to_json_value().ok()?;
    if let Some(parents) = value.get_mut("parents").and_then(|p| p.as_array_mut()) {
        parents.sort_by_cached_key(ToString::to_string);
    }
    json::canonical(&value).ok()
}
