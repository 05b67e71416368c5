//! What follows a decision without delaying it: what replay needs is kept, and a candidate is tried on the same ask.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_decide::{Decided, FlipGroup, Flips, Snapshot};
use bartizan_keys::Stage;
use bartizan_model::Tenant;
use bartizan_slices::{Keep, Slices};
use bartizan_store::State;

use crate::world::{TenantWorld, World};

/// Decisions that may wait to be tried under a candidate.
const QUEUE_MAX: usize = 1_024;
/// How often the house tells of a candidate that goes on.
const TELL_EVERY: Duration = Duration::from_secs(3_600);

/// What follows decisions.
pub struct Afterwards {
    slices: Option<Slices>,
    jobs: SyncSender<Job>,
    trials: Arc<Trials>,
}

struct Job {
    decided: Decided,
    other: Arc<Snapshot>,
    candidate: Digest,
}

/// How a candidate does beside the bundle in force, on this node, since it began.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// The candidate.
    pub candidate: Option<Digest>,
    /// How many decisions were evaluated under both.
    pub compared: u64,
    /// How many were not, for want of time.
    pub dropped: u64,
    /// How many could not be evaluated under the other.
    pub failed: u64,
    /// How many come out otherwise under the candidate.
    pub flips: u64,
    /// Those, by the rules that make them.
    pub groups: Vec<FlipGroup>,
}

#[derive(Default)]
struct Running {
    candidate: Option<Digest>,
    compared: u64,
    dropped: u64,
    failed: u64,
    flips: Flips,
    told: u64,
    told_at: Timestamp,
}

type Trials = Mutex<BTreeMap<Tenant, Running>>;

fn locked(trials: &Trials) -> MutexGuard<'_, BTreeMap<Tenant, Running>> {
    trials.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Afterwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Afterwards").field("slices", &self.slices).finish_non_exhaustive()
    }
}

impl Afterwards {
    /// Begins to work, on a thread of its own.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn new(slices: Option<Slices>) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(QUEUE_MAX);
        let trials = Arc::<Trials>::default();
        let shared = trials.clone();
        let thread = std::thread::Builder::new().name("bartizan-shadow".to_owned());
        thread.spawn(move || run(&waiting, &shared))?;
        Ok(Self { slices, jobs, trials })
    }

    /// What replay needs, where it is kept.
    #[must_use]
    pub const fn slices(&self) -> Option<&Slices> {
        self.slices.as_ref()
    }

    /// Whether anything follows a decision of this tenant.
    #[must_use]
    pub const fn wanted(&self, tenant: &TenantWorld) -> bool {
        self.slices.is_some() || tenant.staged.is_some()
    }

    /// A decision was made. Never waits, never fails.
    pub fn decided(&self, decided: Decided, tenant: &TenantWorld, state: &Arc<State>) {
        if let Some(slices) = &self.slices {
            slices.keep(Keep {
                tenant: decided.tenant.clone(),
                decision: decided.id,
                ask: decided.ask.clone(),
                snapshot: decided.snapshot.clone(),
                state: state.clone(),
                slice: decided.outcome.grounds.slice,
            });
        }
        let Some(staged) = &tenant.staged else { return };
        if let Stage::Shadow { permille } = staged.stage
            && !sampled(decided.id.as_bytes(), permille)
        {
            return;
        }
        let by_candidate = Arc::ptr_eq(&decided.snapshot, &staged.snapshot);
        let other = if by_candidate { &tenant.policy } else { &staged.snapshot };
        let whose = decided.tenant.clone();
        let job = Job { decided, other: other.clone(), candidate: staged.digest };
        if self.jobs.try_send(job).is_err() {
            running(&mut locked(&self.trials), &whose, staged.digest).dropped += 1;
        }
    }

    /// How the tenant's candidate does.
    #[must_use]
    pub fn trial(&self, tenant: &Tenant) -> Trial {
        let trials = locked(&self.trials);
        trials.get(tenant).map_or_else(Trial::default, |running| Trial {
            candidate: running.candidate,
            compared: running.compared,
            dropped: running.dropped,
            failed: running.failed,
            flips: running.flips.count(),
            groups: running.flips.groups(),
        })
    }

    /// How many decisions come out otherwise under candidates, of all tenants.
    #[must_use]
    pub fn flips(&self) -> u64 {
        locked(&self.trials).values().map(|running| running.flips.count()).sum()
    }

    /// What is to be told in the ledger now: of candidates that ended, and once an hour of those that go on. Tenant,
    /// candidate, compared, flips.
    #[must_use]
    pub fn reports(&self, world: &World, now: Timestamp) -> Vec<(Tenant, Digest, u64, u64)> {
        let mut trials = locked(&self.trials);
        let mut out = Vec::new();
        trials.retain(|tenant, running| {
            let staged = world.tenants.get(tenant).and_then(|t| t.staged.as_ref()).map(|s| s.digest);
            let goes_on = staged.is_some() && staged == running.candidate;
            let due = !goes_on || now.saturating_since(running.told_at) >= TELL_EVERY;
            if due && running.compared != running.told {
                running.told = running.compared;
                running.told_at = now;
                let told = |candidate| (tenant.clone(), candidate, running.compared, running.flips.count());
                out.extend(running.candidate.map(told));
            }
            goes_on
        });
        out
    }
}

