//! Recorded decisions and the ledger, read under a recorded ask of their own.

use bartizan_identify::Caller;
use bartizan_model::action::ReadLedger;
use bartizan_model::record::Record;
use bartizan_model::{Action, DecisionId, Problem, ReasonCode, Target};
use bartizan_record::{LogFile, WitnessedProof};
use schemars::JsonSchema;
use serde::Serialize;

use crate::turn::{Turn, finish};
use crate::{Control, Done, Stopped};

/// A recorded decision as it may be seen.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DecisionView {
    /// The intent or refusal.
    #[schemars(with = "serde_json::Value")]
    pub record: Record,
    /// The subject's name, where the directory still knows it.
    pub subject: Option<String>,
    /// How it ended, if it has.
    #[schemars(with = "Option<serde_json::Value>")]
    pub outcome: Option<Record>,
    /// The log and index where it is sealed; absent while it is only in the write-ahead log.
    pub sealed: Option<(String, u64)>,
}

/// A recorded decision in a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DecisionLine {
    /// The intent or refusal.
    #[schemars(with = "serde_json::Value")]
    pub record: Record,
    /// The subject's name, where the directory still knows it.
    pub subject: Option<String>,
}

impl Control {
    /// Finds a recorded decision.
    ///
    /// # Errors
    /// When policy says no or there is no such decision.
    pub async fn find_decision(
        &self,
        caller: &Caller,
        id: DecisionId,
    ) -> Result<Done<DecisionView>, Stopped> {
        let Turn { view, intent } =
            self.ask::<ReadLedger>(caller, Action::DecisionRead, &id, Target::House).await?;
        let found = self.recorder.find(&intent, id).await.map_err(unreadable).and_then(|found| {
            let found = found.ok_or_else(|| {
                Problem::with_detail(ReasonCode::NotFound, format!("no decision `{id}` is recorded"))
            })?;
            Ok(DecisionView {
                subject: subject(&view.state, &found.record),
                record: found.record,
                outcome: found.outcome,
                sealed: found.sealed.map(|place| (place.origin.to_string(), place.index)),
            })
        });
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), found, receipt, decision)
    }

    /// The latest recorded decisions, newest first, at most 1,000.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn latest_decisions(
        &self,
        caller: &Caller,
        limit: usize,
    ) -> Result<Done<Vec<DecisionLine>>, Stopped> {
        let Turn { view, intent } =
            self.ask::<ReadLedger>(caller, Action::DecisionRead, &limit, Target::House).await?;
        let records = self.recorder.latest(&intent, limit.min(1_000)).await.map_err(unreadable);
        let line = |record: Record| DecisionLine { subject: subject(&view.state, &record), record };
        let lines = records.map(|records| records.into_iter().map(line).collect());
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), lines, receipt, decision)
    }

    /// The proof that a decision is in the ledger: a `.tlog-proof` file and the entry it proves.
    ///
    /// # Errors
    /// When policy says no, there is no such decision, or it is not sealed yet.
    pub async fn prove_decision(
        &self,
        caller: &Caller,
        id: DecisionId,
    ) -> Result<Done<(String, String)>, Stopped> {
        let Turn { intent, .. } =
            self.ask::<ReadLedger>(caller, Action::LedgerRead, &id, Target::House).await?;
        let proof = self
            .recorder
            .proof(&intent, id)
            .await
            .map_err(unreadable)
            .map(|proof| proof.and_then(|p| Some((p.text, String::from_utf8(p.entry).ok()?))));
        let detail = "no such decision is sealed; the next checkpoint is at most a second away";
        let proof = proof.and_then(|p| p.ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, detail)));
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), proof, receipt, decision)
    }

    /// The proof that a decision is in a log that witnesses have cosigned: a witnessed receipt and the entry it proves.
    ///
    /// # Errors
    /// When policy says no, there is no such decision, or it is not sealed or not cosigned yet.
    pub async fn prove_witnessed(
        &self,
        caller: &Caller,
        id: DecisionId,
    ) -> Result<Done<(String, String)>, Stopped> {
        let Turn { intent, .. } =
            self.ask::<ReadLedger>(caller, Action::LedgerRead, &(id, "witnessed"), Target::House).await?;
        let absent = |detail: &str| Err(Problem::with_detail(ReasonCode::NotFound, detail));
        let proof = match self.recorder.witnessed_proof(&intent, id).await.map_err(unreadable) {
            Err(problem) => Err(problem),
            Ok(WitnessedProof::Proof(proof)) => match String::from_utf8(proof.entry) {
                Ok(entry) => Ok((proof.text, entry)),
                Err(_) => absent("the entry is no text"),
            },
            Ok(WitnessedProof::Unsealed) => {
                absent("no such decision is sealed; the next checkpoint is at most a second away")
            }
            Ok(WitnessedProof::Untold) => {
                absent("the witnesses have not cosigned it yet; the next round is at most a minute away")
            }
            Ok(WitnessedProof::Unwitnessed) => absent(
                "no quorum of witnesses has cosigned since this node started; see `record.witness_policy`",
            ),
        };
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), proof, receipt, decision)
    }

    /// The proof that the entry `index` of one of the caller's logs is in it, as for [`Control::prove_decision`].
    ///
    /// # Errors
    /// When policy says no or there is no such entry.
    pub async fn prove_entry(
        &self,
        caller: &Caller,
        folder: &str,
        period: &str,
        index: u64,
    ) -> Result<Done<(String, String)>, Stopped> {
        let request = (folder, period, index);
        let Turn { intent, .. } =
            self.ask::<ReadLedger>(caller, Action::LedgerRead, &request, Target::House).await?;
        let proof = self.recorder.proof_in(&intent, folder, period, index).await.map_err(unreadable);
        let detail = "no such entry is sealed; the next checkpoint is at most a second away";
        let proof = proof
            .map(|proof| proof.and_then(|p| Some((p.text, String::from_utf8(p.entry).ok()?))))
            .and_then(|p| p.ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, detail)));
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), proof, receipt, decision)
    }

    /// A file of one of the caller's logs, by its path as tlog-tiles (C2SP) has it.
    ///
    /// # Errors
    /// When policy says no or there is no such file.
    pub async fn log_file(
        &self,
        caller: &Caller,
        folder: &str,
        period: &str,
        path: &str,
    ) -> Result<Done<LogFile>, Stopped> {
        let request = (folder, period, path);
        let Turn { intent, .. } =
            self.ask::<ReadLedger>(caller, Action::LedgerRead, &request, Target::House).await?;
        let file = self.recorder.log_file(&intent, folder, period, path).await.map_err(unreadable);
        let detail = "no such file of a log of yours; a partial tile is gone once the full one is there";
        let file = file.and_then(|f| f.ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, detail)));
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), file, receipt, decision)
    }

    /// The latest checkpoints of the caller's logs: origin, size, root.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn checkpoints(&self, caller: &Caller) -> Result<Done<Vec<(String, u64, String)>>, Stopped> {
        let Turn { intent, .. } =
            self.ask::<ReadLedger>(caller, Action::LedgerRead, &(), Target::House).await?;
        let logs = self.recorder.heads(&intent).map_err(unreadable).map(|heads| {
            heads.into_iter().map(|h| (h.origin.to_string(), h.size, h.root.to_string())).collect()
        });
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), logs, receipt, decision)
    }
}

/// The ledger could not be read: the particulars are for the log, not for the caller.
#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err calls")]
pub(crate) fn unreadable(error: bartizan_record::ReadError) -> Problem {
    if let bartizan_record::ReadError::Removed(_) = &error {
        return Problem::with_detail(ReasonCode::PeriodRemoved, error.to_string());
    }
    tracing::error!(%error, "the ledger could not be read");
    Problem::new(ReasonCode::RecordUnavailable)
}

/// Whose decision it was, by the name the directory knows today.
fn subject(state: &bartizan_store::State, record: &Record) -> Option<String> {
    use bartizan_model::record::Body;
    let who = match &record.body {
        Body::Intent(intent) => &intent.who,
        Body::Refusal(refusal) => &refusal.who,
        Body::Outcome(_) | Body::System(_) => return None,
    };
    let found =
        state.documents.iter().find(|(t, d, _)| *t == record.tenant && d.principal == Some(who.subject));
    found.map(|(_, d, _)| format!("{}/{}", d.spec.kind(), d.name))
}
