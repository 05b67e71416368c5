//! The command line: definitions, the client of the control API, output.
//!
//! Definitions are apart from what carries them out, so that help, completions, man pages and the reference page are
//! made without the rest of the product.

mod args;
mod client;
mod contexts;
mod directory_args;
mod door_args;
mod exit;
pub mod login;
mod output;
mod outside_args;
mod policy_args;
mod private;
mod server;
mod sign_in_args;

pub use clap::Command as ClapCommand;

pub use args::{
    Cli, Command, ConfigCommand, DecisionCommand, DeliveryCommand, EpochCommand, Global, KeyCommand,
    LogCommand, OutputFormat, RecoverCommand, ResourceCommand, SubjectCommand, UpstreamCommand, VaultCommand,
    command,
};
pub use client::{Client, ClientError};
pub use contexts::{Context, ContextName, Contexts, NotAContext};
pub use directory_args::DirectoryCommand;
pub use door_args::{LockCommand, SessionCommand, ToolCommand};
pub use exit::ExitCode;
pub use output::{Output, Table};
pub use outside_args::{CertificateCommand, ConnectionCommand, TryArgs};
pub use policy_args::{DrawnAs, PolicyCommand, ProveArgs, ProveQuestion, ShadowCommand};
pub use private::PrivateError;
pub use server::{Chosen, DEFAULT_SERVER, NotAServer, Said, Server, Target, TargetError};
pub use sign_in_args::{AuthorityCommand, ContextCommand, LoginArgs};
