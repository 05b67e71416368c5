//! What is in force: one immutable copy of the state, compiled, swapped whole.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bartizan_base::{Clock, Digest, Name, Timestamp};
use bartizan_decide::{
    Bundle, BundleErrors, CompiledBundle, Entities, EntitiesError, KeyNode, Misfit, Mismatch, Shadow,
    Snapshot,
};
use bartizan_identify::{Caller, Directory};
use bartizan_keys::{Stage, Statement};
use bartizan_model::action::ChangeState;
use bartizan_model::directory::{IssuerSpec, ModelSpec, Spec, Status, UpstreamSpec};
use bartizan_model::record::System;
use bartizan_model::{Document, EnforcementPointSpec, EntityRef, KeyId, NodeId, ReasonCode, Tenant};
use bartizan_record::{IntentRecorded, Recorder};
use bartizan_store::{BundleRow, Enforced, LEASE, Nodes, State, Store, StoreError};

use crate::afterwards::chosen;
use crate::known::directory;
use crate::policies::{Alarm, InForce, Policies};
use crate::retired::Retired;

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

/// Keeps the world: loads it, watches the revision, says when it is too old to decide on.
pub struct Keeper {
    world: ArcSwap<World>,
    /// What was in force before, while requests still hold it.
    retired: Retired<World>,
    store: Arc<dyn Store<IntentRecorded<ChangeState>>>,
    pub(crate) nodes: Arc<dyn Nodes>,
    /// Which of them this is.
    pub(crate) node: NodeId,
    recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
    /// When the state database was last asked whose answer is in force, on the monotonic clock.
    confirmed_us: AtomicU64,
    /// Nothing is decided here any more.
    left: AtomicBool,
    /// The revision up to which policy is in force as well.
    policy_at: AtomicU64,
    /// One word to the other nodes at a time, so that an earlier one never comes after a later one.
    confirming: tokio::sync::Mutex<()>,
    /// One reload at a time, so that an older state never replaces a newer one.
    reloading: tokio::sync::Mutex<()>,
    /// One compilation at a time.
    compiling: tokio::sync::Mutex<()>,
    /// Something waits to be compiled.
    uncompiled: tokio::sync::Notify,
    policies: Arc<Policies>,
    /// Our own authority, as its tokens name it.
    issuer: Option<Arc<str>>,
    /// A sample of evaluations that are done again by every rule.
    shadow: Arc<Shadow>,
    /// When keys were last used, until it is written down: advisory, so a crash may lose the last of it.
    uses: Mutex<HashMap<KeyId, Timestamp>>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("revision", &self.world.load().state.revision).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Loads the world for the first time.
    ///
    /// # Errors
    /// When the state database does not answer or holds something unreadable.
    pub async fn open(
        store: Arc<dyn Store<IntentRecorded<ChangeState>>>,
        nodes: Arc<dyn Nodes>,
        node: NodeId,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
        policies: Policies,
        issuer: Option<Arc<str>>,
    ) -> Result<Self, StoreError> {
        let empty = World { state: Arc::default(), directory: Directory::empty(), tenants: BTreeMap::new() };
        let keeper = Self {
            world: ArcSwap::from_pointee(empty),
            retired: Retired::default(),
            store,
            nodes,
            node,
            recorder,
            confirmed_us: AtomicU64::new(0),
            left: AtomicBool::new(false),
            policy_at: AtomicU64::new(0),
            confirming: tokio::sync::Mutex::default(),
            clock,
            reloading: tokio::sync::Mutex::default(),
            compiling: tokio::sync::Mutex::default(),
            uncompiled: tokio::sync::Notify::new(),
            policies: Arc::new(policies),
            issuer,
            shadow: Arc::default(),
            uses: Mutex::default(),
        };
        keeper.reload().await?;
        Ok(keeper)
    }

