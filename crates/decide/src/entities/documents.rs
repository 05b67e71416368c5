//! From declared documents to entities.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bartizan_base::Name;
use bartizan_model::directory::{Spec, Status};
use bartizan_model::{Document, EntityRef, KeyId};
use cedar_policy::{Entity, EntityUid};

use super::{Entities, EntitiesError, Upsert};
use crate::bundle::CompiledBundle;
use crate::describe::{Described, describe, roles_of_groups, uid};
use crate::generic::admit;

impl Entities {
    /// Builds the entities of `documents`, but for those of a bundle's own types.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn build(documents: &[Document]) -> Result<Self, EntitiesError> {
        Self::build_for(documents, None)
    }

    /// Builds the entities of `documents`, and those that are always there: our own house with its parts, and nobody in particular. Those of a
    /// bundle's own types are as its schema reads them, or not there at all where they do not fit ([`Self::misfits`]).
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn build_for(documents: &[Document], bundle: Option<&CompiledBundle>) -> Result<Self, EntitiesError> {
        let mut out = Self::default();
        let mut entities = described(documents)?;
        let anonymous = EntityRef::new(Name::literal("Anonymous"), Name::literal("anonymous"));
        let house: BTreeSet<EntityUid> = uid("System", "bartizan").into_iter().collect();
        for kind in EntityRef::OF_THE_HOUSE {
            let part = EntityRef::new(Name::literal(kind), Name::literal("bartizan"));
            let within = if kind == "System" { BTreeSet::new() } else { house.clone() };
            entities.push((entity(&part, (BTreeMap::new(), within, Vec::new()))?, false));
        }
        entities.push((entity(&anonymous, (BTreeMap::new(), BTreeSet::new(), Vec::new()))?, false));
        let known: HashSet<EntityUid> = entities.iter().map(|(entity, _)| entity.uid()).collect();
        let own = admit(documents, bundle.map(|bundle| &bundle.schema), |id| known.contains(id));
        out.misfits = own.misfits.into();
        for (what, described) in own.fit {
            entities.push((entity(&what, described)?, false));
        }
        out.apply(entities.iter().map(|(entity, person)| (entity, *person)), &[])?;
        Ok(out)
    }

    /// These after some documents were declared anew or changed, and others are gone. Not for things of a bundle's own types:
    /// whether those fit depends on each other, so they are built anew.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn with_documents(&self, changed: &[Document], gone: &[EntityRef]) -> Result<Self, EntitiesError> {
        let entities = described(changed)?;
        let upserts: Vec<Upsert<'_>> = entities.iter().map(|(entity, person)| (entity, *person)).collect();
        let gone: Vec<EntityUid> = gone.iter().filter_map(|what| uid(&what.kind, &what.name)).collect();
        self.changed(&upserts, &gone)
    }

    /// These with keys, each in whoever it stands for, and without others.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn with_keys(&self, keys: &[KeyNode], gone: &[EntityRef]) -> Result<Self, EntitiesError> {
        let house = uid("System", "bartizan");
        let nodes = keys.iter().map(|key| {
            let within = uid(&key.holder.kind, &key.holder.name).into_iter().chain(house.clone()).collect();
            entity(&key.key, (BTreeMap::new(), within, Vec::new()))
        });
        let nodes: Vec<Entity> = nodes.collect::<Result<_, _>>()?;
        let gone: Vec<EntityUid> = gone.iter().filter_map(|what| uid(&what.kind, &what.name)).collect();
        self.with(&nodes, &gone)
    }
}

/// An API key as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyNode {
    /// It, by its id.
    pub key: EntityRef,
    /// Whom it stands for.
    pub holder: EntityRef,
}

impl KeyNode {
    /// The key `id` of `holder`.
    #[must_use]
    pub fn new(id: KeyId, holder: EntityRef) -> Self {
        Self { key: Self::entity(id), holder }
    }

    /// The entity of a key.
    #[must_use]
    pub fn entity(id: KeyId) -> EntityRef {
        // An id is always a name.
        let name = id.to_string().parse().unwrap_or_else(|_| Name::literal("key"));
        EntityRef::new(Name::literal("Key"), name)
    }
}

/// What policies see of `documents`, and whether each is a person in use.
fn described(documents: &[Document]) -> Result<Vec<(Entity, bool)>, EntitiesError> {
    let roles: HashMap<Name, BTreeSet<Name>> = roles_of_groups(documents);
    let seen = documents.iter().filter_map(|document| Some((document, describe(document, &roles)?)));
    seen.map(|(document, described)| {
        let person = matches!(document.spec, Spec::User(ref spec) if spec.standing() == Status::Active);
        Ok((entity(&document.entity(), described)?, person))
    })
    .collect()
}

fn entity(what: &EntityRef, (attributes, parents, _): Described) -> Result<Entity, EntitiesError> {
    let refused = |e: String| EntitiesError::Refused(what.to_string(), e);
    let id = uid(&what.kind, &what.name).ok_or_else(|| refused("not a type of the schema".to_owned()))?;
    let expressions = attributes.iter().map(|(name, value)| (name.clone(), value.expression())).collect();
    let parents: HashSet<EntityUid> = parents.into_iter().collect();
    Entity::new(id, expressions, parents).map_err(|e| refused(e.to_string()))
}
