//! Signed policy: what is in force, said by the house's own key, so that a state database alone can put nothing in force.
//!
//! The form is DSSE (<https://github.com/secure-systems-lab/dsse>, protocol 1.0.2) with one Ed25519 signature (RFC 8032) over
//! a [`Statement`] in canonical JSON (RFC 8785). The text is kept and checked as it was signed, byte for byte.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use bartizan_base::{Digest, Name, Random, Timestamp, json};
use bartizan_model::{PrincipalId, Tenant};
use bartizan_secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::printed::{self, PrintedError};

const PAYLOAD_TYPE: &str = "application/vnd.bartizan.policy+json";
const AUTHOR_TYPE: &str = "application/vnd.bartizan.policy-author+json";
const PUBLIC_PREFIX: &str = "ed25519:";
const PRIVATE_PREFIX: &str = "btzp_";
const LIMITS: json::Limits = json::Limits { bytes_max: 256 << 10, depth_max: 16, nodes_max: 10_000 };

/// What the house says about one version of its policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Whose policy.
    pub tenant: Tenant,
    /// What its bundle calls itself.
    pub name: String,
    /// Grows with every change, for ever.
    pub version: u64,
    /// The version that was in force before, with its bundle; absent for the first.
    pub base: Option<Base>,
    /// The bundle in force.
    pub bundle: Digest,
    /// What is tried beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// The earlier version that this one returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
    /// When it was signed.
    pub created: Timestamp,
    /// Who put it in force, by pseudonym; absent for what an installation begins with, and after recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<PrincipalId>,
    /// What trusted authors have signed, where that was demanded or given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authored: Option<Authored>,
}

/// A version with its bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// The version.
    pub version: u64,
    /// Its bundle.
    pub bundle: Digest,
}

/// A bundle that is tried beside the one in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Which.
    pub bundle: Digest,
    /// How.
    pub stage: Stage,
    /// What trusted authors have signed of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authored: Option<Authored>,
}

/// How a candidate is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// Evaluated beside the bundle in force; answers nobody.
    Shadow {
        /// Of how many of a thousand decisions.
        permille: u16,
    },
    /// In force for some callers.
    Rollout {
        /// For how many of a hundred, chosen by their pseudonyms and stable as long as the candidate is the same.
        percent: u8,
        /// And for everybody in these groups.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        groups: BTreeSet<Name>,
    },
}

/// What authors signed: good for one tenant, bundle and base, so that it cannot be used again later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authored {
    /// The version that the authors knew as the one in force.
    pub base: u64,
    /// Their signatures.
    pub signatures: Vec<AuthorSignature>,
}

/// The house's own key for policy.
pub struct PolicySigner(Ed25519KeyPair);

/// Says whether a text was signed by the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyVerifier([u8; 32]);

/// Why a text is no statement of this house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicySignatureError {
    /// No envelope, or one of another kind.
    #[error("it is not a signed statement about policy")]
    Form,
    /// Signed by another key.
    #[error("it is signed by another key")]
    OtherKey,
    /// The signature does not hold: it was changed.
    #[error("its signature does not hold")]
    Broken,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: [EnvelopeSignature; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

/// DSSE's pre-authentication encoding.
fn encoding(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn public_text(public: &[u8]) -> String {
    format!("{PUBLIC_PREFIX}{}", URL_SAFE_NO_PAD.encode(public))
}

impl fmt::Debug for PolicySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicySigner").field(&self.verifier().map(|v| v.to_string())).finish()
    }
}

impl PolicySigner {
    /// The key of this seed.
    ///
    /// # Errors
    /// `Form` if the library does not take it.
    pub fn from_seed(seed: &Secret<[u8; 32]>) -> Result<Self, PolicySignatureError> {
        Ed25519KeyPair::from_seed_unchecked(seed.expose()).map(Self).map_err(|_| PolicySignatureError::Form)
    }

    /// What checks this key's signatures.
    ///
    /// # Errors
    /// Never for a key of this library.
    pub fn verifier(&self) -> Result<PolicyVerifier, PolicySignatureError> {
        let public = self.0.public_key().as_ref().try_into();
        public.map(PolicyVerifier).map_err(|_| PolicySignatureError::Form)
    }

