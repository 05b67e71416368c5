//! The store's client leaves by our own exit.

use std::sync::Arc;

use async_trait::async_trait;
use bartizan_upstream::{ExchangePolicy, FetchError, Upstreams};
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

/// Requests of the store's client, through the egress guard.
#[derive(Clone, Debug)]
pub(super) struct Exit {
    upstreams: Arc<Upstreams>,
    policy: ExchangePolicy,
}

impl Exit {
    pub(super) const fn new(upstreams: Arc<Upstreams>, policy: ExchangePolicy) -> Self {
        Self { upstreams, policy }
    }
}

impl HttpConnector for Exit {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Exit {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let answer = self.upstreams.exchange(self.policy, http::Request::from_parts(head, body)).await;
        Ok(answer.map_err(|error| HttpError::new(kind(&error), error))?.map(Into::into))
    }
}

const fn kind(error: &FetchError) -> HttpErrorKind {
    match error {
        FetchError::Timeout => HttpErrorKind::Timeout,
        FetchError::Exchange(_) => HttpErrorKind::Request,
        FetchError::Body => HttpErrorKind::Decode,
        FetchError::Address | FetchError::Status(_) => HttpErrorKind::Unknown,
    }
}
