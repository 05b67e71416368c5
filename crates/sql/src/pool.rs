//! Connections that are kept for a while, of one route.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::Clock;
use bartizan_model::DatabaseRouteSpec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Client;

/// How long a connection is used: its role is looked at when it is made.
const LIFE: Duration = Duration::from_secs(60);

/// A connection that nobody uses now.
pub(crate) struct Idle {
    pub(crate) client: Client,
    /// When it was made, by the monotonic clock.
    pub(crate) made_us: u64,
}

/// The connections of a route as it is declared; one that is declared anew gets a pool of its own.
pub(crate) struct Pool {
    pub(crate) route: DatabaseRouteSpec,
    pub(crate) places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("places", &self.places.available_permits()).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(route: DatabaseRouteSpec) -> Self {
        let places = Arc::new(Semaphore::new(usize::from(route.limits.connections)));
        Self { route, places, idle: Mutex::default() }
    }

    /// A place among the connections, waited for no longer than `patience`.
    pub(crate) async fn place(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(patience, self.places.clone().acquire_owned()).await.ok()?.ok()
    }

    /// A connection that was put back and is still good; those that are not are closed.
    pub(crate) fn take(&self, clock: &dyn Clock) -> Option<Idle> {
        let now = clock.monotonic_us();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| {
            let age = Duration::from_micros(now.saturating_sub(one.made_us));
            !one.client.is_closed() && age < LIFE
        });
        idle.pop()
    }

    /// A connection that is clean again.
    pub(crate) fn put(&self, idle: Idle) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
    }
}
