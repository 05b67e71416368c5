//! Keeps what is in force: hears of the present revision, follows the state there, says when it is too old to decide on.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use bartizan_base::{Clock, Timestamp};
use bartizan_decide::{Bundle, BundleErrors, CompiledBundle, Mismatch, Shadow};
use bartizan_keys::Statement;
use bartizan_model::action::ChangeState;
use bartizan_model::record::System;
use bartizan_model::{KeyId, NodeId, ReasonCode, Tenant};
use bartizan_record::{IntentRecorded, Recorder};
use bartizan_store::{BundleRow, Enforced, LEASE, Nodes, Since, State, Store, StoreError};

use crate::follow::{After, Touched};
use crate::policies::{Alarm, Policies, Words};
use crate::retired::Retired;
use crate::world::World;

/// How many revisions are followed at once. What was followed is in force, and counts for the lease, before the next.
const STEPS_AT_ONCE: usize = 64;
/// How many answers about the present revision wait for the state to be there.
const HEARD_MAX: usize = 64;

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
    /// When it was asked since then, and at which revision it was: what is not yet in force.
    heard: Mutex<VecDeque<(u64, u64)>>,
    /// Something waits to be followed.
    behind: tokio::sync::Notify,
    /// Nothing is decided here any more.
    left: AtomicBool,
    /// The revision up to which policy is in force as well.
    policy_at: AtomicU64,
    /// One word to the other nodes at a time, so that an earlier one never comes after a later one.
    confirming: tokio::sync::Mutex<()>,
    /// One who follows at a time, so that an older state never replaces a newer one.
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
        let keeper = Self {
            world: ArcSwap::from_pointee(World::empty()),
            retired: Retired::default(),
            store,
            nodes,
            node,
            recorder,
            confirmed_us: AtomicU64::new(0),
            heard: Mutex::default(),
            behind: tokio::sync::Notify::new(),
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
            locked(&self.uses).insert(key, now);
        }
    }

    /// Writes down when keys were last used.
    ///
    /// # Errors
    /// When the state database does not answer; what was noted is then lost, which is only advisory.
    pub async fn write_uses(&self) -> Result<(), StoreError> {
        let uses: Vec<_> = locked(&self.uses).drain().collect();
        if uses.is_empty() { Ok(()) } else { self.store.touch_keys(uses).await }
    }

    /// Tells the other nodes what is decided on here, and hears the present revision. Never waits for anything to be taken in, so
    /// whoever does this often enough keeps the lease going as long as what was heard is in force within it.
    ///
    /// # Errors
    /// When the state database does not answer, or has gone back behind what is in force; that stays, until the lease has run
    /// out.
    pub async fn hear(&self) -> Result<u64, StoreError> {
        let one = self.confirming.lock().await;
        let (told, asked) = (self.enforced(), self.clock.monotonic_us());
        let latest = self.nodes.confirm(self.node, told).await?;
        if latest < told.revision {
            return Err(went_back(told.revision, latest));
        }
        {
            let mut heard = locked(&self.heard);
            if heard.len() >= HEARD_MAX {
                heard.pop_back();
            }
            heard.push_back((asked, latest));
        }
        drop(one);
        self.settle();
        if latest > self.revision() {
            self.behind.notify_one();
        }
        if self.policy_waits() {
            self.uncompiled.notify_one();
        }
        self.free_retired();
        Ok(latest)
    }

    /// Frees what nobody holds any more, beside the requests.
    fn free_retired(&self) {
        let unused = self.retired.unused();
        if !unused.is_empty() {
            drop(tokio::task::spawn_blocking(move || drop(unused)));
        }
    }

    /// Lets the lease begin at the latest asking whose answer is in force: the moment of asking, not of hearing, since what came
    /// in between may have been missed.
    fn settle(&self) {
        let (revision, mut heard) = (self.revision(), locked(&self.heard));
        while let Some((asked, latest)) = heard.front().copied()
            && latest <= revision
        {
            self.confirmed_us.fetch_max(asked, Ordering::AcqRel);
            heard.pop_front();
        }
    }

    /// Hears the present revision, takes in what has moved, and tells of it, since somebody may wait for it. Policy that has to be
    /// compiled first comes into force when [`Keeper::compile_waiting`] is done with it; everything else at once.
    ///
    /// # Errors
    /// As [`Keeper::hear`]; and when the state holds something unreadable.
    pub async fn watch(&self) -> Result<(), StoreError> {
        let known = self.revision();
        let latest = self.hear().await?;
        if latest > known {
            self.catch_up(latest).await?;
            // What moves meanwhile is for the next round.
            self.hear().await?;
        }
        Ok(())
    }

    /// Waits until something was heard of that is not in force.
    pub async fn behind(&self) {
        self.behind.notified().await;
    }

    /// Takes in what was heard of. The lease goes on meanwhile, for as long as it may.
    ///
    /// # Errors
    /// As [`Keeper::watch`].
    pub async fn follow_heard(&self) -> Result<(), StoreError> {
        let latest = locked(&self.heard).back().map_or(0, |(_, latest)| *latest);
        if latest > self.revision() {
            self.catch_up(latest).await?;
            self.hear().await?;
        }
        Ok(())
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

    /// Compiles a bundle beside the decisions, with the words of the tenant's tool servers, and holds it for when it comes into
    /// force.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub async fn compile(
        &self,
        tenant: &Tenant,
        bundle: Bundle,
    ) -> Result<Arc<CompiledBundle>, BundleErrors> {
        let (policies, world, tenant) = (self.policies.clone(), self.world.load_full(), tenant.clone());
        let work =
            tokio::task::spawn_blocking(move || policies.compile(&bundle, &Words::of(&world.state, &tenant)));
        work.await.unwrap_or_else(|_| Err(BundleErrors(Vec::new())))
    }

    /// Follows the state up to `latest` at least, some revisions at a time; loads it whole where they are not kept.
    async fn catch_up(&self, latest: u64) -> Result<(), StoreError> {
        loop {
            let _one = self.reloading.lock().await;
            let before = self.world.load_full();
            let (at, mark) = (before.state.revision, before.state.mark);
            if at >= latest {
                return Ok(());
            }
            let since = match at {
                0 => Since::TooOld,
                _ => self.store.changes_since(at, mark, STEPS_AT_ONCE).await?,
            };
            match since {
                Since::Steps(steps) if !steps.is_empty() => {
                    let work = move |after: &After| {
                        let mut state = (*before.state).clone();
                        for step in &steps {
                            state.follow(step)?;
                        }
                        after.world(&before, Arc::new(state), &Touched::by(&steps))
                    };
                    self.put_in_force(work).await?;
                }
                _ => {
                    let state: State = self.store.load().await?;
                    if state.revision < latest {
                        return Err(went_back(latest, state.revision));
                    }
                    let work = move |after: &After| {
                        let touched = Touched::between(&before.state, &state);
                        after.world(&before, Arc::new(state), &touched)
                    };
                    self.put_in_force(work).await?;
                }
            }
        }
    }

    /// Compiles what waits, then puts it in force.
    async fn bring_in(&self) -> Result<(), StoreError> {
        let _one = self.compiling.lock().await;
        let (state, policies) = (self.world.load().state.clone(), self.policies.clone());
        let compiled = tokio::task::spawn_blocking(move || policies.compile_missing(&state)).await;
        self.tell(compiled.map_err(|e| StoreError::Unavailable(Box::new(e)))?).await;
        let _same = self.reloading.lock().await;
        let before = self.world.load_full();
        let touched = Touched::policy_of(&before.state);
        self.put_in_force(move |after: &After| after.world(&before, before.state.clone(), &touched)).await?;
        if self.policy_waits() {
            // The state has moved on meanwhile.
            self.uncompiled.notify_one();
        }
        Ok(())
    }

    /// Swaps in a world, whole, that is worked out where that may take its time.
    async fn put_in_force(
        &self,
        work: impl FnOnce(&After) -> Result<(World, Vec<Alarm>), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let after = After {
            policies: self.policies.clone(),
            shadow: self.shadow.clone(),
            issuer: self.issuer.clone(),
        };
        let worked = tokio::task::spawn_blocking(move || work(&after)).await;
        let (world, alarms) = worked.map_err(|e| StoreError::Unavailable(Box::new(e)))??;
        let (revision, waits) = (world.state.revision, world.policy_waits());
        self.retired.put(self.world.swap(Arc::new(world)));
        self.free_retired();
        if !waits {
            self.policy_at.store(revision, Ordering::Release);
        }
        self.settle();
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change of these is a single step, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A database that was put back, or one that took over without what was acknowledged: it has forgotten revocations.
fn went_back(known: u64, latest: u64) -> StoreError {
    StoreError::Corrupt(format!(
        "it is at revision {latest} and was at {known}: it was put back, and may have forgotten revocations"
    ))
}
