//! The keys of a trust domain (SPIFFE Trust Domain and Bundle, section 4): certificates that issue X.509-SVIDs, and keys that
//! sign JWT-SVIDs, in one set of keys.

use std::time::Duration;

use bartizan_base::json;
use bartizan_jose::{JwkError, Jwks};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use serde_json::{Value, json};

use super::id::TrustDomain;

const LIMITS: json::Limits = json::Limits { bytes_max: 256 << 10, depth_max: 6, nodes_max: 4_000 };
/// How many authorities a trust domain can have at once.
const AUTHORITIES_MAX: usize = 32;

/// A bundle that is not acceptable. Whoever has a last good one keeps it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not a set of keys within bounds.
    #[error("not a trust bundle")]
    Malformed,
    /// An entry for certificates without exactly one certificate that can issue.
    #[error("an authority of the bundle is not a certificate")]
    Authority,
    /// A key for tokens that is not acceptable, or without an id.
    #[error("a key of the bundle is not acceptable")]
    Key(#[from] JwkError),
    /// It was published before the one that is known.
    #[error("the bundle is older than the one that is known")]
    Older,
    /// No key of either kind.
    #[error("the bundle holds no keys")]
    Empty,
}

/// The keys of one trust domain.
#[derive(Clone)]
pub struct TrustBundle {
    domain: TrustDomain,
    authorities: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    keys: Jwks,
    sequence: Option<u64>,
    refresh: Option<Duration>,
}

impl std::fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (domain, authorities) = (self.domain.as_str(), self.authorities.len());
        f.debug_struct("TrustBundle")
            .field("domain", &domain)
            .field("authorities", &authorities)
            .finish_non_exhaustive()
    }
}

impl TrustBundle {
    /// A bundle of certificates alone.
    ///
    /// # Errors
    /// `Authority` when one cannot be an authority, `Empty` when there is none.
    pub fn of_authorities(
        domain: TrustDomain,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        let none: [bartizan_jose::Jwk; 0] = [];
        Self::new(domain, authorities, Jwks::of(none)?)
    }

    fn new(
        domain: TrustDomain,
        authorities: Vec<CertificateDer<'static>>,
        keys: Jwks,
    ) -> Result<Self, BundleError> {
        if authorities.is_empty() && keys.is_empty() {
            return Err(BundleError::Empty);
        }
        if authorities.len() > AUTHORITIES_MAX {
            return Err(BundleError::Malformed);
        }
        let anchor = |der: &CertificateDer<'static>| {
            let (rest, parsed) =
                x509_parser::parse_x509_certificate(der).map_err(|_| BundleError::Authority)?;
            if !rest.is_empty() || !parsed.is_ca() {
                return Err(BundleError::Authority);
            }
            webpki::anchor_from_trusted_cert(der).map(|a| a.to_owned()).map_err(|_| BundleError::Authority)
        };
        let anchors = authorities.iter().map(anchor).collect::<Result<_, _>>()?;
        Ok(Self { domain, authorities, anchors, keys, sequence: None, refresh: None })
    }

    /// Reads a bundle as the trust domain publishes it. Entries for other uses are passed over; one for a known use that is not
    /// acceptable spoils all.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn parse(domain: TrustDomain, bytes: &[u8]) -> Result<Self, BundleError> {
        let document = json::parse(bytes, LIMITS).map_err(|_| BundleError::Malformed)?;
        let entries = document.get("keys").and_then(Value::as_array).ok_or(BundleError::Malformed)?;
        let (mut authorities, mut keys) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry.get("use").and_then(Value::as_str) {
                Some("x509-svid") => authorities.push(authority(entry)?),
                Some("jwt-svid") => {
                    let mut key = entry.clone();
                    if key.get("kid").and_then(Value::as_str).is_none_or(str::is_empty) {
                        return Err(BundleError::Malformed);
                    }
                    // What a set of signing keys calls it.
                    key.as_object_mut().ok_or(BundleError::Malformed)?.insert("use".to_owned(), "sig".into());
                    keys.push(key);
                }
                _ => {}
            }
        }
        let keys = if keys.is_empty() {
            let none: [bartizan_jose::Jwk; 0] = [];
            Jwks::of(none)?
        } else {
            Jwks::parse(json!({ "keys": keys }).to_string().as_bytes())?
        };
        let number = |name: &str| document.get(name).and_then(Value::as_u64);
        let (sequence, refresh) = (number("spiffe_sequence"), number("spiffe_refresh_hint"));
        let bundle = Self::new(domain, authorities, keys)?;
        Ok(Self { sequence, refresh: refresh.map(Duration::from_secs), ..bundle })
    }

    /// Whose keys they are.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The certificates that issue X.509-SVIDs.
    #[must_use]
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// What grows whenever the trust domain changes its keys, where it says so.
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// How soon the trust domain wants to be asked again.
    #[must_use]
    pub const fn refresh(&self) -> Option<Duration> {
        self.refresh
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    pub(super) const fn keys(&self) -> &Jwks {
        &self.keys
    }

    /// The bundle as a trust domain publishes it. `sequence` grows whenever the keys change.
    #[must_use]
    pub fn to_json(&self, sequence: u64, refresh: Duration) -> Value {
        let authorities = self.authorities.iter().filter_map(|der| {
            let mut key = public_key(der)?;
            let members = key.as_object_mut()?;
            members.insert("use".to_owned(), "x509-svid".into());
            members.insert("x5c".to_owned(), json!([STANDARD.encode(der)]));
            Some(key)
        });
        let tokens = self.keys.iter().map(|jwk| {
            let mut key = jwk.to_json();
            if let Some(members) = key.as_object_mut() {
                members.insert("use".to_owned(), "jwt-svid".into());
            }
            key
        });
        let keys: Vec<Value> = authorities.chain(tokens).collect();
        json!({"keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": refresh.as_secs()})
    }
}

/// The one certificate of an entry.
fn authority(entry: &Value) -> Result<CertificateDer<'static>, BundleError> {
    let chain = entry.get("x5c").and_then(Value::as_array).ok_or(BundleError::Authority)?;
    let [Value::String(text)] = chain.as_slice() else { return Err(BundleError::Authority) };
    STANDARD.decode(text).map(CertificateDer::from).map_err(|_| BundleError::Authority)
}

/// The public key of a certificate as JWK members: P-256, which is what our own authority uses.
fn public_key(der: &[u8]) -> Option<Value> {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let point = &certificate.public_key().subject_public_key.data;
    let (x, y) = match point.split_first() {
        Some((4, rest)) if rest.len() == 64 => rest.split_at_checked(32)?,
        _ => return None,
    };
    Some(json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}))
}
