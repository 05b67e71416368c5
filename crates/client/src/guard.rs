//! A `tower` layer (axum, tonic, hyper): no request reaches a service that policy does not permit.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use serde_json::json;
use tower::{Layer, Service};

use crate::{Answer, Client, Error, Obligation, Question};

type Asks = dyn Fn(&Question) -> Result<Answer, Error> + Send + Sync;
type Says = dyn Fn(&Parts) -> Option<Question> + Send + Sync;
type Applies = dyn Fn(&mut Parts, &Obligation) -> bool + Send + Sync;

/// Asks about every request before the service behind it sees it.
///
/// ```
/// use bartizan_client::{Client, GuardLayer, Question};
/// # #[derive(Clone)] struct User(String);
/// # fn main() -> Result<(), bartizan_client::Error> {
/// let client = Client::new("https://gateway.example.com", "the workload's key".to_owned())?;
/// let layer = GuardLayer::new(client, |head| {
///     // As the application has verified it, in a layer further out; never the request's own word.
///     let user = head.extensions.get::<User>()?;
///     let order = head.uri.path().strip_prefix("/orders/")?;
///     Some(Question::new(("user", &user.0), head.method.as_str(), ("order", order)))
/// })
/// .applies("redact", |head, _| head.extensions.insert("redact").is_none());
/// # let _ = layer; Ok(()) }
/// ```
///
/// What has no question is denied with 403, and what is not answered with 503: name what is open to everybody outside of this layer.
#[derive(Clone)]
pub struct GuardLayer(Arc<Guarding>);

struct Guarding {
    asks: Box<Asks>,
    says: Box<Says>,
    applies: BTreeMap<String, Arc<Applies>>,
}

impl fmt::Debug for GuardLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GuardLayer").field(&self.0.applies.keys()).finish()
    }
}

impl GuardLayer {
    /// Asks `client` what `question` makes of a request; with `None` it is denied.
    pub fn new(
        client: Client,
        question: impl Fn(&Parts) -> Option<Question> + Send + Sync + 'static,
    ) -> Self {
        Self::asking(move |asked| client.evaluate(asked), question)
    }

    /// The same, asking in another way. `asks` may block.
    pub fn asking(
        asks: impl Fn(&Question) -> Result<Answer, Error> + Send + Sync + 'static,
        question: impl Fn(&Parts) -> Option<Question> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Guarding { asks: Box::new(asks), says: Box::new(question), applies: BTreeMap::new() }))
    }

    /// Registers how obligations of a kind (`redact`, `cap` …) are applied: `apply` says whether it did, or noted that the service will. A
    /// kind that is not registered makes the answer a no.
    #[must_use]
    pub fn applies(
        self,
        kind: &str,
        apply: impl Fn(&mut Parts, &Obligation) -> bool + Send + Sync + 'static,
    ) -> Self {
        let Self(shared) = self;
        let mut guarding = Arc::try_unwrap(shared).unwrap_or_else(|shared| shared.again());
        guarding.applies.insert(kind.to_owned(), Arc::new(apply));
        Self(Arc::new(guarding))
    }
}

impl Guarding {
    /// The same once more, for a layer that is already in use.
    fn again(self: Arc<Self>) -> Self {
        let (asks, says) = (self.clone(), self.clone());
        Self {
            asks: Box::new(move |question| (asks.asks)(question)),
            says: Box::new(move |head| (says.says)(head)),
            applies: self.applies.clone(),
        }
    }

    /// The head as it goes on, or why not. May block.
    fn decide(&self, mut head: Parts) -> Result<Parts, (StatusCode, Vec<String>)> {
        let Some(question) = (self.says)(&head) else {
            return Err((StatusCode::FORBIDDEN, vec!["no_question".to_owned()]));
        };
        let Ok(answer) = (self.asks)(&question) else {
            return Err((StatusCode::SERVICE_UNAVAILABLE, vec!["no_decision".to_owned()]));
        };
        let mut unable = false;
        let permitted = answer.permits(|obligation| {
            let known = self.applies.iter().find(|(kind, _)| obligation.own(kind).is_some());
            let done = known.is_some_and(|(_, apply)| apply(&mut head, obligation));
            unable |= !done;
            done
        });
        match permitted {
            true => Ok(head),
            false if unable && answer.reasons().is_empty() => {
                Err((StatusCode::FORBIDDEN, vec!["obligation_unsupported".to_owned()]))
            }
            false => Err((StatusCode::FORBIDDEN, answer.reasons().to_vec())),
        }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, layer: self.clone() }
    }
}

