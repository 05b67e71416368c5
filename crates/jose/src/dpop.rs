//! Proofs of possession at the level of the application: DPoP (RFC 9449).

use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::claims::{SKEW_MAX, put};
use crate::jwk::{Jwk, JwkError};
use crate::jws::{Jws, JwsError};
use crate::nonce::Nonces;
use crate::reader::Reader;
use crate::thumbprint::Jkt;
use crate::token::{Replay, TokenError};
use crate::uri::normal_uri;

/// The oldest proof that is ever taken.
const AGE_MAX: Duration = Duration::from_secs(300);
/// The longest id of a proof, in bytes.
const JTI_MAX: usize = 256;

/// The claims of a proof: this request, with this token, by the holder of the key in the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpopProof {
    /// Its id, taken once.
    pub jti: String,
    /// The method of the request.
    pub htm: String,
    /// The address of the request, without query and fragment.
    pub htu: String,
    /// When it was made.
    pub issued: Timestamp,
    /// The digest of the access token that it comes with.
    pub ath: Option<Digest>,
    /// What the server asked to have sent back.
    pub nonce: Option<String>,
}

/// Against what a proof is held.
#[derive(Clone, Copy, Debug)]
pub struct DpopRules<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// The address of the request as the client sees it: built from configuration, never from a header of the request.
    pub uri: &'a str,
    /// The moment of the check.
    pub now: Timestamp,
    /// How old a proof may be; at most five minutes.
    pub age_max: Duration,
    /// How far the client's clock may be ahead; at most [`SKEW_MAX`].
    pub skew: Duration,
    /// The access token that came with it. None only where a token is asked for.
    pub access_token: Option<&'a str>,
    /// Whether a nonce is asked for.
    pub nonce: NonceRule<'a>,
}

/// Whether a proof needs a nonce of ours.
#[derive(Clone, Copy, Debug)]
pub enum NonceRule<'a> {
    /// It does not; one that is there is not looked at.
    Off,
    /// It needs one that these nonces accept.
    Required(&'a Nonces),
}

/// A key that whoever sent the request has proven to hold. Only [`DpopProof::verify`] makes it.
#[derive(Clone, Debug)]
pub struct ProvenKey {
    key: Jkt,
    algorithm: Algorithm,
    token: Option<Digest>,
    replay: Replay,
}

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    /// Not a proof, or its signature does not hold.
    #[error("not a proof: {0}")]
    Token(#[from] TokenError),
    /// The key in the header is not acceptable.
    #[error("the key of the proof is not acceptable: {0}")]
    Key(#[from] JwkError),
    /// For a request by another method.
    #[error("the proof is for another method")]
    Method,
    /// For a request to another address.
    #[error("the proof is for another address")]
    Uri,
    /// Too old, or from the future.
    #[error("the proof is not of now")]
    Stale,
    /// For another access token, or for none.
    #[error("the proof is for another access token")]
    AccessToken,
    /// No nonce, or one that is not ours or ran out: answer `use_dpop_nonce` with a fresh one.
    #[error("the proof needs a fresh nonce")]
    UseNonce,
}

impl From<JwsError> for DpopError {
    fn from(error: JwsError) -> Self {
        Self::Token(error.into())
    }
}

impl ProvenKey {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> Jkt {
        self.key
    }

    /// Its algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest of the access token that the proof is for.
    #[must_use]
    pub const fn token(&self) -> Option<Digest> {
        self.token
    }

    /// What to remember, so that the proof is taken once. The proof is good only after that succeeded.
    #[must_use]
    pub const fn replay(&self) -> Replay {
        self.replay
    }
}

impl DpopProof {
    /// The type in the header.
    pub const TYP: &'static str = "dpop+jwt";

    /// Verifies a proof (RFC 9449, 4.3). That there is exactly one `DPoP` header in the request, and that the id was not
    /// seen before ([`ProvenKey::replay`]), is the caller's to check.
    ///
    /// # Errors
    /// [`DpopError`].
    pub fn verify(proof: &str, rules: &DpopRules<'_>) -> Result<ProvenKey, DpopError> {
        let (jws, jwk) = Jws::parse_proof(proof)?;
        if !jws.is_typ(Self::TYP) {
            return Err(TokenError::Type.into());
        }
        let key = Jwk::embedded(&jwk, jws.algorithm()?)?;
        let claims = Self::read(Reader::parse(jws.unverified_payload())?)?;
        jws.verify_with(&key)?;
        claims.check(rules)?;
        let jkt = key.thumbprint();
        // A proof may be as old as `age_max` when it is seen, and as young as `skew` ahead.
        let until = claims.issued.saturating_add(rules.age_max()).saturating_add(rules.skew());
        Ok(ProvenKey {
            key: jkt,
            algorithm: key.algorithm(),
            token: rules.access_token.and(claims.ath),
            replay: Replay { id: Replay::id("dpop", &jkt.to_string(), &claims.jti), until },
        })
    }

    fn check(&self, rules: &DpopRules<'_>) -> Result<(), DpopError> {
        if self.htm != rules.method {
            return Err(DpopError::Method);
        }
        let wanted = normal_uri(rules.uri).ok_or(DpopError::Uri)?;
        if normal_uri(&self.htu).as_ref() != Some(&wanted) {
            return Err(DpopError::Uri);
        }
        if self.issued > rules.now.saturating_add(rules.skew())
            || rules.now.saturating_since(self.issued) > rules.age_max()
        {
            return Err(DpopError::Stale);
        }
        if rules.access_token.is_some_and(|token| self.ath != Some(Digest::of(token.as_bytes()))) {
            return Err(DpopError::AccessToken);
        }
        match rules.nonce {
            NonceRule::Off => Ok(()),
            NonceRule::Required(nonces) => {
                let fresh = self.nonce.as_deref().is_some_and(|nonce| nonces.accepts(nonce, rules.now));
                if fresh { Ok(()) } else { Err(DpopError::UseNonce) }
            }
        }
    }

    pub(crate) fn read(mut claims: Reader) -> Result<Self, TokenError> {
        let ath = claims.text_opt("ath")?.map(|text| text.parse::<Jkt>()).transpose();
        let read = Self {
            jti: claims.text("jti")?,
            htm: claims.text("htm")?,
            htu: claims.text("htu")?,
            issued: claims.date("iat")?,
            ath: ath.map_err(|_| TokenError::Claim("ath"))?.map(|t| *t.digest()),
            nonce: claims.text_opt("nonce")?,
        };
        if read.jti.len() > JTI_MAX { Err(TokenError::Claim("jti")) } else { Ok(read) }
    }

    pub(crate) fn write(&self) -> Map<String, Value> {
        let mut out = Map::new();
        put(&mut out, "jti", Some(self.jti.as_str()));
        put(&mut out, "htm", Some(self.htm.as_str()));
        put(&mut out, "htu", Some(self.htu.as_str()));
        put(&mut out, "iat", Some(self.issued.as_secs()));
        put(&mut out, "ath", self.ath.map(|ath| URL_SAFE_NO_PAD.encode(ath.as_bytes())));
        put(&mut out, "nonce", self.nonce.as_deref());
        out
    }
}

impl DpopRules<'_> {
    fn age_max(&self) -> Duration {
        self.age_max.min(AGE_MAX)
    }

    fn skew(&self) -> Duration {
        self.skew.min(SKEW_MAX)
    }
}
