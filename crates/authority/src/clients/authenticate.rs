//! How a client proves what it is at the token endpoint and beside it (RFC 6749, 2.3; RFC 7523; RFC 8705; RFC 9449).

use std::time::Duration;

use bartizan_base::{Digest, Timestamp, json};
use bartizan_identify::spiffe::{SvidError, TrustBundle, TrustDomain};
use bartizan_jose::{
    AssertionClaims, AssertionRules, DpopError, DpopProof, DpopRules, Jwks, Jws, NonceRule, TimeRules,
    TokenError, verify,
};
use bartizan_model::FederationSpec;
use bartizan_secret::{Secret, constant_time_eq};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::fetch::Wanted;
use super::once::use_up;
use super::registry::{Registry, failed};
use super::{Authenticated, Authentication, Bound, Client, PeerCertificate};
use crate::oauth::{Form, OauthCode, OauthError, decode};

/// The only kind of assertion (RFC 7523, 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The shortest secret: what is shorter was not made at random.
const SECRET_MIN: usize = 32;
/// How far clocks of clients may be off.
const SKEW: Duration = Duration::from_secs(30);
/// How old a proof may be.
const PROOF_AGE_MAX: Duration = Duration::from_secs(120);
const LIMITS: json::Limits = json::Limits { bytes_max: 64 << 10, depth_max: 8, nodes_max: 4_000 };

/// A request to an endpoint where clients prove what they are.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its parameters, from the body alone.
    pub form: &'a Form,
    /// The endpoint's own address, as clients see it.
    pub uri: &'a str,
    /// The certificate of the connection.
    pub certificate: Option<&'a PeerCertificate>,
    /// When it came.
    pub now: Timestamp,
}

/// Why something signed by somebody else does not hold.
#[derive(Debug)]
pub(crate) enum HoldError {
    /// There are no keys to verify it by.
    Keys(OauthError),
    /// It does not hold under them.
    Token(TokenError),
}

/// What a client presented: at most one way.
enum Presented {
    Nothing,
    Secret { id: String, secret: Secret<String>, basic: bool },
    Assertion(String),
}

impl Registry {
    /// Finds out which client asks, and holds what it presents against how it proves itself. `agreed` is the client as it was
    /// when somebody allowed what is redeemed now, where that is known.
    ///
    /// # Errors
    /// `invalid_client` in one text for every cause; `invalid_request` when two ways are mixed; what RFC 9449 says of proofs.
    pub async fn authenticate(
        &self,
        request: &Request<'_>,
        agreed: Option<Client>,
    ) -> Result<Authenticated, OauthError> {
        let presented = presented(request)?;
        let basic = matches!(presented, Presented::Secret { basic: true, .. });
        self.check(request, presented, agreed).await.map_err(|error| OauthError { basic, ..error })
    }

    async fn check(
        &self,
        request: &Request<'_>,
        presented: Presented,
        agreed: Option<Client>,
    ) -> Result<Authenticated, OauthError> {
        let named = match &presented {
            Presented::Secret { id, .. } => id.clone(),
            Presented::Assertion(text) => claimed(text).ok_or_else(OauthError::client)?,
            Presented::Nothing => request.form.need("client_id")?.to_owned(),
        };
        if request.form.get("client_id").is_some_and(|id| id != named) {
            return Err(OauthError::request("two clients are named"));
        }
        let client = match agreed.filter(|client| client.id == named) {
            Some(client) => client,
            None => self.known(&named, request.now).await?,
        };
        // The proof first: a client that is told to come again with a nonce has then not used up its assertion.
        let proven_key = self.proof(request)?;
        let mut used = Vec::new();
        let proven = match (&client.authentication, presented) {
            (Authentication::None, Presented::Nothing) => false,
            (Authentication::Secret(digests), Presented::Secret { secret, .. }) => {
                check_secret(digests.iter(), &secret)?;
                true
            }
            (Authentication::Keys(_) | Authentication::KeysAt { .. }, Presented::Assertion(text)) => {
                let replay = self.assertion(&client, &text, request.now).await?;
                if !self.seen.first(replay, request.now) {
                    return Err(OauthError::client());
                }
                used.push(use_up(&client.tenant, replay)?);
                true
            }
            (Authentication::Tls(name), Presented::Nothing) => {
                let named = request.certificate.is_some_and(|c| c.names(name));
                named.then_some(true).ok_or_else(OauthError::client)?
            }
            (Authentication::Certificates(digests), Presented::Nothing) => {
                let known = request.certificate.is_some_and(|c| digests.contains(c.thumbprint.digest()));
                known.then_some(true).ok_or_else(OauthError::client)?
            }
            // Another way than the client's own is no way.
            _ => return Err(OauthError::client()),
        };
        let by_certificate =
            matches!(client.authentication, Authentication::Tls(_) | Authentication::Certificates(_));
        let certificate = request.certificate.filter(|_| by_certificate).map(|c| c.thumbprint);
        let bound = Bound { key: proven_key.as_ref().map(bartizan_jose::ProvenKey::key), certificate };
        if let Some(key) = &proven_key {
            if !self.seen.first(key.replay(), request.now) {
                return Err(OauthError::new(OauthCode::InvalidDpopProof, "the proof was used before"));
            }
            used.push(use_up(&client.tenant, key.replay())?);
        }
        Ok(Authenticated { client, proven, bound, used, at: request.now })
    }

