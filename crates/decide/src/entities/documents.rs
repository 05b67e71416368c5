//! From declared documents to entities.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bartizan_base::Name;
use bartizan_model::directory::{Spec, Status};
use bartizan_model::{Document, EntityRef, KeyId};
use cedar_policy::EntityUid;
use smol_str::SmolStr;

use super::{Entities, EntitiesError, Upsert};
use crate::bundle::CompiledBundle;
use crate::describe::{Attribute, Described, describe, roles_of_groups, uid};
use crate::generic::admit;
use crate::inner::Facts;

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
            entities.push(upsert(&part, (BTreeMap::new(), within, Vec::new()), false)?);
        }
        entities.push(upsert(&anonymous, (BTreeMap::new(), BTreeSet::new(), Vec::new()), false)?);
        let known: HashSet<EntityUid> = entities.iter().map(|entity| entity.uid.clone()).collect();
        let own = admit(documents, bundle.map(|bundle| &bundle.schema), |id| known.contains(id));
        out.misfits = own.misfits.into();
        for (what, described) in own.fit {
            entities.push(upsert(&what, described, false)?);
        }
        out.apply(entities, &[])?;
        Ok(out)
    }

    /// These after some documents were declared anew or changed, and others are gone. Not for things of a bundle's own types:
    /// whether those fit depends on each other, so they are built anew.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn with_documents(&self, changed: &[Document], gone: &[EntityRef]) -> Result<Self, EntitiesError> {
        let gone: Vec<EntityUid> = gone.iter().filter_map(|what| uid(&what.kind, &what.name)).collect();
        self.changed(described(changed)?, &gone)
    }

    /// These with keys, each in whoever it stands for, and without others.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn with_keys(&self, keys: &[KeyNode], gone: &[EntityRef]) -> Result<Self, EntitiesError> {
        let house = uid("System", "bartizan");
        let nodes = keys.iter().map(|key| {
            let within = uid(&key.holder.kind, &key.holder.name).into_iter().chain(house.clone()).collect();
            upsert(&key.key, (BTreeMap::new(), within, Vec::new()), false)
        });
        let nodes = nodes.collect::<Result<_, _>>()?;
        let gone: Vec<EntityUid> = gone.iter().filter_map(|what| uid(&what.kind, &what.name)).collect();
        self.changed(nodes, &gone)
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

/// What policies see of `documents`.
fn described(documents: &[Document]) -> Result<Vec<Upsert>, EntitiesError> {
    let roles: HashMap<Name, BTreeSet<Name>> = roles_of_groups(documents);
    let seen = documents.iter().filter_map(|document| Some((document, describe(document, &roles)?)));
    seen.map(|(document, described)| {
        let person = matches!(document.spec, Spec::User(ref spec) if spec.standing() == Status::Active);
        upsert(&document.entity(), described, person)
    })
    .collect()
}

fn upsert(
    what: &EntityRef,
    (attributes, parents, _): Described,
    person: bool,
) -> Result<Upsert, EntitiesError> {
    let refused = |why: &str| EntitiesError::Refused(what.to_string(), why.to_owned());
    let uid = uid(&what.kind, &what.name).ok_or_else(|| refused("not a type of the schema"))?;
    let fact = |(name, value): (&String, &Attribute)| {
        let fact = value.fact().ok_or_else(|| refused(&format!("`{name}` has no value")))?;
        Ok((SmolStr::new(name), fact))
    };
    let facts: Vec<_> = attributes.iter().map(fact).collect::<Result<_, EntitiesError>>()?;
    let facts = Facts::of_attributes(&uid, facts.into_iter())?;
    Ok(Upsert { uid, facts, parents: parents.into_iter().collect(), person })
}
