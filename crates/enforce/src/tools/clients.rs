//! What is known of the client at the other end of a session: what it can do, what it wants to be told, and what it was asked.
//!
//! A client's session is named by us and bound to its caller. What is kept here is this node's alone: on another node, or after a
//! restart, a session goes on as one of which nothing is known, and nothing is asked of its client.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_base::{Digest, Name};
use bartizan_model::tool_route::ServerAsk;
use bartizan_model::{AskFacts, EntityRef};
use bartizan_wire::mcp::{Message, notification_words};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::channel::Channel;
use super::line::DefinitionKind;

/// Sessions of clients that are kept at once; those unused for longest are forgotten first.
const CLIENTS_MAX: usize = 10_000;
/// Of these, sessions of one caller at one endpoint.
const OF_ONE_MAX: usize = 200;
/// Ended sessions that are remembered as such.
const ENDED_MAX: usize = 10_000;
/// Addresses that one client may want to be told of.
const SUBSCRIBED_MAX: usize = 200;
/// Calls of one client that can be come back to.
const CALLS_MAX: usize = 64;
/// Questions that wait for one client.
const ASKED_MAX: usize = 32;

/// The name of the stream that belongs to no call.
const GENERAL: &str = "0";

/// Sessions of clients, by what they are called.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<HashMap<String, (Arc<Client>, u64)>>, Mutex<Ended>);

/// What was ended lately: whoever goes on with it is told so, and begins another one.
#[derive(Debug, Default)]
struct Ended {
    names: HashSet<String>,
    order: VecDeque<String>,
}

impl Clients {
    /// The session of that name.
    pub(super) fn at(&self, name: &str, now_us: u64) -> Arc<Client> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(name) {
            let of = format!("{}.", name.split_once('.').map_or(name, |(of, _)| of));
            let of_one = |other: &String| other.starts_with(&of);
            // Whoever begins too many ends their own.
            let own = all.keys().filter(|other| of_one(other)).count() >= OF_ONE_MAX;
            let all_of = all.iter().filter(|(other, _)| !own || of_one(other));
            let oldest = all_of.min_by_key(|(_, (_, used))| *used).map(|(name, _)| name.clone());
            if (own || all.len() >= CLIENTS_MAX)
                && let Some((client, _)) = oldest.and_then(|oldest| all.remove(&oldest))
            {
                client.general.close();
            }
        }
        let (client, used) = all.entry(name.to_owned()).or_insert_with(|| (Client::new(), now_us));
        *used = now_us;
        client.clone()
    }

    /// Whether the session of that name was ended by its client.
    pub(super) fn is_ended(&self, name: &str) -> bool {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).names.contains(name)
    }

    /// Forgets it: its stream ends.
    pub(super) fn forget(&self, name: &str) -> Option<Arc<Client>> {
        {
            let mut ended = self.1.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.names.insert(name.to_owned()) {
                ended.order.push_back(name.to_owned());
            }
            if ended.order.len() > ENDED_MAX
                && let Some(oldest) = ended.order.pop_front()
            {
                ended.names.remove(&oldest);
            }
        }
        let gone = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let (client, _) = gone?;
        client.general.close();
        Some(client)
    }
}

/// Somebody who waits for an answer of the client.
#[derive(Debug)]
pub(super) enum Asked {
    /// A server of tools, in the middle of a call.
    Server(Box<Question>),
    /// We ourselves.
    House(oneshot::Sender<Message>),
}

/// A question of a server, and the call in the middle of which it came.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) server: Name,
    /// The server's id of it, as JSON.
    pub(super) id: String,
    pub(super) entity: EntityRef,
    pub(super) facts: AskFacts,
}

/// The client of a session.
#[derive(Debug)]
pub(super) struct Client {
    held: Mutex<Held>,
    /// What is told beside calls.
    pub(super) general: Arc<Channel>,
}

#[derive(Debug, Default)]
struct Held {
    can: Map<String, Value>,
    level: Option<usize>,
    subscribed: BTreeSet<String>,
    /// What it could see when it was last told, by kind.
    seen: Option<[Digest; 3]>,
    /// Kinds of which a server says that they have changed.
    changed: BTreeSet<DefinitionKind>,
    calls: Vec<Arc<Channel>>,
    asked: HashMap<String, Asked>,
}

impl Client {
    /// One of which nothing is known.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), general: Channel::new(GENERAL.to_owned()) })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It says what it can do.
    pub(super) fn can(&self, can: Map<String, Value>) {
        self.held().can = can;
    }