    /// The key that the request proves to hold.
    fn proof(&self, request: &Request<'_>) -> Result<Option<bartizan_jose::ProvenKey>, OauthError> {
        let refuse = |why: &str| OauthError::new(OauthCode::InvalidDpopProof, why);
        let mut proofs = request.headers.get_all("dpop").iter();
        let proof = match (proofs.next(), proofs.next()) {
            (None, _) => return Ok(None),
            (Some(proof), None) => proof.to_str().map_err(|_| refuse("the proof is no text"))?,
            _ => return Err(refuse("there is more than one proof")),
        };
        let nonce = if self.authority.settings.dpop_nonce {
            NonceRule::Required(&self.nonces)
        } else {
            NonceRule::Off
        };
        let rules = DpopRules {
            method: "POST",
            uri: request.uri,
            now: request.now,
            age_max: PROOF_AGE_MAX,
            skew: SKEW,
            access_token: None,
            nonce,
        };
        match DpopProof::verify(proof, &rules) {
            Ok(key) => Ok(Some(key)),
            Err(DpopError::UseNonce) => {
                Err(OauthError::new(OauthCode::UseDpopNonce, "send a proof with the nonce of this answer"))
            }
            Err(error) => Err(refuse(&error.to_string())),
        }
    }

    async fn assertion(
        &self,
        client: &Client,
        text: &str,
        now: Timestamp,
    ) -> Result<bartizan_jose::Replay, OauthError> {
        let time = TimeRules { now, skew: SKEW, life_max: Duration::from_secs(3_600) };
        let rules = AssertionRules { client_id: &client.id, issuer: &self.authority.issuer, time };
        let hold = |keys: &Jwks| {
            let jws = Jws::parse(text)?;
            verify::<AssertionClaims>(&jws, keys, &rules).map(|verified| verified.replay(&time))
        };
        let refuse = |error: TokenError| {
            tracing::info!(client = %client.name, %error, "a client's assertion was refused");
            OauthError::client()
        };
        match &client.authentication {
            Authentication::Keys(keys) => {
                let keys = serde_json::to_vec(keys).ok().and_then(|bytes| Jwks::parse(&bytes).ok());
                hold(&keys.ok_or_else(OauthError::client)?).map_err(refuse)
            }
            Authentication::KeysAt { url, allow_private } => {
                let held = self.hold_by(url, *allow_private, now, hold).await;
                held.map_err(|error| match error {
                    HoldError::Keys(error) => error,
                    HoldError::Token(error) => refuse(error),
                })
            }
            _ => Err(OauthError::client()),
        }
    }
}

impl Registry {
    /// Verifies something by the keys at `url`; a second time by newer ones where its signature does not hold, at most every
    /// half minute.
    ///
    /// # Errors
    /// Why it does not hold.
    pub(crate) async fn hold_by<T>(
        &self,
        url: &str,
        allow_private: bool,
        now: Timestamp,
        hold: impl Fn(&Jwks) -> Result<T, TokenError>,
    ) -> Result<T, HoldError> {
        let hold = |bytes: &[u8]| {
            let keys = Jwks::parse(bytes).map_err(|_| HoldError::Keys(OauthError::client()))?;
            hold(&keys).map_err(HoldError::Token)
        };
        self.hold(Wanted::Keys, url, allow_private, now, hold).await
    }

