//! Streams, as their receivers manage them (SSF 1.0, 8.1). Who receives hears of everybody: it takes the right to read identity.

use std::collections::BTreeSet;

use bartizan_base::{Name, Text, Timestamp};
use bartizan_control::{Done, Stopped};
use bartizan_identify::Caller;
use bartizan_model::{Action, Problem, ReasonCode, StreamId, Tenant};
use bartizan_secret::Secret;
use bartizan_store::{Change, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Uri;
use serde_json::json;

use super::Signals;
use super::stream::{Delivery, Flow, Pending, Stream, supported, verification};
use super::tell::LIFE;
use super::wanted::{
    DeliveryToMake, DeliveryView, POLL, PUSH, StatusToSet, StreamToMake, StreamView, Verify,
};
use crate::kept::{Held, find, find_of, keep};

/// Streams of one receiver.
const STREAMS_MAX: usize = 8;

impl Signals {
    /// Makes a stream for whoever asks.
    ///
    /// # Errors
    /// When policy says no, the delivery is not one of ours, or they have many already.
    pub async fn create_stream(
        &self,
        caller: &Caller,
        wanted: &StreamToMake,
    ) -> Result<Done<StreamView>, Stopped> {
        let control = &self.authority.control;
        control
            .change_with(caller, Action::IdentityRead, wanted, async |view, tenant| {
                let (now, receiver) = (control.clock.now(), caller.subject().principal.clone());
                if self.streams_of(caller, now).await?.len() >= STREAMS_MAX {
                    return Err(Problem::with_detail(
                        ReasonCode::Conflict,
                        "there are eight streams already",
                    ));
                }
                let id = StreamId::new(now, &*control.random);
                let stream = Stream {
                    id,
                    receiver,
                    delivery: self.delivery(tenant, id, wanted.delivery.as_ref())?,
                    requested: wanted.events_requested.as_ref().map_or_else(supported, texts),
                    description: wanted.description.as_ref().map(|text| text.as_str().to_owned()),
                    flow: Flow::Enabled,
                    reason: None,
                    told: view.state.revision,
                    sending: None,
                };
                let change = keep(tenant, id.to_string(), &stream).map_err(|e| gone(&e))?;
                Ok((vec![change], self.view(&stream)))
            })
            .await
    }

    /// The streams of whoever asks, or one of them.
    ///
    /// # Errors
    /// When policy says no, or there is none of that id.
    pub async fn list_streams(
        &self,
        caller: &Caller,
        which: Option<StreamId>,
    ) -> Result<Done<Vec<StreamView>>, Stopped> {
        let control = &self.authority.control;
        control
            .read_with(caller, Action::IdentityRead, &which, async |_, _| {
                let held = match which {
                    Some(id) => vec![self.stream_of(caller, id).await?],
                    None => self.streams_of(caller, control.clock.now()).await?,
                };
                Ok(held.iter().map(|held| self.view(&held.value)).collect())
            })
            .await
    }

    /// Changes a stream: what is absent stays, or with `whole` goes back to what a new one has.
    ///
    /// # Errors
    /// As for making one.
    pub async fn change_stream(
        &self,
        caller: &Caller,
        wanted: &StreamToMake,
        whole: bool,
    ) -> Result<Done<StreamView>, Stopped> {
        again(|| self.try_change(caller, wanted, whole).boxed()).await
    }

    async fn try_change(
        &self,
        caller: &Caller,
        wanted: &StreamToMake,
        whole: bool,
    ) -> Result<Done<StreamView>, Stopped> {
        let control = &self.authority.control;
        control
            .change_with(caller, Action::IdentityRead, &(wanted, whole), async |_, tenant| {
                let id = wanted
                    .stream_id
                    .ok_or_else(|| Problem::with_detail(ReasonCode::Invalid, "no `stream_id`"))?;
                let held = self.stream_of(caller, id).await?;
                let mut stream = held.value.clone();
                if wanted.delivery.is_some() || whole {
                    stream.delivery = self.delivery(tenant, id, wanted.delivery.as_ref())?;
                }
                match &wanted.events_requested {
                    Some(events) => stream.requested = texts(events),
                    None if whole => stream.requested = supported(),
                    None => {}
                }
                if wanted.description.is_some() || whole {
                    stream.description = wanted.description.as_ref().map(|text| text.as_str().to_owned());
                }
                Ok((vec![held.replace(&stream).map_err(|e| gone(&e))?], self.view(&stream)))
            })
            .await
    }

    /// Removes a stream. What waits in it goes when it is over.
    ///
    /// # Errors
    /// When policy says no, or there is none of that id.
    pub async fn remove_stream(&self, caller: &Caller, id: StreamId) -> Result<Done<()>, Stopped> {
        again(|| self.try_remove(caller, id).boxed()).await
    }

    async fn try_remove(&self, caller: &Caller, id: StreamId) -> Result<Done<()>, Stopped> {
        let control = &self.authority.control;
        control
            .change_with(caller, Action::IdentityRead, &("remove", id), async |_, _| {
                Ok((vec![self.stream_of(caller, id).await?.remove()], ()))
            })
            .await
    }

    /// Lets a stream flow, wait, or stop.
    ///
    /// # Errors
    /// When policy says no, there is no such stream or status.
    pub async fn set_status(
        &self,
        caller: &Caller,
        wanted: &StatusToSet,
    ) -> Result<Done<StreamView>, Stopped> {
        again(|| self.try_status(caller, wanted).boxed()).await
    }

    async fn try_status(&self, caller: &Caller, wanted: &StatusToSet) -> Result<Done<StreamView>, Stopped> {
        let control = &self.authority.control;
        control
            .change_with(caller, Action::IdentityRead, wanted, async |view, _| {
                let held = self.stream_of(caller, wanted.stream_id).await?;
                let mut stream = held.value.clone();
                let was = stream.flow;
                stream.flow = match wanted.status.as_str() {
                    "enabled" => Flow::Enabled,
                    "paused" => Flow::Paused,
                    "disabled" => Flow::Disabled,
                    _ => return Err(Problem::with_detail(ReasonCode::Invalid, "there is no such status")),
                };
                stream.reason = wanted.reason.as_ref().map(|text| text.as_str().to_owned());
                if was == Flow::Disabled {
                    // What happened meanwhile was not to be told.
                    stream.told = view.state.revision;
                }
                Ok((vec![held.replace(&stream).map_err(|e| gone(&e))?], self.view(&stream)))
            })
            .await
    }

    /// Puts an event into a stream that says nothing but that it flows.
    ///
    /// # Errors
    /// When policy says no, or there is no such stream.
    pub async fn verify_stream(&self, caller: &Caller, wanted: &Verify) -> Result<Done<()>, Stopped> {
        let control = &self.authority.control;
        control
            .change_with(caller, Action::IdentityRead, wanted, async |_, tenant| {
                let held = self.stream_of(caller, wanted.stream_id).await?;
                let event =
                    wanted.state.as_ref().map_or_else(|| json!({}), |state| json!({"state": state.as_str()}));
                let pending = Pending {
                    stream: wanted.stream_id,
                    issued: control.clock.now(),
                    // SSF 1.0, 8.1.4: about the stream itself.
                    sub_id: json!({"format": "opaque", "id": held.id}).as_object().cloned(),
                    events: [(verification(), event)].into_iter().collect(),
                    until: control.clock.now().saturating_add(LIFE),
                };
                Ok((vec![self.put(tenant, &pending)?], ()))
            })
            .await
    }

    /// The change that lets an event wait.
    pub(super) fn put(&self, tenant: &Tenant, pending: &Pending) -> Result<Change, Problem> {
        let control = &self.authority.control;
        let mut random = [0; 12];
        control.random.fill(&mut random);
        let jti = format!("{:016x}{}", pending.issued.as_micros(), URL_SAFE_NO_PAD.encode(random));
        keep(tenant, jti, pending).map_err(|e| gone(&e))
    }

    pub(super) async fn stream_of(&self, caller: &Caller, id: StreamId) -> Result<Held<Stream>, Problem> {
        let now = self.authority.control.clock.now();
        let held = find::<Stream>(&*self.authority.rows, &id.to_string(), now).await.map_err(|e| gone(&e))?;
        // Somebody else's answers like one that is not there.
        let own = |held: &Held<Stream>| {
            held.tenant == *caller.tenant() && held.value.receiver.id == caller.subject().principal.id
        };
        held.filter(own).ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, "there is no such stream"))
    }

    async fn streams_of(&self, caller: &Caller, now: Timestamp) -> Result<Vec<Held<Stream>>, Problem> {
        let owner = crate::kept::owner(&caller.subject().principal);
        let rows = &*self.authority.rows;
        find_of::<Stream>(rows, caller.tenant(), &owner, STREAMS_MAX, now).await.map_err(|e| gone(&e))
    }

    /// How events come, as it is kept.
    fn delivery(
        &self,
        tenant: &Tenant,
        id: StreamId,
        wanted: Option<&DeliveryToMake>,
    ) -> Result<Delivery, Problem> {
        let invalid = |detail: &str| Problem::with_detail(ReasonCode::Invalid, detail.to_owned());
        let Some(wanted) = wanted else { return Ok(Delivery::Poll) };
        match wanted.method.as_str() {
            POLL => Ok(Delivery::Poll),
            PUSH => {
                let url = wanted.endpoint_url.clone().ok_or_else(|| invalid("no `endpoint_url`"))?;
                self.check(&url)?;
                let authorization = wanted.authorization_header.as_ref();
                let plain = |text: &&Secret<String>| {
                    let text = text.expose();
                    !text.is_empty()
                        && text.len() <= 4_096
                        && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
                };
                if authorization.as_ref().is_some_and(|text| !plain(text)) {
                    return Err(invalid("`authorization_header` cannot stand in a header"));
                }
                let sealed = authorization.map(|text| self.seal(tenant, id, text)).transpose()?;
                Ok(Delivery::Push { url, authorization: sealed })
            }
            _ => Err(invalid("there is no such delivery method")),
        }
    }

    /// Whether events may be sent there: what the guarded exit would refuse is refused at once.
    fn check(&self, url: &str) -> Result<(), Problem> {
        let uri: Option<Uri> = url.parse().ok().filter(|_| url.len() <= 2_048);
        let fits = uri.as_ref().is_some_and(|uri| {
            let scheme = uri.scheme_str();
            let named = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            named
                && uri.query().is_none()
                && (scheme == Some("https") || self.may_be_private(url) && scheme == Some("http"))
        });
        let wrong = "`endpoint_url` is not an https address without user and query";
        if fits { Ok(()) } else { Err(Problem::with_detail(ReasonCode::Invalid, wrong)) }
    }

    fn seal(&self, tenant: &Tenant, id: StreamId, text: &Secret<String>) -> Result<String, Problem> {
        let control = &self.authority.control;
        let internal = || Problem::new(ReasonCode::Internal);
        let place = place(id).ok_or_else(internal)?;
        let sealed = control.sealer.seal(text, tenant, &place, &*control.random);
        sealed.map(|sealed| URL_SAFE_NO_PAD.encode(sealed)).map_err(|_| internal())
    }

    /// What is sent along as `authorization`.
    pub(super) fn open(&self, tenant: &Tenant, id: StreamId, sealed: &str) -> Option<Secret<String>> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        self.authority.control.sealer.open(&sealed, tenant, &place(id)?).ok()
    }

    fn view(&self, stream: &Stream) -> StreamView {
        let issuer = &self.authority.issuer;
        let (method, endpoint_url) = match &stream.delivery {
            Delivery::Push { url, .. } => (PUSH, url.clone()),
            Delivery::Poll => (POLL, format!("{issuer}/ssf/poll/{}", stream.id)),
        };
        let status = match stream.flow {
            Flow::Enabled => "enabled",
            Flow::Paused => "paused",
            Flow::Disabled => "disabled",
        };
        StreamView {
            stream_id: stream.id,
            iss: issuer.to_string(),
            aud: stream.audience(),
            events_supported: supported(),
            events_requested: stream.requested.clone(),
            events_delivered: stream.delivered(),
            delivery: DeliveryView { method, endpoint_url },
            min_verification_interval: 0,
            description: stream.description.clone(),
            status: status.to_owned(),
            reason: stream.reason.clone(),
        }
    }
}

/// Where the receiver's `authorization` is sealed for.
fn place(id: StreamId) -> Option<Name> {
    format!("event-stream:{id}").parse().ok()
}

fn texts(texts: &BTreeSet<Text<256>>) -> BTreeSet<String> {
    texts.iter().map(|text| text.as_str().to_owned()).collect()
}

/// Once more where the house noted in the stream meanwhile how far it has come.
async fn again<'a, T>(
    work: impl Fn() -> BoxFuture<'a, Result<Done<T>, Stopped>> + Send,
) -> Result<Done<T>, Stopped> {
    for _ in 0..3 {
        match work().await {
            Err(stopped) if stopped.problem.reason == ReasonCode::Conflict => {}
            other => return other,
        }
    }
    work().await
}

pub(super) fn gone(error: &StoreError) -> Problem {
    Problem::new(error.reason())
}
