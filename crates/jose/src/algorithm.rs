//! The algorithms that are accepted. There is no `none` and nothing symmetric: neither can be written down.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037), called `Ed25519` (RFC 9864) or, in older tokens and keys, `EdDSA`.
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256. Verified only.
    Rs256,
    /// RSASSA-PSS with SHA-256. Verified only.
    Ps256,
}

impl Algorithm {
    /// All of them, as metadata lists them.
    pub const ALL: &'static [Self] = &[Self::Ed25519, Self::Es256, Self::Rs256, Self::Ps256];

    /// The name that is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    /// The algorithm of that name; none for everything that is not accepted. Names are case-sensitive (RFC 7515).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            // Polymorphic in RFC 8037; here it means Ed25519 alone, because keys of other curves are never taken.
            "EdDSA" | "Ed25519" => Some(Self::Ed25519),
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            _ => None,
        }
    }

    /// The left half of the hash of `text`, as `at_hash` and `c_hash` hold it (OpenID Connect Core 3.1.3.6). The hash is
    /// the one inside the signature algorithm: SHA-512 for Ed25519.
    #[must_use]
    pub fn half_hash(self, text: &str) -> String {
        let hash = match self {
            Self::Ed25519 => &digest::SHA512,
            Self::Es256 | Self::Rs256 | Self::Ps256 => &digest::SHA256,
        };
        let whole = digest::digest(hash, text.as_bytes());
        let (half, _) = whole.as_ref().split_at_checked(whole.as_ref().len() / 2).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(half)
    }
}
