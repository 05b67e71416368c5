//! A log watched over time: each run goes on from what the last one verified.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_ledger::{
    Appender, Checkpoint, ENTRIES_PER_BUNDLE, File, Policy, ResumeError, Tile, TileSource as _, VerifierKey,
    bundle_entries,
};
use serde::Deserialize;

use crate::compare::{Comparison, Verdict};
use crate::directory::{CHECKPOINT, canonical_object, open_published};
use crate::file;
use crate::report::{Check, Fault, Faults, Reason, Report};
use crate::source::{FolderSource, Relation};
use crate::state::{BREAKS_MAX, Break, Intent, State};

/// How long an intent may be without outcome before it is told.
const OVERDUE: Duration = Duration::from_secs(3_600);

/// How many overdue intents are told one by one.
const OVERDUE_TOLD: usize = 10;

/// How a log is watched.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// The log's key.
    pub key: &'a VerifierKey,
    /// Where the monitor remembers what it has seen. One monitor a file.
    pub state: &'a Path,
    /// Who must have cosigned each checkpoint.
    pub policy: Option<&'a Policy>,
    /// The nodes write further logs too, such as those of other tenants: their numbers may skip here, though never repeat
    /// or fall.
    pub shared_nodes: bool,
    /// The present moment, by which intents are overdue.
    pub now: Timestamp,
}

/// Verifies what the log in `folder` has become since the last run: that its checkpoint extends the last one, every new
/// entry against tiles and root, that the numbers of each node's records are consecutive; and tells intents that have
/// had no outcome for an hour.
///
/// The state moves on only if all of that holds. Numbers that are not consecutive do not hold it up, since no later entry
/// could mend them: they are remembered and told at every run. An outcome that fell into the log of the next period is
/// not seen here.
#[must_use]
pub fn monitor(folder: &Path, watch: &Watch<'_>) -> Report {
    let mut report = Report { origin: watch.key.name().to_owned(), ..Report::default() };
    let (state, last) = match State::read(watch.state, watch.key) {
        Ok(Some((state, last))) => {
            let what = format!("{} entries were verified before", last.size);
            report.add(Check::new("state", what, Faults::default()));
            (state, last)
        }
        Ok(None) => {
            report.notes.push("there was no state: the log is taken as it is now".to_owned());
            State::first(watch.key)
        }
        Err(fault) => {
            report.add(Check::new("state", "", Some(fault).into()));
            return report;
        }
    };
    let Some((now, note)) = open_published(folder, watch.key, watch.policy, &mut report) else {
        return report;
    };
    let source = FolderSource { folder, size: now.size };
    let note = String::from_utf8_lossy(&note).into_owned();
    let (check, verdict) = history(&source, &last, &now);
    report.add(check);
    if let (Some((verdict, relation)), Some(seen)) = (verdict, &state.checkpoint) {
        let evidence = Comparison::contradiction(verdict, (&last, seen), (&now, &note), relation);
        report.notes.push("`--output json` holds both signed checkpoints, for others to check".to_owned());
        report.evidence = Some(Box::new(evidence));
    }
    if !report.ok {
        return report;
    }
    let mut run = Run::new(source, state.clone(), watch.shared_nodes);
    let whole = run.go(&last, &now);
    run.judge(&now, whole, &mut report);
    let verified = report.ok;
    report.add(sequence(&run.state.breaks));
    overdue(&run.state, watch.now, &mut report.notes);
    if verified {
        run.state.checkpoint = Some(note);
        if run.state != state
            && let Err(fault) = run.state.write(watch.state)
        {
            report.add(Check::new("state", "", Some(fault).into()));
        }
    }
    report
}

