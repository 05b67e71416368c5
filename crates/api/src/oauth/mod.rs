//! The authority over HTTP: OAuth 2.1 and OpenID Connect on the control listener.

mod answer;
mod authorize;
mod register;
mod token;
mod tokens;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

use bartizan_authority::authorize::{Desk, Person};
use bartizan_authority::clients::PeerCertificate;
use bartizan_authority::metadata::{Offered, metadata};
use bartizan_authority::oauth::OauthError;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::described::{By, Described, FORM, JSON, knows, object, permits};
use crate::mount::{Arrived, Mount};

type Answer = Response<Full<Bytes>>;

/// Knows who is signed in.
pub trait Visitors: Debug + Send + Sync {
    /// Who is signed in in the browser that sent these headers.
    fn signed_in<'a>(
        &'a self,
        headers: &'a HeaderMap,
        peer: SocketAddr,
    ) -> BoxFuture<'a, Result<Option<Person>, OauthError>>;
}

/// The endpoints of OAuth and OpenID Connect.
#[derive(Debug)]
pub struct Oauth {
    desk: Arc<Desk>,
    visitors: Arc<dyn Visitors>,
    offered: Offered,
}

/// The longest body, in bytes.
const BODY_MAX: usize = 64 << 10;

/// What is answered: metadata names the same paths.
pub(crate) const DESCRIBED: &[Described] = &[
    Described::new("GET", SERVER, By::Anyone, "-", "What the authority offers (RFC 8414)."),
    Described::new("GET", OPENID, By::Anyone, "-", "The same for OpenID Connect."),
    Described::new(
        "GET",
        "/oauth/jwks",
        By::Anyone,
        "-",
        "The keys that its tokens are verified by (RFC 7517).",
    ),
    Described::new("GET", "/oauth/authorize", By::Session, "-", "Ask for a code; the browser is sent on.")
        .gives_nothing(303),
    Described::new("POST", "/oauth/authorize", By::Session, "-", "The same by a form.")
        .takes(FORM, object)
        .gives_nothing(303),
    Described::new("POST", "/oauth/par", By::Client, "-", "Push an authorization request (RFC 9126).")
        .takes(FORM, object)
        .gives(201, JSON, object),
    Described::new("POST", "/oauth/introspect", By::Client, "-", "What a token is worth (RFC 7662).")
        .takes(FORM, object),
    Described::new("POST", "/oauth/revoke", By::Client, "-", "End a token (RFC 7009).")
        .takes(FORM, object)
        .gives_nothing(200),
    Described::new("POST", "/oauth/device_authorization", By::Client, "-", "Begin on a device (RFC 8628).")
        .takes(FORM, object),
    Described::new("POST", "/oauth/token", By::Client, "token:issue", "Get a token.").takes(FORM, object),
    Described::new("GET", "/oauth/userinfo", By::Credential, "-", "Claims about whoever a token is of."),
    Described::new("POST", "/oauth/userinfo", By::Credential, "-", "The same."),
    Described::new("GET", "/oauth/logout", By::Session, "-", "Log out, and go back.").gives_nothing(303),
    Described::new("POST", "/oauth/logout", By::Session, "-", "The same by a form.")
        .takes(FORM, object)
        .gives_nothing(303),
    Described::new(
        "POST",
        "/oauth/register",
        By::Credential,
        "-",
        "Register a client, where that is allowed (RFC 7591).",
    )
    .takes(JSON, object)
    .gives(201, JSON, object),
];
const SERVER: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

impl Oauth {
    /// The endpoints in front of `desk`.
    #[must_use]
    pub fn new(desk: Arc<Desk>, visitors: Arc<dyn Visitors>, offered: Offered) -> Self {
        Self { desk, visitors, offered }
    }

    async fn try_answer(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let (method, path) = (&arrived.head.method, arrived.head.uri.path());
        if !permits(DESCRIBED, method.as_str(), path) {
            return Ok(answer::empty(StatusCode::METHOD_NOT_ALLOWED));
        }
        match (path, method) {
            (SERVER | OPENID, &Method::GET) => {
                Ok(answer::public(&metadata(self.desk.registry().authority(), &self.offered)))
            }
            ("/oauth/jwks", &Method::GET) => {
                let keys = self.desk.registry().authority().jwks()?;
                Ok(answer::public(&keys.to_json()))
            }
            ("/oauth/authorize", &Method::GET | &Method::POST) => Ok(self.authorize(arrived).await),
            ("/oauth/par", &Method::POST) => self.push(arrived).await,
            ("/oauth/introspect", &Method::POST) => self.introspect(arrived).await,
            ("/oauth/revoke", &Method::POST) => self.revoke(arrived).await,
            ("/oauth/device_authorization", &Method::POST) => self.begin_device(arrived).await,
            ("/oauth/token", &Method::POST) => self.token(arrived).await,
            ("/oauth/userinfo", &Method::GET | &Method::POST) => self.userinfo(arrived).await,
            ("/oauth/logout", &Method::GET | &Method::POST) => Ok(self.log_out(arrived).await),
            ("/oauth/register", &Method::POST) => self.register(arrived).await,
            _ => Ok(answer::empty(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    async fn userinfo(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let authority = self.desk.registry().authority();
        let uri = format!("{}/oauth/userinfo", authority.issuer);
        let head = &arrived.head;
        let claims = authority
            .userinfo(head.method.as_str(), &uri, &head.headers, certificate(arrived).as_ref())
            .await?;
        Ok(answer::private(StatusCode::OK, &Value::Object(claims)))
    }
}

/// The certificate of the connection, where the listener has verified one.
fn certificate(arrived: &Arrived) -> Option<PeerCertificate> {
    let shown: &bartizan_identify::PeerCertificate = arrived.head.extensions.get()?;
    PeerCertificate::read(shown.thumbprint(), shown.der())
}

impl Mount for Oauth {
    fn takes(&self, path: &str) -> bool {
        knows(DESCRIBED, path)
    }

    fn body_max(&self) -> usize {
        BODY_MAX
    }

    fn answer(&self, arrived: Arrived) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let nonce = arrived.head.headers.contains_key("dpop").then(|| self.desk.registry().nonce());
            let answer = self.try_answer(&arrived).await;
            let answer = answer.unwrap_or_else(|error| answer::refused(&error, arrived.head.uri.path()));
            answer::with_nonce(answer, nonce)
        })
    }
}
