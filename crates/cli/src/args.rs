//! What can be typed.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::directory_args::DirectoryCommand;
use crate::door_args::{LockCommand, SessionCommand, ToolCommand};
use crate::outside_args::{CertificateCommand, ConnectionCommand};
use crate::policy_args::PolicyCommand;
use crate::sign_in_args::{AuthorityCommand, ContextCommand, LoginArgs};

/// The guard post for AI systems: who asks, may they, and proof of it.
#[derive(Debug, Parser)]
#[command(name = "bartizan", version, propagate_version = true, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed, 2 denied or different, 3 invalid, 4 authentication needed, 5 conflict, 8 pending, 64 usage."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// The configuration file; `bartizan.toml` in this folder if present, else `/etc/bartizan/config.toml`.
    #[arg(long, global = true, env = "BARTIZAN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How results are written to standard output.
    #[arg(long, short, global = true, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
    /// The control API; else the variable BARTIZAN_CONTROL_URL, else that of the context, else http://127.0.0.1:8081.
    #[arg(long, global = true, value_name = "URL")]
    pub control_url: Option<String>,
    /// A file that holds the API key for the control API; else the variables BARTIZAN_API_KEY_FILE or BARTIZAN_API_KEY, else the
    /// login of the context.
    #[arg(long, global = true, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// The context: a server and the login there; else the variable BARTIZAN_CONTEXT, else the current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway, the control API and the operations listener.
    #[command(
        after_help = "Examples:\n  bartizan serve\n  bartizan serve --upstream openai=https://api.openai.com --data-folder /var/lib/bartizan"
    )]
    Serve {
        /// The data folder; overrides `data.folder`.
        #[arg(long, value_name = "DIR")]
        data_folder: Option<PathBuf>,
        /// Declare an upstream with all its models, for trying things out on an empty data folder: creates the
        /// installation, a user `me` and a key for it, and prints them. The credential is read from the variable
        /// NAME_API_KEY, where there is one.
        #[arg(long, value_name = "NAME=URL")]
        upstream: Option<String>,
        /// A setting, such as `listeners.data=127.0.0.1:9000`.
        #[arg(long = "set", value_name = "SETTING=VALUE")]
        set: Vec<String>,
    },
    /// Create an installation: keys, state, recovery keys, the first administrator's claim.
    #[command(after_help = "Examples:\n  bartizan init\n  bartizan init --recovery 2/3")]
    Init {
        /// The data folder; overrides `data.folder`.
        #[arg(long, value_name = "DIR")]
        data_folder: Option<PathBuf>,
        /// How many of how many recovery keys are needed.
        #[arg(long, default_value = "2/3", value_name = "M/N")]
        recovery: String,
    },
    /// Redeem the first administrator's claim: creates the administrator and prints their API key.
    #[command(after_help = "Examples:\n  bartizan claim --name alice < claim.txt")]
    Claim {
        /// The administrator's name.
        #[arg(long)]
        name: String,
    },
    /// Recover an installation that nobody can change any more, with the recovery keys; its node must be stopped.
    #[command(subcommand)]
    Recover(RecoverCommand),
    /// Play the story of an example organisation, then stay up.
    #[command(
        after_help = "Examples:\n  bartizan demo\n  bartizan demo --once\n  bartizan demo --env-file demo.env"
    )]
    Demo {
        /// Play the story, check every scene and end; fails where a scene differs.
        #[arg(long)]
        once: bool,
        /// Write addresses and example credentials as shell variables to this file.
        #[arg(long, value_name = "FILE")]
        env_file: Option<PathBuf>,
    },
    /// Check clock, disk, keys, state, ledger and listeners.
    Doctor {
        /// The data folder; overrides `data.folder`.
        #[arg(long, value_name = "DIR")]
        data_folder: Option<PathBuf>,
    },
    /// Log in at a server, by the browser on this machine or by a code on another device; makes or renews a context.
    #[command(
        after_help = "Examples:\n  bartizan login --server https://ai.example.com\n  bartizan login --context work --device\n  bartizan login --again"
    )]
    Login(LoginArgs),
    /// End the login of the context, at the server and here.
    Logout,
    /// Servers that you work with, by name.
    #[command(subcommand)]
    Context(ContextCommand),
    /// Who the control API takes you for, by what, and until when.
    Whoami {
        /// As JSON, like `--output json`.
        #[arg(long)]
        json: bool,
    },
    /// The authority that issues the tokens of a server.
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// Invite a user to enrol a passkey; the link is shown once and is good once.
    #[command(after_help = "Examples:\n  bartizan invite alice")]
    Invite {
        /// The user's name.
        name: String,
    },
    /// API keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Declared things: users, agents, models, upstreams, issuers, deliveries …
    #[command(subcommand)]
    Resource(ResourceCommand),
    /// People, groups, agents and devices: taken in from files, disabled, their history.
    #[command(subcommand)]
    Directory(DirectoryCommand),
    /// Upstreams.
    #[command(subcommand)]
    Upstream(UpstreamCommand),
    /// Certificates of the house's own authority, for workloads and agents.
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Accounts outside that people connect, for programs that act for them.
    #[command(subcommand)]
    Connection(ConnectionCommand),
    /// Deliveries of records to other systems, and mirrors of the ledger.
    #[command(subcommand)]
    Delivery(DeliveryCommand),
    /// What servers of tools offer, and what of it is approved.
    #[command(subcommand)]
    Tool(ToolCommand),
    /// What has entered sessions, and lowering it.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Policy bundles.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Recorded decisions.
    #[command(subcommand)]
    Decision(DecisionCommand),
    /// Personal data of one subject: erased, or kept by a legal hold.
    #[command(subcommand)]
    Subject(SubjectCommand),
    /// The vault and its backups.
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Epochs: everything issued earlier is dead.
    #[command(subcommand)]
    Epoch(EpochCommand),
    /// Locks: somebody or something may not, for a while. The kill switch.
    #[command(subcommand)]
    Lock(LockCommand),
    /// The ledger.
    #[command(subcommand)]
    Log(LogCommand),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// What a reason code means and what to do about it.
    #[command(after_help = "Examples:\n  bartizan explain assurance_too_low")]
    Explain {
        /// The code.
        code: String,
    },
    /// Completions for a shell, on standard output.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Man pages, into a folder.
    Man {
        /// The folder.
        directory: PathBuf,
    },
}

