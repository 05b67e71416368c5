//! A message that comes in: who sent it, whether it is one, and what it wants.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_base::{Digest, Name, json};
use bartizan_decide::{Refused, Verdict};
use bartizan_identify::Caller;
use bartizan_limits::Tracks;
use bartizan_model::action::ReadState;
use bartizan_model::record::End;
use bartizan_model::tool_route::{PROMPT_PREFIX, READ_RESOURCES};
use bartizan_model::{
    Action, Ask, AskFacts, DecisionId, EntityRef, Problem, ReasonCode, Situation, Target, Tenant,
};
use bartizan_record::{Ended, Receipt};
use bartizan_wire::mcp::{
    HeaderError, Heads, Kind, Message, MessageError, Revision, error_words, result_words,
};
use bytes::Bytes;
use http::header::{ALLOW, HeaderName, HeaderValue, ORIGIN};
use http::request::Parts as Head;
use http::{HeaderMap, Method, Request};
use http_body::Body;
use serde_json::{Value, json};

use super::Errand;
use super::clients::{Client, KINDS};
use super::elicit;
use super::line::{DefinitionKind, Line};
use crate::path::{Entering, Gate, Stop};
use crate::reply::{self, Reply};
use crate::session::Session;
use crate::world::{TenantWorld, World};

/// Where a message was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// The endpoint of all servers.
    All,
    /// That of one.
    One(Name),
}

impl Endpoint {
    fn at(path: &str) -> Option<Self> {
        match path.strip_prefix("/mcp")? {
            "" => Some(Self::All),
            rest => rest.strip_prefix('/')?.parse().ok().map(Self::One),
        }
    }

    /// The server that it is about; none of all.
    pub(super) const fn one(&self) -> Option<&Name> {
        match self {
            Self::All => None,
            Self::One(server) => Some(server),
        }
    }
}

/// What is known of a message when something goes wrong with it.
#[derive(Debug, Default)]
struct Asked {
    id: Option<String>,
    action: Option<Action>,
    /// Whether it is a message that is worked on: what goes wrong then is told by an answer of the protocol.
    working: bool,
    more: Option<Value>,
}

/// A message, with everything that it is decided by.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) gate: Arc<Gate>,
    pub(super) world: Arc<World>,
    pub(super) caller: Caller,
    pub(super) situation: Situation,
    pub(super) endpoint: Endpoint,
    pub(super) message: Message,
    pub(super) revision: Revision,
    pub(super) session: Digest,
    /// The session that what servers answer enters.
    pub(super) entered: Session,
    /// The client at the other end of a session.
    pub(super) client: Option<Arc<Client>>,
    /// What it is judged by again.
    pub(super) from: From,
    /// Whether a purpose was stated when we asked for it.
    pub(super) elicited: bool,
    /// What a surer login was asked for by in an earlier round.
    pub(super) asked_for: Option<Digest>,
}

/// Where a message came from.
#[derive(Clone, Debug, Default)]
pub(super) struct From {
    pub(super) peer: Option<IpAddr>,
    pub(super) headers: HeaderMap,
}

/// Something that may be listed, as it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) server: Name,
    pub(super) kind: DefinitionKind,
    pub(super) name: String,
    pub(super) entity: EntityRef,
}

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

impl Gate {
    /// A message to a server of tools, or to all of them (`/mcp/NAME`, `/mcp`).
    pub async fn answer_mcp<B>(self: &Arc<Self>, request: Request<B>, peer: Option<IpAddr>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let path = request.uri().path().to_owned();
        let mut asked = Asked::default();
        match self.try_mcp(request, peer, &mut asked).await {
            Ok(reply) => reply,
            Err(stop) => self.mcp_problem(&path, &asked, &stop),
        }
    }

