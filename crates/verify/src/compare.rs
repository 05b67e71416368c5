//! Two views of one log: one history, or the proof that there are two.

use std::fmt;
use std::path::{Path, PathBuf};

use bartizan_base::Digest;
use bartizan_ledger::{Checkpoint, NOTE_MAX, VerifierKey, prove_inclusion, root_at, verify_inclusion};
use serde::Serialize;

use crate::directory::{CHECKPOINT, open};
use crate::file;
use crate::report::{Fault, Reason};
use crate::source::{FolderSource, Relation};

/// What two views of one log come to. If it is [`Verdict::Forked`], its checkpoints prove it to anybody who has the log's
/// key: no honest log signs both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Whether the later view is the earlier one or extends it.
    pub ok: bool,
    /// The log's name.
    pub origin: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// In one sentence.
    pub what: String,
    /// The earlier view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<View>,
    /// The later view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<View>,
    /// What the view of more entries says about the size of the other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
    /// The first entry that differs, where both views have tiles that show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_difference: Option<Difference>,
    /// Why it could not be decided, or why the first difference could not be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// What two views come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both have the same entries.
    Same,
    /// The later view extends the earlier one.
    Extended,
    /// One history, but the later view has fewer entries. That it is the later one is the word of whoever compares.
    RolledBack,
    /// The log has signed two histories.
    Forked,
    /// One of them is not a checkpoint of this log, or there are no sound tiles to tell.
    Undecided,
}

/// A signed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// Its number of entries.
    pub size: u64,
    /// Its root.
    pub root: Digest,
    /// The note, with all its signatures.
    pub checkpoint: String,
}

/// That a checkpoint commits to a root at an earlier size: a consistency proof (RFC 6962, 2.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Then {
    /// The earlier size.
    pub size: u64,
    /// The root then.
    pub root: Digest,
    /// The proof.
    pub proof: Vec<Digest>,
}

/// An entry that differs, proven to be in either log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which entry.
    pub index: u64,
    /// As the earlier view has it.
    pub a: Leaf,
    /// As the later view has it.
    pub b: Leaf,
}

/// An entry's hash, with its inclusion proof (RFC 6962, 2.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leaf {
    /// The leaf hash.
    pub hash: Digest,
    /// From the leaf upwards.
    pub proof: Vec<Digest>,
}

/// A view as it was opened: its tiles, where it is a folder.
struct Opened {
    checkpoint: Checkpoint,
    view: View,
    folder: Option<PathBuf>,
}

impl Opened {
    fn at(path: &Path, key: &VerifierKey) -> Result<Self, Fault> {
        let folder = path.is_dir().then(|| path.to_owned());
        let note = match &folder {
            Some(folder) => file::read(folder, CHECKPOINT, NOTE_MAX as u64)?,
            None => file::read_given(path, NOTE_MAX as u64)?,
        };
        let checkpoint = open(&note, key, &path.display().to_string())?;
        let view = View::of(&checkpoint, &String::from_utf8_lossy(&note));
        Ok(Self { checkpoint, view, folder })
    }

    fn source(&self) -> Option<FolderSource<'_>> {
        let folder = self.folder.as_deref()?;
        Some(FolderSource { folder, size: self.checkpoint.size })
    }

    /// The proven entry `index`.
    fn leaf(&self, source: &FolderSource<'_>, index: u64) -> Result<Leaf, Fault> {
        let Checkpoint { size, root, .. } = &self.checkpoint;
        let hash = source.leaf(index)?;
        let proof = prove_inclusion(source, *size, index).map_err(Fault::of_prove)?;
        match verify_inclusion(hash, index, *size, &proof, root) {
            Ok(()) => Ok(Leaf { hash, proof }),
            Err(_) => Err(Fault::new(CHECKPOINT, Reason::TileRoot).at(index)),
        }
    }
}

impl Comparison {
    const fn undecided(origin: String) -> Self {
        Self {
            ok: false,
            origin,
            verdict: Verdict::Undecided,
            what: String::new(),
            a: None,
            b: None,
            then: None,
            first_difference: None,
            fault: None,
        }
    }

    /// What proves that a log has gone back behind, or contradicts, the checkpoint `a` that was seen before `b`.
    pub(crate) fn contradiction(
        verdict: Verdict,
        (a, note_a): (&Checkpoint, &str),
        (b, note_b): (&Checkpoint, &str),
        relation: Option<Relation>,
    ) -> Self {
        let then = relation.map(|Relation { root_then: root, proof }| Then { size: a.size, root, proof });
        let what = match verdict {
            Verdict::Forked => {
                format!("the log has signed two histories, which differ within the first {} entries", a.size)
            }
            _ => format!("the log had {} entries and now has {}", a.size, b.size),
        };
        let origin = a.origin.clone();
        let (a, b) = (Some(View::of(a, note_a)), Some(View::of(b, note_b)));
        Self { verdict, what, a, b, then, ..Self::undecided(origin) }
    }
}

