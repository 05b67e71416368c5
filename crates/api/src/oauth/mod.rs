//! The authority over HTTP: OAuth 2.1 and OpenID Connect on the control listener.

mod answer;
mod authorize;
mod register;
#[cfg(test)]
mod tests;
mod token;

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

/// Paths, as metadata names them.
const PATHS: &[&str] = &[
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/oauth/jwks",
    "/oauth/authorize",
    "/oauth/par",
    "/oauth/token",
    "/oauth/userinfo",
    "/oauth/register",
];

impl Oauth {
    /// The endpoints in front of `desk`.
    #[must_use]
    pub fn new(desk: Arc<Desk>, visitors: Arc<dyn Visitors>, offered: Offered) -> Self {
        Self { desk, visitors, offered }
    }

    async fn try_answer(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let (method, path) = (&arrived.head.method, arrived.head.uri.path());
        match (path, method) {
            (
                "/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration",
                &Method::GET,
            ) => Ok(answer::public(&metadata(self.desk.registry().authority(), &self.offered))),
            ("/oauth/jwks", &Method::GET) => {
                let keys = self.desk.registry().authority().jwks()?;
                Ok(answer::public(&keys.to_json()))
            }
            ("/oauth/authorize", &Method::GET | &Method::POST) => Ok(self.authorize(arrived).await),
            ("/oauth/par", &Method::POST) => self.push(arrived).await,
            ("/oauth/token", &Method::POST) => self.token(arrived).await,
            ("/oauth/userinfo", &Method::GET | &Method::POST) => self.userinfo(arrived).await,
            ("/oauth/register", &Method::POST) => self.register(arrived).await,
            _ => Ok(answer::empty(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    async fn userinfo(&self, arrived: &Arrived) -> Result<Answer, OauthError> {
        let authority = self.desk.registry().authority();
        let uri = format!("{}/oauth/userinfo", authority.issuer);
        let head = &arrived.head;
        let claims =
            authority.userinfo(head.method.as_str(), &uri, &head.headers, certificate(arrived)).await?;
        Ok(answer::private(StatusCode::OK, &Value::Object(claims)))
    }
}

/// The certificate of the connection, where the listener has put one.
fn certificate(arrived: &Arrived) -> Option<&PeerCertificate> {
    arrived.head.extensions.get()
}

impl Mount for Oauth {
    fn takes(&self, path: &str) -> bool {
        PATHS.contains(&path)
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
