//! What runs code: declared in the configuration file, and nowhere else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bartizan_base::{Digest, Name};
use serde::Deserialize;

use crate::bounds::Bounds;

/// The largest file of a runtime, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What a runtime takes from callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accepts {
    /// Source, which the module of the configuration runs.
    #[default]
    Source,
    /// A module, which is run itself.
    Module,
}

/// A runtime as the configuration declares it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeSpec {
    /// What it takes.
    #[serde(default)]
    pub accepts: Accepts,
    /// The module that runs source: a file of WebAssembly for WASI preview 1.
    pub file: Option<PathBuf>,
    /// Its SHA-256. A file that is another one is refused.
    pub digest: Option<Digest>,
    /// The modules that may be sent, by digest; without, policy alone says which.
    pub approved: Option<BTreeSet<Digest>>,
    /// What the program is started with, its own name first.
    #[serde(default = "arguments")]
    pub arguments: Vec<String>,
    /// The function that is called: `_start` of a command, or of a library one like `main`, which takes the count and the place of
    /// its arguments.
    #[serde(default = "entry")]
    pub entry: String,
    /// The file of the scratch in which the source lies.
    #[serde(default = "source")]
    pub source: String,
    /// Bounds of its runs.
    #[serde(default)]
    pub bounds: Bounds,
}

fn arguments() -> Vec<String> {
    vec!["program".to_owned(), "/source".to_owned()]
}

fn entry() -> String {
    "_start".to_owned()
}

fn source() -> String {
    "source".to_owned()
}

/// What is wrong with a runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A runtime for source without the file that runs it, or without its digest.
    #[error("`file` and `digest` are needed of a runtime that accepts source")]
    Fileless,
    /// A file where nothing of it would be run, or a list of modules where none are taken.
    #[error("`file` and `digest` go with `accepts = \"source\"`, `approved` with `accepts = \"module\"`")]
    Beside,
    /// A bound that is none.
    #[error("`bounds.{name}` must be from {least} to {most}")]
    Bound {
        /// Which.
        name: &'static str,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// Arguments or a file of the source that no program can be given.
    #[error("`{0}` cannot be had")]
    Words(&'static str),
    /// The file cannot be read.
    #[error("{path}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("{0} is longer than {FILE_BYTES_MAX} bytes")]
    TooLarge(String),
    /// The file is another one.
    #[error("{path} has the digest {found}, not the one that is configured")]
    Other {
        /// Which.
        path: String,
        /// What it has.
        found: Digest,
    },
}

/// A runtime whose file was read, and was the one that is meant.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// What it is called.
    pub name: Name,
    /// As it is declared.
    pub spec: RuntimeSpec,
    /// Its module; empty where callers send theirs.
    #[cfg_attr(not(feature = "code"), expect(dead_code, reason = "there is nothing that could run it"))]
    pub(crate) module: Arc<[u8]>,
}

impl RuntimeSpec {
    /// What is wrong with it, apart from its file.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), RuntimeError> {
        if let Some((name, least, most)) = self.bounds.misfit() {
            return Err(RuntimeError::Bound { name, least, most });
        }
        let sourced = self.accepts == Accepts::Source;
        if sourced && (self.file.is_none() || self.digest.is_none()) {
            return Err(RuntimeError::Fileless);
        }
        if (!sourced && (self.file.is_some() || self.digest.is_some()))
            || (sourced && self.approved.is_some())
        {
            return Err(RuntimeError::Beside);
        }
        let whole = |text: &String| text.len() <= 4_096 && !text.contains('\0');
        if self.arguments.is_empty() || self.arguments.len() > 64 || !self.arguments.iter().all(whole) {
            return Err(RuntimeError::Words("arguments"));
        }
        if !crate::run::is_place(&self.source) {
            return Err(RuntimeError::Words("source"));
        }
        Ok(())
    }

    /// Reads its file.
    ///
    /// # Errors
    /// When something of it cannot be had, or the file is another one than is meant.
    pub fn open(&self, name: &Name) -> Result<Runtime, RuntimeError> {
        self.check()?;
        let module = match (&self.file, &self.digest) {
            (Some(file), Some(digest)) => read(file, digest)?.into(),
            _ => Arc::default(),
        };
        Ok(Runtime { name: name.clone(), spec: self.clone(), module })
    }
}

fn read(file: &Path, meant: &Digest) -> Result<Vec<u8>, RuntimeError> {
    let path = file.display().to_string();
    let unreadable = |source| RuntimeError::Unreadable { path: path.clone(), source };
    let length = std::fs::metadata(file).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        return Err(RuntimeError::TooLarge(path));
    }
    let bytes = std::fs::read(file).map_err(unreadable)?;
    let found = Digest::of(&bytes);
    if found != *meant { Err(RuntimeError::Other { path, found }) } else { Ok(bytes) }
}
