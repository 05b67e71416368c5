//! What declared things refer to.

use bartizan_base::Name;

use crate::directory::Spec;

impl Spec {
    /// What it refers to, as kind and name. What an [`Spec::Entity`] refers to is for the schema to say.
    #[must_use]
    pub fn references(&self) -> Vec<(&'static str, &Name)> {
        fn all<'a>(
            kind: &'static str,
            names: impl IntoIterator<Item = &'a Name>,
        ) -> Vec<(&'static str, &'a Name)> {
            names.into_iter().map(|name| (kind, name)).collect()
        }
        let parts = match self {
            Spec::User(p) => vec![all("group", p.memberships()), all("role", &p.roles)],
            Spec::IdentityProvider(p) => {
                vec![all("group", p.groups.iter().flat_map(|g| &g.map).map(|mapped| &mapped.group))]
            }
            Spec::Agent(a) | Spec::Workload(a) => vec![
                all("user", [&a.owner]),
                all("group", &a.groups),
                all("role", &a.roles),
                all("environment", &a.conditions.environments),
                all("project", &a.conditions.projects),
            ],
            Spec::Group(n)
            | Spec::Role(n)
            | Spec::Project(n)
            | Spec::Environment(n)
            | Spec::Provider(n)
            | Spec::Organisation(n) => {
                let organisation = all("organisation", &n.organisation);
                vec![all(self.kind(), &n.parents), all("role", &n.roles), organisation]
            }
            Spec::Upstream(u) => vec![all("provider", &u.provider)],
            Spec::Model(m) => vec![
                all("upstream", [&m.upstream]),
                all("upstream", m.routes.iter().map(|route| &route.upstream)),
                all("environment", [&m.environment]),
                all("project", &m.project),
                all("model_family", &m.family),
            ],
            Spec::ApiRoute(route) => vec![all("upstream", [&route.upstream])],
            Spec::ModelFamily(f) => vec![all("model_family", &f.parents), all("provider", &f.provider)],
            Spec::Device(d) => vec![all("group", &d.groups), all("user", &d.owner)],
            Spec::Limit(limit) => vec![
                all("user", &limit.only.user),
                all("agent", &limit.only.agent),
                all("workload", &limit.only.workload),
                all("group", &limit.only.group),
                all("project", &limit.only.project),
                all("model", &limit.only.model),
                all("tool", &limit.only.tool),
                all("tool_server", &limit.only.tool_server),
            ],
            Spec::Price(price) => vec![all("model", [&price.model]), all("upstream", &price.upstream)],
            Spec::ToolRoute(route) => vec![all("upstream", &route.upstream)],
            Spec::EnforcementPoint(point) => vec![all("workload", [&point.workload])],
            Spec::CorpusRoute(route) => {
                vec![all("upstream", route.store.upstream()), all("model", &route.model)]
            }
            spec => match spec.asset() {
                None => Vec::new(),
                Some((asset, container)) => vec![
                    all(container.map_or("", kind_of), &asset.within),
                    all("project", &asset.project),
                    all("environment", &asset.environment),
                    all("user", &asset.owner),
                    all("connection_provider", &asset.connection),
                    all("user", &asset.readers),
                    all("group", &asset.reader_groups),
                ],
            },
        };
        parts.into_iter().flatten().collect()
    }
}

/// The kind that declares what an asset can be within.
fn kind_of(entity_type: &'static str) -> &'static str {
    match entity_type {
        "ToolServer" => "tool_server",
        "Corpus" => "corpus",
        "Collection" => "collection",
        "Database" => "database",
        "Table" => "table",
        "Manifest" => "manifest",
        other => other,
    }
}
