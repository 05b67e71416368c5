//! The line to a server, on which several callers may talk: who is meant is told by numbers of ours.
//!
//! A request leaves under a number of ours, which is also its progress token; what comes back under it goes to whoever asked, under
//! the id and token of theirs. So no caller can see, answer or cancel what is another's, whatever ids they choose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bartizan_base::Digest;
use bartizan_base::json::Limits;
use bartizan_rt::Shutdown;
use bartizan_wire::Span;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::message::{Kind, Message, limits};
use crate::messages::{Broken, Messages, Open};

/// Requests of one session that may be open at once, and of all on one line.
const SESSION_MAX: usize = 64;
const OPEN_MAX: usize = 512;
/// Notes that may wait for a caller, in number and bytes. What is beyond is left out: they only inform.
const NOTES_MAX: usize = 256;
const NOTE_BYTES_MAX: usize = 8 << 20;
/// Notes that one request may bring; what follows counts as unasked for.
const NOTES_OF_REQUEST_MAX: u32 = 10_000;
/// Questions of a server that may wait for an answer.
const ASKED_MAX: usize = 32;
/// Messages in a row that nobody asked for.
const STRAY_MAX: u32 = 1_000;
/// Lines of ours that may wait to be written.
pub(crate) const OUTBOX_MAX: usize = 64;

/// What several sessions may ask of one server that keeps no state. Anything else would change it for the others, or needs somebody
/// to answer questions.
const WITHOUT_STATE: &[&str] = &[
    "ping",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "server/discover",
];

/// Who may talk on a line, and how long they wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Whether several sessions share it.
    pub(crate) shared: bool,
    /// The longest message, in bytes.
    pub(crate) bytes_max: usize,
    /// How long nothing may come to an open request.
    pub(crate) patience: Duration,
}

/// Where numbers of ours stand in a message as it leaves.
pub(crate) type Numbers = Vec<(Span, u64)>;

/// The line to a server.
#[derive(Debug)]
pub(crate) struct Link {
    manner: Manner,
    limits: Limits,
    /// What is to be written: by callers, and on our own account.
    outbox: mpsc::Sender<Bytes>,
    /// Ends the server behind the line.
    end: Shutdown,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    open: BTreeMap<u64, Asked>,
    /// Questions of the server that wait for an answer, by their ids as written.
    questions: BTreeSet<String>,
    stray: u32,
    /// Something came since a request was last given up for silence.
    lively: bool,
    broken: Option<Broken>,
}

/// A request that waits.
#[derive(Debug)]
struct Asked {
    session: Digest,
    id: String,
    token: Option<String>,
    /// Whether it may be cancelled: the first one of a line may not.
    cancellable: bool,
    notes: mpsc::Sender<Bytes>,
    noted: u32,
    held: Arc<AtomicUsize>,
    last: oneshot::Sender<Result<Bytes, Broken>>,
}

impl Asked {
    /// Hands a note on; whether it was one that may come.
    fn note(&mut self, note: Bytes) -> bool {
        self.noted = self.noted.saturating_add(1);
        if self.noted > NOTES_OF_REQUEST_MAX {
            return false;
        }
        let length = note.len();
        if self.held.fetch_add(length, Ordering::Relaxed) + length > NOTE_BYTES_MAX
            || self.notes.try_send(note).is_err()
        {
            self.held.fetch_sub(length, Ordering::Relaxed);
        }
        true
    }
}

