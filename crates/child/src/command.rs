//! What may be run: declared in the bootstrap configuration and nowhere else.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bartizan_base::Name;
use bartizan_model::Tenant;
use bartizan_secret::Secret;
use bartizan_upstream::Credentials;
use serde::Deserialize;

/// A command, as the section `[commands.NAME]` declares it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// Its arguments, as they are.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Its environment: `text:VALUE`, `file:/absolute/path` (read at every start), or `credential:NAME` (a sealed credential of the
    /// tenant on whose behalf it runs).
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The folder it works in, which it may write to. Without, it has a scratch folder that is gone when it ends.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// Files and folders that it may read, beside `/usr` and what programs need of `/etc`.
    #[serde(default)]
    pub readable: Vec<PathBuf>,
    /// Whether it has the network of this machine, loopback included.
    #[serde(default)]
    pub network: bool,
    /// What it may use.
    #[serde(flatten)]
    pub bounds: Bounds,
}

/// What a child may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Megabytes of data of each of its processes, and of each of its scratch folders.
    pub memory_megabytes: u64,
    /// Megabytes of address space of each of its processes. None is set without: runtimes such as Node reserve far more than they use.
    pub address_space_megabytes: Option<u64>,
    /// Processes and threads at once.
    pub processes: u64,
    /// Open files of each of its processes.
    pub open_files: u64,
    /// Seconds of processor time of each of its processes.
    pub cpu_seconds: u64,
    /// Megabytes of the longest file that it may write.
    pub file_megabytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            memory_megabytes: 512,
            address_space_megabytes: None,
            processes: 64,
            open_files: 256,
            cpu_seconds: 3_600,
            file_megabytes: 256,
        }
    }
}

/// Why a command cannot be run as declared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A path must be absolute and without `.` and `..`.
    #[error("`{0}` must be an absolute path without `.` and `..`")]
    Path(PathBuf),
    /// It is not there, or cannot be looked at.
    #[error("`{0}` is not there")]
    Absent(PathBuf),
    /// It would give a view of what children never see.
    #[error("`{0}` would show the child `{1}`")]
    Overlap(PathBuf, PathBuf),
    /// A variable's name, or how its value is given.
    #[error("the variable `{0}` must be a plain name with `text:`, `file:/path` or `credential:NAME`")]
    Variable(String),
    /// A bound of zero.
    #[error("every bound must be at least 1")]
    Bound,
    /// What a variable stands for cannot be had.
    #[error("the value of the variable `{0}` cannot be had")]
    Value(String),
}

/// Of these a child sees its own, or nothing.
const OF_THE_MACHINE: [&str; 7] = ["/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/root"];

impl CommandSpec {
    /// Looks at what is declared: paths are absolute and there, and none shows what is in `hidden`: the data folder and whatever
    /// else children never see.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn check(&self, hidden: &[PathBuf]) -> Result<(), Unfit> {
        let Bounds {
            memory_megabytes,
            address_space_megabytes,
            processes,
            open_files,
            cpu_seconds,
            file_megabytes,
        } = self.bounds;
        let bounds = [memory_megabytes, processes, open_files, cpu_seconds, file_megabytes];
        if bounds.contains(&0) || address_space_megabytes == Some(0) {
            return Err(Unfit::Bound);
        }
        for (name, value) in &self.environment {
            if !is_plain(name) || Source::read(value).is_none() {
                return Err(Unfit::Variable(name.clone()));
            }
        }
        real(&self.program)?;
        // What every child sees counts, too.
        let programs = PathBuf::from("/usr");
        for path in self.readable.iter().chain(&self.folder).chain([&programs]) {
            let seen = real(path)?;
            let never = OF_THE_MACHINE.iter().map(PathBuf::from).filter_map(|p| p.canonicalize().ok());
            for hidden in hidden.iter().filter_map(|p| p.canonicalize().ok()).chain(never) {
                if hidden.starts_with(&seen) || seen.starts_with(&hidden) {
                    return Err(Unfit::Overlap(path.clone(), hidden));
                }
            }
        }
        Ok(())
    }

    /// The environment of a child that runs on behalf of a tenant: the value of each variable, and whether it is a secret.
    pub(crate) fn values(
        &self,
        tenant: &Tenant,
        credentials: &dyn Credentials,
    ) -> Result<Vec<(String, Secret<String>, bool)>, Unfit> {
        let value = |(name, text): (&String, &String)| {
            let missing = || Unfit::Value(name.clone());
            let (value, secret) = match Source::read(text).ok_or_else(|| Unfit::Variable(name.clone()))? {
                Source::Text(text) => (Secret::new(text.to_owned()), false),
                Source::File(path) => {
                    let text = std::fs::read_to_string(path).map_err(|_| missing())?;
                    (Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()), true)
                }
                Source::Credential(credential) => {
                    (credentials.credential(tenant, &credential).ok_or_else(missing)?, true)
                }
            };
            if value.expose().contains('\0') { Err(missing()) } else { Ok((name.clone(), value, secret)) }
        };
        self.environment.iter().map(value).collect()
    }
}

