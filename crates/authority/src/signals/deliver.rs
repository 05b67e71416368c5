//! Events that wait, sent to their receivers (RFC 8935) or fetched by them (RFC 8936).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_control::{Done, Stopped, View};
use bartizan_identify::Caller;
use bartizan_model::{Action, Problem, ReasonCode, StreamId};
use bartizan_secret::Secret;
use bartizan_store::{Change, RowKind};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manage::gone;
use super::stream::{Delivery, Flow, Pending, Stream};
use super::{Posted, Signals};
use crate::kept::{Held, find, find_of};

/// Events at once.
const BATCH: usize = 32;
/// How long a node that sends keeps others away.
const SENDING: Duration = Duration::from_secs(120);
/// Between two attempts to send, doubled each time.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How long a receiver that fetches may be kept waiting.
const WAIT: Duration = Duration::from_secs(10);

/// When a stream is tried again, and after how long the time after that.
#[derive(Debug, Default)]
pub(super) struct Tries(Mutex<HashMap<StreamId, (Timestamp, Duration)>>);

impl Tries {
    fn due(&self, stream: StreamId, now: Timestamp) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&stream).is_none_or(|(at, _)| *at <= now)
    }

    fn told(&self, stream: StreamId, went: bool, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if went {
            all.remove(&stream);
            return;
        }
        let pause = all.get(&stream).map_or(PAUSES.0, |(_, pause)| (*pause * 2).min(PAUSES.1));
        all.insert(stream, (now.saturating_add(pause), pause));
    }
}

/// A receiver asks for events and says what it has taken (RFC 8936, 2.4).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Poll {
    /// How many at the most; 32 at once anyway.
    #[serde(rename = "maxEvents")]
    pub max_events: Option<u32>,
    /// Whether the answer is to come at once, also if there are none.
    #[serde(rename = "returnImmediately")]
    pub return_immediately: bool,
    /// What was taken.
    pub ack: BTreeSet<String>,
    /// What cannot be taken, and why.
    #[serde(rename = "setErrs")]
    pub set_errs: BTreeMap<String, Value>,
}

/// Events that a receiver fetched.
#[derive(Clone, Debug, Default)]
pub struct Polled {
    /// The tokens by their `jti`.
    pub sets: BTreeMap<String, Secret<String>>,
    /// Whether there are more.
    pub more: bool,
}

impl Signals {
    /// Sends what waits in streams that are sent to. A receiver that does not take it is tried again later and later.
    ///
    /// # Errors
    /// When the state cannot be read or changed.
    pub async fn push(&self) -> Result<(), Stopped> {
        let tenant = &self.authority.settings.tenant;
        let now = self.authority.control.clock.now();
        let streams = self.streams(tenant).await?;
        let due = streams.iter().filter(|held| {
            let stream = &held.value;
            let free = stream.sending.is_none_or(|until| until < now);
            stream.flow == Flow::Enabled && free && self.tries.due(stream.id, now)
        });
        // At once: a receiver that is slow keeps nobody else waiting.
        let pushes: Vec<BoxFuture<'_, _>> = due.map(|held| self.push_one(held).boxed()).collect();
        join_all(pushes).await.into_iter().collect()
    }

    async fn push_one(&self, held: &Held<Stream>) -> Result<(), Stopped> {
        let Delivery::Push { url, authorization } = &held.value.delivery else { return Ok(()) };
        let (control, rows) = (&self.authority.control, &*self.authority.rows);
        let now = control.clock.now();
        let waiting =
            find_of::<Pending>(rows, &held.tenant, &held.id, BATCH, now).await.map_err(|e| gone(&e))?;
        if waiting.is_empty() {
            return Ok(());
        }
        // One node sends: of two that say so, one succeeds.
        let sending = Stream { sending: Some(now.saturating_add(SENDING)), ..held.value.clone() };
        let claim = vec![held.replace(&sending).map_err(|e| gone(&e))?];
        if !self.own_change_or_late(&held.tenant, &("send", held.value.id), claim).await? {
            return Ok(());
        }
        let authorization =
            authorization.as_ref().and_then(|sealed| self.open(&held.tenant, held.value.id, sealed));
        let view = control.house.view(&held.tenant)?;
        let (mut done, mut went) = (Vec::new(), true);
        for event in &waiting {
            let posted = Posted {
                media: "application/secevent+jwt",
                authorization: authorization.clone(),
                body: self.token(&view, &held.value, event)?,
            };
            match self.outside.post(url.clone(), posted, self.may_be_private(url)).await {
                Ok(answer) if answer.status().is_success() => done.push(event.remove()),
                Ok(answer) if answer.status() == 400 && is_hopeless(answer.body()) => {
                    tracing::warn!(
                        stream = held.id,
                        jti = event.id,
                        "a receiver cannot take an event; it is dropped"
                    );
                    done.push(event.remove());
                }
                Ok(answer) => {
                    tracing::warn!(
                        stream = held.id,
                        status = answer.status().as_u16(),
                        "an event was not taken"
                    );
                    went = false;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(stream = held.id, error, "an event could not be sent");
                    went = false;
                }
            }
            if !went {
                break;
            }
        }
        self.tries.told(held.value.id, went, control.clock.now());
        // The claim is given back with what was taken.
        let present = find::<Stream>(rows, &held.id, control.clock.now()).await.map_err(|e| gone(&e))?;
        if let Some(present) = present {
            done.push(
                present.replace(&Stream { sending: None, ..present.value.clone() }).map_err(|e| gone(&e))?,
            );
        }
        self.own_change_or_late(&held.tenant, &("sent", held.value.id), done).await.map(drop)
    }

