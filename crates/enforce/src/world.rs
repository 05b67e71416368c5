//! What is in force: one immutable copy of the state, compiled, swapped whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_base::{Digest, Name};
use bartizan_decide::{Entities, Shadow, Snapshot};
use bartizan_identify::{Caller, Directory};
use bartizan_keys::Stage;
use bartizan_mask::Custom;
use bartizan_model::asset::AssetSpec;
use bartizan_model::directory::{IssuerSpec, ModelSpec, Spec, Status, UpstreamSpec};
use bartizan_model::{
    CorpusRouteSpec, DatabaseRouteSpec, EnforcementPointSpec, LimitSpec, MeshRouteSpec, PriceSpec, Tenant,
    ToolRouteSpec,
};
use bartizan_store::State;

use crate::afterwards::chosen;
use crate::apis::ReadyApi;
use crate::policies::InForce;

/// Everything a request needs to know, at one revision.
#[derive(Debug)]
pub struct World {
    /// The state it was made of.
    pub state: Arc<State>,
    /// Who can be identified.
    pub directory: Directory,
    /// Each tenant's policy, entities and routes.
    pub tenants: BTreeMap<Tenant, TenantWorld>,
}

/// A tenant's part of the world.
#[derive(Clone, Debug)]
pub struct TenantWorld {
    /// Policy and entities.
    pub policy: Arc<Snapshot>,
    /// The version in force, as it was signed.
    pub in_force: Option<Arc<InForce>>,
    /// A candidate over the same entities.
    pub staged: Option<Arc<Staged>>,
    /// Models by the name callers use.
    pub models: Arc<BTreeMap<Name, ModelSpec>>,
    /// Upstreams by name.
    pub upstreams: Arc<BTreeMap<Name, UpstreamSpec>>,
    /// Token issuers by name.
    pub issuers: Arc<BTreeMap<Name, IssuerSpec>>,
    /// External APIs by name.
    pub apis: Arc<BTreeMap<Name, Arc<ReadyApi>>>,
    /// Applications that ask for decisions, by their workload.
    pub points: Arc<BTreeMap<Name, EnforcementPointSpec>>,
    /// What there may be how much of.
    pub limits: Arc<BTreeMap<Name, LimitSpec>>,
    /// What models cost.
    pub prices: Arc<BTreeMap<Name, PriceSpec>>,
    /// What the tenant looks for in texts beyond what is built in.
    pub detectors: Arc<BTreeMap<Name, Custom>>,
    /// How servers of tools are reached, by name.
    pub tool_routes: Arc<BTreeMap<Name, ToolRouteSpec>>,
    /// Servers of tools by name.
    pub tool_servers: Arc<BTreeMap<Name, AssetSpec>>,
    /// Tools by name: `server/tool`.
    pub tools: Arc<BTreeMap<Name, AssetSpec>>,
    /// How databases are reached, by their names.
    pub databases: Arc<BTreeMap<Name, DatabaseRouteSpec>>,
    /// How corpora are reached, by the corpus.
    pub corpora: Arc<BTreeMap<Name, CorpusRouteSpec>>,
    /// What proxies ask about, by name.
    pub mesh_routes: Arc<BTreeMap<Name, MeshRouteSpec>>,
    /// Its policy is not yet what the state says, since that is not compiled.
    pub(crate) waits: bool,
}

/// A candidate, ready to decide.
#[derive(Debug)]
pub struct Staged {
    /// Which.
    pub digest: Digest,
    /// How it is tried.
    pub stage: Stage,
    /// It, over the entities of the tenant.
    pub snapshot: Arc<Snapshot>,
}

impl World {
    /// Before anything is known.
    pub(crate) fn empty() -> Self {
        Self { state: Arc::default(), directory: Directory::empty(), tenants: BTreeMap::new() }
    }

    /// Whether policy somewhere is not yet what the state says.
    pub(crate) fn policy_waits(&self) -> bool {
        self.tenants.values().any(|tenant| tenant.waits)
    }
}

impl TenantWorld {
    /// What decides for somebody: the bundle in force, or a candidate that is in force for them.
    #[must_use]
    pub fn policy_for(&self, caller: &Caller) -> &Arc<Snapshot> {
        let Some(staged) = &self.staged else { return &self.policy };
        let Stage::Rollout { percent, groups } = &staged.stage else { return &self.policy };
        let subject = &caller.subject().principal;
        let entity = subject.entity();
        let theirs = chosen(staged.digest, subject.id.as_bytes(), *percent)
            || groups.iter().any(|group| self.policy.entities().is_in(&entity, group));
        if theirs { &staged.snapshot } else { &self.policy }
    }

