//! A log folder, file by file.

use std::fs;
use std::path::Path;

use bartizan_base::{Digest, Timestamp, json};
use bartizan_ledger::{
    Checkpoint, Cosignature, Cosigned, ENTRIES_PER_BUNDLE, ENTRY_MAX, NOTE_MAX, Policy, Refused, RightEdge,
    Tile, VerifierKey, bundle_entries, empty_root, encode_bundle, leaf_hash, root_of,
};
use serde_json::Value;

use crate::file;
use crate::folder::Survey;
use crate::report::{Check, Fault, Faults, Reason, Report};

pub(crate) const CHECKPOINT: &str = "checkpoint";

/// What an older checkpoint is called in a report.
const OLD: &str = "older checkpoint";

/// An entry's bounds as JSON; far above those of the record schema.
const ENTRY_LIMITS: json::Limits = json::Limits { bytes_max: ENTRY_MAX, depth_max: 64, nodes_max: ENTRY_MAX };

/// What a log is held against.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The log's key.
    pub key: &'a VerifierKey,
    /// An older signed checkpoint, which the log must extend.
    pub old: Option<&'a [u8]>,
    /// Who must have cosigned the checkpoint.
    pub policy: Option<&'a Policy>,
    /// The log is being written: files beyond its checkpoint are no fault. A checkpoint that was rolled back is then
    /// noticed by `old` only.
    pub growing: bool,
}

/// Verifies the log in `folder` against the log's key, and that it extends `old` where that is given (a signed
/// checkpoint). Every entry is hashed again, every tile compared, the root held against the signature, and nothing else
/// may lie in the folder.
///
/// Memory is bounded by one bundle and one tile a level, whatever the log's size.
#[must_use]
pub fn verify_directory(folder: &Path, key: &VerifierKey, old: Option<&[u8]>) -> Report {
    verify_log(folder, &Demand { key, old, policy: None, growing: false })
}

/// As [`verify_directory`], for a log that is being written.
#[must_use]
pub fn verify_growing_directory(folder: &Path, key: &VerifierKey, old: Option<&[u8]>) -> Report {
    verify_log(folder, &Demand { key, old, policy: None, growing: true })
}

/// As [`verify_directory`], with everything that can be demanded.
#[must_use]
pub fn verify_log(folder: &Path, demand: &Demand<'_>) -> Report {
    let Demand { key, old, policy, growing } = *demand;
    let mut report = Report { origin: key.name().to_owned(), ..Report::default() };
    let survey = Survey::of(folder, key);
    let Some((checkpoint, _)) = open_published(folder, key, policy, &mut report) else { return report };
    let check = survey.judge(checkpoint.size, growing, &mut report.notes);
    report.add(check);
    let old = old.map(|note| open(note, key, OLD));
    let mut replay = Replay::new(folder, old.as_ref().and_then(|old| old.as_ref().ok()));
    let whole = replay.run(checkpoint.size);
    replay.judge(&checkpoint, whole, &mut report);
    match old {
        Some(Ok(old)) if whole || old.size > checkpoint.size => {
            report.add(history(&old, &checkpoint, replay.old_root));
        }
        Some(Ok(_)) => report.add(Check::not_made("history")),
        Some(Err(fault)) => report.add(Check::new("history", "", Some(fault).into())),
        None => {}
    }
    report
}

/// Opens the checkpoint that lies in `folder`, and holds it against the policy; gives it with its note.
pub(crate) fn open_published(
    folder: &Path,
    key: &VerifierKey,
    policy: Option<&Policy>,
    report: &mut Report,
) -> Option<(Checkpoint, Vec<u8>)> {
    let opened = file::read(folder, CHECKPOINT, NOTE_MAX as u64)
        .and_then(|note| Ok((open(&note, key, CHECKPOINT)?, note)));
    let (checkpoint, note) = match opened {
        Ok(opened) => opened,
        Err(fault) => {
            report.add(Check::new(CHECKPOINT, "", Some(fault).into()));
            return None;
        }
    };
    report.size = checkpoint.size;
    let what = format!("signed by {}, {} entries", key.name(), checkpoint.size);
    report.add(Check::new(CHECKPOINT, what, Faults::default()));
    if let Some(policy) = policy {
        report.add(quorum(&policy.open_signed_by(&note, key), CHECKPOINT));
    }
    Some((checkpoint, note))
}

