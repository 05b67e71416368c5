//! The way to one server for one session: agreeing on a revision, asking, and what it gives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Digest, Name, json};
use bartizan_model::record::End;
use bartizan_model::tool_route::{PROMPT_PREFIX, ToolTransport};
use bartizan_model::{DecisionId, Problem, ReasonCode, Target, Tenant, ToolRouteSpec};
use bartizan_record::{Ended, Receipt};
use bartizan_upstream::SendError;
use bartizan_wire::Node;
use bartizan_wire::mcp::{
    Kind, META_CAPABILITIES, META_CLIENT, META_VERSION, Message, Mirrored, Revision, notification_words,
    request_words,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::output::OutputSchema;
use super::{Conversation, Errand, Outgoing, SessionKey, ToolStop};
use crate::path::Gate;
use crate::world::TenantWorld;

/// Pages of a list that are read at most, and things of one.
const PAGES_MAX: usize = 50;
const ITEMS_MAX: usize = 2_000;
/// How long what a server has said of itself is gone by.
const SEEN_US: u64 = 60 * 1_000_000;
/// Messages that may come in front of an answer that is awaited whole.
const BEFORE_MAX: usize = 1_000;

/// What stands for the method where nothing is asked: a session is listened to.
pub(super) const LISTEN: &str = "GET";

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DefinitionKind {
    /// Tools.
    Tool,
    /// Prompts.
    Prompt,
    /// Resources.
    Resource,
    /// Templates of resources.
    Template,
}

impl DefinitionKind {
    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Tool => "tools/list",
            Self::Prompt => "prompts/list",
            Self::Resource => "resources/list",
            Self::Template => "resources/templates/list",
        }
    }

    pub(super) const fn member(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource => "resources",
            Self::Template => "resourceTemplates",
        }
    }

    const fn capability(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource | Self::Template => "resources",
        }
    }

    /// What one of that name is pinned under.
    pub(super) fn pin(self, name: &str) -> String {
        match self {
            Self::Prompt => format!("{PROMPT_PREFIX}{name}"),
            _ => name.to_owned(),
        }
    }
}

/// Something that a server offers, as it defines it.
#[derive(Clone, Debug)]
pub struct Definition {
    /// What it is.
    pub kind: DefinitionKind,
    /// Its name; of a resource its address.
    pub name: String,
    /// SHA-256 of its canonical form (RFC 8785).
    pub digest: Digest,
    /// It, as JSON.
    pub raw: String,
    /// Where in it the name stands.
    pub(super) place: (usize, usize),
    /// Arguments that are repeated in headers.
    mirrored: Arc<Mirrored>,
}

impl Definition {
    /// What it is pinned under.
    #[must_use]
    pub fn pin(&self) -> String {
        self.kind.pin(&self.name)
    }
}

/// How something is defined, as far as calls need it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) digest: Digest,
    /// What its answers look like, where it says that.
    pub(super) output: Option<Arc<OutputSchema>>,
    /// Arguments that are repeated in headers.
    pub(super) mirrored: Arc<Mirrored>,
}

/// How things are defined, by their names.
type Digests = Arc<BTreeMap<String, Seen>>;

/// What was agreed on with a server, and seen of it since.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) revision: Revision,
    /// What it says that it offers; of a server without sessions, nothing is known.
    pub(super) offers: Option<Value>,
    seen: Mutex<BTreeMap<DefinitionKind, (u64, Digests)>>,
}

/// The way to one server for one session.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    pub(super) gate: &'a Gate,
    pub(super) tenant: &'a Tenant,
    pub(super) server: &'a Name,
    pub(super) route: &'a ToolRouteSpec,
    pub(super) session: Digest,
    /// What the server may ask back in the middle of a call, as JSON.
    pub(super) offers: String,
    pub(super) errand: &'a dyn Errand,
}

/// What headers say of a message, where its revision wants them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said<'a> {
    /// The name or address that it is about.
    pub(super) named: Option<&'a str>,
    /// Arguments that are repeated.
    pub(super) mirrored: &'a [(String, String)],
}

/// A message that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) conversation: Conversation,
    pub(super) receipt: Receipt,
    pub(super) decision: DecisionId,
}

impl<'a> Line<'a> {
    /// The way to `server`, if it is declared and in use.
    pub(super) fn to(
        gate: &'a Gate,
        tenant: &'a Tenant,
        part: &'a TenantWorld,
        server: &'a Name,
        session: Digest,
        errand: &'a dyn Errand,
    ) -> Option<Self> {
        let route = part.tool_routes.get(server).filter(|_| part.tool_servers.contains_key(server))?;
        // Who offers nothing can be asked for nothing.
        let offers = "{}".to_owned();
        Some(Self { gate, tenant, server, route, session, offers, errand })
    }

