//! What is in force: one immutable copy of the state, compiled, swapped whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_base::{Digest, Name};
use bartizan_decide::{Entities, Shadow, Snapshot};
use bartizan_identify::{Caller, Directory};
use bartizan_keys::Stage;
use bartizan_model::directory::{IssuerSpec, ModelSpec, Spec, Status, UpstreamSpec};
use bartizan_model::{EnforcementPointSpec, MeshRouteSpec, Tenant};
use bartizan_store::State;

use crate::afterwards::chosen;
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
    /// Applications that ask for decisions, by their workload.
    pub points: Arc<BTreeMap<Name, EnforcementPointSpec>>,
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
            "enforcement_point" => {
                self.points = declared(state, tenant, kind, |_, spec| match spec {
                    Spec::EnforcementPoint(spec) => Some((&spec.workload, spec.status, spec)),
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
            points: Arc::default(),
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
