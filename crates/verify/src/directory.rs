//! A log folder, file by file.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bartizan_base::{Digest, json};
use bartizan_ledger::{
    Checkpoint, CheckpointError, RightEdge, Tile, VerifierKey, bundle_entries, leaf_hash, root_of,
};
use serde::Serialize;

/// The longest file that is read: a bundle of 256 entries of 65,535 bytes.
const FILE_MAX: u64 = 256 * (65_535 + 2);

/// What was checked, line by line.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether everything holds.
    pub ok: bool,
    /// The log's name.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The checks in order; the last one failed unless `ok`.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What.
    pub what: String,
    /// Whether it holds.
    pub ok: bool,
}

/// The first thing that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is longer than any of its kind may be.
    #[error("{0}: longer than such a file may be")]
    TooLong(PathBuf),
    /// The checkpoint is not one of this log.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A bundle is cut or holds another number of entries.
    #[error("{0}: does not hold the entries it should")]
    Bundle(String),
    /// An entry is not canonical JSON.
    #[error("entry {0}: not a canonical record")]
    Entry(u64),
    /// A tile holds other hashes than the entries give.
    #[error("{0}: holds other hashes than the entries give")]
    Tile(String),
    /// The entries do not give the signed root.
    #[error("the entries give another root than the checkpoint was signed over")]
    Root,
    /// An older checkpoint is not a beginning of this log.
    #[error("the log does not extend the older checkpoint: history was rewritten")]
    Fork,
}

impl Report {
    fn passed(&mut self, what: String) {
        self.checks.push(Check { what, ok: true });
    }
}

/// Verifies the log in `folder` against the log's key, and that it extends `old` where that is given (a signed
/// checkpoint). Every entry is hashed again, every tile compared, the root held against the signature.
#[must_use]
pub fn verify_directory(folder: &Path, key: &VerifierKey, old: Option<&[u8]>) -> Report {
    let mut report = Report { origin: key.name().to_owned(), ..Report::default() };
    match verify(folder, key, old, &mut report) {
        Ok(()) => report.ok = true,
        Err(fault) => report.checks.push(Check { what: fault.to_string(), ok: false }),
    }
    report
}

fn verify(folder: &Path, key: &VerifierKey, old: Option<&[u8]>, report: &mut Report) -> Result<(), Fault> {
    let checkpoint = Checkpoint::open(&read(&folder.join("checkpoint"))?, key)?;
    report.size = checkpoint.size;
    report.passed(format!("checkpoint: signed by {}, {} entries", key.name(), checkpoint.size));
    let old = old.map(|note| Checkpoint::open(note, key)).transpose()?;
    let mut old_holds = old.as_ref().is_none_or(|o| o.size == 0);

    let mut edge = RightEdge::new();
    let mut levels = Levels::new(folder);
    for tile in bartizan_ledger::tiles_for(checkpoint.size).into_iter().filter(|t| t.level.is_none()) {
        let bytes = read_tile(folder, tile)?;
        let entries = bundle_entries(&bytes).ok_or_else(|| Fault::Bundle(tile.path()))?;
        if entries.len() < usize::from(tile.width) {
            return Err(Fault::Bundle(tile.path()));
        }
        for entry in entries.into_iter().take(usize::from(tile.width)) {
            let canonical =
                json::parse(entry, json::Limits::default()).and_then(|value| json::canonical(&value));
            if canonical.as_deref() != Ok(entry) {
                return Err(Fault::Entry(edge.size()));
            }
            let leaf = leaf_hash(entry);
            edge.append(leaf);
            levels.add(0, leaf)?;
            if old.as_ref().is_some_and(|o| o.size == edge.size()) {
                old_holds = old.as_ref().is_some_and(|o| o.root == edge.root());
            }
        }
    }
    report.passed(format!("entries: {} read, each a canonical record", edge.size()));
    levels.finish()?;
    report.passed(format!("tiles: {} compared with the entries", levels.compared));
    if edge.root() != checkpoint.root {
        return Err(Fault::Root);
    }
    report.passed("root: the entries give the signed root".to_owned());
    if let Some(old) = old {
        if !old_holds {
            return Err(Fault::Fork);
        }
        report.passed(format!("history: extends the older checkpoint of {} entries", old.size));
    }
    Ok(())
}

/// Tiles are compared as they fill, so that memory stays at one tile a level.
struct Levels<'a> {
    folder: &'a Path,
    levels: Vec<(u64, Vec<Digest>)>,
    compared: u64,
}

impl<'a> Levels<'a> {
    const fn new(folder: &'a Path) -> Self {
        Self { folder, levels: Vec::new(), compared: 0 }
    }

    fn add(&mut self, level: usize, hash: Digest) -> Result<(), Fault> {
        if self.levels.len() == level {
            self.levels.push((0, Vec::new()));
        }
        let Some((index, hashes)) = self.levels.get_mut(level) else { return Ok(()) };
        hashes.push(hash);
        if hashes.len() < 256 {
            return Ok(());
        }
        let full = std::mem::take(hashes);
        let at = *index;
        *index += 1;
        self.compare(level, at, &full)?;
        self.add(level + 1, root_of(&full))
    }