    fn key(&self) -> SessionKey {
        (self.tenant.clone(), self.server.clone(), self.session)
    }

    /// What was agreed on, agreeing first where nothing was yet.
    pub(super) async fn opened(&self) -> Result<Arc<Opened>, ToolStop> {
        let slot = self.gate.tools.slot(&self.key(), self.gate.parts.clock.monotonic_us());
        // Whoever comes at the same time waits for what is agreed.
        let mut place = slot.lock().await;
        if let Some(opened) = &*place {
            return Ok(opened.clone());
        }
        let opened = Arc::new(self.open().await?);
        *place = Some(opened.clone());
        Ok(opened)
    }

    pub(super) fn forget(&self) {
        self.gate.tools.forget(&self.key());
    }

    async fn open(&self) -> Result<Opened, ToolStop> {
        if self.route.transport == ToolTransport::StatelessHttp {
            return Ok(Opened { revision: Revision::July2026, offers: None, seen: Mutex::default() });
        }
        let params = [
            ("protocolVersion", json!(Revision::November2025.name()).to_string()),
            ("capabilities", self.offers.clone()),
            ("clientInfo", us()),
        ];
        let answer = self.ask(None, "initialize", &params).await?;
        let result = answer.result();
        let agreed = result.and_then(|result| result.member("protocolVersion"));
        let agreed = agreed.and_then(|agreed| Revision::named(&answer.text(agreed)?));
        let Some(revision) = agreed.filter(|agreed| !agreed.is_stateless()) else {
            return Err(ReasonCode::UpstreamInvalid.into());
        };
        let offers = result.and_then(|result| result.member("capabilities"));
        let offers = offers.and_then(|offers| serde_json::from_str(answer.raw(offers)).ok());
        self.tell(revision, "notifications/initialized", &[]).await?;
        Ok(Opened { revision, offers: Some(offers.unwrap_or_default()), seen: Mutex::default() })
    }

    /// Sends one message. What is sent is what the intent is recorded for.
    pub(super) async fn send(
        &self,
        revision: Option<Revision>,
        method: &str,
        said: Said<'_>,
        message: Bytes,
    ) -> Result<Sent, ToolStop> {
        let body = Digest::of(&message);
        let target = match &self.route.upstream {
            Some(upstream) => Target::post(upstream.clone(), self.route.path.clone(), body),
            None => Target::Direct { name: self.server.clone(), body },
        };
        self.send_to(target, revision, method, said, message).await
    }

    async fn send_to(
        &self,
        target: Target,
        revision: Option<Revision>,
        method: &str,
        Said { named, mirrored }: Said<'_>,
        message: Bytes,
    ) -> Result<Sent, ToolStop> {
        let carries = self.errand.carries().await?;
        let intent = self.errand.intend(target).await?;
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        let (server, session) = (self.server, self.session);
        let outgoing = Outgoing { server, session, revision, method, named, mirrored, message, carries };
        match self.gate.tools.servers.exchange(intent, outgoing).await {
            Ok(conversation) => Ok(Sent { conversation, receipt, decision }),
            Err(SendError { reason, running }) => {
                running.finish(Ended::new(End::Failed { reason: reason.clone() }));
                if reason == ReasonCode::ToolSessionLost {
                    self.forget();
                }
                Err(ToolStop { problem: Problem::new(reason).of(decision), receipt: Some(receipt) })
            }
        }
    }

    /// Listens to what the server says while nothing is asked of it. A server without sessions is told `wanted`, as JSON.
    pub(super) async fn listen(&self, revision: Revision, wanted: &str) -> Result<Conversation, ToolStop> {
        if revision.is_stateless() {
            let id = self.gate.new_id().to_string();
            let params = with_meta(Some(revision), &[("notifications", wanted.to_owned())], &[]);
            let message = request_words(&id, "subscriptions/listen", &params);
            let sent = self.send(Some(revision), "subscriptions/listen", Said::default(), message).await?;
            return Ok(sent.conversation);
        }
        let Some(upstream) =
            self.route.upstream.clone().filter(|_| self.route.transport == ToolTransport::Http)
        else {
            // The line to a child or an old server is open as it is; what comes on it between calls is not heard.
            return Err(ReasonCode::MethodUnknown.into());
        };
        let (method, path) = (std::borrow::Cow::Borrowed("GET"), self.route.path.clone());
        let target = Target::Upstream { method, upstream, path, body: Digest::of(b"") };
        let sent = self.send_to(target, Some(revision), LISTEN, Said::default(), Bytes::new()).await?;
        Ok(sent.conversation)
    }