    async fn try_mcp<B>(
        self: &Arc<Self>,
        request: Request<B>,
        peer: Option<IpAddr>,
        asked: &mut Asked,
    ) -> Result<Reply, Stop>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // Whoever is not known learns nothing, not even whether it was a message (Kong ai-mcp-oauth2 3.12).
        asked.action = Some(Action::ToolList);
        let Entering { world, caller, head, body } = self.enter(request).await?;
        let endpoint = Endpoint::at(head.uri.path()).ok_or_else(|| Problem::new(ReasonCode::NotFound));
        let endpoint = self.or_refuse(&caller, None, endpoint).await?;
        self.or_refuse(&caller, None, self.origin(&head.headers)).await?;
        let session = session_of(&caller);
        let named = named_session(session, &endpoint);
        let header = self.or_refuse(&caller, None, one(&head.headers, SESSION.as_str())).await?;
        // Ids of sessions are derived from the caller: one of somebody else's is none.
        let ours =
            header.is_none_or(|header| is_named(header, &named) && !self.tools.clients.is_ended(header));
        if head.method == Method::DELETE {
            if !ours || header.is_none() {
                return Err(self.refuse_early(&caller, None, Problem::new(ReasonCode::NotFound)).await);
            }
            let client = header.and_then(|name| self.tools.clients.forget(name));
            return Ok(self.end_sessions(&world, &caller, session, (&endpoint, client)));
        }
        let known = |name: &str| self.tools.clients.at(name, self.parts.clock.monotonic_us());
        if head.method == Method::GET {
            // A stream belongs to a session, and the revision without sessions has none.
            let (Some(name), true) = (header, ours) else {
                let reason =
                    if header.is_none() { ReasonCode::MethodNotAllowed } else { ReasonCode::NotFound };
                return Err(self.refuse_early(&caller, None, Problem::new(reason)).await);
            };
            let revision = self.or_refuse(&caller, None, self.listens(&head.headers, asked)).await?;
            let message = Message::read(Bytes::from_static(LISTENS.as_bytes()), self.parts.bounds.body);
            let message = self.or_refuse(&caller, None, message.map_err(|error| malformed(&error))).await?;
            let (situation, entered) = self.assessed(&caller, peer, &head.headers).await?;
            let (gate, client) = (self.clone(), Some(known(name)));
            let from = From { peer, headers: head.headers };
            let visit = Visit {
                gate,
                world,
                caller,
                situation,
                endpoint,
                message,
                revision,
                session,
                entered,
                client,
                from,
                elicited: false,
                asked_for: None,
            };
            return Arc::new(visit).come_back().await;
        }
        if head.method != Method::POST {
            return Err(self.refuse_early(&caller, None, Problem::new(ReasonCode::MethodNotAllowed)).await);
        }
        let body = self.take(&caller, &head, body).await?;
        let message = Message::read(body, self.parts.bounds.body).map_err(|error| malformed(&error));
        let message = self.or_refuse(&caller, None, message).await?;
        asked.id = message.id().map(str::to_owned);
        let revision = self.revision(&head, &message, asked);
        let revision = self.or_refuse(&caller, None, revision).await?;
        if !ours && !revision.is_stateless() && message.method() != "initialize" {
            return Err(self.refuse_early(&caller, None, Problem::new(ReasonCode::NotFound)).await);
        }
        let (mut situation, entered) = self.assessed(&caller, peer, &head.headers).await?;
        let stated = if revision.is_stateless() { elicit::stated(&message) } else { None };
        let elicited = stated.is_some();
        let asked_for = if revision.is_stateless() { elicit::asked_for_login(&message) } else { None };
        situation.purpose = stated.or(situation.purpose);
        // Each `initialize` begins a session of its own: programs that share a credential must not share what they are asked.
        let fresh = (message.method() == "initialize").then(|| self.fresh_session(&named));
        let name = fresh.as_deref().or(header.filter(|_| !revision.is_stateless()));
        let client = name.map(known);
        let (gate, from) = (self.clone(), From { peer, headers: head.headers.clone() });
        let visit = Visit {
            gate,
            world,
            caller,
            situation,
            endpoint,
            message,
            revision,
            session,
            entered,
            client,
            from,
            elicited,
            asked_for,
        };
        let visit = Arc::new(visit);
        match visit.message.kind() {
            Kind::Request => {
                asked.working = visit.message.method() != "initialize";
                if matches!(
                    visit.message.method(),
                    "tools/call" | "prompts/get" | "resources/read" | "completion/complete"
                ) {
                    asked.action = Some(Action::ToolCall);
                }
                // What is asked of a database is not asked of a tool.
                let own = visit.named().filter(|_| visit.message.method() == "tools/call");
                if let Some(action) = own.and_then(|(server, _)| visit.own_action(&server)) {
                    asked.action = Some(action);
                }
                let visit = visit.with_login().await;
                let mut reply = visit.request().await?;
                if let Some(value) = fresh.and_then(|fresh| HeaderValue::try_from(fresh).ok()) {
                    reply.headers_mut().insert(SESSION, value);
                }
                Ok(reply)
            }
            Kind::Notification => {
                if visit.message.method() == "notifications/cancelled" {
                    visit.cancelled().await?;
                }
                Ok(nothing(202))
            }
            Kind::Response => {
                if visit.answers().await? {
                    return Ok(nothing(202));
                }
                let detail = "nothing was asked of you that this could answer";
                let problem = Problem::with_detail(ReasonCode::BodyMalformed, detail);
                Err(self.refuse_early(&visit.caller, None, problem).await)
            }
        }
    }

    /// Pages of others may not speak for whoever looks at them (DNS rebinding, CVE-2026-42559).
    fn origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let own = |origin: &HeaderValue| origin.as_bytes() == self.parts.published.base.as_bytes();
        if headers.get_all(ORIGIN).iter().all(own) {
            Ok(())
        } else {
            Err(Problem::new(ReasonCode::RequestForged))
        }
    }

    fn revision(&self, head: &Head, message: &Message, asked: &mut Asked) -> Result<Revision, Problem> {
        let header = |name| one(&head.headers, name);
        let heads = Heads {
            version: header("mcp-protocol-version")?,
            method: header("mcp-method")?,
            name: header("mcp-name")?,
        };
        Revision::of(heads, message).map_err(|error| match error {
            HeaderError::Version(requested) => {
                let supported = Revision::ALL.map(Revision::name);
                asked.more = Some(json!({"supported": supported, "requested": requested}));
                Problem::new(ReasonCode::ProtocolUnsupported)
            }
            HeaderError::Meta(_) => Problem::with_detail(ReasonCode::ParamsInvalid, error.to_string()),
            HeaderError::Mismatch(header) => {
                Problem::with_detail(ReasonCode::HeaderMismatch, format!("`{header}`"))
            }
        })
    }

    /// In which revision somebody listens to a session.
    fn listens(&self, headers: &HeaderMap, asked: &mut Asked) -> Result<Revision, Problem> {
        let Some(name) = one(headers, "mcp-protocol-version")? else { return Ok(Revision::March2025) };
        match Revision::named(name.trim()) {
            Some(revision) if !revision.is_stateless() => Ok(revision),
            Some(_) => Err(Problem::new(ReasonCode::MethodNotAllowed)),
            None => {
                let requested: String = name.chars().take(40).collect();
                asked.more =
                    Some(json!({"supported": Revision::ALL.map(Revision::name), "requested": requested}));
                Err(Problem::new(ReasonCode::ProtocolUnsupported))
            }
        }
    }

    /// A name for another session of somebody's.
    fn fresh_session(&self, named: &str) -> String {
        let mut random = [0; 16];
        self.parts.random.fill(&mut random);
        let digest = Digest::of(&random).to_string();
        let nonce: String = digest.chars().filter(char::is_ascii_hexdigit).take(NONCE).collect();
        format!("{named}.{nonce}")
    }

    /// Forgets the sessions that we hold at servers for this caller.
    fn end_sessions(
        &self,
        world: &World,
        caller: &Caller,
        session: Digest,
        (endpoint, client): (&Endpoint, Option<Arc<Client>>),
    ) -> Reply {
        let routes = world.tenants.get(caller.tenant()).map(|part| part.tool_routes.clone());
        let all = routes.iter().flat_map(|routes| routes.iter());
        for (server, route) in all.filter(|(server, _)| endpoint.one().is_none_or(|one| one == *server)) {
            self.tools.forget(&(caller.tenant().clone(), server.clone(), session));
            if let Some(client) = &client {
                let (session, _) = offering(session, &client.offers(&route.accepts));
                self.tools.forget(&(caller.tenant().clone(), server.clone(), session));
            }
        }
        nothing(204)
    }

    fn mcp_problem(&self, path: &str, asked: &Asked, stop: &Stop) -> Reply {
        let problem = &stop.problem;
        let receipt = stop.receipt.as_ref().map(ToString::to_string);
        let more = asked.more.clone().unwrap_or_default();
        let body = error_words(asked.id.as_deref(), problem, receipt.as_deref(), &more);
        // Who is to prove more is told by a challenge (identity 1.3); everything else that a message came to is an answer to it.
        let status = match problem.reason.status() {
            401 => 401,
            403 if matches!(
                problem.reason,
                ReasonCode::ScopeInsufficient | ReasonCode::DetailsInsufficient
            ) =>
            {
                403
            }
            404 if problem.reason == ReasonCode::MethodUnknown => 404,
            400 if problem.reason == ReasonCode::HeaderMismatch => 400,
            status if !asked.working => status,
            _ => 200,
        };
        let mut answer = reply::json(status, body);
        let decision = problem.decision.unwrap_or_else(|| self.new_id());
        reply::mark(answer.headers_mut(), decision, stop.receipt.as_ref());
        if problem.reason == ReasonCode::MethodNotAllowed {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, GET, DELETE"));
        }
        self.challenge(answer.headers_mut(), problem, path, asked.action);
        answer
    }
}

