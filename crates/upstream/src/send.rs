//! The two exits.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Clock, Digest, Name};
use bartizan_model::action::Outward;
use bartizan_model::directory::{UpstreamAuth, UpstreamSpec};
use bartizan_model::{Operation, ReasonCode, Target, Tenant};
use bartizan_record::{IntentRecorded, Running};
use bartizan_secret::Secret;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use crate::body::AnswerBody;
use crate::connected::{CREDENTIALS, Released};
use crate::egress::{ConnectError, Connector, Resolve};
use crate::sigv4;

/// Opens the credentials of upstreams. Only this crate asks.
pub trait Credentials: fmt::Debug + Send + Sync {
    /// The credential called `name`; none if there is none or it does not open.
    fn credential(&self, tenant: &Tenant, name: &Name) -> Option<Secret<String>>;
}

/// A request on its way out: method, path, body and headers that the door has chosen from a closed list.
#[derive(Debug)]
pub struct Outbound {
    /// The method.
    pub method: Method,
    /// The path below the upstream's address, with its query.
    pub path: String,
    /// The body; empty for a request without one.
    pub body: Bytes,
    /// Headers, never credentials.
    pub headers: HeaderMap,
    /// Whose credential it carries.
    pub carries: Carries,
    /// Headers of the answer that are passed on, beside those of the house's own list.
    pub passed_on: &'static [&'static str],
}

impl Outbound {
    /// A `POST` of `body`, under the upstream's own credential.
    #[must_use]
    pub const fn post(path: String, body: Bytes, headers: HeaderMap) -> Self {
        Self { method: Method::POST, path, body, headers, carries: Carries::Own, passed_on: &[] }
    }
}

/// Whose credential a request carries. Never the caller's.
#[derive(Debug)]
pub enum Carries {
    /// The sealed one that the upstream is declared with, if it is.
    Own,
    /// That of an account which the person, on whose behalf it is asked, has connected; to its resource and nowhere else.
    Connected(Box<Released>),
}

/// An upstream's answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers of a closed list.
    pub headers: HeaderMap,
    /// The body as it comes.
    pub body: AnswerBody,
    /// The effect, to be told how it ended.
    pub running: Running,
}

/// Nothing came back.
#[derive(Debug)]
pub struct SendError {
    /// Why.
    pub reason: ReasonCode,
    /// The effect, to be told how it ended.
    pub running: Running,
}

/// How the exits are set up.
pub struct Settings {
    /// Roots that TLS is checked against, beyond the built-in ones.
    pub extra_roots: Vec<rustls::pki_types::CertificateDer<'static>>,
    /// Turns names into addresses.
    pub resolver: Arc<dyn Resolve>,
    /// Opens credentials.
    pub credentials: Arc<dyn Credentials>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

pub(crate) type Pool = Client<Connector, Full<Bytes>>;

/// The exits.
pub struct Upstreams {
    /// One pool for addresses that may be private and one for those that may not, so that a connection made under one rule
    /// is never used under the other.
    public: Pool,
    private: Pool,
    /// For other processes of the house, under mutual TLS.
    mutual: Option<Pool>,
    /// For what is not HTTP, hence offers no protocol by ALPN.
    pub(crate) dialer: Connector,
    credentials: Arc<dyn Credentials>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Addresses that were read already.
    bases: Mutex<HashMap<String, Option<Uri>>>,
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams").finish_non_exhaustive()
    }
}

/// Why the exits cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up")]
pub struct SetupError(#[from] rustls::Error);

/// What may be fetched: a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchPolicy {
    /// An issuer's keys: at most 64 KiB of JSON within 5 seconds, no redirects.
    Jwks {
        /// Whether its address may be private.
        allow_private: bool,
    },
    /// The keys of a SPIFFE trust domain: at most 256 KiB, under TLS (`https_web`) unless private; else the same.
    TrustBundle {
        /// Whether its address may be private.
        allow_private: bool,
    },
}

impl FetchPolicy {
    const fn bounds(self) -> (bool, usize) {
        match self {
            Self::Jwks { allow_private } => (allow_private, 64 << 10),
            Self::TrustBundle { allow_private } => (allow_private, 256 << 10),
        }
    }
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is not `https` (or `http` where private addresses are allowed), or not well-formed.
    #[error("the address is not acceptable")]
    Address,
    /// Unreachable, forbidden, or broken off.
    #[error("nothing came back")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another status than 200.
    #[error("the answer has status {0}")]
    Status(u16),
    /// Longer than allowed, or broken off.
    #[error("the answer is too long or broke off")]
    Body,
    /// Not in time.
    #[error("no answer in time")]
    Timeout,
}

const FETCH_PATIENCE: Duration = Duration::from_secs(5);

/// Headers of an answer that are passed on.
const PASSED_ON: &[&str] = &[
    "content-type",
    "retry-after",
    "openai-processing-ms",
    "openai-version",
    "anthropic-ratelimit-requests-remaining",
];

