//! An issuer for the measurements: one ES256 key, its public half as a JWKS, and a token signed with it.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::Error;

pub const ISSUER: &str = "https://issuer.bench.example";
pub const AUDIENCE: &str = "https://gateway.bench.example";
pub const SUBJECT: &str = "bench-user";
const KEY_ID: &str = "bench-1";
const LIFE_S: u64 = 24 * 3_600;

/// Bytes of a token that are signed: its head and its claims.
const SIGNED_BYTES: usize = 700;

/// How many tokens a core signs in a second with Ed25519 and does nothing else: no token endpoint can be quicker.
pub fn signatures_per_second(window: Duration) -> Result<f64, Error> {
    let key = Ed25519KeyPair::generate().map_err(|_| "no key could be made")?;
    let token = [b'x'; SIGNED_BYTES];
    let (began, mut signed) = (Instant::now(), 0_u32);
    while began.elapsed() < window {
        black_box(key.sign(black_box(&token)));
        signed += 1;
    }
    Ok(f64::from(signed) / began.elapsed().as_secs_f64())
}

pub struct Issuer {
    key: EcdsaKeyPair,
}

impl Issuer {
    pub fn new() -> Result<Self, Error> {
        let key =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| "no key could be made")?;
        Ok(Self { key })
    }

    /// The public keys (RFC 7517).
    pub fn jwks(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key().as_ref();
        let half =
            |range| URL_SAFE_NO_PAD.encode(point.get::<std::ops::Range<usize>>(range).unwrap_or_default());
        let key = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID, "x": half(1..33), "y": half(33..65),
        });
        json!({ "keys": [key] })
    }

    /// An access token (RFC 9068).
    pub fn token(&self) -> Result<String, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = json!({"typ": "at+jwt", "alg": "ES256", "kid": KEY_ID});
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "client_id": "bench", "iat": now, "auth_time": now, "exp": now + LIFE_S,
            "jti": "bench-token-1", "scope": "model:invoke model:list tool:use tool:list api:call", "groups": ["model-user"],
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| "the token could not be signed")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
