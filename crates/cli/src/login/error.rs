//! Why nobody is logged in.

use bartizan_base::Text;

use crate::ExitCode;
use crate::contexts::ContextName;
use crate::private::PrivateError;
use crate::server::Server;

/// Why nobody is logged in, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server has no authority of its own.
    #[error("{0} issues no tokens: nobody can log in there")]
    NoAuthority(Server),
    /// The server goes by another address.
    #[error("the server at {asked} calls itself {named}")]
    OtherName {
        /// Where it was asked.
        asked: Server,
        /// As what it is configured.
        named: Text<300>,
    },
    /// What it says about itself cannot be used.
    #[error("what {server} says about itself cannot be used: {what}")]
    Metadata {
        /// Which server.
        server: Server,
        /// What is wrong.
        what: &'static str,
    },
    /// It does not answer.
    #[error("cannot reach {server}: {message}")]
    Unreachable {
        /// Which server.
        server: String,
        /// What went wrong.
        message: String,
    },
    /// The answer in the browser came from another authority (RFC 9207): what it holds is sent nowhere.
    #[error("the answer is from `{found}`, not from {expected}; it was thrown away")]
    Issuer {
        /// Who was asked.
        expected: Server,
        /// Who the answer says it is from.
        found: Text<300>,
    },
    /// The person said no.
    #[error("it was not allowed")]
    Denied,
    /// Nobody answered.
    #[error("nobody answered in time")]
    Late,
    /// The authority said no.
    #[error("the authority refused: {error}: {description}")]
    Refused {
        /// The code of OAuth.
        error: Text<64>,
        /// Its words.
        description: Text<300>,
    },
    /// The token is not bound to our key: whoever copied it could use it.
    #[error("the authority gave a token that is not bound to our key; it was thrown away")]
    Unbound,
    /// Nobody is logged in in the context.
    #[error("nobody is logged in in the context `{0}`")]
    NotSignedIn(ContextName),
    /// The login has ended, or was ended.
    #[error("the login in the context `{0}` is over")]
    Over(ContextName),
    /// Our key cannot be used.
    #[error("a key for the login could not be used: {0}")]
    Key(&'static str),
    /// The place where the browser comes back to cannot be made.
    #[error("cannot listen on this machine: {0}")]
    Listen(#[from] std::io::Error),
    /// What is kept cannot be used.
    #[error(transparent)]
    File(#[from] PrivateError),
}

impl LoginError {
    /// An error as the authority tells it.
    pub(crate) fn refused(error: &str, description: &str) -> Self {
        match error {
            "access_denied" => Self::Denied,
            "expired_token" => Self::Late,
            _ => Self::Refused { error: Text::lossy(error), description: Text::lossy(description) },
        }
    }

    /// The exit code that fits.
    #[must_use]
    pub const fn exit(&self) -> ExitCode {
        match self {
            Self::Denied => ExitCode::Denied,
            Self::NotSignedIn(_) | Self::Over(_) => ExitCode::Unauthenticated,
            Self::OtherName { .. }
            | Self::File(PrivateError::Exposed { .. } | PrivateError::Content { .. }) => ExitCode::Usage,
            _ => ExitCode::Failed,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoAuthority(_) => {
                "set `authority.issuer` in its configuration; until then work with an API key: BARTIZAN_API_KEY or --api-key-file"
                    .to_owned()
            }
            Self::OtherName { named, .. } => format!("`bartizan login --server {named}`"),
            Self::Unreachable { .. } => "start it with `bartizan serve`, or name another one with --server".to_owned(),
            Self::Issuer { .. } => {
                "somebody may have tried to have it sent elsewhere; close that page and log in again".to_owned()
            }
            Self::Late => "run `bartizan login` again".to_owned(),
            Self::Refused { error, .. } if error.as_str() == "invalid_target" => {
                "name the control API, ISSUER/api/v1, in the server's `authority.resources`".to_owned()
            }
            Self::Refused { error, .. } if error.as_str() == "invalid_client" => {
                "is `bartizan-cli` declared as a disabled client there?".to_owned()
            }
            Self::NotSignedIn(context) | Self::Over(context) => {
                format!("`bartizan login --context {context}`")
            }
            Self::File(error) => return error.hint(),
            _ => return None,
        })
    }
}