/// Whether the log extends what was seen of it, and if not, what that amounts to.
fn history(
    source: &FolderSource<'_>,
    last: &Checkpoint,
    now: &Checkpoint,
) -> (Check, Option<(Verdict, Option<Relation>)>) {
    let (fault, verdict) = if last.size > now.size {
        let detail = format!("{} entries were verified, now there are {}", last.size, now.size);
        let fault = Fault::new(CHECKPOINT, Reason::RolledBack).because(detail);
        (Some(fault), Some((Verdict::RolledBack, None)))
    } else {
        match Relation::of(source, now, last.size) {
            Ok(relation) if relation.root_then == last.root => (None, None),
            Ok(relation) => {
                let fault = Fault::new(CHECKPOINT, Reason::Rewritten);
                (Some(fault), Some((Verdict::Forked, Some(relation))))
            }
            Err(fault) => (Some(fault), None),
        }
    };
    let what = format!("extends the {} entries verified before", last.size);
    (Check::new("history", what, fault.into()), verdict)
}

fn sequence(breaks: &[Break]) -> Check {
    let mut faults = Faults::default();
    for Break { node, entry, expected, found } in breaks {
        let detail = format!("node {}: {found} where {expected} was due", node.escape_debug());
        faults.add(Fault::new("entries", Reason::Sequence).at(*entry).because(detail));
    }
    Check::new("sequence", "the numbers of each node are consecutive", faults)
}

fn overdue(state: &State, now: Timestamp, notes: &mut Vec<String>) {
    let mut overdue: Vec<_> = state.open.iter().collect();
    overdue.retain(|(_, intent)| now.saturating_since(Timestamp::from_micros(intent.time_us)) > OVERDUE);
    overdue.sort_by_key(|(_, intent)| intent.entry);
    for (id, Intent { entry, time_us }) in overdue.iter().take(OVERDUE_TOLD) {
        let since = Timestamp::from_micros(*time_us);
        // An id may be anybody's text: shown so that it cannot write over the report.
        let id = id.escape_debug();
        notes.push(format!("the intent {id} at entry {entry} has had no outcome since {since}"));
    }
    if overdue.len() > OVERDUE_TOLD {
        notes.push(format!("{} further intents have had no outcome", overdue.len() - OVERDUE_TOLD));
    }
}

/// What the monitor reads of a record. The rest is not its business, and may be more in later versions.
#[derive(Deserialize)]
struct Head {
    node: String,
    seq: u64,
    time_us: u64,
    kind: String,
    id: Option<String>,
    of: Option<String>,
}

/// One run over the new entries.
struct Run<'a> {
    source: FolderSource<'a>,
    state: State,
    shared_nodes: bool,
    log: Appender,
    /// Tiles that the new entries have changed and not filled, by level.
    partial: BTreeMap<u8, File>,
    entries: u64,
    tiles: u64,
    entry_faults: Faults,
    record_faults: Faults,
    tile_faults: Faults,
}

impl<'a> Run<'a> {
    fn new(source: FolderSource<'a>, state: State, shared_nodes: bool) -> Self {
        Self {
            source,
            state,
            shared_nodes,
            log: Appender::new(),
            partial: BTreeMap::new(),
            entries: 0,
            tiles: 0,
            entry_faults: Faults::default(),
            record_faults: Faults::default(),
            tile_faults: Faults::default(),
        }
    }

    /// Reads the entries from `last` to `now`; says whether it could.
    fn go(&mut self, last: &Checkpoint, now: &Checkpoint) -> bool {
        let read = self.resume(last).and_then(|()| {
            while self.log.size() < now.size {
                self.bundle()?;
            }
            Ok(())
        });
        for file in std::mem::take(&mut self.partial).into_values() {
            self.compare(&file);
        }
        match read {
            Ok(()) => true,
            Err(fault) => {
                self.entry_faults.add(fault);
                false
            }
        }
    }

    fn resume(&mut self, last: &Checkpoint) -> Result<(), Fault> {
        self.log = Appender::resume(last.size, &last.root, &self.source).map_err(|error| match error {
            ResumeError::Read(error) => Fault::of_read(error),
            ResumeError::Entries => Fault::new("entries", Reason::Bundle).because(error),
            ResumeError::Root => Fault::new(CHECKPOINT, Reason::TileRoot),
        })?;
        Ok(())
    }