impl Upstreams {
    /// Sets the exits up.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(settings.extra_roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let plain = Arc::new(tls.clone());
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = Arc::new(tls);
        let pool = |allow_private| {
            let connector =
                Connector { resolver: settings.resolver.clone(), tls: tls.clone(), allow_private };
            build(connector)
        };
        Ok(Self {
            public: pool(false),
            private: pool(true),
            mutual: None,
            dialer: Connector { resolver: settings.resolver.clone(), tls: plain, allow_private: false },
            credentials: settings.credentials,
            clock: settings.clock,
            bases: Mutex::default(),
        })
    }

    /// Shows other processes of the house who we are, and demands the same of them.
    #[must_use]
    pub fn with_mutual(mut self, tls: ClientConfig) -> Self {
        let resolver = self.dialer.resolver.clone();
        self.mutual = Some(build(Connector { resolver, tls: Arc::new(tls), allow_private: true }));
        self
    }

    pub(crate) fn mutual(&self) -> Option<&Pool> {
        self.mutual.as_ref()
    }

    pub(crate) const fn pool(&self, allow_private: bool) -> &Pool {
        if allow_private { &self.private } else { &self.public }
    }

    /// Sends what the intent was recorded for, and nothing else: its target, path and body digest must be those of the
    /// request, and it must not have run out.
    ///
    /// # Errors
    /// With the running effect, so that its end can be told.
    pub async fn send<O: Outward>(
        &self,
        intent: IntentRecorded<O>,
        spec: &UpstreamSpec,
        outbound: Outbound,
    ) -> Result<Answer, SendError> {
        let fits = matches!(intent.target(), Target::Upstream { method, path, body, .. } if *method == outbound.method.as_str() && *path == outbound.path && *body == Digest::of(&outbound.body));
        let in_time = self.clock.now() < intent.expires();
        let tenant = intent.tenant().clone();
        let running = intent.begin();
        if !fits || !in_time {
            tracing::error!(fits, in_time, "a request that is not the recorded one was stopped at the exit");
            return Err(SendError { reason: ReasonCode::Internal, running });
        }
        match self.attempt(&tenant, spec, outbound).await {
            Ok((status, headers, body)) => Ok(Answer { status, headers, body, running }),
            Err(reason) => Err(SendError { reason, running }),
        }
    }

    /// The sealed credential `name`, for what is reached otherwise than over HTTP and must log in by itself: only for an effect
    /// that was recorded and is not sent by this crate. None if there is none or it does not open.
    #[must_use]
    pub fn password<O: Operation>(&self, intent: &IntentRecorded<O>, name: &Name) -> Option<Secret<String>> {
        let direct = matches!(intent.target(), Target::Direct { .. });
        self.credentials.credential(intent.tenant(), name).filter(|_| direct)
    }

    async fn attempt(
        &self,
        tenant: &Tenant,
        spec: &UpstreamSpec,
        outbound: Outbound,
    ) -> Result<(u16, HeaderMap, AnswerBody), ReasonCode> {
        let passed_on = outbound.passed_on;
        let request = self.request(tenant, spec, outbound)?;
        let (status, headers, body) = self.ask(spec, request, passed_on).await?;
        Ok((status, headers, AnswerBody::new(body, Duration::from_millis(spec.idle_timeout_ms))))
    }

    /// Asks, and gives what came with the headers that are passed on.
    pub(crate) async fn ask(
        &self,
        spec: &UpstreamSpec,
        request: Request<Full<Bytes>>,
        passed_on: &[&'static str],
    ) -> Result<(u16, HeaderMap, Incoming), ReasonCode> {
        let pool = self.pool(spec.allow_private);
        let answer = tokio::time::timeout(Duration::from_millis(spec.head_timeout_ms), pool.request(request));
        let answer = answer.await.map_err(|_| ReasonCode::UpstreamTimeout)?.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "an upstream could not be reached");
            if forbidden(&error) {
                ReasonCode::EgressForbidden
            } else if error.is_connect() {
                ReasonCode::UpstreamUnreachable
            } else {
                ReasonCode::UpstreamInvalid
            }
        })?;
        let (head, body) = answer.into_parts();
        if head.status.is_redirection() {
            return Err(ReasonCode::UpstreamRedirect);
        }
        let mut headers = HeaderMap::new();
        for name in PASSED_ON.iter().chain(passed_on) {
            if let Some(value) = head.headers.get(*name) {
                headers.insert(HeaderName::from_static(name), value.clone());
            }
        }
        Ok((head.status.as_u16(), headers, body))
    }

    fn request(
        &self,
        tenant: &Tenant,
        spec: &UpstreamSpec,
        outbound: Outbound,
    ) -> Result<Request<Full<Bytes>>, ReasonCode> {
        let uri = self.address(&spec.base_url, &outbound.path).ok_or(ReasonCode::EgressForbidden)?;
        let Outbound { method, body, headers, carries, .. } = outbound;
        let mut request = Request::new(Full::new(body));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        self.dressed(tenant, spec, request, &carries)
    }

    /// The request with the headers that are ours to set, and a credential of ours alone.
    pub(crate) fn dressed(
        &self,
        tenant: &Tenant,
        spec: &UpstreamSpec,
        mut request: Request<Full<Bytes>>,
        carries: &Carries,
    ) -> Result<Request<Full<Bytes>>, ReasonCode> {
        if let Carries::Connected(released) = carries {
            let allowed = spec.allow_private || !released.allow_private;
            if !allowed || !released.covers(request.uri()) {
                return Err(ReasonCode::EgressForbidden);
            }
        }
        let has_body = !request.body().is_end_stream();
        let headers = request.headers_mut();
        if has_body {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("bartizan/", env!("CARGO_PKG_VERSION"))));
        // Whatever stood here before is not ours to send.
        for name in CREDENTIALS {
            headers.remove(name);
        }
        let bearer = |text: &Secret<String>| Secret::new(format!("Bearer {}", text.expose()));
        let carried = match (carries, &spec.credential) {
            (Carries::Connected(released), _) => Some((AUTHORIZATION, bearer(&released.token))),
            (Carries::Own, None) => None,
            (Carries::Own, Some(name)) => {
                let credential = self.credentials.credential(tenant, name);
                let credential = credential.ok_or(ReasonCode::UpstreamUnreachable)?;
                match spec.auth {
                    UpstreamAuth::Bearer => Some((AUTHORIZATION, bearer(&credential))),
                    UpstreamAuth::XApiKey => Some((HeaderName::from_static("x-api-key"), credential)),
                    UpstreamAuth::ApiKey => Some((HeaderName::from_static("api-key"), credential)),
                    UpstreamAuth::XGoogApiKey => {
                        Some((HeaderName::from_static("x-goog-api-key"), credential))
                    }
                    UpstreamAuth::SigV4 => {
                        let region = spec.region.as_ref().ok_or(ReasonCode::UpstreamUnreachable)?;
                        let of = (region.as_str(), sigv4::BEDROCK);
                        // It is here whole, so nothing is waited for.
                        let body = request.body().clone().collect().now_or_never();
                        let body = body.and_then(Result::ok).ok_or(ReasonCode::Internal)?.to_bytes();
                        sigv4::signed(&mut request, &body, &credential, of, self.clock.now())
                            .ok_or(ReasonCode::UpstreamUnreachable)?;
                        None
                    }
                }
            }
        };
        let headers = request.headers_mut();
        if let Some((header, text)) = carried {
            let mut value = HeaderValue::from_str(text.expose()).map_err(|_| ReasonCode::Internal)?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        Ok(request)
    }

    /// The address of `path` below `base`. A base that names a user, query or fragment is refused.
    pub(crate) fn address(&self, base: &str, path: &str) -> Option<Uri> {
        let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        if bases.len() > 1_000 {
            bases.clear();
        }
        let parsed = bases.entry(base.to_owned()).or_insert_with(|| read_base(base)).clone()?;
        drop(bases);
        let prefix = parsed.path().trim_end_matches('/');
        let mut parts = parsed.clone().into_parts();
        parts.path_and_query = Some(format!("{prefix}{path}").parse().ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Fetches infrastructure documents of a closed list.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, policy: FetchPolicy, url: &str) -> Result<Bytes, FetchError> {
        let (allow_private, bytes_max) = policy.bounds();
        let uri = read_base(url)
            .filter(|u| allow_private || u.scheme_str() == Some("https"))
            .ok_or(FetchError::Address)?;
        let pool = self.pool(allow_private);
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let work = async {
            let answer = pool.request(request).await.map_err(|e| FetchError::Exchange(Box::new(e)))?;
            if answer.status() != http::StatusCode::OK {
                return Err(FetchError::Status(answer.status().as_u16()));
            }
            let body =
                Limited::new(answer.into_body(), bytes_max).collect().await.map_err(|_| FetchError::Body)?;
            Ok(body.to_bytes())
        };
        tokio::time::timeout(FETCH_PATIENCE, work).await.map_err(|_| FetchError::Timeout)?
    }
}