impl View {
    fn of(checkpoint: &Checkpoint, note: &str) -> Self {
        Self { size: checkpoint.size, root: checkpoint.root, checkpoint: note.to_owned() }
    }
}

/// Compares two views of the log of `key`, each a log folder or the file of a signed checkpoint. `a` is the earlier view
/// and `b` the later one.
///
/// Of two sizes, the one of more entries must be a folder: its tiles say what it was when it had fewer. They are believed
/// only as far as they lead to the signed root.
#[must_use]
pub fn compare(a: &Path, b: &Path, key: &VerifierKey) -> Comparison {
    let mut comparison = Comparison::undecided(key.name().to_owned());
    let decided = (|| {
        let (a, b) = (Opened::at(a, key)?, Opened::at(b, key)?);
        (comparison.a, comparison.b) = (Some(a.view.clone()), Some(b.view.clone()));
        decide(&mut comparison, &a, &b)
    })();
    if let Err(fault) = decided {
        comparison.what = format!("not decided: {fault}");
        comparison.fault = Some(fault);
    }
    comparison.ok = matches!(comparison.verdict, Verdict::Same | Verdict::Extended);
    comparison
}

fn decide(comparison: &mut Comparison, a: &Opened, b: &Opened) -> Result<(), Fault> {
    let (small, large) = if a.checkpoint.size <= b.checkpoint.size { (a, b) } else { (b, a) };
    let (size, of) = (small.checkpoint.size, large.checkpoint.size);
    let relation = match large.source() {
        Some(source) => Relation::of(&source, &large.checkpoint, size)?,
        // Neither tiles nor proof are needed.
        None if size == of => Relation { root_then: large.checkpoint.root, proof: Vec::new() },
        None => {
            let detail = "the view of more entries must be a folder with tiles";
            return Err(Fault::new("tile", Reason::Missing).because(detail));
        }
    };
    let Relation { root_then, proof } = relation;
    comparison.then = Some(Then { size, root: root_then, proof });
    if root_then != small.checkpoint.root {
        comparison.verdict = Verdict::Forked;
        match first_difference(a, b, size) {
            Ok(difference) => comparison.first_difference = difference,
            Err(fault) => comparison.fault = Some(fault),
        }
        let place = comparison.first_difference.as_ref().map_or_else(
            || format!("within the first {size} entries"),
            |difference| format!("at entry {} first", difference.index),
        );
        comparison.what = format!("the log has signed two histories, which differ {place}");
    } else if a.checkpoint.size == b.checkpoint.size {
        comparison.verdict = Verdict::Same;
        comparison.what = format!("both have the same {size} entries");
    } else if a.checkpoint.size < b.checkpoint.size {
        comparison.verdict = Verdict::Extended;
        comparison.what = format!("{of} entries extend {size}");
    } else {
        comparison.verdict = Verdict::RolledBack;
        comparison.what = format!("one history, but the later view has {size} entries and the earlier {of}");
    }
    Ok(())
}

/// The first entry in which two logs differ that do so within the first `size` entries; none where one has no tiles.
fn first_difference(a: &Opened, b: &Opened, size: u64) -> Result<Option<Difference>, Fault> {
    let (Some(source_a), Some(source_b)) = (a.source(), b.source()) else { return Ok(None) };
    let differ = |then| -> Result<bool, Fault> {
        let a = root_at(&source_a, a.checkpoint.size, then).map_err(Fault::of_prove)?;
        let b = root_at(&source_b, b.checkpoint.size, then).map_err(Fault::of_prove)?;
        Ok(a != b)
    };
    // The first `same` entries are the same, the first `other` are not.
    let (mut same, mut other) = (0, size);
    while other - same > 1 {
        let middle = same + (other - same) / 2;
        if differ(middle)? { other = middle } else { same = middle }
    }
    if size == 0 {
        return Ok(None);
    }
    // What the search believed is proven now: the same beginning under both roots, and an entry that differs.
    for (opened, source) in [(a, &source_a), (b, &source_b)] {
        Relation::of(source, &opened.checkpoint, same)?;
    }
    let difference = Difference { index: same, a: a.leaf(&source_a, same)?, b: b.leaf(&source_b, same)? };
    if difference.a.hash == difference.b.hash {
        return Err(Fault::new(CHECKPOINT, Reason::TileRoot).at(same));
    }
    Ok(Some(difference))
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Same => "same",
            Verdict::Extended => "extended",
            Verdict::RolledBack => "rolled back",
            Verdict::Forked => "forked",
            Verdict::Undecided => "undecided",
        };
        writeln!(f, "{} {verdict}: {}", if self.ok { "ok  " } else { "FAIL" }, self.what)?;
        match &self.fault {
            Some(fault) if self.verdict == Verdict::Forked => writeln!(f, "note {fault}"),
            _ => Ok(()),
        }
    }
}