    /// What is in force, unless it is older than the lease.
    ///
    /// # Errors
    /// `SnapshotStale`: a revocation could have been missed, so nothing is decided.
    pub fn current(&self) -> Result<Arc<World>, ReasonCode> {
        let age = self.clock.monotonic_us().saturating_sub(self.confirmed_us.load(Ordering::Acquire));
        if u128::from(age) > LEASE.as_micros() || self.left.load(Ordering::Acquire) {
            Err(ReasonCode::SnapshotStale)
        } else {
            Ok(self.world.load_full())
        }
    }

    /// The latest world, however old: never to decide on.
    #[must_use]
    pub fn latest(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// What a row of the state says about policy, if the house has signed it for this row.
    ///
    /// # Errors
    /// Why it may not come into force.
    pub fn signed(&self, row: &BundleRow) -> Result<Statement, ReasonCode> {
        self.policies.signed(row)
    }

    /// The revision in force, for those who watch for changes.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.world.load().state.revision
    }

    /// How many bundles were refused since the start: an alarm when it grows.
    #[must_use]
    pub fn bundles_rejected(&self) -> u64 {
        self.policies.refused()
    }

    /// How many declared things policies do not see, because they do not fit the schema in force.
    #[must_use]
    pub fn misfits(&self) -> usize {
        self.world.load().tenants.values().map(|t| t.policy.misfits().len()).sum()
    }

    /// The sample of evaluations that are done again by every rule, and how that went.
    #[must_use]
    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// Does the evaluations that were sampled again by every rule, on a thread where that may take its time. One that differs
    /// is an alarm; the index of its bundle is not used any more.
    pub async fn compare(&self) {
        let shadow = self.shadow.clone();
        match tokio::task::spawn_blocking(move || shadow.check()).await {
            Ok(mismatches) => self.tell_mismatches(mismatches).await,
            Err(error) => tracing::error!(%error, "sampled evaluations could not be done again"),
        }
    }

    async fn tell_mismatches(&self, mismatches: Vec<Mismatch>) {
        for mismatch in mismatches {
            tracing::error!(%mismatch, "the index decided otherwise than all rules; from now on all rules are evaluated");
            let Mismatch { bundle, slice, context, rules } = mismatch;
            let event = System::DecisionMismatch { bundle, slice, context, rules };
            if let Err(error) = self.recorder.system(event).await {
                tracing::error!(%error, "a wrong decision of the index could not be recorded");
            }
        }
    }

    /// Notes that a key was used.
    pub(crate) fn used(&self, key: Option<KeyId>, now: Timestamp) {
        if let Some(key) = key {
            self.uses.lock().unwrap_or_else(PoisonError::into_inner).insert(key, now);
        }
    }

    /// Writes down when keys were last used.
    ///
    /// # Errors
    /// When the state database does not answer; what was noted is then lost, which is only advisory.
    pub async fn write_uses(&self) -> Result<(), StoreError> {
        let uses: Vec<_> = self.uses.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        if uses.is_empty() { Ok(()) } else { self.store.touch_keys(uses).await }
    }

    /// Tells the other nodes what is decided on here, hears the present revision, and takes in what has moved. Policy that has
    /// to be compiled first comes into force when [`Keeper::compile_waiting`] is done with it; everything else at once.
    ///
    /// # Errors
    /// When the state database does not answer, or has gone back behind what is in force; that stays, until the lease has run
    /// out.
    pub async fn watch(&self) -> Result<(), StoreError> {
        // Twice at the most: what was taken in is told at once, since somebody may wait for it. What moves meanwhile is for
        // the next round.
        for _ in 0..2 {
            let one = self.confirming.lock().await;
            let (told, asked) = (self.enforced(), self.clock.monotonic_us());
            let latest = self.nodes.confirm(self.node, told).await?;
            drop(one);
            if latest < told.revision {
                return Err(went_back(told.revision, latest));
            }
            if latest > self.revision() {
                self.take_in(latest).await?;
            }
            // The moment of asking, not of hearing: what came in between may have been missed.
            self.confirmed_us.fetch_max(asked, Ordering::AcqRel);
            if latest == told.revision {
                break;
            }
        }
        if self.policy_waits() {
            self.uncompiled.notify_one();
        }
        self.free_retired();
        Ok(())
    }

