//! What was checked and what does not hold, for people and for programs.

use std::fmt;

use bartizan_ledger::{ProveError, ReadError};
use serde::Serialize;

use crate::compare::Comparison;

/// How many faults of one check are told one by one; of the rest only the number.
const FAULTS_TOLD: usize = 10;

/// What was checked, line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything was checked and holds.
    pub ok: bool,
    /// The log's name.
    pub origin: String,
    /// How many entries its checkpoint says it has.
    pub size: u64,
    /// The checks in the order in which they were made.
    pub checks: Vec<Check>,
    /// What proves to others that the log was rewritten or rolled back since a monitor last saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Box<Comparison>>,
    /// What is worth knowing and harms nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about: `folder`, `checkpoint`, `quorum`, `entries`, `records`, `tiles`, `root`, `history`, `receipt`,
    /// `told`, `witnessed`, `state`, `sequence`, `promise`, `kept`.
    pub about: &'static str,
    /// Whether it holds. One that could not be made does not.
    pub ok: bool,
    /// What was found, in one line: that it holds, or the first fault.
    pub what: String,
    /// What does not hold, the first ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// How many faults there are beyond those.
    #[serde(skip_serializing_if = "is_zero")]
    pub faults_untold: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, by its path under the log's folder.
    pub file: String,
    /// The first entry that is concerned, where it is about entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// What is wrong.
    pub reason: Reason,
    /// More about it, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A file that must be there is not.
    #[error("is missing")]
    Missing,
    /// A file could not be read.
    #[error("cannot be read")]
    Unreadable,
    /// A link, a pipe or something else in a file's place.
    #[error("is not a plain file")]
    NotAFile,
    /// Longer than any file of its kind may be.
    #[error("is longer than such a file may be")]
    TooLong,
    /// A file that no log has.
    #[error("is no file of a log")]
    Extra,
    /// A file of a larger log than the checkpoint tells of: the checkpoint was rolled back, or the log is being written.
    #[error(
        "lies beyond the checkpoint: that was rolled back, or the log is being written (see `--growing`)"
    )]
    Beyond,
    /// Not signed by the log's key, or of another log, or not a checkpoint.
    #[error("is not a checkpoint of this log")]
    Checkpoint,
    /// The key that lies beside the log is another one than the one given.
    #[error("is another key than the one given")]
    OtherKey,
    /// A bundle is cut, or holds more or fewer entries than it must.
    #[error("does not hold the entries it must")]
    Bundle,
    /// An entry is not one canonical JSON object (RFC 8785).
    #[error("holds an entry that is not a canonical record")]
    NotCanonical,
    /// A tile holds other hashes than the entries give.
    #[error("holds other hashes than the entries give")]
    Tile,
    /// A partial tile or bundle left from an earlier size is not the beginning of what it grew into.
    #[error("is not the beginning of what it grew into")]
    Partial,
    /// The entries do not give the signed root.
    #[error("was signed over another root than the entries give")]
    Root,
    /// The older checkpoint tells of more entries than the log has.
    #[error("tells of fewer entries than the older checkpoint: the log was rolled back")]
    RolledBack,
    /// The older checkpoint's entries are not the first of this log.
    #[error("does not extend the older checkpoint: history was rewritten")]
    Rewritten,
    /// A receipt's entry is not in the log.
    #[error("does not lead from the entry to the checkpoint's root")]
    NotIncluded,
    /// Not the header of an answer.
    #[error("is not `origin;node;number;leaf hash;promise`")]
    NotAPromise,
    /// The log's key has not promised this record.
    #[error("was not promised by this key")]
    PromiseUnsigned,
    /// The log does not hold what was promised.
    #[error(
        "promises a record that the log does not hold: whoever holds the key has broken its promise, and this header proves it"
    )]
    PromiseBroken,
    /// Too few have cosigned.
    #[error("is not cosigned as the policy demands")]
    Quorum,
    /// The policy lists logs, and not this one.
    #[error("is of a log that the policy does not list")]
    UnknownLog,
    /// The tiles do not lead to the signed root, so that nothing can be said about earlier sizes.
    #[error("was signed over another root than the tiles give")]
    TileRoot,
    /// An entry lacks what every record has.
    #[error("holds an entry that is no record")]
    NotARecord,
    /// A node's running number was skipped or used again: records were lost, or a disk was replaced.
    #[error("holds records whose numbers are not consecutive")]
    Sequence,
    /// Not what a monitor has remembered of this log.
    #[error("is not a monitor's state of this log")]
    State,
    /// A monitor's state could not be replaced.
    #[error("could not be written")]
    Unwritten,
    /// Not a `.tlog-proof`.
    #[error("is not a receipt")]
    NotAReceipt,
    /// A witnessed receipt without the policy that says whose cosignatures count.
    #[error("is a witnessed receipt: whose cosignatures count is for a policy to say (`--policy`)")]
    NoPolicy,
    /// The two proofs of a witnessed receipt.
    #[error("holds proofs that do not make one: the entry's log is not shown to be what was witnessed")]
    NotTogether,
}

