//! For tests: an issuer that is not ours, which signs whatever it is told to. It makes its own keys and takes no others, so
//! that it can sign nothing in the name of the house.

use bartizan_base::Random;
use serde_json::{Value, json};

use crate::algorithm::Algorithm;
use crate::key::SigningKey;

/// A key of a foreign issuer, under an id that the issuer chose.
#[derive(Debug)]
pub struct ForeignKey {
    kid: String,
    key: SigningKey,
}

impl ForeignKey {
    /// An Ed25519 key.
    #[must_use]
    pub fn ed25519(kid: &str, random: &dyn Random) -> Option<Self> {
        Some(Self { kid: kid.to_owned(), key: SigningKey::generate(Algorithm::Ed25519, random).ok()? })
    }

    /// A P-256 key of its own randomness.
    #[must_use]
    pub fn p256(kid: &str) -> Option<Self> {
        #[derive(Debug)]
        struct System;
        impl Random for System {
            fn fill(&self, out: &mut [u8]) {
                // What stays zero is no key, so that failing shows.
                aws_lc_rs::rand::fill(out).unwrap_or_default();
            }
        }
        Some(Self { kid: kid.to_owned(), key: SigningKey::generate(Algorithm::Es256, &System).ok()? })
    }

    /// The public half, with the older name of Ed25519 that most issuers write.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        let mut jwk = self.key.public().clone().with_kid(self.kid.clone()).to_json();
        if let Some(alg) = jwk.get_mut("alg") {
            *alg = self.alg().into();
        }
        jwk
    }

    /// Signs `claims` as a token of type `typ`.
    #[must_use]
    pub fn sign(&self, typ: &str, claims: &Value) -> Option<String> {
        self.sign_with(&json!({"alg": self.alg(), "typ": typ, "kid": self.kid}), claims)
    }

    /// Signs `claims` under whatever header.
    #[must_use]
    pub fn sign_with(&self, header: &Value, claims: &Value) -> Option<String> {
        self.key.compact(header, claims).ok()
    }

    const fn alg(&self) -> &'static str {
        match self.key.algorithm() {
            Algorithm::Ed25519 => "EdDSA",
            other => other.name(),
        }
    }
}
