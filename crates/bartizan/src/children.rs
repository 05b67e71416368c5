//! Tool servers that run as children: how they are kept apart on this machine, and what they must never see.

use std::path::PathBuf;
use std::sync::Arc;

use bartizan_base::Clock;
use bartizan_child::{Children, Isolation, Settings, Unavailable};
use bartizan_rt::Tasks;
use bartizan_upstream::Credentials;

use crate::config::Config;
use crate::ground::{NodeError, part};

/// The children of a node; none where no commands are configured.
///
/// # Errors
/// When a command cannot be run as configured. Where children cannot be isolated the node starts all the same, without them.
pub(crate) async fn children(
    config: &Config,
    credentials: Arc<dyn Credentials>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
) -> Result<Option<Arc<Children>>, NodeError> {
    if config.commands.is_empty() {
        return Ok(None);
    }
    let isolation = isolation(config.children.user).await;
    match &isolation {
        Ok(isolation) => tracing::info!("tool servers run in {}", isolation.describe()),
        Err(why) => tracing::error!(%why, "tool servers of this configuration are refused"),
    }
    let settings = Settings {
        commands: config.commands.clone(),
        hidden: hidden(config),
        isolation,
        credentials,
        clock,
        tasks,
        totals: config.children.totals,
    };
    Children::open(settings).map(Some).map_err(part("the commands of tool servers"))
}

async fn isolation(user: u32) -> Result<Isolation, Unavailable> {
    // It waits for processes.
    let found = tokio::task::spawn_blocking(move || Isolation::find(user)).await;
    found.unwrap_or_else(|error| Err(Unavailable::Tried(error.to_string())))
}

/// What children never see.
fn hidden(config: &Config) -> Vec<PathBuf> {
    let record = [&config.record.copy, &config.record.archives].into_iter().flatten();
    let keys = config.listeners.tls.iter().map(|(_, key)| key).chain(config.mutual.iter().map(|m| &m.key));
    [&config.folder, &config.delivered].into_iter().chain(record).chain(keys).cloned().collect()
}

/// What `doctor` says of them.
pub(crate) fn check(config: &Config) -> Result<String, String> {
    if config.commands.is_empty() {
        return Ok("none are configured as commands".to_owned());
    }
    for (name, command) in &config.commands {
        command.check(&hidden(config)).map_err(|unfit| format!("commands.{name}: {unfit}"))?;
    }
    let isolation = Isolation::find(config.children.user).map_err(|why| why.to_string())?;
    Ok(format!("{} commands; they run in {}", config.commands.len(), isolation.describe()))
}
