//! What policies see of each declared thing: its attributes and its parents.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use bartizan_base::Name;
use bartizan_model::Document;
use bartizan_model::directory::{AgentSpec, NodeSpec, Spec, Status};
use cedar_policy::{EntityId, EntityTypeName, EntityUid, RestrictedExpression};

/// The entity of a type of the schema.
pub(crate) fn uid(kind: &str, name: &str) -> Option<EntityUid> {
    /// Reading a type's name costs as much as deciding by it.
    static KNOWN: LazyLock<HashMap<&'static str, EntityTypeName>> = LazyLock::new(|| {
        let kinds = ["Action", "Agent", "Anonymous", "Model", "System", "User", "Workload"];
        kinds.into_iter().filter_map(|kind| Some((kind, kind.parse().ok()?))).collect()
    });
    let kind = match KNOWN.get(kind) {
        Some(known) => known.clone(),
        None => kind.parse().ok()?,
    };
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(name)))
}

/// An attribute of an entity.
pub(crate) enum Attribute {
    Text(String),
    Entity(EntityUid),
}

impl Attribute {
    pub(crate) fn expression(&self) -> RestrictedExpression {
        match self {
            Self::Text(text) => RestrictedExpression::new_string(text.clone()),
            Self::Entity(uid) => RestrictedExpression::new_entity_uid(uid.clone()),
        }
    }
}

/// Attributes, parents, and what attributes point to.
pub(crate) type Described = (BTreeMap<String, Attribute>, BTreeSet<EntityUid>, Vec<EntityUid>);

/// Attributes, parents and pointers of a document; none for kinds that policies do not see.
pub(crate) fn describe(
    document: &Document,
    group_roles: &HashMap<Name, BTreeSet<Name>>,
) -> Option<Described> {
    let status =
        |s: Status| Attribute::Text(if s == Status::Active { "active" } else { "disabled" }.to_owned());
    let all = |kind: &str, names: &BTreeSet<Name>| {
        names.iter().filter_map(|n| uid(kind, n)).collect::<BTreeSet<_>>()
    };
    let node = |kind: &str, spec: &NodeSpec| (BTreeMap::new(), all(kind, &spec.parents), Vec::new());
    let agent = |spec: &AgentSpec| {
        let owner = uid("User", &spec.owner)?;
        let attributes = BTreeMap::from([
            ("status".to_owned(), status(spec.status)),
            ("owner".to_owned(), Attribute::Entity(owner.clone())),
            ("purpose".to_owned(), Attribute::Text(spec.purpose.to_string())),
        ]);
        Some((attributes, &all("Group", &spec.groups) | &all("Role", &spec.roles), vec![owner]))
    };
    Some(match &document.spec {
        Spec::User(spec) => {
            let attributes = BTreeMap::from([("status".to_owned(), status(spec.status))]);
            (attributes, &all("Group", &spec.groups) | &all("Role", &spec.roles), Vec::new())
        }
        Spec::Agent(spec) | Spec::Workload(spec) => agent(spec)?,
        Spec::Group(spec) => {
            let roles = group_roles.get(&document.name).cloned().unwrap_or_default();
            (BTreeMap::new(), &all("Group", &spec.parents) | &all("Role", &roles), Vec::new())
        }
        Spec::Role(spec) => node("Role", spec),
        Spec::Project(spec) => node("Project", spec),
        Spec::Environment(spec) => node("Environment", spec),
        Spec::Provider(spec) => node("Provider", spec),
        Spec::Model(spec) => {
            let attributes = BTreeMap::from([
                ("status".to_owned(), status(spec.status)),
                ("environment".to_owned(), Attribute::Text(spec.environment.to_string())),
                ("sensitivity".to_owned(), Attribute::Text(spec.sensitivity.to_string())),
            ]);
            let parents = uid("Environment", &spec.environment)
                .into_iter()
                .chain(spec.project.iter().filter_map(|p| uid("Project", p)));
            (attributes, parents.collect(), Vec::new())
        }
        Spec::Upstream(_) | Spec::Issuer(_) | Spec::View(_) | Spec::Delivery(_) | Spec::Mirror(_) => {
            return None;
        }
    })
}

/// The roles that each group gives its members.
pub(crate) fn roles_of_groups(documents: &[Document]) -> HashMap<Name, BTreeSet<Name>> {
    let groups = documents.iter().filter_map(|d| match &d.spec {
        Spec::Group(spec) => Some((d.name.clone(), spec.roles.clone())),
        _ => None,
    });
    groups.collect()
}