/// Recovery: an order, signatures of enough holders, then its effect.
#[derive(Debug, Subcommand)]
pub enum RecoverCommand {
    /// Write an order for the holders to sign, on standard output: good for this installation, as it is now, once.
    #[command(
        after_help = "Examples:\n  bartizan recover order --administrator ada > order.json\n  bartizan recover order --bundle 4 > order.json"
    )]
    Order {
        /// The data folder; overrides `data.folder`.
        #[arg(long, value_name = "DIR")]
        data_folder: Option<PathBuf>,
        /// Make this person an administrator, with a fresh key.
        #[arg(long, value_name = "NAME")]
        administrator: Option<String>,
        /// Put an earlier version of the policy bundle in force again.
        #[arg(long, value_name = "VERSION")]
        bundle: Option<u64>,
    },
    /// Sign an order with the recovery key on standard input. Needs no installation: do it where the key is kept.
    #[command(after_help = "Examples:\n  bartizan recover sign order.json < recovery-key.txt")]
    Sign {
        /// The order.
        order: PathBuf,
    },
    /// Carry out an order.
    #[command(after_help = "Examples:\n  bartizan recover apply order.json SIGNATURE SIGNATURE")]
    Apply {
        /// The data folder; overrides `data.folder`.
        #[arg(long, value_name = "DIR")]
        data_folder: Option<PathBuf>,
        /// The order.
        order: PathBuf,
        /// The holders' signatures.
        #[arg(required = true)]
        signatures: Vec<String>,
    },
}