impl Visit {
    async fn request(self: &Arc<Self>) -> Result<Reply, Stop> {
        match self.message.method() {
            "ping" if !self.revision.is_stateless() => Ok(self.result("{}", None)),
            "initialize" if !self.revision.is_stateless() => self.introduce().await,
            "server/discover" if self.revision.is_stateless() => self.introduce().await,
            "tools/list" => self.list(DefinitionKind::Tool).await,
            "prompts/list" => self.list(DefinitionKind::Prompt).await,
            "resources/list" => self.list(DefinitionKind::Resource).await,
            "resources/templates/list" => self.list(DefinitionKind::Template).await,
            "tools/call" | "prompts/get" | "resources/read" | "completion/complete" => {
                match self.call().await {
                    Err(stop) => self.elicit(stop).await,
                    reply => reply,
                }
            }
            "logging/setLevel" if !self.revision.is_stateless() => self.set_level().await,
            "resources/subscribe" if !self.revision.is_stateless() => self.subscribe(true).await,
            "resources/unsubscribe" if !self.revision.is_stateless() => self.subscribe(false).await,
            "subscriptions/listen" if self.revision.is_stateless() => self.listen_for().await,
            _ => {
                let problem = Problem::new(ReasonCode::MethodUnknown);
                Err(self.gate.refuse_early(&self.caller, None, problem).await)
            }
        }
    }