impl Fault {
    pub(crate) fn new(file: impl Into<String>, reason: Reason) -> Self {
        Self { file: file.into(), entry: None, reason, detail: None }
    }

    pub(crate) fn at(self, entry: u64) -> Self {
        Self { entry: Some(entry), ..self }
    }

    pub(crate) fn of_prove(error: ProveError<Self>) -> Self {
        match error {
            ProveError::Read(error) => Self::of_read(error),
            ProveError::OutOfRange => Self::new("tile", Reason::Missing),
        }
    }

    pub(crate) fn of_read(error: ReadError<Self>) -> Self {
        match error {
            ReadError::Source(_, fault) => fault,
            ReadError::Missing(tile) => Self::new(tile.path(), Reason::Missing),
            ReadError::Malformed(tile) if tile.level.is_none() => Self::new(tile.path(), Reason::Bundle),
            ReadError::Malformed(tile) => Self::new(tile.path(), Reason::Tile),
        }
    }

    pub(crate) fn because(self, detail: impl fmt::Display) -> Self {
        Self { detail: Some(detail.to_string()), ..self }
    }
}

impl Report {
    pub(crate) fn add(&mut self, check: Check) {
        self.checks.push(check);
        self.ok = self.checks.iter().all(|check| check.ok);
    }
}

impl Check {
    /// A check that was made. `holds` says what is known if there are no faults.
    pub(crate) fn new(about: &'static str, holds: impl fmt::Display, faults: Faults) -> Self {
        let Faults { told, untold } = faults;
        let what =
            told.first().map_or_else(|| format!("{about}: {holds}"), |first| format!("{about}: {first}"));
        Self { about, ok: told.is_empty(), what, faults: told, faults_untold: untold }
    }

    /// A check that could not be made, because of the faults of an earlier one.
    pub(crate) fn not_made(about: &'static str) -> Self {
        let what = format!("{about}: not checked, since the log could not be read to its end");
        Self { about, ok: false, what, faults: Vec::new(), faults_untold: 0 }
    }
}

/// Faults of one check while it is being made.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    told: Vec<Fault>,
    untold: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        if self.told.len() < FAULTS_TOLD {
            self.told.push(fault);
        } else {
            self.untold += 1;
        }
    }
}

impl From<Option<Fault>> for Faults {
    fn from(fault: Option<Fault>) -> Self {
        Self { told: fault.into_iter().collect(), untold: 0 }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file's name may be anybody's: shown so that it cannot write over the report.
        write!(f, "{} {}", self.file.escape_debug(), self.reason)?;
        if let Some(entry) = self.entry {
            write!(f, ", first at entry {entry}")?;
        }
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{} {}", if check.ok { "ok  " } else { "FAIL" }, check.what)?;
            for fault in check.faults.iter().skip(1) {
                writeln!(f, "       {fault}")?;
            }
            if check.faults_untold > 0 {
                writeln!(f, "       and {} more", check.faults_untold)?;
            }
        }
        for note in &self.notes {
            writeln!(f, "note {note}")?;
        }
        Ok(())
    }
}
