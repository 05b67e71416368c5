//! Recorded decisions, decided again: one of them bit for bit, many of them under a draft, a sample of them every night.

mod explain;
mod tally;

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_base::{Digest, Timestamp};
use bartizan_decide::{
    Bundle, CompiledBundle, Entities, FlipGroup, KeptAsk, NotReplayable, Recorded, Snapshot,
};
use bartizan_identify::Caller;
use bartizan_index::Order;
use bartizan_model::action::ReadLedger;
use bartizan_model::record::{Record, System, VerdictKind};
use bartizan_model::{Action, DecisionId, PrincipalId, PrincipalKind, Problem, ReasonCode, Target, Tenant};
use bartizan_slices::{Found, SlicesError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decisions::unreadable;
use crate::policy::blocking;
use crate::turn::{Turn, finish};
use crate::{Control, Done, Stopped};

pub use explain::ExplainedDecision;
use tally::Tally;

/// Recorded decisions of one preview, if nothing else is said, and at the most.
const LIMIT: u64 = 50_000;
const LIMIT_MAX: u64 = 1_000_000;
/// Decisions that are read at once.
const PAGE: usize = 1_000;

/// How one decision came out when it was made again.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReplayView {
    /// The decision.
    pub decision: DecisionId,
    /// Why it could not be made again; absent where it was.
    pub not_replayable: Option<NotReplayable>,
    /// Whether it came out the same, bit for bit; absent where it was not made.
    pub same: Option<bool>,
    /// In what it differs.
    pub differences: Vec<String>,
    /// The verdict on record; absent where policy was never asked.
    pub verdict: Option<VerdictKind>,
    /// The rules that decided.
    pub rules: Vec<bartizan_base::Name>,
    /// The bundle that decided.
    pub policy: Option<Digest>,
}

/// Everything that a decision follows from, to make it again elsewhere. Personal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Material {
    /// The record.
    #[schemars(with = "serde_json::Value")]
    pub record: Record,
    /// The bundle's files by relative path; empty where none was in force.
    pub files: BTreeMap<String, String>,
    /// The ask.
    #[schemars(with = "serde_json::Value")]
    pub ask: KeptAsk,
    /// The entities that were in reach, each as Cedar's JSON.
    pub entities: Vec<String>,
}

/// A draft under which recorded decisions are to be decided again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayUnder {
    /// Its files by relative path.
    pub files: BTreeMap<String, String>,
    /// How far back, in seconds.
    pub since_s: u64,
    /// How many decisions at the most, the oldest first; 50,000 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// What becomes of recorded decisions under a draft.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Preview {
    /// The draft.
    pub bundle: Digest,
    /// From when on.
    pub since: String,
    /// How many decisions were read.
    pub decisions: u64,
    /// How many of them come out the same.
    pub unchanged: u64,
    /// How many come out otherwise.
    pub flips: u64,
    /// Those, by the rules that make them.
    pub groups: Vec<FlipGroup>,
    /// How many come out otherwise for which no group was left.
    pub ungrouped: u64,
    /// How many could not be decided again, by reason.
    pub not_replayable: BTreeMap<String, u64>,
    /// Who loses or gains permits.
    pub subjects: Vec<SubjectShift>,
    /// Whether there are more decisions than were read.
    pub truncated: bool,
}

/// Somebody who loses or gains permits.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SubjectShift {
    /// Who, by pseudonym.
    pub subject: PrincipalId,
    /// What kind of being.
    pub kind: PrincipalKind,
    /// The name, where the directory still knows it.
    pub name: Option<String>,
    /// Recorded permits that would not be any more.
    pub loses: u64,
    /// Recorded refusals that would be permits.
    pub gains: u64,
}

/// How a check of a sample went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCheck {
    /// Came out the same.
    pub same: u64,
    /// Did not: an alarm.
    pub differing: u64,
    /// Could not be decided again.
    pub not_replayable: u64,
}

