//! What a node does beside answering: it compares, notes, seals and indexes.

use std::sync::Arc;
use std::time::Duration;

use bartizan_control::Archive;
use bartizan_enforce::limits::RENEW_EVERY;
use bartizan_enforce::{Keeper, Limiter};
use bartizan_record::Recorder;
use bartizan_rt::Tasks;

/// Compares a sample of decisions with what all rules would have decided.
pub(crate) fn compare(tasks: &Tasks, keeper: Arc<Keeper>) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("compare", async move {
        while !shutdown.is_requested() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(500)) => keeper.compare().await,
                () = shutdown.requested() => {}
            }
        }
    });
}

/// Says that the calls that go on still do, for limits on how many may.
pub(crate) fn renew(tasks: &Tasks, limiter: Arc<Limiter>) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("limits", async move {
        while !shutdown.is_requested() {
            tokio::select! {
                () = tokio::time::sleep(RENEW_EVERY) => limiter.renew().await,
                () = shutdown.requested() => {}
            }
        }
    });
}

/// Writes down when keys were last used, twice a minute.
pub(crate) fn note_uses(tasks: &Tasks, keeper: Arc<Keeper>) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("uses", async move {
        while !shutdown.is_requested() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(30)) => write_uses(&keeper).await,
                () = shutdown.requested() => {}
            }
        }
    });
}

/// Writes down when keys were last used.
pub(crate) async fn write_uses(keeper: &Keeper) {
    if let Err(error) = keeper.write_uses().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "when keys were last used could not be written down"
        );
    }
}

/// Seals what was recorded.
pub(crate) fn seal(tasks: &Tasks, recorder: Recorder, every: Duration) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("seal", async move {
        while !shutdown.is_requested() {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = shutdown.requested() => {}
            }
            if let Err(error) = recorder.seal_now().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "sealing failed; records stay durable and are sealed later"
                );
            }
        }
    });
}

/// Takes in what was sealed, so that it can be found.
pub(crate) fn index(tasks: &Tasks, archive: Arc<Archive>, every: Duration) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("index", async move {
        while !shutdown.is_requested() {
            if let Err(error) = archive.follow().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the index is behind the ledger");
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = shutdown.requested() => {}
            }
        }
    });
}
