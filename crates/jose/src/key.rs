//! Keys that sign, and issuing.

use aws_lc_rs::agreement;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use bartizan_base::Random;
use bartizan_secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::dpop::DpopProof;
use crate::jwk::Jwk;
use crate::jws::TOKEN_MAX;
use crate::reader::Reader;
use crate::thumbprint::Jkt;
use crate::token::{Profile, TokenError};

/// How often a number is drawn before the generator counts as broken: one in 2^32 is no scalar of P-256.
const DRAWS: usize = 4;

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// We do not sign with RSA.
    #[error("keys of this algorithm only verify")]
    VerifyOnly,
    /// The private part is no key of that algorithm.
    #[error("the private part is not usable")]
    Unusable,
}

/// Why a token was not issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The claims are not what their profile demands, so that nobody could read the token.
    #[error("the claims do not make a token: {0}")]
    Claims(#[from] TokenError),
    /// A member of `others` has the name of a claim of the profile.
    #[error("an additional claim has the name of a claim of the profile")]
    Shadowed,
    /// Longer than any reader takes.
    #[error("the token would be longer than 8 KiB")]
    TooLong,
    /// The provider refused to sign.
    #[error("signing failed")]
    Signing,
}

/// A key that signs, its id being its thumbprint (RFC 7638).
pub struct SigningKey {
    kid: String,
    public: Jwk,
    private: Secret<[u8; 32]>,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// A new key of Ed25519 or ES256. `random` must be a cryptographic generator outside tests.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn generate(algorithm: Algorithm, random: &dyn Random) -> Result<Self, KeyError> {
        let mut error = KeyError::Unusable;
        for _ in 0..DRAWS {
            let mut bytes = Zeroizing::new([0; 32]);
            random.fill(bytes.as_mut_slice());
            match Self::from_private(algorithm, Secret::new(*bytes)) {
                Ok(key) => return Ok(key),
                Err(e) => error = e,
            }
        }
        Err(error)
    }

    /// The key with this private part: the seed of Ed25519 (RFC 8032), or the scalar of P-256, big end first.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_private(algorithm: Algorithm, private: Secret<[u8; 32]>) -> Result<Self, KeyError> {
        let bytes = private.expose().as_slice();
        let (public, pair) = match algorithm {
            Algorithm::Ed25519 => {
                let pair = Ed25519KeyPair::from_seed_unchecked(bytes).map_err(|_| KeyError::Unusable)?;
                let x = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Unusable)?;
                (Jwk::ed25519(x), Pair::Ed25519(pair))
            }
            Algorithm::Es256 => {
                let point = agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, bytes)
                    .ok()
                    .and_then(|key| key.compute_public_key().ok())
                    .ok_or(KeyError::Unusable)?;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    bytes,
                    point.as_ref(),
                )
                .map_err(|_| KeyError::Unusable)?;
                (Jwk::p256(point.as_ref().try_into().map_err(|_| KeyError::Unusable)?), Pair::P256(pair))
            }
            Algorithm::Rs256 | Algorithm::Ps256 => return Err(KeyError::VerifyOnly),
        };
        let kid = public.thumbprint().to_string();
        Ok(Self { public: public.with_kid(kid.clone()), kid, private, pair })
    }

    /// The private part, for the code that keeps it under encryption.
    #[must_use]
    pub const fn private(&self) -> &Secret<[u8; 32]> {
        &self.private
    }

    /// The public half, for the set that is published.
    #[must_use]
    pub const fn public(&self) -> &Jwk {
        &self.public
    }

    /// The id: the thumbprint as text.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The thumbprint.
    #[must_use]
    pub fn thumbprint(&self) -> Jkt {
        self.public.thumbprint()
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// Issues a token. What no reader would take is not issued.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue<P: Profile>(&self, claims: &P) -> Result<Secret<String>, IssueError> {
        let payload = claims.write()?;
        let read = P::read(Reader::new(payload.clone()))?;
        if read.others() != claims.others() {
            return Err(IssueError::Shadowed);
        }
        let header = json!({"alg": self.algorithm().name(), "typ": P::TYP, "kid": self.kid});
        self.compact(&header, &Value::Object(payload)).map(Secret::new)
    }

    /// Signs a proof that we hold this key (RFC 9449), with the public half in its header.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn prove(&self, proof: &DpopProof) -> Result<Secret<String>, IssueError> {
        let payload: Map<String, Value> = proof.write();
        DpopProof::read(Reader::new(payload.clone()))?;
        let header =
            json!({"alg": self.algorithm().name(), "typ": DpopProof::TYP, "jwk": self.public.bare_json()});
        self.compact(&header, &Value::Object(payload)).map(Secret::new)
    }

    /// Signs whatever it is given.
    pub(crate) fn compact(&self, header: &Value, payload: &Value) -> Result<String, IssueError> {
        let b64 = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let mut token = format!("{}.{}", b64(header), b64(payload));
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.try_sign(token.as_bytes()),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), token.as_bytes()),
        };
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.map_err(|_| IssueError::Signing)?));
        if token.len() > TOKEN_MAX { Err(IssueError::TooLong) } else { Ok(token) }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({}, {:?})", self.algorithm().name(), self.kid)
    }
}
