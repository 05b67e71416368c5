//! What a monitor remembers between two runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bartizan_base::json;
use bartizan_ledger::{Checkpoint, VerifierKey, empty_root};
use serde::{Deserialize, Serialize};

use crate::directory::open;
use crate::file;
use crate::report::{Fault, Reason};

/// The version of the form below.
const VERSION: u32 = 1;

/// The longest state that is read, in bytes.
const STATE_MAX: usize = 256 << 20;

const LIMITS: json::Limits = json::Limits { bytes_max: STATE_MAX, depth_max: 8, nodes_max: STATE_MAX };

/// How many breaks of sequence are remembered one by one.
pub(crate) const BREAKS_MAX: usize = 1_000;

/// What a monitor has verified so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    v: u32,
    /// The log's key.
    key: String,
    /// The last signed checkpoint that was verified; none before the first.
    pub(crate) checkpoint: Option<String>,
    /// By node the number that its next record must have.
    pub(crate) nodes: BTreeMap<String, u64>,
    /// Intents whose outcome was not seen, by decision.
    pub(crate) open: BTreeMap<String, Intent>,
    /// Where numbers were not consecutive. Kept, so that it is told at every run: no later entry mends it.
    pub(crate) breaks: Vec<Break>,
}

/// An intent without outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intent {
    pub(crate) entry: u64,
    pub(crate) time_us: u64,
}

/// A number that is not the one after a node's last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Break {
    pub(crate) node: String,
    pub(crate) entry: u64,
    pub(crate) expected: u64,
    pub(crate) found: u64,
}

impl State {
    fn new(key: &VerifierKey) -> Self {
        Self {
            v: VERSION,
            key: key.to_string(),
            checkpoint: None,
            nodes: BTreeMap::new(),
            open: BTreeMap::new(),
            breaks: Vec::new(),
        }
    }

    /// Reads the state of the log of `key`, with the checkpoint in it verified; `None` if there is no file. A file that
    /// is anything else is a fault: starting afresh would forget what was seen.
    pub(crate) fn read(path: &Path, key: &VerifierKey) -> Result<Option<(Self, Checkpoint)>, Fault> {
        let name = path.display().to_string();
        let bytes = match file::read_given(path, STATE_MAX as u64) {
            Ok(bytes) => bytes,
            Err(fault) if fault.reason == Reason::Missing => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let state: Self = json::parse_as(&bytes, LIMITS)
            .map_err(|error| Fault::new(&*name, Reason::State).because(error))?;
        if state.v != VERSION || state.key != key.to_string() {
            return Err(Fault::new(name, Reason::State).because("it is of another log or version"));
        }
        let checkpoint = match &state.checkpoint {
            Some(note) => open(note.as_bytes(), key, &name)?,
            None => return Err(Fault::new(name, Reason::State).because("it holds no checkpoint")),
        };
        Ok(Some((state, checkpoint)))
    }

    /// The state before anything was seen.
    pub(crate) fn first(key: &VerifierKey) -> (Self, Checkpoint) {
        let origin = key.name().to_owned();
        (Self::new(key), Checkpoint { origin, size: 0, root: empty_root() })
    }

    /// Replaces the file at once and durably: whoever reads it finds the old state or the new one, whole.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Fault> {
        let failed =
            |error: io::Error| Fault::new(path.display().to_string(), Reason::Unwritten).because(error);
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let bytes = json::canonical(self).map_err(|error| failed(io::Error::other(error)))?;
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
        };
        write().map_err(failed)
    }
}
