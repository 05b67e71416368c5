//! Archives of past periods: how they are made, and how the node looks at them before it removes what they hold.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_control::Archives;
use bartizan_ledger::VerifierKey;
use bartizan_record::{ClosedLog, period_is_over};
use bartizan_verify::{Demand, Report, verify_log};

use crate::config;

/// What every log has beside `tile/`.
const BESIDE: [&str; 2] = ["checkpoint", "key.vkey"];

/// Where this node finds archives.
#[derive(Debug)]
pub(crate) struct Archived {
    folder: Option<PathBuf>,
    keep: Option<Duration>,
}

/// Why no archive was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// What was asked for.
    #[error("{0}")]
    Arguments(String),
    /// A file or folder.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
}

impl Archived {
    pub(crate) fn new(config: &config::Record) -> Self {
        Self { folder: config.archives.clone(), keep: config.keep }
    }
}

impl Archives for Archived {
    fn keep(&self) -> Option<Duration> {
        self.keep
    }

    fn verify(&self, log: &ClosedLog) -> Result<String, String> {
        let folder = self.folder.as_ref().ok_or("`record.archive_folder` is not set")?.join(&log.name);
        let shown = folder.display().to_string();
        let identity = |path: &Path| fs::symlink_metadata(path).map(|m| (m.is_dir(), m.dev(), m.ino()));
        let archive = identity(&folder).map_err(|error| format!("{shown}: {error}"))?;
        let own = identity(&log.folder).map_err(|error| error.to_string())?;
        if !archive.0 || archive == own {
            return Err(format!("{shown} is the log's own folder, or no folder"));
        }
        let key: VerifierKey =
            log.verifier.parse().map_err(|_| "this node's key cannot be read".to_owned())?;
        // Of the same size, the checkpoint that is to be extended must be the same.
        let old = Some(log.checkpoint.as_bytes());
        let report = verify_log(&folder, &Demand { key: &key, old, policy: None, growing: false });
        if !report.ok {
            let failed = report.checks.iter().find(|check| !check.ok);
            return Err(failed.map_or_else(|| shown.clone(), |check| format!("{shown}: {}", check.what)));
        }
        if report.size != log.size {
            return Err(format!("{shown} holds {} entries, the log {}", report.size, log.size));
        }
        Ok(shown)
    }
}

/// Copies the log in `log`, whose period must be over, to `to/TENANT/PERIOD`: under that name only once the copy is durable
/// and verifies. An archive that is there already is verified, and not touched.
pub(crate) fn archive(
    log: &Path,
    to: &Path,
    key: &VerifierKey,
    now: Timestamp,
) -> Result<Report, ArchiveError> {
    let wrong = |what: &str| ArchiveError::Arguments(format!("{}: {what}", log.display()));
    let name = |path: Option<&Path>| path.and_then(Path::file_name)?.to_str().map(str::to_owned);
    let full = log.canonicalize().map_err(|error| ArchiveError::Io(log.to_owned(), error))?;
    let (Some(period), Some(tenant)) = (name(Some(&full)), name(full.parent())) else {
        return Err(wrong("not the folder of a log: expected `…/log/TENANT/PERIOD`"));
    };
    match period_is_over(&period, now) {
        Some(true) => {}
        Some(false) => return Err(wrong("the period is not over")),
        None => return Err(wrong("not the folder of a period, such as `2026q4`")),
    }
    let last = fs::read(full.join("checkpoint")).map_err(|e| ArchiveError::Io(full.join("checkpoint"), e))?;
    let verify =
        |folder: &Path| verify_log(folder, &Demand { key, old: Some(&last), policy: None, growing: false });
    let home = to.join(tenant);
    let place = home.join(&period);
    if place.exists() {
        return Ok(verify(&place));
    }
    let draft = home.join(format!(".{period}.draft"));
    if let Err(error) = fs::remove_dir_all(&draft)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(ArchiveError::Io(draft, error));
    }
    make(&draft)?;
    for name in BESIDE {
        copy(&full.join(name), &draft.join(name))?;
    }
    copy_folder(&full.join("tile"), &draft.join("tile"))?;
    sync(&draft)?;
    let report = verify(&draft);
    if report.ok {
        fs::rename(&draft, &place).map_err(|error| ArchiveError::Io(place.clone(), error))?;
        sync(&home)?;
        sync(to)?;
    } else {
        fs::remove_dir_all(&draft).map_err(|error| ArchiveError::Io(draft.clone(), error))?;
    }
    Ok(report)
}