    /// What is offered here to this caller: decided like the lists that follow, so that nobody learns of a server by asking.
    async fn introduce(&self) -> Result<Reply, Stop> {
        let mut candidates = Vec::new();
        for kind in KINDS {
            candidates.extend(self.candidates(kind));
        }
        let (known, (decision, receipt)) = self.known_here(&candidates).await?;
        let offers = |kind| known.iter().any(|one| one.kind == kind);
        let mut capabilities = json!({"tools": {"listChanged": true}});
        let resources = json!({"subscribe": true, "listChanged": true});
        let prompts = json!({"listChanged": true});
        for (kind, name, how) in
            [(DefinitionKind::Prompt, "prompts", prompts), (DefinitionKind::Resource, "resources", resources)]
        {
            if offers(kind)
                && let Some(all) = capabilities.as_object_mut()
            {
                all.insert(name.to_owned(), how);
                all.insert("completions".to_owned(), json!({}));
            }
        }
        if let (false, Some(all)) = (self.revision.is_stateless(), capabilities.as_object_mut()) {
            all.insert("logging".to_owned(), json!({}));
        }
        if let Some(client) = self.client.as_ref().filter(|_| self.message.method() == "initialize") {
            let can = self.message.param("capabilities").map(|can| self.message.raw(can));
            client.can(can.and_then(|can| serde_json::from_str(can).ok()).unwrap_or_default());
            client.news(self.sees());
        }
        let us = json!({"name": "bartizan", "version": env!("CARGO_PKG_VERSION")});
        let result = if self.revision.is_stateless() {
            json!({
                "resultType": "complete", "supportedVersions": Revision::ALL.map(Revision::name),
                "capabilities": capabilities, "_meta": {"io.modelcontextprotocol/serverInfo": us},
                "ttlMs": 0, "cacheScope": "private",
            })
        } else {
            let wanted = self.message.param_text("protocolVersion");
            let wanted = wanted.and_then(|name| Revision::named(&name)).filter(|r| !r.is_stateless());
            let revision = wanted.unwrap_or(Revision::November2025);
            json!({"protocolVersion": revision.name(), "capabilities": capabilities, "serverInfo": us})
        };
        Ok(self.result(&result.to_string(), Some((decision, &receipt))))
    }

