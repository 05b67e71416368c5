//! Other providers of identity (OpenID Connect Core 3.1, RFC 9207, RFC 9700): several, each with its own mapping and a cap on
//! what its word is worth.
//!
//! Who somebody is there is issuer and subject, and nothing else: no address for mail ever links accounts. The way back is a
//! different address for every provider, is bound to the browser, holds for five minutes and once, and names the provider it
//! was begun with, so that no provider can answer for another.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_control::{Done, Stopped, View};
use bartizan_jose::{IdClaims, IdRules, Jwks, Jws, TimeRules, TokenError, verify};
use bartizan_model::{Action, IdentityProviderSpec, Problem, ReasonCode, Spec, Status};
use bartizan_secret::Secret;
use bartizan_upstream::{ExchangePolicy, Upstreams};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use serde::Deserialize;
use url::form_urlencoded::Serializer;

use super::federated::{Link, Word, known, link_id, linked};
use super::session::Proven;
use super::step::Stage;
use super::{Entered, Login, SignedIn, Visitor, broken};
use crate::kept::{Reach, find};

/// For how long what a provider says about itself is believed.
const FRESH: Duration = Duration::from_secs(600);
/// The longest life of an ID token.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3_600);
const SKEW: Duration = Duration::from_secs(60);
/// How long ago somebody counts as proven whose provider does not say when.
const UNSAID: Duration = Duration::from_secs(3_600);

/// What is sent to a provider.
#[derive(Debug)]
pub struct Sent {
    /// Where.
    pub url: String,
    /// Whether that may be private.
    pub private: bool,
    /// A form, for the token endpoint; without, something is only read.
    pub form: Option<Secret<String>>,
    /// The value of `authorization`.
    pub basic: Option<Secret<String>>,
}

/// Reaches other providers, following no redirect, connecting to no address but those that were checked.
pub trait Providers: Debug + Send + Sync {
    /// The body of an answer of status 200; none for any other, or when there is none.
    fn send(&self, sent: Sent) -> BoxFuture<'_, Option<Bytes>>;
}

impl Providers for Upstreams {
    fn send(&self, sent: Sent) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            let mut request = Request::builder()
                .method(if sent.form.is_some() { Method::POST } else { Method::GET })
                .uri(&sent.url)
                .header(ACCEPT, HeaderValue::from_static("application/json"));
            if sent.form.is_some() {
                request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            }
            if let Some(basic) = &sent.basic {
                let mut value = HeaderValue::from_str(basic.expose()).ok()?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let body = sent.form.map(|form| Bytes::from(form.expose().clone())).unwrap_or_default();
            let policy = ExchangePolicy::Provider { allow_private: sent.private };
            match self.exchange(policy, request.body(body).ok()?).await {
                Ok(answer) if answer.status() == StatusCode::OK => Some(answer.into_body()),
                Ok(answer) => {
                    tracing::warn!(url = sent.url, status = answer.status().as_u16(), "a provider refused");
                    None
                }
                Err(error) => {
                    tracing::warn!(
                        url = sent.url,
                        error = &error as &dyn std::error::Error,
                        "a provider was not reached"
                    );
                    None
                }
            }
        })
    }
}

/// What a provider says about itself (OpenID Connect Discovery 1.0, 3).
#[derive(Clone, Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Clone, Debug)]
struct Known {
    metadata: Metadata,
    keys: Jwks,
    at: Timestamp,
}

/// What providers said lately.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<HashMap<String, Known>>);

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Secret<String>,
    access_token: Option<Secret<String>>,
}

/// What comes back in the browser.
#[derive(Debug, Default)]
pub struct Returned<'a> {
    /// The code.
    pub code: Option<&'a str>,
    /// The state.
    pub state: Option<&'a str>,
    /// Who answers (RFC 9207).
    pub iss: Option<&'a str>,
}

/// Where a way through another provider ended.
#[derive(Debug)]
pub enum ProviderAnswer {
    /// In a session, and on to this path.
    Entered(Entered, String),
    /// The account there is linked to whoever asked.
    Linked,
}

