//! What a request presents, before anybody believes it.

use std::fmt;
use std::sync::Arc;

use bartizan_base::Digest;
use bartizan_jose::X5t;
use bartizan_model::ReasonCode;
use bartizan_secret::{ApiKey, Secret};

use crate::certificate::WorkloadCertificate;

/// The longest credential, in bytes.
const CREDENTIAL_MAX: usize = 8 * 1024;

/// A credential of a well-formed kind, not verified.
#[derive(Clone)]
pub enum Presented {
    /// None.
    Nothing,
    /// An API key of ours, by the digest it is looked up by.
    ApiKey(Digest),
    /// What may be an access token, with what came along.
    Token(Box<Shown>),
    /// The certificate of the connection, and the resources that the door answers for.
    Certificate(Box<(WorkloadCertificate, Vec<String>)>),
}

/// What may be an access token, as it was shown.
#[derive(Clone)]
pub struct Shown {
    pub(crate) text: Secret<String>,
    /// The proof, where it came under the scheme `DPoP`.
    pub(crate) proof: Option<Secret<String>>,
    pub(crate) place: Place,
}

/// Where, and over what, a token is shown: from our configuration and our own handshake, never from what the request says.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The resources (RFC 8707) that the door answers for: a token of ours must be for one of them.
    pub resources: Vec<String>,
    /// The method of the request.
    pub method: String,
    /// The address of the request as its client sees it, without query.
    pub uri: String,
    /// The certificate that the client has shown and proven in the handshake of the connection.
    pub certificate: Option<X5t>,
}

/// The certificate that a client has shown and proven in the handshake of its connection, and that one of the authorities
/// which the listener trusts has issued. Only a listener makes one; nothing that a request says ever does.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCertificate(Arc<[u8]>);

impl PeerCertificate {
    /// The certificate of a connection, in DER.
    #[must_use]
    pub fn of_connection(der: &[u8]) -> Self {
        Self(der.into())
    }

    /// It, in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// Its thumbprint, as `cnf.x5t#S256` holds it.
    #[must_use]
    pub fn thumbprint(&self) -> X5t {
        X5t::of_certificate(&self.0)
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerCertificate({})", self.thumbprint())
    }
}

impl Presented {
    /// Reads the values of the `authorization` and `x-api-key` headers of a request to no door in particular: tokens of ours,
    /// and tokens that are bound, do not hold there.
    ///
    /// # Errors
    /// As for [`Presented::at`].
    pub fn from_headers<'a>(
        authorization: impl Iterator<Item = &'a [u8]>,
        x_api_key: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, ReasonCode> {
        Self::at(authorization, x_api_key, std::iter::empty(), Place::default)
    }

    /// Reads the values of the `authorization`, `x-api-key` and `dpop` headers of a request. `place` is asked for only where a
    /// token is shown.
    ///
    /// # Errors
    /// `CredentialAmbiguous` when several different ones are presented, `CredentialMalformed` when one is not well-formed,
    /// `ProofRefused` unless exactly one proof comes with the scheme `DPoP` (RFC 9449, 4.3).
    pub fn at<'a>(
        authorization: impl Iterator<Item = &'a [u8]>,
        x_api_key: impl Iterator<Item = &'a [u8]>,
        dpop: impl Iterator<Item = &'a [u8]>,
        place: impl FnOnce() -> Place,
    ) -> Result<Self, ReasonCode> {
        let schemed = authorization.map(credentials).collect::<Result<Vec<_>, _>>()?;
        let keys = x_api_key.map(text).collect::<Result<Vec<_>, _>>()?;
        if schemed.len() > 1 || keys.len() > 1 {
            return Err(ReasonCode::CredentialAmbiguous);
        }
        let (scheme, shown) = match (schemed.first(), keys.first()) {
            (None, None) => return Ok(Self::Nothing),
            (Some((_, one)), Some(other)) if one != other => return Err(ReasonCode::CredentialAmbiguous),
            (Some((scheme, one)), _) => (*scheme, *one),
            (None, Some(one)) => (Scheme::Bearer, *one),
        };
        if ApiKey::has_prefix(shown) {
            if scheme == Scheme::Dpop {
                // Our keys are bearer credentials; a proof beside one proves nothing about it.
                return Err(ReasonCode::BindingMismatch);
            }
            let key = shown.parse::<ApiKey>().map_err(|_| ReasonCode::CredentialMalformed)?;
            return Ok(Self::ApiKey(key.digest()));
        }
        if shown.bytes().filter(|b| *b == b'.').count() != 2 {
            return Err(ReasonCode::CredentialMalformed);
        }
        let proof = match scheme {
            // Without the scheme a proof means nothing: a token that needs one is then refused for its binding.
            Scheme::Bearer => None,
            Scheme::Dpop => Some(one_proof(dpop)?),
        };
        Ok(Self::Token(Box::new(Shown { text: Secret::new(shown.to_owned()), proof, place: place() })))
    }

    /// The same; where the request presents nothing itself, the certificate of its connection is what it presents. `resources` are
    /// those that the door answers for.
    #[must_use]
    pub fn or_certificate(
        self,
        certificate: Option<&WorkloadCertificate>,
        resources: impl FnOnce() -> Vec<String>,
    ) -> Self {
        match (self, certificate) {
            (Self::Nothing, Some(shown)) => Self::Certificate(Box::new((shown.clone(), resources()))),
            (presented, _) => presented,
        }
    }
}

fn one_proof<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Secret<String>, ReasonCode> {
    let (Some(proof), None) = (values.next(), values.next()) else { return Err(ReasonCode::ProofRefused) };
    let proof = text(proof).map_err(|_| ReasonCode::ProofRefused)?;
    Ok(Secret::new(proof.to_owned()))
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::ApiKey(_) => "ApiKey(…)",
            Self::Token(_) => "Token(…)",
            Self::Certificate(_) => "Certificate(…)",
        })
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("place", &self.place).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Dpop,
}

fn text(value: &[u8]) -> Result<&str, ReasonCode> {
    let text = std::str::from_utf8(value).map_err(|_| ReasonCode::CredentialMalformed)?.trim();
    if text.is_empty() || text.len() > CREDENTIAL_MAX {
        Err(ReasonCode::CredentialMalformed)
    } else {
        Ok(text)
    }
}

fn credentials(value: &[u8]) -> Result<(Scheme, &str), ReasonCode> {
    let (scheme, rest) = text(value)?.split_once(' ').ok_or(ReasonCode::CredentialMalformed)?;
    let scheme = if scheme.eq_ignore_ascii_case("bearer") {
        Scheme::Bearer
    } else if scheme.eq_ignore_ascii_case("dpop") {
        Scheme::Dpop
    } else {
        return Err(ReasonCode::CredentialMalformed);
    };
    Ok((scheme, text(rest.as_bytes())?))
}