    pub(super) fn part(&self) -> Option<&TenantWorld> {
        self.world.tenants.get(self.caller.tenant())
    }

    /// What of a kind is approved and declared here, by the names that policies know.
    pub(super) fn candidates(&self, kind: DefinitionKind) -> Vec<Candidate> {
        let Some(part) = self.part() else { return Vec::new() };
        let mut out = Vec::new();
        for (server, route) in part.tool_routes.iter() {
            let here = self.endpoint.one().is_none_or(|one| one == server);
            if !here || !part.tool_servers.contains_key(server) {
                continue;
            }
            let mut add = |pin: &str, name: &str| {
                let entity: Option<Name> = format!("{server}/{pin}").parse().ok();
                if let Some(entity) = entity.filter(|entity| part.tools.contains_key(entity)) {
                    let entity = EntityRef::new(Name::literal("Tool"), entity);
                    out.push(Candidate { server: server.clone(), kind, name: name.to_owned(), entity });
                }
            };
            match kind {
                DefinitionKind::Tool => {
                    let tools = route.pins.keys().filter(|pin| !pin.starts_with(PROMPT_PREFIX));
                    tools.for_each(|pin| add(pin, pin));
                }
                DefinitionKind::Prompt => {
                    let prompts =
                        route.pins.keys().filter_map(|pin| Some((pin, pin.strip_prefix(PROMPT_PREFIX)?)));
                    prompts.for_each(|(pin, name)| add(pin, name));
                }
                // Addresses are those of one server; they could not be told apart at the endpoint of all.
                DefinitionKind::Resource | DefinitionKind::Template => {
                    if self.endpoint != Endpoint::All {
                        add(READ_RESOURCES, READ_RESOURCES);
                    }
                }
            }
        }
        out
    }

    pub(super) fn facts(&self, arguments: Option<serde_json::Map<String, Value>>) -> AskFacts {
        AskFacts {
            arguments,
            bytes: self.message.bytes().len() as u64,
            dialect: "mcp".to_owned(),
            handles: self.entered.handed().map(|handed| handed.facts.clone()),
            ..AskFacts::default()
        }
    }

