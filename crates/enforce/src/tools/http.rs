//! Servers of tools over streamable HTTP.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Digest, Name};
use bartizan_model::action::ToolCall;
use bartizan_model::directory::UpstreamSpec;
use bartizan_model::{ReasonCode, Tenant, ToolRouteSpec};
use bartizan_record::{IntentRecorded, Running};
use bartizan_upstream::{Answer, AnswerBody, Outbound, SendError, Upstreams};
use bartizan_wire::mcp::{EventReader, encode_name};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt as _, empty, once, unfold};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt as _;

use super::line::LISTEN;
use super::{Conversation, Outgoing, SessionKey, ToolServers};
use crate::keeper::Keeper;

const SESSION: &str = "mcp-session-id";
/// The longest id of a session that is taken from a server.
const SESSION_ID_MAX: usize = 1_024;

/// Servers of tools over streamable HTTP. Ids of their sessions stay here: no caller ever sees or names one.
#[derive(Debug)]
pub(super) struct HttpServers {
    keeper: Arc<Keeper>,
    upstreams: Arc<Upstreams>,
    sessions: Mutex<HashMap<SessionKey, HeaderValue>>,
    bytes_max: usize,
}

impl HttpServers {
    pub(super) fn new(keeper: Arc<Keeper>, upstreams: Arc<Upstreams>, bytes_max: usize) -> Self {
        Self { keeper, upstreams, sessions: Mutex::default(), bytes_max }
    }

    fn route(&self, tenant: &Tenant, server: &Name) -> Result<(ToolRouteSpec, UpstreamSpec), ReasonCode> {
        let world = self.keeper.current()?;
        let part = world.tenants.get(tenant).ok_or(ReasonCode::PolicyMissing)?;
        let route = part.tool_routes.get(server).ok_or(ReasonCode::ToolNotFound)?;
        let upstream = route.upstream.as_ref().and_then(|name| part.upstreams.get(name));
        let upstream = upstream.ok_or(ReasonCode::UpstreamUnreachable)?;
        Ok((route.clone(), upstream.clone()))
    }

    fn held(&self, key: &SessionKey) -> Option<HeaderValue> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn hold(&self, key: &SessionKey, given: Option<&HeaderValue>) {
        let fits = |id: &&HeaderValue| {
            !id.is_empty() && id.len() <= SESSION_ID_MAX && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        match given.filter(fits) {
            Some(id) => {
                let mut id = id.clone();
                id.set_sensitive(true);
                sessions.insert(key.clone(), id);
            }
            None => {
                sessions.remove(key);
            }
        }
    }

    async fn send(
        &self,
        intent: IntentRecorded<ToolCall>,
        outgoing: Outgoing<'_>,
    ) -> Result<Conversation, SendError> {
        let (route, spec) = match self.route(intent.tenant(), outgoing.server) {
            Ok(found) => found,
            Err(reason) => return Err(SendError { reason, running: intent.begin() }),
        };
        let key = (intent.tenant().clone(), outgoing.server.clone(), outgoing.session);
        let begins = outgoing.method == "initialize";
        let session = if begins { None } else { self.held(&key) };
        let headers = headers(&outgoing, session.as_ref());
        let method = if outgoing.method == LISTEN { Method::GET } else { Method::POST };
        let listens = method == Method::GET;
        let outbound = Outbound {
            method,
            carries: outgoing.carries,
            passed_on: &[SESSION],
            ..Outbound::post(route.path, outgoing.message, headers)
        };
        let Answer { status, headers, body, running } = self.upstreams.send(intent, &spec, outbound).await?;
        let failed = |reason, running: Running| SendError { reason, running };
        if begins && (200..300).contains(&status) {
            self.hold(&key, headers.get(SESSION));
        }
        let media = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let is = |kind: &[u8]| media.get(..kind.len()).is_some_and(|m| m.eq_ignore_ascii_case(kind));
        let messages = match status {
            // Nothing is said here but what was asked for.
            405 if listens => return Err(failed(ReasonCode::MethodUnknown, running)),
            202 | 204 => empty().boxed(),
            401 | 403 => return Err(failed(ReasonCode::UpstreamCredentialRefused, running)),
            404 if session.is_some() => {
                self.hold(&key, None);
                return Err(failed(ReasonCode::ToolSessionLost, running));
            }
            // An error can be told by a message of its own, which then is the answer.
            200 | 400..=499 if is(b"application/json") => once(whole(body, self.bytes_max)).boxed(),
            200 if is(b"text/event-stream") => events(body, self.bytes_max),
            _ => return Err(failed(ReasonCode::UpstreamInvalid, running)),
        };
        Ok(Conversation { messages, status: Some(status), running })
    }
}

impl ToolServers for HttpServers {
    fn exchange<'a>(
        &'a self,
        intent: IntentRecorded<ToolCall>,
        outgoing: Outgoing<'a>,
    ) -> BoxFuture<'a, Result<Conversation, SendError>> {
        Box::pin(self.send(intent, outgoing))
    }

    fn forget(&self, tenant: &Tenant, server: &Name, session: Digest) {
        self.hold(&(tenant.clone(), server.clone(), session), None);
    }
}

/// The headers of a message: what its revision demands, and nothing that came from a caller otherwise.
fn headers(outgoing: &Outgoing<'_>, session: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(revision) = outgoing.revision else { return headers };
    headers
        .insert(HeaderName::from_static("mcp-protocol-version"), HeaderValue::from_static(revision.name()));
    if revision.is_stateless() {
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("mcp-method", outgoing.method);
        if let Some(named) = outgoing.named {
            put("mcp-name", &encode_name(named));
        }
        for (name, value) in outgoing.mirrored {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
    } else if let Some(session) = session {
        headers.insert(HeaderName::from_static(SESSION), session.clone());
    }
    headers
}

async fn whole(mut body: AnswerBody, most: usize) -> Result<Bytes, ReasonCode> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| error.reason())?.into_data() else { continue };
        if all.len() + data.len() > most {
            return Err(ReasonCode::AnswerTooLong);
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// A stream of events as it is read.
struct Reading {
    body: AnswerBody,
    reader: EventReader,
    ready: VecDeque<Bytes>,
    over: bool,
}

fn events(body: AnswerBody, most: usize) -> BoxStream<'static, Result<Bytes, ReasonCode>> {
    let reading = Reading { body, reader: EventReader::new(most), ready: VecDeque::new(), over: false };
    unfold(reading, |mut reading| async move {
        loop {
            if let Some(message) = reading.ready.pop_front() {
                return Some((Ok(message), reading));
            }
            if reading.over {
                return None;
            }
            let data = match reading.body.frame().await {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    reading.over = true;
                    return Some((Err(error.reason()), reading));
                }
                None => return None,
            };
            match reading.reader.feed(&data) {
                Ok(events) => {
                    let messages = events.into_iter().filter(|event| {
                        // Events without data only name a place to go on from.
                        !event.data.is_empty() && matches!(event.kind.as_str(), "" | "message")
                    });
                    reading.ready.extend(messages.map(|event| Bytes::from(event.data)));
                }
                Err(_) => {
                    reading.over = true;
                    return Some((Err(ReasonCode::AnswerTooLong), reading));
                }
            }
        }
    })
    .boxed()
}