fn refused(why: &str) -> Problem {
    tracing::info!(why, "a provider's answer was refused");
    Problem::new(ReasonCode::ProviderRefused)
}

impl Login {
    /// The providers by which one may log in.
    #[must_use]
    pub fn provider_names(&self) -> Vec<Name> {
        let Ok(view) = self.authority.control.house.view(&self.home()) else { return Vec::new() };
        if self.providers.is_none() {
            return Vec::new();
        }
        let all = view.state.documents.iter().filter(|(tenant, ..)| *tenant == self.home());
        let usable = all.filter(
            |(_, d, _)| matches!(&d.spec, Spec::IdentityProvider(spec) if spec.status == Status::Active),
        );
        usable.map(|(_, document, _)| document.name.clone()).collect()
    }

    pub(super) fn provider(&self, view: &View, name: &str) -> Result<(Name, IdentityProviderSpec), Problem> {
        let home = self.home();
        let found = view.state.documents.iter().find_map(|(tenant, document, _)| match &document.spec {
            Spec::IdentityProvider(spec) if *tenant == home && document.name.as_str() == name => {
                Some((document.name.clone(), spec.clone()))
            }
            _ => None,
        });
        found
            .filter(|(_, spec)| spec.status == Status::Active)
            .ok_or_else(|| Problem::new(ReasonCode::NotFound))
    }

    fn way_back(&self, provider: &Name) -> String {
        format!("{}/login/callback/{provider}", self.authority.issuer)
    }