fn build(connector: Connector) -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(1_024)
        .http1_max_buf_size(256 * 1024)
        .build(connector)
}

fn read_base(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    (is_plain(&uri) && uri.query().is_none() && !text.contains('#')).then_some(uri)
}

/// Whether the address is `http` or `https` with a host that is what it looks like, and names no user.
pub(crate) fn is_plain(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else { return false };
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    scheme && !authority.as_str().contains('@') && !is_disguised(authority.host())
}

/// Hosts such as `0x7f.1` or `2130706433` are addresses in disguise, which resolvers understand and readers do not.
pub(crate) fn is_disguised(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|last| {
        !last.is_empty() && (last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit()))
    }) && host.parse::<std::net::Ipv4Addr>().is_err()
}

fn forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(ConnectError::Forbidden(_))) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_disguise_with_users_or_queries_are_refused() {
        for bad in [
            "https://user@host/",
            "https://host/?a=b",
            "https://host/#x",
            "ftp://host/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://0177.0.0.1.1/",
            "host",
            "https:///x",
            "http://127.1/",
        ] {
            assert!(read_base(bad).is_none(), "{bad}");
        }
        for good in ["https://api.example.com", "http://127.0.0.1:8000/v2", "https://[2606:2800::1]/"] {
            assert!(read_base(good).is_some(), "{good}");
        }
    }
}
