//! What acts in one's own name, over HTTP: given, seen and withdrawn by the person themselves, with what was done of it.

use std::sync::Arc;

use bartizan_authority::Authority;
use bartizan_authority::grants::GiveGrant;
use bartizan_authority::oauth::Form;
use bartizan_control::Stopped;
use bartizan_model::{Problem, ReasonCode};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Response};
use http_body_util::Full;
use serde_json::json;

use crate::answers::{given, same, told};
use crate::door::{self, Published};
use crate::mount::{Arrived, Mount};
use crate::route::read;

type Answer = Response<Full<Bytes>>;

const GRANTS: &str = "/api/v1/grants";
const ACTS: &str = "/api/v1/acts";
/// Acts of a page, if none are asked for.
const LIMIT_DEFAULT: usize = 50;

/// The endpoints of grants and of what was done under them.
#[derive(Debug)]
pub struct GrantsDesk {
    authority: Authority,
    published: Published,
}

/// The endpoints in front of `authority`.
#[must_use]
pub fn grants(authority: Authority, published: Published) -> Arc<dyn Mount> {
    Arc::new(GrantsDesk { authority, published })
}

impl GrantsDesk {
    async fn try_answer(&self, arrived: &Arrived) -> Result<Answer, Stopped> {
        let (method, path) = (&arrived.head.method, arrived.head.uri.path());
        let control = &self.authority.control;
        let caller = door::identify(control, Some(&self.published), &arrived.head).await?;
        let parts: Vec<&str> = path.trim_start_matches("/api/v1/").split('/').collect();
        let missing = |_| Problem::new(ReasonCode::NotFound);
        match (method, &*parts) {
            (&Method::GET, ["grants"]) => Ok(same(&self.authority.list_grants(&caller).await?)),
            (&Method::POST, ["grants"]) => {
                let give: GiveGrant = read(&arrived.body)?;
                Ok(same(&self.authority.give_grant(&caller, &give).await?))
            }
            (&Method::DELETE, ["grants", id]) => {
                let id = id.parse().map_err(missing)?;
                Ok(same(&self.authority.withdraw_grant(&caller, id).await?))
            }
            (&Method::GET, ["acts"]) => {
                let query = Form::parse(arrived.head.uri.query().unwrap_or_default().as_bytes());
                let malformed = |why: String| Problem::with_detail(ReasonCode::BodyMalformed, why);
                let query = query.map_err(|e| malformed(e.to_string()))?;
                let limit = query.get("limit").map_or(Ok(LIMIT_DEFAULT), str::parse);
                let limit = limit.map_err(|_| malformed("`limit` is a whole number".to_owned()))?;
                let (actor, cursor) = (query.get("actor"), query.get("cursor"));
                Ok(same(&control.acts_in_own_name(&caller, actor, cursor, limit).await?))
            }
            (&Method::GET, ["acts", id, "proof"]) => {
                let done = control.own_receipt(&caller, id.parse().map_err(missing)?).await?;
                Ok(given(&done, &json!({"proof": done.value.0, "entry": done.value.1})))
            }
            (_, ["grants" | "acts"] | ["grants", _] | ["acts", _, "proof"]) => {
                Err(ReasonCode::MethodNotAllowed.into())
            }
            _ => Err(ReasonCode::NotFound.into()),
        }
    }
}

impl Mount for GrantsDesk {
    fn takes(&self, path: &str) -> bool {
        let below =
            |at: &str| path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        below(GRANTS) || below(ACTS)
    }

    fn answer(&self, arrived: Arrived) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            self.try_answer(&arrived).await.unwrap_or_else(|stopped| {
                let mut answer = told(&stopped);
                let action = match arrived.head.method {
                    Method::POST => "grant:give",
                    Method::DELETE => "grant:withdraw",
                    _ => "grant:list",
                };
                door::challenge(Some(&self.published), answer.headers_mut(), &stopped.problem, Some(action));
                answer
            })
        })
    }
}
