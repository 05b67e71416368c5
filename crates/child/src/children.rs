//! The children of the house: started when they are first asked, one for each session or one for all, ended when nobody asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_base::{Digest, Name};
use bartizan_model::action::ToolCall;
use bartizan_model::{ReasonCode, Target, Tenant};
use bartizan_record::IntentRecorded;
use bartizan_upstream::SendError;
use bytes::Bytes;

use crate::backoff::Backoff;
use crate::link::Manner;
use crate::message::{Kind, Message, limits};
use crate::messages::{Broken, Conversation, Messages};
use crate::places::{Place, Places, held};
use crate::server::{Birth, Server};
use crate::settings::{Served, Settings, SetupError, Totals};
use crate::spawner::Spawner;

/// How often it is looked for children that nobody uses.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How long a new child waits for the place of one that is ended for it.
const ROOM_PATIENCE: Duration = Duration::from_secs(8);

/// Whose child it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: Tenant,
    server: Name,
    command: Name,
    session: Option<Digest>,
}

/// The place of one child, whether it runs or not.
#[derive(Debug, Default)]
struct Slot {
    server: Option<Arc<Server>>,
    backoff: Backoff,
    /// The caller's own greeting, to be said again to the next child of the session.
    greeting: Option<Bytes>,
}

impl Slot {
    /// Lets go of a child that has ended, and remembers if that was its own doing.
    fn settle(&mut self, now_us: u64) {
        let Some(server) = self.server.take_if(|server| !server.lives()) else { return };
        if server.failed() {
            self.backoff.failed(now_us, Duration::from_micros(now_us.saturating_sub(server.began_us)));
        }
    }
}

type Slots = HashMap<Key, Arc<tokio::sync::Mutex<Slot>>>;

/// Tool servers that run as children.
#[derive(Debug)]
pub struct Children {
    settings: Settings,
    spawner: Spawner,
    slots: Mutex<Slots>,
    /// How many there are, of each tenant.
    places: Arc<Places>,
    /// Commands that did not start, for each tenant: another session would not help.
    failing: Mutex<HashMap<(Tenant, Name), Backoff>>,
}