/// Whether those have cosigned whom a policy demands; `name` is what carries the checkpoint.
pub(crate) fn quorum(opened: &Result<Cosigned, Refused>, name: &str) -> Check {
    match opened {
        Ok(Cosigned { cosignatures, .. }) if cosignatures.is_empty() => {
            Check::new("quorum", "the policy demands no cosignatures", Faults::default())
        }
        Ok(Cosigned { cosignatures, .. }) => {
            let told = |c: &Cosignature| format!("{} at {}", c.name(), Timestamp::from_secs(c.time_s()));
            let told: Vec<_> = cosignatures.iter().map(told).collect();
            Check::new("quorum", format!("cosigned by {}", told.join(", ")), Faults::default())
        }
        Err(refused) => Check::new("quorum", "", Some(refusal(refused, name)).into()),
    }
}

pub(crate) fn refusal(refused: &Refused, name: &str) -> Fault {
    let reason = match refused {
        Refused::Checkpoint(_) => Reason::Checkpoint,
        Refused::UnknownLog => Reason::UnknownLog,
        Refused::Quorum(_) => Reason::Quorum,
    };
    let fault = Fault::new(name, reason);
    if *refused == Refused::UnknownLog { fault } else { fault.because(refused) }
}

pub(crate) fn open(note: &[u8], key: &VerifierKey, name: &str) -> Result<Checkpoint, Fault> {
    Checkpoint::open(note, key).map_err(|error| Fault::new(name, Reason::Checkpoint).because(error))
}

fn history(old: &Checkpoint, new: &Checkpoint, root_then: Option<Digest>) -> Check {
    let reason = if old.size > new.size {
        Some(Reason::RolledBack)
    } else if root_then == Some(old.root) {
        None
    } else {
        Some(Reason::Rewritten)
    };
    let what = format!("extends the older checkpoint of {} entries", old.size);
    Check::new("history", what, reason.map(|reason| Fault::new(CHECKPOINT, reason)).into())
}

/// The log built again from its entries, and compared with its files on the way.
struct Replay<'a> {
    folder: &'a Path,
    edge: RightEdge,
    /// Per level the index of the tile that is filling, and its hashes.
    levels: Vec<(u64, Vec<Digest>)>,
    old_size: Option<u64>,
    /// The root when the log had `old_size` entries.
    old_root: Option<Digest>,
    tiles: u64,
    entry_faults: Faults,
    record_faults: Faults,
    tile_faults: Faults,
}

impl<'a> Replay<'a> {
    fn new(folder: &'a Path, old: Option<&Checkpoint>) -> Self {
        let old_size = old.map(|old| old.size);
        Self {
            folder,
            edge: RightEdge::new(),
            levels: Vec::new(),
            old_size,
            old_root: (old_size == Some(0)).then(empty_root),
            tiles: 0,
            entry_faults: Faults::default(),
            record_faults: Faults::default(),
            tile_faults: Faults::default(),
        }
    }

    /// Reads all entries; says whether it could. After a bundle that cannot be used nothing further can be hashed.
    fn run(&mut self, size: u64) -> bool {
        for bundle in (0..size.div_ceil(ENTRIES_PER_BUNDLE)).map_while(|index| Tile::at(None, index, size)) {
            if let Err(fault) = self.bundle(bundle) {
                self.entry_faults.add(fault);
                return false;
            }
        }
        let partial: Vec<_> = self.levels.iter_mut().map(std::mem::take).collect();
        for (level, (index, hashes)) in (0..).zip(partial) {
            if !hashes.is_empty() {
                self.compare(level, index, &hashes);
            }
        }
        true
    }

    fn bundle(&mut self, bundle: Tile) -> Result<(), Fault> {
        let (found, bytes) = file::read_tile(self.folder, bundle)?;
        let wrong = || Fault::new(found.path(), Reason::Bundle).at(self.edge.size());
        let entries = bundle_entries(&bytes).filter(|entries| entries.len() == usize::from(found.width));
        let entries = entries.ok_or_else(wrong)?;
        let entries = entries.get(..bundle.width.into()).ok_or_else(wrong)?;
        self.earlier_bundles(bundle, entries);
        for entry in entries {
            self.entry(bundle, entry);
        }
        Ok(())
    }

    fn entry(&mut self, bundle: Tile, entry: &[u8]) {
        if canonical_object(entry).is_none() {
            let fault = Fault::new(bundle.path(), Reason::NotCanonical).at(self.edge.size());
            self.record_faults.add(fault);
        }
        let leaf = leaf_hash(entry);
        self.edge.append(leaf);
        self.hash(0, leaf);
        if self.old_size == Some(self.edge.size()) {
            self.old_root = Some(self.edge.root());
        }
    }