    /// Signs a statement. What is returned is to be kept as it is.
    ///
    /// # Errors
    /// `Form` if the statement has no canonical form.
    pub fn sign(&self, statement: &Statement) -> Result<String, PolicySignatureError> {
        let payload = json::canonical(statement).map_err(|_| PolicySignatureError::Form)?;
        let sig = self.0.sign(&encoding(PAYLOAD_TYPE, &payload));
        let envelope = Envelope {
            payload: STANDARD.encode(&payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: [EnvelopeSignature {
                keyid: public_text(self.0.public_key().as_ref()),
                sig: STANDARD.encode(sig.as_ref()),
            }],
        };
        let text = json::canonical(&envelope).map_err(|_| PolicySignatureError::Form)?;
        String::from_utf8(text).map_err(|_| PolicySignatureError::Form)
    }
}

impl PolicyVerifier {
    /// The statement of a signed text.
    ///
    /// # Errors
    /// [`PolicySignatureError`] says what is wrong as far as it can be told.
    pub fn open(&self, signed: &str) -> Result<Statement, PolicySignatureError> {
        let form = PolicySignatureError::Form;
        let envelope: Envelope = json::parse_as(signed.as_bytes(), LIMITS).map_err(|_| form)?;
        let [signature] = envelope.signatures;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(form);
        }
        if signature.keyid != self.to_string() {
            return Err(PolicySignatureError::OtherKey);
        }
        let payload = STANDARD.decode(&envelope.payload).map_err(|_| form)?;
        let sig = STANDARD.decode(&signature.sig).map_err(|_| form)?;
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        key.verify(&encoding(PAYLOAD_TYPE, &payload), &sig).map_err(|_| PolicySignatureError::Broken)?;
        json::parse_as(&payload, LIMITS).map_err(|_| form)
    }
}

impl fmt::Display for PolicyVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&public_text(&self.0))
    }
}

impl FromStr for PolicyVerifier {
    type Err = PolicySignatureError;

    fn from_str(text: &str) -> Result<Self, PolicySignatureError> {
        let encoded = text.strip_prefix(PUBLIC_PREFIX).ok_or(PolicySignatureError::Form)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| PolicySignatureError::Form)?;
        bytes.as_slice().try_into().map(Self).map_err(|_| PolicySignatureError::Form)
    }
}

// --- authors ---------------------------------------------------------------------------------------------------------

/// The bytes that an author signs.
fn authored(tenant: &Tenant, base: u64, bundle: Digest) -> Result<Vec<u8>, PolicySignatureError> {
    let payload = json::canonical(&serde_json::json!({"base": base, "bundle": bundle, "tenant": tenant}));
    payload.map(|payload| encoding(AUTHOR_TYPE, &payload)).map_err(|_| PolicySignatureError::Form)
}

/// The key of one who writes policy and is trusted to, printed as `btzp_…`.
pub struct AuthorKey {
    pair: Ed25519KeyPair,
    text: Secret<String>,
}

/// The public half of an author's key, `ed25519:…`.
pub type AuthorPublic = PolicyVerifier;

/// An author's signature, printed as public key and signature with a `.` between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuthorSignature {
    public: AuthorPublic,
    signature: Vec<u8>,
}

impl fmt::Debug for AuthorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorKey")
            .field("public", &self.public().map(|p| p.to_string()))
            .finish_non_exhaustive()
    }
}

impl AuthorKey {
    /// A fresh one.
    ///
    /// # Errors
    /// If the library refuses.
    pub fn generate(random: &dyn Random) -> Result<Self, PolicySignatureError> {
        Self::from_seed(&printed::generate(random)).ok_or(PolicySignatureError::Form)
    }

    fn from_seed(seed: &Secret<[u8; 32]>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok()?;
        Some(Self { pair, text: printed::print(PRIVATE_PREFIX, seed) })
    }

    /// The text to be kept by its holder alone.
    #[must_use]
    pub const fn text(&self) -> &Secret<String> {
        &self.text
    }

    /// The public half, for the setting `policy.signers`.
    ///
    /// # Errors
    /// Never for a key of this library.
    pub fn public(&self) -> Result<AuthorPublic, PolicySignatureError> {
        let public = self.pair.public_key().as_ref().try_into();
        public.map(PolicyVerifier).map_err(|_| PolicySignatureError::Form)
    }

    /// Signs that `bundle` may follow version `base` of `tenant`'s policy.
    ///
    /// # Errors
    /// Never for a key of this library.
    pub fn sign(
        &self,
        tenant: &Tenant,
        base: u64,
        bundle: Digest,
    ) -> Result<AuthorSignature, PolicySignatureError> {
        let signature = self.pair.sign(&authored(tenant, base, bundle)?).as_ref().to_vec();
        Ok(AuthorSignature { public: self.public()?, signature })
    }
}

impl FromStr for AuthorKey {
    type Err = PrintedError;

    fn from_str(text: &str) -> Result<Self, PrintedError> {
        let seed = printed::parse(PRIVATE_PREFIX, text)?;
        Self::from_seed(&seed).ok_or(PrintedError::Shape(PRIVATE_PREFIX))
    }
}

