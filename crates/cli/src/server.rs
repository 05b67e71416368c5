//! Addresses of servers, and which server a command talks to as whom.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use bartizan_secret::Secret;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::contexts::{ContextName, Contexts};

/// Where the control API is if nobody says where.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8081";

/// The address of a server that people log in at: scheme, host and port, as its issuer is configured. In the clear only on this
/// machine, because tokens go there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Server(String);

/// Not such an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no address to log in at: expected `https://HOST` without a path, or `http://` to this machine"
)]
pub struct NotAServer;

impl FromStr for Server {
    type Err = NotAServer;

    fn from_str(text: &str) -> Result<Self, NotAServer> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let url = Url::parse(text).map_err(|_| NotAServer)?;
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && !text.ends_with('/')
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        if bare && is_guarded(&url) { Ok(Self(text.to_owned())) } else { Err(NotAServer) }
    }
}

/// Whether what is sent there is seen by nobody on the way.
pub(crate) fn is_guarded(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Ipv4(address))) => address.is_loopback(),
        ("http", Some(Host::Ipv6(address))) => address.is_loopback(),
        ("http", Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}

impl TryFrom<String> for Server {
    type Error = NotAServer;

    fn try_from(text: String) -> Result<Self, NotAServer> {
        text.parse()
    }
}

impl From<Server> for String {
    fn from(server: Server) -> Self {
        server.0
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Server {
    /// The address, without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What was said about server and credential, on the command line or in the environment.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The address of the control API.
    pub url: Option<String>,
    /// The file of an API key.
    pub key_file: Option<PathBuf>,
    /// An API key; never on the command line, where others see it.
    pub key: Option<Secret<String>>,
    /// The name of a context.
    pub context: Option<String>,
}

/// Where a command goes, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address of the control API.
    pub url: String,
    /// What is presented there.
    pub credential: Chosen,
}

/// What is presented.
#[derive(Clone, Debug)]
pub enum Chosen {
    /// The API key in a file.
    KeyFile(PathBuf),
    /// An API key.
    Key(Secret<String>),
    /// The token of a context, which goes to its own server alone.
    Context(ContextName),
    /// Nothing: nobody said, and no context is for that server.
    Nothing,
}

/// Why there is nowhere to go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No context has that name.
    #[error("there is no context `{0}`")]
    Unknown(String),
    /// A context was named beside the address of another server.
    #[error("the context `{context}` is for {server}, not for {url}")]
    Elsewhere {
        /// Its name.
        context: ContextName,
        /// Its server.
        server: Server,
        /// What was named beside it.
        url: String,
    },
}

impl Target {
    /// Chooses by one rule. The server is that of `--control-url`, `--context`, `BARTIZAN_CONTROL_URL`, `BARTIZAN_CONTEXT`, the
    /// current context, in this order, else the usual one; what is presented that of `--api-key-file`, `--context`,
    /// `BARTIZAN_API_KEY_FILE`, `BARTIZAN_API_KEY`, else the token of the context of that server.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn choose(flags: Said, environment: Said, contexts: Option<&Contexts>) -> Result<Self, TargetError> {
        let named = |said: &Said| said.context.as_deref().map(|name| find(contexts, name)).transpose();
        let (by_flag, by_environment) = (named(&flags)?, named(&environment)?);
        let current = contexts.and_then(Contexts::current).map(|(name, c)| (name.clone(), c.server.clone()));
        let server = |context: &Option<(ContextName, Server)>| context.as_ref().map(|(_, s)| s.to_string());
        let url = flags
            .url
            .or_else(|| server(&by_flag))
            .or(environment.url)
            .or_else(|| server(&by_environment))
            .or_else(|| server(&current))
            .unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let is_there = |context: &(ContextName, Server)| context.1.as_str() == url.trim_end_matches('/');
        let credential = match (flags.key_file, by_flag, environment.key_file, environment.key) {
            (Some(file), ..) | (None, None, Some(file), _) => Chosen::KeyFile(file),
            (None, Some(context), ..) if is_there(&context) => Chosen::Context(context.0),
            (None, Some((context, server)), ..) => {
                return Err(TargetError::Elsewhere { context, server, url });
            }
            (None, None, None, Some(key)) => Chosen::Key(key),
            (None, None, None, None) => match by_environment.or(current) {
                Some(context) if is_there(&context) => Chosen::Context(context.0),
                _ => Chosen::Nothing,
            },
        };
        Ok(Self { url, credential })
    }
}

