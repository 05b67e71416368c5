//! What a request presents, before anybody believes it.

use std::fmt;

use bartizan_base::Digest;
use bartizan_model::ReasonCode;
use bartizan_secret::{ApiKey, Secret};

/// The longest credential, in bytes.
const CREDENTIAL_MAX: usize = 8 * 1024;

/// A credential of a well-formed kind, not verified.
#[derive(Clone)]
pub enum Presented {
    /// None.
    Nothing,
    /// An API key of ours, by the digest it is looked up by.
    ApiKey(Digest),
    /// What may be an access token.
    Token(Secret<String>),
}

impl Presented {
    /// Reads the values of the `authorization` and `x-api-key` headers.
    ///
    /// # Errors
    /// `CredentialAmbiguous` when several different ones are presented, `CredentialMalformed` when one is not well-formed.
    pub fn from_headers<'a>(
        authorization: impl Iterator<Item = &'a [u8]>,
        x_api_key: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, ReasonCode> {
        let bearer = authorization.map(bearer).collect::<Result<Vec<_>, _>>()?;
        let keys = x_api_key.map(text).collect::<Result<Vec<_>, _>>()?;
        if bearer.len() > 1 || keys.len() > 1 {
            return Err(ReasonCode::CredentialAmbiguous);
        }
        let mut all: Vec<&str> = bearer.into_iter().chain(keys).collect();
        all.dedup();
        match all.as_slice() {
            [] => Ok(Self::Nothing),
            [one] => Self::from_text(one),
            _ => Err(ReasonCode::CredentialAmbiguous),
        }
    }

    fn from_text(text: &str) -> Result<Self, ReasonCode> {
        if ApiKey::has_prefix(text) {
            return text
                .parse::<ApiKey>()
                .map(|key| Self::ApiKey(key.digest()))
                .map_err(|_| ReasonCode::CredentialMalformed);
        }
        if text.bytes().filter(|b| *b == b'.').count() == 2 {
            return Ok(Self::Token(Secret::new(text.to_owned())));
        }
        Err(ReasonCode::CredentialMalformed)
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::ApiKey(_) => "ApiKey(…)",
            Self::Token(_) => "Token(…)",
        })
    }
}

fn text(value: &[u8]) -> Result<&str, ReasonCode> {
    let text = std::str::from_utf8(value).map_err(|_| ReasonCode::CredentialMalformed)?.trim();
    if text.is_empty() || text.len() > CREDENTIAL_MAX {
        Err(ReasonCode::CredentialMalformed)
    } else {
        Ok(text)
    }
}

fn bearer(value: &[u8]) -> Result<&str, ReasonCode> {
    let (scheme, rest) = text(value)?.split_once(' ').ok_or(ReasonCode::CredentialMalformed)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        text(rest.as_bytes())
    } else {
        Err(ReasonCode::CredentialMalformed)
    }
}