    /// Where to send a browser to log in at a provider; with whoever is signed in, to link the account there.
    ///
    /// # Errors
    /// When there is no such provider, it does not answer, or the login is too old for linking.
    pub async fn to_provider(
        &self,
        visitor: &Visitor,
        provider: &str,
        onward: &str,
        link: Option<&SignedIn>,
    ) -> Result<Secret<String>, Stopped> {
        if let Some(who) = link {
            self.demand_fresh(who).await?;
        }
        let view = self.authority.control.house.view(&self.home())?;
        let (name, spec) = self.provider(&view, provider)?;
        let known = self.known_provider(&spec, false).await?;
        let random = &*self.authority.control.random;
        let text = || {
            let mut bytes = [0; 32];
            random.fill(&mut bytes);
            URL_SAFE_NO_PAD.encode(bytes)
        };
        let (nonce, verifier) = (text(), text());
        let challenge = URL_SAFE_NO_PAD.encode(Digest::of(verifier.as_bytes()).as_bytes());
        let back = self.way_back(&name);
        let stage =
            Stage::Upstream { provider: name, nonce: nonce.clone(), verifier, onward: onward.to_owned() };
        let state = self.seal_step(visitor, link.map(|who| who.session.value.id), stage)?;
        let further = spec.scopes.iter().filter(|scope| !matches!(scope.as_str(), "openid" | "profile"));
        let scope = further.fold("openid profile".to_owned(), |all, scope| format!("{all} {scope}"));
        let acr = spec.acr_values();
        let mut asked = vec![
            ("response_type", "code"),
            ("client_id", &spec.client_id),
            ("redirect_uri", &back),
            ("scope", &scope),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        if !acr.is_empty() {
            asked.push(("acr_values", &acr));
        }
        let query = encoded(&asked);
        let endpoint = &known.metadata.authorization_endpoint;
        let glue = if endpoint.contains('?') { '&' } else { '?' };
        Ok(Secret::new(format!("{endpoint}{glue}{query}")))
    }

    /// Takes what comes back from a provider.
    ///
    /// # Errors
    /// `login_stale`, `provider_refused`, or `login_failed` for somebody who is nobody here.
    pub async fn from_provider(
        &self,
        visitor: &Visitor,
        provider: &str,
        returned: &Returned<'_>,
        who: Option<&SignedIn>,
    ) -> Result<ProviderAnswer, Stopped> {
        match self.try_from_provider(visitor, provider, returned, who).await {
            Err(stopped) if stopped.receipt.is_none() => {
                Err(self.refuse(&self.home(), stopped.problem.reason).await)
            }
            other => other,
        }
    }

    async fn try_from_provider(
        &self,
        visitor: &Visitor,
        provider: &str,
        returned: &Returned<'_>,
        who: Option<&SignedIn>,
    ) -> Result<ProviderAnswer, Stopped> {
        let state = returned.state.ok_or(ReasonCode::LoginStale)?;
        let session = who.map(|who| who.session.value.id);
        // Begun by somebody signed in it links; begun by nobody it logs in. One is never taken for the other.
        let (opened, link) = match self.open_step(visitor, None, state) {
            Ok(opened) => (opened, None),
            Err(_) if session.is_some() => (self.open_step(visitor, session, state)?, who),
            Err(reason) => return Err(reason.into()),
        };
        let (Stage::Upstream { provider: name, nonce, verifier, onward }, once) = opened else {
            return Err(ReasonCode::LoginStale.into());
        };
        if name.as_str() != provider {
            return Err(refused("another provider answered").into());
        }
        let view = self.authority.control.house.view(&self.home())?;
        let (name, spec) = self.provider(&view, &name)?;
        let known = self.known_provider(&spec, false).await?;
        let says_iss = known.metadata.authorization_response_iss_parameter_supported;
        if returned.iss.map_or(says_iss, |iss| iss != spec.issuer) {
            return Err(refused("the answer is by another issuer").into());
        }
        let code = returned.code.ok_or_else(|| refused("there is no code"))?;
        let claims = self.redeem(&view, &name, &spec, known, code, &verifier, &nonce).await?;
        let tenant = self.home();
        if let Some(who) = link {
            let id = link_id(&tenant, &spec.issuer, &claims.sub);
            let link = Link { whom: who.principal.id, provider: name, made: self.now() };
            return self.keep_link(who, id, link, once).await.map(|_| ProviderAnswer::Linked);
        }
        let salt = Digest::of_parts(&[b"bartizan federated login v1\0", nonce.as_bytes()]);
        let word = Word { provider: &name, claims: &claims, salt };
        let (principal, mut changes) = self.recognised(&spec, &word).await?;
        changes.push(once);
        let now = self.now();
        let at = claims.auth_time.unwrap_or(Timestamp::from_micros(
            now.as_micros().saturating_sub(u64::try_from(UNSAID.as_micros()).unwrap_or(u64::MAX)),
        ));
        let proven = Proven {
            tenant,
            principal,
            level: spec.assurance(claims.acr.as_deref()),
            methods: vec![Name::literal("fed")],
            via: Some(name),
            at: Some(at.min(now)),
            reach: Reach::Full,
            failures: 0,
            changes,
        };
        Ok(ProviderAnswer::Entered(self.enter(visitor, proven).await?, onward))
    }

    async fn keep_link(
        &self,
        who: &SignedIn,
        id: String,
        link: Link,
        once: bartizan_store::Change,
    ) -> Result<Done<()>, Stopped> {
        self.demand_fresh(who).await?;
        let held = find::<Link>(&*self.authority.rows, &id, self.now()).await?;
        let view = self.authority.control.house.view(&self.home())?;
        if held.as_ref().is_some_and(|held| known(&view, &self.home(), held.value.whom).is_some()) {
            return Err(
                Problem::with_detail(ReasonCode::Conflict, "the account there is linked already").into()
            );
        }
        let request = ("link", &link.provider);
        self.authority
            .control
            .change_with(&who.caller, Action::AuthenticatorChange, &request, async |_, tenant| {
                let put = linked(tenant, id, &link, held.as_ref())?;
                Ok((vec![once, put], ()))
            })
            .await
    }

    #[expect(clippy::too_many_arguments, reason = "what an exchange of a code consists of")]
    async fn redeem(
        &self,
        view: &View,
        name: &Name,
        spec: &IdentityProviderSpec,
        known: Known,
        code: &str,
        verifier: &str,
        nonce: &str,
    ) -> Result<IdClaims, Stopped> {
        let form = encoded(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.way_back(name)),
            ("code_verifier", verifier),
            ("client_id", &spec.client_id),
        ]);
        let basic = match &spec.credential {
            None => None,
            Some(credential) => Some(self.basic(view, &spec.client_id, credential)?),
        };
        let answer = self
            .send(Sent {
                url: known.metadata.token_endpoint.clone(),
                private: spec.allow_private,
                form: Some(Secret::new(form)),
                basic,
            })
            .await?;
        let answer: TokenAnswer =
            serde_json::from_slice(&answer).map_err(|_| refused("no ID token came back"))?;
        let rules = IdRules {
            issuer: &spec.issuer,
            client_id: &spec.client_id,
            trusted_audiences: &[],
            nonce: Some(nonce),
            age_max: None,
            access_token: answer.access_token.as_ref().map(|token| token.expose().as_str()),
            code: None,
            time: TimeRules { now: self.now(), skew: SKEW, life_max: TOKEN_LIFE },
        };
        let jws = Jws::parse(answer.id_token.expose()).map_err(|_| refused("the ID token is none"))?;
        let checked = match verify::<IdClaims>(&jws, &known.keys, &rules) {
            // Its keys may have been rotated: they are read once more.
            Err(TokenError::Jws(_)) => {
                verify::<IdClaims>(&jws, &self.known_provider(spec, true).await?.keys, &rules)
            }
            other => other,
        };
        let claims = checked.map_err(|error| {
            tracing::info!(%error, provider = %name, "an ID token was refused");
            Problem::new(ReasonCode::ProviderRefused)
        })?;
        Ok(claims.into_claims())
    }

    /// Our secret there (RFC 6749, 2.3.1).
    fn basic(&self, view: &View, client: &str, credential: &Name) -> Result<Secret<String>, Problem> {
        let home = self.home();
        let sealed = view.state.sealed.iter().find(|row| row.tenant == home && row.name == *credential);
        let sealed = sealed.ok_or_else(|| refused("our secret there is not in the house"))?;
        let secret = self.authority.control.sealer.open(&sealed.sealed, &home, credential);
        let secret = secret.map_err(|e| broken("our secret there cannot be opened", &e))?;
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = Secret::new(format!("{}:{}", encode(client), encode(secret.expose())));
        Ok(Secret::new(format!("Basic {}", STANDARD.encode(pair.expose()))))
    }

    async fn send(&self, sent: Sent) -> Result<Bytes, Problem> {
        let providers = self.providers.as_ref().ok_or_else(|| Problem::new(ReasonCode::NotFound))?;
        providers.send(sent).await.ok_or_else(|| refused("it did not answer"))
    }

    /// What a provider says about itself, and its keys; read again when it is old, or `anew`.
    async fn known_provider(&self, spec: &IdentityProviderSpec, anew: bool) -> Result<Known, Problem> {
        let now = self.now();
        let found = self.book.0.lock().unwrap_or_else(PoisonError::into_inner).get(&spec.issuer).cloned();
        // Also when asked for anew, not more than every few seconds.
        let fresh = if anew { Duration::from_secs(10) } else { FRESH };
        if let Some(known) = found.filter(|known| now.saturating_since(known.at) < fresh) {
            return Ok(known);
        }
        let read = async |url: String| {
            self.send(Sent { url, private: spec.allow_private, form: None, basic: None }).await
        };
        let text =
            read(format!("{}/.well-known/openid-configuration", spec.issuer.trim_end_matches('/'))).await?;
        let metadata: Metadata =
            serde_json::from_slice(&text).map_err(|_| refused("its metadata cannot be read"))?;
        if metadata.issuer != spec.issuer {
            return Err(refused("its metadata names another issuer"));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        let secure =
            |url: &&String| url.starts_with("https://") || (spec.allow_private && url.starts_with("http://"));
        if !endpoints.iter().all(secure) {
            return Err(refused("its endpoints are not secure"));
        }
        let keys = read(metadata.jwks_uri.clone()).await?;
        let keys = Jwks::parse(&keys).map_err(|_| refused("its keys cannot be read"))?;
        let known = Known { metadata, keys, at: now };
        self.book.0.lock().unwrap_or_else(PoisonError::into_inner).insert(spec.issuer.clone(), known.clone());
        Ok(known)
    }
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}
