//! What comes back.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What every proof takes for granted; said with every answer.
pub const ASSUMPTIONS: &[&str] = &[
    "The proof is about the Cedar rules: scopes and conditions. What remedies do, chains of callers, the constitution's \
     place beside the bundle and the directory are the engine's and not part of it.",
    "Rules pass strict validation; entities, context and actions are as the vocabulary says, and everything an attribute \
     names exists.",
    "Obligations and approvals are taken as any sets at all: permitted under an obligation counts as permitted.",
    "The solver is trusted where it says that there is no counterexample.",
];

/// An answer to one question.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// What was asked: `nothing_new`, `equivalent`, `never_permits`, `never_errs`.
    pub question: &'static str,
    /// One for each thing asked about, in a fixed order.
    pub findings: Vec<Finding>,
    /// Who answered; none where nobody could be asked.
    pub solver: Option<Solver>,
    /// What a reader should know beside the findings.
    pub remarks: Vec<String>,
    /// What was taken for granted.
    pub assumptions: &'static [&'static str],
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// The solver that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Solver {
    /// Its program.
    pub path: PathBuf,
    /// What it says of itself.
    pub version: String,
}

/// What was found about one rule, one invariant, or (`about` empty) the set as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The rule's or invariant's id; empty for the set as a whole.
    pub about: String,
    /// What was found.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The kinds of ask that were looked at: principal type, action, resource type.
    pub environments: Vec<[String; 3]>,
    /// How many queries it took; those that fold to a constant included.
    pub queries: u64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It holds for every ask.
    Proven,
    /// It does not hold: here is an ask, confirmed by the engine.
    Refuted {
        /// The ask.
        counterexample: Box<Counterexample>,
    },
    /// Nothing is known.
    NotProven {
        /// Of what sort the reason is.
        why: Why,
        /// The reason in words.
        detail: String,
    },
    /// Nobody could be asked.
    Unavailable {
        /// Why not.
        detail: String,
    },
}

/// Why something is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Time was up.
    Timeout,
    /// The problem does not fit the limits.
    TooLarge,
    /// The solver does not know, or said what the engine does not confirm.
    Unknown,
    /// The rules use what proofs do not cover.
    Unsupported,
    /// The conditions permit nothing new, but clauses of remedies changed, and what changed is not known to be stronger.
    Remedies,
}

/// An ask that refutes a claim, as small and as natural as it could be made.
#[derive(Clone, Debug, Serialize)]
pub struct Counterexample {
    /// Who asks, as a Cedar entity.
    pub principal: String,
    /// What, as a Cedar entity.
    pub action: String,
    /// On what, as a Cedar entity.
    pub resource: String,
    /// Under which circumstances, in Cedar's JSON form.
    pub context: Value,
    /// The entities there are, in Cedar's JSON form.
    pub entities: Value,
    /// What the set compared with says of it.
    pub before: Option<Told>,
    /// What the set asked about says of it.
    pub after: Told,
    /// The same for people.
    pub words: String,
}

/// What a set says of one ask. As in the house, an error of any rule denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Whether it is permitted.
    pub permitted: bool,
    /// The rules that permit it, where nothing forbids it.
    pub permits: Vec<String>,
    /// The rules that forbid it.
    pub forbids: Vec<String>,
    /// The rules that end in an error.
    pub errs: Vec<String>,
}

/// The worst of all findings of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Every finding is proven.
    Proven,
    /// Something could not be asked.
    Unavailable,
    /// Something is not known.
    NotProven,
    /// Something is refuted.
    Refuted,
}

impl Answer {
    /// The worst of its findings. An answer without findings proves nothing of interest, and is proven: there was nothing to
    /// be asked.
    #[must_use]
    pub fn overall(&self) -> Overall {
        let of = |finding: &Finding| match finding.outcome {
            Outcome::Proven => Overall::Proven,
            Outcome::Unavailable { .. } => Overall::Unavailable,
            Outcome::NotProven { .. } => Overall::NotProven,
            Outcome::Refuted { .. } => Overall::Refuted,
        };
        self.findings.iter().map(of).max().unwrap_or(Overall::Proven)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let about = match finding.about.as_str() {
                "" => self.question.to_owned(),
                id => format!("{} `{id}`", self.question),
            };
            match &finding.outcome {
                Outcome::Proven => writeln!(
                    f,
                    "proven       {about}: {} kinds of ask, {} queries",
                    finding.environments.len(),
                    finding.queries
                )?,
                Outcome::Refuted { counterexample } => {
                    writeln!(f, "refuted      {about}:\n{}", indented(&counterexample.words))?;
                }
                Outcome::NotProven { why, detail } => {
                    writeln!(f, "not proven   {about} ({}): {detail}", why.name())?;
                }
                Outcome::Unavailable { detail } => writeln!(f, "unavailable  {about}: {detail}")?,
            }
        }
        for remark in &self.remarks {
            writeln!(f, "note: {remark}")?;
        }
        match &self.solver {
            Some(solver) => writeln!(
                f,
                "asked {} ({}), {} ms",
                solver.version,
                solver.path.display(),
                self.took_us / 1_000
            )?,
            None => writeln!(f, "nobody was asked")?,
        }
        self.assumptions.iter().try_for_each(|line| writeln!(f, "assumed: {line}"))
    }
}

impl Why {
    /// The name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unknown => "unknown",
            Self::Unsupported => "unsupported",
            Self::Remedies => "remedies",
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
