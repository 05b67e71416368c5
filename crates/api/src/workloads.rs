//! Workloads over HTTP: certificates of the house's authority, and the keys that they are verified by.

use std::sync::Arc;

use bartizan_authority::Authority;
use bartizan_authority::ca::{IssuedView, REFRESH};
use bartizan_base::Digest;
use bartizan_control::Stopped;
use bartizan_model::{Problem, ReasonCode, Tenant};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{Method, Response};
use http_body_util::Full;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::answers::{given, plain, same, told};
use crate::described::{By, Described, JSON, knows, of, permits};
use crate::door::{self, Published};
use crate::mount::{Arrived, Mount};
use crate::route::read;

type Answer = Response<Full<Bytes>>;

/// Where the keys of our trust domain are (SPIFFE Trust Domain and Bundle, 5).
pub const BUNDLE: &str = "/.well-known/spiffe-bundle";
const CERTIFICATES: &str = "/api/v1/certificates";

/// What is answered.
pub(crate) const DESCRIBED: &[Described] = &[
    Described::new(
        "GET",
        BUNDLE,
        By::Anyone,
        "-",
        "The keys of our trust domain (SPIFFE Trust Domain and Bundle).",
    ),
    Described::new("POST", CERTIFICATES, By::Credential, ISSUE, "Issue a certificate to whoever asks.")
        .takes(JSON, of::<Issue>)
        .gives(200, JSON, of::<IssuedView>),
    Described::new(
        "DELETE",
        "/api/v1/certificates/{thumbprint}",
        By::Credential,
        ISSUE,
        "Take back one's certificate.",
    ),
];
const ISSUE: &str = "certificate:issue";

/// A wish for a certificate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Issue {
    /// The certificate signing request (PKCS #10), in PEM. Only its key counts.
    request: String,
}

/// Certificates and the trust bundle.
#[derive(Debug)]
pub(crate) struct Workloads {
    authority: Authority,
    published: Published,
}

impl Workloads {
    /// The endpoints of `authority`.
    #[must_use]
    pub(crate) const fn new(authority: Authority, published: Published) -> Self {
        Self { authority, published }
    }

    async fn try_answer(&self, arrived: &Arrived) -> Result<Answer, Stopped> {
        let (method, path) = (&arrived.head.method, arrived.head.uri.path());
        if path == BUNDLE && method == Method::GET {
            return self.bundle().await;
        }
        if !permits(DESCRIBED, method.as_str(), path) {
            return Err(ReasonCode::MethodNotAllowed.into());
        }
        let control = &self.authority.control;
        let caller = door::identify(control, Some(&self.published), &arrived.head).await?;
        let thumbprint = path.strip_prefix(CERTIFICATES).and_then(|rest| rest.strip_prefix('/'));
        match (method, thumbprint) {
            (&Method::POST, None) => {
                let wish: Issue = read(&arrived.body)?;
                Ok(same(&self.authority.issue_certificate(&caller, &wish.request).await?))
            }
            (&Method::DELETE, Some(thumbprint)) => {
                let thumbprint: Digest =
                    thumbprint.parse().map_err(|_| Problem::new(ReasonCode::NotFound))?;
                let done = self.authority.withdraw_certificate(&caller, thumbprint).await?;
                Ok(given(&done, &serde_json::json!({})))
            }
            _ => Err(ReasonCode::MethodNotAllowed.into()),
        }
    }

    /// Public, as keys are: whoever verifies our certificates asks here.
    async fn bundle(&self) -> Result<Answer, Stopped> {
        let tenant: &Tenant = &self.authority.settings.tenant;
        let (bundle, sequence) = self.authority.trust_bundle(tenant).await?;
        let mut answer = plain(200, &bundle.to_json(sequence, REFRESH));
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        Ok(answer)
    }
}

impl Mount for Workloads {
    fn takes(&self, path: &str) -> bool {
        knows(DESCRIBED, path)
    }

    fn answer(&self, arrived: Arrived) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            self.try_answer(&arrived).await.unwrap_or_else(|stopped| {
                let mut answer = told(&stopped);
                door::challenge(Some(&self.published), answer.headers_mut(), &stopped.problem, Some(ISSUE));
                answer
            })
        })
    }
}

/// Ready to be mounted.
#[must_use]
pub fn workloads(authority: Authority, published: Published) -> Arc<dyn Mount> {
    Arc::new(Workloads::new(authority, published))
}
