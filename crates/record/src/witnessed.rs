//! Witnessed proofs: that a decision is in its tenant's log, joined with the proof that the operator's log, which witnesses
//! have cosigned, was told so.

use std::sync::{Arc, PoisonError};

use bartizan_base::{Digest, Timestamp};
use bartizan_ledger::{ENTRIES_PER_BUNDLE, Receipt, WitnessedReceipt};
use bartizan_model::DecisionId;
use bartizan_model::action::ReadLedger;
use bartizan_model::record::{Body, Record, System};

use crate::intent::IntentRecorded;
use crate::log::TreeHead;
use crate::period::LogId;
use crate::read::{BUNDLES_MAX, CLOCK_SLACK, Proof};
use crate::recorder::Recorder;
use crate::seal::blocking;
use crate::sealed::{ReadError, SealedLog};
use crate::witness::Round;

/// The answer to who asks for a witnessed proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WitnessedProof {
    /// The text of a witnessed receipt, and the entry that it proves.
    Proof(Proof),
    /// There is no such decision, or it is not sealed yet.
    Unsealed,
    /// The witnesses have not cosigned yet that its log has come so far.
    Untold,
    /// Witnesses have cosigned nothing since this process began: there are none, or too few answer.
    Unwitnessed,
}

/// An entry of the operator's log, at its place, that tells the head of a log.
struct ToldAt {
    index: u64,
    entry: Vec<u8>,
    head: TreeHead,
}

impl Recorder {
    /// Notes that what `round` has brought suffices: witnessed proofs lead to it from now on.
    pub fn note_witnessed(&self, round: &Round) {
        let mut published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = published.get_mut(&LogId::operator()).filter(|log| log.size >= round.size) {
            log.witnessed = Some((round.size, round.checkpoint.clone()));
        }
    }

    /// The proof that a decision is in a log that witnesses have cosigned.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn witnessed_proof(
        &self,
        intent: &IntentRecorded<ReadLedger>,
        id: DecisionId,
    ) -> Result<WitnessedProof, ReadError> {
        let Some(found) = self.find(intent, id).await? else { return Ok(WitnessedProof::Unsealed) };
        let Some(place) = found.sealed else { return Ok(WitnessedProof::Unsealed) };
        let (log, operator) = {
            let published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner);
            let own = published.iter().find(|(log, _)| {
                log.tenant == *intent.tenant() && log.origin(&self.inner.core.origin) == place.origin
            });
            (own.map(|(id, log)| (id.clone(), log.clone())), published.get(&LogId::operator()).cloned())
        };
        let Some((log_id, log)) = log else { return Ok(WitnessedProof::Unsealed) };
        let Some((operator, (size, cosigned))) = operator.and_then(|o| o.witnessed.clone().map(|w| (o, w)))
        else {
            return Ok(WitnessedProof::Unwitnessed);
        };
        let (origin, index) = (place.origin.clone(), place.index);
        let since = found.record.time_us;
        let told = {
            let operator = operator.clone();
            blocking(move || find_told(&operator, size, &origin, index, since)).await
        };
        let Some(told) = told.map_err(|_| ReadError::Closed)?? else { return Ok(WitnessedProof::Untold) };
        // What the operator's log was told of a log had been signed before: the same is signed again, byte for byte.
        let signed = self.inner.sealer.lock().await.logs.get(&log_id).map(|l| l.sealed_at(told.head));
        let Some(signed) = signed else { return Ok(WitnessedProof::Unsealed) };
        let proof =
            blocking(move || join(&log, index, &signed.checkpoint, &operator, (size, cosigned), told));
        proof.await.map_err(|_| ReadError::Closed)?.map(WitnessedProof::Proof)
    }
}

fn join(
    log: &SealedLog,
    index: u64,
    signed: &str,
    operator: &SealedLog,
    (witnessed, cosigned): (u64, Arc<str>),
    told: ToldAt,
) -> Result<Proof, ReadError> {
    let (size, root): (u64, Digest) = told.head;
    let damaged = || ReadError::Damaged(log.folder.join("tile"));
    // Never a proof that leads elsewhere than what was told.
    if log.root_at(size)? != root {
        return Err(damaged());
    }
    let entry = log.entry(index)?.ok_or_else(damaged)?;
    let receipt = |log: &SealedLog, index, size, checkpoint: &str| {
        let proof = log.proof_within(index, size)?;
        Ok::<_, ReadError>(Receipt { index, proof, checkpoint: checkpoint.to_owned(), extra: None })
    };
    let joined = WitnessedReceipt {
        receipt: receipt(log, index, size, signed)?,
        witnessed: receipt(operator, told.index, witnessed, &cosigned)?,
        told: told.entry,
    };
    Ok(Proof { text: joined.text(), entry })
}

/// What the first `size` entries of the operator's log tell first, from about `since` on, about the log `origin` when it
/// held the entry `index`.
fn find_told(
    operator: &SealedLog,
    size: u64,
    origin: &str,
    index: u64,
    since: Timestamp,
) -> Result<Option<ToldAt>, ReadError> {
    let slack = u64::try_from(CLOCK_SLACK.as_micros()).unwrap_or(0);
    let from = operator.bundle_from(Timestamp::from_micros(since.as_micros().saturating_sub(slack)))?;
    let end = size.div_ceil(ENTRIES_PER_BUNDLE);
    // If time has gone back meanwhile, it stands before.
    for bundle in (from..end).chain((0..from.min(end)).rev()).take(BUNDLES_MAX) {
        for (at, entry) in (bundle * ENTRIES_PER_BUNDLE..size).zip(operator.bundle(bundle)?) {
            let Ok(Record { body: Body::System(event), .. }) = serde_json::from_slice(&entry) else {
                continue;
            };
            if let System::Checkpoint { origin: of, size, root } = event
                && of == origin
                && size > index
            {
                return Ok(Some(ToldAt { index: at, entry, head: (size, root) }));
            }
        }
    }
    Ok(None)
}