    fn bundle(&mut self) -> Result<(), Fault> {
        let first = self.log.size();
        let bundle = Tile::at(None, first / ENTRIES_PER_BUNDLE, self.source.size);
        let bundle = bundle.ok_or_else(|| Fault::new("tile/entries", Reason::Missing))?;
        let (found, bytes) = file::read_tile(self.source.folder, bundle)?;
        let wrong = || Fault::new(found.path(), Reason::Bundle).at(first);
        let entries = bundle_entries(&bytes).filter(|entries| entries.len() == usize::from(found.width));
        let entries = entries.ok_or_else(wrong)?;
        let seen = usize::try_from(first % ENTRIES_PER_BUNDLE).unwrap_or(usize::MAX);
        let new = entries.get(seen..bundle.width.into()).ok_or_else(wrong)?;
        for entry in new {
            self.record(bundle, entry);
            self.log.append(entry).map_err(|_| wrong())?;
            self.entries += 1;
        }
        for file in self.log.take_files() {
            let Some(level) = file.tile.level else { continue };
            if file.tile.is_full() {
                self.partial.remove(&level);
                self.compare(&file);
            } else {
                self.partial.insert(level, file);
            }
        }
        Ok(())
    }

    fn record(&mut self, bundle: Tile, entry: &[u8]) {
        let index = self.log.size();
        let wrong = |reason| Fault::new(bundle.path(), reason).at(index);
        let Some(value) = canonical_object(entry) else {
            return self.record_faults.add(wrong(Reason::NotCanonical));
        };
        let Ok(head) = serde_json::from_value::<Head>(value) else {
            return self.record_faults.add(wrong(Reason::NotARecord));
        };
        let due = self.state.nodes.get(&head.node).copied();
        let skipped = |due: u64| head.seq < due || (head.seq > due && !self.shared_nodes);
        if let Some(expected) = due.filter(|due| skipped(*due))
            && self.state.breaks.len() < BREAKS_MAX
        {
            let (node, found) = (head.node.clone(), head.seq);
            self.state.breaks.push(Break { node, entry: index, expected, found });
        }
        self.state.nodes.insert(head.node, head.seq.saturating_add(1));
        match (&*head.kind, head.id, head.of) {
            ("intent", Some(id), _) => {
                self.state.open.insert(id, Intent { entry: index, time_us: head.time_us });
            }
            ("outcome", _, Some(of)) => {
                self.state.open.remove(&of);
            }
            _ => {}
        }
    }

    /// Compares a tile with the hashes that the entries give.
    fn compare(&mut self, expected: &File) {
        self.tiles += 1;
        match self.source.read(expected.tile) {
            Ok(Some(found)) if found == expected.bytes => {}
            Ok(Some(_)) => self.tile_faults.add(Fault::new(expected.tile.path(), Reason::Tile)),
            Ok(None) => self.tile_faults.add(Fault::new(expected.tile.path(), Reason::Missing)),
            Err(fault) => self.tile_faults.add(fault),
        }
    }

    fn judge(&mut self, now: &Checkpoint, whole: bool, report: &mut Report) {
        let take = std::mem::take::<Faults>;
        report.add(Check::new("entries", format!("{} new", self.entries), take(&mut self.entry_faults)));
        let records = format!("{} are canonical records", self.entries);
        report.add(Check::new("records", records, take(&mut self.record_faults)));
        let tiles = format!("{} compared with the entries", self.tiles);
        report.add(Check::new("tiles", tiles, take(&mut self.tile_faults)));
        if whole {
            let differs = self.log.root() != now.root;
            let fault = differs.then(|| Fault::new(CHECKPOINT, Reason::Root));
            report.add(Check::new("root", "the entries give the signed root", fault.into()));
        } else {
            report.add(Check::not_made("root"));
        }
    }
}
