//! The door of external APIs: brokered calls of declared operations, under a credential that the caller never sees.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_base::{Digest, Name, json};
use bartizan_identify::Caller;
use bartizan_model::action::ApiCall as Calling;
use bartizan_model::asset::AssetSpec;
use bartizan_model::directory::Spec;
use bartizan_model::record::{End, VerdictKind};
use bartizan_model::{
    Action, ApiRouteSpec, Ask, AskFacts, EntityRef, Label, ObligationKind, Problem, ReasonCode, Target,
};
use bartizan_record::Ended;
use bartizan_upstream::{Answer, AnswerBody, Carries, Outbound, Released};
use bartizan_wire::api::{ApiCall, ApiRequest, ReadyOperation, read_api_call};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE};
use http::{HeaderMap, Method, Request};
use http_body::Body;
use http_body_util::BodyExt as _;

use crate::admit::{Going, Step};
use crate::path::{Entering, Gate, Stop};
use crate::reply::{self, Reply};
use crate::scrub::{HIDING, Scrub, Way};
use crate::world::World;

/// What callers may say about the answer they want.
const FORWARDED: [http::HeaderName; 2] = [ACCEPT, ACCEPT_LANGUAGE];

/// The accounts that people have connected, as doors need them.
pub trait Accounts: std::fmt::Debug + Send + Sync {
    /// The token of the account that exactly the chain behind `caller` has connected at `provider`, for the exit alone.
    fn release<'a>(
        &'a self,
        caller: &'a Caller,
        provider: &'a Name,
    ) -> BoxFuture<'a, Result<Released, Problem>>;
}

/// How an external API is reached, ready to be asked.
#[derive(Debug)]
pub struct ReadyApi {
    spec: ApiRouteSpec,
    operations: Vec<ReadyOperation>,
}

impl ReadyApi {
    /// Makes a route ready. None, and a warning, for one that an earlier version let be declared.
    pub(crate) fn new(name: &Name, spec: &ApiRouteSpec) -> Option<Arc<Self>> {
        let operations: Result<Vec<_>, _> = spec.operations.iter().map(ReadyOperation::new).collect();
        match operations {
            Ok(operations) => Some(Arc::new(Self { spec: spec.clone(), operations })),
            Err(error) => {
                tracing::error!(%error, api = %name, "the route of an external API is unusable");
                None
            }
        }
    }
}