    /// Answers a question that the server has asked: `message` is what it is told.
    pub(super) async fn respond(&self, revision: Revision, message: Bytes) -> Result<(), ToolStop> {
        let sent = self.send(Some(revision), "", Said::default(), message).await?;
        sent.conversation.running.finish(Ended { status: sent.conversation.status, ..Ended::default() });
        Ok(())
    }

    /// Tells something that is not answered.
    pub(super) async fn tell(
        &self,
        revision: Revision,
        method: &str,
        params: &[(&str, String)],
    ) -> Result<(), ToolStop> {
        let message = notification_words(method, params);
        let sent = self.send(Some(revision), method, Said::default(), message).await?;
        sent.conversation.running.finish(Ended { status: sent.conversation.status, ..Ended::default() });
        Ok(())
    }

    /// Asks something and waits for the whole answer.
    pub(super) async fn ask(
        &self,
        revision: Option<Revision>,
        method: &str,
        params: &[(&str, String)],
    ) -> Result<Message, ToolStop> {
        let id = self.gate.new_id().to_string();
        let params = with_meta(revision, params, &[]);
        let message = request_words(&id, method, &params);
        let Sent { conversation, receipt, decision } =
            self.send(revision, method, Said::default(), message).await?;
        let Conversation { messages, status, running } = conversation;
        match self.answer(messages, &id).await {
            Ok(answer) => {
                let bytes = answer.bytes().len() as u64;
                running.finish(Ended { status, bytes, ..Ended::default() });
                Ok(answer)
            }
            Err(reason) => {
                running.finish(Ended { status, ..Ended::new(End::Failed { reason: reason.clone() }) });
                Err(ToolStop { problem: Problem::new(reason).of(decision), receipt: Some(receipt) })
            }
        }
    }

    async fn answer(
        &self,
        messages: futures_util::stream::BoxStream<'static, Result<Bytes, ReasonCode>>,
        id: &str,
    ) -> Result<Message, ReasonCode> {
        let mut messages = messages.take(BEFORE_MAX);
        while let Some(message) = messages.next().await {
            let message = self.gate.tool_message(message?)?;
            match message.kind() {
                Kind::Response if message.answers(id) => return Ok(message),
                Kind::Response => return Err(ReasonCode::UpstreamInvalid),
                Kind::Request => return Err(ReasonCode::ToolServerAsks),
                Kind::Notification => {}
            }
        }
        Err(ReasonCode::UpstreamTruncated)
    }

    /// Everything of a kind that the server offers, page by page. Something that cannot be had is an error, never an empty list.
    pub(super) async fn list(&self, kind: DefinitionKind) -> Result<Vec<Definition>, ToolStop> {
        let opened = self.opened().await?;
        if opened.offers.as_ref().is_some_and(|offers| offers.get(kind.capability()).is_none()) {
            opened.note(kind, self.gate.parts.clock.monotonic_us(), &[]);
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let params: Vec<_> = cursor.iter().map(|cursor| ("cursor", cursor.clone())).collect();
            let page = self.ask(Some(opened.revision), kind.method(), &params).await?;
            // A server without sessions says only now that it has nothing of the kind.
            if opened.offers.is_none() && page.error().is_some_and(|(code, _)| code == -32601) {
                break;
            }
            let result = page.result().ok_or(ReasonCode::UpstreamInvalid)?;
            let items = result.member(kind.member());
            let Some(Node::Array(items, _)) = items else { return Err(ReasonCode::UpstreamInvalid.into()) };
            for item in items {
                all.extend(definition(&page, kind, item));
            }
            if all.len() > ITEMS_MAX {
                return Err(ReasonCode::AnswerTooLong.into());
            }
            cursor = result
                .member("nextCursor")
                .filter(|c| page.text(c).is_some())
                .map(|c| page.raw(c).to_owned());
            if cursor.is_none() {
                break;
            }
        }
        if cursor.is_some() {
            return Err(ReasonCode::AnswerTooLong.into());
        }
        // Two of one name could be taken for each other.
        let mut names = std::collections::BTreeSet::new();
        if !all.iter().all(|one: &Definition| names.insert(one.name.clone())) {
            return Err(ReasonCode::UpstreamInvalid.into());
        }
        opened.note(kind, self.gate.parts.clock.monotonic_us(), &all);
        Ok(all)
    }

