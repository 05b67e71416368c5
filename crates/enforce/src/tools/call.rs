//! Calling a tool, getting a prompt, reading a resource, completing an argument: one path for all of them.

use std::sync::Arc;

use bartizan_base::json::{self, Limits};
use bartizan_base::{Digest, Name};
use bartizan_model::tool_route::{READ_RESOURCES, TOOL_SEPARATOR, is_tool_name};
use bartizan_model::{Action, AskFacts, EntityRef, Label, Problem, ReasonCode, ToolRouteSpec};
use bartizan_wire::Node;
use bartizan_wire::mcp::{META_CAPABILITIES, MirrorError, Mirrored, request_words};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::elicit;
use super::flight::Under;
use super::line::{DefinitionKind, Line, Said, Sent, with_meta};
use super::list::label_of;
use super::talk::{Talk, Terms};
use super::visit::{Endpoint, Visit, one};
use crate::path::Stop;
use crate::reply::Reply;
use crate::scrub::{Scrub, Way};

/// What a message wants done.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) server: Name,
    pub(super) kind: DefinitionKind,
    /// What it is called at the server.
    pub(super) name: String,
    pub(super) entity: EntityRef,
    pub(super) facts: AskFacts,
    /// What the server is told, each with the bytes that were decided on.
    params: Vec<(&'static str, String)>,
    /// What the header of revision 2026-07-28 names.
    header: Option<String>,
}

/// What is told a server that no content of a caller is in, and what it has to be sent back as it was.
const WORDS: [&str; 3] = ["name", "ref", "requestState"];

impl Wanted {
    /// What is the same where the same is wanted again, however it is written: ids and progress are none of it.
    fn same(&self, method: &str) -> Digest {
        let params = self.params.iter().map(|(name, raw)| (*name, serde_json::from_str::<Value>(raw).ok()));
        let params: Vec<_> = params.collect();
        Digest::of(&json::canonical(&(method, &self.name, params)).unwrap_or_default())
    }

    /// The same with what has to be masked taken out of what the server is told, and how much that is. An address cannot be masked:
    /// it would be another one then.
    fn scrubbed(&self, scrub: &Scrub, limits: Limits) -> Result<(Self, u64), Problem> {
        let (mut wanted, mut all) = (self.clone(), 0);
        if scrub.is_idle(Way::Out) {
            return Ok((wanted, all));
        }
        if scrub.text(&self.name, Way::Out).1 > 0 {
            let detail = "an address cannot be redacted";
            return Err(Problem::with_detail(ReasonCode::PersonalData, detail));
        }
        for (_, raw) in wanted.params.iter_mut().filter(|(name, _)| !WORDS.contains(name)) {
            let (masked, found) = scrub.document(&Bytes::from(std::mem::take(raw)), Way::Out, limits)?;
            *raw = String::from_utf8_lossy(&masked).into_owned();
            all += found;
        }
        Ok((wanted, all))
    }
}

