//! What is ended with us, told to others: events are made of marks that have moved, and wait in rows.

use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_control::{Stopped, View};
use bartizan_identify::{Caller, Identifier};
use bartizan_model::directory::Status;
use bartizan_model::{Action, Problem, ReasonCode, Spec, Tenant};
use bartizan_store::{Change, EpochKind, RowKind};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::event::{CAEP, RISC};
use super::manage::gone;
use super::stream::{Flow, Pending, Stream};
use super::{Signals, subject};
use crate::kept::{Held, Session, find};
use crate::marks;

/// How long an event waits for its receiver.
pub(super) const LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Streams that are looked after.
const STREAMS_MAX: usize = 1_000;

/// Something that others are told.
type Event = (Option<Map<String, Value>>, String, Value);

impl Signals {
    /// Makes events of everything that was ended since the streams were told last. To be called when the state has moved, on
    /// any number of nodes: of two, one makes them.
    ///
    /// # Errors
    /// When the state cannot be read or changed; what was not told is told the next time.
    pub async fn tell(&self) -> Result<(), Stopped> {
        let tenant = &self.authority.settings.tenant;
        let view = self.authority.control.house.view(tenant)?;
        for held in self.streams(tenant).await? {
            if held.value.flow == Flow::Disabled || held.value.told >= view.state.revision {
                continue;
            }
            let events = self.happened(&view, tenant, &held.value).await?;
            if !events.is_empty() {
                self.let_wait(&held, &view, events).await?;
            }
        }
        Ok(())
    }

    async fn let_wait(&self, held: &Held<Stream>, view: &View, events: Vec<Event>) -> Result<(), Stopped> {
        let now = self.authority.control.clock.now();
        let stream = Stream { told: view.state.revision, ..held.value.clone() };
        let mut changes = vec![held.replace(&stream).map_err(|e| gone(&e))?];
        for (sub_id, uri, event) in events {
            let events = [(uri, event)].into_iter().collect();
            let until = now.saturating_add(LIFE);
            let pending = Pending { stream: stream.id, issued: now, sub_id, events, until };
            changes.push(self.put(&held.tenant, &pending)?);
        }
        self.own_change_or_late(&held.tenant, &("tell", stream.id, stream.told), changes).await.map(drop)
    }

    /// What was ended after the stream was told last.
    async fn happened(&self, view: &View, tenant: &Tenant, stream: &Stream) -> Result<Vec<Event>, Problem> {
        let (state, delivered) = (&view.state, stream.delivered());
        let issuer = &*self.authority.issuer;
        let mut events = Vec::new();
        let revoked = format!("{CAEP}session-revoked");
        if delivered.contains(&revoked) {
            let moved = state.epochs.iter().filter(|e| e.tenant == *tenant && e.revision > stream.told);
            for epoch in moved {
                let Some(about) = self.ended(view, tenant, epoch.kind, epoch.name.as_str()).await? else {
                    continue;
                };
                let event =
                    json!({"event_timestamp": epoch.not_before.as_secs(), "initiating_entity": "policy"});
                events.push((Some(about), revoked.clone(), event));
            }
        }
        let disabled = format!("{RISC}account-disabled");
        if delivered.contains(&disabled) {
            let changed = state.documents.iter().filter(|(of, _, at)| of == tenant && *at > stream.told);
            for (_, document, _) in changed {
                let status = match &document.spec {
                    Spec::User(spec) => spec.status,
                    Spec::Agent(spec) | Spec::Workload(spec) => spec.status,
                    _ => continue,
                };
                if let Some(principal) = document.principal.filter(|_| status != Status::Active) {
                    let about = subject::of_principal(issuer, principal);
                    events.push((Some(about), disabled.clone(), json!({})));
                }
            }
        }
        Ok(events)
    }

    /// Whom or what a mark is about, in words that others understand; nobody where it is our own affair.
    async fn ended(
        &self,
        view: &View,
        tenant: &Tenant,
        kind: EpochKind,
        name: &str,
    ) -> Result<Option<Map<String, Value>>, Problem> {
        let issuer = &*self.authority.issuer;
        Ok(match kind {
            EpochKind::Principal => {
                let documents = view.state.documents.iter().filter(|(of, ..)| of == tenant);
                let principals = documents.filter_map(|(_, document, _)| {
                    let (kind, id) = document.spec.principal_kind().zip(document.principal)?;
                    Some(bartizan_model::Principal { kind, name: document.name.clone(), id })
                });
                let found = principals.into_iter().find(|principal| marks::name_of(principal) == name);
                found.map(|principal| subject::of_principal(issuer, principal.id))
            }
            EpochKind::Session => {
                let rows = &*self.authority.rows;
                let session =
                    find::<Session>(rows, name, Timestamp::from_micros(0)).await.map_err(|e| gone(&e))?;
                let own = session.filter(|session| session.tenant == *tenant).map(|session| session.value);
                Some(own.map_or_else(
                    || subject::of_thing("session", name),
                    |session| subject::of_session(issuer, session.id, session.principal.id),
                ))
            }
            EpochKind::Device => Some(subject::of_thing("device", name)),
            EpochKind::Tenant => Some(subject::of_thing("tenant", name)),
            // Grants and clients are between us and them; an issuer is told of its own subjects by itself.
            EpochKind::Grant | EpochKind::Client | EpochKind::Issuer => None,
        })
    }

    pub(super) async fn streams(&self, tenant: &Tenant) -> Result<Vec<Held<Stream>>, Problem> {
        let rows = &*self.authority.rows;
        let found = rows.rows(tenant, RowKind::Stream, "", STREAMS_MAX).await.map_err(|e| gone(&e))?;
        let mut held = Vec::new();
        for row in found {
            held.extend(
                find::<Stream>(rows, &row.id, Timestamp::from_micros(0)).await.map_err(|e| gone(&e))?,
            );
        }
        Ok(held)
    }

    /// A change that the house makes by itself.
    async fn own_change(
        &self,
        tenant: &Tenant,
        request: &(impl Serialize + Sync),
        changes: Vec<Change>,
    ) -> Result<(), Stopped> {
        let house: Caller = Identifier::house(tenant.clone());
        let control = &self.authority.control;
        control
            .change_with(&house, Action::IdentityChange, request, async |_, _| Ok((changes, ())))
            .await
            .map(drop)
    }

    /// The same; says whether it came about, or another node was quicker.
    pub(super) async fn own_change_or_late(
        &self,
        tenant: &Tenant,
        request: &(impl Serialize + Sync),
        changes: Vec<Change>,
    ) -> Result<bool, Stopped> {
        match self.own_change(tenant, request, changes).await {
            Ok(()) => Ok(true),
            Err(stopped) if stopped.problem.reason == ReasonCode::Conflict => Ok(false),
            Err(stopped) => Err(stopped),
        }
    }
}