    pub(super) fn ask<O: bartizan_model::Operation>(
        &self,
        action: Action,
        entity: &EntityRef,
        facts: AskFacts,
    ) -> Ask<O> {
        Ask::new(self.gate.new_id(), action, entity.clone(), facts, Digest::of(self.message.bytes()))
    }

    /// Which of them this caller may know of, recorded; databases and corpora that they may know of count too.
    pub(super) async fn known_here(
        &self,
        candidates: &[Candidate],
    ) -> Result<(Vec<Candidate>, (DecisionId, Receipt)), Stop> {
        let own = self.own();
        let known = if own.is_empty() { self.sieve(candidates).await? } else { self.sift(candidates).0 };
        let recorded =
            if known.is_empty() { self.own_recorded(own).await? } else { self.recorded(&known).await? };
        Ok((known, recorded))
    }

    /// Which of them this caller may know of, and why not of the last that they may not.
    pub(super) fn sift(&self, candidates: &[Candidate]) -> (Vec<Candidate>, Option<Refused>) {
        let (mut known, mut refused) = (Vec::new(), None);
        let policy = self.part().map(|part| part.policy_for(&self.caller));
        for one in candidates {
            let Some(policy) = policy else { continue };
            let ask = self.ask::<ReadState>(Action::ToolList, &one.entity, self.facts(None));
            match policy.decide(&self.caller, ask, &self.situation, self.gate.door(Action::ToolList)).verdict
            {
                Verdict::Permit(_) => known.push(one.clone()),
                Verdict::StepUp(r) | Verdict::Justify(r) | Verdict::Hold(r) | Verdict::Deny(r) => {
                    refused = Some(r);
                }
            }
        }
        (known, refused)
    }

    /// Which of them this caller may know of: each is decided by itself. Where nothing is left, that is a refusal, not an empty
    /// answer (litellm 39234).
    pub(super) async fn sieve(&self, candidates: &[Candidate]) -> Result<Vec<Candidate>, Stop> {
        let (known, refused) = self.sift(candidates);
        match refused {
            _ if !known.is_empty() => Ok(known),
            // At an endpoint of one server, whoever may know nothing of it is told what somebody is told who made it up.
            Some(refused) => {
                let discoverable = refused.discoverable || self.endpoint == Endpoint::All;
                Err(self.gate.refuse(Refused { discoverable, ..refused }).await)
            }
            None => {
                let reason = match self.endpoint {
                    Endpoint::All => ReasonCode::NoMatchingPermit,
                    Endpoint::One(_) => ReasonCode::ToolNotFound,
                };
                Err(self.gate.refuse_early(&self.caller, None, Problem::new(reason)).await)
            }
        }
    }

    /// Records what was learned of `known`, as the last of them.
    pub(super) async fn recorded(&self, known: &[Candidate]) -> Result<(DecisionId, Receipt), Stop> {
        let last = known.last().ok_or(ReasonCode::Internal)?;
        let ask = self.ask::<ReadState>(Action::ToolList, &last.entity, self.facts(None));
        let door = self.gate.door(Action::ToolList);
        let (permit, _) = self.gate.decide(&self.world, &self.caller, ask, &self.situation, door).await?;
        let decision = permit.id();
        self.gate.counted(&Tracks::of(&self.caller.who()), &permit);
        let intent = self.gate.intend(permit, Target::House, None).await?;
        let receipt = intent.receipt().clone();
        intent.begin().finish(Ended::new(End::Done));
        Ok((decision, receipt))
    }

    /// The way to `server`.
    pub(super) fn line<'v>(&'v self, server: &'v Name, errand: &'v dyn Errand) -> Option<Line<'v>> {
        let part = self.part()?;
        let accepts = part.tool_routes.get(server).map(|route| &route.accepts);
        let offers = match (&self.client, accepts) {
            (Some(client), Some(accepts)) => client.offers(accepts),
            _ => serde_json::Map::new(),
        };
        let (session, offers) = offering(self.session, &offers);
        let line = Line::to(&self.gate, self.caller.tenant(), part, server, session, errand)?;
        Some(Line { offers, ..line })
    }

    /// A whole answer.
    pub(super) fn result(&self, result: &str, recorded: Option<(DecisionId, &Receipt)>) -> Reply {
        let mut reply = reply::json(200, result_words(self.message.id().unwrap_or("null"), result));
        let decision = recorded.as_ref().map_or_else(|| self.gate.new_id(), |(decision, _)| *decision);
        reply::mark(reply.headers_mut(), decision, recorded.map(|(_, receipt)| receipt));
        reply
    }
}

