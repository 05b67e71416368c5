//! Code that is run: what runs it, and whether that is what the configuration means.

use std::sync::Arc;

use bartizan_base::Clock;
use bartizan_sandbox::{BUILT_IN, Sandbox, Settings};

use crate::config::Config;
use crate::ground::{NodeError, part};

/// The sandbox of a node; none where nothing is configured that runs code.
///
/// # Errors
/// When a runtime is not the one that is configured.
pub(crate) async fn sandbox(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> Result<Option<Arc<Sandbox>>, NodeError> {
    if config.code.runtimes.is_empty() {
        return Ok(None);
    }
    if !BUILT_IN {
        tracing::error!(
            "runtimes of code are configured, and this program was built without the feature `code`"
        );
    }
    let (runtimes, runs_max) = (config.code.runtimes.clone(), config.code.runs_max);
    let settings = Settings { runtimes, runs_max, clock };
    // It reads large files.
    let opened = tokio::task::spawn_blocking(move || Sandbox::open(settings)).await;
    let sandbox = opened.map_err(part("the sandbox"))?.map_err(part("what runs code"))?;
    // Nobody waits for it: who comes earlier waits for their own runtime.
    let warming = sandbox.clone();
    drop(tokio::task::spawn_blocking(move || warming.warm()));
    Ok(Some(sandbox))
}

/// What `doctor` says of it.
pub(crate) fn check(config: &Config) -> Result<String, String> {
    if config.code.runtimes.is_empty() {
        return Ok("nothing is configured that runs it".to_owned());
    }
    for (name, spec) in &config.code.runtimes {
        spec.open(name).map_err(|error| format!("code.runtimes.{name}: {error}"))?;
    }
    if !BUILT_IN {
        return Err(
            "runtimes are configured, and this program was built without the feature `code`".to_owned()
        );
    }
    Ok(format!("{} runtimes, each as its digest says", config.code.runtimes.len()))
}
