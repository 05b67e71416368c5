//! What a server says until it has answered, on its way to whoever asked.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::Name;
use bartizan_base::json::Limits;
use bartizan_decide::Verdict;
use bartizan_model::action::ToolCall;
use bartizan_model::record::End;
use bartizan_model::tool_route::ServerAsk;
use bartizan_model::{Action, AskFacts, DecisionId, EntityRef, Label, Obligations, Problem, ReasonCode};
use bartizan_record::{Ended, Receipt, Running};
use bartizan_wire::Node;
use bartizan_wire::mcp::{Kind, LABEL, META_LOG_LEVEL, Message, error_words, event_of, result_words};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use http::header::HeaderValue;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};

use super::Conversation;
use super::call::Wanted;
use super::channel::Channel;
use super::clients::{Asked, Client, Question, updated};
use super::flight::Flight;
use super::hear::{changes, streamed, watched};
use super::line::Opened;
use super::output::OutputSchema;
use super::visit::Visit;
use crate::admit::Going;
use crate::limits::Reservation;
use crate::path::Stop;
use crate::reply::{self, Reply};
use crate::scrub::{Scrub, Way};

/// How often an open call asks whether it may go on.
const WATCH_EVERY: Duration = Duration::from_millis(400);
/// Ticks for which an answer waits for whoever went away, and is kept once it is given.
const GRACE: u32 = 75;
/// Messages that one call may bring along.
const MESSAGES_MAX: u64 = 10_000;

/// The error of a server whose client cannot what it needs (revision 2026-07-28).
const LACKS_CAPABILITY: i64 = -32021;

/// Levels of what servers log, the least important first (RFC 5424).
pub(super) const LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// What is passed on next.
enum Next {
    /// A message in front of the answer.
    Before(Bytes),
    /// The answer.
    Answer(Bytes),
    /// Why there is none.
    Failed(Problem),
    /// Whoever asked has taken it back, so that there is nothing to say.
    TakenBack,
}

/// On what terms a call was let begin.
pub(super) struct Terms {
    pub(super) obligations: Obligations,
    /// What is taken out of what the server says.
    pub(super) scrub: Scrub,
    /// How much was taken out of what it was told.
    pub(super) redacted: u64,
    /// What limits have reserved for it, until it has ended.
    pub(super) reserved: Reservation,
    pub(super) going: Going,
}

/// A call under way.
pub(super) struct Talk {
    visit: Arc<Visit>,
    messages: BoxStream<'static, Result<Bytes, ReasonCode>>,
    running: Option<Running>,
    status: Option<u16>,
    decision: DecisionId,
    receipt: Receipt,
    /// Its id at the server and at whoever asked, and what they want to know its progress by.
    names: (String, String, Option<String>),
    label: String,
    server: Name,
    entity: EntityRef,
    facts: AskFacts,
    revision: u64,
    opened: Option<Arc<Opened>>,
    accepts: BTreeSet<ServerAsk>,
    flight: Option<(Flight, Arc<Notify>)>,
    /// The stream on which whoever asked reads, if they can come back to it, and for how many ticks nobody has.
    channel: Option<Arc<Channel>>,
    alone: u32,
    began_us: u64,
    every: Interval,
    seen: u64,
    bytes: u64,
    terms: Option<Terms>,
    output: Option<Arc<OutputSchema>>,
    /// The most that the server may say, and how much it has said.
    most: Option<u64>,
    said: u64,
    redacted: u64,
}