/// The trial of this candidate; another's is over.
fn running<'a>(
    trials: &'a mut BTreeMap<Tenant, Running>,
    tenant: &Tenant,
    candidate: Digest,
) -> &'a mut Running {
    let running = trials.entry(tenant.clone()).or_default();
    if running.candidate != Some(candidate) {
        *running = Running { candidate: Some(candidate), ..Running::default() };
    }
    running
}

fn run(jobs: &Receiver<Job>, trials: &Trials) {
    while let Ok(Job { decided, other, candidate }) = jobs.recv() {
        let Decided { tenant, id, ask, outcome, snapshot } = decided;
        // A candidate that panics hurts nobody but itself.
        let again = catch_unwind(AssertUnwindSafe(|| other.replay_fast(&ask, &tenant)));
        let by_candidate = snapshot.bundle().is_some_and(|bundle| bundle.digest() == candidate);
        let mut trials = locked(trials);
        let running = running(&mut trials, &tenant, candidate);
        match again {
            Err(_) => running.failed += 1,
            Ok(again) => {
                running.compared += 1;
                let (base, tried) = if by_candidate { (&again, &outcome) } else { (&outcome, &again) };
                running.flips.add(id, base, tried);
            }
        }
    }
}

/// Whether one of so many of a thousand: by its own random bits, so that every node says the same.
fn sampled(id: &[u8; 16], permille: u16) -> bool {
    let [.., a, b, c, d] = *Digest::of(id).as_bytes();
    u32::from_be_bytes([a, b, c, d]) % 1_000 < u32::from(permille)
}

/// Whether somebody is among so many of a hundred: the same for the same candidate, and still when the share grows.
pub(crate) fn chosen(candidate: Digest, who: &[u8; 16], percent: u8) -> bool {
    let [.., a, b, c, d] = *Digest::of_parts(&[candidate.as_bytes(), who]).as_bytes();
    u32::from_be_bytes([a, b, c, d]) % 100 < u32::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_about_as_large_as_it_says_and_grows_without_losing_anybody() {
        let people: Vec<[u8; 16]> = (0..10_000_u128).map(u128::to_be_bytes).collect();
        let candidate = Digest::of(b"a candidate");
        let among = |percent| people.iter().filter(|who| chosen(candidate, who, percent)).collect::<Vec<_>>();
        let (ten, fifty) = (among(10), among(50));
        assert!((900..1_100).contains(&ten.len()) && (4_800..5_200).contains(&fifty.len()));
        assert!(ten.iter().all(|who| fifty.contains(who)));
        assert!(among(0).is_empty() && among(100).len() == people.len());
        let other = people.iter().filter(|who| chosen(Digest::of(b"another"), who, 10)).count();
        let both = ten.iter().filter(|who| chosen(Digest::of(b"another"), who, 10)).count();
        assert!(both * 2 < other, "another candidate is tried on others");
        let ids = people.iter().filter(|id| sampled(id, 250)).count();
        assert!((2_300..2_700).contains(&ids) && people.iter().all(|id| sampled(id, 1_000)));
    }
}