/// Where the value of a variable comes from.
enum Source<'a> {
    Text(&'a str),
    File(&'a Path),
    Credential(Name),
}

impl<'a> Source<'a> {
    fn read(text: &'a str) -> Option<Self> {
        match text.split_once(':')? {
            ("text", value) if !value.contains('\0') => Some(Self::Text(value)),
            ("file", path) => Some(Path::new(path)).filter(|p| p.is_absolute()).map(Self::File),
            ("credential", name) => name.parse().ok().map(Self::Credential),
            _ => None,
        }
    }
}

/// Variables that the programs around the child listen to, or the loader of every program: they run before anything is kept apart.
const AROUND: [&str; 9] =
    ["LD_", "BASH", "GLIBC_", "MALLOC_", "GCONV", "LOCPATH", "NLSPATH", "SHELLOPTS", "PS4"];

/// Whether it names a variable that only the child listens to.
fn is_plain(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let begins = name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    letters
        && begins
        && !AROUND.iter().any(|around| name.starts_with(around))
        && !matches!(name, "ENV" | "IFS")
}

/// Where a path leads, if it is one that is taken.
fn real(path: &Path) -> Result<PathBuf, Unfit> {
    let plain = path.is_absolute()
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !plain {
        return Err(Unfit::Path(path.to_owned()));
    }
    path.canonicalize().map_err(|_| Unfit::Absent(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn spec() -> CommandSpec {
        CommandSpec {
            program: "/bin/sh".into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            folder: None,
            readable: Vec::new(),
            network: false,
            bounds: Bounds::default(),
        }
    }

    #[test]
    fn nothing_that_is_shown_may_lead_to_the_data_folder() {
        let all = tempfile::tempdir().unwrap();
        let [data, below, beside, link] = ["data", "data/keys", "beside", "link"].map(|n| all.path().join(n));
        fs::create_dir_all(&below).unwrap();
        fs::create_dir(&beside).unwrap();
        symlink(&below, &link).unwrap();
        let hidden = [data.clone()];
        let with = |path: &Path| {
            [
                CommandSpec { folder: Some(path.to_owned()), ..spec() },
                CommandSpec { readable: vec![path.to_owned()], ..spec() },
            ]
        };
        for fine in with(&beside) {
            assert_eq!(fine.check(&hidden), Ok(()));
        }
        for path in [&data, &below, &link, all.path(), Path::new("/")] {
            for bad in with(path) {
                assert!(matches!(bad.check(&hidden), Err(Unfit::Overlap(..))), "{}", path.display());
            }
        }
        for path in ["/proc", "/proc/1", "/sys", "/dev", "/root"] {
            for bad in with(Path::new(path)) {
                assert!(bad.check(&[]).is_err(), "{path}");
            }
        }
        for path in ["relative", "./x", "/usr/../etc", "/no/such/folder"] {
            for bad in with(Path::new(path)) {
                assert!(matches!(bad.check(&[]), Err(Unfit::Path(_) | Unfit::Absent(_))), "{path}");
            }
        }
        let usr = [PathBuf::from("/usr/share")];
        assert!(
            matches!(spec().check(&usr), Err(Unfit::Overlap(..))),
            "a data folder in what every child sees"
        );
    }

    #[test]
    fn variables_are_plain_names_and_say_where_their_values_come_from() {
        let with = |name: &str, value: &str| CommandSpec {
            environment: [(name.to_owned(), value.to_owned())].into(),
            ..spec()
        };
        for (name, value) in
            [("A", "text:"), ("A_1", "text:x"), ("T", "file:/run/t"), ("T", "credential:github")]
        {
            assert_eq!(with(name, value).check(&[]), Ok(()), "{name}={value}");
        }
        for (name, value) in [
            ("LD_PRELOAD", "text:x"),
            ("BASH_ENV", "credential:x"),
            ("GLIBC_TUNABLES", "text:x"),
            ("ENV", "text:x"),
            ("1A", "text:x"),
            ("", "text:x"),
            ("A=B", "text:x"),
            ("A", "x"),
            ("A", "file:x"),
            ("A", "credential:"),
            ("A", "env:HOME"),
        ] {
            assert_eq!(with(name, value).check(&[]), Err(Unfit::Variable(name.to_owned())), "{name}={value}");
        }
    }

    #[test]
    fn a_section_is_read_with_its_defaults_and_what_nobody_knows_is_refused() {
        let read = |text: &str| toml::from_str::<CommandSpec>(text);
        let text = "program = \"/bin/sh\"\nnetwork = true\nprocesses = 8\n[environment]\nTOKEN = \"credential:files\"";
        let expected = CommandSpec {
            network: true,
            bounds: Bounds { processes: 8, ..Bounds::default() },
            environment: [("TOKEN".to_owned(), "credential:files".to_owned())].into(),
            ..spec()
        };
        assert_eq!(read(text).unwrap(), expected);
        for bad in [
            "",
            "program = 7",
            "program = \"/bin/sh\"\nnetwrok = true",
            "program = \"/bin/sh\"\nprocesses = \"8\"",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_of_zero_are_refused() {
        let bounds = Bounds { processes: 0, ..Bounds::default() };
        assert_eq!(CommandSpec { bounds, ..spec() }.check(&[]), Err(Unfit::Bound));
    }
}
