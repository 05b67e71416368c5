//! Commands about people, groups and programs.

use std::path::PathBuf;

use clap::Subcommand;

/// People, groups, agents and devices.
#[derive(Debug, Subcommand)]
pub enum DirectoryCommand {
    /// Take people and groups in from a file: what is there is brought up to date, what is not is made. Done again, it changes
    /// nothing.
    #[command(
        after_help = "Examples:\n  bartizan directory import people.csv --dry-run\n  bartizan directory import scim-bulk.json"
    )]
    Import {
        /// A CSV file with a head of attributes (`userName`, `displayName`, `givenName`, `familyName`, `email`, `title`,
        /// `department`, `employeeNumber`, `externalId`, `active`, `groups` with `;` between), or a SCIM bulk request or list
        /// in JSON.
        file: PathBuf,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// What became of somebody, from the ledger: declared, changed, disabled, by which decision.
    #[command(
        after_help = "Examples:\n  bartizan directory history user/alice\n  bartizan directory history prn_0199…"
    )]
    History {
        /// `user/NAME`, `group/NAME`, `agent/NAME`, `workload/NAME`, or `prn_…`.
        who: String,
    },
    /// Let somebody or something in no more: everything issued to it is dead with the next request.
    #[command(after_help = "Examples:\n  bartizan directory disable user/alice")]
    Disable {
        /// `user/NAME`, `agent/NAME`, `workload/NAME`, `client/NAME` or `device/NAME`.
        who: String,
    },
    /// Let somebody or something in again, whoever disabled it. What was issued before stays dead.
    Enable {
        /// `user/NAME`, `agent/NAME`, `workload/NAME`, `client/NAME` or `device/NAME`.
        who: String,
    },
}
