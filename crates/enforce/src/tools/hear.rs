//! What a client is told beside the answers to its calls: that what it can see has changed, that a resource has.
//!
//! In the revisions with sessions that is the stream of a session (`GET`), which can be come back to (`Last-Event-ID`); in 2026-07-28
//! the answer to `subscriptions/listen`. Who listens is judged again all the time, and each thing by itself before it is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Digest, Name};
use bartizan_decide::Verdict;
use bartizan_model::action::{ReadState, ToolCall};
use bartizan_model::tool_route::{READ_RESOURCES, ToolTransport};
use bartizan_model::{Action, DecisionId, EntityRef, Problem, ReasonCode};
use bartizan_record::{Ended, Receipt, Running};
use bartizan_wire::Node;
use bartizan_wire::mcp::{Kind, META_SUBSCRIPTION, Message, notification_words};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, Stream, once, unfold};
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value, json};
use tokio::time::{Interval, MissedTickBehavior};

use super::Conversation;
use super::channel::Reader;
use super::clients::{Asked, Client, KINDS, list_changed, updated};
use super::errand::VisitErrand;
use super::line::DefinitionKind;
use super::talk::LEVELS;
use super::visit::{Candidate, Endpoint, Visit, one};
use crate::path::Stop;
use crate::reply::{self, BrokenOff, Messages, Reply, ReplyBody};
use crate::scrub::{Scrub, Way};

/// How often it is looked whether somebody may still listen, and what has changed.
const TICK: Duration = Duration::from_millis(400);
/// Ticks after which something is sent that says nothing, so that a connection that is gone shows.
const BEAT: u32 = 37;
/// Ticks until a server is listened to again that has ended its stream.
const AGAIN: u32 = 25;
/// The same where it gave none.
const AGAIN_REFUSED: u32 = 1_500;
/// Addresses that one subscription can be about.
const ADDRESSES_MAX: usize = 200;

/// An answer that comes piece by piece.
pub(super) fn streamed(events: impl Stream<Item = Result<Bytes, BrokenOff>> + Send + 'static) -> Reply {
    let mut reply = http::Response::new(ReplyBody::Messages(Messages::new(events)));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}

/// The stream that a reader reads, as long as whoever listens may.
pub(super) fn watched(visit: Arc<Visit>, client: Arc<Client>, reader: Reader) -> Reply {
    streamed(Listening::new(visit, client, reader).stream())
}

/// Somebody who listens.
struct Listening {
    visit: Arc<Visit>,
    client: Arc<Client>,
    reader: Reader,
    every: Interval,
    ticks: u32,
    /// Whether they listen to what changes, and not for the answer to a call.
    general: bool,
    /// What they want to be told of.
    kinds: BTreeSet<DefinitionKind>,
    /// The subscription that is named in whatever is told, as JSON.
    subscription: Option<String>,
    revision: u64,
    /// What the server says.
    ear: Option<BoxStream<'static, Result<Bytes, ReasonCode>>>,
    /// What it was asked to tell of.
    ear_for: Vec<String>,
    rest: u32,
}

