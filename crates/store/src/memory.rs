//! The state in memory: for tests, simulation and trying things out. Nothing is durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{KeyId, NodeId, Tenant};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending, ready};

use crate::{
    Applied, BundleRow, Change, Checkpoints, Enforced, Founding, NodeRow, Nodes, Row, RowKind, Rows,
    STEPS_KEPT, Since, State, StepColumns, Store, StoreError, Warrant, Write, checkpoint_may_follow,
    following,
};

/// A store whose clones share one state.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    state: State,
    /// Every bundle that was ever in force.
    bundles: Vec<BundleRow>,
    /// What led to the latest revisions.
    steps: VecDeque<StepColumns>,
    checkpoints: BTreeMap<String, (u64, Digest)>,
    nodes: BTreeMap<NodeId, Enforced>,
}

impl Memory {
    fn keep(&mut self, writes: Vec<Write>) {
        self.bundles.extend(writes.into_iter().filter_map(|write| match write {
            Write::Bundle(bundle) => Some(bundle),
            _ => None,
        }));
    }

    fn keep_step(&mut self, step: StepColumns) {
        self.steps.retain(|known| known.revision + STEPS_KEPT > step.revision);
        if step.is_kept() {
            self.steps.push_back(step);
        }
    }

    fn since(&self, revision: u64, mark: Option<Digest>, limit: usize) -> Result<Since, StoreError> {
        let first = self.steps.partition_point(|step| step.revision < revision);
        let last = revision.saturating_add(limit as u64);
        let rows = self.steps.iter().skip(first).take_while(|step| step.revision <= last);
        let rows: Vec<StepColumns> = rows.cloned().collect();
        let Some(following) = following(revision, mark, rows)? else { return Ok(Since::TooOld) };
        let bundles = self.bundles.iter().map(|b| ((b.tenant.clone(), b.version), b.clone()));
        let steps = following.steps(&bundles.collect())?;
        Ok(if steps.is_empty() && revision < self.state.revision {
            Since::TooOld
        } else {
            Since::Steps(steps)
        })
    }
}

impl MemoryStore {
    /// A store before its founding.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every change of the memory is a single assignment, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Warrant> Store<W> for MemoryStore {
    fn found(&self, founding: Founding) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut memory = self.lock();
        let result = memory.state.found(founding).map(|writes| memory.keep(writes));
        ready(result).boxed()
    }

    fn load(&self) -> BoxFuture<'_, Result<State, StoreError>> {
        let mut state = self.lock().state.clone();
        state.rows = state.rows.iter().filter(|row| row.kind.is_loaded()).cloned().collect();
        ready(Ok(state)).boxed()
    }

    fn changes_since(
        &self,
        revision: u64,
        mark: Option<Digest>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Since, StoreError>> {
        ready(self.lock().since(revision, mark, limit)).boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(self.lock().state.revision)).boxed()
    }

    fn apply<'a>(&'a self, warrant: &'a W, changes: Vec<Change>) -> BoxFuture<'a, Result<u64, StoreError>> {
        let mut memory = self.lock();
        let result = memory.state.apply(warrant.tenant(), &changes);
        let result = result.map(|Applied { writes, step }| {
            memory.keep(writes);
            step.into_iter().for_each(|step| memory.keep_step(step));
            memory.state.revision
        });
        ready(result).boxed()
    }

    fn bundle<'a>(
        &'a self,
        tenant: &'a Tenant,
        version: u64,
    ) -> BoxFuture<'a, Result<Option<BundleRow>, StoreError>> {
        let is_it = |b: &&BundleRow| b.tenant == *tenant && b.version == version;
        ready(Ok(self.lock().bundles.iter().find(is_it).cloned())).boxed()
    }

    fn bundle_files<'a>(
        &'a self,
        tenant: &'a Tenant,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, String>>, StoreError>> {
        let memory = self.lock();
        let mut rows = memory.bundles.iter().filter(|b| b.tenant == *tenant);
        let found = rows.find_map(|row| {
            let candidate = row.candidate.as_ref().filter(|c| c.digest == digest).map(|c| &c.files);
            candidate.or_else(|| (row.digest == digest).then_some(&row.files)).cloned()
        });
        ready(Ok(found)).boxed()
    }

    fn touch_keys(&self, uses: Vec<(KeyId, Timestamp)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.lock().state.touch_keys(&uses);
        ready(Ok(())).boxed()
    }

    fn last_used<'a>(
        &'a self,
        tenant: &'a Tenant,
    ) -> BoxFuture<'a, Result<BTreeMap<KeyId, Timestamp>, StoreError>> {
        let memory = self.lock();
        let used = memory.state.keys.iter().filter(|key| key.tenant == *tenant);
        ready(Ok(used.filter_map(|key| Some((key.id, key.last_used?))).collect())).boxed()
    }
}