    fn hash(&mut self, level: u8, hash: Digest) {
        if self.levels.len() <= usize::from(level) {
            self.levels.push((0, Vec::new()));
        }
        let Some((index, hashes)) = self.levels.get_mut(usize::from(level)) else { return };
        hashes.push(hash);
        if hashes.len() as u64 == ENTRIES_PER_BUNDLE {
            let (at, full) = (*index, std::mem::take(hashes));
            *index += 1;
            self.compare(level, at, &full);
            self.hash(level + 1, root_of(&full));
        }
    }

    /// Compares a tile, and what is left of its earlier sizes, with the hashes that the entries give.
    fn compare(&mut self, level: u8, index: u64, hashes: &[Digest]) {
        let tile = Tile { level: Some(level), index, width: u16::try_from(hashes.len()).unwrap_or(u16::MAX) };
        let expected: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        self.tiles += 1;
        match file::read_tile(self.folder, tile) {
            Err(fault) => self.tile_faults.add(fault),
            Ok((found, bytes)) => {
                let first = tile_difference(&bytes, &expected, found == tile);
                if let Some(offset) = first {
                    let entry = (index * ENTRIES_PER_BUNDLE + offset) << (8 * level);
                    self.tile_faults.add(Fault::new(found.path(), Reason::Tile).at(entry));
                }
            }
        }
        for earlier in earlier_sizes(self.folder, tile) {
            let expected = expected.get(..32 * usize::from(earlier.width));
            self.earlier(earlier, expected);
        }
    }

    fn earlier_bundles(&mut self, bundle: Tile, entries: &[&[u8]]) {
        for earlier in earlier_sizes(self.folder, bundle) {
            let expected =
                entries.get(..earlier.width.into()).and_then(|some| encode_bundle(some.iter().copied()));
            self.earlier(earlier, expected.as_deref());
        }
    }

    fn earlier(&mut self, tile: Tile, expected: Option<&[u8]>) {
        self.tiles += u64::from(tile.level.is_some());
        match file::read_tile(self.folder, tile) {
            Err(fault) => self.tile_faults.add(fault),
            Ok((_, bytes)) if Some(&bytes[..]) == expected => {}
            Ok(_) => self.tile_faults.add(Fault::new(tile.path(), Reason::Partial)),
        }
    }

    fn judge(&mut self, checkpoint: &Checkpoint, whole: bool, report: &mut Report) {
        let take = std::mem::take::<Faults>;
        let size = self.edge.size();
        report.add(Check::new("entries", format!("{size} read"), take(&mut self.entry_faults)));
        let records = format!("{size} are canonical JSON");
        report.add(Check::new("records", records, take(&mut self.record_faults)));
        let tiles = format!("{} compared with the entries", self.tiles);
        report.add(Check::new("tiles", tiles, take(&mut self.tile_faults)));
        if whole {
            let differs = self.edge.root() != checkpoint.root;
            let fault = differs.then(|| Fault::new(CHECKPOINT, Reason::Root));
            report.add(Check::new("root", "the entries give the signed root", fault.into()));
        } else {
            report.add(Check::not_made("root"));
        }
    }
}

/// Where `found` departs from `expected`, counted in hashes. `exact`: it may not be longer either.
fn tile_difference(found: &[u8], expected: &[u8], exact: bool) -> Option<u64> {
    let mut place = (0..).zip(expected.chunks(32)).zip(found.chunks(32));
    if let Some(((offset, _), _)) = place.find(|((_, expected), found)| expected != found) {
        return Some(offset);
    }
    let fits =
        if exact { found.len() == expected.len() } else { found.len() as u64 == 32 * ENTRIES_PER_BUNDLE };
    (!fits).then(|| (found.len().min(expected.len()) / 32) as u64)
}

/// The partial files of smaller sizes that still lie beside `tile`, at most 255. What else lies there the survey tells.
fn earlier_sizes(folder: &Path, tile: Tile) -> Vec<Tile> {
    let partials = format!("{}.p", tile.full().path());
    let Ok(listing) = fs::read_dir(folder.join(&partials)) else { return Vec::new() };
    let names = listing.filter_map(|item| item.ok()?.file_name().into_string().ok());
    let mut earlier: Vec<Tile> = names.filter_map(|name| format!("{partials}/{name}").parse().ok()).collect();
    earlier.retain(|earlier| earlier.width < tile.width);
    earlier.sort_unstable();
    earlier
}

/// The entry as JSON, if it is one object in canonical form.
pub(crate) fn canonical_object(entry: &[u8]) -> Option<Value> {
    let value = json::parse(entry, ENTRY_LIMITS).ok().filter(Value::is_object)?;
    json::canonical(&value).is_ok_and(|canonical| canonical == entry).then_some(value)
}