impl Visit {
    /// Does what a message wants, if it may be done.
    pub(super) async fn call(self: &Arc<Self>) -> Result<Reply, Stop> {
        if self.message.method() == "tools/call"
            && let Some((server, name)) = self.named()
            && let Some(called) = self.call_own(&server, &name).await
        {
            return called;
        }
        let wanted = self.wanted();
        let wanted = self.gate.or_refuse(&self.caller, None, wanted).await?;
        let errand = self.errand(&wanted.server, Action::ToolCall, &wanted.entity, &wanted.facts);
        // Policy first: whoever may not call a tool does not learn whether it is approved.
        let decision = errand.decide().await?;
        let refuse = |reason| self.gate.refuse_early(&self.caller, Some(decision), Problem::new(reason));
        let asset = self.part().and_then(|part| part.tools.get(&wanted.entity.name.parse::<Name>().ok()?));
        let (Some(asset), Some(line)) = (asset, self.line(&wanted.server, &errand)) else {
            return Err(refuse(ReasonCode::ToolNotFound).await);
        };
        let label = label_of(asset);
        let pinned = matches!(wanted.kind, DefinitionKind::Tool | DefinitionKind::Prompt);
        let pin = line.route.pins.get(wanted.kind.pin(&wanted.name).as_str());
        if pinned && pin.is_none() {
            return Err(refuse(ReasonCode::ToolUnapproved).await);
        }
        if let Err(problem) = self.may_answer(line.route) {
            return Err(self.gate.refuse_early(&self.caller, Some(decision), problem).await);
        }
        let obligations = errand.obligations();
        let part = self.part().ok_or(ReasonCode::PolicyMissing)?;
        let scrub = self.gate.scrub(part, self.caller.tenant(), &obligations);
        let scrubbed =
            scrub.and_then(|scrub| Ok((wanted.scrubbed(&scrub, self.gate.parts.bounds.body)?, scrub)));
        let ((wanted, redacted), scrub) = self.gate.or_refuse(&self.caller, Some(decision), scrubbed).await?;
        let (reserved, going) = errand.admitted(wanted.same(self.message.method())).await?;
        let mut under = Some(Terms { obligations, scrub, redacted, reserved, going });
        match self.attempt(&wanted, line.clone(), &label, &mut under).await {
            // Nothing was done: it has forgotten us. Once more, from the beginning.
            Err(stop) if stop.problem.reason == ReasonCode::ToolSessionLost => {
                self.attempt(&wanted, line, &label, &mut under).await
            }
            reply => reply,
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        wanted: &Wanted,
        line: Line<'_>,
        label: &Label,
        terms: &mut Option<Terms>,
    ) -> Result<Reply, Stop> {
        let opened = line.opened().await?;
        let (mut output, mut mirrored) = (None, None);
        if matches!(wanted.kind, DefinitionKind::Tool | DefinitionKind::Prompt) {
            let seen = line.definition_of(wanted.kind, &wanted.name).await?;
            let pin = line.route.pins.get(wanted.kind.pin(&wanted.name).as_str());
            let problem = match seen {
                None => Some(ReasonCode::ToolNotFound),
                Some(seen) if Some(&seen.digest) != pin => Some(ReasonCode::ToolChanged),
                // The schema is part of what was approved.
                Some(seen) => {
                    output = seen.output;
                    mirrored = Some(seen.mirrored);
                    None
                }
            };
            if let Some(reason) = problem {
                return Err(self.gate.refuse_early(&self.caller, None, Problem::new(reason)).await);
            }
        }
        let mirrored = mirrored.map_or_else(|| Ok(Vec::new()), |mirrored| self.mirrored(&mirrored, wanted));
        let mirrored = self.gate.or_refuse(&self.caller, None, mirrored).await?;
        // Ids are ours: a server matches answers by them, and callers could choose the same.
        let id = self.gate.new_id().to_string();
        let mut meta = Vec::new();
        let progress = self.message.meta("progressToken").map(|token| self.message.raw(token).to_owned());
        if progress.is_some() {
            meta.push(("progressToken", json!(id).to_string()));
        }
        if opened.revision.is_stateless() {
            meta.push((META_CAPABILITIES, self.offered(line.route)));
        }
        let params = with_meta(Some(opened.revision), &wanted.params, &meta);
        let method = self.message.method();
        let message = request_words(&id, method, &params);
        let theirs = self.message.id().unwrap_or("null").to_owned();
        let end = Arc::default();
        let under = Under {
            server: wanted.server.clone(),
            id: id.clone(),
            entity: wanted.entity.clone(),
            facts: wanted.facts.clone(),
            end: Arc::clone(&end),
        };
        let Some(flight) = self.gate.tools.flights.begin(self.session, &theirs, under) else {
            return Err(self.gate.refuse_early(&self.caller, None, Problem::new(ReasonCode::Busy)).await);
        };
        let began_us = self.gate.parts.clock.monotonic_us();
        let going = terms.as_ref().map(|terms| terms.going.clone()).ok_or(ReasonCode::Internal)?;
        let said = Said { named: wanted.header.as_deref(), mirrored: &mirrored };
        let sent = tokio::select! {
            sent = line.send(Some(opened.revision), method, said, message) => sent?,
            () = going.until_over(&self.gate) => return Err(ReasonCode::StreamEnded.into()),
        };
        let Sent { conversation, receipt, decision } = sent;
        let accepts = line.route.accepts.clone();
        let names = (id, theirs, progress);
        let talk = Talk::new(self.clone(), wanted, conversation, (decision, receipt), names, label);
        let terms = terms.take().ok_or(ReasonCode::Internal)?;
        let most = line.route.answer_bytes_max;
        talk.under(opened, accepts, (flight, end), began_us).by(terms, output, most).reply().await
    }

    /// Arguments that a tool wants repeated in headers: as the caller's own headers must say them, and as the server is told them.
    fn mirrored(&self, marks: &Mirrored, wanted: &Wanted) -> Result<Vec<(String, String)>, Problem> {
        if marks.is_empty() {
            return Ok(Vec::new());
        }
        if self.revision.is_stateless() {
            let came = wanted.facts.arguments.clone().unwrap_or_default();
            let header = |name: &str| one(&self.from.headers, name).map_err(|_| MirrorError(name.to_owned()));
            let checked = marks.check(&came, header);
            let mismatch =
                |error: MirrorError| Problem::with_detail(ReasonCode::HeaderMismatch, error.to_string());
            checked.map_err(mismatch)?;
        }
        // What was masked in the body is masked in headers, too.
        let sent = wanted.params.iter().find(|(name, _)| *name == "arguments");
        let sent = sent.and_then(|(_, raw)| serde_json::from_str(raw).ok()).unwrap_or_default();
        let headers = marks.headers(&sent);
        headers.map_err(|error| Problem::with_detail(ReasonCode::ParamsInvalid, error.to_string()))
    }

    /// What a message wants. Members that nobody here knows are refused: they could do anything.
    fn wanted(&self) -> Result<Wanted, Problem> {
        let message = &self.message;
        let malformed = |detail: &str| Problem::with_detail(ReasonCode::ParamsInvalid, detail);
        let arguments = || message.arguments().map_err(|error| malformed(&error.to_string()));
        let raw = |name| message.param(name).map(|node| message.raw(node).to_owned());
        let mut known = vec!["_meta"];
        let (kind, server, name, facts, mut params) = match message.method() {
            "tools/call" | "prompts/get" => {
                // Tasks are not offered here, and then a call that asks for one is done as any other (2025-11-25, tasks).
                known.extend(["name", "arguments", "inputResponses", "requestState", "task"]);
                let tool = message.method() == "tools/call";
                let kind = if tool { DefinitionKind::Tool } else { DefinitionKind::Prompt };
                let asked = message.param_text("name").ok_or_else(|| malformed("`params.name` is a text"))?;
                let (server, name) = self.split(&asked)?;
                let mut params = vec![("name", json!(name).to_string())];
                params.extend(raw("arguments").map(|raw| ("arguments", raw)));
                (kind, server, name, arguments()?, params)
            }
            "resources/read" => {
                known.extend(["uri", "inputResponses", "requestState"]);
                let uri = message.param_text("uri").ok_or_else(|| malformed("`params.uri` is a text"))?;
                let facts = Map::from_iter([("uri".to_owned(), json!(uri))]);
                let params = vec![("uri", json!(uri).to_string())];
                (DefinitionKind::Resource, self.one()?, uri.into_owned(), Some(facts), params)
            }
            _ => {
                known.extend(["ref", "argument", "context"]);
                let (kind, server, name, reference) = self.reference()?;
                let mut params = vec![("ref", reference)];
                for more in ["argument", "context"] {
                    params.extend(raw(more).map(|raw| (more, raw)));
                }
                let value = |node: &Node| serde_json::from_str::<Value>(message.raw(node)).ok();
                let mut facts = Map::new();
                facts.extend(message.param("argument").and_then(value).map(|v| ("argument".to_owned(), v)));
                (kind, server, name, Some(facts), params)
            }
        };
        self.only(&known)?;
        params.extend(elicit::passed_on(message));
        let pin = match kind {
            DefinitionKind::Tool | DefinitionKind::Prompt => kind.pin(&name),
            DefinitionKind::Resource | DefinitionKind::Template => READ_RESOURCES.to_owned(),
        };
        let entity: Result<Name, _> = format!("{server}/{pin}").parse();
        let entity = entity.map_err(|_| Problem::new(ReasonCode::ToolNotFound))?;
        let entity = EntityRef::new(Name::literal("Tool"), entity);
        let header = (message.method() != "completion/complete").then(|| name.clone());
        Ok(Wanted { server, kind, name, entity, facts: self.facts(facts), params, header })
    }

    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.message.param_names().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.chars().take(40).collect();
                let detail = format!("`params.{shown}` is not known here");
                Err(Problem::with_detail(ReasonCode::ParamsInvalid, detail))
            }
        }
    }

    /// The server and the tool that a call names.
    pub(super) fn named(&self) -> Option<(Name, String)> {
        self.split(&self.message.param_text("name")?).ok()
    }

    /// Which server, and what it is called there.
    fn split(&self, asked: &str) -> Result<(Name, String), Problem> {
        let nothing = || Problem::new(ReasonCode::ToolNotFound);
        let (server, name) = match &self.endpoint {
            Endpoint::One(server) => (server.clone(), asked),
            Endpoint::All => {
                let (server, name) = asked.split_once(TOOL_SEPARATOR).ok_or_else(nothing)?;
                (server.parse().map_err(|_| nothing())?, name)
            }
        };
        if is_tool_name(name) { Ok((server, name.to_owned())) } else { Err(nothing()) }
    }

    fn one(&self) -> Result<Name, Problem> {
        self.endpoint.one().cloned().ok_or_else(|| Problem::new(ReasonCode::ToolNotFound))
    }

    /// What an argument is to be completed of: a prompt, or an address; with what the server is told of it.
    fn reference(&self) -> Result<(DefinitionKind, Name, String, String), Problem> {
        let wrong =
            || Problem::with_detail(ReasonCode::ParamsInvalid, "`params.ref` names a prompt or an address");
        let reference = self.message.param("ref").ok_or_else(wrong)?;
        let text = |name| reference.member(name).and_then(|node| self.message.text(node));
        match text("type").as_deref() {
            Some("ref/prompt") => {
                let (server, name) = self.split(&text("name").ok_or_else(wrong)?)?;
                let told = json!({"type": "ref/prompt", "name": name}).to_string();
                Ok((DefinitionKind::Prompt, server, name, told))
            }
            Some("ref/resource") => {
                let uri = text("uri").ok_or_else(wrong)?.into_owned();
                let told = json!({"type": "ref/resource", "uri": uri}).to_string();
                Ok((DefinitionKind::Resource, self.one()?, uri, told))
            }
            _ => Err(wrong()),
        }
    }

    /// Answers to what a server asked may come only where its route lets it ask.
    fn may_answer(&self, route: &ToolRouteSpec) -> Result<(), Problem> {
        if !elicit::passed_on(&self.message).is_empty() && route.accepts.is_empty() {
            return Err(Problem::new(ReasonCode::ToolServerAsks));
        }
        Ok(())
    }

    /// What the server may ask back: what its route accepts and the client can.
    fn offered(&self, route: &ToolRouteSpec) -> String {
        let client = self.message.meta(META_CAPABILITIES).filter(|_| self.revision.is_stateless());
        let mut offered = Map::new();
        for ask in &route.accepts {
            let Ok(Value::String(name)) = serde_json::to_value(ask) else { continue };
            let can = client.and_then(|client| client.member(&name));
            let can = can.and_then(|can| serde_json::from_str(self.message.raw(can)).ok());
            offered.extend(can.map(|can: Value| (name, can)));
        }
        Value::Object(offered).to_string()
    }

    /// Whoever asked takes a call back: the server is told, and nothing more of it is passed on.
    pub(super) async fn cancelled(self: &Arc<Self>) -> Result<(), Stop> {
        let id = self.message.param("requestId").map(|id| self.message.raw(id));
        let under = id.and_then(|id| self.gate.tools.flights.find(self.session, id));
        let Some(Under { server, id, entity, facts, end }) = under else { return Ok(()) };
        end.notify_one();
        let errand = self.errand(&server, Action::ToolCall, &entity, &facts);
        let Some(line) = self.line(&server, &errand) else { return Ok(()) };
        let opened = line.opened().await?;
        // Without sessions, hanging up says it already.
        if !opened.revision.is_stateless() {
            let params = [("requestId", json!(id).to_string())];
            line.tell(opened.revision, "notifications/cancelled", &params).await?;
        }
        Ok(())
    }
}
