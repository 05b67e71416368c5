//! Tokens bound to keys and certificates (RFC 7800 `cnf`; DPoP, RFC 9449; mutual TLS, RFC 8705).

use bartizan_base::Digest;
use serde_json::{Map, Value};

use crate::access::AccessClaims;
use crate::claims::put;
use crate::dpop::ProvenKey;
use crate::reader::Reader;
use crate::thumbprint::{Jkt, X5t};
use crate::token::{TokenError, Verified};

/// What a token is bound to. Other kinds of confirmation are refused, never ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// A key, proven by DPoP.
    Key(Jkt),
    /// A certificate, proven by mutual TLS.
    Certificate(X5t),
    /// Both at once.
    Both(Jkt, X5t),
}

/// How a token came, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Presentation<'a> {
    /// By which scheme of the `Authorization` header.
    pub scheme: Scheme<'a>,
    /// The certificate of the connection, from our own handshake or from the configured proxy over an authenticated hop.
    pub certificate: Option<X5t>,
}

/// By which scheme a token came.
#[derive(Clone, Copy, Debug)]
pub enum Scheme<'a> {
    /// `Bearer`.
    Bearer,
    /// `DPoP`, with the proof that was verified for this request.
    Dpop(&'a ProvenKey),
}

/// What the request proved about the token's holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Nothing: whoever has the token can use it.
    Bearer,
    /// The key.
    Key(Jkt),
    /// The certificate.
    Certificate(X5t),
    /// Both.
    Both(Jkt, X5t),
}

/// Why a token was not taken from whoever presented it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// A token bound to a key came as a bearer token.
    #[error("the token is bound to a key, and no proof came with it")]
    Downgrade,
    /// A token that is bound to no key came with a proof.
    #[error("the token is not bound to a key")]
    NotBound,
    /// The proof is by another key.
    #[error("the proof is by another key")]
    OtherKey,
    /// The proof is for another token, or for none.
    #[error("the proof is not for this token")]
    OtherToken,
    /// No certificate came with it.
    #[error("the token is bound to a certificate, and none came with it")]
    CertificateMissing,
    /// The certificate is another one.
    #[error("the certificate is another one")]
    OtherCertificate,
}

impl Confirmation {
    pub(crate) fn read(members: Map<String, Value>) -> Result<Self, TokenError> {
        const CNF: TokenError = TokenError::Claim("cnf");
        let mut claims = Reader::new(members);
        let jkt: Option<Jkt> = claims.text_opt("jkt")?.map(|t| t.parse()).transpose().map_err(|_| CNF)?;
        let x5t: Option<X5t> =
            claims.text_opt("x5t#S256")?.map(|t| t.parse()).transpose().map_err(|_| CNF)?;
        match (jkt, x5t) {
            _ if !claims.others().is_empty() => Err(CNF),
            (Some(jkt), Some(x5t)) => Ok(Self::Both(jkt, x5t)),
            (Some(jkt), None) => Ok(Self::Key(jkt)),
            (None, Some(x5t)) => Ok(Self::Certificate(x5t)),
            (None, None) => Err(CNF),
        }
    }

    pub(crate) fn to_json(self) -> Map<String, Value> {
        let mut out = Map::new();
        put(&mut out, "jkt", self.key().map(|k| k.to_string()));
        put(&mut out, "x5t#S256", self.certificate().map(|c| c.to_string()));
        out
    }

    /// The key it names.
    #[must_use]
    pub const fn key(self) -> Option<Jkt> {
        match self {
            Self::Key(key) | Self::Both(key, _) => Some(key),
            Self::Certificate(_) => None,
        }
    }

    /// The certificate it names.
    #[must_use]
    pub const fn certificate(self) -> Option<X5t> {
        match self {
            Self::Certificate(x5t) | Self::Both(_, x5t) => Some(x5t),
            Self::Key(_) => None,
        }
    }

    /// Holds what a refresh token, code or other grant is bound to against what came with it to the token endpoint, where proofs are
    /// for no access token. What is not bound may come with a proof for the tokens to be issued.
    ///
    /// # Errors
    /// [`BindingError`].
    pub fn redeem(
        bound_to: Option<Self>,
        proven: Option<&ProvenKey>,
        certificate: Option<X5t>,
    ) -> Result<(), BindingError> {
        if let Some(key) = bound_to.and_then(Self::key)
            && proven.ok_or(BindingError::Downgrade)?.key() != key
        {
            return Err(BindingError::OtherKey);
        }
        Self::hold_certificate(bound_to, certificate).map(drop)
    }

    fn hold_certificate(bound_to: Option<Self>, shown: Option<X5t>) -> Result<Option<X5t>, BindingError> {
        let Some(wanted) = bound_to.and_then(Self::certificate) else { return Ok(None) };
        match shown {
            None => Err(BindingError::CertificateMissing),
            Some(shown) if shown != wanted => Err(BindingError::OtherCertificate),
            Some(_) => Ok(Some(wanted)),
        }
    }

    /// Holds a token's confirmation against how it was presented. `token` is the digest of the token's text, also for
    /// tokens that are not ours to read.
    ///
    /// # Errors
    /// [`BindingError`].
    pub fn check(
        bound_to: Option<Self>,
        token: Digest,
        how: &Presentation<'_>,
    ) -> Result<Bound, BindingError> {
        let key = match (bound_to.and_then(Self::key), how.scheme) {
            (None, Scheme::Bearer) => None,
            (Some(_), Scheme::Bearer) => return Err(BindingError::Downgrade),
            (None, Scheme::Dpop(_)) => return Err(BindingError::NotBound),
            (Some(key), Scheme::Dpop(proven)) => {
                if proven.key() != key {
                    return Err(BindingError::OtherKey);
                }
                if proven.token() != Some(token) {
                    return Err(BindingError::OtherToken);
                }
                Some(key)
            }
        };
        let certificate = Self::hold_certificate(bound_to, how.certificate)?;
        Ok(match (key, certificate) {
            (None, None) => Bound::Bearer,
            (Some(key), None) => Bound::Key(key),
            (None, Some(x5t)) => Bound::Certificate(x5t),
            (Some(key), Some(x5t)) => Bound::Both(key, x5t),
        })
    }
}

impl Verified<AccessClaims> {
    /// Holds the token's confirmation against how it was presented.
    ///
    /// # Errors
    /// [`BindingError`].
    pub fn bound(&self, how: &Presentation<'_>) -> Result<Bound, BindingError> {
        Confirmation::check(self.cnf, self.digest(), how)
    }
}
