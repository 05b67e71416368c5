//! What is run, and what comes of it.

use std::collections::BTreeMap;

use bartizan_base::Digest;
use bartizan_model::ReasonCode;

use crate::runtime::{Accepts, Runtime};

/// The longest path in a scratch, and the longest name in it, in bytes.
pub(crate) const PATH_MAX: usize = 1_024;
pub(crate) const NAME_MAX: usize = 255;
/// How deep folders may lie in a scratch.
pub(crate) const DEPTH_MAX: usize = 16;

/// What a caller sent to be run.
#[derive(Clone, PartialEq, Eq)]
pub enum Program {
    /// Source for the module of a runtime.
    Source(String),
    /// A module of WebAssembly.
    Module(Vec<u8>),
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, bytes) = match self {
            Self::Source(text) => ("Source", text.len()),
            Self::Module(bytes) => ("Module", bytes.len()),
        };
        f.debug_tuple(kind).field(&bytes).finish()
    }
}

impl Program {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Source(text) => text.as_bytes(),
            Self::Module(bytes) => bytes,
        }
    }

    /// SHA-256 of them.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.bytes())
    }
}

/// One run of a program.
#[derive(Clone)]
pub struct Run {
    pub(crate) runtime: Runtime,
    pub(crate) program: Program,
    pub(crate) stdin: Vec<u8>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("runtime", &self.runtime.name)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// Why it is not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The runtime takes the other kind of program.
    #[error("this runtime takes {0}")]
    Kind(&'static str),
    /// A path that cannot lie in a scratch.
    #[error("`{0}` is no path of a file in the scratch: give names separated by `/`, and no `.` or `..`")]
    Path(String),
    /// Two files where only one can lie.
    #[error("`{0}` cannot lie beside the other files")]
    Twice(String),
    /// More than the scratch holds.
    #[error("the files are more than the scratch holds: {0} bytes in {1} files and folders")]
    TooMuch(u64, u64),
    /// A module larger than is taken.
    #[error("the module is longer than {0} bytes")]
    TooLarge(u64),
    /// A module that nobody has approved.
    #[error("the module {0} is not approved for this runtime")]
    Unapproved(Digest),
    /// What nobody could run.
    #[error("{0}")]
    Unfit(String),
}

/// Whether it is the path of a file in a scratch: names separated by slashes, below the scratch and nowhere else.
pub(crate) fn is_place(path: &str) -> bool {
    let name = |name: &str| {
        !matches!(name, "" | "." | "..")
            && name.len() <= NAME_MAX
            && !name.contains(|c: char| c.is_control() || c == '\\')
    };
    path.len() <= PATH_MAX && path.split('/').count() <= DEPTH_MAX && path.split('/').all(name)
}

impl Run {
    /// A run of `program`, with `files` in its scratch.
    ///
    /// # Errors
    /// When the runtime does not take it.
    pub fn new(
        runtime: &Runtime,
        program: Program,
        stdin: Vec<u8>,
        files: BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, RunError> {
        let spec = &runtime.spec;
        if let Some(wrong) = files.keys().find(|path| !is_place(path)) {
            return Err(RunError::Path(wrong.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect()));
        }
        match (spec.accepts, &program) {
            (Accepts::Source, Program::Module(_)) => return Err(RunError::Kind("`source`")),
            (Accepts::Module, Program::Source(_)) => return Err(RunError::Kind("a `module`")),
            (Accepts::Source, Program::Source(_)) if files.contains_key(&spec.source) => {
                return Err(RunError::Twice(spec.source.clone()));
            }
            (Accepts::Source, Program::Source(_)) => {}
            (Accepts::Module, Program::Module(bytes)) => {
                if bytes.len() as u64 > spec.bounds.module_bytes {
                    return Err(RunError::TooLarge(spec.bounds.module_bytes));
                }
                let digest = program.digest();
                if spec.approved.as_ref().is_some_and(|approved| !approved.contains(&digest)) {
                    return Err(RunError::Unapproved(digest));
                }
            }
        }
        Ok(Self { runtime: runtime.clone(), program, stdin, files })
    }

    /// What it is recorded by: a digest of the runtime, its module and arguments, and of everything that the program is given.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let spec = &self.runtime.spec;
        let mut parts: Vec<Digest> = vec![
            Digest::of(b"bartizan code run"),
            Digest::of(self.runtime.name.as_bytes()),
            spec.digest.unwrap_or(Digest::EMPTY),
            Digest::of(spec.entry.as_bytes()),
            Digest::of(spec.source.as_bytes()),
            self.program.digest(),
            Digest::of(&self.stdin),
            Digest::of(&(spec.arguments.len() as u64).to_be_bytes()),
        ];
        parts.extend(spec.arguments.iter().map(|argument| Digest::of(argument.as_bytes())));
        for (path, content) in &self.files {
            parts.extend([Digest::of(path.as_bytes()), Digest::of(content)]);
        }
        Digest::of_parts(&parts.iter().map(|part| &part.as_bytes()[..]).collect::<Vec<_>>())
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// It took longer than it may.
    Time,
    /// It executed more than it may.
    Fuel,
    /// It needed more memory or larger tables than it may have.
    Memory,
    /// It wrote more than it may.
    Output,
    /// It did what no program may do, in the words of the engine.
    Trap(String),
}

impl Ending {
    /// Why it did not end by itself.
    #[must_use]
    pub const fn reason(&self) -> Option<ReasonCode> {
        match self {
            Self::Exited(_) => None,
            Self::Time => Some(ReasonCode::CodeTime),
            Self::Fuel => Some(ReasonCode::CodeFuel),
            Self::Memory => Some(ReasonCode::CodeMemory),
            Self::Output => Some(ReasonCode::CodeOutput),
            Self::Trap(_) => Some(ReasonCode::CodeTrap),
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub ended: Ending,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// The files that it made or changed, by their paths.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What it executed.
    pub fuel: u64,
}
