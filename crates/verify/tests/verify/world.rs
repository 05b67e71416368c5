//! A log on disk.

use std::fs;
use std::path::{Path, PathBuf};

use bartizan_ledger::{Appender, Checkpoint, NoteSigner, VerifierKey};
use bartizan_verify::{Reason, Report, verify_directory};
use tempfile::TempDir;

pub(crate) const ORIGIN: &str = "log.example/default/2026q4";

pub(crate) struct Log {
    pub(crate) folder: TempDir,
    appender: Appender,
}

pub(crate) fn signer() -> NoteSigner {
    NoteSigner::from_seed(ORIGIN, &[7; 32]).unwrap()
}

pub(crate) fn key() -> VerifierKey {
    signer().verifier().clone()
}

/// Another key under the log's name.
pub(crate) fn other_signer() -> NoteSigner {
    NoteSigner::from_seed(ORIGIN, &[8; 32]).unwrap()
}

pub(crate) fn other_key() -> VerifierKey {
    other_signer().verifier().clone()
}

pub(crate) fn entry(index: u64) -> Vec<u8> {
    format!("{{\"kind\":\"test\",\"seq\":{index}}}").into_bytes()
}

impl Log {
    pub(crate) fn of(size: u64) -> Self {
        let mut log = Self { folder: tempfile::tempdir().unwrap(), appender: Appender::new() };
        log.grow_to(size);
        log
    }

    /// Appends entries, writes the files, publishes a checkpoint and returns it.
    pub(crate) fn grow_to(&mut self, size: u64) -> Vec<u8> {
        self.grow_with(size, entry)
    }

    pub(crate) fn grow_with(&mut self, size: u64, entry: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
        self.write_to(size, entry);
        let note = self.checkpoint();
        fs::write(self.path("checkpoint"), &note).unwrap();
        note
    }

    /// As `grow_with`, without publishing.
    pub(crate) fn write_to(&mut self, size: u64, entry: impl Fn(u64) -> Vec<u8>) {
        for index in self.appender.size()..size {
            self.appender.append(&entry(index)).unwrap();
        }
        for file in self.appender.take_files() {
            let path = self.path(&file.tile.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file.bytes).unwrap();
        }
    }

    pub(crate) fn checkpoint(&self) -> Vec<u8> {
        let (size, root) = (self.appender.size(), self.appender.root());
        Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&signer()).into_bytes()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn verify(&self, old: Option<&[u8]>) -> Report {
        verify_directory(self.folder.path(), &key(), old)
    }

    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Every file, by its path under the log's folder, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut out = Vec::new();
        walk(self.folder.path(), &mut out);
        out.sort();
        out.iter().map(|path| path.strip_prefix(self.folder.path()).unwrap().display().to_string()).collect()
    }
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { walk(&path, out) } else { out.push(path) }
    }
}

/// All faults of a report: which check, which file, which entry, why.
pub(crate) fn faults(report: &Report) -> Vec<(&str, &str, Option<u64>, Reason)> {
    let checks = report.checks.iter();
    checks.flat_map(|c| c.faults.iter().map(|f| (c.about, f.file.as_str(), f.entry, f.reason))).collect()
}
