//! The authority's signing keys over HTTP, for those who run the house: what there is, and replacing them before their time.
//! Verifiers have the public halves at `/oauth/jwks`.

use std::sync::Arc;

use bartizan_authority::Authority;
use bartizan_authority::keys::RotateKeys;
use bartizan_control::Stopped;
use bartizan_model::{Action, ReasonCode};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Response};
use http_body_util::Full;

use crate::door::{self, Published};
use crate::mount::{Arrived, Mount};
use crate::route::{read, same, told};

type Answer = Response<Full<Bytes>>;

const KEYS: &str = "/api/v1/authority/keys";
const ROTATE: &str = "/api/v1/authority/keys/rotate";

#[derive(Debug)]
struct SigningKeys {
    authority: Authority,
    published: Published,
}

impl SigningKeys {
    async fn try_answer(&self, arrived: &Arrived) -> Result<Answer, Stopped> {
        let caller = door::identify(&self.authority.control, Some(&self.published), &arrived.head).await?;
        match (&arrived.head.method, arrived.head.uri.path()) {
            (&Method::GET, KEYS) => Ok(same(&self.authority.list_keys(&caller).await?)),
            (&Method::POST, ROTATE) => {
                let order =
                    if arrived.body.is_empty() { RotateKeys::default() } else { read(&arrived.body)? };
                Ok(same(&self.authority.rotate_keys(&caller, &order).await?))
            }
            _ => Err(ReasonCode::MethodNotAllowed.into()),
        }
    }
}

impl Mount for SigningKeys {
    fn takes(&self, path: &str) -> bool {
        path == KEYS || path == ROTATE
    }

    fn answer(&self, arrived: Arrived) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            self.try_answer(&arrived).await.unwrap_or_else(|stopped| {
                let mut answer = told(&stopped);
                let action = match arrived.head.method {
                    Method::GET => Action::IdentityRead,
                    _ => Action::IdentityChange,
                };
                let published = Some(&self.published);
                door::challenge(published, answer.headers_mut(), &stopped.problem, Some(action.name()));
                answer
            })
        })
    }
}

/// Ready to be mounted.
#[must_use]
pub fn signing_keys(authority: Authority, published: Published) -> Arc<dyn Mount> {
    Arc::new(SigningKeys { authority, published })
}