    /// Frees what nobody holds any more, beside the requests.
    fn free_retired(&self) {
        let unused = self.retired.unused();
        if !unused.is_empty() {
            drop(tokio::task::spawn_blocking(move || drop(unused)));
        }
    }

    /// Takes in the present state and puts all of it in force.
    ///
    /// # Errors
    /// When the state database does not answer or holds something unreadable.
    pub async fn reload(&self) -> Result<(), StoreError> {
        self.watch().await?;
        if self.policy_waits() {
            self.bring_in().await?;
            // Compiling took its time: what was confirmed before it may be older than the lease.
            self.watch().await?;
        }
        Ok(())
    }

    /// Waits until the state may have changed elsewhere. A hint, which may never come.
    pub async fn moved(&self) {
        self.nodes.moved().await;
    }

    /// Ends: nothing is decided here any more, and nobody needs to wait for this node.
    ///
    /// # Errors
    /// When the state database does not answer; the lease then runs out by itself.
    pub async fn leave(&self) -> Result<(), StoreError> {
        self.left.store(true, Ordering::Release);
        let _one = self.confirming.lock().await;
        self.nodes.leave(self.node).await
    }

    /// What is decided on here.
    fn enforced(&self) -> Enforced {
        // In this order, so that what is said of policy holds for the state that is named.
        let policy = self.policy_at.load(Ordering::Acquire);
        Enforced { revision: self.revision(), policy }
    }

    fn policy_waits(&self) -> bool {
        self.policy_at.load(Ordering::Acquire) < self.revision()
    }

    /// Waits until policy has to be compiled, compiles it and puts it in force. Decisions go on meanwhile.
    ///
    /// # Errors
    /// When the state holds something unreadable.
    pub async fn compile_waiting(&self) -> Result<(), StoreError> {
        self.uncompiled.notified().await;
        self.bring_in().await?;
        // Somebody may wait to hear that it is in force.
        self.watch().await
    }

    /// Compiles a bundle beside the decisions, and holds it for when it comes into force.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub async fn compile(&self, bundle: Bundle) -> Result<Arc<CompiledBundle>, BundleErrors> {
        let policies = self.policies.clone();
        let work = tokio::task::spawn_blocking(move || policies.compile(&bundle));
        work.await.unwrap_or_else(|_| Err(BundleErrors(Vec::new())))
    }

    /// Loads the state, unless somebody else has taken in `latest` meanwhile, and puts in force what can be at once.
    async fn take_in(&self, latest: u64) -> Result<(), StoreError> {
        let _one = self.reloading.lock().await;
        if self.revision() >= latest {
            return Ok(());
        }
        let state = Arc::new(self.store.load().await?);
        self.put_in_force(state).await
    }

    /// Compiles what waits, then puts it in force.
    async fn bring_in(&self) -> Result<(), StoreError> {
        let _one = self.compiling.lock().await;
        let (state, policies) = (self.world.load().state.clone(), self.policies.clone());
        let compiled = tokio::task::spawn_blocking(move || policies.compile_missing(&state)).await;
        self.tell(compiled.map_err(|e| StoreError::Unavailable(Box::new(e)))?).await;
        let _same = self.reloading.lock().await;
        let state = self.world.load().state.clone();
        self.put_in_force(state).await?;
        if self.policy_waits() {
            // The state has moved on meanwhile.
            self.uncompiled.notify_one();
        }
        Ok(())
    }

    /// Makes a world of `state` and swaps it in, whole.
    async fn put_in_force(&self, state: Arc<State>) -> Result<(), StoreError> {
        let (previous, policies) = (self.world.load_full(), self.policies.clone());
        let (shadow, issuer) = (self.shadow.clone(), self.issuer.clone());
        let built = tokio::task::spawn_blocking(move || build(state, issuer, &previous, &policies, &shadow));
        let built = built.await;
        let (world, waits, alarms) = built.map_err(|e| StoreError::Unavailable(Box::new(e)))??;
        let revision = world.state.revision;
        self.retired.put(self.world.swap(Arc::new(world)));
        self.free_retired();
        if !waits {
            self.policy_at.store(revision, Ordering::Release);
        }
        self.tell(alarms).await;
        Ok(())
    }

    async fn tell(&self, alarms: Vec<Alarm>) {
        for Alarm { tenant, bundle, reason, detail } in alarms {
            tracing::error!(%tenant, ?bundle, %reason, detail, "policy was refused; the last good one stays");
            let event = System::PolicyRejected { bundle, reason: Some(reason) };
            if let Err(error) = self.recorder.system_of(&tenant, event).await {
                tracing::error!(%error, "the refusal of policy could not be recorded");
            }
        }
    }
}

