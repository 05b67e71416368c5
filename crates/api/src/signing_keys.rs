//! The authority's signing keys over HTTP, for those who run the house: what there is, and replacing them before their time.
//! Verifiers have the public halves at `/oauth/jwks`.

use std::sync::Arc;

use bartizan_authority::Authority;
use bartizan_authority::keys::{RotateKeys, SigningKeyView};
use bartizan_control::Stopped;
use bartizan_model::{Action, ReasonCode};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Response};
use http_body_util::Full;

use crate::answers::{same, told};
use crate::described::{By, Described, JSON, knows, of, permits};
use crate::door::{self, Published};
use crate::mount::{Arrived, Mount};
use crate::route::read;

type Answer = Response<Full<Bytes>>;

const KEYS: &str = "/api/v1/authority/keys";
const ROTATE: &str = "/api/v1/authority/keys/rotate";

/// What is answered.
pub(crate) const DESCRIBED: &[Described] = &[
    Described::new(
        "GET",
        KEYS,
        By::Credential,
        "identity:read",
        "The keys that the authority signs with, never their private halves.",
    )
    .gives(200, JSON, of::<Vec<SigningKeyView>>),
    Described::new(
        "POST",
        ROTATE,
        By::Credential,
        "identity:change",
        "Replace the signing key before its time, with overlap; at once where the present ones are compromised.",
    )
    .takes(JSON, of::<RotateKeys>)
    .gives(200, JSON, of::<Vec<SigningKeyView>>),
];

#[derive(Debug)]
struct SigningKeys {
    authority: Authority,
    published: Published,
}

impl SigningKeys {
    async fn try_answer(&self, arrived: &Arrived) -> Result<Answer, Stopped> {
        let caller = door::identify(&self.authority.control, Some(&self.published), &arrived.head).await?;
        let (method, path) = (arrived.head.method.as_str(), arrived.head.uri.path());
        if !permits(DESCRIBED, method, path) {
            return Err(ReasonCode::MethodNotAllowed.into());
        }
        if path == KEYS {
            return Ok(same(&self.authority.list_keys(&caller).await?));
        }
        let order = if arrived.body.is_empty() { RotateKeys::default() } else { read(&arrived.body)? };
        Ok(same(&self.authority.rotate_keys(&caller, &order).await?))
    }
}

impl Mount for SigningKeys {
    fn takes(&self, path: &str) -> bool {
        knows(DESCRIBED, path)
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
