//! What has entered sessions, over HTTP, and lowering it by an endorsement.

use std::sync::Arc;

use bartizan_control::{EndorseSession, SessionLabelView, SessionLabels, Stopped};
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

const LABELS: &str = "/api/v1/session-labels";
const ENDORSE: &str = "/api/v1/session-labels/endorse";

/// What is answered.
pub(crate) const DESCRIBED: &[Described] = &[
    Described::new(
        "GET",
        LABELS,
        By::Credential,
        "identity:read",
        "Sessions that something has entered, with the join of its labels.",
    )
    .gives(200, JSON, of::<Vec<SessionLabelView>>),
    Described::new(
        "POST",
        ENDORSE,
        By::Credential,
        "session:endorse",
        "Lower a session's label, as a person who has looked at what entered it.",
    )
    .takes(JSON, of::<EndorseSession>)
    .gives(200, JSON, of::<SessionLabelView>),
];

#[derive(Debug)]
struct Desk {
    labels: SessionLabels,
    published: Option<Published>,
}

impl Desk {
    async fn try_answer(&self, arrived: &Arrived) -> Result<Answer, Stopped> {
        let caller = door::identify(&self.labels.control, self.published.as_ref(), &arrived.head).await?;
        let (method, path) = (arrived.head.method.as_str(), arrived.head.uri.path());
        if !permits(DESCRIBED, method, path) {
            return Err(ReasonCode::MethodNotAllowed.into());
        }
        if path == LABELS {
            return Ok(same(&self.labels.list(&caller).await?));
        }
        let order: EndorseSession = read(&arrived.body)?;
        Ok(same(&self.labels.endorse(&caller, &order).await?))
    }
}

impl Mount for Desk {
    fn takes(&self, path: &str) -> bool {
        knows(DESCRIBED, path)
    }

    fn answer(&self, arrived: Arrived) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            self.try_answer(&arrived).await.unwrap_or_else(|stopped| {
                let mut answer = told(&stopped);
                let action = match arrived.head.method {
                    Method::GET => Action::IdentityRead,
                    _ => Action::SessionEndorse,
                };
                let published = self.published.as_ref();
                door::challenge(published, answer.headers_mut(), &stopped.problem, Some(action.name()));
                answer
            })
        })
    }
}

/// Ready to be mounted.
#[must_use]
pub fn session_labels(labels: SessionLabels, published: Option<Published>) -> Arc<dyn Mount> {
    Arc::new(Desk { labels, published })
}
