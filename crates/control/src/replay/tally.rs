//! What is counted while many decisions are decided again, in bounded memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bartizan_base::{Digest, Timestamp};
use bartizan_decide::{CompiledBundle, Flips, NotReplayable, Recorded, Replayed, Snapshot};
use bartizan_model::record::{Record, VerdictKind};
use bartizan_model::{PrincipalId, PrincipalKind, Problem, Tenant};
use bartizan_slices::Slices;

use super::{Preview, SubjectShift, snapshot, unkept};

/// Rules of all snapshots together that are held while decisions are decided again: most decisions share their entities.
const RULES_HELD: usize = 2_000_000;
/// Subjects that are told apart in a preview.
const SUBJECTS_MAX: usize = 1_000;

/// What is counted over many decisions.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) decisions: u64,
    unchanged: u64,
    flips: Flips,
    not_replayable: BTreeMap<NotReplayable, u64>,
    subjects: BTreeMap<PrincipalId, (PrincipalKind, u64, u64)>,
    snapshots: HashMap<Digest, Arc<Snapshot>>,
}

impl Tally {
    pub(super) fn take(
        &mut self,
        record: &Record,
        slices: Option<&Slices>,
        draft: &Arc<CompiledBundle>,
        tenant: &Tenant,
    ) -> Result<(), Problem> {
        self.decisions += 1;
        match self.decide(record, slices, draft, tenant)? {
            Ok(()) => {}
            Err(why) => *self.not_replayable.entry(why).or_default() += 1,
        }
        Ok(())
    }

    fn decide(
        &mut self,
        record: &Record,
        slices: Option<&Slices>,
        draft: &Arc<CompiledBundle>,
        tenant: &Tenant,
    ) -> Result<Result<(), NotReplayable>, Problem> {
        let recorded = match Recorded::of(record) {
            Ok(recorded) => recorded,
            Err(why) => return Ok(Err(why)),
        };
        let found = match slices.map(|slices| slices.find(tenant, recorded.id)) {
            None => return Ok(Err(NotReplayable::NotKept)),
            Some(Err(error)) => return Err(unkept(&error)),
            Some(Ok(Err(why))) => return Ok(Err(why)),
            Some(Ok(Ok(found))) => found,
        };
        if self.snapshots.len() >= (RULES_HELD / (draft.len() + 1)).clamp(8, 1_024) {
            self.snapshots.clear();
        }
        let held = match self.snapshots.get(&found.slice) {
            Some(held) => held.clone(),
            None => {
                let Some(made) = snapshot(&found, Some(draft.clone())) else {
                    return Ok(Err(NotReplayable::Damaged));
                };
                let made = Arc::new(made);
                self.snapshots.insert(found.slice, made.clone());
                made
            }
        };
        let again = held.replay_fast(&found.ask, tenant);
        if self.flips.add(recorded.id, &recorded.outcome, &again) {
            self.shift(&recorded, &again);
        } else {
            self.unchanged += 1;
        }
        Ok(Ok(()))
    }

    fn shift(&mut self, recorded: &Recorded, again: &Replayed) {
        let permit = VerdictKind::Permit;
        let (was, is) = (recorded.outcome.verdict == permit, again.verdict == permit);
        if was == is || self.subjects.len() >= SUBJECTS_MAX && !self.subjects.contains_key(&recorded.subject)
        {
            return;
        }
        let (_, loses, gains) =
            self.subjects.entry(recorded.subject).or_insert((recorded.subject_kind, 0, 0));
        *(if was { loses } else { gains }) += 1;
    }

    pub(super) fn preview(
        self,
        bundle: Digest,
        since: Timestamp,
        truncated: bool,
        state: &bartizan_store::State,
        tenant: &Tenant,
    ) -> Preview {
        let name = |id: PrincipalId| {
            let found = state.documents.iter().find(|(t, d, _)| t == tenant && d.principal == Some(id));
            found.map(|(_, d, _)| format!("{}/{}", d.spec.kind(), d.name))
        };
        let subjects = self.subjects.iter().map(|(subject, (kind, loses, gains))| SubjectShift {
            subject: *subject,
            kind: *kind,
            name: name(*subject),
            loses: *loses,
            gains: *gains,
        });
        Preview {
            bundle,
            since: since.to_string(),
            decisions: self.decisions,
            unchanged: self.unchanged,
            flips: self.flips.count(),
            groups: self.flips.groups(),
            ungrouped: self.flips.ungrouped(),
            not_replayable: self.not_replayable.iter().map(|(why, n)| (why.name().to_owned(), *n)).collect(),
            subjects: subjects.collect(),
            truncated,
        }
    }
}
