//! The change feed: what became of the state with each revision, for whoever holds a copy of it to follow without loading it
//! anew.
//!
//! A backend keeps each step in the transaction of the change itself, so there is no revision without its step but those from
//! before there was a feed, and those that are too long ago. Each step carries a mark: a digest over the mark before it and over
//! what it says. Two histories never have the same mark, so a copy of a state that is no more (a database that was put back and
//! has gone on another way) is noticed, and never followed from.

use std::collections::BTreeMap;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::{Document, Tenant};
use serde::{Deserialize, Serialize};

use crate::relational::{from_json, to_json};
use crate::{BundleRow, ClaimRow, EpochRow, KeyRow, Row, RowKind, SealedRow, State, StoreError, Write};

/// How many steps are kept.
pub const STEPS_KEPT: u64 = 8_192;
/// How many bytes of steps are kept.
pub const STEP_BYTES_KEPT: u64 = 32 << 20;
/// A longer step is not kept, in bytes: whoever is before it loads the state whole.
pub const STEP_BYTES_MAX: usize = 8 << 20;
/// How many bytes of steps are given at once, but for a step that is longer by itself.
pub const STEP_BYTES_AT_ONCE: u64 = 4 << 20;
/// How often what is too long ago is cleared away: with every so many revisions.
pub const STEPS_CLEARED: u64 = 64;

/// What became of the state with one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The revision that it leads to.
    pub revision: u64,
    /// The mark that it leads to.
    pub mark: Digest,
    /// What became of what, of everything that a [`State`] holds once it is loaded.
    pub writes: Vec<Write>,
}

/// A step as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepColumns {
    /// The revision that it leads to.
    pub revision: u64,
    /// The mark that it leads to.
    pub mark: Digest,
    /// The mark that it goes on from; none for the first one of a database that had none before.
    pub follows: Option<Digest>,
    /// What became of what, as JSON.
    pub body: String,
}

/// What follows on a revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Since {
    /// The next steps, without a gap; none where nothing has changed.
    Steps(Vec<Step>),
    /// They are not kept any more, or never were: the state is to be loaded whole.
    TooOld,
}

/// One thing of a step, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Kept {
    Document(Tenant, Document),
    DeleteDocument(Tenant, String, Name),
    Key(KeyRow),
    Epoch(EpochRow),
    Sealed(SealedRow),
    /// Bundles are large and kept for ever anyway.
    Bundle(Tenant, u64, Digest),
    Row(KeptRow),
    DeleteRow(String, String),
    ClaimUsed,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptRow {
    tenant: Tenant,
    kind: String,
    id: String,
    owner: String,
    expires: Option<Timestamp>,
    version: u64,
    body: String,
}

/// The mark of an installation that was just founded.
pub(crate) fn founded(
    recovery: &(u32, Vec<String>),
    claim: &ClaimRow,
    writes: &[Write],
) -> Result<Digest, StoreError> {
    Ok(mark(None, 1, &to_json(&(recovery, claim, kept(writes)))?))
}

fn mark(follows: Option<Digest>, revision: u64, body: &str) -> Digest {
    let before = follows.unwrap_or(Digest::EMPTY);
    Digest::of_parts(&[before.as_bytes(), &revision.to_be_bytes(), body.as_bytes()])
}

fn kept(writes: &[Write]) -> Vec<Kept> {
    let one = |write: &Write| match write.clone() {
        // The revision of its change is that of the step.
        Write::Document(tenant, document, _) => Some(Kept::Document(tenant, document)),
        Write::DeleteDocument(tenant, kind, name) => Some(Kept::DeleteDocument(tenant, kind, name)),
        Write::Key(key) => Some(Kept::Key(key)),
        Write::Epoch(epoch) => Some(Kept::Epoch(epoch)),
        Write::Sealed(sealed) => Some(Kept::Sealed(sealed)),
        Write::Bundle(bundle) => Some(Kept::Bundle(bundle.tenant, bundle.version, bundle.digest)),
        Write::Row(row) => row.kind.is_loaded().then(|| {
            let Row { tenant, kind, id, owner, expires, version, body } = row;
            Kept::Row(KeptRow { tenant, kind: kind.name().to_owned(), id, owner, expires, version, body })
        }),
        Write::DeleteRow(kind, id) => kind.is_loaded().then(|| Kept::DeleteRow(kind.name().to_owned(), id)),
        Write::ClaimUsed => Some(Kept::ClaimUsed),
    };
    writes.iter().filter_map(one).collect()
}

impl StepColumns {
    /// The step to `revision` from the state with the mark `follows`, by what was written.
    ///
    /// # Errors
    /// `Corrupt` when something cannot be written as JSON.
    pub(crate) fn of(follows: Option<Digest>, revision: u64, writes: &[Write]) -> Result<Self, StoreError> {
        let body = to_json(&kept(writes))?;
        Ok(Self { revision, mark: mark(follows, revision, &body), follows, body })
    }

