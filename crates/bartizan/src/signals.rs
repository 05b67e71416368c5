//! Shared signals, put together: what is ended is told, what others tell is asked for.

use std::sync::Arc;
use std::time::Duration;

use bartizan_api::{Mount, Published, SignalsMount};
use bartizan_authority::Authority;
use bartizan_authority::signals::Signals;
use bartizan_control::Stopped;
use bartizan_rt::Tasks;
use bartizan_upstream::Upstreams;

use crate::config::Config;

/// How often it is looked whether there is something to tell.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How often senders that want to be asked are asked.
const FETCH_EVERY: Duration = Duration::from_secs(5);

/// The signals of the authority, if there is one.
pub(crate) fn signals(authority: Option<&Authority>, upstreams: &Arc<Upstreams>) -> Option<Arc<Signals>> {
    Some(Arc::new(Signals::new(authority?.clone(), upstreams.clone())))
}

/// Their paths on the control listener.
pub(crate) fn mount(config: &Config, signals: Option<&Arc<Signals>>) -> Option<Arc<dyn Mount>> {
    let signals = signals?.clone();
    let published = Published {
        issuer: signals.authority().issuer.clone(),
        certificates: config.listeners.client_ca.is_some(),
    };
    Some(Arc::new(SignalsMount { signals, published }))
}

/// Tells and asks, as long as the node runs.
pub(crate) fn follow(tasks: &Tasks, signals: Option<Arc<Signals>>) {
    let Some(signals) = signals else { return };
    let (shutdown, telling) = (tasks.shutdown().clone(), signals.clone());
    tasks.spawn("signals", async move {
        while !shutdown.is_requested() {
            tokio::select! {
                () = tokio::time::sleep(TELL_EVERY) => {
                    told(telling.tell().await);
                    told(telling.push().await);
                }
                () = shutdown.requested() => {}
            }
        }
    });
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("signals-fetch", async move {
        while !shutdown.is_requested() {
            tokio::select! {
                () = tokio::time::sleep(FETCH_EVERY) => signals.fetch_events().await,
                () = shutdown.requested() => {}
            }
        }
    });
}

fn told(result: Result<(), Stopped>) {
    if let Err(stopped) = result {
        tracing::warn!(reason = %stopped.problem.reason, "security events were not told; tried again soon");
    }
}
