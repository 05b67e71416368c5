//! What goes on about policy beside the requests: compiling, keeping what replay needs within its bounds, checking that
//! recorded decisions come out again, telling how candidates do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bartizan_base::{Clock, Random};
use bartizan_control::Control;
use bartizan_enforce::{Afterwards, Keeper};
use bartizan_model::record::System;
use bartizan_rt::Tasks;
use bartizan_slices::{Settings, Slices};
use bartizan_vault::Vault;

use crate::config::Config;
use crate::ground::{NodeError, part};

/// Between two looks at what is to be told or let go.
const TIDY_EVERY: Duration = Duration::from_secs(600);
const TELL_EVERY: Duration = Duration::from_secs(2);
/// After a start, the first check does not wait for a whole night.
const FIRST_CHECK: Duration = Duration::from_secs(300);

/// Opens what replay needs, where it is to be kept and there is a vault for its keys.
pub(crate) async fn slices(
    config: &Config,
    vault: Option<&Vault>,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<Option<Slices>, NodeError> {
    let Some(vault) = vault.filter(|_| config.replay.enabled).cloned() else {
        if config.replay.enabled {
            tracing::warn!("without a vault nothing is kept for replay: `vault.enabled`");
        }
        return Ok(None);
    };
    let settings = Settings {
        folder: config.folder.join("slices"),
        keep_for: config.replay.keep_for,
        bytes_max: config.replay.bytes_max,
        queue_max: 16_384,
    };
    let (clock, random) = (clock.clone(), random.clone());
    let opened = tokio::task::spawn_blocking(move || Slices::open(&settings, vault, clock, random)).await;
    opened.map_err(part("what replay needs"))?.map(Some).map_err(part("what replay needs"))
}

/// Begins all of it. `differing` counts decisions that did not come out again.
pub(crate) fn follow(
    tasks: &Tasks,
    config: &Config,
    control: &Control,
    keeper: &Arc<Keeper>,
    afterwards: &Arc<Afterwards>,
    differing: &Arc<AtomicU64>,
) {
    compile(tasks, keeper.clone());
    tell(tasks, control.clone(), keeper.clone(), afterwards.clone());
    if let Some(slices) = control.slices.clone() {
        tidy(tasks, control.clone(), slices);
        check(tasks, config, control.clone(), keeper.clone(), differing.clone());
    }
}

/// Compiles policy that was put in force elsewhere; decisions go on meanwhile.
fn compile(tasks: &Tasks, keeper: Arc<Keeper>) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("policy", async move {
        while !shutdown.is_requested() {
            tokio::select! {
                done = keeper.compile_waiting() => if let Err(error) = done {
                    tracing::error!(error = &error as &dyn std::error::Error, "policy could not be put in force; the last good one stays");
                },
                () = shutdown.requested() => {}
            }
        }
    });
}

fn tell(tasks: &Tasks, control: Control, keeper: Arc<Keeper>, afterwards: Arc<Afterwards>) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("candidates", async move {
        while !shutdown.is_requested() {
            if let Ok(world) = keeper.current() {
                for (tenant, candidate, compared, flips) in afterwards.reports(&world, control.clock.now()) {
                    let event = System::PolicyCompared { candidate, compared, flips };
                    if let Err(error) = control.recorder.system_of(&tenant, event).await {
                        tracing::warn!(%error, "how a candidate did could not be recorded");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(TELL_EVERY) => {}
                () = shutdown.requested() => {}
            }
        }
    });
}

fn tidy(tasks: &Tasks, control: Control, slices: Slices) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("slices", async move {
        while !shutdown.is_requested() {
            let (own, now) = (slices.clone(), control.clock.now());
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || own.tidy(now)).await {
                tracing::error!(error = &error as &dyn std::error::Error, "old slices could not be let go");
            }
            tokio::select! {
                () = tokio::time::sleep(TIDY_EVERY) => {}
                () = shutdown.requested() => {}
            }
        }
    });
}

/// The nightly check.
fn check(tasks: &Tasks, config: &Config, control: Control, keeper: Arc<Keeper>, differing: Arc<AtomicU64>) {
    let (every, sample) = (config.replay.check_every, config.replay.check_sample);
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("replay", async move {
        let mut wait = every.min(FIRST_CHECK);
        while !shutdown.is_requested() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.requested() => return,
            }
            wait = every;
            let tenants: Vec<_> =
                keeper.current().map(|world| world.tenants.keys().cloned().collect()).unwrap_or_default();
            for tenant in tenants {
                match control.check_replays(&tenant, sample).await {
                    Ok(check) => {
                        differing.fetch_add(check.differing, Ordering::Relaxed);
                    }
                    Err(problem) => {
                        tracing::error!(reason = %problem.reason, %tenant, "recorded decisions could not be checked; it is tried again");
                    }
                }
            }
        }
    });
}
