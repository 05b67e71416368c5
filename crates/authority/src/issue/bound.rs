//! What rights and tokens are bound to, as it is kept.

use bartizan_jose::{Confirmation, ThumbprintError};
use serde::{Deserialize, Serialize};

/// A key, a certificate, or both (RFC 7800), as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct BoundTo(pub Confirmation);

#[derive(Clone, Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jkt: Option<String>,
    #[serde(default, rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    x5t: Option<String>,
}

/// What is kept names neither key nor certificate.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("bound to nothing that is known")]
struct Unreadable;

impl From<ThumbprintError> for Unreadable {
    fn from(_: ThumbprintError) -> Self {
        Self
    }
}

impl From<BoundTo> for Written {
    fn from(BoundTo(to): BoundTo) -> Self {
        Self { jkt: to.key().map(|k| k.to_string()), x5t: to.certificate().map(|c| c.to_string()) }
    }
}

impl TryFrom<Written> for BoundTo {
    type Error = Unreadable;

    fn try_from(written: Written) -> Result<Self, Unreadable> {
        let key = written.jkt.map(|t| t.parse()).transpose()?;
        let certificate = written.x5t.map(|t| t.parse()).transpose()?;
        Ok(Self(match (key, certificate) {
            (Some(key), Some(certificate)) => Confirmation::Both(key, certificate),
            (Some(key), None) => Confirmation::Key(key),
            (None, Some(certificate)) => Confirmation::Certificate(certificate),
            (None, None) => return Err(Unreadable),
        }))
    }
}