impl Visit {
    /// What a call of something of `server` touches beside that: the server, and where it lies.
    pub(super) fn beside(&self, server: &Name) -> Vec<EntityRef> {
        let route = self.part().and_then(|part| part.tool_routes.get(server));
        let upstream = route.and_then(|route| route.upstream.clone());
        let upstream = upstream.map(|name| EntityRef::new(Name::literal("Upstream"), name));
        [EntityRef::new(Name::literal("ToolServer"), server.clone())].into_iter().chain(upstream).collect()
    }
}

/// The session of a caller at servers: of everybody who acts, the credential, and what that rests on. Nothing in it comes from a
/// message.
fn session_of(caller: &Caller) -> Digest {
    let who = caller.who();
    let parts: (&Tenant, _, _, _, _, _) = (
        caller.tenant(),
        (who.subject, who.actors, who.credential, who.key, who.issuer),
        caller.client(),
        caller.session(),
        caller.grant(),
        "bartizan tool session",
    );
    Digest::of(&json::canonical(&parts).unwrap_or_default())
}

/// The name of a session for its own caller. It opens nothing for anybody, it only must be the right one.
fn named_session(session: Digest, endpoint: &Endpoint) -> String {
    let place = endpoint.one().map(Name::as_str).unwrap_or_default();
    Digest::of_parts(&[b"bartizan client session\0", session.to_string().as_bytes(), place.as_bytes()])
        .to_string()
}

/// What stands for a `GET`, which has no body.
const LISTENS: &str = r#"{"jsonrpc":"2.0","method":"notifications/listens"}"#;
/// Characters that tell sessions of one caller apart.
const NONCE: usize = 32;

/// Whether `header` is a session of the caller whose sessions are called `named`.
fn is_named(header: &str, named: &str) -> bool {
    let nonce = header.strip_prefix(named).and_then(|rest| rest.strip_prefix('.'));
    nonce.is_some_and(|nonce| {
        nonce.len() == NONCE && nonce.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The session at a server to which `offers` are made: a server cannot ask one client for what another one can.
fn offering(session: Digest, offers: &serde_json::Map<String, Value>) -> (Digest, String) {
    if offers.is_empty() {
        return (session, "{}".to_owned());
    }
    let told = Value::Object(offers.clone()).to_string();
    (Digest::of_parts(&[b"offers\0", session.as_bytes(), told.as_bytes()]), told)
}

/// The one value of a header.
pub(super) fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let text = |value: &'h HeaderValue| value.to_str().ok();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if text(value).is_some() => Ok(text(value)),
        _ => Err(Problem::with_detail(ReasonCode::HeaderMismatch, format!("`{name}`"))),
    }
}

fn malformed(error: &MessageError) -> Problem {
    use json::JsonError as E;
    let reason = match error {
        MessageError::Json(E::DuplicateKey(_)) => ReasonCode::JsonDuplicateKey,
        MessageError::Json(E::TooDeep(_) | E::TooMany(_)) => ReasonCode::JsonTooComplex,
        MessageError::Json(E::TooLong(_)) => ReasonCode::BodyTooLarge,
        _ => ReasonCode::BodyMalformed,
    };
    Problem::with_detail(reason, error.to_string())
}

pub(super) fn nothing(status: u16) -> Reply {
    let mut reply = reply::json(status, Bytes::new());
    reply.headers_mut().remove(http::header::CONTENT_TYPE);
    reply
}
