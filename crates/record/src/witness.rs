//! Witnesses: others, elsewhere, who cosign the operator's log if it only ever grew (C2SP tlog-witness).
//!
//! A witness remembers the largest checkpoint it has seen, so it also finds out a house that was put back to an earlier
//! state as a whole, which nothing inside the house can.

use std::fmt::Debug;
use std::sync::{Arc, PoisonError};

use bartizan_base::{Digest, Timestamp};
use bartizan_model::Tenant;
use bartizan_model::record::{Body, System};
use futures_util::future::{BoxFuture, join_all};

use crate::intent::RecordError;
use crate::log::LogError;
use crate::period::LogId;
use crate::recorder::Recorder;
use crate::recover::OpenError;
use crate::seal::blocking;
use crate::sealed::SealedLog;

/// How often a witness is asked within one round: it may know another size than we believe, and it may learn a new one
/// meanwhile.
const TRIES: usize = 3;

/// The status by which a witness says that a checkpoint does not extend the one it knows.
const UNPROCESSABLE: u16 = 422;

/// Somebody who cosigns.
pub trait Witness: Debug + Send + Sync {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// Asks to cosign `checkpoint`, which extends the one of `old` entries as `proof` shows. Gives the cosignature's line,
    /// verified.
    fn add_checkpoint<'a>(
        &'a self,
        old: u64,
        proof: &'a [Digest],
        checkpoint: &'a str,
    ) -> BoxFuture<'a, Result<String, WitnessError>>;
}

/// Why a witness has not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// It has cosigned another size last (status 409).
    #[error("it has cosigned {0} entries last")]
    Knows(u64),
    /// It refuses for good: it does not know the log, or holds the checkpoint to be wrong.
    #[error("it refuses with status {0}")]
    Refused(u16),
    /// Its answer is no cosignature of ours.
    #[error("its answer is no cosignature of this checkpoint by its key")]
    Invalid,
    /// It does not answer.
    #[error("it does not answer: {0}")]
    Unavailable(String),
}

/// What a round of witnesses has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The size that was to be cosigned.
    pub size: u64,
    /// The cosigned checkpoint, where there was anything to cosign.
    pub checkpoint: Arc<str>,
    /// Who has cosigned.
    pub cosigned: Vec<String>,
    /// Who has not, and why.
    pub missing: Vec<(String, String)>,
}

impl Recorder {
    /// Asks all witnesses to cosign the operator's log as it is published, and publishes what they have cosigned.
    ///
    /// # Errors
    /// `Witnessed` when a witness has cosigned what this log does not extend. A start must not go on then; a running house
    /// goes on with an alarm, since no single witness may stop it.
    pub async fn witness_round(&self, witnesses: &[Arc<dyn Witness>]) -> Result<Round, OpenError> {
        let id = LogId::operator();
        let published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let Some(log) = published else { return Ok(Round::default()) };
        let asked = join_all(witnesses.iter().map(|witness| ask(&**witness, &log))).await;
        let mut round = Round { size: log.size, ..Round::default() };
        let mut checkpoint = log.checkpoint_alone();
        let mut contradiction = None;
        for (witness, result) in witnesses.iter().zip(asked) {
            let name = witness.name().to_owned();
            match result {
                Ok(line) => {
                    checkpoint.push_str(&line);
                    round.cosigned.push(name);
                }
                Err(WitnessError::Knows(size)) if size > log.size => {
                    contradiction.get_or_insert((name, format!("{size} entries, more than there are")));
                }
                Err(WitnessError::Refused(UNPROCESSABLE)) => {
                    contradiction.get_or_insert((name, "another history".to_owned()));
                }
                Err(error) => round.missing.push((name, error.to_string())),
            }
        }
        round.checkpoint = checkpoint.into();
        if !round.cosigned.is_empty() {
            self.publish_cosigned(&id, log.size, round.checkpoint.clone()).await?;
        }
        if let Some((witness, knows)) = contradiction {
            let origin = id.origin(&self.inner.core.origin).to_string();
            return Err(LogError::Witnessed { origin, knows, witness }.into());
        }
        Ok(round)
    }

    /// Publishes a cosigned checkpoint, unless the log has gone on: then the next round cosigns what it has become.
    async fn publish_cosigned(&self, id: &LogId, size: u64, checkpoint: Arc<str>) -> Result<(), OpenError> {
        let sealer = self.inner.sealer.lock().await;
        let is_latest = sealer.logs.get(id).is_some_and(|log| log.confirmed.is_some_and(|(n, _)| n == size));
        if !is_latest {
            return Ok(());
        }
        let (disk, folder, text) = (sealer.disk.clone(), id.folder(&sealer.folder), checkpoint.clone());
        blocking(move || {
            let path = folder.join("checkpoint");
            let io = |source| OpenError::Io { path: path.clone(), source };
            crate::disk::write_whole(&*disk, &folder, &[(path.clone(), text.as_bytes().to_vec())])
                .map_err(io)?;
            disk.sync_dir(&folder).map_err(io)
        })
        .await??;
        let mut published = self.inner.published.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = published.get_mut(id).filter(|log| log.size == size) {
            log.checkpoint = checkpoint;
        }
        Ok(())
    }

    /// Records that too few witnesses have cosigned since `since`.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn tell_unwitnessed(&self, size: u64, since: Timestamp) -> Result<(), RecordError> {
        let seconds = self.inner.core.clock.now().as_secs().saturating_sub(since.as_secs());
        self.write(&Tenant::default_tenant(), Body::System(System::Unwitnessed { size, seconds }))
            .await
            .map(drop)
    }
}

/// Asks one witness, from the size it knows on.
async fn ask(witness: &dyn Witness, log: &SealedLog) -> Result<String, WitnessError> {
    // A witness that has seen nothing yet says 0; one that has seen this very size cosigns again.
    let mut old = log.size;
    let mut tries = TRIES;
    loop {
        let proof = {
            let log = log.clone();
            blocking(move || log.consistency_from(old)).await
        };
        let proof = match proof {
            Ok(Ok(proof)) => proof,
            Ok(Err(error)) => return Err(WitnessError::Unavailable(error.to_string())),
            Err(error) => return Err(WitnessError::Unavailable(error.to_string())),
        };
        match witness.add_checkpoint(old, &proof, &log.checkpoint_alone()).await {
            Err(WitnessError::Knows(size)) if size <= log.size && size != old && tries > 1 => {
                old = size;
                tries -= 1;
            }
            result => return result,
        }
    }
}
