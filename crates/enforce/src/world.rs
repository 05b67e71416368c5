//! What is in force: one immutable copy of the state, compiled, swapped whole.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_base::{Clock, Digest, Name, Timestamp};
use bartizan_decide::{Bundle, CompiledBundle, Entities, EntitiesError, Mismatch, Shadow, Snapshot};
use bartizan_identify::{Directory, EpochEntry, KeyEntry};
use bartizan_model::action::ChangeState;
use bartizan_model::directory::{IssuerSpec, ModelSpec, Spec, Status, UpstreamSpec};
use bartizan_model::record::System;
use bartizan_model::{Document, EntityRef, KeyId, ReasonCode, Tenant};
use bartizan_record::{IntentRecorded, Recorder};
use bartizan_store::{EpochKind, State, Store, StoreError};

/// How long the house decides on what it knows without hearing from the state database: the lease of DESIGN 8.
pub const LEASE: Duration = Duration::from_secs(1);

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
    /// Models by the name callers use.
    pub models: Arc<BTreeMap<Name, ModelSpec>>,
    /// Upstreams by name.
    pub upstreams: Arc<BTreeMap<Name, UpstreamSpec>>,
    /// Token issuers by name.
    pub issuers: Arc<BTreeMap<Name, IssuerSpec>>,
}

/// Keeps the world: loads it, watches the revision, says when it is too old to decide on.
pub struct Keeper {
    world: ArcSwap<World>,
    store: Arc<dyn Store<IntentRecorded<ChangeState>>>,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    /// When the state database last confirmed the revision, on the monotonic clock.
    confirmed_us: AtomicU64,
    /// One reload at a time, so that an older state never replaces a newer one.
    reloading: tokio::sync::Mutex<()>,
    rejected: AtomicU64,
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
        recorder: Recorder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let empty = World { state: Arc::default(), directory: Directory::empty(), tenants: BTreeMap::new() };
        let keeper = Self {
            world: ArcSwap::from_pointee(empty),
            store,
            recorder,
            confirmed_us: AtomicU64::new(clock.monotonic_us()),
            clock,
            reloading: tokio::sync::Mutex::default(),
            rejected: AtomicU64::new(0),
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
        if u128::from(age) > LEASE.as_micros() {
            Err(ReasonCode::SnapshotStale)
        } else {
            Ok(self.world.load_full())
        }
    }

