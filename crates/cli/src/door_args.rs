//! What can be typed about tools, sessions and locks.

use clap::Subcommand;

/// What servers of tools offer, and what of it is approved.
#[derive(Debug, Subcommand)]
pub enum ToolCommand {
    /// What a server offers now: approved, changed since, new, or gone.
    List {
        /// The server's name.
        server: String,
    },
    /// Approve definitions as `tool list` shows them now.
    #[command(
        after_help = "Examples:\n  bartizan tool approve files read_file list_directory\n  bartizan tool approve files read_file=DIGEST\n  bartizan tool approve files --all"
    )]
    Approve {
        /// The server's name.
        server: String,
        /// Tools, and prompts as `prompt:NAME`; with `=DIGEST` as somebody has looked at it.
        #[arg(value_name = "NAME[=DIGEST]", required_unless_present = "all")]
        names: Vec<String>,
        /// Everything that the server offers now.
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
}

/// Labels of sessions.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Sessions that something has entered, with the join of its labels.
    List,
    /// Lower a session's label, as a person who has looked at what entered it. It is recorded.
    #[command(
        after_help = "Examples:\n  bartizan session list\n  bartizan session endorse ID --seen 3 --integrity trusted --reason \"read every page myself\""
    )]
    Endorse {
        /// The session's id.
        id: String,
        /// The version that was looked at, as `session list` shows it.
        #[arg(long, value_name = "VERSION")]
        seen: u64,
        /// The integrity from now on: `trusted` or `untrusted`; as it is if absent.
        #[arg(long)]
        integrity: Option<String>,
        /// The confidentiality from now on: `public`, `internal`, `confidential` or `restricted`; as it is if absent.
        #[arg(long)]
        confidentiality: Option<String>,
        /// A category that stays; all that there are if none is named.
        #[arg(long = "category", value_name = "NAME")]
        categories: Vec<String>,
        /// What was looked at, and why it may be so.
        #[arg(long)]
        reason: String,
    },
}

/// Locks.
#[derive(Debug, Subcommand)]
pub enum LockCommand {
    /// Lock somebody or something at every door. Open streams of theirs end within a second.
    #[command(
        after_help = "Examples:\n  bartizan lock add agent/helper --reason \"mails everybody\" --for 8h\n  bartizan lock add tool/delete_all --reason \"incident 17\" --ask \"the duty desk, 4711\"\n  bartizan lock add tenant --reason \"all stop\" --for 15m"
    )]
    Add {
        /// On what: `user/…`, `agent/…`, `group/…`, `model/…`, `tool/…`, `tool_server/…`, `upstream/…`, `session/…`, `run/…`,
        /// `label/…`, `tenant`.
        on: String,
        /// Why, for those who look at it.
        #[arg(long)]
        reason: String,
        /// For how long, such as 15m, 8h or 2d; a day if absent, at most 90 days.
        #[arg(long = "for", value_name = "TIME")]
        lasts: Option<String>,
        /// Whom to ask, as it is told to those who are refused; yourself if absent.
        #[arg(long)]
        ask: Option<String>,
    },
    /// The locks that hold.
    List,
    /// Release a lock before its end.
    Release {
        /// Its id.
        id: String,
    },
}