    /// How something is defined, as the server has said within the last minute.
    pub(super) async fn definition_of(
        &self,
        kind: DefinitionKind,
        name: &str,
    ) -> Result<Option<Seen>, ToolStop> {
        let opened = self.opened().await?;
        let now = self.gate.parts.clock.monotonic_us();
        if let Some(seen) = opened.seen(kind, now) {
            return Ok(seen.get(name).cloned());
        }
        let all = self.list(kind).await?;
        Ok(all.iter().find(|one| one.name == name).map(Seen::of))
    }

    /// All that can be approved.
    pub(super) async fn definitions(&self) -> Result<Vec<Definition>, ToolStop> {
        let mut all = self.list(DefinitionKind::Tool).await?;
        all.extend(self.list(DefinitionKind::Prompt).await?);
        Ok(all)
    }
}

impl Seen {
    fn of(one: &Definition) -> Self {
        let output = (one.kind == DefinitionKind::Tool).then(|| OutputSchema::of(&one.raw)).flatten();
        Self { digest: one.digest, output: output.map(Arc::new), mirrored: one.mirrored.clone() }
    }
}

impl Opened {
    fn note(&self, kind: DefinitionKind, now_us: u64, all: &[Definition]) {
        let digests = all.iter().map(|one| (one.name.clone(), Seen::of(one))).collect();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, (now_us, Arc::new(digests)));
    }

    fn seen(&self, kind: DefinitionKind, now_us: u64) -> Option<Digests> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, digests) = seen.get(&kind)?;
        (now_us.saturating_sub(*at) < SEEN_US).then(|| digests.clone())
    }

    /// Forgets how things were defined: the server says that something has changed.
    pub(super) fn changed(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Gate {
    /// Reads a message of a server.
    pub(super) fn tool_message(&self, bytes: Bytes) -> Result<Message, ReasonCode> {
        let bounds = &self.parts.bounds;
        let limits = json::Limits { bytes_max: bounds.answer_bytes_max, ..bounds.body };
        Message::read(bytes, limits).map_err(|error| {
            tracing::warn!(%error, "a server of tools said something that is no message");
            ReasonCode::UpstreamInvalid
        })
    }
}

/// What we are, to servers.
fn us() -> String {
    json!({"name": "bartizan", "version": env!("CARGO_PKG_VERSION")}).to_string()
}

/// The parameters of a request with what its revision wants to know under `_meta`, and `more` of that.
pub(super) fn with_meta<'n>(
    revision: Option<Revision>,
    params: &[(&'n str, String)],
    more: &[(&str, String)],
) -> Vec<(&'n str, String)> {
    let mut meta: Vec<(&str, String)> = more.to_vec();
    if revision.is_some_and(Revision::is_stateless) {
        meta.push((META_VERSION, json!(Revision::July2026.name()).to_string()));
        meta.push((META_CLIENT, us()));
        if !meta.iter().any(|(name, _)| *name == META_CAPABILITIES) {
            meta.push((META_CAPABILITIES, "{}".to_owned()));
        }
    }
    let mut params = params.to_vec();
    if !meta.is_empty() {
        let members: Vec<String> =
            meta.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        params.push(("_meta", format!("{{{}}}", members.join(","))));
    }
    params
}

/// One thing of a page; nothing for what has no name.
fn definition(page: &Message, kind: DefinitionKind, item: &Node) -> Option<Definition> {
    let called = match kind {
        DefinitionKind::Tool | DefinitionKind::Prompt => "name",
        DefinitionKind::Resource => "uri",
        DefinitionKind::Template => "uriTemplate",
    };
    let place = item.member(called)?;
    let name = page.text(place)?.into_owned();
    let raw = page.raw(item).to_owned();
    let value: Value = serde_json::from_str(&raw).ok()?;
    let digest = Digest::of(&json::canonical(&value).ok()?);
    let marks = if kind == DefinitionKind::Tool { Mirrored::of(&value) } else { Ok(Mirrored::default()) };
    let mirrored = match marks {
        Ok(mirrored) => Arc::new(mirrored),
        // Such a tool is left out (revision 2026-07-28, custom headers from tool parameters).
        Err(error) => {
            tracing::warn!(tool = %name.escape_debug(), %error, "a server defines a tool that cannot be used");
            return None;
        }
    };
    let start = item.span().0;
    let (from, to) = place.span();
    Some(Definition { kind, name, digest, raw, place: (from - start, to - start), mirrored })
}