    /// What of `accepts` it can be asked for, with what it says about that.
    pub(super) fn offers(&self, accepts: &BTreeSet<ServerAsk>) -> Map<String, Value> {
        let held = self.held();
        let mut offers = Map::new();
        for ask in accepts {
            let Ok(Value::String(name)) = serde_json::to_value(ask) else { continue };
            offers.extend(held.can.get(&name).cloned().map(|can| (name, can)));
        }
        offers
    }

    /// Whether it can put a form before a person.
    pub(super) fn fills_forms(&self) -> bool {
        self.held().can.get("elicitation").is_some_and(fills_forms)
    }

    /// Whether it can open a link for a person.
    pub(super) fn opens_links(&self) -> bool {
        self.held().can.get("elicitation").is_some_and(opens_links)
    }

    /// From which level on it wants to be told what is logged.
    pub(super) fn level(&self) -> Option<usize> {
        self.held().level
    }

    pub(super) fn set_level(&self, level: usize) {
        self.held().level = Some(level);
    }

    /// Notes that it wants to be told of `uri`. False where it wants to be told of too much.
    pub(super) fn subscribe(&self, uri: &str) -> bool {
        let mut held = self.held();
        if held.subscribed.len() >= SUBSCRIBED_MAX && !held.subscribed.contains(uri) {
            return false;
        }
        held.subscribed.insert(uri.to_owned());
        true
    }

    pub(super) fn unsubscribe(&self, uri: &str) {
        self.held().subscribed.remove(uri);
    }

    pub(super) fn wants(&self, uri: &str) -> bool {
        self.held().subscribed.contains(uri)
    }

    pub(super) fn subscribed(&self) -> Vec<String> {
        self.held().subscribed.iter().cloned().collect()
    }

    /// A server says that what it offers has changed.
    pub(super) fn changed(&self, kind: DefinitionKind) {
        self.held().changed.insert(kind);
    }

    /// Kinds of what it can see that are others than it was told of last, now that it sees `seen`.
    pub(super) fn news(&self, seen: [Digest; 3]) -> BTreeSet<DefinitionKind> {
        let mut held = self.held();
        let mut news = std::mem::take(&mut held.changed);
        if let Some(before) = held.seen.replace(seen) {
            let kinds = KINDS.into_iter().zip(before.iter().zip(&seen));
            news.extend(kinds.filter(|(_, (before, now))| before != now).map(|(kind, _)| kind));
        }
        news
    }

    /// Whether a server has said that something changed.
    pub(super) fn has_news(&self) -> bool {
        !self.held().changed.is_empty()
    }

    /// A stream for a call that can be come back to. None where there are too many.
    pub(super) fn begin(&self, name: String) -> Option<Arc<Channel>> {
        let mut held = self.held();
        if held.calls.len() >= CALLS_MAX {
            let over = held.calls.iter().position(|call| call.is_over())?;
            held.calls.remove(over);
        }
        let channel = Channel::new(name);
        held.calls.push(channel.clone());
        Some(channel)
    }

    pub(super) fn end(&self, channel: &Arc<Channel>) {
        self.held().calls.retain(|call| !Arc::ptr_eq(call, channel));
    }

    /// The stream that an event id belongs to, and its number there.
    pub(super) fn stream(&self, event: &str) -> Option<(Arc<Channel>, u64)> {
        let (name, number) = event.rsplit_once('-')?;
        let number = number.parse().ok()?;
        if name == GENERAL {
            return Some((self.general.clone(), number));
        }
        let held = self.held();
        held.calls.iter().find(|call| call.name() == name).map(|call| (call.clone(), number))
    }

    /// Notes that it is asked something under `id`. False where too much waits for it already.
    pub(super) fn ask(&self, id: &str, asked: Asked) -> bool {
        let mut held = self.held();
        if held.asked.len() >= ASKED_MAX {
            return false;
        }
        held.asked.insert(id.to_owned(), asked);
        true
    }

    /// Whoever waits for the answer under `id`; an answer is taken once.
    pub(super) fn answered(&self, id: &str) -> Option<Asked> {
        self.held().asked.remove(id)
    }
}

/// Whether what a client says of elicitation means forms, too: without saying how, it means them.
pub(super) fn fills_forms(can: &Value) -> bool {
    can.as_object().is_some_and(|how| how.is_empty() || how.contains_key("form"))
}

/// Whether what a client says of elicitation means links, too: only where it says so.
pub(super) fn opens_links(can: &Value) -> bool {
    can.get("url").is_some_and(Value::is_object)
}

/// What can change.
pub(super) const KINDS: [DefinitionKind; 3] =
    [DefinitionKind::Tool, DefinitionKind::Prompt, DefinitionKind::Resource];

