//! Keeping a result instead of telling it, and handing it on.

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_identify::Caller;
use bartizan_model::{EntityRef, HandleFacts, Label, Problem, ReasonCode, Situation};
use bartizan_wire::{Node, Span, splice};
use bytes::Bytes;
use serde_json::{Value, json};

use super::store::{Content, LIFE_US, Owner, is_handle};
use crate::path::Gate;
use crate::session::Session;
use crate::world::World;

/// Handles that one ask can hand on.
const HANDED_MAX: usize = 16;

/// What an ask hands on without having read it.
#[derive(Clone, Debug)]
pub(crate) struct Handed {
    /// The join of the labels.
    pub(crate) label: Label,
    /// What policy is told of it.
    pub(crate) facts: HandleFacts,
}

/// What an ask is, once what it hands on stands in the place of handles.
#[derive(Debug)]
pub(crate) struct HandedOn {
    pub(crate) bytes: Bytes,
    /// Judged as if the session had read what is handed on.
    pub(crate) situation: Situation,
    pub(crate) session: Session,
}

impl Handed {
    /// `contents`, handed on in `session`.
    pub(crate) fn new(contents: &[Content], session: &Session) -> Self {
        let label = contents.iter().fold(Label::bottom(), |joined, one| joined.join(&one.label));
        let source = |one: &Content| {
            let kind = one.source.kind.to_ascii_lowercase();
            format!("{kind}/{}", one.source.name)
        };
        let facts = HandleFacts {
            bytes: contents.iter().map(|one| one.bytes() as u64).sum(),
            categories: label.categories.clone(),
            confidentiality: label.confidentiality,
            count: contents.len() as u64,
            integrity: label.integrity,
            sources: contents.iter().map(source).collect::<BTreeSet<_>>(),
            steered_by: session.label().integrity,
        };
        Self { label, facts }
    }
}

impl Gate {
    /// Keeps `content` for the session that it was asked for in, and gives what is told in its place.
    ///
    /// # Errors
    /// Where it is longer than what one session may have kept.
    pub(crate) fn hide(
        &self,
        caller: &Caller,
        session: &Session,
        content: Content,
    ) -> Result<Value, ReasonCode> {
        let told = json!({"bytes": content.bytes(), "type": content.media, "label": content.label});
        let owner = Owner {
            tenant: caller.tenant().clone(),
            session: session.id().to_owned(),
            caller: caller.clone(),
        };
        let now_us = self.parts.clock.monotonic_us();
        let name = self.handles.keep(owner, content, now_us, &*self.parts.random);
        let name = name.ok_or(ReasonCode::AnswerTooLong)?;
        let mut told = told;
        if let Some(members) = told.as_object_mut() {
            members.insert("handle".to_owned(), name.into());
            members.insert("expires_s".to_owned(), (LIFE_US / 1_000_000).into());
        }
        Ok(told)
    }

    /// What a handle stands for, for this caller in this session: not after the credential that it came under is gone, nor while
    /// where it came from is locked.
    pub(crate) fn content(
        &self,
        world: &World,
        caller: &Caller,
        (situation, session): (&Situation, &Session),
        name: &str,
    ) -> Result<Content, Problem> {
        let unknown = || Problem::new(ReasonCode::HandleUnknown);
        let now_us = self.parts.clock.monotonic_us();
        let found = self.handles.find(name, caller.tenant(), session.id(), now_us);
        let (content, asker) = found.ok_or_else(unknown)?;
        if self.verify_again(world, &asker).is_none() {
            self.handles.forget(name);
            return Err(unknown());
        }
        match self.lock_on(world, caller, &content.source, situation, (&[], session.run())) {
            Some(locked) => Err(locked),
            None => Ok(content),
        }
    }

    /// Puts contents in the place of handles: of every text in `within` that is one. None where there is none.
    pub(crate) fn hand_on(
        &self,
        world: &World,
        caller: &Caller,
        (situation, session): (&Situation, &Session),
        (bytes, within): (&Bytes, &Node),
    ) -> Result<Option<HandedOn>, Problem> {
        let mut places = Vec::new();
        handles(bytes, within, &mut places);
        if places.is_empty() {
            return Ok(None);
        }
        let most = self.parts.bounds.answer_bytes_max;
        let too_much = || Problem::with_detail(ReasonCode::BodyTooLarge, "too much is handed on at once");
        if places.len() > HANDED_MAX {
            return Err(too_much());
        }
        let (mut contents, mut edits, mut all) = (Vec::new(), Vec::new(), 0_usize);
        for (place, name) in places {
            let content = self.content(world, caller, (situation, session), &name)?;
            all = all.saturating_add(content.bytes());
            if all > most {
                return Err(too_much());
            }
            edits.push((place, json!(content.text.expose()).to_string()));
            contents.push(content);
        }
        let handed = Handed::new(&contents, session);
        let situation = Situation { session: situation.session.join(&handed.label), ..situation.clone() };
        let session = session.handing(handed);
        Ok(Some(HandedOn { bytes: splice(bytes, edits), situation, session }))
    }

    /// The same for a whole body. What is no JSON holds no handles.
    pub(crate) fn handed_in_body(
        &self,
        world: &World,
        caller: &Caller,
        scene: &(Situation, Session),
        body: &Bytes,
    ) -> Result<Option<HandedOn>, Problem> {
        match Node::parse(body, self.parts.bounds.body) {
            Ok(root) => self.hand_on(world, caller, (&scene.0, &scene.1), (body, &root)),
            Err(_) => Ok(None),
        }
    }

    /// Keeps an answer over HTTP, and gives the body that is told in its place.
    pub(crate) fn hide_answer(
        &self,
        (caller, session): (&Caller, &Session),
        source: EntityRef,
        (status, body, media): (u16, &Bytes, &str),
        label: Label,
    ) -> Result<Bytes, ReasonCode> {
        let text = String::from_utf8(body.to_vec()).map_err(|_| ReasonCode::AnswerRefused)?;
        let is_json = media.to_ascii_lowercase().ends_with("json");
        let media = if is_json { "application/json" } else { "text/plain" };
        let mut told = self.hide(caller, session, Content::new(source, text, media, label))?;
        if let Some(members) = told.as_object_mut() {
            members.insert("status".to_owned(), status.into());
        }
        Ok(told.to_string().into())
    }
}

/// The places of texts that are handles.
fn handles(bytes: &[u8], node: &Node, out: &mut Vec<(Span, String)>) {
    match node {
        Node::Object(members, _) => members.iter().for_each(|(_, member)| handles(bytes, member, out)),
        Node::Array(items, _) => items.iter().for_each(|item| handles(bytes, item, out)),
        Node::String(_) => {
            let text = node.text(bytes).filter(|text| is_handle(text));
            out.extend(text.map(|text| (node.span(), text.into_owned())));
        }
        Node::Scalar(_) => {}
    }
}

impl Content {
    /// A content from `source`.
    pub(crate) fn new(source: EntityRef, text: String, media: &'static str, label: Label) -> Self {
        Self { source, text: Arc::new(bartizan_secret::Secret::new(text)), media, label }
    }
}
