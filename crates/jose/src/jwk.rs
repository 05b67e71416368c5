//! Public keys: a JWK (RFC 7517) with its one algorithm, and sets of them.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use bartizan_base::{Digest, json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::algorithm::Algorithm;
use crate::thumbprint::Jkt;

const SET_LIMITS: json::Limits = json::Limits { bytes_max: 64 * 1024, depth_max: 8, nodes_max: 4_000 };
const KEYS_MAX: usize = 64;
/// The longest key id, in bytes.
pub(crate) const KID_MAX: usize = 128;

/// Encodings of the points of small order on edwards25519, without the sign bit: under such a key a signature holds for
/// any message. Non-canonical encodings are refused apart.
const SMALL_ORDER: [[u8; 32]; 5] = {
    let (mut zero, mut one, mut minus_one) = ([0; 32], [0; 32], [0xff; 32]);
    zero[0] = 0;
    one[0] = 1;
    minus_one[0] = 0xec;
    minus_one[31] = 0x7f;
    [
        zero,
        one,
        minus_one,
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
            0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
            0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};

/// A public key with its one algorithm.
#[derive(Clone, PartialEq, Eq)]
pub struct Jwk {
    kid: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    Ed25519([u8; 32]),
    /// Uncompressed: 4, x, y.
    P256([u8; 65]),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

/// A JWK set.
#[derive(Clone, Debug, Default)]
pub struct Jwks(Vec<Jwk>);

/// Why a key or a set is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Not JSON, or too large.
    #[error("not a JWK set: {0}")]
    Json(String),
    /// A member is missing or has the wrong form.
    #[error("a key's `{0}` is missing or malformed")]
    Member(&'static str),
    /// The set holds a private or symmetric key.
    #[error("the set holds a private or symmetric key")]
    Private,
    /// Two keys have one id.
    #[error("two keys have the id `{0}`")]
    Duplicate(String),
    /// Too many keys.
    #[error("the set holds more than 64 keys")]
    TooMany,
    /// RSA outside 2048 to 4096 bits, or with an unusable exponent.
    #[error("an RSA key must have 2048 to 4096 bits and an odd exponent")]
    RsaSize,
    /// A point of small order, off the curve, or written in another than the one canonical way.
    #[error("a key is no usable point of its curve")]
    Point,
}

impl Jwks {
    /// Reads a set. Keys of unknown kinds or for other uses are left out; a private key anywhere refuses the whole set.
    ///
    /// # Errors
    /// [`JwkError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JwkError> {
        let set = json::parse(bytes, SET_LIMITS).map_err(|e| JwkError::Json(e.to_string()))?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(JwkError::Member("keys"))?;
        if keys.len() > KEYS_MAX {
            return Err(JwkError::TooMany);
        }
        let mut all = Vec::new();
        for key in keys {
            all.extend(Jwk::parse(key)?);
        }
        Self::of(all)
    }

    /// The set of `keys`.
    ///
    /// # Errors
    /// [`JwkError::Duplicate`] or [`JwkError::TooMany`].
    pub fn of(keys: impl IntoIterator<Item = Jwk>) -> Result<Self, JwkError> {
        let mut out: Vec<Jwk> = Vec::new();
        for key in keys {
            if let Some(kid) = key.kid.as_ref().filter(|_| out.iter().any(|k| k.kid == key.kid)) {
                return Err(JwkError::Duplicate(kid.clone()));
            }
            if out.len() == KEYS_MAX {
                return Err(JwkError::TooMany);
            }
            out.push(key);
        }
        Ok(Self(out))
    }

    /// The set as a document to publish (`application/jwk-set+json`).
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"keys": self.0.iter().map(Jwk::to_json).collect::<Vec<_>>()})
    }

    /// The key with that id; without an id, the only key there is.
    #[must_use]
    pub fn find(&self, kid: Option<&str>) -> Option<&Jwk> {
        match (kid, self.0.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|k| k.kid.as_deref() == Some(kid)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = &Jwk> {
        self.0.iter()
    }

    /// Whether there are no usable keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn member<'a>(key: &'a Value, name: &'static str) -> Result<&'a str, JwkError> {
    key.get(name).and_then(Value::as_str).ok_or(JwkError::Member(name))
}

fn bytes(key: &Value, name: &'static str) -> Result<Vec<u8>, JwkError> {
    URL_SAFE_NO_PAD.decode(member(key, name)?).map_err(|_| JwkError::Member(name))
}

fn is_private(key: &Value) -> bool {
    key.get("kty").is_some_and(|kty| kty == "oct")
        || ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|private| key.get(private).is_some())
}

impl Jwk {
    fn parse(key: &Value) -> Result<Option<Self>, JwkError> {
        member(key, "kty")?;
        if is_private(key) {
            return Err(JwkError::Private);
        }
        if key.get("use").is_some_and(|u| u != "sig") {
            return Ok(None);
        }
        let kid = match key.get("kid") {
            None => None,
            Some(kid) => {
                Some(kid.as_str().filter(|k| k.len() <= KID_MAX).ok_or(JwkError::Member("kid"))?.to_owned())
            }
        };
        let Some(material) = Material::parse(key)? else { return Ok(None) };
        if let Material::P256(point) = &material
            && ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_err()
        {
            return Err(JwkError::Point);
        }
        let algorithm = match key.get("alg") {
            None => material.algorithms().first().copied(),
            Some(alg) => {
                alg.as_str().and_then(Algorithm::named).filter(|a| material.algorithms().contains(a))
            }
        };
        Ok(algorithm.map(|algorithm| Self { kid, algorithm, material }))
    }