    /// The same by the keys of a trust domain: those that the rule gives, or the bundle at its address.
    ///
    /// # Errors
    /// Why it does not hold.
    pub(crate) async fn hold_by_bundle<T>(
        &self,
        domain: &TrustDomain,
        rule: &FederationSpec,
        now: Timestamp,
        hold: impl Fn(&TrustBundle) -> Result<T, SvidError>,
    ) -> Result<T, HoldError> {
        let hold = |bytes: &[u8]| {
            let bundle = TrustBundle::parse(domain.clone(), bytes);
            let bundle = bundle.map_err(|_| HoldError::Keys(OauthError::client()))?;
            hold(&bundle).map_err(|error| match error {
                SvidError::Token(error) => HoldError::Token(error),
                _ => HoldError::Token(TokenError::Malformed),
            })
        };
        match &rule.trust_bundle {
            Some(given) => hold(given.to_string().as_bytes()),
            None => self.hold(Wanted::Bundle, &rule.jwks_url, rule.allow_private, now, hold).await,
        }
    }

    async fn hold<T>(
        &self,
        wanted: Wanted,
        url: &str,
        allow_private: bool,
        now: Timestamp,
        hold: impl Fn(&[u8]) -> Result<T, HoldError>,
    ) -> Result<T, HoldError> {
        let keys = async |newer| {
            let body = self.fetches.get(wanted, url, allow_private, now, newer).await;
            body.map_err(|error| HoldError::Keys(failed(error)))
        };
        match hold(&keys(None).await?) {
            // Perhaps by a key that is newer than what is kept.
            Err(HoldError::Token(TokenError::Jws(_))) => {
                let before = now.as_secs().saturating_sub(30);
                hold(&keys(Some(Timestamp::from_secs(before))).await?)
            }
            held => held,
        }
    }

    /// Takes something that may be taken once: the change that says so to every node. None where this node took it already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn take_once(
        &self,
        replay: bartizan_jose::Replay,
        now: Timestamp,
    ) -> Result<Option<bartizan_store::Change>, OauthError> {
        if !self.seen.first(replay, now) {
            return Ok(None);
        }
        Ok(Some(use_up(&self.authority.settings.tenant, replay)?))
    }
}

fn check_secret<'a>(
    digests: impl Iterator<Item = &'a Digest>,
    secret: &Secret<String>,
) -> Result<(), OauthError> {
    let shown = Digest::of(secret.expose().as_bytes());
    let known =
        digests.fold(false, |found, digest| found | constant_time_eq(digest.as_bytes(), shown.as_bytes()));
    if known && secret.expose().len() >= SECRET_MIN { Ok(()) } else { Err(OauthError::client()) }
}

/// The client that an assertion says it is of; believed only once it was verified under that client's keys.
fn claimed(text: &str) -> Option<String> {
    let jws = Jws::parse(text).ok()?;
    let claims = json::parse(jws.unverified_payload(), LIMITS).ok()?;
    claims.get("sub")?.as_str().map(str::to_owned)
}

fn presented(request: &Request<'_>) -> Result<Presented, OauthError> {
    let form = request.form;
    let mut headers = request.headers.get_all(AUTHORIZATION).iter();
    let header = match (headers.next(), headers.next()) {
        (header, None) => header,
        _ => return Err(OauthError::request("there is more than one authorization header")),
    };
    let assertion = form.has("client_assertion") || form.has("client_assertion_type");
    let ways = [header.is_some(), form.has("client_secret"), assertion];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        return Err(OauthError::request("a client proves what it is in one way"));
    }
    if let Some(header) = header {
        let (id, secret) =
            basic(header.as_bytes()).ok_or_else(|| OauthError { basic: true, ..OauthError::client() })?;
        return Ok(Presented::Secret { id, secret, basic: true });
    }
    if let Some(secret) = form.get("client_secret") {
        let id = form.need("client_id")?.to_owned();
        return Ok(Presented::Secret { id, secret: Secret::new(secret.to_owned()), basic: false });
    }
    if assertion {
        if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
            return Err(OauthError::request("client_assertion_type is none that is taken"));
        }
        return Ok(Presented::Assertion(form.need("client_assertion")?.to_owned()));
    }
    Ok(Presented::Nothing)
}

/// Reads `Basic`, both halves form-encoded (RFC 6749, 2.3.1).
fn basic(header: &[u8]) -> Option<(String, Secret<String>)> {
    let text = std::str::from_utf8(header).ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Secret::new(STANDARD.decode(encoded.trim()).ok()?);
    let at = decoded.expose().iter().position(|b| *b == b':')?;
    let (id, secret) = decoded.expose().split_at_checked(at)?;
    Some((decode(id).ok()?, Secret::new(decode(secret.get(1..)?).ok()?)))
}