fn make(folder: &Path) -> Result<(), ArchiveError> {
    fs::create_dir_all(folder).map_err(|error| ArchiveError::Io(folder.to_owned(), error))
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    make(to)?;
    let io = |error| ArchiveError::Io(from.to_owned(), error);
    for entry in fs::read_dir(from).map_err(io)? {
        let entry = entry.map_err(io)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        // What is neither is for the verifier to refuse, which demands every file.
        match entry.file_type().map_err(io)? {
            kind if kind.is_dir() => copy_folder(&from, &to)?,
            kind if kind.is_file() => copy(&from, &to)?,
            _ => {}
        }
    }
    sync(to)
}

fn copy(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    let io = |error| ArchiveError::Io(from.to_owned(), error);
    fs::copy(from, to).map_err(io)?;
    File::open(to).and_then(|file| file.sync_all()).map_err(io)
}

fn sync(folder: &Path) -> Result<(), ArchiveError> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(|error| ArchiveError::Io(folder.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_ledger::{Appender, Checkpoint, NoteSigner};

    /// A log of `size` entries in `folder/log/default/PERIOD`.
    fn log(folder: &Path, period: &str, size: u64) -> (PathBuf, NoteSigner) {
        let origin = format!("log.example/default/{period}");
        let signer = NoteSigner::from_seed(&origin, &[7; 32]).unwrap();
        let path = folder.join("log/default").join(period);
        let mut appender = Appender::new();
        for n in 0..size {
            appender.append(format!(r#"{{"seq":{n}}}"#).as_bytes()).unwrap();
        }
        for file in appender.take_files() {
            let path = path.join(file.tile.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file.bytes).unwrap();
        }
        let head = Checkpoint { origin, size, root: appender.root() };
        fs::write(path.join("checkpoint"), head.sign(&signer)).unwrap();
        fs::write(path.join("key.vkey"), format!("{}\n", signer.verifier())).unwrap();
        (path, signer)
    }

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2027-01-01T00:00:00Z").unwrap()
    }

    #[test]
    fn an_archive_is_the_whole_log_and_has_its_name_only_once_it_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("archives");
        let (path, signer) = log(folder.path(), "2026q4", 300);
        // What an earlier attempt has left is no part of it.
        fs::create_dir_all(to.join("default/.2026q4.draft/tile/0")).unwrap();
        fs::write(to.join("default/.2026q4.draft/tile/0/001"), "rest").unwrap();
        let report = archive(&path, &to, signer.verifier(), now()).unwrap();
        assert!(report.ok && report.size == 300, "{report}");
        fs::remove_dir_all(&path).unwrap();
        let archived = to.join("default/2026q4");
        let demand = Demand { key: signer.verifier(), old: None, policy: None, growing: false };
        assert!(verify_log(&archived, &demand).ok);
        assert!(!to.join("default/.2026q4.draft").exists());
        // Once more: what is there is verified, and never written over.
        log(folder.path(), "2026q4", 300);
        assert!(archive(&path, &to, signer.verifier(), now()).unwrap().ok);
        log(folder.path(), "2026q4", 301);
        let behind = archive(&path, &to, signer.verifier(), now()).unwrap();
        assert!(!behind.ok && behind.size == 300, "{behind}");
    }

    #[test]
    fn a_log_that_does_not_verify_becomes_no_archive() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("archives");
        let (path, signer) = log(folder.path(), "2026q4", 300);
        let other = NoteSigner::from_seed("log.example/default/2026q4", &[8; 32]).unwrap();
        assert!(!archive(&path, &to, other.verifier(), now()).unwrap().ok);
        let bundle = path.join("tile/entries/000");
        let mut bytes = fs::read(&bundle).unwrap();
        bytes[40] ^= 1;
        fs::write(&bundle, bytes).unwrap();
        assert!(!archive(&path, &to, signer.verifier(), now()).unwrap().ok);
        fs::remove_file(&bundle).unwrap();
        // A link is not followed, whatever it leads to.
        std::os::unix::fs::symlink(path.join("checkpoint"), &bundle).unwrap();
        assert!(!archive(&path, &to, signer.verifier(), now()).unwrap().ok);
        assert_eq!(fs::read_dir(to.join("default")).unwrap().count(), 0);
    }

    #[test]
    fn the_open_period_and_what_is_no_period_are_not_archived() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("archives");
        for period in ["2027q1", "all", "latest"] {
            let (path, signer) = log(folder.path(), period, 3);
            let refused = archive(&path, &to, signer.verifier(), now()).unwrap_err();
            assert!(matches!(refused, ArchiveError::Arguments(_)), "{refused}");
        }
        let (path, signer) = log(folder.path(), "2026q4", 3);
        let early = Timestamp::from_micros(now().as_micros() - 1);
        assert!(archive(&path, &to, signer.verifier(), early).is_err());
        assert!(!to.exists());
    }
}
