//! What policies see of each declared thing: its attributes and its parents.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use crate::inner::CONDITIONS;
use bartizan_base::Name;
use bartizan_model::Document;
use bartizan_model::asset::AssetSpec;
use bartizan_model::directory::{Spec, Status};
use cedar_policy::{EntityId, EntityTypeName, EntityUid, RestrictedExpression};

use crate::facts::TYPES;
use crate::inner::Fact;

/// The entity of a type of the schema.
pub(crate) fn uid(kind: &str, name: &str) -> Option<EntityUid> {
    /// Reading a type's name costs as much as deciding by it.
    static KNOWN: LazyLock<HashMap<&'static str, EntityTypeName>> = LazyLock::new(|| {
        let kinds = TYPES.iter().map(|kind| kind.name).chain(["Action"]);
        kinds.filter_map(|kind| Some((kind, kind.parse().ok()?))).collect()
    });
    let kind = match KNOWN.get(kind) {
        Some(known) => known.clone(),
        None => kind.parse().ok()?,
    };
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(name)))
}

/// An attribute of an entity.
#[derive(Debug)]
pub(crate) enum Attribute {
    Text(String),
    Flag(bool),
    Texts(BTreeSet<String>),
    Entity(EntityUid),
    Entities(BTreeSet<EntityUid>),
    /// As a bundle's schema reads it.
    Read(RestrictedExpression),
}

impl Attribute {
    pub(crate) fn expression(&self) -> RestrictedExpression {
        match self {
            Self::Text(text) => RestrictedExpression::new_string(text.clone()),
            Self::Flag(flag) => RestrictedExpression::new_bool(*flag),
            Self::Texts(texts) => RestrictedExpression::new_set(
                texts.iter().map(|text| RestrictedExpression::new_string(text.clone())),
            ),
            Self::Entity(uid) => RestrictedExpression::new_entity_uid(uid.clone()),
            Self::Entities(uids) => RestrictedExpression::new_set(
                uids.iter().map(|uid| RestrictedExpression::new_entity_uid(uid.clone())),
            ),
            Self::Read(expression) => expression.clone(),
        }
    }

    /// Its value; none where the engine refuses it.
    pub(crate) fn fact(&self) -> Option<Fact> {
        Some(match self {
            Self::Text(text) => Fact::text(text),
            Self::Flag(flag) => Fact::flag(*flag),
            Self::Texts(texts) => Fact::texts(texts),
            Self::Entity(uid) => Fact::entity(uid.clone()),
            Self::Entities(uids) => Fact::entities(uids.iter().cloned()),
            Self::Read(expression) => return Fact::read(expression),
        })
    }
}

/// Attributes, parents, and what attributes point to.
pub(crate) type Described = (BTreeMap<String, Attribute>, BTreeSet<EntityUid>, Vec<EntityUid>);

/// Attributes, parents and pointers of a document; none for kinds that policies do not see, nor for what only a bundle's
/// schema can read ([`crate::generic::admit`]).
pub(crate) fn describe(
    document: &Document,
    group_roles: &HashMap<Name, BTreeSet<Name>>,
) -> Option<Described> {
    let mut out = Thing::default();
    match &document.spec {
        Spec::User(spec) => {
            out.status(spec.standing());
            out.within("Group", spec.memberships()).within("Role", &spec.roles);
        }
        Spec::Agent(spec) | Spec::Workload(spec) => {
            out.status(spec.status);
            out.owner(Some(&spec.owner))?;
            out.text("purpose", spec.purpose.to_string());
            if !spec.conditions.is_empty() {
                // Left out, it would be an agent without bounds: so rather none at all.
                out.text(CONDITIONS, serde_json::to_string(&spec.conditions).ok()?);
            }
            out.within("Group", &spec.groups).within("Role", &spec.roles);
        }
        Spec::Group(spec) => {
            let roles = group_roles.get(&document.name);
            out.within("Group", &spec.parents).within("Role", roles.into_iter().flatten());
            out.within("Organisation", &spec.organisation);
        }
        Spec::Project(spec) => {
            out.within("Project", &spec.parents).within("Organisation", &spec.organisation);
        }
        Spec::Role(spec) | Spec::Environment(spec) | Spec::Provider(spec) | Spec::Organisation(spec) => {
            out.within(document.spec.entity_type(), &spec.parents);
        }
        Spec::ModelFamily(spec) => {
            out.text("sensitivity", spec.sensitivity.to_string());
            out.within("ModelFamily", &spec.parents).within("Provider", &spec.provider);
        }
        Spec::Model(spec) => {
            out.status(spec.status);
            out.text("environment", spec.environment.to_string());
            out.text("sensitivity", spec.sensitivity.to_string());
            out.within("Environment", [&spec.environment]).within("ModelFamily", &spec.family);
            out.within("Project", &spec.project);
        }
        Spec::Device(spec) => {
            out.status(spec.status);
            out.attributes.insert("managed".to_owned(), Attribute::Flag(spec.managed));
            out.owner(spec.owner.as_ref())?;
            out.within("Group", &spec.groups);
        }
        spec => out.asset(spec.asset()?)?,
    }
    Some((out.attributes, out.parents, out.points_to))
}

