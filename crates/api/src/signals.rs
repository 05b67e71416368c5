//! Shared signals over HTTP (OpenID SSF 1.0): events that are sent to us (RFC 8935), streams of our own and what is fetched from
//! them (RFC 8936).

use std::sync::Arc;

use bartizan_authority::signals::{
    NotTaken, POLL, PUSH, Poll, Signals, StatusToSet, StreamToMake, StreamView, Verify,
};
use bartizan_base::json;
use bartizan_control::{Done, Stopped};
use bartizan_identify::Caller;
use bartizan_model::{Problem, ReasonCode, StreamId, Tenant};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::answers::{mark, told};
use crate::described::{By, Described, JSON, knows, of, permits, text};
use crate::door::{Published, presented};
use crate::mount::{Arrived, Mount};

const EVENTS: &str = "/ssf/events";
const STREAMS: &str = "/ssf/streams";
const STATUS: &str = "/ssf/status";
const VERIFY: &str = "/ssf/verify";
const POLLED: &str = "/ssf/poll/";
/// Where receivers learn of all that (SSF 1.0, 7.2); the issuer has no path of its own.
const METADATA: &str = "/.well-known/ssf-configuration";
/// What a request may hold.
const LIMITS: json::Limits = json::Limits { bytes_max: 64 * 1024, depth_max: 16, nodes_max: 4_000 };

type Answer = Response<Full<Bytes>>;

/// What is answered.
pub(crate) const DESCRIBED: &[Described] = &[
    Described::new("GET", METADATA, By::Anyone, "-", "What receivers of events need to know (SSF 1.0, 7)."),
    Described::new(
        "POST",
        EVENTS,
        By::Body,
        "-",
        "Take a security event of somebody we listen to (RFC 8935).",
    )
    .takes("application/secevent+jwt", text)
    .gives_nothing(202),
    Described::new("POST", STREAMS, By::Credential, STREAM, "Make a stream of events.")
        .takes(JSON, of::<StreamToMake>)
        .gives(201, JSON, of::<StreamView>),
    Described::new("GET", STREAMS, By::Credential, STREAM, "One's streams; with `stream_id` that one.")
        .gives(200, JSON, of::<Vec<StreamView>>),
    Described::new("PATCH", STREAMS, By::Credential, STREAM, "Change what is named of a stream.")
        .takes(JSON, of::<StreamToMake>)
        .gives(200, JSON, of::<StreamView>),
    Described::new("PUT", STREAMS, By::Credential, STREAM, "Replace a stream.")
        .takes(JSON, of::<StreamToMake>)
        .gives(200, JSON, of::<StreamView>),
    Described::new("DELETE", STREAMS, By::Credential, STREAM, "Remove the stream `stream_id`.")
        .gives_nothing(204),
    Described::new("GET", STATUS, By::Credential, STREAM, "Whether the stream `stream_id` flows."),
    Described::new("POST", STATUS, By::Credential, STREAM, "Let a stream flow, or not.")
        .takes(JSON, of::<StatusToSet>),
    Described::new("POST", VERIFY, By::Credential, STREAM, "Send an event that tries a stream.")
        .takes(JSON, of::<Verify>)
        .gives_nothing(204),
    Described::new(
        "POST",
        "/ssf/poll/{stream}",
        By::Credential,
        STREAM,
        "Fetch events, and say which were taken (RFC 8936).",
    )
    .takes(JSON, of::<Poll>),
];
/// What policy is asked for.
const STREAM: &str = "identity:read";

/// The paths of shared signals.
#[derive(Clone, Debug)]
pub struct SignalsMount {
    /// What is behind them.
    pub signals: Arc<Signals>,
    /// As what they are known.
    pub published: Published,
}

impl Mount for SignalsMount {
    fn takes(&self, path: &str) -> bool {
        knows(DESCRIBED, path)
    }

    fn answer(&self, arrived: Arrived) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let path = arrived.head.uri.path();
            match (arrived.head.method.as_str(), path) {
                (method, path) if !permits(DESCRIBED, method, path) => {
                    told(&ReasonCode::MethodNotAllowed.into())
                }
                ("POST", EVENTS) => self.receive(&arrived).await,
                ("GET", METADATA) => answer(200, &self.metadata()),
                _ => self.manage(&arrived).await.unwrap_or_else(|stopped| told(&stopped)),
            }
        })
    }
}