impl Gate {
    /// A call of the external API `name`, at `rest` of its own paths.
    pub async fn call_api<B>(
        &self,
        name: &str,
        rest: &str,
        request: Request<B>,
        peer: Option<IpAddr>,
    ) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match self.try_call_api(name, rest, request, peer).await {
            Ok(reply) => reply,
            Err(stop) => self.problem_reply("/apis/", Some(Action::ApiCall), &stop),
        }
    }

    async fn try_call_api<B>(
        &self,
        name: &str,
        rest: &str,
        request: Request<B>,
        peer: Option<IpAddr>,
    ) -> Result<Reply, Stop>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Entering { world, caller, head, body } = self.enter(request).await?;
        let name: Name = self.or_refuse(&caller, None, name.parse().map_err(|_| unknown())).await?;
        // What has no body needs no media type either.
        let body = if body.is_end_stream() { Bytes::new() } else { self.take(&caller, &head, body).await? };
        let scene = self.assessed(&caller, peer, &head.headers).await?;
        // Handles stand in bodies alone: what is in a path or a query is written down in too many places.
        let handed = self.handed_in_body(&world, &caller, &scene, &body);
        let handed = self.or_refuse(&caller, None, handed).await?;
        let (body, situation, session) = match handed {
            Some(handed) => (handed.bytes, handed.situation, handed.session),
            None => (body, scene.0, scene.1),
        };
        let route = world.tenants.get(caller.tenant()).and_then(|tenant| tenant.apis.get(&name)).cloned();
        let asked = ApiRequest {
            method: head.method.as_str(),
            path: rest,
            query: head.uri.query(),
            content_type: head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()),
            body: body.clone(),
        };
        let call =
            route.as_ref().map(|route| read_api_call(&route.operations, &asked, self.parts.bounds.body));
        let operation = call.as_ref().and_then(|call| call.as_ref().ok()).map(|call| &call.operation.name);
        let facts = AskFacts {
            bytes: body.len() as u64,
            dialect: "api".to_owned(),
            handles: session.handed().map(|handed| handed.facts.clone()),
            operation: operation.map(|name| name.to_string()),
            ..AskFacts::default()
        };
        let (id, resource) = (self.new_id(), EntityRef::new(Name::literal("Api"), name.clone()));
        let ask = Ask::<Calling>::new(id, Action::ApiCall, resource, facts, Digest::of(&body));
        // Policy first: what there is, and how it is called, is told only to those who may call it.
        let (permit, tenant) = self.decide(&world, &caller, ask, &situation, &HIDING).await?;
        let reached =
            route.as_deref().and_then(|route| Some((route, tenant.upstreams.get(&route.spec.upstream)?)));
        let (route, upstream) = self.or_refuse(&caller, Some(id), reached.ok_or_else(unknown)).await?;
        let call = self.or_refuse(&caller, Some(id), call.unwrap_or_else(|| Err(unknown()))).await?;
        let asset = asset(&world, &caller, &name);
        let carries = self.carried(&caller, asset.connection.as_ref()).await;
        let carries = self.or_refuse(&caller, Some(id), carries).await?;
        let scrub = self.scrub(tenant, caller.tenant(), permit.obligations());
        let scrub = self.or_refuse(&caller, Some(id), scrub).await?;
        let masked = masked(&scrub, &call, self.parts.bounds.body);
        let (sent, redacted) = self.or_refuse(&caller, Some(id), masked).await?;
        let outbound = outbound(&call, sent, &head.headers, carries);
        let target = Target::Upstream {
            method: call.operation.method.name().into(),
            upstream: route.spec.upstream.clone(),
            path: outbound.path.clone(),
            body: Digest::of(&outbound.body),
        };
        let beside = [EntityRef::new(Name::literal("Upstream"), route.spec.upstream.clone())];
        let same = Digest::of_parts(&[call.operation.name.as_bytes(), call.path.as_bytes(), &call.body]);
        let (caller_of, run) = (&caller, session.run());
        let step = Step {
            world: &world,
            caller: caller_of,
            situation: &situation,
            run,
            beside: &beside,
            same,
            ends: true,
        };
        let reserved = self.admit(&permit, &step).await?;
        let going = Going::new(&step, &permit.what().resource);
        self.counted(&session.tracks(&caller), &permit);
        // What comes from outside steers nothing, whatever its owner says of it.
        let gives = session.carries(&asset.label().untrusted());
        let hides = permit.obligations().contains(ObligationKind::Hide);
        let source = permit.what().resource.clone();
        let intent = if hides {
            self.intend(permit, target, None).await?
        } else {
            self.intend_labelled(permit, target, None, &session, &gives).await?
        };
        let receipt = intent.receipt().clone();
        self.parts.metrics.asked(Some(Action::ApiCall), VerdictKind::Permit, None);
        let stop = |reason: ReasonCode| Stop {
            problem: Problem::new(reason).of(id),
            receipt: Some(receipt.clone()),
        };
        let sent = tokio::select! {
            sent = self.parts.upstreams.send(intent, upstream, outbound) => sent,
            () = going.until_over(self) => return Err(stop(ReasonCode::StreamEnded)),
        };
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let reason = error.reason.clone();
                error.running.finish(Ended::new(End::Failed { reason: reason.clone() }));
                return Err(stop(reason));
            }
        };
        let Answer { status, headers, body, running } = answer;
        let connected = asset.connection.is_some();
        let bounds = self.parts.bounds;
        let limits = json::Limits { bytes_max: bounds.answer_bytes_max, ..bounds.body };
        let passing = async {
            let body = passed(&route.spec, connected, (status, &headers, body)).await?;
            scrubbed(&scrub, &body, media_type(&headers), limits)
        };
        let passed = tokio::select! {
            passed = passing => passed,
            () = going.until_over(self) => Err(ReasonCode::StreamEnded),
        };
        // What was locked or revoked meanwhile is not answered either.
        let passed = passed
            .and_then(|passed| if going.holds(self) { Ok(passed) } else { Err(ReasonCode::StreamEnded) });
        let shown = passed.and_then(|(body, found)| {
            if hides {
                let answer = (status, &body, media_type(&headers));
                let told = self.hide_answer((&caller, &session), source, answer, gives)?;
                return Ok((reply::json(200, told.clone()), told.len(), Label::bottom(), found));
            }
            let bytes = body.len();
            let mut reply = reply::json(status, body);
            match headers.get(CONTENT_TYPE).cloned() {
                Some(kind) => reply.headers_mut().insert(CONTENT_TYPE, kind),
                None => reply.headers_mut().remove(CONTENT_TYPE),
            };
            Ok((reply, bytes, gives, found))
        });
        match shown {
            Ok((mut reply, bytes, label, found)) => {
                let ended = Ended {
                    status: Some(status),
                    bytes: bytes as u64,
                    redacted: redacted + found,
                    ..Ended::new(End::Done)
                };
                running.finish(ended);
                reply::mark(reply.headers_mut(), id, Some(&receipt));
                reply::label(reply.headers_mut(), &label);
                reply::tell(reply.headers_mut(), &reserved.fields);
                Ok(reply)
            }
            Err(reason) => {
                let end = End::Failed { reason: reason.clone() };
                running.finish(Ended { status: Some(status), ..Ended::new(end) });
                Err(stop(reason))
            }
        }
    }

    /// Whose credential goes with a call: that of the caller's own account where the thing is used so, never one in its place.
    pub(crate) async fn carried(&self, caller: &Caller, provider: Option<&Name>) -> Result<Carries, Problem> {
        let Some(provider) = provider else { return Ok(Carries::Own) };
        let accounts = self.accounts().ok_or_else(|| Problem::new(ReasonCode::ConnectionNeeded))?;
        Ok(Carries::Connected(Box::new(accounts.release(caller, provider).await?)))
    }
}

