//! Old tool servers, over the HTTP+SSE transport of MCP 2024-11-05. What is said here of lines holds as for children; bytes leave
//! through `bartizan-upstream` alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bartizan_base::{Clock, Digest, Name};
use bartizan_model::action::ToolCall;
use bartizan_model::directory::UpstreamSpec;
use bartizan_model::{ReasonCode, Target, Tenant};
use bartizan_record::IntentRecorded;
use bartizan_rt::{Shutdown, Tasks};
use bartizan_upstream::{AnswerBody, Carries, Line, SendError, Upstreams};
use bartizan_wire::FrameSplitter;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::{mpsc, oneshot};

use crate::children::SWEEP_EVERY;
use crate::ending::Ending;
use crate::event::Event;
use crate::link::{Link, Manner};
use crate::message::{Kind, Message, limits};
use crate::messages::{Broken, Conversation, Messages};
use crate::places::{Place, Places, held};
use crate::server::{GREETED, GREETING, conversed};
use crate::settings::Totals;

/// Whose line it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: Tenant,
    server: Name,
    session: Digest,
}

/// An open line that was greeted.
#[derive(Debug)]
struct Old {
    link: Arc<Link>,
    line: Arc<Line>,
    hello: Message,
    used_us: AtomicU64,
    end: Shutdown,
}

type Slots = HashMap<Key, Arc<tokio::sync::Mutex<Option<Arc<Old>>>>>;

/// Old tool servers, each with one line for every session.
#[derive(Debug)]
pub struct OldServers {
    upstreams: Arc<Upstreams>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    totals: Totals,
    slots: Mutex<Slots>,
    places: Arc<Places>,
}

impl OldServers {
    /// None are reached yet. Of `totals` the numbers count lines. To be called on a runtime.
    #[must_use]
    pub fn new(upstreams: Arc<Upstreams>, clock: Arc<dyn Clock>, tasks: Tasks, totals: Totals) -> Arc<Self> {
        let old = Self { upstreams, clock, tasks, totals, slots: Mutex::default(), places: Arc::default() };
        let old = Arc::new(old);
        let (weak, end) = (Arc::downgrade(&old), old.tasks.shutdown().clone());
        old.tasks.spawn("old-servers-sweep", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                    () = end.requested() => return,
                }
                let Some(old) = weak.upgrade() else { return };
                old.sweep();
            }
        });
        old
    }

    /// Sends the message that the intent was recorded for on the session's line to a server, which is opened if need be.
    ///
    /// The intent's target must be [`Target::Upstream`] with the path of the stream of events and the digest of the message.
    /// `session` stands for the caller and agent run; it is made by us and never by a client.
    ///
    /// # Errors
    /// With the running effect, so that its end can be told.
    pub async fn exchange(
        &self,
        intent: IntentRecorded<ToolCall>,
        spec: &UpstreamSpec,
        server: &Name,
        (session, carries): (Digest, Carries),
        message: Bytes,
    ) -> Result<Conversation, SendError> {
        let refuse = |intent: IntentRecorded<ToolCall>, reason| SendError { reason, running: intent.begin() };
        let fits = matches!(intent.target(), Target::Upstream { body, .. } if *body == Digest::of(&message));
        if !fits {
            return Err(refuse(intent, ReasonCode::Internal));
        }
        let Ok(read) = Message::read(message.clone(), limits(self.totals.bytes_max)) else {
            return Err(refuse(intent, ReasonCode::BodyMalformed));
        };
        let key = Key { tenant: intent.tenant().clone(), server: server.clone(), session };
        let old = if read.kind == Kind::Request {
            let greeting = (read.method().as_deref() == Some("initialize")).then_some(&read);
            match self.open(&intent, key, spec, carries, greeting).await {
                Ok(old) if greeting.is_some() => {
                    let hello = old.hello.under(read.id().unwrap_or_default());
                    return Ok(Conversation { messages: Messages::known(hello), running: intent.begin() });
                }
                Ok(old) => old,
                Err(reason) => return Err(refuse(intent, reason)),
            }
        } else {
            let slot = held(&self.slots).get(&key).cloned();
            let open = match slot {
                Some(slot) => slot.lock().await.clone().filter(|old| old.lives()),
                None => None,
            };
            match open {
                Some(old) => old,
                None if read.kind == Kind::Notification => {
                    return Ok(Conversation { messages: Messages::none(), running: intent.begin() });
                }
                None => return Err(refuse(intent, ReasonCode::BodyMalformed)),
            }
        };
        old.used_us.fetch_max(self.clock.monotonic_us(), Ordering::Relaxed);
        let told = if read.kind == Kind::Request {
            old.link.begin(session, &read)
        } else {
            old.link.tell(session, &read).map(|numbers| (numbers, Messages::none()))
        };
        match told {
            Ok((Some(numbers), messages)) => {
                let running =
                    self.upstreams.say(intent, &old.line, &message, &numbers).await.inspect_err(|error| {
                        // A session that the server has forgotten is not asked again.
                        if error.reason != ReasonCode::Internal {
                            old.link.end(Broken::Ended);
                        }
                    })?;
                Ok(Conversation { messages, running })
            }
            Ok((None, messages)) => Ok(Conversation { messages, running: intent.begin() }),
            Err(broken) => Err(refuse(intent, broken.reason())),
        }
    }

    /// Ends the line of a session, if it has one.
    pub fn end(&self, tenant: &Tenant, server: &Name, session: Digest) {
        let key = Key { tenant: tenant.clone(), server: server.clone(), session };
        if let Some(slot) = held(&self.slots).get(&key)
            && let Ok(slot) = slot.try_lock()
            && let Some(old) = slot.as_ref()
        {
            old.end.request();
        }
    }

    async fn open(
        &self,
        intent: &IntentRecorded<ToolCall>,
        key: Key,
        spec: &UpstreamSpec,
        carries: Carries,
        greeting: Option<&Message>,
    ) -> Result<Arc<Old>, ReasonCode> {
        let slot = held(&self.slots).entry(key.clone()).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(old) = slot.take() {
            if old.lives() && old.line.spec() == spec {
                return Ok(slot.insert(old).clone());
            }
            old.end.request();
        }
        let place = self.places.take(&key.tenant, self.totals.children_max, self.totals.of_tenant_max);
        let place = place.ok_or(ReasonCode::Busy)?;
        let opening = self.begin(intent, spec, carries, greeting, place);
        let old = tokio::time::timeout(self.totals.start, opening).await;
        let old = old.map_err(|_| ReasonCode::UpstreamTimeout)??;
        *slot = Some(old.clone());
        Ok(old)
    }

    async fn begin(
        &self,
        intent: &IntentRecorded<ToolCall>,
        spec: &UpstreamSpec,
        carries: Carries,
        greeting: Option<&Message>,
        place: Place,
    ) -> Result<Arc<Old>, ReasonCode> {
        let silence = self.totals.idle + self.totals.patience;
        let (mut line, body) = self.upstreams.open_line(intent, spec, carries, silence).await?;
        let end = self.tasks.shutdown().child();
        let ends = Ending::of(&end);
        let manner =
            Manner { shared: false, bytes_max: self.totals.bytes_max, patience: self.totals.patience };
        let (link, outbox) = Link::new(manner, end.clone());
        let (lead, leads) = oneshot::channel();
        let (heard, ended) = (link.clone(), end.clone());
        self.tasks.spawn("old-server-reads", async move {
            let broken = tokio::select! {
                broken = listen(body, &heard, lead) => broken,
                () = ended.requested() => Broken::Ended,
            };
            heard.end(broken);
            drop(place);
        });
        let endpoint = leads.await.map_err(|_| ReasonCode::UpstreamInvalid)?;
        line.lead_to(&endpoint)?;
        let line = Arc::new(line);
        self.tasks.spawn("old-server-writes", say(self.upstreams.clone(), line.clone(), outbox, end.clone()));
        let own = Bytes::from_static(GREETING.as_bytes());
        let own = Message::read(own, link.limits()).map_err(|_| ReasonCode::Internal)?;
        let greeting = greeting.unwrap_or(&own);
        let (numbers, messages) = link.begin(Digest::of(b""), greeting).map_err(Broken::reason)?;
        self.upstreams.courtesy(&line, greeting.numbered(&numbers.unwrap_or_default())).await?;
        let hello = conversed(messages, link.limits()).await.map_err(Broken::reason)?;
        if !hello.is_error() {
            self.upstreams.courtesy(&line, Bytes::from_static(GREETED.as_bytes())).await?;
        }
        ends.disarm();
        let used_us = self.clock.monotonic_us().into();
        Ok(Arc::new(Old { link, line, hello, used_us, end }))
    }

    /// Ends lines that nobody uses.
    fn sweep(&self) {
        let now = self.clock.monotonic_us();
        let idle = u64::try_from(self.totals.idle.as_micros()).unwrap_or(u64::MAX);
        held(&self.slots).retain(|_, slot| {
            let wanted = Arc::strong_count(slot) > 1;
            let Ok(mut slot) = slot.try_lock() else { return true };
            let Some(old) = slot.take_if(|old| !old.lives()).or_else(|| slot.clone()) else { return wanted };
            if old.link.open() > 0 {
                old.used_us.fetch_max(now, Ordering::Relaxed);
            } else if now.saturating_sub(old.used_us.load(Ordering::Relaxed)) >= idle {
                old.end.request();
            }
            true
        });
    }
}