impl Control {
    /// Decides a recorded decision again, by the reference engine, from what was kept of it.
    ///
    /// # Errors
    /// When policy says no or there is no such decision.
    pub async fn replay_decision(
        &self,
        caller: &Caller,
        id: DecisionId,
    ) -> Result<Done<ReplayView>, Stopped> {
        let Turn { intent, .. } =
            self.ask::<ReadLedger>(caller, Action::DecisionRead, &("replay", id), Target::House).await?;
        let found = self.recorder.find(&intent, id).await.map_err(unreadable);
        let view = match found.and_then(|found| found.ok_or_else(|| unknown(id))) {
            Ok(found) => self.replayed(caller.tenant(), &found.record, id).await,
            Err(problem) => Err(problem),
        };
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), view, receipt, decision)
    }

    /// Everything that a decision follows from, to make it again elsewhere and without us.
    ///
    /// # Errors
    /// When policy says no, or it cannot be had: the problem says why.
    pub async fn replay_material(&self, caller: &Caller, id: DecisionId) -> Result<Done<Material>, Stopped> {
        let Turn { intent, .. } =
            self.ask::<ReadLedger>(caller, Action::ContentRead, &("replay", id), Target::House).await?;
        let found = self.recorder.find(&intent, id).await.map_err(unreadable);
        let material = match found.and_then(|found| found.ok_or_else(|| unknown(id))) {
            Ok(found) => self.material(caller.tenant(), found.record, id).await,
            Err(problem) => Err(problem),
        };
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), material, receipt, decision)
    }

    async fn material(&self, tenant: &Tenant, record: Record, id: DecisionId) -> Result<Material, Problem> {
        let gone = |why: NotReplayable| {
            Problem::with_detail(ReasonCode::NotFound, format!("not replayable: {}", why.name()))
        };
        let recorded = Recorded::of(&record).map_err(gone)?;
        let files = self.files_of(tenant, recorded.outcome.grounds.policy).await?.map_err(gone)?;
        let found = self.found(tenant, id).await?.map_err(gone)?;
        let entities =
            found.documents.into_iter().map(|d| String::from_utf8_lossy(&d).into_owned()).collect();
        Ok(Material { record, files: files.unwrap_or_default(), ask: found.ask, entities })
    }

    async fn replayed(
        &self,
        tenant: &Tenant,
        record: &Record,
        id: DecisionId,
    ) -> Result<ReplayView, Problem> {
        let recorded = Recorded::of(record);
        let outcome = recorded.as_ref().ok().map(|r| &r.outcome);
        let mut view = ReplayView {
            decision: id,
            not_replayable: None,
            same: None,
            differences: Vec::new(),
            verdict: outcome.map(|o| o.verdict),
            rules: outcome.map(|o| o.grounds.rules.clone()).unwrap_or_default(),
            policy: outcome.map(|o| o.grounds.policy),
        };
        match self.differences(tenant, recorded).await? {
            Ok(differences) => {
                view.same = Some(differences.is_empty());
                view.differences = differences;
            }
            Err(why) => view.not_replayable = Some(why),
        }
        Ok(view)
    }

    /// In what a decision comes out otherwise, bit for bit.
    async fn differences(
        &self,
        tenant: &Tenant,
        recorded: Result<Recorded, NotReplayable>,
    ) -> Result<Result<Vec<String>, NotReplayable>, Problem> {
        let whose = tenant.clone();
        self.again(tenant, recorded, move |recorded, snapshot, kept| {
            recorded.outcome.differences(&snapshot.replay(kept, &whose))
        })
        .await
    }

    /// Works something out about a recorded decision on everything that it follows from.
    async fn again<T: Send + 'static>(
        &self,
        tenant: &Tenant,
        recorded: Result<Recorded, NotReplayable>,
        work: impl FnOnce(&Recorded, &Snapshot, &KeptAsk) -> T + Send + 'static,
    ) -> Result<Result<T, NotReplayable>, Problem> {
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(why) => return Ok(Err(why)),
        };
        let bundle = match self.files_of(tenant, recorded.outcome.grounds.policy).await? {
            Err(why) => return Ok(Err(why)),
            Ok(None) => None,
            Ok(Some(files)) => Some(Bundle { files }),
        };
        let found = match self.found(tenant, recorded.id).await? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let bundle = match bundle {
            None => None,
            Some(bundle) => match self.compile_again(tenant, bundle, &found.ask).await? {
                Some(compiled) => Some(compiled),
                None => return Ok(Err(NotReplayable::BundleMissing)),
            },
        };
        blocking(move || {
            let Some(snapshot) = snapshot(&found, bundle) else { return Ok(Err(NotReplayable::Damaged)) };
            Ok(Ok(work(&recorded, &snapshot, &found.ask)))
        })
        .await
    }

    /// A bundle as it was when it decided an ask: with what that ask knew of tools, whatever they are by now.
    async fn compile_again(
        &self,
        tenant: &Tenant,
        bundle: Bundle,
        ask: &KeptAsk,
    ) -> Result<Option<Arc<CompiledBundle>>, Problem> {
        let words = ask.words();
        if words.is_empty()
            && let Ok(held) = self.house.compile(tenant, bundle.clone()).await
        {
            return Ok(Some(held));
        }
        blocking(move || Ok(CompiledBundle::in_force(&bundle, &words, &[]).ok().map(Arc::new))).await
    }

    /// The files of the bundle that decided; none inside where none was in force.
    async fn files_of(
        &self,
        tenant: &Tenant,
        policy: Digest,
    ) -> Result<Result<Option<BTreeMap<String, String>>, NotReplayable>, Problem> {
        if policy == Digest::EMPTY {
            return Ok(Ok(None));
        }
        let files = self.store.bundle_files(tenant, policy).await.map_err(|e| Stopped::from(e).problem)?;
        // What the database holds under a digest is held against it.
        let sound = files.filter(|files| Bundle { files: files.clone() }.digest() == policy);
        Ok(sound.map(Some).ok_or(NotReplayable::BundleMissing))
    }

    async fn found(&self, tenant: &Tenant, id: DecisionId) -> Result<Result<Found, NotReplayable>, Problem> {
        let Some(slices) = self.slices.clone() else { return Ok(Err(NotReplayable::NotKept)) };
        let tenant = tenant.clone();
        blocking(move || {
            slices.flush().and_then(|()| slices.find(&tenant, id)).map_err(|error| unkept(&error))
        })
        .await
    }

    /// Decides recorded decisions again under a draft. Says what comes out otherwise and what could not be decided; guesses
    /// nothing.
    ///
    /// # Errors
    /// When policy says no, the draft does not compile, or the ledger cannot be read.
    pub async fn replay_under(
        &self,
        caller: &Caller,
        request: &ReplayUnder,
    ) -> Result<Done<Preview>, Stopped> {
        let Turn { view, intent } =
            self.ask::<ReadLedger>(caller, Action::DecisionRead, request, Target::House).await?;
        let tenant = caller.tenant().clone();
        let preview = async {
            let bundle = Bundle { files: request.files.clone() };
            let draft = self.compile(&tenant, &bundle).await?;
            let us = request.since_s.saturating_mul(1_000_000);
            let since = Timestamp::from_micros(self.clock.now().as_micros().saturating_sub(us));
            let limit = request.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
            let (tally, truncated) = self.run_over(&tenant, since, limit, draft).await?;
            Ok(tally.preview(bundle.digest(), since, truncated, &view.state, &tenant))
        };
        let preview = preview.await;
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), preview, receipt, decision)
    }

    async fn run_over(
        &self,
        tenant: &Tenant,
        since: Timestamp,
        limit: u64,
        draft: Arc<CompiledBundle>,
    ) -> Result<(Tally, bool), Problem> {
        self.archive.follow().await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the index is behind the ledger");
            Problem::new(ReasonCode::RecordUnavailable)
        })?;
        let slices = self.slices.clone();
        if let Some(slices) = slices.clone() {
            blocking(move || slices.flush().map_err(|error| unkept(&error))).await?;
        }
        let query = format!("(kind:intent or kind:refusal) since:\"{since}\"");
        let (mut tally, mut cursor) = (Tally::default(), None);
        loop {
            let rest = usize::try_from(limit - tally.decisions.min(limit)).unwrap_or(PAGE);
            let page = self.found_page(tenant, &query, Order::Oldest, rest.min(PAGE), cursor).await?;
            let records: Vec<Record> = page.rows.into_iter().map(|row| row.record).collect();
            let (slices, draft, whose) = (slices.clone(), draft.clone(), tenant.clone());
            tally = blocking(move || {
                records.iter().try_for_each(|record| tally.take(record, slices.as_ref(), &draft, &whose))?;
                Ok(tally)
            })
            .await?;
            cursor = page.next;
            if cursor.is_none() || tally.decisions >= limit {
                return Ok((tally, cursor.is_some()));
            }
        }
    }

    /// Decides a random sample of recent decisions again and records how that went. Nobody's ask stands behind it: the house
    /// checks itself, and tells numbers alone.
    ///
    /// # Errors
    /// When ledger or slices cannot be read, or the result not be recorded.
    pub async fn check_replays(&self, tenant: &Tenant, sample: usize) -> Result<ReplayCheck, Problem> {
        let query = "(kind:intent or kind:refusal) since:24h";
        let page = self.found_page(tenant, query, Order::Newest, PAGE, None).await?;
        let mut records: Vec<(u64, Record)> = page
            .rows
            .into_iter()
            .map(|row| {
                let mut lot = [0; 8];
                self.random.fill(&mut lot);
                (u64::from_be_bytes(lot), row.record)
            })
            .collect();
        records.sort_by_key(|(lot, _)| *lot);
        let mut check = ReplayCheck::default();
        for (_, record) in records.iter().take(sample) {
            match self.differences(tenant, Recorded::of(record)).await? {
                Ok(differences) if differences.is_empty() => check.same += 1,
                Ok(differences) => {
                    check.differing += 1;
                    tracing::error!(%tenant, seq = record.seq, ?differences, "a recorded decision does not come out again");
                }
                // Policy was never asked: there is nothing to check.
                Err(NotReplayable::NotDecidedByPolicy) => {}
                Err(_) => check.not_replayable += 1,
            }
        }
        let ReplayCheck { same, differing, not_replayable } = check;
        if check != ReplayCheck::default() {
            let event = System::ReplayChecked { same, differing, not_replayable };
            self.recorder.system_of(tenant, event).await.map_err(|error| Problem::new(error.reason()))?;
        }
        Ok(check)
    }
}

