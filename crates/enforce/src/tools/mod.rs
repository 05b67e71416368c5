//! The door to servers of tools (Model Context Protocol).
//!
//! Callers speak to us and we speak to servers: nothing that a caller sends reaches a server but the members of its message that
//! were read and decided on, under an id and in a session of ours. [`visit`] takes a message in; [`list`] and [`call`] are what it
//! can ask for, both decided by one function; [`line`] is the way to one server, [`http`] what is spoken on it; [`talk`] passes on
//! what a server says until it has answered; [`handed`] keeps what is not to be read; [`hear`] what is told of beside; [`elicit`]
//! asks a person for what a refusal wants, and [`step_up`] sends them to log in.

mod call;
mod channel;
mod clients;
mod elicit;
mod errand;
mod flight;
mod handed;
mod hear;
mod http;
mod line;
mod list;
mod output;
mod own;
mod reach;
mod step_up;
mod talk;
mod visit;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Digest, Name};
use bartizan_identify::{Caller, StepUps};
use bartizan_model::action::ToolCall;
use bartizan_model::tool_route::ToolCredential;
use bartizan_model::{Problem, ReasonCode, Target, Tenant};
use bartizan_record::{IntentRecorded, Receipt, Running};
use bartizan_upstream::{Carries, SendError};
use bartizan_wire::mcp::Revision;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::path::{Gate, Parts, Stop};
use crate::world::World;
use clients::Clients;
use flight::Flights;
use http::HttpServers;
use line::Opened;
pub use line::{Definition, DefinitionKind};
use reach::Reach;

/// A way to reach servers of tools. One message goes out at a time, for an intent recorded for it.
pub trait ToolServers: std::fmt::Debug + Send + Sync {
    /// Sends a message, and gives what comes back until it is answered.
    fn exchange<'a>(
        &'a self,
        intent: IntentRecorded<ToolCall>,
        outgoing: Outgoing<'a>,
    ) -> BoxFuture<'a, Result<Conversation, SendError>>;

    /// Forgets a session: the next message begins another one.
    fn forget(&self, tenant: &Tenant, server: &Name, session: Digest);
}

/// A message on its way to a server of tools.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The server.
    pub server: &'a Name,
    /// Whose session it belongs to: of caller and agent run, made by us. Two of them never share anything at the server.
    pub session: Digest,
    /// The revision that was agreed on; none while it is being agreed on.
    pub revision: Option<Revision>,
    /// The message's method.
    pub method: &'a str,
    /// The name or address that it is about, where it is about one.
    pub named: Option<&'a str>,
    /// Arguments that are repeated in headers: their names and values.
    pub mirrored: &'a [(String, String)],
    /// One JSON-RPC message.
    pub message: Bytes,
    /// Whose credential it carries, where servers take any.
    pub carries: Carries,
}

/// What a server says until it has answered.
pub struct Conversation {
    /// JSON-RPC messages, one by one; ends after the answer, or early.
    pub messages: BoxStream<'static, Result<Bytes, ReasonCode>>,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// The effect, to be told how it ended.
    pub running: Running,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation").field("status", &self.status).finish_non_exhaustive()
    }
}

/// What something is sent to a server for: each message is decided and recorded by itself.
pub trait Errand: std::fmt::Debug + Send + Sync {
    /// Decides, and records the intent to send something to `target`.
    fn intend(&self, target: Target) -> BoxFuture<'_, Result<IntentRecorded<ToolCall>, ToolStop>>;

    /// Whose credential the next message carries.
    fn carries(&self) -> BoxFuture<'_, Result<Carries, ToolStop>>;
}

/// Why nothing came of it.
#[derive(Clone, Debug)]
pub struct ToolStop {
    /// Why, for the one who asked.
    pub problem: Problem,
    /// Where that is recorded, if it is.
    pub receipt: Option<Receipt>,
}

impl From<Stop> for ToolStop {
    fn from(stop: Stop) -> Self {
        Self { problem: stop.problem, receipt: stop.receipt }
    }
}

impl From<ToolStop> for Stop {
    fn from(stop: ToolStop) -> Self {
        Self { problem: stop.problem, receipt: stop.receipt }
    }
}