/// API keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; its text is shown once.
    #[command(
        after_help = "Examples:\n  bartizan key create user/alice --label laptop\n  bartizan key create agent/reporter --scope model:invoke --life 30d"
    )]
    Create {
        /// For whom: `user/NAME`, `agent/NAME` or `workload/NAME`.
        principal: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        label: String,
        /// An action it may be used for; all that policy permits if absent.
        #[arg(long = "scope", value_name = "ACTION")]
        scopes: Vec<String>,
        /// How long it lives, such as `30d` or `12h`.
        #[arg(long, default_value = "90d")]
        life: String,
    },
    /// List keys, never their texts.
    List,
    /// End a key now.
    Revoke {
        /// Its id.
        id: String,
    },
    /// Replace a key; the old one ends after the overlap.
    Rotate {
        /// Its id.
        id: String,
        /// How long the old one lives on, such as `1h`.
        #[arg(long, default_value = "1h")]
        overlap: String,
    },
}

/// Declared things.
#[derive(Debug, Subcommand)]
pub enum ResourceCommand {
    /// Declare what a TOML or JSON file says, all or nothing.
    #[command(after_help = "Examples:\n  bartizan resource apply organisation.toml")]
    Apply {
        /// The file: tables `[[resource]]` with `name`, `spec.kind` and the rest of the spec.
        file: PathBuf,
    },
    /// Write down the route of an external API out of its OpenAPI description (3.0, 3.1; JSON), to be looked through and
    /// declared. Asks no house.
    #[command(
        after_help = "Examples:\n  bartizan resource from-openapi openapi.json --name tickets --upstream desk > tickets.json\n  bartizan resource apply tickets.json"
    )]
    FromOpenapi {
        /// The description.
        file: PathBuf,
        /// The name of the API.
        #[arg(long)]
        name: String,
        /// The upstream that it is called at.
        #[arg(long)]
        upstream: String,
        /// Take only this operation; can stand several times.
        #[arg(long, value_name = "OPERATION")]
        only: Vec<String>,
    },
    /// List declared things.
    List {
        /// Of one kind only.
        kind: Option<String>,
    },
    /// Remove a declared thing.
    Delete {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Upstreams.
#[derive(Debug, Subcommand)]
pub enum UpstreamCommand {
    /// Declare an upstream; a credential is read from standard input with `--credential-stdin`.
    #[command(
        after_help = "Examples:\n  bartizan upstream add openai https://api.openai.com --credential-stdin < key.txt"
    )]
    Add {
        /// Its name.
        name: String,
        /// Scheme, host, port and path prefix.
        url: String,
        /// Present the credential as `x-api-key` (Anthropic) instead of a bearer token.
        #[arg(long)]
        x_api_key: bool,
        /// Let it lie at a private or loopback address.
        #[arg(long)]
        allow_private: bool,
        /// Read its credential from standard input.
        #[arg(long)]
        credential_stdin: bool,
    },
    /// Try an upstream with a harmless request.
    Test {
        /// Its name.
        name: String,
    },
}

/// Deliveries, as the node that answers knows them.
#[derive(Debug, Subcommand)]
pub enum DeliveryCommand {
    /// How deliveries and mirrors are doing.
    List,
    /// What a receiver would not take.
    Letters {
        /// The delivery's name.
        name: String,
    },
    /// Send a dead letter again.
    #[command(after_help = "Examples:\n  bartizan delivery letters siem\n  bartizan delivery retry siem ID")]
    Retry {
        /// The delivery's name.
        name: String,
        /// The letter's id.
        id: String,
    },
}