    /// Events of a stream that is fetched from; what was taken goes.
    ///
    /// # Errors
    /// When policy says no, or there is no such stream.
    pub async fn poll(&self, caller: &Caller, id: StreamId, poll: &Poll) -> Result<Done<Polled>, Stopped> {
        let control = &self.authority.control;
        let until = control.clock.monotonic_us().saturating_add(u64::try_from(WAIT.as_micros()).unwrap_or(0));
        control
            .change_with(caller, Action::IdentityRead, &(id, poll), async |view, tenant| {
                let held = self.stream_of(caller, id).await?;
                let rows = &*self.authority.rows;
                let mut changes = Vec::new();
                for jti in poll.ack.iter().chain(poll.set_errs.keys()).take(1_000) {
                    let row = rows.row(RowKind::Event, jti).await.map_err(|e| gone(&e))?;
                    // Only of this stream; one that was taken before is as good as taken.
                    let own = row.filter(|row| row.tenant == *tenant && row.owner == held.id);
                    changes.extend(own.map(|row| Change::DeleteRow {
                        kind: RowKind::Event,
                        id: row.id,
                        expect: row.version,
                    }));
                }
                let taken = |id: &str| poll.ack.contains(id) || poll.set_errs.contains_key(id);
                let most = usize::try_from(poll.max_events.unwrap_or(u32::MAX)).unwrap_or(BATCH).min(BATCH);
                loop {
                    let now = control.clock.now();
                    let limit = BATCH.saturating_add(changes.len()).saturating_add(1);
                    let found =
                        find_of::<Pending>(rows, tenant, &held.id, limit, now).await.map_err(|e| gone(&e))?;
                    let fresh: Vec<_> = found.into_iter().filter(|event| !taken(&event.id)).collect();
                    let flows = held.value.flow == Flow::Enabled;
                    let waits =
                        fresh.is_empty() && !poll.return_immediately && most > 0 && changes.is_empty();
                    if waits && control.clock.monotonic_us() < until {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        continue;
                    }
                    let mut polled = Polled { more: flows && fresh.len() > most, ..Polled::default() };
                    for event in fresh.iter().take(most).filter(|_| flows) {
                        polled.sets.insert(event.id.clone(), self.token(view, &held.value, event)?);
                    }
                    return Ok((changes, polled));
                }
            })
            .await
    }

    /// The token of an event that waits.
    fn token(&self, view: &View, stream: &Stream, event: &Held<Pending>) -> Result<Secret<String>, Problem> {
        let claims = event.value.claims(&self.authority.issuer, &event.id, stream.audience());
        self.authority.signer(view)?.issue(&claims).map_err(|error| {
            tracing::error!(%error, "an event could not be signed");
            Problem::new(ReasonCode::Internal)
        })
    }
}

/// Whether a receiver will never take an event (RFC 8935, 2.4), rather than not now.
fn is_hopeless(body: &[u8]) -> bool {
    let told: Option<Value> = serde_json::from_slice(body).ok();
    let code = told.as_ref().and_then(|told| told.get("err")).and_then(Value::as_str);
    code == Some("invalid_request")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_does_not_answer_is_tried_later_and_later_and_at_once_when_it_does() {
        let (tries, mut now) = (Tries::default(), Timestamp::from_secs(100));
        let stream = StreamId::from_parts(now, [1; 10]);
        let mut waited = Vec::new();
        for _ in 0..12 {
            tries.told(stream, false, now);
            let begun = now;
            while !tries.due(stream, now) {
                now = now.saturating_add(Duration::from_millis(500));
            }
            waited.push(now.saturating_since(begun).as_secs());
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        tries.told(stream, false, now);
        tries.told(stream, true, now);
        assert!(tries.due(stream, now));
    }

    #[test]
    fn only_what_can_never_be_taken_is_dropped() {
        assert!(is_hopeless(br#"{"err": "invalid_request", "description": "x"}"#));
        for later in ["", "{}", r#"{"err": "authentication_failed"}"#, r#"{"err": "invalid_key"}"#] {
            assert!(!is_hopeless(later.as_bytes()), "{later}");
        }
    }
}
