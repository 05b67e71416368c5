//! What children are run with, and which one is meant.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Clock, Name};
use bartizan_rt::Tasks;
use bartizan_upstream::Credentials;

use crate::command::{CommandSpec, Unfit};
use crate::isolation::{Isolation, Unavailable};

/// Bounds on all children together.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Children at once.
    pub children_max: usize,
    /// Children of one tenant at once.
    pub of_tenant_max: usize,
    /// How long a child stays that nobody asks.
    pub idle: Duration,
    /// How long a child may take to answer the greeting.
    pub start: Duration,
    /// How long nothing may come to an open request.
    pub patience: Duration,
    /// The longest message, in bytes.
    pub bytes_max: usize,
}

impl Default for Totals {
    /// 64 children, 16 of a tenant, 5 minutes idle, 30 seconds to start, a minute of silence, messages of 4 MiB.
    fn default() -> Self {
        Self {
            children_max: 64,
            of_tenant_max: 16,
            idle: Duration::from_secs(300),
            start: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            bytes_max: 4 << 20,
        }
    }
}

/// What children are run with.
#[derive(Debug)]
pub struct Settings {
    /// The commands of the bootstrap configuration. There is no way to add one later.
    pub commands: BTreeMap<Name, CommandSpec>,
    /// What no child may see: the data folder, and whatever else holds keys or records.
    pub hidden: Vec<PathBuf>,
    /// How children are kept apart, or why they cannot be.
    pub isolation: Result<Isolation, Unavailable>,
    /// Opens sealed credentials.
    pub credentials: Arc<dyn Credentials>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The tasks of the house, with which children end.
    pub tasks: Tasks,
    /// Bounds.
    pub totals: Totals,
}

/// Why children cannot be run as configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A command is not one that can be run.
    #[error("`commands.{0}`: {1}")]
    Command(Name, #[source] Unfit),
    /// The thread that starts them does not start.
    #[error("a thread does not start")]
    Thread(#[from] std::io::Error),
}

/// The tool server that is meant, as it is declared.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// Its name, as policies and records know it.
    pub server: &'a Name,
    /// The command that it is, by its name in the configuration.
    pub command: &'a Name,
    /// Whether it keeps state: then each session has a child of its own. One that keeps none is shared by the sessions of a tenant.
    pub keeps_state: bool,
}
