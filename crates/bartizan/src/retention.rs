//! Retention: once an hour, what is older than its kind may be goes.

use std::sync::Arc;
use std::time::Duration;

use bartizan_control::Control;
use bartizan_enforce::Keeper;
use bartizan_rt::Tasks;

use crate::config::Config;

const EVERY: Duration = Duration::from_secs(3_600);

/// Lets go what is too old, from the start on and every hour, where there is a vault and anything to say about ages.
pub(crate) fn follow(tasks: &Tasks, config: &Config, control: &Control, keeper: Arc<Keeper>) {
    if control.vault.is_none() || config.vault.retention.is_empty() {
        return;
    }
    let (retention, control) = (config.vault.retention.clone(), control.clone());
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("retention", async move {
        while !shutdown.is_requested() {
            let tenants: Vec<_> =
                keeper.current().map(|world| world.tenants.keys().cloned().collect()).unwrap_or_default();
            for tenant in tenants {
                if let Err(problem) = control.expire_content(&tenant, &retention).await {
                    tracing::error!(reason = %problem.reason, %tenant, "retention could not be carried out; it is tried again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.requested() => {}
            }
        }
    });
}
