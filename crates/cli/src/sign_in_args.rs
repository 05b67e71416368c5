//! Commands about logging in, about contexts, and about the authority that issues tokens.

use clap::{Args, Subcommand};

/// How somebody logs in. The context is the global `--context`; without, it is named after the server.
#[derive(Args, Debug)]
pub struct LoginArgs {
    /// The address of the server, as its `authority.issuer` has it; that of the context without.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Show a code to be typed into a browser on another device. What changes the house is never allowed that way.
    #[arg(long)]
    pub device: bool,
    /// A scope to ask for, such as `house:read`; all that the command line may have without.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// Prove yourself anew, also where the browser is signed in.
    #[arg(long, conflicts_with = "device")]
    pub again: bool,
    /// Only print the address; open no browser.
    #[arg(long, conflicts_with = "device")]
    pub no_browser: bool,
}

/// Servers that one works with.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List them.
    List,
    /// Use one from now on.
    Use {
        /// Its name.
        name: String,
    },
    /// Show one: its server, and the login there.
    Show {
        /// Its name; the current one without.
        name: Option<String>,
    },
    /// Forget one, and end the login there.
    Remove {
        /// Its name.
        name: String,
    },
}

/// The authority that issues tokens.
#[derive(Debug, Subcommand)]
pub enum AuthorityCommand {
    /// List the keys that it signs with: by thumbprint, with their state and from when until when.
    Keys,
    /// Replace the signing key before its time: the new one is published at once and signs as soon as everybody can know it, the
    /// old one is published until its last token is over.
    #[command(
        after_help = "Examples:\n  bartizan authority rotate\n  bartizan authority rotate --compromised"
    )]
    Rotate {
        /// The present keys must not be trusted any more: whatever they have signed is dead at once, and the new key signs at once.
        #[arg(long)]
        compromised: bool,
    },
}