impl Talk {
    pub(super) fn new(
        visit: Arc<Visit>,
        wanted: &Wanted,
        conversation: Conversation,
        (decision, receipt): (DecisionId, Receipt),
        names: (String, String, Option<String>),
        label: &Label,
    ) -> Self {
        let Conversation { messages, status, running } = conversation;
        let mut every = tokio::time::interval(WATCH_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        every.reset();
        let revision = visit.world.state.revision;
        Self {
            visit,
            messages,
            running: Some(running),
            status,
            decision,
            receipt,
            names,
            label: json!(label).to_string(),
            server: wanted.server.clone(),
            entity: wanted.entity.clone(),
            facts: wanted.facts.clone(),
            revision,
            opened: None,
            accepts: BTreeSet::new(),
            flight: None,
            channel: None,
            alone: 0,
            began_us: 0,
            every,
            seen: 0,
            bytes: 0,
            terms: None,
            output: None,
            most: None,
            said: 0,
            redacted: 0,
        }
    }

    pub(super) fn under(
        self,
        opened: Arc<Opened>,
        accepts: BTreeSet<ServerAsk>,
        flight: (Flight, Arc<Notify>),
        began_us: u64,
    ) -> Self {
        Self { opened: Some(opened), accepts, flight: Some(flight), began_us, ..self }
    }

    pub(super) fn by(self, terms: Terms, output: Option<Arc<OutputSchema>>, most: Option<u64>) -> Self {
        Self { redacted: terms.redacted, terms: Some(terms), output, most, ..self }
    }

    /// The answer, or a stream that ends with it where the server says something before.
    pub(super) async fn reply(mut self) -> Result<Reply, Stop> {
        let (decision, receipt) = (self.decision, self.receipt.clone());
        let label = self.label.clone();
        let fields = self.terms.as_mut().map(|terms| std::mem::take(&mut terms.reserved.fields));
        let first = self.next().await;
        let mut reply = match first {
            Next::Answer(answer) => reply::json(self.status_of(&answer), answer),
            Next::Failed(problem) => return Err(Stop { problem, receipt: Some(receipt) }),
            Next::Before(before) if let Some((client, channel)) = self.kept() => {
                self.apart(before, client, channel)
            }
            first @ (Next::Before(_) | Next::TakenBack) => {
                let events = unfold(Some((self, Some(first))), |state| async {
                    let (mut talk, ready) = state?;
                    let next = match ready {
                        Some(next) => next,
                        None => talk.next().await,
                    };
                    match next {
                        Next::Before(message) => Some((Ok(event_of(&message)), Some((talk, None)))),
                        Next::Answer(message) => Some((Ok(event_of(&message)), None)),
                        Next::Failed(problem) => Some((Ok(event_of(&talk.error(&problem))), None)),
                        Next::TakenBack => None,
                    }
                });
                streamed(events)
            }
        };
        reply::mark(reply.headers_mut(), decision, Some(&receipt));
        reply::tell(reply.headers_mut(), &fields.unwrap_or_default());
        if let Ok(value) = HeaderValue::try_from(label) {
            reply.headers_mut().insert("x-bartizan-label", value);
        }
        Ok(reply)
    }

    async fn next(&mut self) -> Next {
        loop {
            let end = self.flight.as_ref().map(|(_, end)| end.clone());
            let said = tokio::select! {
                biased;
                () = taken_back(end) => {
                    self.end(End::Abandoned);
                    return Next::TakenBack;
                }
                _ = self.every.tick() => {
                    if self.must_end() {
                        return self.fail(ReasonCode::StreamEnded);
                    }
                    if self.is_left() {
                        self.end(End::Abandoned);
                        return Next::TakenBack;
                    }
                    continue;
                }
                said = self.messages.next() => said,
            };
            let message = match said {
                Some(Ok(bytes)) => self.heard(bytes),
                Some(Err(reason)) => Err(reason),
                None => Err(ReasonCode::UpstreamTruncated),
            };
            let message = match message {
                Ok(message) => message,
                Err(reason) => return self.fail(reason),
            };
            self.seen += 1;
            if self.seen > MESSAGES_MAX {
                return self.fail(ReasonCode::AnswerTooLong);
            }
            let next = match message.kind() {
                Kind::Notification => self.notified(&message).map(Next::Before),
                Kind::Request if message.method() == "ping" => {
                    pong(self.about(), &message).await;
                    None
                }
                // Beyond what was offered there is nothing that it could ask for.
                Kind::Request => match self.question(&message) {
                    Some(question) => Some(Next::Before(question)),
                    None => return self.fail(ReasonCode::ToolServerAsks),
                },
                Kind::Response => match self.answered(&message) {
                    Ok(answer) => Some(Next::Answer(answer)),
                    Err(reason) => return self.fail(reason),
                },
            };
            match next {
                Some(Next::Answer(answer)) => {
                    self.bytes += answer.len() as u64;
                    self.end(End::Done);
                    return Next::Answer(answer);
                }
                Some(Next::Before(before)) => {
                    self.bytes += before.len() as u64;
                    return Next::Before(before);
                }
                Some(other) => return other,
                None => {}
            }
        }
    }

    /// A message of the server as it may be passed on: not too long, as its tool says that it looks, and without what has to be taken
    /// out of it.
    fn heard(&mut self, bytes: Bytes) -> Result<Message, ReasonCode> {
        self.said = self.said.saturating_add(bytes.len() as u64);
        if self.most.is_some_and(|most| self.said > most) {
            return Err(ReasonCode::AnswerTooLong);
        }
        let message = self.visit.gate.tool_message(bytes)?;
        let is_answer = message.kind() == Kind::Response && self.visit.message.method() == "tools/call";
        if is_answer && self.output.as_ref().is_some_and(|output| !output.fits(&message)) {
            return Err(ReasonCode::ToolOutputInvalid);
        }
        let scrub = self.terms.as_ref().map(|terms| &terms.scrub).filter(|scrub| !scrub.is_idle(Way::Back));
        let Some((scrub, content)) = scrub.zip(message.content()) else { return Ok(message) };
        let most = self.visit.gate.parts.bounds.answer_bytes_max;
        let limits = Limits { bytes_max: most, ..self.visit.gate.parts.bounds.body };
        let raw = Bytes::copy_from_slice(message.raw(content).as_bytes());
        let (clean, found) = scrub.document(&raw, Way::Back, limits).map_err(|problem| problem.reason)?;
        if clean == raw {
            return Ok(message);
        }
        self.redacted += found;
        let message = message.with(content, &String::from_utf8_lossy(&clean));
        self.visit.gate.tool_message(message)
    }

    /// What of a notification is passed on: how far this call is, and what the server logs about it.
    fn notified(&self, message: &Message) -> Option<Bytes> {
        match message.method() {
            "notifications/progress" => {
                let (ours, _, theirs) = &self.names;
                let theirs = theirs.as_ref()?;
                let token = message.param_text("progressToken")?;
                (token == ours.as_str()).then(|| message.with_param("progressToken", theirs))
            }
            "notifications/message" => self.wants_log(message).then(|| message.bytes().clone()),
            "notifications/resources/updated" => {
                let (client, uri) = (self.visit.client.as_ref()?, message.param_text("uri")?);
                if client.wants(&uri) && self.visit.may_read(&uri) {
                    client.general.inform(updated(&uri));
                }
                None
            }
            method => {
                let kind = changes(method)?;
                if let Some(opened) = &self.opened {
                    opened.changed();
                }
                if let Some(client) = &self.visit.client {
                    client.changed(kind);
                }
                None
            }
        }
    }

    /// Whether whoever asked wants to know what is logged at that level. In the revisions with sessions a server knows it.
    fn wants_log(&self, message: &Message) -> bool {
        let visit = &self.visit;
        let rank = |level: &str| LEVELS.iter().position(|known| *known == level);
        let wanted = match visit.revision.is_stateless() {
            // In the revisions with sessions everything is told until a level is set.
            false => visit.client.as_ref().and_then(|client| client.level()).or(Some(0)),
            true => visit.message.meta(META_LOG_LEVEL).and_then(|level| rank(&visit.message.text(level)?)),
        };
        let level = message.param_text("level").and_then(|level| rank(&level));
        wanted.is_some_and(|wanted| level >= Some(wanted))
    }

    fn answered(&self, message: &Message) -> Result<Bytes, ReasonCode> {
        let (ours, theirs, _) = &self.names;
        if !message.answers(ours) {
            // An answer to somebody else, or to nothing.
            return Err(ReasonCode::UpstreamInvalid);
        }
        if let Some(result) = message.result() {
            let kind = result.member("resultType");
            match kind.and_then(|kind| message.text(kind)).as_deref() {
                None | Some("complete") => {}
                Some("input_required") if self.visit.revision.is_stateless() => {
                    self.asks(message, result)?;
                }
                Some("input_required") => return Err(ReasonCode::ToolServerAsks),
                Some(_) => return Err(ReasonCode::UpstreamInvalid),
            }
        }
        let asks_back = message.result().and_then(|result| result.member("resultType"));
        let asks_back = asks_back.and_then(|kind| message.text(kind)).as_deref() == Some("input_required");
        let had = self.visit.elicited || self.visit.caller.is_lifted();
        if asks_back && had && self.visit.revision.is_stateless() {
            // What somebody has stated or proven goes along, so that it is not asked for again in the next round.
            let state = message.result().and_then(|result| result.member("requestState"));
            let state = state.and_then(|state| message.text(state)).map(Cow::into_owned);
            let carried = self.visit.carried(self.visit.kept_login(), state);
            let bytes = message.with_result("requestState", &carried);
            let message = self.visit.gate.tool_message(bytes)?;
            return Ok(message.answer_to(theirs, LABEL, &self.label, &[("requestState", &carried)]));
        }
        let more: &[(&str, &str)] = match (self.visit.revision.is_stateless(), self.visit.message.method()) {
            (false, _) => &[],
            (true, "resources/read") => {
                &[("resultType", "\"complete\""), ("ttlMs", "0"), ("cacheScope", "\"private\"")]
            }
            (true, _) => &[("resultType", "\"complete\"")],
        };
        Ok(message.answer_to(theirs, LABEL, &self.label, more))
    }

    /// What a server asks back must be what its route accepts, each single ask of it.
    fn asks(&self, message: &Message, result: &Node) -> Result<(), ReasonCode> {
        let Some(Node::Object(asks, _)) = result.member("inputRequests") else { return Ok(()) };
        let accepted = asks.iter().all(|(_, ask)| {
            let method = ask.member("method").and_then(|method| message.text(method));
            method.and_then(|method| ServerAsk::of(&method)).is_some_and(|ask| self.accepts.contains(&ask))
        });
        if accepted { Ok(()) } else { Err(ReasonCode::ToolServerAsks) }
    }

    /// Whether it must end now: the lease ran out, the credential died, policy says no by now, or it is not approved any more.
    fn must_end(&mut self) -> bool {
        let visit = &self.visit;
        let Ok(world) = visit.gate.parts.keeper.current() else { return true };
        let Some(caller) = visit.gate.verify_again(&world, &visit.caller) else { return true };
        if world.state.revision == self.revision {
            return false;
        }
        if self.terms.as_ref().is_some_and(|terms| terms.going.is_locked(&visit.gate, &world, &caller)) {
            return true;
        }
        let applied = self.terms.as_ref().map(|terms| &terms.obligations);
        let ask = visit.ask::<ToolCall>(Action::ToolCall, &self.entity, self.facts.clone());
        let permitted = world.tenants.get(caller.tenant()).is_some_and(|tenant| {
            let policy = tenant.policy_for(&caller);
            let door = visit.gate.door(Action::ToolCall);
            let known = self.entity.name.parse::<Name>().is_ok_and(|name| tenant.tools.contains_key(&name));
            let verdict = policy.decide(&caller, ask, &visit.situation, door).verdict;
            // Whoever would have to mask more by now has passed on too much already.
            known && matches!(verdict, Verdict::Permit(permit) if applied == Some(permit.obligations()))
        });
        if permitted {
            self.revision = world.state.revision;
        }
        !permitted
    }

    /// What a message of ours in the middle of the call is decided by.
    fn about(&self) -> About {
        (
            self.visit.clone(),
            self.opened.clone(),
            self.server.clone(),
            self.entity.clone(),
            self.facts.clone(),
        )
    }

    /// Revision 2026-07-28 tells by the status, too, that a client lacks what is needed.
    fn status_of(&self, answer: &Bytes) -> u16 {
        let stateless = self.visit.revision.is_stateless();
        let answer = stateless.then(|| self.visit.gate.tool_message(answer.clone()).ok()).flatten();
        let lacks =
            answer.and_then(|answer| answer.error()).is_some_and(|(code, _)| code == LACKS_CAPABILITY);
        if lacks { 400 } else { 200 }
    }

    /// A question of the server, under an id of ours: where it may ask that, and whoever asked can be asked.
    fn question(&self, message: &Message) -> Option<Bytes> {
        let visit = &self.visit;
        let client = visit.client.as_ref().filter(|_| !visit.revision.is_stateless())?;
        let asks = ServerAsk::of(message.method()).filter(|ask| self.accepts.contains(ask))?;
        if client.offers(&[asks].into()).is_empty() {
            return None;
        }
        let question = Question {
            server: self.server.clone(),
            id: message.id()?.to_owned(),
            entity: self.entity.clone(),
            facts: self.facts.clone(),
        };
        let id = visit.gate.new_id().to_string();
        client.ask(&id, Asked::Server(Box::new(question))).then(|| message.under(&json!(id).to_string()))
    }

    /// The stream on which the answer is kept for whoever comes back, where they have a session to come back to.
    fn kept(&self) -> Option<(Arc<Client>, Arc<Channel>)> {
        let client = self.visit.client.clone().filter(|_| !self.visit.revision.is_stateless())?;
        let channel = client.begin(self.names.0.clone())?;
        Some((client, channel))
    }

    /// Goes on apart from the connection: who loses it comes back for the rest (`Last-Event-ID`).
    fn apart(mut self, first: Bytes, client: Arc<Client>, channel: Arc<Channel>) -> Reply {
        let Some(reader) = channel.read(None, true) else {
            return reply::json(500, Bytes::new());
        };
        self.channel = Some(channel.clone());
        let (visit, reading) = (self.visit.clone(), client.clone());
        let tasks = self.visit.gate.parts.tasks.clone();
        tasks.spawn("tool-call", async move { self.run(first, &client, &channel).await });
        watched(visit, reading, reader)
    }

    async fn run(mut self, first: Bytes, client: &Client, channel: &Arc<Channel>) {
        let mut next = Next::Before(first);
        loop {
            let (message, last) = match next {
                Next::Before(message) => (message, false),
                Next::Answer(message) => (message, true),
                Next::Failed(problem) if problem.reason == ReasonCode::StreamEnded => {
                    channel.cut(self.error(&problem));
                    break;
                }
                Next::Failed(problem) => (self.error(&problem), true),
                Next::TakenBack => break,
            };
            if !self.room(channel).await {
                break;
            }
            channel.push(message);
            if last {
                break;
            }
            next = self.next().await;
        }
        channel.close();
        self.end(End::Abandoned);
        let end = self.visit.gate.parts.tasks.shutdown().clone();
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY * GRACE) => {}
            () = end.requested() => {}
        }
        client.end(channel);
    }

    /// Waits until more may be said. False where it must not go on.
    async fn room(&mut self, channel: &Channel) -> bool {
        while !channel.has_room() {
            tokio::select! {
                () = channel.taken() => {}
                _ = self.every.tick() => {
                    if self.must_end() {
                        let problem = Problem::new(ReasonCode::StreamEnded).of(self.decision);
                        channel.cut(self.error(&problem));
                        return false;
                    }
                    if self.is_left() {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Whether nobody has come back for too long; to be asked once in a tick.
    fn is_left(&mut self) -> bool {
        let Some(channel) = &self.channel else { return false };
        self.alone = if channel.is_read() { 0 } else { self.alone + 1 };
        let ends = self.visit.gate.parts.tasks.shutdown().is_requested();
        self.alone > GRACE || (ends && self.alone > 0)
    }

    fn fail(&mut self, reason: ReasonCode) -> Next {
        self.end(End::Failed { reason: reason.clone() });
        Next::Failed(Problem::new(reason).of(self.decision))
    }

    fn error(&self, problem: &Problem) -> Bytes {
        error_words(Some(&self.names.1), problem, Some(&self.receipt.to_string()), &Value::Null)
    }

    fn end(&mut self, end: End) {
        let Some(running) = self.running.take() else { return };
        let failure = match &end {
            End::Failed { reason } => Some(reason.clone()),
            End::Done | End::Abandoned | End::Unknown => None,
        };
        let gate = &self.visit.gate;
        gate.parts.metrics.ended(gate.since(self.began_us), failure.as_ref(), self.redacted, (None, None));
        running.finish(Ended {
            status: self.status,
            bytes: self.bytes,
            redacted: self.redacted,
            ..Ended::new(end)
        });
        self.flight = None;
        // Its place is free now.
        self.terms = None;
    }
}

type About = (Arc<Visit>, Option<Arc<Opened>>, Name, EntityRef, AskFacts);

/// Answers a server that wants to know whether we are there.
async fn pong((visit, opened, server, entity, facts): About, message: &Message) {
    let (Some(opened), Some(id)) = (opened, message.id()) else { return };
    let errand = visit.errand(&server, Action::ToolCall, &entity, &facts);
    let Some(line) = visit.line(&server, &errand) else { return };
    if let Err(stop) = line.respond(opened.revision, result_words(id, "{}")).await {
        tracing::debug!(reason = %stop.problem.reason, "a ping of a server of tools was not answered");
    }
}

async fn taken_back(end: Option<Arc<Notify>>) {
    match end {
        Some(end) => end.notified().await,
        None => std::future::pending().await,
    }
}