/// A database that was put back, or one that took over without what was acknowledged: it has forgotten revocations.
fn went_back(known: u64, latest: u64) -> StoreError {
    StoreError::Corrupt(format!(
        "it is at revision {latest} and was at {known}: it was put back, and may have forgotten revocations"
    ))
}

fn build(
    state: Arc<State>,
    issuer: Option<Arc<str>>,
    previous: &World,
    policies: &Policies,
    shadow: &Arc<Shadow>,
) -> Result<(World, bool, Vec<Alarm>), StoreError> {
    let directory = directory(&state, issuer);
    let (mut tenants, mut alarms, mut waits) = (BTreeMap::new(), Vec::new(), false);
    let known = previous.tenants.keys();
    let names: std::collections::BTreeSet<&Tenant> = state
        .documents
        .iter()
        .map(|(t, ..)| t)
        .chain(state.bundles.iter().map(|b| &b.tenant))
        .chain(known)
        .collect();
    for tenant in names {
        let documents: Vec<Document> =
            state.documents.iter().filter(|(t, ..)| t == tenant).map(|(_, d, _)| d.clone()).collect();
        let before = previous.tenants.get(tenant).and_then(|t| t.in_force.as_ref());
        let (in_force, wait) = policies.in_force(&state, tenant, before, &mut alarms);
        waits |= wait;
        let compiled = in_force.as_ref().map(|in_force| &*in_force.bundle);
        let entities = entities(&state, tenant, &documents, compiled, previous);
        let entities = entities.map_err(|e| StoreError::Corrupt(e.to_string()))?;
        tell_misfits(tenant, entities.misfits(), previous.tenants.get(tenant));
        tenants.insert(tenant.clone(), TenantWorld::new(in_force, entities, &documents, shadow));
    }
    Ok((World { state, directory, tenants }, waits, alarms))
}

/// Warns of what policies do not see because it does not fit the schema, when that changes.
fn tell_misfits(tenant: &Tenant, misfits: &[Misfit], previous: Option<&TenantWorld>) {
    if previous.map_or(&[][..], |p| p.policy.misfits()) == misfits {
        return;
    }
    let first = misfits.first().map(ToString::to_string).unwrap_or_default();
    tracing::warn!(%tenant, count = misfits.len(), first, "declared things do not fit the schema and are left out");
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

    fn new(
        in_force: Option<Arc<InForce>>,
        entities: Arc<Entities>,
        documents: &[Document],
        shadow: &Arc<Shadow>,
    ) -> Self {
        let policy = Snapshot::new(in_force.as_ref().map(|f| f.bundle.clone()), entities.clone());
        let policy = policy.watched(shadow.clone());
        let candidate = in_force.as_ref().and_then(|f| f.candidate.as_ref());
        let staged = candidate.map(|(bundle, stage)| Staged {
            digest: bundle.digest(),
            stage: stage.clone(),
            snapshot: Arc::new(Snapshot::new(Some(bundle.clone()), entities).watched(shadow.clone())),
        });
        let mut models = BTreeMap::new();
        let mut upstreams = BTreeMap::new();
        let mut issuers = BTreeMap::new();
        let mut points = BTreeMap::new();
        for document in documents {
            let name = document.name.clone();
            match &document.spec {
                Spec::Model(spec) if spec.status == Status::Active => drop(models.insert(name, spec.clone())),
                Spec::Upstream(spec) if spec.status == Status::Active => {
                    drop(upstreams.insert(name, spec.clone()))
                }
                Spec::Issuer(spec) if spec.status == Status::Active => {
                    drop(issuers.insert(name, spec.clone()))
                }
                Spec::EnforcementPoint(spec) if spec.status == Status::Active => {
                    drop(points.insert(spec.workload.clone(), spec.clone()))
                }
                _ => {}
            }
        }
        let (policy, staged) = (Arc::new(policy), staged.map(Arc::new));
        Self {
            policy,
            in_force,
            staged,
            models: Arc::new(models),
            upstreams: Arc::new(upstreams),
            issuers: Arc::new(issuers),
            points: Arc::new(points),
        }
    }
}

