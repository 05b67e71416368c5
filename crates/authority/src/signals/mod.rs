//! Shared signals (OpenID SSF 1.0 with the CAEP and RISC profiles): what others tell us of their subjects becomes marks and
//! standings of ours, and what is ended with us is told to whoever asked to hear it.
//!
//! Receiving: [`Signals::receive`] (pushed, RFC 8935) and [`Signals::fetch_events`] (polled, RFC 8936). Telling: streams that
//! receivers manage themselves ([`Signals::create_stream`] …), events that are made of moved marks ([`Signals::tell`]), and
//! their delivery ([`Signals::push`], [`Signals::poll`]).

mod deliver;
mod effect;
mod event;
mod fetch;
mod keys;
mod manage;
mod receive;
mod stream;
mod subject;
mod tell;
mod wanted;

use std::fmt::Debug;
use std::sync::Arc;

use bartizan_secret::Secret;
use bartizan_upstream::{ExchangePolicy, FetchError, FetchPolicy, Upstreams};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};

pub use deliver::{Poll, Polled};
pub use event::{CAEP, RISC, SSF};
pub use receive::NotTaken;
pub use wanted::{DeliveryToMake, DeliveryView, POLL, PUSH, StatusToSet, StreamToMake, StreamView, Verify};

use crate::Authority;

/// The way out: for the keys of senders, for events, for the questions whether there are any.
pub trait Outside: Debug + Send + Sync {
    /// The keys at an issuer's address. `private` says whether the address may be private.
    fn keys<'a>(&'a self, url: &'a str, private: bool) -> BoxFuture<'a, Result<Bytes, FetchError>>;

    /// Posts to `url` and gives the answer whole, whatever its status. `private` says whether the address may be private.
    fn post(
        &self,
        url: String,
        body: Posted,
        private: bool,
    ) -> BoxFuture<'_, Result<Response<Bytes>, FetchError>>;
}

/// What is posted.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Its media type.
    pub media: &'static str,
    /// The value of the header `authorization`, if one is sent.
    pub authorization: Option<Secret<String>>,
    /// It.
    pub body: Secret<String>,
}

impl Outside for Upstreams {
    fn keys<'a>(&'a self, url: &'a str, private: bool) -> BoxFuture<'a, Result<Bytes, FetchError>> {
        Box::pin(self.fetch(FetchPolicy::Jwks { allow_private: private }, url))
    }

    fn post(
        &self,
        url: String,
        body: Posted,
        private: bool,
    ) -> BoxFuture<'_, Result<Response<Bytes>, FetchError>> {
        Box::pin(async move {
            let mut request = Request::builder()
                .method(Method::POST)
                .uri(url)
                .header("content-type", body.media)
                .header("accept", "application/json");
            if let Some(authorization) = &body.authorization {
                request = request.header("authorization", authorization.expose().as_str());
            }
            let request =
                request.body(Bytes::from(body.body.expose().clone())).map_err(|_| FetchError::Address)?;
            self.exchange(ExchangePolicy::Events { allow_private: private }, request).await
        })
    }
}

/// Events from others and for others.
#[derive(Debug)]
pub struct Signals {
    pub(crate) authority: Authority,
    outside: Arc<dyn Outside>,
    keys: keys::Keys,
    storms: receive::Storms,
    tries: deliver::Tries,
}

impl Signals {
    /// Signals of an authority, over its way out.
    #[must_use]
    pub fn new(authority: Authority, outside: Arc<dyn Outside>) -> Self {
        Self {
            authority,
            outside,
            keys: keys::Keys::default(),
            storms: receive::Storms::default(),
            tries: deliver::Tries::default(),
        }
    }

    /// Whether a receiver may be at a private address.
    fn may_be_private(&self, url: &str) -> bool {
        let uri: Option<http::Uri> = url.parse().ok();
        let host = uri.as_ref().and_then(|uri| uri.authority()).map(http::uri::Authority::as_str);
        host.is_some_and(|host| self.authority.settings.private_receivers.contains(host))
    }

    /// The authority behind it.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }
}