fn find(contexts: Option<&Contexts>, name: &str) -> Result<(ContextName, Server), TargetError> {
    let unknown = || TargetError::Unknown(name.to_owned());
    let parsed: ContextName = name.parse().map_err(|_| unknown())?;
    let context = contexts.and_then(|contexts| contexts.get(&parsed)).ok_or_else(unknown)?;
    Ok((parsed, context.server.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contexts::Context;

    const WORK: &str = "https://ai.example";
    const HOME: &str = "http://localhost:8081";

    #[test]
    fn tokens_go_to_addresses_that_nobody_listens_in_on() {
        for good in
            ["https://ai.example", "https://ai.example:8443/", "http://127.0.0.1:1", "http://[::1]:2", HOME]
        {
            assert_eq!(good.parse::<Server>().unwrap().as_str(), good.trim_end_matches('/'));
        }
        for bad in [
            "http://ai.example",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
            "https://user@ai.example",
            "https://ai.example/path",
            "https://ai.example//",
            "https://ai.example?x",
            "https://ai.example#x",
            "https://ai.example\\x",
            "https://ai.example ",
            "ftp://ai.example",
            "ai.example",
            "",
        ] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
    }

    fn contexts() -> Contexts {
        let mut all = Contexts::open(std::path::Path::new("/nowhere/at/all")).unwrap();
        for (name, server) in [("home", HOME), ("work", WORK)] {
            all.put(name.parse().unwrap(), Context { server: server.parse().unwrap() });
        }
        all
    }

    fn said(url: &str, file: &str, key: &str, context: &str) -> Said {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Said {
            url: some(url),
            key_file: some(file).map(PathBuf::from),
            key: some(key).map(Secret::new),
            context: some(context),
        }
    }

    fn chosen(flags: Said, environment: Said) -> (String, String) {
        let all = contexts();
        let target = Target::choose(flags, environment, Some(&all)).unwrap();
        let credential = match target.credential {
            Chosen::KeyFile(path) => format!("file {}", path.display()),
            Chosen::Key(key) => format!("key {}", key.expose()),
            Chosen::Context(name) => format!("context {name}"),
            Chosen::Nothing => "nothing".to_owned(),
        };
        (target.url, credential)
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_current_context() {
        let none = || said("", "", "", "");
        let is = |flags: Said, environment: Said, url: &str, credential: &str| {
            assert_eq!(chosen(flags, environment), (url.to_owned(), credential.to_owned()));
        };
        is(none(), none(), WORK, "context work");
        is(none(), said("", "", "", "home"), HOME, "context home");
        is(none(), said("", "", "k", "home"), HOME, "key k");
        is(none(), said("", "f", "k", ""), WORK, "file f");
        is(none(), said("https://x.example", "", "k", "home"), "https://x.example", "key k");
        is(said("", "", "", "home"), said("https://x.example", "f", "k", "work"), HOME, "context home");
        is(said("", "g", "", "home"), said("", "f", "k", ""), HOME, "file g");
        is(said("https://y.example", "", "", ""), said("", "", "k", ""), "https://y.example", "key k");
    }

    #[test]
    fn a_token_never_goes_to_another_server_than_its_own() {
        let none = || said("", "", "", "");
        let away = ("https://evil.example".to_owned(), "nothing".to_owned());
        assert_eq!(chosen(said("https://evil.example", "", "", ""), none()), away);
        assert_eq!(chosen(none(), said("https://evil.example", "", "", "work")), away);
        let all = contexts();
        let both = Target::choose(said("https://evil.example", "", "", "work"), none(), Some(&all));
        assert!(matches!(both.unwrap_err(), TargetError::Elsewhere { .. }));
        let same = chosen(said("https://ai.example/", "", "", "work"), none());
        assert_eq!(same.1, "context work");
    }

    #[test]
    fn without_contexts_it_is_as_it_was_and_an_unknown_one_is_told() {
        let target = Target::choose(Said::default(), Said::default(), None).unwrap();
        assert!(target.url == DEFAULT_SERVER && matches!(target.credential, Chosen::Nothing));
        for name in ["absent", "../x"] {
            let refused = Target::choose(said("", "", "", name), Said::default(), Some(&contexts()));
            assert_eq!(refused.unwrap_err(), TargetError::Unknown(name.to_owned()));
        }
    }
}