impl Children {
    /// Checks what is configured. To be called on a runtime; nothing is started yet.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn open(settings: Settings) -> Result<Arc<Self>, SetupError> {
        for (name, command) in &settings.commands {
            command.check(&settings.hidden).map_err(|unfit| SetupError::Command(name.clone(), unfit))?;
        }
        let children = Arc::new(Self {
            spawner: Spawner::new()?,
            settings,
            slots: Mutex::default(),
            places: Arc::default(),
            failing: Mutex::default(),
        });
        let (weak, end) = (Arc::downgrade(&children), children.settings.tasks.shutdown().clone());
        children.settings.tasks.spawn("children-sweep", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                    () = end.requested() => return,
                }
                let Some(children) = weak.upgrade() else { return };
                children.sweep();
            }
        });
        Ok(children)
    }

    /// Sends the message that the intent was recorded for to a child, which is started if need be.
    ///
    /// The intent's target must be [`Target::Direct`] with the server's name and the digest of the message. `session` stands for the
    /// caller and agent run; it is made by us and never by a client.
    ///
    /// # Errors
    /// With the running effect, so that its end can be told.
    pub async fn exchange(
        &self,
        intent: IntentRecorded<ToolCall>,
        served: Served<'_>,
        session: Digest,
        message: Bytes,
    ) -> Result<Conversation, SendError> {
        let fits = matches!(intent.target(), Target::Direct { name, body } if name == served.server && *body == Digest::of(&message));
        let in_time = self.settings.clock.now() < intent.expires();
        let tenant = intent.tenant().clone();
        let running = intent.begin();
        if !fits || !in_time {
            tracing::error!(
                fits,
                in_time,
                "a message that is not the recorded one was stopped before a child"
            );
            return Err(SendError { reason: ReasonCode::Internal, running });
        }
        match self.converse(&tenant, served, session, message).await {
            Ok(messages) => Ok(Conversation { messages, running }),
            Err(reason) => Err(SendError { reason, running }),
        }
    }

    /// Ends the child of a session, if it has one.
    pub fn end(&self, tenant: &Tenant, served: Served<'_>, session: Digest) {
        let slot = held(&self.slots).get(&key(tenant, served, session)).cloned();
        if let Some(slot) = slot.filter(|_| served.keeps_state)
            && let Ok(slot) = slot.try_lock()
            && let Some(server) = &slot.server
        {
            server.dismiss();
        }
    }

    /// How many children there are.
    #[must_use]
    pub fn running(&self) -> usize {
        self.places.taken()
    }

    pub(crate) async fn converse(
        &self,
        tenant: &Tenant,
        served: Served<'_>,
        session: Digest,
        message: Bytes,
    ) -> Result<Messages, ReasonCode> {
        let bytes = message.clone();
        let message = Message::read(message, limits(self.settings.totals.bytes_max))
            .map_err(|_| ReasonCode::BodyMalformed)?;
        let key = key(tenant, served, session);
        if message.kind != Kind::Request {
            return self.tell(&key, session, &message).await;
        }
        let greeting = (message.method().as_deref() == Some("initialize")).then_some(&bytes);
        let server = self.server(key, served, greeting, &message).await?;
        server.use_at(self.settings.clock.monotonic_us());
        if greeting.is_some() {
            // Each line is opened once. Who comes later is told what the first one was.
            return Ok(Messages::known(server.hello.under(message.id().unwrap_or_default())));
        }
        let (numbers, messages) = server.link.begin(session, &message).map_err(Broken::reason)?;
        if let Some(numbers) = numbers {
            server.link.send(message.numbered(&numbers)).await.map_err(Broken::reason)?;
        }
        Ok(messages)
    }

    /// A notification or an answer starts nothing.
    async fn tell(&self, key: &Key, session: Digest, message: &Message) -> Result<Messages, ReasonCode> {
        let slot = held(&self.slots).get(key).cloned();
        let server = match slot {
            Some(slot) => slot.lock().await.server.clone().filter(|server| server.lives()),
            None => None,
        };
        match server {
            Some(server) => {
                if let Some(numbers) = server.link.tell(session, message).map_err(Broken::reason)? {
                    server.link.send(message.numbered(&numbers)).await.map_err(Broken::reason)?;
                }
                Ok(Messages::none())
            }
            None if message.kind == Kind::Notification => Ok(Messages::none()),
            None => Err(ReasonCode::BodyMalformed),
        }
    }

    /// The child of a key, started if it does not run.
    async fn server(
        &self,
        key: Key,
        served: Served<'_>,
        greeting: Option<&Bytes>,
        message: &Message,
    ) -> Result<Arc<Server>, ReasonCode> {
        let slot = held(&self.slots).entry(key.clone()).or_default().clone();
        let mut slot = slot.lock().await;
        let own = greeting.filter(|_| served.keeps_state);
        if let Some(server) = &slot.server {
            // Another client of the same session that says something else about itself gets a line of its own, once nobody is
            // cut off by that.
            let other = own.is_some()
                && server.greeted_with != Digest::of(message.params())
                && server.link.open() == 0;
            if server.lives() && !other {
                return Ok(server.clone());
            }
            server.dismiss();
            server.gone().await;
        }
        let now = self.settings.clock.monotonic_us();
        slot.settle(now);
        if !slot.backoff.may(now) {
            return Err(ReasonCode::UpstreamUnreachable);
        }
        if let Some(own) = own {
            slot.greeting = Some(own.clone());
        }
        let started = self.start(&key, slot.greeting.as_ref()).await;
        let server = started.inspect_err(|_| slot.backoff.failed(now, Duration::ZERO))?;
        slot.server = Some(server.clone());
        Ok(server)
    }

    async fn start(&self, key: &Key, greeting: Option<&Bytes>) -> Result<Arc<Server>, ReasonCode> {
        let Settings { commands, isolation, credentials, clock, tasks, totals, hidden } = &self.settings;
        let isolation = isolation.as_ref().map_err(|why| {
            tracing::error!(%why, "no child is started");
            ReasonCode::IsolationUnavailable
        })?;
        let spec = commands.get(&key.command).ok_or(ReasonCode::CommandUnknown)?;
        let about = (key.tenant.clone(), key.command.clone());
        let now = clock.monotonic_us();
        if held(&self.failing).get(&about).is_some_and(|backoff| !backoff.may(now)) {
            return Err(ReasonCode::UpstreamUnreachable);
        }
        let place = self.place(&key.tenant).await?;
        let values = spec.check(hidden).and_then(|()| spec.values(&key.tenant, credentials.as_ref()));
        let values = values.map_err(|why| {
            tracing::error!(command = %key.command, %why, "a tool server cannot be started");
            ReasonCode::UpstreamUnreachable
        })?;
        let birth = Birth {
            name: key.command.as_str(),
            spec,
            values,
            isolation,
            spawner: &self.spawner,
            tasks,
            clock,
            manner: Manner {
                shared: key.session.is_none(),
                bytes_max: totals.bytes_max,
                patience: totals.patience,
            },
            start_patience: totals.start,
        };
        let started = Server::start(birth, greeting, place).await;
        let mut failing = held(&self.failing);
        match &started {
            Ok(_) => {
                failing.remove(&about);
            }
            Err(_) => failing.entry(about).or_default().failed(clock.monotonic_us(), Duration::ZERO),
        }
        started
    }

    /// Room for one more child; a tenant's own that has been idle the longest makes it, if need be.
    async fn place(&self, tenant: &Tenant) -> Result<Place, ReasonCode> {
        if let Some(place) = self.free(tenant) {
            return Ok(place);
        }
        let slots: Vec<_> = held(&self.slots)
            .iter()
            .filter(|(key, _)| key.tenant == *tenant)
            .map(|(_, slot)| slot.clone())
            .collect();
        let idle = slots.iter().filter_map(|slot| slot.try_lock().ok()?.server.clone());
        let idle = idle
            .filter(|server| server.lives() && server.link.open() == 0)
            .min_by_key(|server| server.used_us());
        let idle = idle.ok_or(ReasonCode::Busy)?;
        idle.dismiss();
        let _ = tokio::time::timeout(ROOM_PATIENCE, idle.gone()).await;
        self.free(tenant).ok_or(ReasonCode::Busy)
    }

    fn free(&self, tenant: &Tenant) -> Option<Place> {
        let Totals { children_max, of_tenant_max, .. } = self.settings.totals;
        self.places.take(tenant, children_max, of_tenant_max)
    }

    /// Ends children that nobody uses, and forgets what need not be remembered.
    fn sweep(&self) {
        let now = self.settings.clock.monotonic_us();
        let idle = u64::try_from(self.settings.totals.idle.as_micros()).unwrap_or(u64::MAX);
        held(&self.slots).retain(|_, slot| {
            // One that is being started is in use.
            let wanted = Arc::strong_count(slot) > 1;
            let Ok(mut slot) = slot.try_lock() else { return true };
            slot.settle(now);
            let Some(server) = &slot.server else { return wanted || !slot.backoff.is_over(now) };
            if server.link.open() > 0 {
                server.use_at(now);
            } else if now.saturating_sub(server.used_us()) >= idle {
                server.dismiss();
            }
            true
        });
        held(&self.failing).retain(|_, backoff| !backoff.is_over(now));
    }
}

fn key(tenant: &Tenant, served: Served<'_>, session: Digest) -> Key {
    Key {
        tenant: tenant.clone(),
        server: served.server.clone(),
        command: served.command.clone(),
        session: served.keeps_state.then_some(session),
    }
}

#[cfg(test)]
mod tests;