impl AuthorSignature {
    /// Whether it is by one of `trusted`, for this bundle after version `base`.
    #[must_use]
    pub fn holds(&self, trusted: &[AuthorPublic], tenant: &Tenant, base: u64, bundle: Digest) -> bool {
        trusted.contains(&self.public)
            && authored(tenant, base, bundle).is_ok_and(|message| {
                UnparsedPublicKey::new(&ED25519, &self.public.0).verify(&message, &self.signature).is_ok()
            })
    }
}

impl From<AuthorSignature> for String {
    fn from(signature: AuthorSignature) -> Self {
        format!("{}.{}", signature.public, URL_SAFE_NO_PAD.encode(&signature.signature))
    }
}

impl TryFrom<String> for AuthorSignature {
    type Error = PolicySignatureError;

    fn try_from(text: String) -> Result<Self, PolicySignatureError> {
        let (public, signature) = text.trim().split_once('.').ok_or(PolicySignatureError::Form)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| PolicySignatureError::Form)?;
        Ok(Self { public: public.parse()?, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bartizan_base::random::SeededRandom;

    fn signer(seed: u64) -> PolicySigner {
        PolicySigner::from_seed(&printed::generate(&SeededRandom::new(seed))).unwrap()
    }

    fn statement() -> Statement {
        Statement {
            tenant: Tenant::default_tenant(),
            name: "starter".to_owned(),
            version: 4,
            base: Some(Base { version: 3, bundle: Digest::of(b"3") }),
            bundle: Digest::of(b"4"),
            candidate: Some(Candidate {
                bundle: Digest::of(b"5"),
                stage: Stage::Rollout { percent: 10, groups: [Name::literal("staff")].into() },
                authored: None,
            }),
            restores: None,
            created: Timestamp::from_secs(1_800_000_000),
            author: None,
            authored: None,
        }
    }

    #[test]
    fn a_statement_is_read_back_from_its_exact_bytes() {
        let signed = signer(1).sign(&statement()).unwrap();
        assert_eq!(signer(1).verifier().unwrap().open(&signed), Ok(statement()));
        assert_eq!(signed, signer(1).sign(&statement()).unwrap(), "nothing random is in it");
    }

    #[test]
    fn another_key_a_changed_byte_or_another_form_is_refused() {
        let (signed, verifier) = (signer(1).sign(&statement()).unwrap(), signer(1).verifier().unwrap());
        assert_eq!(signer(2).verifier().unwrap().open(&signed), Err(PolicySignatureError::OtherKey));
        // A stranger's signature under our name.
        let theirs = signer(2).sign(&statement()).unwrap();
        let renamed = theirs.replace(&signer(2).verifier().unwrap().to_string(), &verifier.to_string());
        assert_eq!(verifier.open(&renamed), Err(PolicySignatureError::Broken));
        let later = Statement { version: 5, ..statement() };
        let other = signer(1).sign(&later).unwrap();
        let part = |text: &str, of: &str| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            value.pointer(of).unwrap().as_str().unwrap().to_owned()
        };
        let mixed = signed.replace(&part(&signed, "/payload"), &part(&other, "/payload"));
        assert_eq!(verifier.open(&mixed), Err(PolicySignatureError::Broken));
        for at in (0..signed.len()).step_by(7) {
            let mut bytes = signed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(verifier.open(&String::from_utf8(bytes).unwrap()).is_err(), "{at}");
        }
        for text in ["", "{}", "null", &signed.replace("policy+json", "policy-author+json")] {
            assert_eq!(verifier.open(text), Err(PolicySignatureError::Form), "{text}");
        }
    }

    #[test]
    fn an_author_signs_one_bundle_after_one_version_of_one_tenant() {
        let (key, stranger) = (
            AuthorKey::generate(&SeededRandom::new(3)).unwrap(),
            AuthorKey::generate(&SeededRandom::new(4)).unwrap(),
        );
        let again: AuthorKey = key.text().expose().parse().unwrap();
        assert_eq!(again.public(), key.public());
        let (tenant, bundle) = (Tenant::default_tenant(), Digest::of(b"bundle"));
        let signature = again.sign(&tenant, 7, bundle).unwrap();
        let text = String::from(signature.clone());
        assert_eq!(AuthorSignature::try_from(format!("{text}\n")), Ok(signature.clone()));
        let trusted = [key.public().unwrap()];
        assert!(signature.holds(&trusted, &tenant, 7, bundle));
        assert!(!signature.holds(&trusted, &tenant, 8, bundle));
        assert!(!signature.holds(&trusted, &tenant, 7, Digest::of(b"another")));
        assert!(!signature.holds(&trusted, &Tenant(Name::literal("other")), 7, bundle));
        assert!(!signature.holds(&[stranger.public().unwrap()], &tenant, 7, bundle));
        assert!(!stranger.sign(&tenant, 7, bundle).unwrap().holds(&trusted, &tenant, 7, bundle));
        assert!(!format!("{key:?}").contains("btzp_"));
    }
}