/// Recorded decisions.
#[derive(Debug, Subcommand)]
pub enum DecisionCommand {
    /// Show a recorded decision and how it ended.
    Show {
        /// Its id, as answers carry it in `bartizan-decision`.
        id: String,
    },
    /// Show what was kept of a decision's prompt, answer and circumstances, checked against the ledger.
    Content {
        /// Its id.
        id: String,
    },
    /// Why a recorded decision came out as it did: rules, conditions and the values they saw, as far as you may see them.
    #[command(after_help = "Examples:\n  bartizan decision explain dec_…")]
    Explain {
        /// Its id, as answers carry it in `bartizan-decision`.
        id: String,
    },
    /// Decide recorded decisions again: one bit for bit, or many under a draft.
    #[command(
        after_help = "Examples:\n  bartizan decision replay dec_…\n  bartizan decision replay dec_… --save decision.json\n  bartizan decision replay --from decision.json\n  bartizan decision replay --since 7d --with draft/"
    )]
    Replay {
        /// Its id.
        #[arg(required_unless_present_any = ["with", "from"], conflicts_with_all = ["with", "from"])]
        id: Option<String>,
        /// Write everything that it follows from to this file. Personal: it holds names, addresses and purposes.
        #[arg(long, value_name = "FILE", requires = "id")]
        save: Option<PathBuf>,
        /// Decide again what was saved, without a server.
        #[arg(long, value_name = "FILE", conflicts_with = "with")]
        from: Option<PathBuf>,
        /// A draft's folder, under which recorded decisions are decided again.
        #[arg(long, value_name = "DIR")]
        with: Option<PathBuf>,
        /// How far back, such as `7d`.
        #[arg(long, default_value = "7d", value_name = "DURATION")]
        since: String,
        /// How many decisions at the most.
        #[arg(long)]
        limit: Option<u64>,
    },
    /// List the latest recorded decisions.
    List {
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

/// Personal data of one subject.
#[derive(Debug, Subcommand)]
pub enum SubjectCommand {
    /// Erase what the vault of the running node holds of somebody. Cannot be undone.
    #[command(
        after_help = "Examples:\n  bartizan subject erase user/alice --basis objection\n  bartizan subject erase prn_… --basis not_needed"
    )]
    Erase {
        /// Whose: `user/NAME`, `agent/NAME`, `workload/NAME`, or the pseudonym `prn_…` of whoever left the directory.
        subject: String,
        /// On what ground: `not_needed`, `consent_withdrawn`, `objection`, `unlawful`, `legal_duty` or `child`.
        #[arg(long)]
        basis: String,
    },
    /// Place a legal hold: until it is released, nothing of the subject is erased or expires.
    #[command(
        after_help = "Examples:\n  bartizan subject hold user/alice --name case-2026-17 --basis \"claim for damages\""
    )]
    Hold {
        /// Whose data.
        subject: String,
        /// The case; refusals name it.
        #[arg(long)]
        name: String,
        /// On what ground. No personal data: it stays when the subject is erased.
        #[arg(long)]
        basis: String,
    },
    /// Release a legal hold.
    Release {
        /// Whose data.
        subject: String,
        /// The case.
        #[arg(long)]
        name: String,
    },
    /// List the legal holds on somebody.
    Holds {
        /// Whose data.
        subject: String,
    },
}

/// The vault and its backups.
#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Write the list of erasures of the running node to standard output, to be kept apart from its backups. Names nobody.
    #[command(after_help = "Examples:\n  bartizan vault erasures > erasures.json")]
    Erasures,
    /// After a restore and before the node is started: do the erasures again that the backup does not know.
    #[command(after_help = "Examples:\n  bartizan vault reapply erasures.json")]
    Reapply {
        /// The data folder; overrides `data.folder`.
        #[arg(long, value_name = "DIR")]
        data_folder: Option<PathBuf>,
        /// The list, from `vault erasures`.
        file: PathBuf,
    },
}