    /// The key in the header of a proof of possession, for the algorithm of that header. Whether a point lies on its
    /// curve is seen when the signature is verified.
    pub(crate) fn embedded(key: &Value, algorithm: Algorithm) -> Result<Self, JwkError> {
        if is_private(key) {
            return Err(JwkError::Private);
        }
        let material = Material::parse(key)?.ok_or(JwkError::Member("kty"))?;
        let fits = material.algorithms().contains(&algorithm)
            && key.get("alg").is_none_or(|alg| alg.as_str().and_then(Algorithm::named) == Some(algorithm))
            && key.get("use").is_none_or(|u| u == "sig");
        if fits { Ok(Self { kid: None, algorithm, material }) } else { Err(JwkError::Member("alg")) }
    }

    pub(crate) const fn ed25519(x: [u8; 32]) -> Self {
        Self { kid: None, algorithm: Algorithm::Ed25519, material: Material::Ed25519(x) }
    }

    pub(crate) const fn p256(point: [u8; 65]) -> Self {
        Self { kid: None, algorithm: Algorithm::Es256, material: Material::P256(point) }
    }

    /// The same key under the id `kid`.
    #[must_use]
    pub fn with_kid(mut self, kid: String) -> Self {
        self.kid = Some(kid);
        self
    }

    /// The key's id.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm of the key.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Ed25519(x) => UnparsedPublicKey::new(&ED25519, x).verify(message, signature).is_ok(),
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            Material::Rsa { n, e } => {
                let padding = if self.algorithm == Algorithm::Ps256 {
                    &RSA_PSS_2048_8192_SHA256
                } else {
                    &RSA_PKCS1_2048_8192_SHA256
                };
                RsaPublicKeyComponents { n, e }.verify(padding, message, signature).is_ok()
            }
        }
    }

    /// The thumbprint (RFC 7638). The same for every algorithm of one key.
    #[must_use]
    pub fn thumbprint(&self) -> Jkt {
        // JCS is what RFC 7638 asks for: members sorted, no space; base64url needs no escapes.
        Jkt::from_digest(Digest::of(self.bare_json().to_string().as_bytes()))
    }

    /// The members that make the key, and nothing else.
    pub(crate) fn bare_json(&self) -> Value {
        let b64 = |b: &[u8]| URL_SAFE_NO_PAD.encode(b);
        match &self.material {
            Material::Ed25519(x) => json!({"crv": "Ed25519", "kty": "OKP", "x": b64(x)}),
            Material::P256(point) => {
                let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
                json!({"crv": "P-256", "kty": "EC", "x": b64(x), "y": b64(y)})
            }
            Material::Rsa { n, e } => json!({"e": b64(e), "kty": "RSA", "n": b64(n)}),
        }
    }

    /// The key as a member of a set: with its id, its one algorithm and its use.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut key = self.bare_json();
        if let Some(members) = key.as_object_mut() {
            members.extend(self.kid.iter().map(|kid| ("kid".to_owned(), kid.as_str().into())));
            members.insert("alg".to_owned(), self.algorithm.name().into());
            members.insert("use".to_owned(), "sig".into());
        }
        key
    }
}

impl Material {
    fn parse(key: &Value) -> Result<Option<Self>, JwkError> {
        Ok(match (member(key, "kty")?, key.get("crv").and_then(Value::as_str)) {
            ("OKP", Some("Ed25519")) => {
                let x: [u8; 32] = bytes(key, "x")?.try_into().map_err(|_| JwkError::Member("x"))?;
                let mut unsigned = x;
                unsigned[31] &= 0x7f;
                // 2^255 - 19 and above: a second spelling of another point, and of its thumbprint.
                let over = unsigned[0] >= 0xed
                    && unsigned[31] == 0x7f
                    && unsigned.get(1..31).is_some_and(|middle| middle.iter().all(|b| *b == 0xff));
                if over || SMALL_ORDER.contains(&unsigned) {
                    return Err(JwkError::Point);
                }
                Some(Self::Ed25519(x))
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(key, "x")?, bytes(key, "y")?);
                if x.len() != 32 {
                    return Err(JwkError::Member("x"));
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                Some(Self::P256(point.try_into().map_err(|_| JwkError::Member("y"))?))
            }
            ("RSA", _) => {
                let (n, e) = (bytes(key, "n")?, bytes(key, "e")?);
                let bits = n.len() * 8 - n.first().map_or(0, |b| b.leading_zeros() as usize);
                let exponent = (1..=8).contains(&e.len())
                    && e.first().is_some_and(|b| *b != 0)
                    && e.last().is_some_and(|b| b % 2 == 1)
                    && e != [1];
                if n.first().is_none_or(|b| *b == 0) || !(2_048..=4_096).contains(&bits) || !exponent {
                    return Err(JwkError::RsaSize);
                }
                Some(Self::Rsa { n, e })
            }
            _ => None,
        })
    }

    /// What the material can be used for; the first where the key does not say.
    const fn algorithms(&self) -> &'static [Algorithm] {
        match self {
            Self::Ed25519(_) => &[Algorithm::Ed25519],
            Self::P256(_) => &[Algorithm::Es256],
            Self::Rsa { .. } => &[Algorithm::Rs256, Algorithm::Ps256],
        }
    }
}

impl std::fmt::Debug for Jwk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jwk({}, {:?})", self.algorithm.name(), self.kid)
    }
}
