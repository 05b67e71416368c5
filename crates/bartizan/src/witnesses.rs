//! The witnesses of this house: who they are, and how they are asked (C2SP tlog-witness over HTTP).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bartizan_base::{Clock, Digest};
use bartizan_ledger::{AddCheckpoint, CosignerKey, Policy, UnverifiedNote, read_conflict, read_cosignatures};
use bartizan_record::{LogError, OpenError, Recorder, Witness, WitnessError};
use bartizan_rt::Tasks;
use bartizan_upstream::{ExchangePolicy, Upstreams};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Request;

use crate::ground::NodeError;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(60);
/// So long may the operator's log stay without a quorum before that is recorded.
const PATIENCE_S: u64 = 600;

/// The witnesses that the configuration names.
#[derive(Debug)]
pub(crate) struct Witnesses {
    policy: Policy,
    all: Vec<Arc<dyn Witness>>,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    /// When a quorum has cosigned last, in seconds since 1970; the start, before the first time.
    cosigned_s: AtomicU64,
    /// What it has cosigned.
    cosigned_size: AtomicU64,
    told: AtomicU64,
}

impl Witnesses {
    /// Reads the policy file.
    pub(crate) fn load(
        path: &Path,
        recorder: Recorder,
        upstreams: &Arc<Upstreams>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, NodeError> {
        let what = "`record.witness_policy`";
        let file = std::fs::read(path).map_err(|e| NodeError::Part { what, source: e.into() })?;
        let policy = Policy::parse(&file).map_err(|e| NodeError::Part { what, source: e.into() })?;
        let mut all: Vec<Arc<dyn Witness>> = Vec::new();
        for witness in policy.witnesses() {
            let Some(url) = &witness.url else {
                let text = format!("the witness `{}` has no URL", witness.name);
                return Err(NodeError::Part { what, source: text.into() });
            };
            all.push(Arc::new(HttpWitness {
                name: witness.name.clone(),
                key: witness.key.clone(),
                url: format!("{}/add-checkpoint", url.trim_end_matches('/')),
                upstreams: upstreams.clone(),
            }));
        }
        let now = clock.now().as_secs();
        Ok(Self {
            policy,
            all,
            recorder,
            clock,
            cosigned_s: now.into(),
            cosigned_size: 0.into(),
            told: 0.into(),
        })
    }

    /// One round: what a quorum has cosigned is noted, and that none has for too long is recorded.
    ///
    /// # Errors
    /// When a witness contradicts this house's ledger.
    pub(crate) async fn round(&self) -> Result<(), OpenError> {
        let round = self.recorder.witness_round(&self.all).await?;
        if round.size == 0 {
            return Ok(());
        }
        for (name, why) in &round.missing {
            tracing::warn!(witness = name, why, "a witness has not cosigned");
        }
        let now = self.clock.now().as_secs();
        let known: Vec<CosignerKey> = self.policy.witnesses().iter().map(|w| w.key.clone()).collect();
        let cosignatures = UnverifiedNote::parse(round.checkpoint.as_bytes())
            .and_then(|note| note.cosigned_by(&known))
            .unwrap_or_default();
        match self.policy.satisfied(&cosignatures) {
            Ok(()) => {
                if !cosignatures.is_empty() {
                    self.recorder.note_witnessed(&round);
                }
                self.cosigned_s.store(now, Relaxed);
                self.cosigned_size.store(round.size, Relaxed);
                self.told.store(0, Relaxed);
            }
            Err(missing) => {
                let seconds = self.unwitnessed_s();
                tracing::warn!(%missing, seconds, "the operator's log has no quorum of witnesses");
                if seconds > PATIENCE_S && self.told.swap(1, Relaxed) == 0 {
                    let since = bartizan_base::Timestamp::from_secs(self.cosigned_s.load(Relaxed));
                    let size = self.cosigned_size.load(Relaxed);
                    if let Err(error) = self.recorder.tell_unwitnessed(size, since).await {
                        tracing::error!(%error, "that witnesses are missing could not be recorded");
                        self.told.store(0, Relaxed);
                    }
                }
            }
        }
        Ok(())
    }

    /// For how long no quorum has cosigned, in seconds.
    pub(crate) fn unwitnessed_s(&self) -> u64 {
        self.clock.now().as_secs().saturating_sub(self.cosigned_s.load(Relaxed))
    }
}

/// Tells the operator's log how far the others have come, seals it, and asks the witnesses.
///
/// # Errors
/// When sealing fails, or a witness contradicts this house's ledger.
pub(crate) async fn told(recorder: &Recorder, witnesses: Option<&Witnesses>) -> Result<(), OpenError> {
    recorder.seal_now().await?;
    if let Err(error) = recorder.tell_operator().await {
        tracing::error!(%error, "the operator's log could not be told how far the others have come");
    }
    recorder.seal_now().await?;
    match witnesses {
        Some(witnesses) => witnesses.round().await,
        None => Ok(()),
    }
}

/// The same while the house runs: what fails is an alarm.
pub(crate) async fn tell(recorder: &Recorder, witnesses: Option<&Witnesses>) {
    match told(recorder, witnesses).await {
        Ok(()) => {}
        // One witness may not stop the house, but whoever reads this should.
        Err(error @ OpenError::Log(LogError::Witnessed { .. })) => {
            tracing::error!(%error, "a witness contradicts this house's ledger");
        }
        Err(error) => tracing::error!(%error, "the operator's log could not be sealed"),
    }
}

/// Does that every minute.
pub(crate) fn follow(tasks: &Tasks, recorder: Recorder, witnesses: Option<Arc<Witnesses>>) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("operator", async move {
        while !shutdown.is_requested() {
            tell(&recorder, witnesses.as_deref()).await;
            tokio::select! {
                () = tokio::time::sleep(ROUND) => {}
                () = shutdown.requested() => {}
            }
        }
    });
}

/// A witness behind a URL.
#[derive(Debug)]
struct HttpWitness {
    name: String,
    key: CosignerKey,
    url: String,
    upstreams: Arc<Upstreams>,
}

impl Witness for HttpWitness {
    fn name(&self) -> &str {
        &self.name
    }

    fn add_checkpoint<'a>(
        &'a self,
        old: u64,
        proof: &'a [Digest],
        checkpoint: &'a str,
    ) -> BoxFuture<'a, Result<String, WitnessError>> {
        Box::pin(async move {
            let request =
                AddCheckpoint::new(old, proof.to_vec(), checkpoint).map_err(|_| WitnessError::Invalid)?;
            let request = Request::post(&self.url).body(Bytes::from(request.text()));
            let request = request.map_err(|error| WitnessError::Unavailable(error.to_string()))?;
            let answer = self
                .upstreams
                .exchange(ExchangePolicy::Witness, request)
                .await
                .map_err(|error| WitnessError::Unavailable(error.to_string()))?;
            match answer.status().as_u16() {
                200 => {
                    let lines = read_cosignatures(answer.body(), checkpoint, std::slice::from_ref(&self.key));
                    let lines = lines.map_err(|_| WitnessError::Invalid)?;
                    Ok(lines.iter().map(|cosignature| cosignature.line()).collect())
                }
                409 => {
                    let kind = answer.headers().get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
                    let size = read_conflict(kind.unwrap_or_default(), answer.body());
                    Err(size.map_or(WitnessError::Invalid, WitnessError::Knows))
                }
                status => Err(WitnessError::Refused(status)),
            }
        })
    }
}