impl Rows for MemoryStore {
    fn row<'a>(&'a self, kind: RowKind, id: &'a str) -> BoxFuture<'a, Result<Option<Row>, StoreError>> {
        let memory = self.lock();
        let found = memory.state.rows.iter().find(|row| row.kind == kind && row.id == id).cloned();
        ready(Ok(found)).boxed()
    }

    fn rows_of<'a>(
        &'a self,
        tenant: &'a Tenant,
        kind: RowKind,
        owner: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let memory = self.lock();
        let of =
            |row: &&Row| row.tenant == *tenant && row.kind == kind && row.owner == owner && *row.id > *after;
        ready(Ok(memory.state.rows.iter().filter(of).take(limit).cloned().collect())).boxed()
    }

    fn rows<'a>(
        &'a self,
        tenant: &'a Tenant,
        kind: RowKind,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        let memory = self.lock();
        let of = |row: &&Row| row.tenant == *tenant && row.kind == kind && *row.id > *after;
        ready(Ok(memory.state.rows.iter().filter(of).take(limit).cloned().collect())).boxed()
    }

    fn sweep(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        let mut memory = self.lock();
        let mut swept = 0;
        let mut stays = |row: &&Row| {
            let goes = swept < limit && !row.kind.is_loaded() && row.expires.is_some_and(|end| end < now);
            swept += usize::from(goes);
            !goes
        };
        let rows = memory.state.rows.iter().filter(|row| stays(row)).cloned().collect();
        memory.state.rows = rows;
        ready(Ok(swept)).boxed()
    }
}

/// It has no clock: leases do not run out by it, only by the clock of whoever waits.
impl Nodes for MemoryStore {
    fn confirm(&self, node: NodeId, enforced: Enforced) -> BoxFuture<'_, Result<u64, StoreError>> {
        let mut memory = self.lock();
        memory.nodes.insert(node, enforced);
        ready(Ok(memory.state.revision)).boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, StoreError>> {
        let nodes = self.lock().nodes.clone().into_iter();
        ready(Ok(nodes.map(|(node, enforced)| NodeRow { node, enforced, out: false }).collect())).boxed()
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.lock().nodes.remove(&node);
        ready(Ok(())).boxed()
    }

    fn moved(&self) -> BoxFuture<'_, ()> {
        pending().boxed()
    }
}

impl Checkpoints for MemoryStore {
    fn latest(&self, log: &str) -> BoxFuture<'_, Result<Option<(u64, Digest)>, StoreError>> {
        ready(Ok(self.lock().checkpoints.get(log).copied())).boxed()
    }

    fn swap(
        &self,
        log: &str,
        old: Option<(u64, Digest)>,
        new: (u64, Digest),
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        if !checkpoint_may_follow(old, new) {
            return ready(Err(StoreError::shrinking_checkpoint())).boxed();
        }
        let mut memory = self.lock();
        let is_latest = memory.checkpoints.get(log).copied() == old;
        if is_latest {
            memory.checkpoints.insert(log.to_owned(), new);
        }
        ready(Ok(is_latest)).boxed()
    }
}