/// Epochs.
#[derive(Debug, Subcommand)]
pub enum EpochCommand {
    /// Everything issued up to now is dead.
    #[command(
        after_help = "Examples:\n  bartizan epoch advance principal user/alice\n  bartizan epoch advance issuer company"
    )]
    Advance {
        /// `principal`, `issuer` or `tenant`.
        kind: String,
        /// Which: `user/alice`, the issuer's or the tenant's name.
        name: String,
    },
}

/// The ledger.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Verify a log folder offline: signature, every entry, every tile, the root.
    #[command(
        after_help = "Examples:\n  bartizan log verify bartizan-data/log/default/2026q4 --key \"$(cat bartizan-data/log/key.vkey)\""
    )]
    Verify {
        /// The folder with `checkpoint` and `tile/`.
        folder: PathBuf,
        /// The verifier key.
        #[arg(long, value_name = "VKEY")]
        key: String,
        /// An older checkpoint that the log must extend.
        #[arg(long, value_name = "FILE")]
        old: Option<PathBuf>,
        /// Who must have cosigned the checkpoint (a `tlog-policy`).
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Compare two views of one log offline: one history, or the proof that there are two.
    #[command(
        after_help = "Examples:\n  bartizan log compare kept/checkpoint bartizan-data/log/default/2026q4 --key \"$(cat kept/key.vkey)\" --output json"
    )]
    Compare {
        /// The earlier view: a log folder, or the file of a signed checkpoint.
        a: PathBuf,
        /// The later view. Of two sizes, the view of more entries must be a folder.
        b: PathBuf,
        /// The verifier key.
        #[arg(long, value_name = "VKEY")]
        key: String,
    },
    /// Verify offline what a log has become since the last run: one history, every new entry, no number missing.
    #[command(
        after_help = "Examples:\n  bartizan log monitor bartizan-data/log/default/2026q4 --state kept/state --key \"$(cat kept/key.vkey)\""
    )]
    Monitor {
        /// The folder with `checkpoint` and `tile/`.
        folder: PathBuf,
        /// Where to remember what was verified.
        #[arg(long, value_name = "FILE")]
        state: PathBuf,
        /// The verifier key.
        #[arg(long, value_name = "VKEY")]
        key: String,
        /// Who must have cosigned the checkpoint (a `tlog-policy`).
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// The nodes write further logs, such as those of other tenants: their numbers may skip in this one.
        #[arg(long)]
        shared_nodes: bool,
    },
    /// Archive the log of a past period whole: copy its folder, verify the copy from end to end, and only then give it its name.
    #[command(
        after_help = "Examples:\n  bartizan log archive bartizan-data/log/default/2026q4 --to /mnt/archive --key \"$(cat kept/key.vkey)\"\n  bartizan log verify /mnt/archive/default/2026q4 --key \"$(cat kept/key.vkey)\""
    )]
    Archive {
        /// The folder with `checkpoint` and `tile/`: `…/log/TENANT/PERIOD`.
        folder: PathBuf,
        /// Where archives lie; this one becomes `DIR/TENANT/PERIOD`. On another disk, and the `record.archive_folder` of the node.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The verifier key.
        #[arg(long, value_name = "VKEY")]
        key: String,
    },
    /// Remove the log of a past period from the node: after `record.retention_days`, and only if its archive verifies.
    #[command(after_help = "Examples:\n  bartizan log remove 2026q4")]
    Remove {
        /// The period, such as `2026q4`.
        period: String,
    },
    /// Show entries of a log folder, one JSON record a line. What the folder says; `log verify` tells whether it is true.
    #[command(
        after_help = "Examples:\n  bartizan log show bartizan-data/log/default/2026q4 --from 100 --limit 10"
    )]
    Show {
        /// The folder with `checkpoint` and `tile/`.
        folder: PathBuf,
        /// The first entry.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many at most.
        #[arg(long, default_value_t = 1_000)]
        limit: u64,
    },
    /// Show the last entries of a log folder.
    #[command(after_help = "Examples:\n  bartizan log tail bartizan-data/log/default/2026q4 --follow")]
    Tail {
        /// The folder with `checkpoint` and `tile/`.
        folder: PathBuf,
        /// How many.
        #[arg(long, default_value_t = 10)]
        limit: u64,
        /// Go on with entries as they are sealed, until interrupted.
        #[arg(long)]
        follow: bool,
    },
    /// The latest checkpoint of the running node.
    Checkpoint,
    /// The proof that a recorded decision is in the ledger (`.tlog-proof`). See docs/proofs.md.
    #[command(
        after_help = "Examples:\n  bartizan log proof dec_… > decision.tlog-proof\n  bartizan log proof dec_… --witnessed --entry entry > decision.witnessed-proof"
    )]
    Proof {
        /// The decision's id.
        id: String,
        /// Write the entry that it proves to this file.
        #[arg(long, value_name = "FILE")]
        entry: Option<PathBuf>,
        /// That it is in a log that witnesses have cosigned: joined with the proof from the operator's log.
        #[arg(long)]
        witnessed: bool,
    },
    /// Find entries of the ledger. See docs/reference/query.md for the language.
    #[command(
        after_help = "Examples:\n  bartizan log search 'kind:refusal since:24h -reason:credential_missing'\n  bartizan log search 'action:policy:apply' --oldest --limit 1000"
    )]
    Search {
        /// The question; nothing for everything.
        #[arg(default_value = "")]
        query: String,
        /// A saved view, whose question must hold as well.
        #[arg(long, value_name = "NAME")]
        view: Option<String>,
        /// The earliest first.
        #[arg(long)]
        oldest: bool,
        /// How many entries.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Where an earlier answer said to go on.
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
    },
    /// Take entries along in another system's format, the earliest first.
    #[command(
        after_help = "Examples:\n  bartizan log export --format ocsf 'since:24h' > yesterday.jsonl\n  bartizan log export --format parquet --out entries.parquet"
    )]
    Export {
        /// `jsonl`, `ocsf`, `cef`, `otlp-json` or `parquet`.
        #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
        format: String,
        /// Which entries; nothing for all.
        #[arg(default_value = "")]
        query: String,
        /// A saved view, whose question must hold as well.
        #[arg(long, value_name = "NAME")]
        view: Option<String>,
        /// The file; standard output without. Parquet needs one, and gets `.2`, `.3` … for each further 10,000 entries.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Verify offline what an answer's header `bartizan-receipt` promises, and whether the log has kept it.
    #[command(
        after_help = "Examples:\n  bartizan log promise \"$HEADER\" --key \"$(cat kept/key.vkey)\" --log bartizan-data/log/default/2026q4"
    )]
    Promise {
        /// The header's value.
        header: String,
        /// The verifier key.
        #[arg(long, value_name = "VKEY")]
        key: String,
        /// The log's folder, to see whether the promise was kept.
        #[arg(long, value_name = "DIR")]
        log: Option<PathBuf>,
    },
    /// Verify a proof offline: that this entry is in the log of this key.
    Check {
        /// The proof, from `log proof`, witnessed or not.
        proof: PathBuf,
        /// The entry, from `log proof --entry`.
        entry: PathBuf,
        /// The verifier key.
        #[arg(long, value_name = "VKEY")]
        key: String,
        /// Who must have cosigned the checkpoint (a `tlog-policy`); for a witnessed proof, that of the operator's log.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
}

/// The configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting.
    Show {
        /// With where each value comes from.
        #[arg(long)]
        origin: bool,
    },
    /// Check the configuration without starting anything.
    Validate,
}

/// The definition, for help, completions, man pages and the reference page.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn no_flag_takes_a_secret() {
        fn walk(command: &clap::Command) {
            for arg in command.get_arguments() {
                // The path of a file that holds one is none.
                let id = arg.get_id().as_str().trim_end_matches("secret_file");
                assert!(!id.contains("secret") && !id.contains("password") && !id.contains("token"), "{id}");
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&command());
    }
}