    fn finish(&mut self) -> Result<(), Fault> {
        let rest: Vec<_> =
            self.levels.iter_mut().map(|(index, hashes)| (*index, std::mem::take(hashes))).collect();
        for (level, (index, hashes)) in rest.into_iter().enumerate() {
            if !hashes.is_empty() {
                self.compare(level, index, &hashes)?;
            }
        }
        Ok(())
    }

    fn compare(&mut self, level: usize, index: u64, hashes: &[Digest]) -> Result<(), Fault> {
        let width = u16::try_from(hashes.len()).unwrap_or(256);
        let tile = Tile { level: Some(u8::try_from(level).unwrap_or(u8::MAX)), index, width };
        let expected: Vec<u8> = hashes.iter().flat_map(|h| *h.as_bytes()).collect();
        let found = read_tile(self.folder, tile)?;
        if found.get(..expected.len()) != Some(&expected[..]) {
            return Err(Fault::Tile(tile.path()));
        }
        self.compared += 1;
        Ok(())
    }
}

/// A tile or bundle; where the partial one is gone, the full one that replaced it.
fn read_tile(folder: &Path, tile: Tile) -> Result<Vec<u8>, Fault> {
    let path = folder.join(tile.path());
    let full = folder.join(Tile { width: 256, ..tile }.path());
    if !path.exists() && full.exists() { read(&full) } else { read(&path) }
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let io = |source| Fault::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(io)?.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_MAX { Err(Fault::TooLong(path.to_owned())) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_ledger::{NoteSigner, encode_bundle, tiles_for};

    fn write_log(folder: &Path, size: u64, signer: &NoteSigner) -> Vec<Vec<u8>> {
        let entries: Vec<Vec<u8>> = (0..size).map(|i| format!("{{\"n\":{i}}}").into_bytes()).collect();
        let mut rows: Vec<Vec<Digest>> = vec![entries.iter().map(|e| leaf_hash(e)).collect()];
        while rows.last().unwrap().len() >= 256 {
            rows.push(rows.last().unwrap().chunks_exact(256).map(root_of).collect());
        }
        for tile in tiles_for(size) {
            let start = usize::try_from(tile.index * 256).unwrap();
            let range = start..start + usize::from(tile.width);
            let bytes = match tile.level {
                Some(level) => rows[usize::from(level)][range].iter().flat_map(|h| *h.as_bytes()).collect(),
                None => encode_bundle(entries[range].iter().map(Vec::as_slice)).unwrap(),
            };
            let path = folder.join(tile.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let checkpoint =
            Checkpoint { origin: signer.verifier().name().to_owned(), size, root: root_of(&rows[0]) };
        fs::write(folder.join("checkpoint"), checkpoint.sign(signer)).unwrap();
        entries
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut out = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { out.extend(files(&path)) } else { out.push(path) }
        }
        out.sort();
        out
    }

    #[test]
    fn good_logs_verify_at_border_sizes() {
        let signer = NoteSigner::from_seed("example.org/log", &[1; 32]).unwrap();
        for size in [0, 1, 2, 255, 256, 257, 1000] {
            let folder = tempfile::tempdir().unwrap();
            write_log(folder.path(), size, &signer);
            let report = verify_directory(folder.path(), signer.verifier(), None);
            assert!(report.ok, "{size}: {report:?}");
        }
    }

    #[test]
    fn every_tampered_file_is_noticed() {
        let signer = NoteSigner::from_seed("example.org/log", &[1; 32]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write_log(folder.path(), 300, &signer);
        for path in files(folder.path()) {
            let good = fs::read(&path).unwrap();
            for at in (0..good.len()).step_by(97) {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                fs::write(&path, bad).unwrap();
                let report = verify_directory(folder.path(), signer.verifier(), None);
                assert!(!report.ok, "{} byte {at}", path.display());
            }
            fs::write(&path, &good[..good.len() - 1]).unwrap();
            assert!(!verify_directory(folder.path(), signer.verifier(), None).ok, "{} cut", path.display());
            fs::remove_file(&path).unwrap();
            assert!(!verify_directory(folder.path(), signer.verifier(), None).ok, "{} gone", path.display());
            fs::write(&path, good).unwrap();
        }
        assert!(verify_directory(folder.path(), signer.verifier(), None).ok);
    }

    #[test]
    fn a_fork_signed_by_the_real_key_does_not_extend_the_older_checkpoint() {
        let signer = NoteSigner::from_seed("example.org/log", &[1; 32]).unwrap();
        let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_log(before.path(), 10, &signer);
        write_log(after.path(), 20, &signer);
        let old = fs::read(before.path().join("checkpoint")).unwrap();
        assert!(verify_directory(after.path(), signer.verifier(), Some(&old)).ok);
        let forked = Checkpoint { origin: "example.org/log".to_owned(), size: 10, root: Digest::of(b"fork") }
            .sign(&signer);
        let report = verify_directory(after.path(), signer.verifier(), Some(forked.as_bytes()));
        assert!(!report.ok && report.checks.last().unwrap().what.contains("rewritten"));
    }
}