const fn unknown() -> Problem {
    Problem::new(ReasonCode::ApiUnknown)
}

/// The API as it is declared; what is not declared counts as restricted.
fn asset(world: &World, caller: &Caller, name: &Name) -> AssetSpec {
    match world.state.document(caller.tenant(), "api", name).map(|(_, document, _)| &document.spec) {
        Some(Spec::Api(spec)) => spec.clone(),
        _ => AssetSpec::default(),
    }
}

/// The body of a call, masked, and how much of it. What has to be masked cannot be in a path: that would be another thing then.
fn masked(scrub: &Scrub, call: &ApiCall<'_>, limits: json::Limits) -> Result<(Bytes, u64), Problem> {
    if scrub.is_idle(Way::Out) {
        return Ok((call.body.clone(), 0));
    }
    for (name, value) in call.arguments.iter().filter(|(name, _)| *name != "body") {
        if scrub.value(value.clone(), Way::Out).1 > 0 {
            let detail = format!("`{name}` stands in the path or the query, where nothing can be redacted");
            return Err(Problem::with_detail(ReasonCode::PersonalData, detail));
        }
    }
    scrub.document(&call.body, Way::Out, limits)
}

/// An answer without what has to be taken out of it. What is neither JSON nor text is not released then.
fn scrubbed(
    scrub: &Scrub,
    body: &Bytes,
    kind: &str,
    limits: json::Limits,
) -> Result<(Bytes, u64), ReasonCode> {
    if scrub.is_idle(Way::Back) || body.is_empty() {
        return Ok((body.clone(), 0));
    }
    let kind = kind.to_ascii_lowercase();
    if kind == "application/json" || kind.ends_with("+json") {
        return scrub.document(body, Way::Back, limits).map_err(|problem| problem.reason);
    }
    match std::str::from_utf8(body) {
        Ok(text) if kind.starts_with("text/") => {
            let (text, found) = scrub.text(text, Way::Back);
            Ok((text.into(), found))
        }
        _ => Err(ReasonCode::ObligationFailed),
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

fn outbound(call: &ApiCall<'_>, body: Bytes, given: &HeaderMap, carries: Carries) -> Outbound {
    let mut headers = HeaderMap::new();
    for name in FORWARDED {
        if let Some(value) = given.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let method = Method::from_bytes(call.operation.method.name().as_bytes()).unwrap_or(Method::GET);
    Outbound { method, carries, ..Outbound::post(call.path.clone(), body, headers) }
}

/// The body of an answer that may be passed on: in time, of a media type that is declared, and not longer than is declared.
async fn passed(
    route: &ApiRouteSpec,
    connected: bool,
    (status, headers, mut body): (u16, &HeaderMap, AnswerBody),
) -> Result<Bytes, ReasonCode> {
    if status == 401 {
        // It was our credential, or that of the account, which did not please; the caller's own is good.
        return Err(if connected {
            ReasonCode::ConnectionNeeded
        } else {
            ReasonCode::UpstreamCredentialRefused
        });
    }
    let most = usize::try_from(route.answer_bytes_max).unwrap_or(usize::MAX);
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| error.reason())?.into_data() else { continue };
        if all.len().saturating_add(data.len()) > most {
            return Err(ReasonCode::AnswerRefused);
        }
        all.extend_from_slice(&data);
    }
    let kind = media_type(headers);
    let fits = all.is_empty() || route.answer_types.iter().any(|known| known.eq_ignore_ascii_case(kind));
    if fits { Ok(all.freeze()) } else { Err(ReasonCode::AnswerRefused) }
}