/// What is told of a change.
pub(super) fn list_changed(kind: DefinitionKind) -> Bytes {
    let method = match kind {
        DefinitionKind::Tool => "notifications/tools/list_changed",
        DefinitionKind::Prompt => "notifications/prompts/list_changed",
        DefinitionKind::Resource | DefinitionKind::Template => "notifications/resources/list_changed",
    };
    notification_words(method, &[])
}

/// What is told of a resource that has changed: its address and nothing else that a server may have said.
pub(super) fn updated(uri: &str) -> Bytes {
    notification_words("notifications/resources/updated", &[("uri", json!(uri).to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_only_for_what_it_can_and_the_route_accepts() {
        let client = Client::new();
        let accepts = BTreeSet::from([ServerAsk::Elicitation, ServerAsk::Roots]);
        assert!(client.offers(&accepts).is_empty());
        let can = json!({"elicitation": {"form": {}}, "sampling": {"tools": {}}});
        client.can(can.as_object().unwrap().clone());
        assert_eq!(Value::Object(client.offers(&accepts)), json!({"elicitation": {"form": {}}}));
        assert!(client.offers(&BTreeSet::new()).is_empty());
        assert!(client.fills_forms());
        for (can, fills) in
            [(json!({}), true), (json!({"url": {}}), false), (json!({"url": {}, "form": {}}), true)]
        {
            assert_eq!(fills_forms(&can), fills, "{can}");
        }
        for (can, opens) in [(json!({}), false), (json!({"url": {}}), true), (json!({"url": null}), false)] {
            assert_eq!(opens_links(&can), opens, "{can}");
        }
    }

    #[test]
    fn an_answer_is_taken_once_and_questions_are_bounded() {
        let client = Client::new();
        let (sender, _) = oneshot::channel();
        assert!(client.ask("a", Asked::House(sender)));
        assert!(client.answered("a").is_some() && client.answered("a").is_none());
        for number in 0..ASKED_MAX {
            assert!(client.ask(&number.to_string(), Asked::House(oneshot::channel().0)));
        }
        assert!(!client.ask("more", Asked::House(oneshot::channel().0)));
    }

    #[test]
    fn changes_are_told_once_and_the_first_look_is_no_change() {
        let client = Client::new();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        assert!(client.news([one, one, one]).is_empty());
        assert_eq!(client.news([two, one, one]), BTreeSet::from([DefinitionKind::Tool]));
        assert!(client.news([two, one, one]).is_empty());
        client.changed(DefinitionKind::Resource);
        assert!(client.has_news());
        assert_eq!(client.news([two, one, one]), BTreeSet::from([DefinitionKind::Resource]));
    }

    #[test]
    fn a_stream_is_found_by_the_ids_of_its_events_alone() {
        let client = Client::new();
        let call = client.begin("dec_1".to_owned()).unwrap();
        assert!(Arc::ptr_eq(&client.stream("dec_1-4").unwrap().0, &call));
        assert!(Arc::ptr_eq(&client.stream("0-1").unwrap().0, &client.general));
        for none in ["dec_2-1", "dec_1", "dec_1-x", "", "-"] {
            assert!(client.stream(none).is_none(), "{none}");
        }
        client.end(&call);
        assert!(client.stream("dec_1-4").is_none());
    }

    /// A table of sessions that only grows is a way to end a gateway (rmcp, GHSA-9pj6-vhgr-3mwh).
    #[test]
    fn lesson_rmcp_ghsa_9pj6_sessions_are_bounded_and_the_one_that_nobody_uses_goes_first() {
        let clients = Clients::default();
        for number in 0..CLIENTS_MAX {
            clients.at(&format!("{number}.a"), u64::try_from(number).unwrap() + 1);
        }
        let first = clients.at("0.a", 1_000_000);
        let second = clients.at("1.a", 2);
        clients.at("new.a", 1_000_001);
        assert!(second.general.is_over() && !first.general.is_over());
        assert!(clients.forget("0.a").is_some() && first.general.is_over());
        assert!(clients.forget("0.a").is_none());
        assert!(clients.is_ended("0.a") && !clients.is_ended("new.a"));
        // However many sessions one caller begins, they take the place of their own.
        let clients = Clients::default();
        let other = clients.at("other.a", 0);
        for number in 0..=OF_ONE_MAX {
            clients.at(&format!("one.{number}"), u64::try_from(number).unwrap() + 1);
        }
        let all = clients.0.lock().unwrap();
        let own = all.keys().filter(|name| name.starts_with("one.")).count();
        assert_eq!((own, other.general.is_over()), (OF_ONE_MAX, false));
        assert!(!all.contains_key("one.0"));
    }
}
