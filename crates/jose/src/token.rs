//! Profiles: one type for every kind of token, and the one way from a text to claims that may be believed.

use std::ops::Deref;

use bartizan_base::{Digest, Timestamp};
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::claims::{TimeRules, Times};
use crate::jwk::Jwks;
use crate::jws::{Jws, JwsError};
use crate::reader::Reader;
use crate::thumbprint::Jkt;

/// Why a token is refused. It never holds what the token said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token within bounds, or its signature does not hold.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A token of another kind.
    #[error("the token is of another type")]
    Type,
    /// The payload is no JSON object within bounds, or a member stands twice.
    #[error("the payload is not a claim set")]
    Malformed,
    /// A claim is missing, or of the wrong type, or out of bounds.
    #[error("the claim `{0}` is missing or malformed")]
    Claim(&'static str),
    /// A claim that a token of this kind must not hold.
    #[error("the claim `{0}` must not be there")]
    Forbidden(&'static str),
    /// The chain of actors is too long.
    #[error("the chain of actors is too long")]
    ChainTooLong,
    /// From another issuer.
    #[error("from another issuer")]
    Issuer,
    /// For another audience.
    #[error("for another audience")]
    Audience,
    /// For another client.
    #[error("for another client")]
    Client,
    /// Past its end.
    #[error("expired")]
    Expired,
    /// Not valid yet, or issued in the future.
    #[error("not valid yet")]
    NotYetValid,
    /// It holds longer than is accepted, or ends before it begins.
    #[error("it holds longer than is accepted")]
    TooLongLived,
    /// The nonce is not the one that was asked for.
    #[error("the nonce is another one")]
    Nonce,
    /// Not issued together with the access token or code at hand.
    #[error("the hash of what came with it differs")]
    Hash,
    /// The person was authenticated too long ago, or it is not said when.
    #[error("authenticated too long ago")]
    Stale,
}

/// What must be remembered so that a token is taken only once: the caller keeps `id` until `until` and refuses to see it
/// again. The same for one `jti` of one issuer (or key), whatever the rest of the token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// What to remember.
    pub id: Digest,
    /// How long.
    pub until: Timestamp,
}

impl Replay {
    pub(crate) fn new(kind: &str, issuer: &str, jti: &str, times: &Times, rules: &TimeRules) -> Self {
        Self { id: Self::id(kind, issuer, jti), until: times.expires.saturating_add(rules.skew()) }
    }

    pub(crate) fn id(kind: &str, issuer: &str, jti: &str) -> Digest {
        let (issuer, jti) = (Digest::of(issuer.as_bytes()), Digest::of(jti.as_bytes()));
        Digest::of_parts(&[issuer.as_bytes(), jti.as_bytes(), kind.as_bytes()])
    }
}

pub(crate) mod form {
    use super::{Algorithm, Jws, Map, Reader, TokenError, Value};

    /// How a profile is read, written and checked. Outside this crate there are no other profiles.
    pub trait Form: Sized {
        /// Against what it is held.
        type Rules<'a>;

        /// Whether the header's `typ` is one of this profile.
        fn is_typ(jws: &Jws<'_>, rules: &Self::Rules<'_>) -> bool;

        /// Reads a claim set.
        ///
        /// # Errors
        /// When it is not one of this profile.
        fn read(claims: Reader) -> Result<Self, TokenError>;

        /// Writes the claim set.
        ///
        /// # Errors
        /// When the profile demands a claim that is not there.
        fn write(&self) -> Result<Map<String, Value>, TokenError>;

        /// Claims beyond the profile's own.
        fn others(&self) -> Option<&Map<String, Value>> {
            None
        }

        /// Holds verified claims against the rules.
        ///
        /// # Errors
        /// What does not hold.
        fn check(&self, algorithm: Algorithm, rules: &Self::Rules<'_>) -> Result<(), TokenError>;
    }
}

/// A kind of token, with the checks of its specification. Sealed.
pub trait Profile: form::Form {
    /// The `typ` that is written.
    const TYP: &'static str;
}

/// Claims whose token was verified: signature, type, times, issuer and audience hold. Only [`verify`] makes it.
#[derive(Clone, Debug)]
pub struct Verified<P> {
    claims: P,
    signer: Jkt,
    token: Digest,
}

impl<P> Verified<P> {
    /// The claims.
    #[must_use]
    pub const fn claims(&self) -> &P {
        &self.claims
    }

    /// The claims alone.
    #[must_use]
    pub fn into_claims(self) -> P {
        self.claims
    }

    /// The key that signed it, for epochs of signing keys.
    #[must_use]
    pub const fn signer(&self) -> Jkt {
        self.signer
    }

    /// The digest of the token's text.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.token
    }
}

impl<P> Deref for Verified<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.claims
    }
}

/// Verifies a token as one of profile `P`: type, signature, form of every claim, then what the claims say.
///
/// # Errors
/// [`TokenError`].
pub fn verify<P: Profile>(
    jws: &Jws<'_>,
    keys: &Jwks,
    rules: &P::Rules<'_>,
) -> Result<Verified<P>, TokenError> {
    if !P::is_typ(jws, rules) {
        return Err(TokenError::Type);
    }
    let reader = Reader::parse(jws.unverified_payload())?;
    let key = jws.verify_by(keys)?;
    let claims = P::read(reader)?;
    claims.check(key.algorithm(), rules)?;
    Ok(Verified { claims, signer: key.thumbprint(), token: jws.digest() })
}