impl Link {
    /// A line whose server is ended by `end`, and what is to be written on it.
    pub(crate) fn new(manner: Manner, end: Shutdown) -> (Arc<Self>, mpsc::Receiver<Bytes>) {
        let (outbox, said) = mpsc::channel(OUTBOX_MAX);
        let link = Self { manner, limits: limits(manner.bytes_max), outbox, end, state: Mutex::default() };
        (Arc::new(link), said)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// How many requests are open.
    pub(crate) fn open(&self) -> usize {
        self.state().open.len()
    }

    /// Why nothing more comes, once it is over.
    pub(crate) fn broken(&self) -> Option<Broken> {
        self.state().broken
    }

    /// Ends every open request, and the server.
    pub(crate) fn end(&self, broken: Broken) {
        self.end.request();
        let open = {
            let mut state = self.state();
            state.broken.get_or_insert(broken);
            std::mem::take(&mut state.open)
        };
        for asked in open.into_values() {
            let _ = asked.last.send(Err(broken));
        }
    }

    /// Writes a line; a server that takes nothing for too long is ended.
    pub(crate) async fn send(&self, line: Bytes) -> Result<(), Broken> {
        match tokio::time::timeout(self.manner.patience, self.outbox.send(line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Ended),
            Err(_) => {
                self.end(Broken::Silent);
                Err(Broken::Silent)
            }
        }
    }

    /// Something of ours to be said, if there is room.
    pub(crate) fn utter(&self, own: String) {
        let _ = self.outbox.try_send(own.into());
    }

    /// A request of a session: how it is to be sent, if it is, and what will come back.
    pub(crate) fn begin(
        self: &Arc<Self>,
        session: Digest,
        request: &Message,
    ) -> Result<(Option<Numbers>, Messages), Broken> {
        let (Kind::Request, Some(id), Some(method)) = (request.kind, request.id(), request.method()) else {
            return Err(Broken::Malformed);
        };
        if self.manner.shared && method != "initialize" && !WITHOUT_STATE.contains(&method.as_ref()) {
            return Ok((None, Messages::known(refusal(id, &method))));
        }
        let token = request.param_id(&["_meta", "progressToken"]);
        if token.is_none() && request.param(&["_meta", "progressToken"]).is_some() {
            // What is not replaced could name the call of another: `7.0` is `7` to many.
            return Err(Broken::Malformed);
        }
        let (last, ending) = oneshot::channel();
        let (notes, noted) = mpsc::channel(NOTES_MAX);
        let held = Arc::<AtomicUsize>::default();
        let asked = Asked {
            session,
            id: id.to_owned(),
            token: token.map(|(raw, _)| raw.to_owned()),
            cancellable: method != "initialize",
            notes,
            noted: 0,
            held: held.clone(),
            last,
        };
        let number = {
            let mut state = self.state();
            if let Some(broken) = state.broken {
                return Err(broken);
            }
            let of_session = state.open.values().filter(|a| a.session == session).count();
            if of_session >= SESSION_MAX || state.open.len() >= OPEN_MAX {
                return Err(Broken::Busy);
            }
            state.last += 1;
            let number = state.last;
            state.open.insert(number, asked);
            number
        };
        let places = request.id_span().into_iter().chain(token.map(|(_, span)| span));
        let numbers = places.map(|span| (span, number)).collect();
        let messages = Messages::open(Open {
            link: self.clone(),
            number,
            notes: noted,
            held,
            last: ending,
            ended: None,
            patience: self.manner.patience,
            silence: Box::pin(tokio::time::sleep(self.manner.patience)),
            done: false,
        });
        Ok((Some(numbers), messages))
    }

    /// A notification or answer of a session: how it is to be sent; none where it is not for the server.
    pub(crate) fn tell(&self, session: Digest, message: &Message) -> Result<Option<Numbers>, Broken> {
        match (message.kind, message.method().as_deref()) {
            (Kind::Request, _) => Err(Broken::Malformed),
            // The line was opened by us, or in the name of whoever came first.
            (Kind::Notification, Some("notifications/initialized")) => Ok(None),
            (Kind::Notification, Some("notifications/cancelled")) => {
                let Some((id, span)) = message.param_id(&["requestId"]) else {
                    return Err(Broken::Malformed);
                };
                let state = self.state();
                let mut open = state.open.iter().rev();
                let meant = open.find(|(_, a)| a.session == session && a.id == id && a.cancellable);
                Ok(meant.map(|(number, _)| vec![(span, *number)]))
            }
            (Kind::Notification, _) => Ok((!self.manner.shared).then(Vec::new)),
            (Kind::Response, _) => {
                // Only what was asked is answered, and once.
                let asked = message.id().is_some_and(|id| self.state().questions.remove(id));
                if asked { Ok(Some(Vec::new())) } else { Err(Broken::Malformed) }
            }
        }
    }

    /// Whoever asked does not wait any longer. After silence the server has one more chance: if nothing at all has come until the
    /// next request is given up, it is ended.
    pub(crate) fn give_up(&self, number: u64, silent: bool) {
        let (gone, dead) = {
            let mut state = self.state();
            let gone = state.open.remove(&number);
            let dead = gone.is_some() && silent && !std::mem::take(&mut state.lively);
            (gone, dead)
        };
        if dead {
            self.end(Broken::Silent);
        } else if gone.is_some_and(|asked| asked.cancellable) {
            let method = r#""method":"notifications/cancelled""#;
            self.utter(format!(r#"{{"jsonrpc":"2.0",{method},"params":{{"requestId":{number}}}}}"#));
        }
    }

    /// Hands on what the server said.
    ///
    /// # Errors
    /// When it is no message, or too much that nobody asked for: nothing more is to be read.
    pub(crate) fn hear(&self, said: Bytes) -> Result<(), Broken> {
        let message = match Message::read(said, self.limits) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%error, "a tool server wrote what is no message");
                return Err(Broken::Rubbish);
            }
        };
        let mut state = self.state();
        state.lively = true;
        let taken = match (message.kind, message.method().as_deref()) {
            (Kind::Response, _) => answered(&mut state, &message),
            (Kind::Request, Some("ping")) => {
                let id = message.id().unwrap_or_default();
                self.utter(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
                false
            }
            (Kind::Request, method) => self.asked(&mut state, &message, method.unwrap_or_default()),
            (Kind::Notification, Some("notifications/progress")) => progressed(&mut state, &message),
            (Kind::Notification, _) => self.noted(&mut state, &message),
        };
        state.stray = if taken { 0 } else { state.stray + 1 };
        if state.stray > STRAY_MAX {
            tracing::warn!("a tool server writes what nobody asked for");
            return Err(Broken::Rubbish);
        }
        Ok(())
    }

    /// A question of the server: goes to the session whose line it is, while a request of it is open.
    fn asked(&self, state: &mut State, message: &Message, method: &str) -> bool {
        let Some(id) = message.id() else { return false };
        let room = !self.manner.shared && state.questions.len() < ASKED_MAX && !state.questions.contains(id);
        let Some(asked) = state.open.values_mut().find(|a| a.cancellable).filter(|_| room) else {
            self.utter(String::from_utf8_lossy(&refusal(id, method)).into_owned());
            return false;
        };
        let taken = asked.note(message.with(Vec::new()));
        state.questions.insert(id.to_owned());
        taken
    }

    /// A note without an addressee: of a line of one session it goes to the oldest open request; on a shared one nobody may see it.
    fn noted(&self, state: &mut State, message: &Message) -> bool {
        let open = state.open.values_mut().find(|_| !self.manner.shared);
        open.is_some_and(|asked| asked.note(message.with(Vec::new())))
    }
}

/// The error that a request gets which nobody serves.
fn refusal(id: &str, method: &str) -> Bytes {
    let method: String =
        method.chars().filter(|c| c.is_ascii_alphanumeric() || "/_-.".contains(*c)).take(80).collect();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"`{method}` is not served on this line"}}}}"#)
        .into()
}

/// The open request that a number of ours names.
fn number(raw: &str) -> Option<u64> {
    raw.parse().ok()
}

fn answered(state: &mut State, message: &Message) -> bool {
    let Some(asked) = message.id().and_then(number).and_then(|n| state.open.remove(&n)) else { return false };
    let answer = message.under(&asked.id);
    let _ = asked.last.send(Ok(answer));
    true
}

fn progressed(state: &mut State, message: &Message) -> bool {
    let Some((raw, span)) = message.param_id(&["progressToken"]) else { return false };
    let Some(asked) = number(raw).and_then(|n| state.open.get_mut(&n)) else { return false };
    // Who gave no token wants no progress.
    let Some(token) = asked.token.clone() else { return false };
    asked.note(message.with(vec![(span, token)]))
}

#[cfg(test)]
mod tests;
