//! Commands about policy.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// How a bundle is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DrawnAs {
    /// For Graphviz.
    Dot,
    /// For Markdown pages.
    Mermaid,
}

/// Policy bundles.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Begin a bundle, or add a pattern of the catalogue to one. Needs no server.
    #[command(
        after_help = "Examples:\n  bartizan policy new policy\n  bartizan policy new two-people-for-weights policy\n  bartizan policy new --list"
    )]
    New {
        /// The pattern; the starter if only a folder is named.
        #[arg(value_name = "[PATTERN] FOLDER", num_args = 1..=2, required_unless_present = "list")]
        words: Vec<String>,
        /// List the patterns.
        #[arg(long)]
        list: bool,
    },
    /// Put the rules of a bundle folder into the one form; comments stay. Needs no server.
    Fmt {
        /// The folder.
        folder: PathBuf,
        /// Change nothing, and fail if something would change.
        #[arg(long)]
        check: bool,
    },
    /// Which rules the tests of a bundle have seen apply and not apply. Fails unless all are seen both ways.
    Coverage {
        /// The folder.
        folder: PathBuf,
    },
    /// Draw a bundle: who, by which rule, on what. Needs no server.
    Graph {
        /// The folder.
        folder: PathBuf,
        /// How.
        #[arg(long = "as", value_enum, default_value_t = DrawnAs::Mermaid)]
        drawn: DrawnAs,
    },
    /// Print the vocabulary of policies as a Cedar schema, for editors.
    Schema,
    /// Who can do an action on a resource, and what would have to come first.
    #[command(after_help = "Examples:\n  bartizan policy who-can model:export weights")]
    WhoCan {
        /// The action.
        action: String,
        /// The resource's name.
        resource: String,
        /// The page behind this.
        #[arg(long)]
        after: Option<String>,
    },
    /// On what somebody can do an action, and what would have to come first.
    #[command(after_help = "Examples:\n  bartizan policy what-can user/alice model:invoke")]
    WhatCan {
        /// Who: `user/NAME`, `agent/NAME` or `workload/NAME`.
        principal: String,
        /// The action.
        action: String,
        /// The page behind this.
        #[arg(long)]
        after: Option<String>,
    },
    /// Check a bundle folder: syntax, types, lints. Needs no server.
    Check {
        /// The folder.
        folder: PathBuf,
    },
    /// Run the tests of a bundle: its `tests/*.toml`. Needs no server.
    #[command(after_help = "Examples:\n  bartizan policy test examples/policy")]
    Test {
        /// The folder.
        folder: PathBuf,
    },
    /// Prove what a bundle permits, for every possible ask; ends with 0 only if everything asked is proven, with 2 if something is
    /// refuted. Needs the solver cvc5 and a build with the feature `proofs`.
    #[command(
        after_help = "Examples:\n  bartizan policy prove --new draft --old policy\n  bartizan policy prove --new draft --question equivalent\n  bartizan policy prove --new policy --question never-permits"
    )]
    Prove(ProveArgs),
    /// Put a bundle in force; refused if one of its tests fails, or the plan is not the one any more.
    #[command(
        after_help = "Examples:\n  bartizan policy apply policy/\n  bartizan policy apply --plan plan.json\n  bartizan policy apply policy/ --plan DIGEST --signature ada.sig"
    )]
    Apply {
        /// The folder.
        folder: Option<PathBuf>,
        /// The plan that was looked at: its file, or its digest.
        #[arg(long, value_name = "FILE|DIGEST")]
        plan: Option<String>,
        /// A file with an author's signature, from `policy sign`.
        #[arg(long, value_name = "FILE")]
        signature: Vec<PathBuf>,
    },
    /// What putting a bundle in force would change: rules, schemas, who loses and gains. Changes nothing.
    #[command(after_help = "Examples:\n  bartizan policy plan policy/ --since 7d --out plan.json")]
    Plan {
        /// The folder.
        folder: PathBuf,
        /// Decide recorded decisions of this long again under it, such as `7d`.
        #[arg(long, value_name = "DURATION")]
        since: Option<String>,
        /// How long the solver may take to prove that nothing new is permitted, such as `45s`; 20 seconds if not said, `0s` for
        /// no proof. Where there is no solver, the plan says `unavailable`.
        #[arg(long, value_name = "DURATION")]
        prove: Option<String>,
        /// Write the plan to this file, for `policy apply --plan`.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Put the bundle of an earlier version in force again, as a new version.
    #[command(after_help = "Examples:\n  bartizan policy rollback --to 4")]
    Rollback {
        /// The version.
        #[arg(long, value_name = "VERSION")]
        to: u64,
    },
    /// Evaluate a candidate beside the bundle in force; it answers nobody.
    #[command(subcommand)]
    Shadow(ShadowCommand),
    /// Put a candidate in force for some callers, then for more; with 100 it is the bundle in force.
    #[command(
        after_help = "Examples:\n  bartizan policy rollout policy/ --percent 10 --group pilots\n  bartizan policy rollout --percent 50\n  bartizan policy rollout --percent 100\n  bartizan policy rollout --abort"
    )]
    Rollout {
        /// The folder of a new candidate; the present one without.
        folder: Option<PathBuf>,
        /// For so many callers of a hundred.
        #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: Option<u8>,
        /// For everybody in this group.
        #[arg(long, value_name = "GROUP")]
        group: Vec<String>,
        /// End it: the bundle in force is in force for everybody again.
        #[arg(long, conflicts_with_all = ["folder", "percent", "group"])]
        abort: bool,
        /// A file with an author's signature on a new candidate.
        #[arg(long, value_name = "FILE")]
        signature: Vec<PathBuf>,
    },
    /// Sign a bundle as its author, with the key on standard input. Needs no server.
    #[command(after_help = "Examples:\n  bartizan policy sign policy/ --base 7 < ada.key > ada.sig")]
    Sign {
        /// The folder.
        folder: PathBuf,
        /// The version in force that it shall follow.
        #[arg(long, value_name = "VERSION")]
        base: u64,
        /// Whose policy it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Make a key for an author of policy. Needs no server.
    Key,
    /// What would be decided, and why.
    #[command(after_help = "Examples:\n  bartizan policy explain user/alice model:invoke gpt-4o")]
    Explain {
        /// Who: `user/NAME`, `agent/NAME` or `workload/NAME`.
        principal: String,
        /// The action.
        action: String,
        /// The resource's name.
        resource: String,
        /// The assurance level to suppose, 0 to 4.
        #[arg(long, default_value_t = 1)]
        assurance: u8,
    },
}

