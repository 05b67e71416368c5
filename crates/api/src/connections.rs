//! Connections over HTTP: begun, finished, listed and withdrawn by the person themselves. No answer holds a token.

use std::sync::Arc;

use bartizan_authority::connections::{ANSWER, Begun, Connect, ConnectionView, Connections, DOCUMENT};
use bartizan_authority::oauth::Form;
use bartizan_control::{Control, Done, Stopped};
use bartizan_identify::Caller;
use bartizan_model::{Problem, ReasonCode};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};
use http::{Method, Response};
use http_body_util::Full;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::answers::{given, plain, same, told};
use crate::described::{By, Described, HTML, JSON, knows, of, permits, text};
use crate::door::{self, Published};
use crate::mount::{Arrived, Mount};
use crate::oauth::Visitors;
use crate::route::read;

type Answer = Response<Full<Bytes>>;

const CONNECTIONS: &str = "/api/v1/connections";

/// What is answered.
pub(crate) const DESCRIBED: &[Described] = &[
    Described::new("GET", CONNECTIONS, By::Credential, "grant:list", "One's connected accounts.").gives(
        200,
        JSON,
        of::<Vec<ConnectionView>>,
    ),
    Described::new("POST", CONNECTIONS, By::Credential, CHANGE, "Begin to connect an account.")
        .takes(JSON, of::<Connect>)
        .gives(200, JSON, of::<Begun>),
    Described::new(
        "POST",
        "/api/v1/connections/answer",
        By::Credential,
        CHANGE,
        "What came back to a program on the person's own machine.",
    )
    .takes(JSON, of::<CameBack>)
    .gives(200, JSON, of::<ConnectionView>),
    Described::new("DELETE", "/api/v1/connections/{id}", By::Credential, CHANGE, "Withdraw a connection."),
    Described::new("GET", ANSWER, By::Session, CHANGE, "Where providers send the browser back to.")
        .gives(200, HTML, text),
    Described::new(
        "GET",
        DOCUMENT,
        By::Anyone,
        "-",
        "What we are as a client of others (OAuth Client ID Metadata Document).",
    ),
];
const CHANGE: &str = "connection:change";

/// What came back to a program on the person's own machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CameBack {
    /// The query of the address that the browser was sent to.
    query: String,
}

/// The endpoints of connections.
#[derive(Debug)]
pub struct ConnectionsDesk {
    connections: Connections,
    control: Arc<Control>,
    visitors: Arc<dyn Visitors>,
    published: Published,
}

impl ConnectionsDesk {
    /// The endpoints in front of `connections`; `visitors` knows who sits at the browser.
    #[must_use]
    pub const fn new(
        connections: Connections,
        control: Arc<Control>,
        visitors: Arc<dyn Visitors>,
        published: Published,
    ) -> Self {
        Self { connections, control, visitors, published }
    }

    async fn try_answer(&self, arrived: &Arrived) -> Result<Answer, Stopped> {
        let (method, path) = (&arrived.head.method, arrived.head.uri.path());
        if !permits(DESCRIBED, method.as_str(), path) {
            return Err(ReasonCode::MethodNotAllowed.into());
        }
        if path == DOCUMENT {
            return Ok(self.document());
        }
        let caller = door::identify(&self.control, Some(&self.published), &arrived.head).await?;
        let rest = path.strip_prefix(CONNECTIONS).and_then(|rest| rest.strip_prefix('/'));
        match (method, rest) {
            (&Method::GET, None) => Ok(same(&self.connections.list(&caller).await?)),
            (&Method::POST, None) => {
                Ok(same(&self.connections.begin(&caller, &read::<Connect>(&arrived.body)?).await?))
            }
            (&Method::POST, Some("answer")) => {
                let came: CameBack = read(&arrived.body)?;
                Ok(same(&self.finish(&caller, came.query.as_bytes()).await?))
            }
            (&Method::DELETE, Some(id)) => {
                let id = id.parse().map_err(|_| Problem::new(ReasonCode::NotFound))?;
                let done = self.connections.withdraw(&caller, id).await?;
                Ok(given(&done, &json!({"ended_at_provider": done.value})))
            }
            _ => Err(ReasonCode::MethodNotAllowed.into()),
        }
    }

    /// Public: authorization servers of others ask for it.
    fn document(&self) -> Answer {
        let Some(document) = self.connections.document() else { return told(&ReasonCode::NotFound.into()) };
        let mut answer = plain(200, &document);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        answer
    }

    async fn finish(&self, caller: &Caller, query: &[u8]) -> Result<Done<ConnectionView>, Stopped> {
        let form = Form::parse(query);
        let form = form.map_err(|e| Problem::with_detail(ReasonCode::BodyMalformed, e.to_string()))?;
        self.connections.finish(caller, &form).await
    }

    /// The browser comes back. Whose browser it is, its own session says and nothing in the address: an answer that somebody else
    /// began is refused by [`Connections::finish`].
    async fn came_back(&self, arrived: &Arrived) -> Answer {
        let found = self.visitors.signed_in(&arrived.head.headers, arrived.peer).await;
        let Ok(Some(person)) = found else {
            return page(401, "Nobody is signed in here", "Sign in, and connect the account again.");
        };
        let query = arrived.head.uri.query().unwrap_or_default();
        match self.finish(&person.caller, query.as_bytes()).await {
            Ok(_) => page(200, "Connected", "The account is connected. You can close this page."),
            Err(stopped) => {
                let message = stopped.problem.message();
                page(stopped.problem.reason.status(), "Not connected", &message)
            }
        }
    }
}

fn page(status: u16, title: &str, text: &str) -> Answer {
    let safe = |text: &str| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    let (title, text) = (safe(title), safe(text));
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><h1>{title}</h1><p>{text}</p></html>"
    );
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

impl Mount for ConnectionsDesk {
    fn takes(&self, path: &str) -> bool {
        knows(DESCRIBED, path)
    }

    fn answer(&self, arrived: Arrived) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            if arrived.head.uri.path() == ANSWER && arrived.head.method == Method::GET {
                return self.came_back(&arrived).await;
            }
            self.try_answer(&arrived).await.unwrap_or_else(|stopped| {
                let mut answer = told(&stopped);
                door::challenge(Some(&self.published), answer.headers_mut(), &stopped.problem, Some(CHANGE));
                answer
            })
        })
    }
}