    /// Whether it is kept at all.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.body.len() <= STEP_BYTES_MAX
    }
}

/// What follows on a state, as it was read; bundles are not yet there.
#[derive(Debug)]
pub struct Following(Vec<(u64, Digest, Vec<Kept>)>);

/// Reads what follows on the state at `revision` with `mark`. `rows` are the steps from that revision on, in order: first the
/// one that led to it, where it is kept, and the last ones may be missing. None where one is missing before the last.
///
/// # Errors
/// `Corrupt` when the database has another history than that state, or a step does not read.
pub fn following(
    revision: u64,
    mark: Option<Digest>,
    rows: Vec<StepColumns>,
) -> Result<Option<Following>, StoreError> {
    let (mut at, mut known, mut out) = (revision, mark, Vec::new());
    for row in rows {
        if row.revision == revision {
            if Some(row.mark) != mark {
                return Err(another_way(revision));
            }
            continue;
        }
        if row.revision != at + 1 {
            return Ok(None);
        }
        if row.follows != known {
            return Err(another_way(at));
        }
        if self::mark(row.follows, row.revision, &row.body) != row.mark {
            return Err(StoreError::Corrupt(format!("the step to revision {} was changed", row.revision)));
        }
        out.push((row.revision, row.mark, from_json("a step", &row.body)?));
        (at, known) = (row.revision, Some(row.mark));
    }
    Ok(Some(Following(out)))
}

/// A database that was put back and has gone on: it may have forgotten revocations.
fn another_way(revision: u64) -> StoreError {
    StoreError::Corrupt(format!(
        "its history up to revision {revision} is another than before: it was put back, and may have forgotten revocations"
    ))
}

impl Following {
    /// The bundles that are to be fetched, by tenant and version.
    pub fn bundles(&self) -> impl Iterator<Item = (&Tenant, u64)> {
        self.0.iter().flat_map(|(.., writes)| writes).filter_map(|write| match write {
            Kept::Bundle(tenant, version, _) => Some((tenant, *version)),
            _ => None,
        })
    }

    /// The steps, with their bundles.
    ///
    /// # Errors
    /// `Corrupt` when a bundle is missing or another, or a row is of no known kind.
    pub fn steps(self, bundles: &BTreeMap<(Tenant, u64), BundleRow>) -> Result<Vec<Step>, StoreError> {
        let step = |(revision, mark, writes): (u64, Digest, Vec<Kept>)| {
            let writes = writes.into_iter().map(|kept| written(kept, revision, bundles));
            Ok(Step { revision, mark, writes: writes.collect::<Result<_, StoreError>>()? })
        };
        self.0.into_iter().map(step).collect()
    }
}

fn written(
    kept: Kept,
    revision: u64,
    bundles: &BTreeMap<(Tenant, u64), BundleRow>,
) -> Result<Write, StoreError> {
    Ok(match kept {
        Kept::Document(tenant, document) => Write::Document(tenant, document, revision),
        Kept::DeleteDocument(tenant, kind, name) => Write::DeleteDocument(tenant, kind, name),
        Kept::Key(key) => Write::Key(key),
        Kept::Epoch(epoch) => Write::Epoch(epoch),
        Kept::Sealed(sealed) => Write::Sealed(sealed),
        Kept::Bundle(tenant, version, digest) => {
            let what = format!("bundle {version} of `{tenant}`");
            let bundle = bundles.get(&(tenant, version)).filter(|bundle| bundle.digest == digest);
            let missing = || StoreError::Corrupt(format!("{what} is not the one that was put in force"));
            Write::Bundle(bundle.cloned().ok_or_else(missing)?)
        }
        Kept::Row(KeptRow { tenant, kind, id, owner, expires, version, body }) => {
            let kind = kind_of(&kind)?;
            Write::Row(Row { tenant, kind, id, owner, expires, version, body })
        }
        Kept::DeleteRow(kind, id) => Write::DeleteRow(kind_of(&kind)?, id),
        Kept::ClaimUsed => Write::ClaimUsed,
    })
}

fn kind_of(name: &str) -> Result<RowKind, StoreError> {
    let known = RowKind::ALL.iter().copied().find(|kind| kind.name() == name);
    known.ok_or_else(|| StoreError::Corrupt(format!("a step has a row of the unknown kind `{name}`")))
}

impl State {
    /// Takes in the step that follows on this state. What it does not touch is shared with copies from before.
    ///
    /// # Errors
    /// `Corrupt` for a step of another revision.
    pub fn follow(&mut self, step: &Step) -> Result<(), StoreError> {
        if step.revision != self.revision + 1 {
            let text = format!("the step to revision {} does not follow {}", step.revision, self.revision);
            return Err(StoreError::Corrupt(text));
        }
        step.writes.iter().for_each(|write| self.write(write));
        (self.revision, self.mark) = (step.revision, Some(step.mark));
        Ok(())
    }
}
