//! Thumbprints of keys and of certificates: two types, so that neither passes for the other.

use std::fmt;
use std::str::FromStr;

use bartizan_base::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The text is not the base64url form of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a thumbprint is 32 bytes in base64url without padding")]
pub struct ThumbprintError;

macro_rules! thumbprint {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Digest);

        impl $name {
            /// A thumbprint computed elsewhere.
            #[must_use]
            pub const fn from_digest(digest: Digest) -> Self {
                Self(digest)
            }

            /// The digest.
            #[must_use]
            pub const fn digest(&self) -> &Digest {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ThumbprintError;

            fn from_str(text: &str) -> Result<Self, ThumbprintError> {
                if text.len() != 43 {
                    return Err(ThumbprintError);
                }
                let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ThumbprintError)?;
                Ok(Self(Digest::from_bytes(bytes.try_into().map_err(|_| ThumbprintError)?)))
            }
        }
    };
}

thumbprint!(
    /// The thumbprint of a public key (RFC 7638 with SHA-256), printed as `cnf.jkt` holds it.
    Jkt
);
thumbprint!(
    /// The thumbprint of a certificate (RFC 8705), printed as `cnf.x5t#S256` holds it.
    X5t
);

impl X5t {
    /// The thumbprint of a certificate in DER.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Self {
        Self(Digest::of(der))
    }
}