    /// The same routes over another policy or other entities.
    pub(crate) fn deciding(
        self,
        (in_force, waits): (Option<Arc<InForce>>, bool),
        entities: Arc<Entities>,
        shadow: &Arc<Shadow>,
    ) -> Self {
        let policy = Snapshot::new(in_force.as_ref().map(|f| f.bundle.clone()), entities.clone());
        let policy = Arc::new(policy.watched(shadow.clone()));
        let candidate = in_force.as_ref().and_then(|f| f.candidate.as_ref());
        let staged = candidate.map(|(bundle, stage)| Staged {
            digest: bundle.digest(),
            stage: stage.clone(),
            snapshot: Arc::new(Snapshot::new(Some(bundle.clone()), entities).watched(shadow.clone())),
        });
        Self { policy, in_force, staged: staged.map(Arc::new), waits, ..self }
    }

    /// The same with the routes of a kind as the state declares them; other kinds are none.
    pub(crate) fn routed(&mut self, state: &State, tenant: &Tenant, kind: &str) {
        match kind {
            "model" => {
                self.models = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::Model(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
            }
            "upstream" => {
                self.upstreams = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::Upstream(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
            }
            "issuer" => {
                self.issuers = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::Issuer(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
            }
            "api_route" => {
                let routes = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::ApiRoute(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
                let ready =
                    routes.iter().filter_map(|(name, spec)| Some((name.clone(), ReadyApi::new(name, spec)?)));
                self.apis = Arc::new(ready.collect());
            }
            "enforcement_point" => {
                self.points = declared(state, tenant, kind, |_, spec| match spec {
                    Spec::EnforcementPoint(spec) => Some((&spec.workload, spec.status, spec)),
                    _ => None,
                });
            }
            "limit" => {
                self.limits = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::Limit(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
            }
            "price" => {
                self.prices = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::Price(spec) => Some((name, Status::Active, spec)),
                    _ => None,
                });
            }
            "detector" => {
                let all = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::Detector(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
                // One that does not compile is none: nothing that should be searched for it is released.
                let compiled = |(name, spec)| Some((Name::clone(name), Custom::compile(name, spec).ok()?));
                self.detectors = Arc::new(all.iter().filter_map(compiled).collect());
            }
            "tool_route" => {
                self.tool_routes = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::ToolRoute(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
            }
            "tool_server" => {
                self.tool_servers = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::ToolServer(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
            }
            "tool" => {
                self.tools = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::Tool(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
            }
            "database_route" => {
                self.databases = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::DatabaseRoute(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
            }
            "corpus_route" => {
                self.corpora = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::CorpusRoute(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
            }
            "mesh_route" => {
                self.mesh_routes = declared(state, tenant, kind, |name, spec| match spec {
                    Spec::MeshRoute(spec) => Some((name, spec.status, spec)),
                    _ => None,
                });
            }
            _ => {}
        }
    }

    /// A tenant of which nothing is known.
    pub(crate) fn empty() -> Self {
        Self {
            policy: Arc::new(Snapshot::new(None, Arc::default())),
            in_force: None,
            staged: None,
            models: Arc::default(),
            upstreams: Arc::default(),
            issuers: Arc::default(),
            apis: Arc::default(),
            points: Arc::default(),
            limits: Arc::default(),
            prices: Arc::default(),
            detectors: Arc::default(),
            tool_routes: Arc::default(),
            tool_servers: Arc::default(),
            tools: Arc::default(),
            databases: Arc::default(),
            corpora: Arc::default(),
            mesh_routes: Arc::default(),
            waits: false,
        }
    }
}

/// What is declared of a kind and active, by the name that `read` gives it.
fn declared<T: Clone>(
    state: &State,
    tenant: &Tenant,
    kind: &str,
    read: impl for<'s> Fn(&'s Name, &'s Spec) -> Option<(&'s Name, Status, &'s T)>,
) -> Arc<BTreeMap<Name, T>> {
    let all = state.of_kind(tenant, kind).filter_map(|(_, document, _)| read(&document.name, &document.spec));
    let active = all.filter(|(_, status, _)| *status == Status::Active);
    Arc::new(active.map(|(name, _, spec)| (name.clone(), spec.clone())).collect())
}
