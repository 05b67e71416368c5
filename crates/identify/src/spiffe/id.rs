//! Names of workloads (SPIFFE-ID, sections 2 and 3), read strictly: one workload has one spelling.

use std::fmt;
use std::str::FromStr;

/// The longest identity and trust domain, in bytes.
const ID_MAX: usize = 2_048;
const DOMAIN_MAX: usize = 255;
const SCHEME: &str = "spiffe://";

/// The text is not an identity of SPIFFE, or not a trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Another scheme, too long, or with characters that an identity cannot hold: user, port, query, fragment, escapes.
    #[error("an identity has the form `spiffe://trust.domain/path`")]
    Form,
    /// Empty, too long, or not lower-case letters, digits, `.`, `-` and `_`.
    #[error("a trust domain is 1 to 255 lower-case letters, digits, `.`, `-` and `_`")]
    Domain,
    /// A segment that is empty, `.` or `..`, or a slash at the end.
    #[error("the path of an identity has no empty or relative segments")]
    Path,
}

/// A trust domain: who vouches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Box<str>);

impl TrustDomain {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As an issuer in our directory: `spiffe://trust.domain`.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// The one that an issuer of our directory is about, if it is about one.
    #[must_use]
    pub fn of_issuer(issuer: &str) -> Option<Self> {
        issuer.strip_prefix(SCHEME)?.parse().ok()
    }

    /// The one of an address: its host, where that can be one.
    #[must_use]
    pub fn of_address(address: &str) -> Option<Self> {
        let authority = address.split_once("://")?.1.split('/').next()?;
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        host.to_ascii_lowercase().parse().ok()
    }

    /// A workload of it.
    ///
    /// # Errors
    /// When the path is not one.
    pub fn workload(&self, segments: &[&str]) -> Result<SpiffeId, SpiffeIdError> {
        format!("{SCHEME}{}/{}", self.0, segments.join("/")).parse()
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > DOMAIN_MAX || !text.bytes().all(fits) {
            return Err(SpiffeIdError::Domain);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A workload: a trust domain and a path in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Box<str>,
    domain: TrustDomain,
}

impl SpiffeId {
    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Who vouches for it.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The segments of its path, at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        let path = self.text.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/'));
        path.map_or("", |(_, path)| path).split('/')
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > ID_MAX {
            return Err(SpiffeIdError::Form);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Form)?;
        // Without a path it names the trust domain and no workload.
        let (domain, path) = rest.split_once('/').ok_or(SpiffeIdError::Path)?;
        let domain = domain.parse()?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        for segment in path.split('/') {
            if matches!(segment, "" | "." | "..") {
                return Err(SpiffeIdError::Path);
            }
            if !segment.bytes().all(fits) {
                return Err(SpiffeIdError::Form);
            }
        }
        Ok(Self { text: text.into(), domain })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_identity_has_one_spelling() {
        let id: SpiffeId = "spiffe://acme.example/ns/prod/sa/api".parse().unwrap();
        assert_eq!(id.domain().as_str(), "acme.example");
        assert_eq!(id.segments().collect::<Vec<_>>(), ["ns", "prod", "sa", "api"]);
        assert_eq!(id.domain().workload(&["ns", "prod", "sa", "api"]), Ok(id));
        for bad in [
            "",
            "spiffe://",
            "spiffe:///x",
            "spiffe://acme.example",
            "spiffe://acme.example/",
            "spiffe://acme.example//x",
            "spiffe://acme.example/x/",
            "spiffe://acme.example/./x",
            "spiffe://acme.example/../x",
            "spiffe://acme.example/%2e%2e/x",
            "spiffe://acme.example/x?y",
            "spiffe://acme.example/x#y",
            "spiffe://acme.example:443/x",
            "spiffe://user@acme.example/x",
            "spiffe://ACME.example/x",
            "SPIFFE://acme.example/x",
            "https://acme.example/x",
            "spiffe://acme.example/é",
            "spiffe://acme.example/a b",
            "spiffe://acme.example\\x/y",
            " spiffe://acme.example/x",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
        let long = format!("spiffe://acme.example/{}", "x".repeat(ID_MAX));
        assert_eq!(long.parse::<SpiffeId>(), Err(SpiffeIdError::Form));
        assert_eq!("x".repeat(256).parse::<TrustDomain>(), Err(SpiffeIdError::Domain));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(text in "(spiffe://)?[a-zA-Z./:@%]{0,20}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                let segments: Vec<_> = id.segments().collect();
                prop_assert_eq!(id.domain().workload(&segments).map(|i| i.to_string()), Ok(text));
            }
        }
    }
}