/// What is gathered of a thing.
#[derive(Default)]
struct Thing {
    attributes: BTreeMap<String, Attribute>,
    parents: BTreeSet<EntityUid>,
    points_to: Vec<EntityUid>,
}

impl Thing {
    fn text(&mut self, name: &str, text: String) {
        self.attributes.insert(name.to_owned(), Attribute::Text(text));
    }

    fn status(&mut self, status: Status) {
        self.text("status", if status == Status::Active { "active" } else { "disabled" }.to_owned());
    }

    fn owner(&mut self, owner: Option<&Name>) -> Option<()> {
        if let Some(owner) = owner {
            let owner = uid("User", owner)?;
            self.attributes.insert("owner".to_owned(), Attribute::Entity(owner.clone()));
            self.points_to.push(owner);
        }
        Some(())
    }

    /// An access list; none where nobody stands on it.
    fn named(&mut self, name: &str, kind: &str, names: &BTreeSet<Name>) -> Option<()> {
        if !names.is_empty() {
            let uids: BTreeSet<EntityUid> =
                names.iter().map(|name| uid(kind, name)).collect::<Option<_>>()?;
            self.points_to.extend(uids.iter().cloned());
            self.attributes.insert(name.to_owned(), Attribute::Entities(uids));
        }
        Some(())
    }

    fn within<'a>(&mut self, kind: &str, names: impl IntoIterator<Item = &'a Name>) -> &mut Self {
        self.parents.extend(names.into_iter().filter_map(|name| uid(kind, name)));
        self
    }

    fn asset(&mut self, (spec, container): (&AssetSpec, Option<&'static str>)) -> Option<()> {
        self.status(spec.status);
        self.text("sensitivity", spec.sensitivity.to_string());
        self.text("confidentiality", spec.confidentiality.name().to_owned());
        self.text("integrity", spec.integrity.name().to_owned());
        let categories = spec.categories.iter().map(ToString::to_string).collect();
        self.attributes.insert("categories".to_owned(), Attribute::Texts(categories));
        if let Some(environment) = &spec.environment {
            self.text("environment", environment.to_string());
        }
        if let Some(digest) = spec.digest {
            self.text("digest", digest.to_string());
        }
        self.owner(spec.owner.as_ref())?;
        self.within("Environment", &spec.environment).within("Project", &spec.project);
        if let Some(container) = container {
            self.within(container, &spec.within);
        }
        if container == Some("Collection") {
            self.named("readers", "User", &spec.readers)?;
            self.named("reader_groups", "Group", &spec.reader_groups)?;
        }
        Some(())
    }
}

/// The roles that each group gives its members.
pub(crate) fn roles_of_groups(documents: &[Document]) -> HashMap<Name, BTreeSet<Name>> {
    let groups = documents.iter().filter_map(|d| match &d.spec {
        Spec::Group(spec) => Some((d.name.clone(), spec.roles.clone())),
        _ => None,
    });
    groups.collect()
}
