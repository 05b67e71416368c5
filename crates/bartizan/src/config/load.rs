//! Reading the configuration: flags before environment before file before default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bartizan_base::Name;
use bartizan_child::CommandSpec;
use bartizan_sandbox::RuntimeSpec;
use serde::de::DeserializeOwned;

use super::settings::{SETTINGS, Setting};

/// The environment as a parameter, so that tests never touch the process's own.
pub trait Strings {
    /// Every variable whose name begins with `BARTIZAN_`.
    fn variables(&self) -> Vec<(String, String)>;
}

impl Strings for Vec<(String, String)> {
    fn variables(&self) -> Vec<(String, String)> {
        self.clone()
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The file.
    File(PathBuf),
    /// A variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Exactly what was written, with its origin.
#[derive(Clone)]
pub struct Raw {
    values: BTreeMap<&'static str, (String, Origin)>,
    /// The section `commands` of the file, each entry as it stands there.
    commands: BTreeMap<String, (toml::Value, Origin)>,
    /// The tables `code.runtimes.NAME` of the file.
    runtimes: BTreeMap<String, (toml::Value, Origin)>,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown().map(|(setting, value, _)| (setting.path, value))).finish()
    }
}

/// What is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No setting has that name.
    #[error("unknown setting `{name}` in {origin}{}", hint(.nearest))]
    Unknown {
        /// The name as written.
        name: String,
        /// Where it stands.
        origin: String,
        /// The nearest name there is.
        nearest: Option<&'static str>,
    },
    /// A value that does not fit.
    #[error("setting `{name}` from {origin}: {expected}")]
    Wrong {
        /// The setting.
        name: String,
        /// Where the value came from.
        origin: String,
        /// What it should be.
        expected: String,
    },
    /// The file cannot be read as TOML.
    #[error("{path}: {message}")]
    File {
        /// Which file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

impl Raw {
    /// Reads all sources. `flags` are setting paths with values, strongest last.
    ///
    /// # Errors
    /// When a source names an unknown setting or the file is not TOML.
    pub fn load(
        file: Option<(&Path, &str)>,
        environment: &dyn Strings,
        flags: &[(&'static str, String)],
    ) -> Result<Self, ConfigError> {
        let mut raw = Self {
            values: SETTINGS.iter().map(|s| (s.path, (s.default.to_owned(), Origin::Default))).collect(),
            commands: BTreeMap::new(),
            runtimes: BTreeMap::new(),
        };
        if let Some((path, text)) = file {
            raw.read_file(path, text)?;
        }
        for (variable, value) in environment.variables() {
            // The command line's own variables are no settings; they have no double underscore.
            if let Some(rest) = variable.strip_prefix("BARTIZAN_").filter(|rest| rest.contains("__")) {
                let name = rest.replace("__", ".").to_lowercase();
                raw.set(&name, value, Origin::Environment(variable.clone()))?;
            }
        }
        for (path, value) in flags {
            raw.set(path, value.clone(), Origin::Flag((*path).to_owned()))?;
        }
        Ok(raw)
    }

    fn read_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let file = |message: String| ConfigError::File { path: path.display().to_string(), message };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| file(error.to_string()))?;
        for (section, entries) in table {
            let toml::Value::Table(entries) = entries else {
                return Err(unknown(&section, &Origin::File(path.to_owned())));
            };
            if section == "commands" {
                let origin = Origin::File(path.to_owned());
                self.commands
                    .extend(entries.into_iter().map(|(name, value)| (name, (value, origin.clone()))));
                continue;
            }
            for (key, value) in entries {
                let name = format!("{section}.{key}");
                if let ("code.runtimes", toml::Value::Table(runtimes)) = (name.as_str(), &value) {
                    let origin = Origin::File(path.to_owned());
                    let runtimes = runtimes.clone().into_iter();
                    self.runtimes.extend(runtimes.map(|(name, value)| (name, (value, origin.clone()))));
                    continue;
                }
                let value = match value {
                    toml::Value::String(text) => text,
                    toml::Value::Integer(number) => number.to_string(),
                    toml::Value::Boolean(flag) => flag.to_string(),
                    _ => return Err(file(format!("`{name}` must be text, a whole number or a boolean"))),
                };
                self.set(&name, value, Origin::File(path.to_owned()))?;
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String, origin: Origin) -> Result<(), ConfigError> {
        let Some(place) = SETTINGS.iter().find(|s| s.path == name).and_then(|s| self.values.get_mut(s.path))
        else {
            return Err(unknown(name, &origin));
        };
        *place = (value, origin);
        Ok(())
    }

    /// Every setting with its value, and origin.
    pub fn shown(&self) -> impl Iterator<Item = (&'static Setting, String, &Origin)> {
        SETTINGS.iter().filter_map(|setting| {
            let (value, origin) = self.values.get(setting.path)?;
            let hidden = setting.secret && !value.is_empty() && !value.starts_with("file:");
            Some((setting, if hidden { "(not shown)".to_owned() } else { value.clone() }, origin))
        })
    }

    /// What may be run: from the file alone, so that nothing that comes from elsewhere names a program.
    pub(super) fn commands(&self) -> Result<BTreeMap<Name, CommandSpec>, ConfigError> {
        named("commands", &self.commands)
    }

    /// What may run code: from the file alone, for the same reason.
    pub(super) fn runtimes(&self) -> Result<BTreeMap<Name, RuntimeSpec>, ConfigError> {
        let runtimes: BTreeMap<Name, RuntimeSpec> = named("code.runtimes", &self.runtimes)?;
        for (name, spec) in &runtimes {
            spec.check().map_err(|error| ConfigError::Wrong {
                name: format!("code.runtimes.{name}"),
                origin: self.runtimes.get(name.as_str()).map_or_else(String::new, |(_, o)| o.to_string()),
                expected: error.to_string(),
            })?;
        }
        Ok(runtimes)
    }

    pub(super) fn text(&self, path: &str) -> &str {
        self.values.get(path).map_or("", |(value, _)| value)
    }

    pub(super) fn optional(&self, path: &str) -> Option<&str> {
        Some(self.text(path)).filter(|text| !text.is_empty())
    }

    pub(super) fn wrong(&self, path: &str, expected: &str) -> ConfigError {
        let origin =
            self.values.get(path).map_or_else(|| "nowhere".to_owned(), |(_, origin)| origin.to_string());
        ConfigError::Wrong { name: path.to_owned(), origin, expected: expected.to_owned() }
    }

    pub(super) fn parse<T: FromStr>(&self, path: &str, expected: &str) -> Result<T, ConfigError> {
        self.text(path).parse().map_err(|_| self.wrong(path, &format!("expected {expected}")))
    }

    pub(super) fn number<T>(&self, path: &str, min: u64, max: u64) -> Result<T, ConfigError>
    where
        T: TryFrom<u64>,
    {
        let expected = format!("expected a whole number from {min} to {max}");
        let number: u64 = self.text(path).parse().map_err(|_| self.wrong(path, &expected))?;
        if !(min..=max).contains(&number) {
            return Err(self.wrong(path, &expected));
        }
        T::try_from(number).map_err(|_| self.wrong(path, &expected))
    }
}

/// The tables of a section, each under its name.
fn named<T: DeserializeOwned>(
    section: &str,
    tables: &BTreeMap<String, (toml::Value, Origin)>,
) -> Result<BTreeMap<Name, T>, ConfigError> {
    let read = |(name, (value, origin)): (&String, &(toml::Value, Origin))| {
        let wrong = |expected: String| ConfigError::Wrong {
            name: format!("{section}.{name}"),
            origin: origin.to_string(),
            expected,
        };
        let known = name.parse::<Name>().map_err(|error| wrong(error.to_string()))?;
        // The message alone: what stands around it may show a value.
        let spec = T::deserialize(value.clone()).map_err(|e| wrong(e.message().to_owned()))?;
        Ok((known, spec))
    };
    tables.iter().map(read).collect()
}

fn unknown(name: &str, origin: &Origin) -> ConfigError {
    let nearest = SETTINGS
        .iter()
        .map(|s| (strsim::damerau_levenshtein(s.path, name), s.path))
        .filter(|(distance, _)| *distance <= 6)
        .min()
        .map(|(_, path)| path);
    ConfigError::Unknown { name: name.to_owned(), origin: origin.to_string(), nearest }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use bartizan_gateway::TrustedProxies;

    fn load(
        file: &str,
        environment: &[(&str, &str)],
        flags: &[(&'static str, &str)],
    ) -> Result<Raw, ConfigError> {
        let environment: Vec<_> =
            environment.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let flags: Vec<_> = flags.iter().map(|(a, b)| (*a, (*b).to_owned())).collect();
        Raw::load(Some((Path::new("b.toml"), file)), &environment, &flags)
    }

    #[test]
    fn defaults_resolve_and_every_setting_is_used_once() {
        Config::resolve(&load("", &[], &[]).unwrap()).unwrap();
        assert!(SETTINGS.is_sorted_by_key(|s| s.path));
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let file =
            "[listeners]\ndata = \"127.0.0.1:1\"\ncontrol = \"127.0.0.1:2\"\noperations = \"127.0.0.1:3\"";
        let environment = [
            ("BARTIZAN_LISTENERS__CONTROL", "127.0.0.1:20"),
            ("BARTIZAN_LISTENERS__OPERATIONS", "127.0.0.1:30"),
        ];
        let raw = load(file, &environment, &[("listeners.operations", "127.0.0.1:300")]).unwrap();
        let config = Config::resolve(&raw).unwrap();
        let ports = [
            config.listeners.data.port(),
            config.listeners.control.port(),
            config.listeners.operations.port(),
        ];
        assert_eq!(ports, [1, 20, 300]);
        let origins: Vec<_> = raw
            .shown()
            .filter(|(s, ..)| {
                ["data", "control", "operations"].iter().any(|name| s.path == format!("listeners.{name}"))
            })
            .map(|(_, _, o)| o.to_string())
            .collect();
        assert_eq!(
            origins,
            ["environment BARTIZAN_LISTENERS__CONTROL", "file b.toml", "flag listeners.operations",]
        );
    }

    #[test]
    fn unknown_settings_are_refused_with_the_nearest_name() {
        let error = load("[listeners]\ndatta = \"127.0.0.1:1\"", &[], &[]).unwrap_err().to_string();
        assert_eq!(error, "unknown setting `listeners.datta` in file b.toml; did you mean `listeners.data`?");
        assert!(load("", &[("BARTIZAN_LISTENERS__DATTA", "x")], &[]).is_err());
        assert!(load("role = 1", &[], &[]).is_err());
    }

    #[test]
    fn lesson_litellm_cve_2026_42271_commands_come_from_the_file_alone() {
        let file = "[commands.files]\nprogram = \"/usr/bin/node\"\narguments = [\"a\"]\nnetwork = true\nprocesses = 8\n\
            [commands.files.environment]\nTOKEN = \"credential:files\"";
        let config = Config::resolve(&load(file, &[], &[]).unwrap()).unwrap();
        let spec = config.commands.get("files").unwrap();
        assert_eq!(
            (spec.program.to_str(), spec.network, spec.bounds.processes),
            (Some("/usr/bin/node"), true, 8)
        );
        assert_eq!(spec.environment.get("TOKEN").map(String::as_str), Some("credential:files"));
        assert_eq!(spec.bounds.open_files, 256, "what is not said has its default");
        assert!(Config::resolve(&load("", &[], &[]).unwrap()).unwrap().commands.is_empty());
        for variable in ["BARTIZAN_COMMANDS__FILES", "BARTIZAN_COMMANDS__FILES__PROGRAM"] {
            assert!(load("", &[(variable, "/bin/sh")], &[]).is_err(), "{variable}");
        }
        for bad in [
            "arguments = []",
            "program = \"/bin/sh\"\nnetwrok = true",
            "program = \"/bin/sh\"\nprocesses = \"many\"",
            "program = 7",
        ] {
            let raw = load(&format!("[commands.files]\n{bad}"), &[], &[]).unwrap();
            let told = Config::resolve(&raw).unwrap_err().to_string();
            assert!(told.starts_with("setting `commands.files` from file b.toml: "), "{bad}: {told}");
        }
    }

    #[test]
    fn what_runs_code_stands_in_the_file_whole_and_fixed() {
        let digest = "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763";
        let read = |text: &str| Config::resolve(&load(text, &[], &[]).unwrap());
        let whole = format!(
            "[code]\nruns_max = 2\n[code.runtimes.python]\nfile = \"p.wasm\"\ndigest = \"{digest}\"\n[code.runtimes.python.bounds]\ntime_ms = 5000\n[code.runtimes.any]\naccepts = \"module\""
        );
        let code = read(&whole).unwrap().code;
        assert_eq!((code.runtimes.len(), code.runs_max), (2, 2));
        assert!(code.runtimes.values().any(|runtime| runtime.bounds.time_ms == 5_000));
        let table = |text: &str| read(&format!("[code.runtimes.x]\n{text}")).unwrap_err().to_string();
        for bad in [
            "file = \"p.wasm\"",
            "accepts = \"anything\"",
            "accepts = \"module\"\nfile = \"p.wasm\"",
            "accepts = \"module\"\nbounds = { time_ms = 0 }",
            "accepts = \"module\"\nbounds = { seconds = 1 }",
            "accepts = \"module\"\narguments = []",
            "accepts = \"module\"\nsource = \"../x\"",
            "accepts = \"module\"\nenvironment = { KEY = \"v\" }",
        ] {
            let told = table(bad);
            assert!(told.starts_with("setting `code.runtimes.x` from file b.toml: "), "{bad}: {told}");
        }
        // Not from the environment or a flag.
        assert!(load("", &[("BARTIZAN_CODE__RUNTIMES__X__FILE", "/p.wasm")], &[]).is_err());
    }

    #[test]
    fn values_that_do_not_fit_name_their_origin() {
        let wrong = |file: &str| Config::resolve(&load(file, &[], &[]).unwrap()).unwrap_err().to_string();
        assert_eq!(
            wrong("[limits]\nbody_bytes_max = 0"),
            "setting `limits.body_bytes_max` from file b.toml: expected a whole number from 1 to 1073741824"
        );
        for bad in ["prompt", "prompt=0", "prompts=3", "prompt=3,", "prompt=3, prompt=4", "prompt=99999"] {
            let told = wrong(&format!("[vault]\nretention_days = \"{bad}\""));
            assert!(told.starts_with("setting `vault.retention_days` from file b.toml"), "{bad}: {told}");
        }
        for bad in ["0", "x", "36501"] {
            let told = wrong(&format!("[record]\nretention_days = \"{bad}\"\narchive_folder = \"a\""));
            assert!(told.starts_with("setting `record.retention_days` from file b.toml"), "{bad}: {told}");
        }
        assert!(wrong("[record]\nretention_days = \"90\"").contains("nothing is removed without an archive"));
        let raw = load("[record]\nretention_days = \"90\"\narchive_folder = \"/a\"", &[], &[]).unwrap();
        let record = Config::resolve(&raw).unwrap().record;
        assert_eq!(record.keep.map(|keep| keep.as_secs()), Some(90 * 86_400));
        let raw = load("[vault]\nretention_days = \"prompt=30, network = 1\"", &[], &[]).unwrap();
        let kept = Config::resolve(&raw).unwrap().vault.retention;
        assert_eq!(kept.values().map(|d| d.as_secs() / 86_400).collect::<Vec<_>>(), [1, 30]);
        assert!(wrong("[listeners]\ntls_key = \"k.pem\"").contains("listeners.tls_certificate"));
        let mesh = |more: &str| format!("[listeners]\nmesh = \"127.0.0.1:1\"\n{more}");
        for bad in [
            "mesh_tls = \"mutual\"",
            "mesh_tls = \"none\"",
            "mesh_peers = \"proxy\"",
            "mesh_certificates = \"*\"",
        ] {
            assert!(wrong(&mesh(bad)).contains("listeners.mesh_"), "{bad}");
        }
        let asked = Config::resolve(&load(&mesh(""), &[], &[]).unwrap()).unwrap().listeners.mesh.unwrap();
        let trusts = |peers: &TrustedProxies, of: &str| peers.trusts(of.parse().unwrap());
        assert!(trusts(&asked.peers.asking, "127.0.0.1") && !trusts(&asked.peers.asking, "10.0.0.1"));
        assert!(!trusts(&asked.peers.certificates, "127.0.0.1"), "nobody is believed unless named");
    }
}