impl From<ReasonCode> for ToolStop {
    fn from(reason: ReasonCode) -> Self {
        Self { problem: Problem::new(reason), receipt: None }
    }
}

/// Sessions that are kept at once; those unused for longest are forgotten first.
const SESSIONS_MAX: usize = 10_000;
/// After how long a session that nobody uses is forgotten.
const SESSION_IDLE_US: u64 = 30 * 60 * 1_000_000;

type SessionKey = (Tenant, Name, Digest);
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Opened>>>>;

/// Servers of tools, and what is going on with them.
#[derive(Debug)]
pub(crate) struct Tools {
    servers: Arc<dyn ToolServers>,
    sessions: Mutex<HashMap<SessionKey, (Slot, u64)>>,
    pub(crate) flights: Arc<Flights>,
    /// What is known of clients.
    pub(crate) clients: Clients,
    /// What people are asked to log in for.
    pub(crate) step_ups: Arc<StepUps>,
}

impl Tools {
    pub(crate) fn new(parts: &Parts) -> Self {
        let most = parts.bounds.answer_bytes_max;
        let servers = Arc::new(Reach {
            keeper: parts.keeper.clone(),
            http: HttpServers::new(parts.keeper.clone(), parts.upstreams.clone(), most),
            old: parts.old_servers.clone(),
            children: parts.children.clone(),
        });
        Self {
            servers,
            sessions: Mutex::default(),
            flights: Arc::default(),
            clients: Clients::default(),
            step_ups: Arc::default(),
        }
    }

    /// The place of a session; whoever holds it opens or uses it alone.
    fn slot(&self, key: &SessionKey, now_us: u64) -> Slot {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(key) {
            sessions.retain(|_, (_, used)| now_us.saturating_sub(*used) < SESSION_IDLE_US);
            if sessions.len() >= SESSIONS_MAX
                && let Some(oldest) =
                    sessions.iter().min_by_key(|(_, (_, used))| *used).map(|(k, _)| k.clone())
            {
                sessions.remove(&oldest);
                self.servers.forget(&oldest.0, &oldest.1, oldest.2);
            }
        }
        let (slot, used) = sessions.entry(key.clone()).or_default();
        *used = now_us;
        slot.clone()
    }

    /// Forgets a session.
    fn forget(&self, key: &SessionKey) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.servers.forget(&key.0, &key.1, key.2);
    }
}

impl Gate {
    /// Whose credential `server` is called with for `caller`: a sealed one, or that of an account of theirs. Never the caller's own
    /// token.
    ///
    /// # Errors
    /// When there is no such server, or the account is not connected.
    pub async fn tool_credential(
        &self,
        world: &World,
        caller: &Caller,
        server: &Name,
    ) -> Result<Carries, ToolStop> {
        let part = world.tenants.get(caller.tenant()).ok_or(ReasonCode::PolicyMissing)?;
        let route = part.tool_routes.get(server).ok_or(ReasonCode::ToolNotFound)?;
        if route.credential == ToolCredential::Own {
            return Ok(Carries::Own);
        }
        let provider = part.tool_servers.get(server).and_then(|server| server.connection.as_ref());
        let (Some(provider), Some(accounts)) = (provider, self.accounts()) else {
            return Err(ReasonCode::ConnectionNeeded.into());
        };
        let released = accounts.release(caller, provider).await;
        let stop = |problem| ToolStop { problem, receipt: None };
        released.map(|released| Carries::Connected(Box::new(released))).map_err(stop)
    }

    /// The definitions that a server gives now, for those who approve them.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn tool_definitions(
        &self,
        tenant: &Tenant,
        server: &Name,
        session: Digest,
        errand: &dyn Errand,
    ) -> Result<Vec<Definition>, ToolStop> {
        let world = self.parts.keeper.current()?;
        let part = world.tenants.get(tenant).ok_or(ReasonCode::PolicyMissing)?;
        let line = line::Line::to(self, tenant, part, server, session, errand);
        line.ok_or(ReasonCode::ToolNotFound)?.definitions().await
    }
}