impl Material {
    /// Decides it again, here and now, needing nobody: in what it comes out otherwise than is on record.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub fn replay(&self) -> Result<(Recorded, Vec<String>), NotReplayable> {
        let recorded = Recorded::of(&self.record)?;
        let bundle = Bundle { files: self.files.clone() };
        let compiled = match recorded.outcome.grounds.policy == Digest::EMPTY {
            true => None,
            false => {
                let compiled = CompiledBundle::in_force(&bundle, &self.ask.words(), &[]);
                Some(compiled.map_err(|_| NotReplayable::BundleMissing)?)
            }
        };
        let documents = self.entities.iter().map(|text| text.as_bytes());
        let entities = Entities::from_slice(documents).map_err(|_| NotReplayable::Damaged)?;
        let snapshot = Snapshot::new(compiled.map(Arc::new), Arc::new(entities));
        let differences = recorded.outcome.differences(&snapshot.replay(&self.ask, &self.record.tenant));
        Ok((recorded, differences))
    }
}

fn snapshot(found: &Found, bundle: Option<Arc<CompiledBundle>>) -> Option<Snapshot> {
    let entities = Entities::from_slice(found.documents.iter().map(Vec::as_slice)).ok()?;
    Some(Snapshot::new(bundle, Arc::new(entities)))
}

fn unknown(id: DecisionId) -> Problem {
    Problem::with_detail(ReasonCode::NotFound, format!("no decision `{id}` is recorded"))
}

/// The particulars are for the log, not for the caller.
fn unkept(error: &SlicesError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "what replay needs could not be read");
    Problem::new(ReasonCode::VaultUnavailable)
}