/// A service behind a [`GuardLayer`].
#[derive(Clone, Debug)]
pub struct Guard<S> {
    inner: S,
    layer: GuardLayer,
}

impl<S, B, R> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready goes along; its clone is not yet.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let guarding = self.layer.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let decided = tokio::task::spawn_blocking(move || guarding.decide(head)).await;
            // A question that panics is no permit.
            let broken = |_| Err((StatusCode::INTERNAL_SERVER_ERROR, vec!["no_decision".to_owned()]));
            match decided.unwrap_or_else(broken) {
                Ok(head) => inner.call(Request::from_parts(head, body)).await,
                Err((status, reasons)) => Ok(refusal(status, &reasons)),
            }
        })
    }
}

fn refusal<R: From<String>>(status: StatusCode, reasons: &[String]) -> Response<R> {
    let code = reasons.first().map_or("denied", String::as_str);
    let body = json!({"error": {"code": code, "reasons": reasons}}).to_string();
    let mut answer = Response::new(R::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::Value;
    use tower::ServiceExt as _;

    /// The status, and how often the service was reached, with the layer that `more` makes.
    async fn through(
        told: impl Fn() -> Result<Value, Error> + Send + Sync + 'static,
        more: impl FnOnce(GuardLayer) -> GuardLayer,
    ) -> (u16, usize) {
        static NOBODY: &str = "/nobody";
        let layer = GuardLayer::asking(
            move |_| {
                told().and_then(|value| {
                    serde_json::from_value(value).map_err(|e| Error::Foreign(e.to_string()))
                })
            },
            |head| {
                (head.uri.path() != NOBODY)
                    .then(|| Question::new(("user", "a"), "get", ("page", head.uri.path())))
            },
        );
        let reached = Arc::new(AtomicUsize::new(0));
        let seen = reached.clone();
        let inner = tower::service_fn(move |_: Request<()>| {
            seen.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Infallible>(Response::new(String::new())) }
        });
        let service = more(layer).layer(inner);
        let answer = service.clone().oneshot(Request::get("/x").body(()).unwrap()).await.unwrap();
        let nobody = service.oneshot(Request::get(NOBODY).body(()).unwrap()).await.unwrap();
        assert_eq!(nobody.status(), 403, "what has no question is denied");
        (answer.status().as_u16(), reached.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn nothing_that_is_not_permitted_reaches_the_service() {
        let obliged = json!({"decision": true, "context": {"obligations": [
            {"id": "1", "type": "custom", "properties": {"vendor": "bartizan", "obligation": {"kind": "redact"}}}
        ]}});
        let says = |value: Value| move || Ok(value.clone());
        assert_eq!(through(says(json!({"decision": true})), |l| l).await, (200, 1));
        assert_eq!(through(says(json!({"decision": false})), |l| l).await, (403, 0));
        assert_eq!(through(says(json!({"decision": "true"})), |l| l).await, (503, 0));
        assert_eq!(through(|| Err(Error::Foreign(String::new())), |l| l).await, (503, 0));
        assert_eq!(through(says(obliged.clone()), |l| l).await, (403, 0));
        assert_eq!(through(says(obliged.clone()), |l| l.applies("cap", |_, _| true)).await, (403, 0));
        assert_eq!(through(says(obliged.clone()), |l| l.applies("redact", |_, _| false)).await, (403, 0));
        let shared = |l: GuardLayer| {
            let other = l.clone();
            let l = l.applies("redact", |head, _| head.extensions.insert(1_u8).is_none());
            drop(other);
            l
        };
        assert_eq!(through(says(obliged), shared).await, (200, 1));
    }
}