/// The tenant's entities: those before with what has changed, or all anew where that is as good.
fn entities(
    state: &State,
    tenant: &Tenant,
    documents: &[Document],
    bundle: Option<&CompiledBundle>,
    previous: &World,
) -> Result<Arc<Entities>, EntitiesError> {
    let before = previous.tenants.get(tenant).map(|t| &t.policy);
    let followed = before.map_or(Ok(None), |p| followed(state, tenant, documents, bundle, (previous, p)))?;
    let of = |state: &State| -> HashMap<KeyId, EntityRef> {
        let keys = state.keys.iter().filter(|key| key.tenant == *tenant);
        keys.map(|key| (key.id, key.principal.entity())).collect()
    };
    let (declared, old) = match followed {
        Some(followed) => (followed, of(&previous.state)),
        None => (Entities::build_for(documents, bundle).map(Arc::new)?, HashMap::new()),
    };
    let new = of(state);
    let come = new.iter().filter(|(id, holder)| old.get(*id) != Some(*holder));
    let come: Vec<KeyNode> = come.map(|(id, holder)| KeyNode::new(*id, holder.clone())).collect();
    let gone: Vec<EntityRef> =
        old.keys().filter(|id| !new.contains_key(*id)).map(|id| KeyNode::entity(*id)).collect();
    match come.is_empty() && gone.is_empty() {
        true => Ok(declared),
        false => declared.with_keys(&come, &gone).map(Arc::new),
    }
}

/// The entities before with what has changed; none where building them anew is as good, or must be.
fn followed(
    state: &State,
    tenant: &Tenant,
    documents: &[Document],
    bundle: Option<&CompiledBundle>,
    (previous, before): (&World, &Snapshot),
) -> Result<Option<Arc<Entities>>, EntitiesError> {
    // What fits depends on the schema, and things of a bundle's own types depend on each other and on what there is.
    let own = |state: &State| state.documents.iter().any(|(_, d, _)| matches!(d.spec, Spec::Entity(_)));
    let same_schema = before.bundle().map(|b| b.digest()) == bundle.map(CompiledBundle::digest);
    let own = own(state) || own(&previous.state);
    let before = before.entities();
    let revisions = |state: &State| -> HashMap<EntityRef, u64> {
        state
            .documents
            .iter()
            .filter(|(t, ..)| t == tenant)
            .map(|(_, d, revision)| (d.entity(), *revision))
            .collect()
    };
    let (old, new) = (revisions(&previous.state), revisions(state));
    let same = |document: &&Document| old.get(&document.entity()) == new.get(&document.entity());
    let changed: Vec<Document> = documents.iter().filter(|d| !same(d)).cloned().collect();
    let gone: Vec<EntityRef> = old.into_keys().filter(|what| !new.contains_key(what)).collect();
    let unchanged = changed.is_empty() && gone.is_empty();
    if unchanged && (same_schema || !own) {
        return Ok(Some(before.clone()));
    }
    if own || before.is_worn() || (changed.len() + gone.len()) * 4 > documents.len() + 4 {
        return Ok(None);
    }
    before.with_documents(&changed, &gone).map(Arc::new).map(Some)
}
