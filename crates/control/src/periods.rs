//! Logs of past periods: archived whole, and then removed from the node.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bartizan_identify::Caller;
use bartizan_model::action::ChangeState;
use bartizan_model::{Action, Problem, ReasonCode, Target};
use bartizan_record::{ClosedLog, IntentRecorded, RemoveError};
use schemars::JsonSchema;
use serde::Serialize;

use crate::decisions::unreadable;
use crate::turn::finish;
use crate::{Control, Done, Stopped};

/// Where archives lie, and how long a log stays after its period; the binary introduces who knows.
pub trait Archives: Debug + Send + Sync {
    /// For how long after its end a period stays on the node; none if for ever.
    fn keep(&self) -> Option<Duration>;

    /// Verifies the archive of `log` from end to end: every entry, every tile, and the same last checkpoint. Gives the
    /// place. Waits for the disk.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    fn verify(&self, log: &ClosedLog) -> Result<String, String>;
}

/// A log that was removed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RemovedView {
    /// Its name.
    pub origin: String,
    /// How many entries it held.
    pub size: u64,
    /// Its last checkpoint, which stays on the node.
    pub checkpoint: String,
    /// Where its archive lies, as this node sees it.
    pub archive: String,
}

impl Control {
    /// Removes the caller's log of a past period from this node: after its retention, never while a legal hold stands on
    /// somebody in it, and only if its archive verifies. Its last checkpoint stays, and the operator's log says so.
    ///
    /// # Errors
    /// When policy says no, or any of this does not hold; nothing is removed then.
    pub async fn remove_period(&self, caller: &Caller, period: &str) -> Result<Done<RemovedView>, Stopped> {
        let request = ("remove", period);
        let turn = self.ask::<ChangeState>(caller, Action::LedgerRemove, &request, Target::House).await?;
        let removed = self.remove(&turn.intent, period).await;
        let (receipt, decision) = (turn.intent.receipt().clone(), turn.intent.decision());
        finish(turn.intent.begin(), removed, receipt, decision)
    }

    async fn remove(
        &self,
        intent: &IntentRecorded<ChangeState>,
        period: &str,
    ) -> Result<RemovedView, Problem> {
        let conflict = |detail: &str| Problem::with_detail(ReasonCode::Conflict, detail);
        let Some(keep) = self.archives.keep() else {
            return Err(conflict("periods stay on this node for ever: `record.retention_days` is not set"));
        };
        let closed = self.recorder.closed_log(intent, period, keep).map_err(|error| told(&error))?;
        let (archives, log) = (Arc::clone(&self.archives), closed.clone());
        let archive = tokio::task::spawn_blocking(move || archives.verify(&log)).await;
        let archive = archive.map_err(|_| Problem::new(ReasonCode::ShuttingDown))?;
        let archive = archive.map_err(|wrong| conflict(&format!("the archive does not verify: {wrong}")))?;
        if self.vault.is_some() {
            // Whoever is held may need the records about them at hand, not only what the vault keeps.
            let named = self.recorder.named_in(&closed).await.map_err(unreadable)?;
            let tenant = intent.tenant().clone();
            if let Some((_, hold)) = self.with_vault(move |vault| vault.first_held(&tenant, named)).await? {
                let detail = format!("the legal hold `{hold}` stands on somebody in this period");
                return Err(Problem::with_detail(ReasonCode::LegalHold, detail));
            }
        }
        self.recorder.remove_log(intent, &closed).await.map_err(|error| told(&error))?;
        if let Err(error) = self.archive.forget(intent.tenant()).await {
            // It finds nothing in the log that is gone, and is made anew with the next change that it cannot follow.
            tracing::warn!(%error, "the index could not be told of a removed period");
        }
        Ok(RemovedView {
            origin: closed.origin.to_string(),
            size: closed.size,
            checkpoint: closed.checkpoint.to_string(),
            archive,
        })
    }
}

/// Why a period is not removed, for the one who asked; the particulars of failing disks are for the operators.
fn told(error: &RemoveError) -> Problem {
    let reason = match error {
        RemoveError::Absent => ReasonCode::NotFound,
        RemoveError::Removed(_) => ReasonCode::PeriodRemoved,
        RemoveError::Unwitnessed(_) => ReasonCode::PeriodUnwitnessed,
        RemoveError::TooEarly { .. } | RemoveError::Endless | RemoveError::Unsettled(_) => {
            ReasonCode::Conflict
        }
        RemoveError::PermitExpired | RemoveError::Record(_) | RemoveError::Log(_) => {
            tracing::error!(error = error as &dyn std::error::Error, "a period could not be removed");
            return Problem::new(ReasonCode::RecordUnavailable);
        }
    };
    Problem::with_detail(reason, error.to_string())
}
