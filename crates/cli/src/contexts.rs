//! Contexts: servers that one works with, by name, in the person's configuration folder. What they prove themselves with lies
//! apart from it ([`crate::login::SignedIn`]).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bartizan_secret::Secret;
use serde::{Deserialize, Serialize};

use crate::private::{self, PrivateError};
use crate::server::Server;

/// The longest name.
const NAME_MAX: usize = 64;

/// What a context is called: letters, digits and `. _ -`, so that it names a file as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContextName(String);

/// Not a name of a context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of a context: 1 to 64 letters, digits and `. _ -`, a letter or digit first")]
pub struct NotAContext(String);

impl FromStr for ContextName {
    type Err = NotAContext;

    fn from_str(text: &str) -> Result<Self, NotAContext> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if plain && begins && text.len() <= NAME_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAContext(text.chars().take(NAME_MAX).collect()))
        }
    }
}

impl TryFrom<String> for ContextName {
    type Error = NotAContext;

    fn try_from(text: String) -> Result<Self, NotAContext> {
        text.parse()
    }
}

impl From<ContextName> for String {
    fn from(name: ContextName) -> Self {
        name.0
    }
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl ContextName {
    /// The name that follows from a server's address, for a context that nobody has named.
    #[must_use]
    pub fn of(server: &Server) -> Option<Self> {
        let host = server.as_str().split_once("://")?.1;
        host.replace(':', "-").trim_matches(['[', ']']).parse().ok()
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<ContextName>,
    #[serde(default)]
    contexts: BTreeMap<ContextName, Context>,
}

/// A server that one works with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Its address.
    pub server: Server,
}

/// The contexts of one person.
#[derive(Clone, Debug)]
pub struct Contexts {
    folder: PathBuf,
    kept: Kept,
}

impl Contexts {
    /// The folder in which contexts are: `bartizan` in the folder for configuration (XDG Base Directory), where the person has
    /// one.
    #[must_use]
    pub fn folder_of(xdg_config_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
        // Paths that are not absolute are ignored, as that specification says.
        let absolute = |path: Option<PathBuf>| path.filter(|path| path.is_absolute());
        let base = absolute(xdg_config_home).or_else(|| Some(absolute(home)?.join(".config")))?;
        Some(base.join("bartizan"))
    }

    /// What there is; nothing in a folder that there is not.
    ///
    /// # Errors
    /// [`PrivateError`].
    pub fn open(folder: &Path) -> Result<Self, PrivateError> {
        let path = file(folder);
        let kept = match private::read(&path)? {
            None => Kept::default(),
            Some(text) => toml::from_str(text.expose())
                .map_err(|error| PrivateError::content(&path, error.message()))?,
        };
        Ok(Self { folder: folder.to_owned(), kept })
    }

    /// Changes what there is. Of two processes that change it at the same time, the second sees what the first has done.
    ///
    /// # Errors
    /// [`PrivateError`].
    pub fn change(folder: &Path, change: impl FnOnce(&mut Self)) -> Result<(), PrivateError> {
        let path = file(folder);
        let _held = private::lock(&path)?;
        let mut contexts = Self::open(folder)?;
        change(&mut contexts);
        let text = toml::to_string(&contexts.kept)
            .map_err(|error| PrivateError::content(&path, error.to_string()))?;
        private::write(&path, &Secret::new(text))
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The one that is used where none is named.
    #[must_use]
    pub fn current(&self) -> Option<(&ContextName, &Context)> {
        let name = self.kept.current.as_ref()?;
        Some((name, self.get(name)?))
    }

    /// One by its name.
    #[must_use]
    pub fn get(&self, name: &ContextName) -> Option<&Context> {
        self.kept.contexts.get(name)
    }

    /// All, by name.
    pub fn all(&self) -> impl Iterator<Item = (&ContextName, &Context)> {
        self.kept.contexts.iter()
    }

    /// Keeps one, and uses it from now on.
    pub fn put(&mut self, name: ContextName, context: Context) {
        self.kept.contexts.insert(name.clone(), context);
        self.kept.current = Some(name);
    }

    /// Uses one from now on; false if there is none of that name.
    pub fn choose(&mut self, name: &ContextName) -> bool {
        let known = self.kept.contexts.contains_key(name);
        if known {
            self.kept.current = Some(name.clone());
        }
        known
    }

    /// Forgets one; false if there is none of that name.
    pub fn remove(&mut self, name: &ContextName) -> bool {
        if self.kept.current.as_ref() == Some(name) {
            self.kept.current = None;
        }
        self.kept.contexts.remove(name).is_some()
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("contexts.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContextName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_names_one_file_and_no_other_place() {
        for good in ["work", "a.b-c_d", "localhost-8081", "9"] {
            assert_eq!(name(good).as_str(), good);
        }
        for bad in ["", ".", "..", "../x", "a/b", "-x", ".x", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<ContextName>().is_err(), "{bad:?}");
        }
        let of = |server: &str| ContextName::of(&server.parse().unwrap()).map(String::from);
        assert_eq!(of("https://ai.example").as_deref(), Some("ai.example"));
        assert_eq!(of("http://localhost:8081").as_deref(), Some("localhost-8081"));
    }

    #[test]
    fn what_is_put_is_current_and_what_is_removed_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("bartizan");
        let context = |server: &str| Context { server: server.parse().unwrap() };
        assert!(Contexts::open(&folder).unwrap().current().is_none());
        Contexts::change(&folder, |all| all.put(name("work"), context("https://ai.example"))).unwrap();
        Contexts::change(&folder, |all| all.put(name("home"), context("http://localhost:8081"))).unwrap();
        let all = Contexts::open(&folder).unwrap();
        assert_eq!(all.current().unwrap().0, &name("home"));
        assert_eq!(all.all().count(), 2);
        Contexts::change(&folder, |all| {
            assert!(all.choose(&name("work")) && !all.choose(&name("absent")));
            assert!(all.remove(&name("home")) && !all.remove(&name("home")));
        })
        .unwrap();
        assert_eq!(Contexts::open(&folder).unwrap().current().unwrap().0, &name("work"));
        Contexts::change(&folder, |all| assert!(all.remove(&name("work")))).unwrap();
        assert!(Contexts::open(&folder).unwrap().current().is_none());
    }

    #[test]
    fn a_file_that_names_what_is_no_server_or_what_nobody_knows_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in [
            "[contexts.work]\nserver = \"http://ai.example\"",
            "[contexts.work]\nserver = \"https://user:word@ai.example\"",
            "[contexts.\"../x\"]\nserver = \"https://ai.example\"",
            "[contexts.work]\nserver = \"https://ai.example\"\ntoken = \"x\"",
            "default = \"work\"",
            "x",
        ] {
            private::write(&file(folder.path()), &Secret::new(text.to_owned())).unwrap();
            let refused = Contexts::open(folder.path()).unwrap_err();
            assert!(matches!(refused, PrivateError::Content { .. }), "{text}: {refused}");
        }
    }

    #[test]
    fn the_folder_is_where_the_person_keeps_configuration() {
        let of = |xdg: Option<&str>, home: Option<&str>| {
            Contexts::folder_of(xdg.map(PathBuf::from), home.map(PathBuf::from))
        };
        assert_eq!(of(Some("/c"), Some("/h")), Some(PathBuf::from("/c/bartizan")));
        assert_eq!(of(None, Some("/h")), Some(PathBuf::from("/h/.config/bartizan")));
        assert_eq!(of(Some("c"), Some("/h")), Some(PathBuf::from("/h/.config/bartizan")));
        assert_eq!(of(Some(""), None), None);
    }
}
