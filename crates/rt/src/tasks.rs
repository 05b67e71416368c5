//! Named tasks that end together.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// Spawns named tasks and waits for their end.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: Shutdown,
}

/// Tells that the process is to end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Resolves once the end was asked for.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Asks for the end.
    pub fn request(&self) {
        self.0.cancel();
    }

    /// A part that can be ended alone and ends with the whole.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What long-running tasks watch.
    #[must_use]
    pub const fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs `future` as a task called `name` in traces.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(future.instrument(tracing::debug_span!("task", name))))
    }

    /// Asks every task to end and waits at most `patience`; says whether all did.
    pub async fn finish(&self, patience: Duration) -> bool {
        self.shutdown.request();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}