/// What is to be proven.
#[derive(Args, Debug)]
pub struct ProveArgs {
    /// The bundle folder asked about.
    #[arg(long, value_name = "DIR")]
    pub new: PathBuf,
    /// The bundle folder compared with; the bundle in force if absent.
    #[arg(long, value_name = "DIR")]
    pub old: Option<PathBuf>,
    /// What is asked; all but `equivalent` if absent.
    #[arg(long = "question", value_enum, value_name = "QUESTION")]
    pub questions: Vec<ProveQuestion>,
    /// The program of the solver cvc5; where packages of the system put it if absent.
    #[arg(long, env = "CVC5", value_name = "FILE")]
    pub solver: Option<PathBuf>,
    /// How long one question may take, such as `90s` or `10m`.
    #[arg(long, default_value = "2m", value_name = "TIME")]
    pub limit: String,
}

/// What can be proven of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProveQuestion {
    /// It permits nothing that the bundle compared with does not.
    NothingNew,
    /// Both bundles permit the same.
    Equivalent,
    /// It never permits what `invariants/*.cedar` in its folder rule out.
    NeverPermits,
    /// None of its rules can end in an error.
    NeverErrs,
}

/// A candidate beside the bundle in force.
#[derive(Debug, Subcommand)]
pub enum ShadowCommand {
    /// Begin.
    Start {
        /// The candidate's folder.
        folder: PathBuf,
        /// Of how many of a thousand decisions.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        permille: u16,
        /// A file with an author's signature on it.
        #[arg(long, value_name = "FILE")]
        signature: Vec<PathBuf>,
    },
    /// What comes out otherwise, by rule, with examples; on the node that answers.
    Status,
    /// End it.
    Stop,
}