impl SignalsMount {
    fn metadata(&self) -> Value {
        let issuer = &self.signals.authority().issuer;
        let at = |path: &str| format!("{issuer}{path}");
        serde_json::json!({
            "spec_version": "1_0", "issuer": &**issuer, "jwks_uri": at("/oauth/jwks"),
            "delivery_methods_supported": [PUSH, POLL],
            "configuration_endpoint": at(STREAMS), "status_endpoint": at(STATUS), "verification_endpoint": at(VERIFY),
            "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6749"}, {"spec_urn": "urn:ietf:rfc:6750"}],
            "default_subjects": "ALL"
        })
    }

    /// An event from somebody else.
    async fn receive(&self, arrived: &Arrived) -> Answer {
        let media = arrived.head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let not_taken = if !media.eq_ignore_ascii_case(b"application/secevent+jwt") {
            NotTaken::Request("the media type is application/secevent+jwt")
        } else if let Ok(text) = std::str::from_utf8(&arrived.body) {
            match self.signals.receive(text.trim_ascii()).await {
                Ok(()) => return empty(202),
                Err(not_taken) => not_taken,
            }
        } else {
            NotTaken::Request("it is not a signed token")
        };
        let body = |err| serde_json::json!({"err": err, "description": not_taken.to_string()});
        match (&not_taken, not_taken.code()) {
            (_, Some(code)) => answer(400, &body(code)),
            (NotTaken::Storm, None) => {
                let mut answer = empty(429);
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
                answer
            }
            (_, None) => empty(503),
        }
    }

    /// What receivers of our own events ask.
    async fn manage(&self, arrived: &Arrived) -> Result<Answer, Stopped> {
        let caller = self.identify(&arrived.head).await?;
        let (signals, body) = (&*self.signals, &*arrived.body);
        let query = arrived.head.uri.query().unwrap_or_default();
        let named = query.split('&').find_map(|part| part.strip_prefix("stream_id="));
        let which: Option<StreamId> = named.map(id).transpose()?;
        let needed = || which.ok_or_else(|| Problem::with_detail(ReasonCode::Invalid, "no `stream_id`"));
        let path = arrived.head.uri.path();
        Ok(match (arrived.head.method.as_str(), path) {
            ("POST", STREAMS) => {
                given(201, &signals.create_stream(&caller, &read::<StreamToMake>(body)?).await?)
            }
            ("GET", STREAMS) => {
                let done = signals.list_streams(&caller, which).await?;
                match (which, done.value.first()) {
                    // One that is named is given by itself.
                    (Some(_), Some(stream)) => marked(&done, answer(200, &value(stream))),
                    _ => given(200, &done),
                }
            }
            (method @ ("PATCH" | "PUT"), STREAMS) => {
                let wanted = read::<StreamToMake>(body)?;
                given(200, &signals.change_stream(&caller, &wanted, method == "PUT").await?)
            }
            ("DELETE", STREAMS) => marked(&signals.remove_stream(&caller, needed()?).await?, empty(204)),
            ("GET", STATUS) => {
                let done = signals.list_streams(&caller, Some(needed()?)).await?;
                let status = done.value.first().map(value).map(|stream| status_of(&stream));
                marked(&done, answer(200, &status.unwrap_or(Value::Null)))
            }
            ("POST", STATUS) => {
                let done = signals.set_status(&caller, &read::<StatusToSet>(body)?).await?;
                marked(&done, answer(200, &status_of(&value(&done.value))))
            }
            ("POST", VERIFY) => {
                marked(&signals.verify_stream(&caller, &read::<Verify>(body)?).await?, empty(204))
            }
            ("POST", path) => {
                let stream = path.strip_prefix(POLLED).ok_or(ReasonCode::MethodNotAllowed)?;
                let done = signals.poll(&caller, id(stream)?, &read::<Poll>(body)?).await?;
                // The only place where the tokens are given out: to the one whom they are for.
                let sets: Map<String, Value> = done
                    .value
                    .sets
                    .iter()
                    .map(|(jti, set)| (jti.clone(), set.expose().as_str().into()))
                    .collect();
                let body = serde_json::json!({"sets": sets, "moreAvailable": done.value.more});
                marked(&done, answer(200, &body))
            }
            _ => return Err(ReasonCode::MethodNotAllowed.into()),
        })
    }

    async fn identify(&self, head: &Parts) -> Result<Caller, Stopped> {
        let control = &self.signals.authority().control;
        let presented = match presented(Some(&self.published), head) {
            Ok(presented) => presented,
            Err(reason) => {
                let nobody = Caller::anonymous(Tenant::default_tenant());
                return Err(control.refuse_caller(&nobody, reason).await);
            }
        };
        match control.house.identify(&presented).await {
            Ok(caller) => Ok(caller),
            Err((caller, reason)) => Err(control.refuse_caller(&caller, reason).await),
        }
    }
}

fn id(text: &str) -> Result<StreamId, Problem> {
    text.parse().map_err(|_| Problem::new(ReasonCode::NotFound))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    json::parse_as(body, LIMITS)
        .map_err(|error| Problem::with_detail(ReasonCode::BodyMalformed, error.to_string()))
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}

/// The members of a stream that are its status.
fn status_of(stream: &Value) -> Value {
    let members = ["stream_id", "status", "reason"];
    members.iter().filter_map(|name| Some(((*name).to_owned(), stream.get(name)?.clone()))).collect()
}

fn given<T: Serialize>(status: u16, done: &Done<T>) -> Answer {
    marked(done, answer(status, &value(&done.value)))
}

fn marked<T>(done: &Done<T>, mut answer: Answer) -> Answer {
    mark(answer.headers_mut(), "bartizan-decision", &done.decision.to_string());
    mark(answer.headers_mut(), "bartizan-receipt", &done.receipt.to_string());
    answer
}

fn answer(status: u16, value: &Value) -> Answer {
    let mut answer = empty(status);
    *answer.body_mut() = Full::new(Bytes::from(value.to_string()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn empty(status: u16) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