    /// The revision in force, for those who watch for changes.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.world.load().state.revision
    }

    /// How many bundles were refused since the start: an alarm when it grows.
    #[must_use]
    pub fn bundles_rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
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
            Ok(mismatches) => self.tell(mismatches).await,
            Err(error) => tracing::error!(%error, "sampled evaluations could not be done again"),
        }
    }

    async fn tell(&self, mismatches: Vec<Mismatch>) {
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

    /// Asks the state database for its revision and reloads if it has moved.
    ///
    /// # Errors
    /// When the state database does not answer; what is in force stays, until the lease has run out.
    pub async fn watch(&self) -> Result<(), StoreError> {
        let asked = self.clock.monotonic_us();
        let revision = self.store.revision().await?;
        if revision == self.revision() {
            // The moment of asking, not of hearing: what came in between may have been missed.
            self.confirmed_us.fetch_max(asked, Ordering::AcqRel);
            return Ok(());
        }
        self.reload().await
    }

    /// Loads the state and puts it in force.
    ///
    /// # Errors
    /// When the state database does not answer or holds something unreadable.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let _one = self.reloading.lock().await;
        let asked = self.clock.monotonic_us();
        let state = self.store.load().await?;
        let previous = self.world.load_full();
        let world = self.build(state, &previous).await?;
        self.world.store(Arc::new(world));
        self.confirmed_us.fetch_max(asked, Ordering::AcqRel);
        Ok(())
    }

    async fn build(&self, state: State, previous: &World) -> Result<World, StoreError> {
        let directory = directory(&state);
        let mut tenants = BTreeMap::new();
        let names: std::collections::BTreeSet<&Tenant> =
            state.documents.iter().map(|(t, ..)| t).chain(state.bundles.iter().map(|b| &b.tenant)).collect();
        for tenant in names {
            let documents: Vec<Document> =
                state.documents.iter().filter(|(t, ..)| t == tenant).map(|(_, d, _)| d.clone()).collect();
            let entities = entities(&state, tenant, &documents, previous);
            let entities = entities.map_err(|e| StoreError::Corrupt(e.to_string()))?;
            let bundle = self.bundle(&state, tenant, previous.tenants.get(tenant)).await;
            let policy = Arc::new(Snapshot::new(bundle, entities).watched(self.shadow.clone()));
            tenants.insert(tenant.clone(), TenantWorld::new(policy, &documents));
        }
        Ok(World { state: Arc::new(state), directory, tenants })
    }

    /// The tenant's bundle in force. One that does not compile (written by another version, or damaged) is refused with
    /// an alarm, and the last good one stays.
    async fn bundle(
        &self,
        state: &State,
        tenant: &Tenant,
        previous: Option<&TenantWorld>,
    ) -> Option<Arc<CompiledBundle>> {
        let last_good = previous.and_then(|p| p.policy.bundle().cloned());
        let row = state.bundles.iter().find(|b| b.tenant == *tenant)?;
        if let Some(same) = last_good.as_ref().filter(|b| b.digest() == row.digest) {
            return Some(same.clone());
        }
        let bundle = Bundle { files: row.files.clone() };
        match CompiledBundle::compile(&bundle) {
            Ok(compiled) if bundle.digest() == row.digest => Some(Arc::new(compiled)),
            Ok(_) => self.rejected(tenant, row.digest, "its digest is not the recorded one", last_good).await,
            Err(errors) => self.rejected(tenant, row.digest, &errors.to_string(), last_good).await,
        }
    }

    async fn rejected(
        &self,
        tenant: &Tenant,
        digest: Digest,
        why: &str,
        last_good: Option<Arc<CompiledBundle>>,
    ) -> Option<Arc<CompiledBundle>> {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%tenant, bundle = %digest, why, kept = last_good.is_some(), "policy bundle refused; the last good one stays");
        if let Err(error) = self.recorder.system(System::PolicyRejected { bundle: Some(digest) }).await {
            tracing::error!(%error, "the refusal of a bundle could not be recorded");
        }
        last_good
    }
}

impl TenantWorld {
    fn new(policy: Arc<Snapshot>, documents: &[Document]) -> Self {
        let mut models = BTreeMap::new();
        let mut upstreams = BTreeMap::new();
        let mut issuers = BTreeMap::new();
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
                _ => {}
            }
        }
        Self { policy, models: Arc::new(models), upstreams: Arc::new(upstreams), issuers: Arc::new(issuers) }
    }
}

/// The tenant's entities: those before with what has changed, or all anew where that is as good.
fn entities(
    state: &State,
    tenant: &Tenant,
    documents: &[Document],
    previous: &World,
) -> Result<Arc<Entities>, EntitiesError> {
    let anew = || Entities::build(documents).map(Arc::new);
    let Some(before) = previous.tenants.get(tenant).map(|t| t.policy.entities()) else { return anew() };
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
    if before.is_worn() || (changed.len() + gone.len()) * 4 > documents.len() + 4 {
        return anew();
    }
    if changed.is_empty() && gone.is_empty() {
        return Ok(before.clone());
    }
    before.with_documents(&changed, &gone).map(Arc::new)
}

fn directory(state: &State) -> Directory {
    let keys = state.keys.iter().map(|row| KeyEntry {
        id: row.id,
        tenant: row.tenant.clone(),
        digest: row.digest,
        principal: row.principal.clone(),
        scopes: row.scopes.clone(),
        created: row.created,
        expires: row.expires,
        revoked: row.revoked,
    });
    let epochs = state.epochs.iter().map(|row| EpochEntry {
        tenant: row.tenant.clone(),
        kind: match row.kind {
            EpochKind::Principal => bartizan_identify::EpochKind::Principal,
            EpochKind::Issuer => bartizan_identify::EpochKind::Issuer,
            EpochKind::Tenant => bartizan_identify::EpochKind::Tenant,
        },
        name: row.name.clone(),
        not_before: row.not_before,
    });
    let documents = state.documents.iter().map(|(tenant, document, _)| (tenant.clone(), document.clone()));
    Directory::build(state.revision, documents, keys, epochs)
}
