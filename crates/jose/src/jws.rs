//! Compact JWS (RFC 7515): parsed and bounded first, verified second.

use bartizan_base::{Digest, json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::jwk::{Jwk, Jwks, KID_MAX};

/// The longest token, in bytes.
pub(crate) const TOKEN_MAX: usize = 8 * 1024;
/// Room for an RSA key of 4096 bits in the header of a proof.
const HEADER_LIMITS: json::Limits = json::Limits { bytes_max: 1_024, depth_max: 2, nodes_max: 32 };
pub(crate) const PAYLOAD_LIMITS: json::Limits =
    json::Limits { bytes_max: TOKEN_MAX, depth_max: 12, nodes_max: 1_000 };

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not three canonical base64url parts within bounds.
    #[error("not a compact JWS")]
    Shape,
    /// The header holds what is not accepted: `crit`, `b64`, `zip`, or a key or key address of its own.
    #[error("the header holds something that is not accepted")]
    Header,
    /// The key is of another algorithm than the header says, or the algorithm is not accepted.
    #[error("the algorithm does not fit the key")]
    Algorithm,
    /// No key of the issuer has that id.
    #[error("no key has that id")]
    UnknownKey,
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
}

/// A parsed token whose signature was not looked at yet.
#[derive(Debug)]
pub struct Jws<'a> {
    text: &'a str,
    signed: &'a str,
    algorithm: Option<Algorithm>,
    typ: Option<String>,
    kid: Option<String>,
    jwk: Option<Value>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Reads a token within bounds. Nothing in it is to be believed yet.
    ///
    /// # Errors
    /// `Shape` or `Header`.
    pub fn parse(token: &'a str) -> Result<Self, JwsError> {
        let jws = Self::parse_any(token)?;
        if jws.jwk.is_some() { Err(JwsError::Header) } else { Ok(jws) }
    }

    /// As [`Jws::parse`], for a proof of possession: with the key in the header, and only that.
    pub(crate) fn parse_proof(token: &'a str) -> Result<(Self, Value), JwsError> {
        let mut jws = Self::parse_any(token)?;
        let key = jws.jwk.take().filter(|_| jws.kid.is_none()).ok_or(JwsError::Header)?;
        Ok((jws, key))
    }

    fn parse_any(token: &'a str) -> Result<Self, JwsError> {
        if token.len() > TOKEN_MAX || token.bytes().filter(|b| *b == b'.').count() != 2 {
            return Err(JwsError::Shape);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwsError::Shape)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Shape)?;
        // The engine refuses padding, foreign characters and bits left over.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Shape);
        let mut header = json::parse(&decode(header)?, HEADER_LIMITS).map_err(|_| JwsError::Shape)?;
        let members = header.as_object_mut().ok_or(JwsError::Shape)?;
        if ["crit", "b64", "zip", "jku", "x5u", "x5c", "enc"].iter().any(|name| members.contains_key(*name)) {
            return Err(JwsError::Header);
        }
        let mut text = |name: &str| match members.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(JwsError::Header),
        };
        let (algorithm, typ, kid) = (text("alg")?, text("typ")?, text("kid")?);
        if kid.as_ref().is_some_and(|kid| kid.len() > KID_MAX) {
            return Err(JwsError::Header);
        }
        Ok(Self {
            text: token,
            signed,
            algorithm: algorithm.as_deref().and_then(Algorithm::named),
            typ,
            kid,
            jwk: members.remove("jwk"),
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }

    /// What kind of token it claims to be.
    #[must_use]
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// Whether it claims the media type `typ`, in any case and with or without `application/` (RFC 7515, 4.1.9).
    #[must_use]
    pub fn is_typ(&self, typ: &str) -> bool {
        const PREFIX: &str = "application/";
        self.typ().is_some_and(|t| {
            t.eq_ignore_ascii_case(typ)
                || t.split_at_checked(PREFIX.len())
                    .is_some_and(|(p, t)| p.eq_ignore_ascii_case(PREFIX) && t.eq_ignore_ascii_case(typ))
        })
    }

    /// The payload, not to be believed.
    #[must_use]
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Which issuer it claims, only to know whose keys to try.
    #[must_use]
    pub fn claimed_issuer(&self) -> Option<String> {
        match json::parse(&self.payload, PAYLOAD_LIMITS).ok()?.get_mut("iss")?.take() {
            Value::String(iss) => Some(iss),
            _ => None,
        }
    }

    /// The digest of the whole token: what a caller's cache may be keyed by, and a proof's `ath`.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// Which algorithm the header says.
    pub(crate) fn algorithm(&self) -> Result<Algorithm, JwsError> {
        self.algorithm.ok_or(JwsError::Algorithm)
    }

    /// Verifies the signature with the issuer's keys and gives the payload.
    ///
    /// # Errors
    /// `UnknownKey`, `Algorithm` or `Signature`.
    pub fn verify(&self, keys: &Jwks) -> Result<&[u8], JwsError> {
        self.verify_by(keys).map(|_| self.payload.as_slice())
    }

    /// Verifies the signature and says which key holds.
    pub(crate) fn verify_by<'k>(&self, keys: &'k Jwks) -> Result<&'k Jwk, JwsError> {
        let algorithm = self.algorithm()?;
        let key = keys.find(self.kid.as_deref()).ok_or(JwsError::UnknownKey)?;
        if key.algorithm() != algorithm {
            return Err(JwsError::Algorithm);
        }
        self.verify_with(key).map(|()| key)
    }

    pub(crate) fn verify_with(&self, key: &Jwk) -> Result<(), JwsError> {
        let holds = key.verifies(self.signed.as_bytes(), &self.signature);
        if holds { Ok(()) } else { Err(JwsError::Signature) }
    }
}