impl Old {
    fn lives(&self) -> bool {
        !self.end.is_requested() && self.link.broken().is_none()
    }
}

/// Posts what the line says on its own account.
async fn say(upstreams: Arc<Upstreams>, line: Arc<Line>, mut outbox: mpsc::Receiver<Bytes>, end: Shutdown) {
    loop {
        let own = tokio::select! {
            own = outbox.recv() => own,
            () = end.requested() => None,
        };
        let Some(own) = own else { return };
        if let Err(reason) = upstreams.courtesy(&line, own).await {
            tracing::debug!(%reason, "an old tool server did not take a courtesy");
        }
    }
}

/// Reads events until the stream ends or says what makes no sense. The first one names the address of messages.
async fn listen(mut body: AnswerBody, link: &Link, lead: oneshot::Sender<String>) -> Broken {
    let mut frames = FrameSplitter::default();
    let mut lead = Some(lead);
    loop {
        loop {
            let frame = match frames.whole_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return Broken::Rubbish,
            };
            let Some(event) = Event::read(&frame) else { return Broken::Rubbish };
            match (event, lead.take()) {
                (Event::Endpoint(endpoint), Some(lead)) => {
                    if lead.send(endpoint).is_err() {
                        return Broken::Ended;
                    }
                }
                (Event::Message(message), None) => {
                    if let Err(broken) = link.hear(message) {
                        return broken;
                    }
                }
                (Event::Other, waits) => lead = waits,
                // A message before the address, or a second address.
                (Event::Message(_), Some(_)) | (Event::Endpoint(_), None) => return Broken::Rubbish,
            }
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    frames.feed(data);
                }
            }
            Some(Err(_)) | None => return Broken::Ended,
        }
    }
}
