//! Compact JWS (RFC 7515): parsed and bounded first, verified second.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use bartizan_base::{Random, json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::jwk::{Algorithm, Jwk, Jwks, KID_MAX};

/// The longest token, in bytes.
const TOKEN_MAX: usize = 8 * 1024;
const HEADER_LIMITS: json::Limits = json::Limits { bytes_max: 1_024, depth_max: 2, nodes_max: 32 };
pub(crate) const PAYLOAD_LIMITS: json::Limits =
    json::Limits { bytes_max: TOKEN_MAX, depth_max: 12, nodes_max: 1_000 };

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not three canonical base64url parts within bounds.
    #[error("not a compact JWS")]
    Shape,
    /// The header holds what is not accepted: `none`, `crit`, `b64`, `zip`, or a key or key address of its own.
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
    signed: &'a str,
    header: Value,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Reads a token within bounds. Nothing in it is to be believed yet.
    ///
    /// # Errors
    /// `Shape` or `Header`.
    pub fn parse(token: &'a str) -> Result<Self, JwsError> {
        if token.len() > TOKEN_MAX || token.bytes().filter(|b| *b == b'.').count() != 2 {
            return Err(JwsError::Shape);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwsError::Shape)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Shape)?;
        // The engine refuses padding, foreign characters and bits left over.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Shape);
        let header = json::parse(&decode(header)?, HEADER_LIMITS).map_err(|_| JwsError::Shape)?;
        let members = header.as_object().ok_or(JwsError::Shape)?;
        if ["crit", "b64", "zip", "jwk", "jku", "x5u", "x5c", "enc"]
            .iter()
            .any(|name| members.contains_key(*name))
        {
            return Err(JwsError::Header);
        }
        let text = |name: &str| members.get(name).is_none_or(Value::is_string);
        if !text("alg") || !text("typ") || !text("kid") {
            return Err(JwsError::Header);
        }
        if members.get("kid").and_then(Value::as_str).is_some_and(|kid| kid.len() > KID_MAX) {
            return Err(JwsError::Header);
        }
        Ok(Self { signed, payload: decode(payload)?, signature: decode(signature)?, header })
    }

    /// What kind of token it claims to be.
    #[must_use]
    pub fn typ(&self) -> Option<&str> {
        self.header.get("typ").and_then(Value::as_str)
    }

    /// The payload, not to be believed.
    #[must_use]
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Verifies the signature with the issuer's keys and gives the payload.
    ///
    /// # Errors
    /// `UnknownKey`, `Algorithm` or `Signature`.
    pub fn verify(&self, keys: &Jwks) -> Result<&[u8], JwsError> {
        let alg = self.header.get("alg").and_then(Value::as_str).ok_or(JwsError::Algorithm)?;
        if ![Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256].iter().any(|a| a.name() == alg) {
            return Err(JwsError::Algorithm);
        }
        let kid = self.header.get("kid").and_then(Value::as_str);
        let key: &Jwk = keys.find(kid).ok_or(JwsError::UnknownKey)?;
        if key.algorithm().name() != alg {
            return Err(JwsError::Algorithm);
        }
        if key.verifies(self.signed.as_bytes(), &self.signature) {
            Ok(&self.payload)
        } else {
            Err(JwsError::Signature)
        }
    }
}

/// A key that signs tokens, with its public JWK.
pub struct SigningKey {
    kid: String,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair, SystemRandom),
}

impl SigningKey {
    /// A new Ed25519 key; none if the generator fails.
    #[must_use]
    pub fn ed25519(kid: &str, random: &dyn Random) -> Option<Self> {
        let mut seed = zeroize_on_drop();
        random.fill(&mut seed.0);
        Some(Self {
            kid: kid.to_owned(),
            pair: Pair::Ed25519(Ed25519KeyPair::from_seed_unchecked(&seed.0).ok()?),
        })
    }

    /// A new P-256 key; none if the generator fails.
    #[must_use]
    pub fn p256(kid: &str) -> Option<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
        Some(Self { kid: kid.to_owned(), pair: Pair::P256(pair, SystemRandom::new()) })
    }

    /// The public half as a JWK.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        let b64 = |b: &[u8]| URL_SAFE_NO_PAD.encode(b);
        match &self.pair {
            Pair::Ed25519(pair) => serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": b64(pair.public_key().as_ref())
            }),
            Pair::P256(pair, _) => {
                let (x, y) = pair
                    .public_key()
                    .as_ref()
                    .get(1..)
                    .unwrap_or_default()
                    .split_at_checked(32)
                    .unwrap_or_default();
                serde_json::json!({
                    "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid, "x": b64(x), "y": b64(y)
                })
            }
        }
    }

    /// Signs `claims` as a token of type `typ`; none if signing fails.
    #[must_use]
    pub fn sign(&self, typ: &str, claims: &Value) -> Option<String> {
        let alg = match self.pair {
            Pair::Ed25519(_) => Algorithm::EdDsa,
            Pair::P256(..) => Algorithm::Es256,
        };
        let header = serde_json::json!({"alg": alg.name(), "typ": typ, "kid": self.kid});
        let b64 = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let signed = format!("{}.{}", b64(&header), b64(claims));
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            Pair::P256(pair, random) => pair.sign(random, signed.as_bytes()).ok()?.as_ref().to_vec(),
        };
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?})", self.kid)
    }
}

struct Seed([u8; 32]);

const fn zeroize_on_drop() -> Seed {
    Seed([0; 32])
}

impl Drop for Seed {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}
