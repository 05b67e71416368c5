//! Commands about certificates of the house and about connections to accounts outside.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Certificates of the house's own authority.
#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Get a certificate for the workload or agent whose key is presented: makes a new private key in the folder, and asks again
    /// before it runs out where `--renew` is given.
    #[command(
        after_help = "Examples:\n  bartizan certificate issue --folder /run/bartizan/identity\n  bartizan certificate issue --folder /run/bartizan/identity --renew"
    )]
    Issue {
        /// Where `cert.pem`, `key.pem` and `trust.pem` are written, readable by this user alone.
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        /// Stay, and replace the certificate at two thirds of its life.
        #[arg(long)]
        renew: bool,
    },
    /// Take back a certificate of one's own: the house refuses it from now on.
    Withdraw {
        /// The SHA-256 of the certificate, in hexadecimal digits.
        thumbprint: String,
    },
}

/// Accounts outside that people connect.
#[derive(Debug, Subcommand)]
pub enum ConnectionCommand {
    /// Connect an account of one's own: prints the address to open in the browser, and waits for the answer.
    #[command(after_help = "Examples:\n  bartizan connection add tools --agent helper")]
    Add {
        /// The connection provider.
        provider: String,
        /// The agent that may use it; without, only oneself.
        #[arg(long)]
        agent: Option<String>,
        /// The client program through which it may be used.
        #[arg(long)]
        client: Option<String>,
        /// A scope to be asked for beside those that were given before.
        #[arg(long = "scope")]
        scopes: Vec<String>,
    },
    /// List what one has connected, never the tokens.
    List,
    /// End a connection, also at the provider.
    Withdraw {
        /// The connection, `con_…`.
        id: String,
    },
    /// Try how a tool server outside is guarded, without a house: finds its authorization server, gets a token as the house
    /// would, and lists its tools. Nothing is kept.
    #[command(
        after_help = "Examples:\n  bartizan connection try https://tools.example.com/mcp\n  bartizan connection try http://127.0.0.1:9000/mcp --allow-private --follow"
    )]
    Try(TryArgs),
}

/// How a tool server is tried.
#[derive(Args, Debug)]
pub struct TryArgs {
    /// The address of the tool server (MCP over HTTP).
    pub url: String,
    /// Our id at its authorization server, if we are registered there.
    #[arg(long)]
    pub client_id: Option<String>,
    /// A file that holds the secret to it.
    #[arg(long, value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
    /// The address of a document about us, for servers that take it as our id.
    #[arg(long, value_name = "URL")]
    pub client_document: Option<String>,
    /// A scope to ask for; what the server says without.
    #[arg(long = "scope")]
    pub scopes: Vec<String>,
    /// Call this tool, without arguments, once it is listed.
    #[arg(long, value_name = "TOOL")]
    pub call: Option<String>,
    /// Let the addresses be private or loopback, and `http`.
    #[arg(long)]
    pub allow_private: bool,
    /// Follow the authorization server without a browser: for one that asks nobody, in tests.
    #[arg(long)]
    pub follow: bool,
}