impl Listening {
    fn new(visit: Arc<Visit>, client: Arc<Client>, reader: Reader) -> Self {
        let mut every = tokio::time::interval(TICK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let revision = visit.world.state.revision;
        let (kinds, ear_for) = (BTreeSet::new(), Vec::new());
        Self {
            visit,
            client,
            reader,
            every,
            ticks: 0,
            general: false,
            kinds,
            subscription: None,
            revision,
            ear: None,
            ear_for,
            rest: 0,
        }
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, BrokenOff>> + Send + 'static {
        unfold(self, |mut listening| async move {
            let event = listening.next().await?;
            Some((Ok(event), listening))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let ear = &mut self.ear;
            let heard = async {
                match ear {
                    Some(ear) => ear.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = self.every.tick() => {
                    self.ticks += 1;
                    self.look()?;
                    if self.ticks.is_multiple_of(BEAT) {
                        return Some(Bytes::from_static(b": \n\n"));
                    }
                }
                event = self.reader.next() => return event,
                said = heard => match said {
                    Some(Ok(said)) => self.heard(said),
                    Some(Err(_)) => (self.ear, self.rest) = (None, AGAIN_REFUSED),
                    None => (self.ear, self.rest) = (None, AGAIN),
                },
            }
        }
    }

    /// Whether they may still listen; notes what has changed for them.
    fn look(&mut self) -> Option<()> {
        let world = self.visit.gate.parts.keeper.current().ok()?;
        let caller = self.visit.gate.verify_again(&world, &self.visit.caller)?;
        if !self.general {
            return Some(());
        }
        let changed = world.state.revision != self.revision;
        if changed {
            self.revision = world.state.revision;
            self.visit = Arc::new(Visit { world, caller, ..(*self.visit).clone() });
        }
        if changed || self.client.has_news() {
            let seen = self.visit.sees();
            for kind in self.client.news(seen) {
                if self.kinds.contains(&kind) {
                    self.client.general.inform(self.named(list_changed(kind), kind));
                }
            }
            // Whoever may know of nothing here any more is told nothing any more.
            if changed && seen.iter().all(|seen| *seen == Digest::of(b"[]")) {
                return None;
            }
        }
        self.rest = self.rest.saturating_sub(1);
        let wanted = self.client.subscribed();
        if let Endpoint::One(server) = &self.visit.endpoint
            && !wanted.is_empty()
            && self.rest == 0
            && (self.ear.is_none() || (self.ear_for != wanted && self.visit.lists_subscriptions(server)))
        {
            self.ear = Some(ear(self.visit.clone(), server.clone(), wanted.clone()));
            self.ear_for = wanted;
        }
        Some(())
    }

    /// What a server says while nothing is asked of it: only that something has changed. What it logs is about no call, so nothing
    /// says which label it has; and it can ask for nothing.
    fn heard(&self, said: Bytes) {
        let Ok(message) = self.visit.gate.tool_message(said) else { return };
        match (message.kind(), message.method()) {
            (Kind::Notification, "notifications/resources/updated") => {
                if let Some(uri) = message.param_text("uri")
                    && self.client.wants(&uri)
                    && self.visit.may_read(&uri)
                {
                    self.client.general.inform(match &self.subscription {
                        None => updated(&uri),
                        Some(_) => {
                            let uri = ("uri", json!(uri).to_string());
                            notification_words("notifications/resources/updated", &[uri, self.meta()])
                        }
                    });
                }
            }
            (Kind::Notification, method) => {
                if let Some(kind) = changes(method) {
                    self.client.changed(kind);
                }
            }
            (Kind::Request, method) => {
                tracing::warn!(method, "a server of tools asks outside of any call, and is not heard");
            }
            (Kind::Response, _) => {}
        }
    }

    fn meta(&self) -> (&'static str, String) {
        let subscription = self.subscription.as_deref().unwrap_or("null");
        ("_meta", format!("{{{}:{subscription}}}", json!(META_SUBSCRIPTION)))
    }

    fn named(&self, told: Bytes, kind: DefinitionKind) -> Bytes {
        let Some(_) = &self.subscription else { return told };
        let method = match kind {
            DefinitionKind::Tool => "notifications/tools/list_changed",
            DefinitionKind::Prompt => "notifications/prompts/list_changed",
            DefinitionKind::Resource | DefinitionKind::Template => "notifications/resources/list_changed",
        };
        notification_words(method, &[self.meta()])
    }
}

/// What a server says to have changed.
pub(super) fn changes(method: &str) -> Option<DefinitionKind> {
    match method {
        "notifications/tools/list_changed" => Some(DefinitionKind::Tool),
        "notifications/prompts/list_changed" => Some(DefinitionKind::Prompt),
        "notifications/resources/list_changed" => Some(DefinitionKind::Resource),
        _ => None,
    }
}

/// What `server` says while nothing is asked of it, from the moment it is listened to.
fn ear(visit: Arc<Visit>, server: Name, uris: Vec<String>) -> BoxStream<'static, Result<Bytes, ReasonCode>> {
    struct Ear {
        messages: BoxStream<'static, Result<Bytes, ReasonCode>>,
        running: Option<Running>,
        status: Option<u16>,
    }
    once(async move {
        match visit.open_ear(&server, &uris).await {
            Err(stop) => {
                let reason = stop.problem.reason;
                tracing::debug!(%server, %reason, "a server of tools is not listened to");
                once(async move { Err(reason) }).boxed()
            }
            Ok(Conversation { messages, status, running }) => {
                let ear = Ear { messages, running: Some(running), status };
                unfold(ear, |mut ear| async move {
                    if let Some(said) = ear.messages.next().await {
                        return Some((said, ear));
                    }
                    let status = ear.status;
                    ear.running.take()?.finish(Ended { status, ..Ended::default() });
                    None
                })
                .boxed()
            }
        }
    })
    .flatten()
    .boxed()
}

impl Visit {
    /// What the caller can see, by kind: names, and how what they stand for is defined.
    pub(super) fn sees(&self) -> [Digest; 3] {
        KINDS.map(|kind| {
            let mut seen: Vec<(String, String)> = Vec::new();
            for one in self.candidates(kind).iter().filter(|one| self.may_know(one)) {
                let route = self.part().and_then(|part| part.tool_routes.get(&one.server));
                let pin = route.and_then(|route| route.pins.get(kind.pin(&one.name).as_str()));
                seen.push((one.entity.name.to_string(), pin.map(ToString::to_string).unwrap_or_default()));
            }
            Digest::of(&serde_json::to_vec(&seen).unwrap_or_default())
        })
    }

    fn may_know(&self, one: &Candidate) -> bool {
        let ask = self.ask::<ReadState>(Action::ToolList, &one.entity, self.facts(None));
        self.part().is_some_and(|part| {
            let policy = part.policy_for(&self.caller);
            let door = self.gate.door(Action::ToolList);
            matches!(policy.decide(&self.caller, ask, &self.situation, door).verdict, Verdict::Permit(_))
        })
    }

    /// Whether `uri` could be read now.
    pub(super) fn may_read(&self, uri: &str) -> bool {
        let Some(entity) = self.endpoint.one().and_then(resources_of) else { return false };
        let facts = self.facts(Some(Map::from_iter([("uri".to_owned(), json!(uri))])));
        let ask = self.ask::<ToolCall>(Action::ToolCall, &entity, facts);
        self.part().is_some_and(|part| {
            let policy = part.policy_for(&self.caller);
            let door = self.gate.door(Action::ToolCall);
            let verdict = policy.decide(&self.caller, ask, &self.situation, door).verdict;
            part.tools.contains_key(entity.name.as_str()) && matches!(verdict, Verdict::Permit(_))
        })
    }

    /// Whoever listens must be somebody who may know of something here.
    async fn listener(&self) -> Result<(DecisionId, Receipt), Stop> {
        let candidates: Vec<_> = KINDS.into_iter().flat_map(|kind| self.candidates(kind)).collect();
        let known = self.sieve(&candidates).await?;
        self.recorded(&known).await
    }

    /// The stream of a session, or the rest of one that broke off.
    pub(super) async fn come_back(self: Arc<Self>) -> Result<Reply, Stop> {
        let Some(client) = self.client.clone() else { return Err(ReasonCode::Internal.into()) };
        let after = one(&self.from.headers, "last-event-id");
        let after = self.gate.or_refuse(&self.caller, None, after).await?;
        let stream = match after.filter(|after| !after.is_empty()) {
            None => Some((client.general.clone(), None)),
            Some(event) => client.stream(event).map(|(channel, number)| (channel, Some(number))),
        };
        let found = stream.and_then(|(channel, after)| {
            let general = Arc::ptr_eq(&channel, &client.general);
            Some((general, channel.read(after, true)?))
        });
        let gone = || Problem::with_detail(ReasonCode::HeaderInvalid, "nothing is kept of that stream");
        let (general, reader) = self.gate.or_refuse(&self.caller, None, found.ok_or_else(gone)).await?;
        let (decision, receipt) = self.listener().await?;
        let mut listening = Listening::new(self, client, reader);
        if general {
            (listening.general, listening.kinds) = (true, KINDS.into());
        }
        let mut reply = streamed(listening.stream());
        reply::mark(reply.headers_mut(), decision, Some(&receipt));
        Ok(reply)
    }

    /// From which level on a client wants to be told what is logged. The server is told, too, if it knows levels.
    pub(super) async fn set_level(&self) -> Result<Reply, Stop> {
        let level = self.message.param_text("level");
        let rank = level.as_deref().and_then(|level| LEVELS.iter().position(|known| *known == level));
        let wrong =
            || Problem::with_detail(ReasonCode::ParamsInvalid, "`params.level` is a level of RFC 5424");
        let rank = rank.ok_or_else(wrong).and_then(|rank| self.only(&["_meta", "level"]).map(|()| rank));
        let rank = self.gate.or_refuse(&self.caller, None, rank).await?;
        let candidates: Vec<_> = KINDS.into_iter().flat_map(|kind| self.candidates(kind)).collect();
        let known = self.sieve(&candidates).await?;
        let (decision, receipt) = self.recorded(&known).await?;
        if let Some(client) = &self.client {
            client.set_level(rank);
        }
        if let (Some(server), Some(first), Some(level)) =
            (self.endpoint.one(), known.first(), LEVELS.get(rank))
            && let Err(stop) = self.tell_level(server, &first.entity, level).await
        {
            // What it logs below that is left out here all the same.
            tracing::debug!(%server, reason = %stop.problem.reason, "a server of tools was not told the level");
        }
        Ok(self.result("{}", Some((decision, &receipt))))
    }

    async fn tell_level(&self, server: &Name, entity: &EntityRef, level: &str) -> Result<(), Stop> {
        let facts = self.facts(None);
        let errand = self.errand(server, Action::ToolList, entity, &facts);
        let line = self.line(server, &errand).ok_or(ReasonCode::ToolNotFound)?;
        let opened = line.opened().await?;
        if opened.offers.as_ref().is_some_and(|offers| offers.get("logging").is_some()) {
            let params = [("level", json!(level).to_string())];
            line.ask(Some(opened.revision), "logging/setLevel", &params).await?;
        }
        Ok(())
    }

    /// Whether `server` is told with each stream what it is to tell of, instead of once for a session.
    fn lists_subscriptions(&self, server: &Name) -> bool {
        let route = self.part().and_then(|part| part.tool_routes.get(server));
        route.is_some_and(|route| route.transport == ToolTransport::StatelessHttp)
    }

    /// A client of a session wants to be told of a resource, or does not want that any longer.
    pub(super) async fn subscribe(&self, wanted: bool) -> Result<Reply, Stop> {
        let invalid = |detail: &str| Problem::with_detail(ReasonCode::ParamsInvalid, detail);
        let asked = self.only(&["_meta", "uri"]).and_then(|()| {
            let uri = self.message.param_text("uri").ok_or_else(|| invalid("`params.uri` is a text"))?;
            let server = self.endpoint.one().ok_or_else(|| Problem::new(ReasonCode::ToolNotFound))?;
            let client = self.client.as_ref();
            let client =
                client.ok_or_else(|| invalid("a subscription belongs to a session: `mcp-session-id`"))?;
            Ok((uri, server, client))
        });
        let (uri, server, client) = self.gate.or_refuse(&self.caller, None, asked).await?;
        if !wanted {
            // They are told no more, whatever the server does.
            client.unsubscribe(&uri);
        }
        let (decision, receipt) = self.subscribe_at(server, &uri, wanted).await?;
        if wanted && !client.subscribe(&uri) {
            let problem = Problem::with_detail(ReasonCode::Busy, "too many subscriptions in this session");
            return Err(self.gate.refuse_early(&self.caller, Some(decision), problem).await);
        }
        Ok(self.result("{}", Some((decision, &receipt))))
    }

    /// Tells a server what is to be told of. Decided like reading it.
    async fn subscribe_at(
        &self,
        server: &Name,
        uri: &str,
        wanted: bool,
    ) -> Result<(DecisionId, Receipt), Stop> {
        let not_found = || Problem::new(ReasonCode::ToolNotFound);
        let entity = resources_of(server).ok_or_else(not_found);
        let entity = self.gate.or_refuse(&self.caller, None, entity).await?;
        let facts = self.facts(Some(Map::from_iter([("uri".to_owned(), json!(uri))])));
        let errand = self.errand(server, Action::ToolCall, &entity, &facts);
        let decision = errand.decide().await?;
        let scrub = self.scrub_of(&errand, decision).await?;
        if scrub.text(uri, Way::Out).1 > 0 {
            let problem = Problem::with_detail(ReasonCode::PersonalData, "an address cannot be redacted");
            return Err(self.gate.refuse_early(&self.caller, Some(decision), problem).await);
        }
        let declared = self.part().is_some_and(|part| part.tools.contains_key(entity.name.as_str()));
        let Some(line) = self.line(server, &errand).filter(|_| declared) else {
            return Err(self.gate.refuse_early(&self.caller, Some(decision), not_found()).await);
        };
        let opened = line.opened().await?;
        // What has no sessions is told with the stream that it tells on.
        if opened.revision.is_stateless() {
            let last = KINDS.into_iter().flat_map(|kind| self.candidates(kind)).collect::<Vec<_>>();
            let known = self.sieve(&last).await?;
            return self.recorded(&known).await;
        }
        let method = if wanted { "resources/subscribe" } else { "resources/unsubscribe" };
        let params = [("uri", json!(uri).to_string())];
        let answer = line.ask(Some(opened.revision), method, &params).await?;
        if answer.result().is_none() {
            let detail = "the server does not tell of that";
            let problem = Problem::with_detail(ReasonCode::MethodUnknown, detail);
            return Err(self.gate.refuse_early(&self.caller, Some(decision), problem).await);
        }
        errand.last().ok_or_else(|| ReasonCode::Internal.into())
    }

    /// Listens to `server`, which is to tell of `uris`.
    async fn open_ear(&self, server: &Name, uris: &[String]) -> Result<Conversation, Stop> {
        let entity = resources_of(server).ok_or(ReasonCode::ToolNotFound)?;
        let facts = self.facts(None);
        let errand = self.errand(server, Action::ToolList, &entity, &facts);
        let line = self.line(server, &errand).ok_or(ReasonCode::ToolNotFound)?;
        let opened = line.opened().await?;
        let wanted = json!({
            "toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": uris,
        });
        Ok(line.listen(opened.revision, &wanted.to_string()).await?)
    }

    /// Listens to what is wanted (revision 2026-07-28): it is said first what of that is told.
    pub(super) async fn listen_for(self: &Arc<Self>) -> Result<Reply, Stop> {
        let invalid =
            || Problem::with_detail(ReasonCode::ParamsInvalid, "`params.notifications` is an object");
        let wanted = match self.message.param("notifications") {
            Some(wanted @ Node::Object(..)) => serde_json::from_str::<Value>(self.message.raw(wanted)).ok(),
            _ => None,
        };
        let wanted = self.only(&["_meta", "notifications"]).and_then(|()| wanted.ok_or_else(invalid));
        let wanted = self.gate.or_refuse(&self.caller, None, wanted).await?;
        let (decision, receipt) = self.listener().await?;
        let client = Client::new();
        client.news(self.sees());
        let (mut kinds, mut told) = (BTreeSet::new(), Map::new());
        for (kind, name) in
            KINDS.into_iter().zip(["toolsListChanged", "promptsListChanged", "resourcesListChanged"])
        {
            if wanted.get(name) == Some(&Value::Bool(true)) {
                kinds.insert(kind);
                told.insert(name.to_owned(), Value::Bool(true));
            }
        }
        let uris = wanted.get("resourceSubscriptions").and_then(Value::as_array);
        for uri in uris.into_iter().flatten().filter_map(Value::as_str).take(ADDRESSES_MAX) {
            let Some(server) = self.endpoint.one() else { break };
            // What may not be read, or is not told of, is left out of what is confirmed.
            if self.subscribe_at(server, uri, true).await.is_ok() {
                client.subscribe(uri);
            }
        }
        if uris.is_some() {
            told.insert("resourceSubscriptions".to_owned(), json!(client.subscribed()));
        }
        let Some(reader) = client.general.read(None, false) else { return Err(ReasonCode::Internal.into()) };
        let mut listening = Listening::new(self.clone(), client, reader);
        (listening.general, listening.kinds) = (true, kinds);
        listening.subscription = self.message.id().map(str::to_owned);
        let told = ("notifications", Value::Object(told).to_string());
        let method = "notifications/subscriptions/acknowledged";
        listening.client.general.inform(notification_words(method, &[listening.meta(), told]));
        let mut reply = streamed(listening.stream());
        reply::mark(reply.headers_mut(), decision, Some(&receipt));
        Ok(reply)
    }

    /// An answer of the client to what it was asked: by us, or by a server in the middle of a call. What goes to a server is decided
    /// as the call is that it belongs to. False where nobody has asked.
    pub(super) async fn answers(&self) -> Result<bool, Stop> {
        let id = self.message.id().and_then(|id| serde_json::from_str::<String>(id).ok());
        let asked = self.client.as_ref().zip(id).and_then(|(client, id)| client.answered(&id));
        match asked {
            None => Ok(false),
            Some(Asked::House(waits)) => Ok(waits.send(self.message.clone()).is_ok()),
            Some(Asked::Server(question)) => {
                let errand =
                    self.errand(&question.server, Action::ToolCall, &question.entity, &question.facts);
                let decision = errand.decide().await?;
                let scrub = self.scrub_of(&errand, decision).await?;
                let answer = self.gate.or_refuse(&self.caller, Some(decision), self.scrubbed(&scrub)).await?;
                let Some(line) = self.line(&question.server, &errand) else {
                    let problem = Problem::new(ReasonCode::ToolNotFound);
                    return Err(self.gate.refuse_early(&self.caller, Some(decision), problem).await);
                };
                let opened = line.opened().await?;
                line.respond(opened.revision, answer.under(&question.id)).await?;
                Ok(true)
            }
        }
    }

    /// What has to be taken out of what `errand` was permitted to tell.
    async fn scrub_of(&self, errand: &VisitErrand<'_>, decision: DecisionId) -> Result<Scrub, Stop> {
        let part = self.part().ok_or(ReasonCode::PolicyMissing)?;
        let scrub = self.gate.scrub(part, self.caller.tenant(), &errand.obligations());
        self.gate.or_refuse(&self.caller, Some(decision), scrub).await
    }

    /// The client's answer without what has to be taken out of it.
    fn scrubbed(&self, scrub: &Scrub) -> Result<Message, Problem> {
        let Some(content) = self.message.content().filter(|_| !scrub.is_idle(Way::Out)) else {
            return Ok(self.message.clone());
        };
        let (limits, raw) = (self.gate.parts.bounds.body, self.message.raw(content).to_owned());
        let (clean, _) = scrub.document(&Bytes::from(raw), Way::Out, limits)?;
        let answer = self.message.with(content, &String::from_utf8_lossy(&clean));
        Message::read(answer, limits).map_err(|_| Problem::new(ReasonCode::ObligationFailed))
    }
}

/// What reading a resource of `server` is asked on.
fn resources_of(server: &Name) -> Option<EntityRef> {
    let name: Name = format!("{server}/{READ_RESOURCES}").parse().ok()?;
    Some(EntityRef::new(Name::literal("Tool"), name))
}
